"""Paper 24: the recipe runs, its claims speak of what is measured, and its measures are right."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from rarefy.data.images import digits
from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import random_pruning as recipe
from rarefy.papers._random_pruning_beyond import beyond_accuracy, shuffled_pixels
from rarefy.papers._random_pruning_training import (
    ResNet,
    allocate,
    standardised,
    train,
    violations,
)
from rarefy.weights import calibration_error, fast_gradient_sign, random_masks, select


@pytest.fixture(scope="module")
def smoke(shared, trial):
    """Every arm at one seed, measured once for this file."""
    before = [tensor.clone() for tensor in shared.images]
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    measured = {arm: recipe.measure(arm, shared, trial) for arm in recipe.PAPER.arms}
    for tensor, was in zip(shared.images, before, strict=True):
        assert tensor.equal(was)
    assert torch.get_rng_state().equal(state) and torch.get_num_threads() == threads
    return measured


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {"c1", "c2", "c2b", "c3", "c4", "c5", "exact"} <= ids


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    # What a run that was stopped and goes on does: a new setup, and only the arms that are missing.
    for arm in ("allocations", "GraSP ratios", "dense, as many weights"):
        again = recipe.measure(arm, recipe.setup(trial), trial)
        np.testing.assert_array_equal(list(again.values()), list(smoke[arm].values()))


def test_arms_that_are_built_differently_differ(smoke):
    for one, other in (("SNIP ratios", "SNIP mask"), ("ERK", "ERK+"), ("ERK", "ERK, denser")):
        assert smoke[one]["nll"] != smoke[other]["nll"], (one, other)
    for one, other in (("ERK", "ER"), ("uniform", "uniform+"), ("SNIP ratios", "GraSP ratios")):
        assert smoke[one]["gradient_norm"] != smoke[other]["gradient_norm"], (one, other)


def test_a_gap_in_claims_is_a_gap_between_arms(smoke):
    sparse, dense = smoke["ERK"], smoke["dense"]
    narrow, wide = (dense[f"accuracy_{s}"] - sparse[f"accuracy_{s}"] for s in ("narrow", "wide"))
    assert sparse["rise_width"] - dense["rise_width"] == pytest.approx(narrow - wide)
    assert sparse["fourfold"] - dense["fourfold"] == pytest.approx(narrow - 4 * wide)


def test_the_small_dense_network_has_no_more_weights_and_no_fewer_than_it_must(smoke, shared):
    kept = round(0.05 * sum(w.numel() for w in select(ResNet(shared.images, 16)).values()))
    width = int(smoke["dense, as many weights"]["width"])
    size, larger = (
        sum(w.numel() for w in select(ResNet(shared.images, w)).values())
        for w in (width, width + 1)
    )
    assert size <= kept < larger


def test_figure_draws_both_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    curves, scatter = recipe.figure(measurements).axes
    assert len(curves.get_legend().get_texts()) == 7
    assert len(scatter.lines) == 7


@pytest.mark.parametrize("method", [*recipe.RUNS][1:])
def test_every_method_meets_its_budget_and_depends_on_its_seed(method, shared):
    def masks(seed):
        g = torch.Generator().manual_seed(seed)
        return allocate(method, network, shared.images, density=0.1, generator=g)

    torch.manual_seed(0)
    network = ResNet(shared.images, 4)
    one, two, other = masks(0), masks(0), masks(1)
    assert one.nnz == round(0.1 * one.numel)
    assert sum(one.difference(two).values()) == 0
    assert sum(one.difference(other).values()) > 0


def test_the_network_is_that_of_the_paper(shared):
    # 6 D + 2 layers beside two shortcuts; sizes from the method card.
    for depth in (1, 3):
        assert len(select(ResNet(shared.images, 4, depth))) == 6 * depth + 2 + 2
    for width, weights in ((2, 1290), (3, 2829), (4, 4964), (8, 19464), (16, 77072)):
        found = sum(w.numel() for w in select(ResNet(shared.images, width)).values())
        assert found == weights
    assert ResNet(shared.images, 4)(shared.images.x[:2]).shape == (2, 10)


def test_violations_are_seen(shared, generator):
    network = ResNet(shared.images, 4)
    masks = random_masks(network, density=0.5, generator=generator)
    masks.apply_(network)
    assert violations(network, masks) == 0
    with torch.no_grad():
        network.head.weight[~masks["head.weight"]] = 1e-30
    assert violations(network, masks) == int((~masks["head.weight"]).sum())


def test_digits_are_learned_and_what_is_pruned_stays_pruned(generator):
    images = standardised(digits(generator))
    assert float(images.x.mean()) == pytest.approx(0, abs=1e-5)
    torch.manual_seed(0)
    network = ResNet(images, 4)
    masks = random_masks(network, density=0.5, generator=generator)
    (outcome,) = train(
        [network], [masks], images, size=(4, 1), epochs=2, generator=generator, device="cpu"
    )
    assert outcome.accuracy > 0.6
    assert outcome.gradient_norm > 0
    assert outcome.violations == 0


def test_side_by_side_is_as_alone(shared, generator):
    """The groups of one network train as networks of their own do."""
    torch.manual_seed(0)
    networks = [ResNet(shared.images, 3, 2) for _ in range(3)]
    masks = [random_masks(networks[0], density=d, generator=generator) for d in (0.2, 0.5, 1.0)]
    how = {"size": (3, 2), "epochs": 1, "device": "cpu"}

    def order():
        return torch.Generator().manual_seed(5)

    alone = copy.deepcopy(networks)
    together = train(networks, masks, shared.images, generator=order(), **how)
    for i, network in enumerate(alone):
        (one,) = train([network], [masks[i]], shared.images, generator=order(), **how)
        assert one.gradient_norm == pytest.approx(together[i].gradient_norm, rel=1e-3)
        for name, weight in network.named_parameters():
            other = networks[i].get_parameter(name)
            torch.testing.assert_close(weight, other, rtol=1e-2, atol=1e-3)


def test_calibration_error_by_hand():
    # Bins 15: 0.95 and 0.97 share the last one, 0.5 is alone.
    confidence = torch.tensor([0.95, 0.97, 0.5])
    right = torch.tensor([True, False, True])
    expected = (abs(1 - 0.95 - 0.97) + abs(1 - 0.5)) / 3
    assert calibration_error(confidence, right) == pytest.approx(expected)
    assert calibration_error(torch.ones(4), torch.ones(4, dtype=torch.bool)) == 0


def test_the_attack_raises_the_loss_and_stays_within_its_bound(shared):
    torch.manual_seed(0)
    network = ResNet(shared.images, 4).eval()
    x, y = shared.images.x[:16], shared.images.y[:16]
    attacked = fast_gradient_sign(network, x, y, epsilon=0.05)
    assert (attacked - x).abs().max() <= 0.05 + 1e-6
    before, after = (nn.functional.cross_entropy(network(at), y) for at in (x, attacked))
    assert after > before
    assert all(parameter.grad is None for parameter in network.parameters())


def test_shuffled_pixels_are_the_same_pixels(generator):
    x = torch.randn(5, 3, 4, 4, generator=generator)
    strange = shuffled_pixels(x, generator)
    for one, other in zip(x.flatten(2), strange.flatten(2), strict=True):
        assert not torch.equal(one, other)
        # Channels move together: the pixels, as vectors, are the same set.
        assert {tuple(p) for p in one.T.tolist()} == {tuple(p) for p in other.T.tolist()}


def test_a_network_that_says_nothing_is_known_in_closed_form(shared, generator):
    class Silent(nn.Module):
        def forward(self, x):
            return 0 * x.flatten(1)[:, :10]

    found = beyond_accuracy(Silent(), shared.images, generator=generator, device="cpu")
    share = float((shared.images.test_y == 0).float().mean())
    assert found["nll"] == pytest.approx(math.log(10))
    assert found["brier"] == pytest.approx(0.9)
    assert found["ece"] == pytest.approx(abs(share - 0.1), abs=1e-6)
    assert found["ood_auc"] == pytest.approx(0.5)
    assert found["fgsm"] == pytest.approx(share)


def test_bad_options(trial):
    with pytest.raises(ValueError, match="width must be at least 2"):
        recipe.setup(trial, width=1)
    with pytest.raises(ValueError, match=r"density must be above 0 and at most 0\.25, got 0\.5"):
        recipe.setup(trial, density=0.5)
