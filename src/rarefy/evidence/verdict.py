"""From measurements to a verdict.

The arms of a claim are paired by seed, each pair gives one effect (a difference, or a ratio on the
log scale), and the mean effect gets a 95 % interval ``[low, high]``:

- one value only: no interval, because one draw says nothing about chance;
- all values equal (nothing is random): the interval is that point;
- 2 to 19 values: Student's t;
- 20 and more: the bias-corrected and accelerated bootstrap (BCa);
- a claim marked deterministic: from the smallest to the largest effect, whatever their number.

With ``bar`` the effect the claim asks for and ``floor = min(no effect, bar)``::

    reproduced    if low  > bar      (low >= bar for an absolute claim)
    contradicted  if high < floor
    inconclusive  otherwise, and whenever a value is missing or not finite

``floor`` is the zero effect for every ordinary claim; only a claim of non-inferiority (negative
margin) has its bar below, and is contradicted when the whole interval is below that bar.

Source: Student (1908); Efron, "Better Bootstrap Confidence Intervals" (JASA 1987). Departures:
none; the bootstrap's resampling is seeded, so that equal measurements give equal verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Literal

from rarefy.evidence.claims import Claim, EffectKind, Measurements

Verdict = Literal["reproduced", "contradicted", "inconclusive"]

CONFIDENCE = 0.95
_BOOTSTRAP_FROM = 20
_RESAMPLES = 9999


@dataclass(frozen=True)
class Estimate:
    """Mean of ``n`` values with its 95 % interval; ``low`` and ``high`` are ``None`` at n = 1."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Effect(Estimate):
    """Mean effect, oriented so that the claim's side is positive (above 1 for a ratio)."""

    kind: EffectKind


@dataclass(frozen=True)
class Judgement:
    """A claim with what was measured for it, and the verdict that follows.

    ``ours`` is the claim's arm and ``baseline`` the arm it is compared with (``None`` for an
    absolute claim, or where nothing usable was measured); ``reason`` says in a few words why the
    verdict is not ``reproduced``.
    """

    claim: Claim
    ours: Estimate | None
    baseline: Estimate | None
    effect: Effect | None
    verdict: Verdict
    reason: str = ""


def estimate(values: Sequence[float]) -> Estimate:
    """Mean with a 95 % interval, by the rules at the head of this module.

    Parameters
    ----------
    values : sequence of float
        One finite value for each seed; at least one.

    Examples
    --------
    >>> estimate([1.0, 2.0, 3.0])  # doctest: +ELLIPSIS
    Estimate(mean=2.0, low=-0.484..., high=4.484..., n=3)
    """
    n = len(values)
    if n == 0:
        raise ValueError("values is empty; an estimate needs at least one value")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, None, 1)
    if min(values) == max(values):
        return Estimate(values[0], values[0], values[0], n)
    if n < _BOOTSTRAP_FROM:
        from scipy.special import stdtrit

        half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * stdev(values) / math.sqrt(n)
        return Estimate(mean, mean - half, mean + half, n)
    import numpy as np
    from scipy.stats import bootstrap

    interval = bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(mean, float(interval.low), float(interval.high), n)


def judge(claim: Claim, measurements: Measurements) -> Judgement:
    """Decide a claim from measurements, by the rules at the head of this module.

    Parameters
    ----------
    claim : Claim
        The claim to decide.
    measurements : Measurements
        Everything measured for the paper. Every seed in it must have the claim's metric for the
        claim's arms: a run that failed or diverged at one seed is not silently left out.

    Returns
    -------
    Judgement
        Estimates of both arms, the effect, the verdict and the reason for it.
    """
    problem = _problem(claim, measurements)
    ours = _arm_estimate(claim.arm, claim, measurements)
    baseline = _arm_estimate(claim.versus, claim, measurements) if claim.versus else None
    if problem:
        return Judgement(claim, ours, baseline, None, "inconclusive", problem)
    effect = _effect(claim, measurements)
    verdict, reason = _verdict(claim, effect)
    return Judgement(claim, ours, baseline, effect, verdict, reason)


def _problem(claim: Claim, measurements: Measurements) -> str:
    """Why no effect can be formed; empty when it can."""
    seeds = measurements.seeds
    if not seeds:
        return "nothing was measured"
    for arm in filter(None, (claim.arm, claim.versus)):
        found = measurements.by_seed(arm, claim.metric)
        for seed in seeds:
            if seed not in found:
                return f"{claim.metric} of {arm} is missing at seed {seed}"
            if not math.isfinite(found[seed]):
                return f"{claim.metric} of {arm} is not finite at seed {seed}"
            if claim.kind == "ratio" and found[seed] <= 0:
                return f"{claim.metric} of {arm} is not positive at seed {seed}; a ratio needs that"
    return ""


def _arm_estimate(arm: str, claim: Claim, measurements: Measurements) -> Estimate | None:
    values = measurements.values(arm, claim.metric)
    return estimate(values) if values and all(map(math.isfinite, values)) else None


def _effect(claim: Claim, measurements: Measurements) -> Effect:
    """Mean oriented effect over the seeds; the values are known to be usable."""
    sign = -1.0 if claim.better == "lower" else 1.0
    if claim.versus is None:
        ours = measurements.values(claim.arm, claim.metric)
        effects = [sign * (value - claim.margin) for value in ours]
    else:
        pairs = measurements.paired(claim.arm, claim.versus, claim.metric)
        if claim.kind == "ratio":
            effects = [sign * (math.log(a) - math.log(b)) for a, b in pairs]
        else:
            effects = [sign * (a - b) for a, b in pairs]
    effects = [effect + 0.0 for effect in effects]  # no minus zero for the reader
    found = estimate(effects)
    mean, low, high = found.mean, found.low, found.high
    if claim.deterministic:
        low, high = min(effects), max(effects)
    if claim.kind == "ratio":
        mean = _exp(mean)
        low = None if low is None else _exp(low)
        high = None if high is None else _exp(high)
    return Effect(mean, low, high, found.n, claim.kind)


def _exp(log_ratio: float) -> float:
    """Back from the log scale; the interval of a few wild ratios would overflow a float."""
    return math.exp(min(log_ratio, 700.0))


def zero(claim: Claim) -> float:
    """Effect that means no difference: 1 for a ratio, else 0 (the margin itself if absolute)."""
    return 1.0 if claim.kind == "ratio" else 0.0


def bar(claim: Claim) -> float:
    """Effect that the claim asks for, on the scale of `Judgement.effect`."""
    return 0.0 if claim.versus is None else zero(claim) + claim.margin


def _verdict(claim: Claim, effect: Effect) -> tuple[Verdict, str]:
    low, high = effect.low, effect.high
    if low is None or high is None:
        return "inconclusive", "one seed gives no interval"
    if low > bar(claim) or (claim.versus is None and low >= bar(claim)):
        return "reproduced", ""
    if high < min(zero(claim), bar(claim)):
        return "contradicted", "the whole interval is on the other side"
    if low == high == zero(claim):
        return "inconclusive", "the arms do not differ"
    if low > zero(claim):
        return "inconclusive", "on the claim's side, but not surely beyond the margin"
    return "inconclusive", "the interval reaches both sides"
