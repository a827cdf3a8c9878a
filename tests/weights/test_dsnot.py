import numpy as np
import pytest
import torch

from rarefy.operators import NM
from rarefy.weights import LayerStats, dsnot, gram_swaps, output_error, random_swaps, wanda
from rarefy.weights.from_scores import pattern_mask, row_mask


def layer(outputs=20, inputs=32, seed=0, shift=0.5):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 10, inputs, generator=g) * torch.rand(inputs, generator=g) + shift
    stats = LayerStats(inputs, gram=True)
    stats.update(x)
    weight = torch.randn(outputs, inputs, generator=g)
    return weight, row_mask(wanda(weight, stats.norm), density=0.4), stats


def by_the_algorithm_box(weight, mask, mu, v, norm, *, cycles, threshold, same_sign, m=None):
    """DSnoT row by row in plain Python, from the card's words; every choice is a fresh argmin."""
    c = (weight * mu).numpy().astype(np.float64)
    grow = (weight * mu / v).numpy()
    score = (weight.abs() * norm).numpy()
    new, errors = mask.clone(), []
    for i in range(len(weight)):
        was, now = mask[i].tolist(), mask[i].tolist()
        error = start = sum(c[i, j] for j in range(len(was)) if not was[j])
        gone, grown = set(), set()
        for _ in range(cycles):
            if abs(error) <= threshold:
                break
            sign = 1 if error > 0 else -1
            pruned = [j for j in range(len(was)) if not was[j] and j not in grown]
            if not pruned:
                break
            g = max(pruned, key=lambda j: (sign * grow[i, j], -j))
            if m:
                kept = [j for j in range(g - g % m, g - g % m + m) if was[j] and j not in gone]
            else:
                kept = [j for j in range(len(was)) if was[j] and j not in gone]
                kept = [j for j in kept if np.sign(c[i, j]) == -sign]
            if not kept:
                break
            p = min(kept, key=lambda j: (score[i, j], j))
            after = error + c[i, p] - c[i, g]
            if same_sign and np.sign(after) != np.sign(start):
                break
            now[g], now[p], error = True, False, after
            grown.add(g)
            gone.add(p)
        new[i] = torch.tensor(now)
        errors.append(error)
    return new, errors


@pytest.mark.parametrize("same_sign", [False, True])
@pytest.mark.parametrize("cycles", [1, 3, 50])
@pytest.mark.parametrize("seed", [0, 1])
def test_against_the_algorithm_box(same_sign, cycles, seed):
    weight, mask, stats = layer(seed=seed)
    found = dsnot(weight, mask, stats, max_cycles=cycles, same_sign=same_sign, threshold=1.0)
    wanted, errors = by_the_algorithm_box(
        weight,
        mask,
        stats.mean_sum,
        stats.variance,
        stats.norm,
        cycles=cycles,
        threshold=10 / 2048,
        same_sign=same_sign,
    )
    assert torch.equal(found.mask, wanted)
    assert found.error_after.numpy() == pytest.approx(np.array(errors), rel=1e-5)
    assert found.swaps.sum() > 0


@pytest.mark.parametrize("n, m", [(2, 4), (4, 8)])
def test_patterns_against_the_algorithm_box(n, m):
    weight, _, stats = layer()
    score = weight.abs()
    mask = pattern_mask(score, NM(n, m))
    found = dsnot(weight, mask, stats, pattern=NM(n, m), max_cycles=20, score=score)
    wanted, _ = by_the_algorithm_box(
        weight,
        mask,
        stats.mean_sum,
        stats.variance,
        torch.ones(32),
        cycles=20,
        threshold=0.1 * 10 / 2048,
        same_sign=True,
        m=m,
    )
    assert torch.equal(found.mask, wanted)
    assert (found.mask.view(20, -1, m).sum(-1) == n).all()
    assert found.swaps.sum() > 0


@pytest.mark.parametrize("same_sign", [False, True])
def test_what_must_always_hold(same_sign):
    weight, mask, stats = layer()
    found = dsnot(weight, mask, stats, same_sign=same_sign, max_cycles=50)
    assert torch.equal(found.mask.sum(1), mask.sum(1))
    recomputed = (weight * stats.mean_sum).double().masked_fill(found.mask, 0).sum(1)
    assert torch.allclose(found.error_after, recomputed, rtol=1e-5, atol=1e-6)
    if same_sign:
        assert (found.error_after.sign() == found.error_before.sign()).all()
    again = dsnot(weight, mask, stats, same_sign=same_sign, max_cycles=50)
    assert torch.equal(found.mask, again.mask)


