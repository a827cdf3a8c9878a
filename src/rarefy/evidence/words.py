"""Numbers as people read them: the same in the console, on the page and in the documentation."""

from __future__ import annotations

import math

from rarefy.evidence.verdict import Effect, Estimate, Judgement


def number(value: float | None) -> str:
    """A value with four significant digits.

    >>> number(12345.6), number(0.00012345), number(2.5), number(None)
    ('12,346', '0.0001234', '2.5', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    if 1e4 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.4g}".replace("-", "−")


def interval(estimate: Estimate | None) -> str:
    """A mean with its interval; the mean alone where it is certain or has no interval.

    >>> interval(Estimate(2.0, 1.5, 2.5, 5)), interval(Estimate(2.0, None, None, 1))
    ('2 [1.5, 2.5]', '2')
    """
    if estimate is None:
        return "–"
    times = "×" if isinstance(estimate, Effect) and estimate.kind == "ratio" else ""
    mean = number(estimate.mean) + times
    if estimate.low is None or estimate.low == estimate.high:
        return mean
    return f"{mean} [{number(estimate.low)}, {number(estimate.high)}]"


def here(judgement: Judgement) -> str:
    """What was measured for a claim, arm against arm.

    >>> from rarefy.evidence import Claim
    >>> c = Claim(id="c1", text="", metric="loss", arm="a", versus="b")
    >>> a, b = Estimate(1.0, 0.9, 1.1, 5), Estimate(2.0, 1.9, 2.1, 5)
    >>> here(Judgement(c, a, b, None, "reproduced"))
    '1 vs 2'
    """
    ours = number(judgement.ours.mean) if judgement.ours else "–"
    if judgement.claim.versus is None:
        return ours
    return f"{ours} vs {number(judgement.baseline.mean) if judgement.baseline else '–'}"


def duration(seconds: float) -> str:
    """A duration in the unit a person would use.

    >>> duration(4.26), duration(200.0), duration(7300.0)
    ('4.3 s', '3 min 20 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
