"""Verdicts on made-up measurements whose right answer is known, and intervals by closed form."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, ttest_1samp

from rarefy.evidence import Claim, Measurement, Measurements, estimate, judge


def measured(**arms):
    """Measurements of one metric from a list of values for each arm."""
    return Measurements(
        Measurement(arm, seed, "loss", value)
        for arm, values in arms.items()
        for seed, value in enumerate(values)
    )


def verdict(claim, **arms):
    return judge(claim, measured(**arms)).verdict


def claim(**changes):
    return Claim(
        **({"id": "c1", "text": "", "metric": "loss", "arm": "a", "versus": "b"} | changes)
    )


LOW, HIGH, NEAR = [1.0, 1.1, 0.9, 1.0], [2.0, 2.2, 1.9, 2.0], [1.0, 1.1, 0.9, 1.1]


@pytest.mark.parametrize(
    ("changes", "a", "b", "right"),
    [
        # Which side, in both directions and on both scales.
        ({}, LOW, HIGH, "reproduced"),
        ({}, HIGH, LOW, "contradicted"),
        ({}, LOW, NEAR, "inconclusive"),
        ({"better": "higher"}, HIGH, LOW, "reproduced"),
        ({"better": "higher"}, LOW, HIGH, "contradicted"),
        ({"kind": "ratio"}, LOW, HIGH, "reproduced"),
        ({"kind": "ratio"}, HIGH, LOW, "contradicted"),
        ({"kind": "ratio", "better": "higher"}, HIGH, LOW, "reproduced"),
        # A margin moves the bar of success but not the zero of failure.
        ({"margin": 0.5}, LOW, HIGH, "reproduced"),
        ({"margin": 1.5}, LOW, HIGH, "inconclusive"),
        ({"margin": 1.5}, HIGH, LOW, "contradicted"),
        ({"kind": "ratio", "margin": 0.5}, LOW, HIGH, "reproduced"),
        ({"kind": "ratio", "margin": 1.5}, LOW, HIGH, "inconclusive"),
        # Non-inferiority: a little worse is fine, much worse is not.
        ({"margin": -0.5}, [1.1, 1.2, 1.0, 1.1], LOW, "reproduced"),
        ({"margin": -0.05}, [1.0, 1.2, 0.9, 1.1], LOW, "inconclusive"),
        ({"margin": -0.05}, [1.03, 1.18, 0.93, 1.08], LOW, "inconclusive"),
        ({"margin": -0.5}, HIGH, LOW, "contradicted"),
        ({"kind": "ratio", "margin": -0.02}, [1.01, 1.02], [1.0, 1.01], "reproduced"),
        # One seed of something random says nothing, however far apart the arms are.
        ({}, [1.0], [1e6], "inconclusive"),
        ({}, [1e6], [1.0], "inconclusive"),
        ({"deterministic": True}, [1.0], [2.0], "reproduced"),
        ({"deterministic": True}, [2.0], [1.0], "contradicted"),
        ({"deterministic": True}, [1.0, 3.0], [2.0, 2.0], "inconclusive"),
        # Equal effects: the interval is the point, and a tie is no win.
        ({}, [1.0, 2.0], [2.0, 3.0], "reproduced"),
        ({}, [1.0, 1.0], [1.0, 1.0], "inconclusive"),
        ({"margin": 1.0}, [1.0, 2.0], [2.0, 3.0], "inconclusive"),
        # What cannot be compared.
        ({}, [1.0, math.nan], [2.0, 2.0], "inconclusive"),
        ({}, [1.0, 1.1], [2.0, math.inf], "inconclusive"),
        ({}, [1.0, 1.1], [2.0], "inconclusive"),
        ({"kind": "ratio"}, [1.0, 1.1], [2.0, 0.0], "inconclusive"),
        ({"kind": "ratio"}, [-1.0, -1.1], [2.0, 2.0], "inconclusive"),
    ],
)
def test_verdict_against_another_arm(changes, a, b, right):
    assert verdict(claim(**changes), a=a, b=b) == right


@pytest.mark.parametrize(
    ("better", "bar", "values", "right"),
    [
        ("lower", 0.0, [0.0, 0.0, 0.0], "reproduced"),
        ("lower", 0.0, [1.0, 1.0, 1.0], "contradicted"),
        ("lower", 0.0, [0.0, 0.0, 1.0], "inconclusive"),
        ("higher", 4.0, [4.9, 5.0, 5.1], "reproduced"),
        ("higher", 4.0, [3.9, 4.0, 4.2], "inconclusive"),
        ("higher", 4.0, [2.9, 3.0, 3.1], "contradicted"),
        ("higher", 4.0, [4.0, 4.0], "reproduced"),
        ("higher", 4.0, [9.0], "inconclusive"),
    ],
)
def test_verdict_of_an_absolute_claim(better, bar, values, right):
    assert verdict(claim(versus=None, better=better, margin=bar), a=values) == right


@pytest.mark.parametrize(
    ("arms", "reason"),
    [
        ({}, "nothing was measured"),
        ({"a": [1.0], "b": []}, "loss of b is missing at seed 0"),
        ({"a": [1.0, math.nan], "b": [1.0, 1.0]}, "loss of a is not finite at seed 1"),
        ({"a": [1.0], "b": [2.0]}, "one seed gives no interval"),
        ({"a": [1.0, 1.0], "b": [1.0, 1.0]}, "the arms do not differ"),
    ],
)
def test_an_open_verdict_says_why(arms, reason):
    found = judge(claim(), measured(**arms))
    assert (found.verdict, found.reason) == ("inconclusive", reason)


def test_pairing_by_seed_removes_what_the_seeds_share():
    # The seeds differ by hundreds, the arms by one: only pairs can tell.
    a = [100.0, 200.0, 300.0, 400.0]
    b = [101.0, 201.1, 300.9, 401.0]
    found = judge(claim(), measured(a=a, b=b))
    assert found.verdict == "reproduced"
    assert found.effect.mean == pytest.approx(1.0)


def test_seeds_are_paired_by_number_not_by_order():
    m = Measurements(
        [Measurement("a", s, "loss", 10.0 * s) for s in (0, 1, 2)]
        + [Measurement("b", s, "loss", 10.0 * s + 1) for s in (2, 0, 1)]
    )
    assert m.paired("a", "b", "loss") == [(0.0, 1.0), (10.0, 11.0), (20.0, 21.0)]
    assert judge(claim(), m).effect.low == 1.0


def test_ratio_is_a_geometric_mean():
    found = judge(claim(kind="ratio"), measured(a=[1.0, 1.0], b=[2.0, 8.0])).effect
    assert found.mean == pytest.approx(4.0)
    assert found.low * found.high == pytest.approx(16.0)


def test_wild_ratios_do_not_overflow():
    found = judge(claim(kind="ratio"), measured(a=[1.0, 1e-300], b=[1e300, 1e-300]))
    assert found.verdict == "inconclusive"
    assert math.isfinite(found.effect.high)


@pytest.mark.parametrize("n", [2, 5, 19])
def test_interval_under_twenty_is_student_t(n):
    values = np.random.default_rng(n).normal(3.0, 2.0, n)
    wanted = ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = estimate(values.tolist())
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_interval_from_twenty_on_is_bca():
    # A skewed sample, where BCa is not symmetric; the interval is rebuilt here from its formulas.
    values = np.random.default_rng(5).exponential(1.0, 25)
    means = np.random.default_rng(6).choice(values, (40_000, 25)).mean(1)
    z0 = norm.ppf((means < values.mean()).mean())
    jackknife = np.array([np.delete(values, i).mean() for i in range(25)])
    away = jackknife.mean() - jackknife
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    z = z0 + norm.ppf([0.025, 0.975])
    wanted = np.quantile(means, norm.cdf(z0 + z / (1 - acceleration * z)))
    found = estimate(values.tolist())
    assert (found.low, found.high) == pytest.approx(tuple(wanted), rel=0.02)
    assert found.high - found.mean > 1.1 * (found.mean - found.low)
    assert found == estimate(values.tolist())


def test_intervals_cover_the_truth_as_often_as_they_say():
    draws = np.random.default_rng(0).normal(7.0, 3.0, (600, 6))
    found = [estimate(row.tolist()) for row in draws]
    covered = np.mean([e.low <= 7.0 <= e.high for e in found])
    assert 0.93 < covered < 0.97


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=2, max_size=8),
    st.sampled_from(["difference", "ratio"]),
)
def test_a_claim_and_its_opposite_are_never_both_reproduced(pairs, kind):
    a, b = zip(*pairs, strict=True)
    one = verdict(claim(kind=kind), a=a, b=b)
    other = verdict(claim(kind=kind, better="higher"), a=a, b=b)
    opposite = {"reproduced": "contradicted", "contradicted": "reproduced"}
    assert other == opposite.get(one, "inconclusive")


def test_an_estimate_of_nothing_is_refused():
    with pytest.raises(ValueError, match="values is empty"):
        estimate([])
