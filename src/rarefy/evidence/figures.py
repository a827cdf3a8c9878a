"""Figures as SVG text: the same measurements give the same bytes, and all papers look alike."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rarefy.evidence.claims import Measurements

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart under every common colour-vision deficiency.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5F5F5F")

_STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.figsize": (7.2, 4.2),
    "font.size": 10.5,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.fonttype": "path",
}


def draw(figure: Callable[[Measurements], Figure], measurements: Measurements, *, name: str) -> str:
    """Draw a recipe's figure in the house style and return it as SVG.

    Parameters
    ----------
    figure : callable
        Measurements in, a matplotlib figure out.
    measurements : Measurements
        What to draw.
    name : str
        Salt of the identifiers inside the SVG, so that several figures can share one page.

    Returns
    -------
    str
        An ``<svg>`` element, without prolog, date or program name.
    """
    return to_svg(lambda: figure(measurements), name=name)


def to_svg(make: Callable[[], Figure], *, name: str) -> str:
    """Make a figure in the house style and return it as SVG: :func:`draw` for any data.

    Parameters
    ----------
    make : callable
        Returns a matplotlib figure.
    name : str
        As for :func:`draw`.

    Returns
    -------
    str
        An ``<svg>`` element, without prolog, date or program name.
    """
    import matplotlib
    from cycler import cycler

    style = _STYLE | {"svg.hashsalt": name, "axes.prop_cycle": cycler(color=COLOURS)}
    with matplotlib.rc_context(style):
        drawn = make()
        buffer = io.StringIO()
        drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    # matplotlib numbers its groups from 1 in every figure; they must differ within one page.
    svg = re.sub(r'<g id="([\w.]+_\d+)">', rf'<g id="{name}-\1">', svg)
    return svg[svg.index("<svg") :]
