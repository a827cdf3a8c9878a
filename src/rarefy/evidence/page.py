"""Reports as web pages: one self-contained file each, with nothing to fetch and no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rarefy.evidence import words
from rarefy.evidence.verdict import Judgement, bar, estimate, zero

if TYPE_CHECKING:
    from rarefy.evidence.report import Report


def report_page(report: Report) -> str:
    """The page of one report, as HTML."""
    return render("report.html.jinja", report=report, arms=_arm_table(report))


def index_page(title: str, introduction: str, reports: Mapping[str, Sequence[Report]]) -> str:
    """One page over several reports.

    Parameters
    ----------
    title, introduction : str
        What stands at the head of the page.
    reports : mapping
        Reports under a heading each; the page links to ``SLUG/report.html`` beside itself.
    """
    return render("index.html.jinja", title=title, introduction=introduction, reports=reports)


def render(template: str, *, package: str = "rarefy.evidence", **context: object) -> str:
    """Fill in a template, which may extend ``base.html.jinja``.

    Parameters
    ----------
    template : str
        Name of a file in the package's ``templates`` folder.
    package : str, default "rarefy.evidence"
    **context
        What the template shows.
    """
    import jinja2

    packages = dict.fromkeys((package, "rarefy.evidence"))
    loader = jinja2.ChoiceLoader([jinja2.PackageLoader(name, "templates") for name in packages])
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "number": words.number,
        "interval": words.interval,
        "here": words.here,
        "duration": words.duration,
        "marks": _marks,
    }
    return environment.get_template(template).render(**context)


def _arm_table(report: Report) -> list[tuple[str, list[str]]]:
    """Rows of the measurement summary: an arm and its mean with interval for each metric."""
    m = report.measurements
    rows = []
    for arm in m.arms:
        cells = []
        for metric in m.metrics:
            values = m.values(arm, metric)
            finite = bool(values) and all(map(math.isfinite, values))
            cells.append(words.interval(estimate(values)) if finite else "–")
        rows.append((arm, cells))
    return rows


def _marks(judgement: Judgement) -> dict[str, float] | None:
    """Positions, from 0 to 100, of the marks in the small picture of a claim's effect."""
    effect, claim = judgement.effect, judgement.claim
    if effect is None:
        return None
    values = {
        "zero": zero(claim),
        "bar": bar(claim),
        "mean": effect.mean,
        "low": effect.mean if effect.low is None else effect.low,
        "high": effect.mean if effect.high is None else effect.high,
    }
    if claim.kind == "ratio":
        values = {name: math.log(value) for name, value in values.items()}
    left, right = min(values.values()), max(values.values())
    if left == right:
        return dict.fromkeys(values, 50.0)
    span = right - left
    return {name: round(6 + 88 * (value - left) / span, 2) for name, value in values.items()}