def test_the_mean_error_falls():
    weight, mask, stats = layer(outputs=200, inputs=256)
    found = dsnot(weight, mask, stats)
    assert found.error_after.abs().mean() < 0.5 * found.error_before.abs().mean()


def test_rows_within_the_threshold_and_zero_cycles_change_nothing():
    weight, mask, stats = layer()
    middle = float(dsnot(weight, mask, stats, max_cycles=0).error_before.abs().median())
    found = dsnot(weight, mask, stats, threshold=middle, threshold_mode="released")
    small = found.error_before.abs() <= middle
    assert torch.equal(found.mask[small], mask[small])
    assert not found.swaps[small].any()
    assert (found.mask[~small] != mask[~small]).any()
    assert torch.equal(dsnot(weight, mask, stats, max_cycles=0).mask, mask)


def test_threshold_units():
    weight, mask, stats = layer()
    scaled = dsnot(weight, mask, stats, threshold=2048.0, threshold_mode="scaled")
    released = dsnot(weight, mask, stats, threshold=10.0, threshold_mode="released")
    assert torch.equal(scaled.mask, released.mask)
    everything = dsnot(weight, mask, stats, threshold=1e9, threshold_mode="relative")
    assert torch.equal(everything.mask, mask)


def test_rows_that_keep_all_or_nothing_are_skipped():
    weight, mask, stats = layer()
    mask[0], mask[1] = True, False
    found = dsnot(weight, mask, stats, same_sign=False)
    assert found.mask[0].all()
    assert not found.mask[1].any()


def test_constant_and_dead_inputs():
    stats = LayerStats(4)
    stats.update(torch.tensor([[[0.0, 2, 1, 3], [0.0, 2, 3, 1]]]))  # dead, constant, two alive
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    mask = row_mask(weight.abs(), density=0.5)
    found = dsnot(weight, mask, stats, same_sign=False)
    assert torch.isfinite(found.error_after).all()
    assert (found.mask.sum(1) == 2).all()


def test_ablations_change_the_outcome_and_random_ones_need_a_generator():
    weight, mask, stats = layer(outputs=60, inputs=128)
    base = dsnot(weight, mask, stats).mask
    g = torch.Generator().manual_seed(0)
    variants = [
        {"var_power": 0.0},
        {"prune": "magnitude"},
        {"prune": "random", "generator": g},
        {"grow": "magnitude"},
        {"grow": "random", "generator": g},
    ]
    for options in variants:
        other = dsnot(weight, mask, stats, **options)
        assert not torch.equal(other.mask, base), options
        assert torch.equal(other.mask.sum(1), mask.sum(1))
    for options in ({"grow": "random"}, {"prune": "random"}):
        with pytest.raises(ValueError, match="generator"):
            dsnot(weight, mask, stats, **options)


@pytest.mark.parametrize("pattern", [None, NM(2, 4)])
def test_random_swaps_are_as_many_and_worse(pattern):
    weight, mask, stats = layer(outputs=100, inputs=128)
    if pattern is not None:
        mask = pattern_mask(weight.abs(), pattern)
    g = torch.Generator().manual_seed(0)
    guided = dsnot(weight, mask, stats, pattern=pattern)
    control = random_swaps(weight, mask, stats, generator=g, pattern=pattern)
    assert torch.equal((control.mask & ~mask).sum(1), guided.swaps)
    assert torch.equal((mask & ~control.mask).sum(1), guided.swaps)
    if pattern is not None:
        assert (control.mask.view(100, -1, 4).sum(-1) == 2).all()
    assert control.error_after.abs().mean() > guided.error_after.abs().mean()


def row_errors(weight, mask, x):
    """Squared output errors from the inputs themselves."""
    return ((weight.masked_fill(mask, 0)) @ x.flatten(0, 1).T).double().square().sum(1)


def correlated(outputs=40, inputs=32):
    """A layer whose inputs go together, so that the mean says little about the square."""
    g = torch.Generator().manual_seed(3)
    x = torch.randn(6, 40, inputs, generator=g) @ torch.randn(inputs, inputs, generator=g) + 1
    stats = LayerStats(inputs, gram=True)
    stats.update(x)
    weight = torch.randn(outputs, inputs, generator=g)
    return weight, row_mask(wanda(weight, stats.norm), density=0.4), stats, x


