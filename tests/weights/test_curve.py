import math

import numpy as np
import pytest
import torch
from kneed import KneeLocator

from rarefy.weights import (
    SparsityCurve,
    magnitude,
    mask_from_scores,
    sparsity_curve,
)
from rarefy.weights.curve import kneedle

GRID = tuple(np.linspace(0, 0.9, 10).round(1).tolist())


def hinge(at, before, after, noise=0.0, seeds=1, grid=GRID, seed=0):
    rng = np.random.default_rng(seed)
    s = np.array(grid)
    clean = 1 - before * s - (after - before) * np.maximum(s - at, 0)
    return [(clean + noise * rng.standard_normal(len(s))).tolist() for _ in range(seeds)]


@pytest.mark.parametrize("at", [0.25, 0.5, 0.63])
def test_the_fit_finds_a_known_break(at):
    knee = SparsityCurve(GRID, hinge(at, 0.1, 1.0), greater_is_better=True).knee()
    assert knee.breakpoint == pytest.approx(at, abs=0.004)
    assert knee.sharpness == pytest.approx(10, rel=0.1)
    assert knee.bic_gain > 0


def test_the_interval_covers_the_truth_and_shrinks_with_noise():
    widths = []
    for noise in (0.005, 0.03):
        values = hinge(0.5, 0.1, 1.0, noise=noise, seeds=8)
        knee = SparsityCurve(GRID, values, greater_is_better=True).knee()
        assert knee.low - 0.01 <= 0.5 <= knee.high + 0.01
        widths.append(knee.high - knee.low)
    assert widths[0] < widths[1]


def test_one_seed_resamples_residuals():
    values = hinge(0.5, 0.1, 1.0, noise=0.02)
    knee = SparsityCurve(GRID, values, greater_is_better=True).knee(seed=3)
    assert knee.low < knee.high
    assert knee == SparsityCurve(GRID, values, greater_is_better=True).knee(seed=3)


def test_a_straight_line_has_no_break_worth_its_parameters():
    values = hinge(0.5, 0.3, 0.3, noise=0.02, seeds=6)
    assert SparsityCurve(GRID, values, greater_is_better=True).knee().bic_gain < 0


def test_direction_and_logarithm():
    perplexity = [[math.exp(2 - v) for v in row] for row in hinge(0.6, 0.05, 2.0)]
    curve = SparsityCurve(GRID, perplexity, greater_is_better=False, log=True)
    assert curve.knee().breakpoint == pytest.approx(0.6, abs=0.004)
    assert curve.knee().sharpness == pytest.approx(40, rel=0.1)
    allowed = curve.essential(delta=0.05)
    value = np.interp(allowed, GRID, perplexity[0])
    assert value == pytest.approx(1.05 * perplexity[0][0])


def test_nothing_lost_before_the_break_is_infinitely_sharp():
    values = hinge(0.5, -0.1, 1.0)
    assert SparsityCurve(GRID, values, greater_is_better=True).knee().sharpness == math.inf


def test_essential_by_hand():
    curve = SparsityCurve(
        (0, 0.2, 0.4, 0.6), [[0.9, 0.9, 0.86, 0.9]], greater_is_better=True
    )  # the dip ends it, whatever comes after
    # allowed 0.891; crossed 9/40 of the way from 0.2 to 0.4
    assert curve.essential(delta=0.01) == pytest.approx(0.2 + 0.2 * 0.009 / 0.04)
    assert curve.essential(delta=0.5) == 0.6
    assert curve.essential(delta=0.03, smooth=True) == 0.6  # pooled to .88: within 3 %
    assert curve.essential(delta=0.03) < 0.4


def test_kneedle_against_its_own_package():
    for power in (2, 4, 9):
        x = np.linspace(0, 1, 101)
        y = 1 - x**power
        peer = KneeLocator(x, y, curve="concave", direction="decreasing", S=0.0)
        assert kneedle(x, y) == pytest.approx(peer.knee, abs=0.011)
    assert kneedle(np.array([0.0, 1.0]), np.array([2.0, 2.0])) == 1.0


def test_bad_curves():
    with pytest.raises(ValueError, match="rise from 0"):
        SparsityCurve((0.1, 0.2), [[1, 2]], greater_is_better=True)
    with pytest.raises(ValueError, match="row for each seed"):
        SparsityCurve((0, 0.2), [[1, 2, 3]], greater_is_better=True)
    with pytest.raises(ValueError, match="finite"):
        SparsityCurve((0, 0.2), [[1, math.inf]], greater_is_better=True)
    with pytest.raises(ValueError, match="five sparsities"):
        SparsityCurve((0, 0.2), [[1, 2]], greater_is_better=True).knee()


def test_measuring_a_curve_leaves_the_model_alone(mlp):
    before = [p.detach().clone() for p in mlp.parameters()]
    tuned = []
    curve = sparsity_curve(
        mlp,
        lambda m: float(sum((p != 0).sum() for p in (m[0].weight, m[3].weight))) + 1,
        lambda m, s, _seed: mask_from_scores(magnitude(m), sparsity=s),
        greater_is_better=True,
        grid=(0, 0.25, 0.5),
        seeds=(0, 1),
        finetune=lambda m, masks, seed: tuned.append((masks.density(), seed)),
    )
    assert curve.values == [[257, 193, 129]] * 2
    assert tuned == [(1, 0), (0.75, 0), (0.5, 0), (1, 1), (0.75, 1), (0.5, 1)]
    for parameter, old in zip(mlp.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


def test_records_and_picture_hold_every_point():
    curve = SparsityCurve((0, 0.5, 0.9), [[3.0, 4.0, 8.0], [5.0, 6.0, 10.0]], False, log=True)
    records = curve.records()
    assert [r["value"] for r in records] == [3, 4, 8, 5, 6, 10]
    assert [r["sparsity"] for r in records] == [0, 0.5, 0.9] * 2
    axes = curve.plot(label="perplexity")
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), [[0, 4], [0.5, 5], [0.9, 9]])
    (band,) = axes.collections
    assert band.get_paths()[0].get_extents().bounds == pytest.approx((0, 3, 0.9, 7))
    assert axes.get_yscale() == "log"
    assert curve.plot(axes) is axes
    assert len(axes.lines) == 2
