"""Paper 38: the recipe runs, its claims speak of what is measured, and its arms are fair."""

import pytest
import torch
from torch import nn

from rarefy.data.images import digits
from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import fast_sparse_convnets as recipe
from rarefy.papers._fast_convnets_digits import (
    LATE,
    Pruning,
    blocks_at,
    pointwise,
    scattered,
    small_v1,
    small_v2,
    train,
)
from rarefy.papers._fast_convnets_speed import pruned, relative_latency
from rarefy.weights import count_macs


@pytest.fixture(scope="module")
def smoke(shared, trial):
    """Every arm at one seed, measured once for this file."""
    before = [tensor.clone() for tensor in shared.images]
    measured = {arm: recipe.measure(arm, shared, trial) for arm in recipe.PAPER.arms}
    for tensor, was in zip(shared.images, before, strict=True):
        assert tensor.equal(was)
    return measured


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {f"c{i}" for i in range(1, 7)} <= ids


def test_an_arm_measured_alone_gives_the_same_accuracy(smoke, trial):
    # What a run that was stopped and goes on does: a new setup, and only the arms that are missing.
    shared = recipe.setup(trial)
    assert shared.unstructured == smoke["sparse 0.5"]["accuracy"]
    for arm in ("sparse 0.25", "blocks of 4, late", "v2 cache-aware"):
        assert recipe.measure(arm, shared, trial)["accuracy"] == smoke[arm]["accuracy"]


def test_networks_equal_the_masked_dense_ones(smoke):
    for arm in recipe.NETWORKS:
        assert 0 <= smoke[arm]["off"] <= 1e-4


def test_figure_draws_both_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    frontier, products = recipe.figure(measurements).axes
    assert len(frontier.containers) == 2 and len(products.lines) == 4


@pytest.mark.parametrize("axis", [0, 1])
def test_training_prunes_what_it_says_and_learns(shared, axis):
    images = shared.images
    model = small_v1(images, 0.25, 0)
    start = {name: w.detach().clone() for name, w in model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    pruning = Pruning(0.75, 4, axis)
    train(model, images, steps=10, pruning=pruning, generator=generator, device="cpu")
    chosen = pointwise(model)
    assert len(chosen) == 5
    for name, weight in model.named_parameters():
        assert not torch.equal(weight, start[name])
        if name in chosen:
            assert int(weight.count_nonzero()) == weight.numel() // 4
            kept = (weight != 0).unflatten(axis, (-1, 4)).any(axis + 1)
            assert int(kept.sum()) == weight.numel() // 16


def test_a_dense_network_is_not_pruned_and_learns(shared):
    model = small_v1(shared.images, 0.5, 0)
    generator = torch.Generator().manual_seed(0)
    accuracy = train(
        model, shared.images, steps=80, pruning=None, generator=generator, device="cpu"
    )
    assert accuracy > 0.2
    assert all(bool((w != 0).all()) for w in pointwise(model).values())


def test_digits_are_scattered_and_noisy(shared):
    plain = digits(torch.Generator().manual_seed(0))
    images = scattered(plain, torch.Generator().manual_seed(1))
    assert images.x.shape == (4 * 1297, 1, 16, 16) and images.test_x.shape == (2000, 1, 16, 16)
    totals = images.x.sum((1, 2, 3)).view(4, -1)
    torch.testing.assert_close(totals, totals[:1].expand(4, -1))
    assert not torch.equal(images.x[0], images.x[1297])
    assert images.test_x.min() < -0.3 <= 0 <= images.x.min()


def test_late_blocks_are_late(shared):
    model = small_v1(shared.images, 0.5, 0)
    assert list(blocks_at(model, LATE, 4)) == list(pointwise(model))[3:]


def test_the_cache_aware_network_costs_about_as_much(shared):
    macs = []
    for aware in (False, True):
        model = small_v2(shared.images, 0, cache_aware=aware)
        macs.append(sum(row.dense for row in count_macs(model, shared.images.test_x[:1])))
    assert 0.9 <= macs[1] / macs[0] <= 1.1


def test_pruning_by_magnitude_keeps_the_largest():
    model = pruned(lambda: nn.Sequential(nn.Conv2d(8, 16, 1)), 0.75, 0)
    same = pruned(lambda: nn.Sequential(nn.Conv2d(8, 16, 1)), 0.0, 0)
    kept = model[0].weight != 0
    assert int(kept.sum()) == 32
    assert same[0].weight[kept].abs().min() >= same[0].weight[~kept].abs().max()


def test_latency_is_relative(shared):
    model = small_v1(shared.images, 0.25, 0).eval()
    ratio = relative_latency(model, model, shared.images.test_x[:1], 15)
    assert 0.3 < ratio < 3


def test_bad_options(trial, tmp_path):
    with pytest.raises(ValueError, match="sparsity must be above 0 and below 1, got 1"):
        recipe.setup(trial, sparsity=1)