@pytest.mark.parametrize("same_sign", [False, True])
def test_accepted_swaps_never_raise_a_rows_squared_error(same_sign):
    weight, mask, stats, x = correlated()
    options = {"max_cycles": 20, "same_sign": same_sign}
    always = dsnot(weight, mask, stats, **options)
    found = dsnot(weight, mask, stats, accept="if_mse_drops", **options)
    before, after = (row_errors(weight, m, x) for m in (mask, found.mask))
    changed = found.swaps > 0
    assert changed.any()
    assert (after[changed] < before[changed]).all()
    assert torch.equal(after[~changed], before[~changed])
    assert torch.equal(found.mask.sum(1), mask.sum(1))
    # Without the test some rows do get worse: it has something to refuse.
    assert (row_errors(weight, always.mask, x) > before).any()


@pytest.mark.parametrize("pattern", [None, NM(2, 4)])
def test_gram_swaps_end_where_no_swap_helps(pattern):
    weight, mask, stats, x = correlated(outputs=5, inputs=16)
    if pattern is not None:
        mask = pattern_mask(weight.abs(), pattern)
    found = gram_swaps(weight, mask, stats, pattern=pattern, max_cycles=100)
    assert torch.equal(found.mask.sum(1), mask.sum(1))
    if pattern is not None:
        assert (found.mask.view(5, -1, 4).sum(-1) == 2).all()
    after = row_errors(weight, found.mask, x)
    assert (after <= row_errors(weight, mask, x)).all() and found.swaps.sum() > 0
    for i, kept in enumerate(found.mask):
        for r in (~kept).nonzero().flatten():
            for s in kept.nonzero().flatten():
                if pattern is None or r // 4 == s // 4:
                    other = found.mask.clone()
                    other[i, r], other[i, s] = True, False
                    assert row_errors(weight, other, x)[i] >= after[i] * (1 - 1e-5)


def test_gram_swaps_beat_dsnot_on_the_error_they_are_about():
    weight, mask, stats, _ = correlated(outputs=60, inputs=64)
    lost = {
        name: output_error(weight, weight * found.mask, stats)
        for name, found in (
            ("dsnot", dsnot(weight, mask, stats)),
            ("accepted", dsnot(weight, mask, stats, accept="if_mse_drops")),
            ("one swap", gram_swaps(weight, mask, stats, max_cycles=1)),
            ("gram", gram_swaps(weight, mask, stats)),
        )
    }
    assert lost["gram"] < lost["one swap"] < min(lost["dsnot"], lost["accepted"])
    recomputed = (weight * stats.mean_sum).double().masked_fill(mask, 0).sum(1)
    unchanged = gram_swaps(weight, mask, stats, max_cycles=0)
    assert torch.equal(unchanged.mask, mask)
    assert torch.allclose(unchanged.error_after, recomputed, rtol=1e-5, atol=1e-5)


def test_bad_input():
    weight, mask, stats = layer()
    with pytest.raises(ValueError, match="accept must be"):
        dsnot(weight, mask, stats, accept="sometimes")
    without = LayerStats(32)
    without.update(torch.ones(1, 2, 32))
    with pytest.raises(ValueError, match="no Gram matrix"):
        dsnot(weight, mask, without, accept="if_mse_drops")
    with pytest.raises(ValueError, match="no Gram matrix"):
        gram_swaps(weight, mask, without)
    with pytest.raises(ValueError, match=r"mask must be boolean .*\(20, 32\)"):
        gram_swaps(weight, mask[:3], stats)
    with pytest.raises(ValueError, match="2:5 does not fit"):
        gram_swaps(weight, mask, stats, pattern=NM(2, 5))
    with pytest.raises(ValueError, match=r"mask must be boolean .*\(20, 32\)"):
        dsnot(weight, mask[:3], stats)
    with pytest.raises(ValueError, match="grow must be"):
        dsnot(weight, mask, stats, grow="gradient")
    with pytest.raises(ValueError, match="prune must be"):
        dsnot(weight, mask, stats, prune="gradient")
    with pytest.raises(ValueError, match="threshold_mode must be"):
        dsnot(weight, mask, stats, threshold_mode="percent")
    with pytest.raises(ValueError, match="2:5 does not fit"):
        dsnot(weight, mask, stats, pattern=NM(2, 5))
    with pytest.raises(ValueError, match="no calibration token"):
        dsnot(weight, mask, LayerStats(32))
