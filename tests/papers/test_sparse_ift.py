"""Paper 40: the recipe runs, its claims speak of what is measured, and its arms are fair."""

import numpy as np
import pytest
import torch

from rarefy.data.images import digits, read_images
from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import sparse_ift as recipe
from rarefy.papers._sparse_ift_digits import ResNet, mlp, train
from rarefy.weights import RigL, count_macs, iso_flop, random_masks


@pytest.fixture(scope="module")
def smoke(shared, trial):
    """Every arm at one seed, measured once for this file."""
    before = [tensor.clone() for tensor in (*shared.images, *shared.text)]
    measured = {arm: recipe.measure(arm, shared, trial) for arm in recipe.PAPER.arms}
    for tensor, was in zip((*shared.images, *shared.text), before, strict=True):
        assert tensor.equal(was)
    return measured


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {f"c{i}" for i in range(1, 8)} <= ids


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    # What a run that was stopped and goes on does: a new setup, and only the arms that are missing.
    shared = recipe.setup(trial)
    for arm in ("wide, SET", "parallel", "conv: wide"):
        again = recipe.measure(arm, shared, trial)
        np.testing.assert_array_equal(list(again.values()), list(smoke[arm].values()))
    again = recipe.measure("language: wide", shared, trial)
    assert again["log_ppl"] == smoke["language: wide"]["log_ppl"]


def test_arms_that_are_built_differently_differ(smoke):
    # Masks that move, and where they move to, must matter to what is measured.
    for one, other in (("wide", "wide, static"), ("wide", "wide, SET"), ("bottleneck", "low rank")):
        assert smoke[one]["accuracy_75"] != smoke[other]["accuracy_75"], (one, other)


def test_figure_draws_both_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    drawn = recipe.figure(measurements)
    curves, bars = drawn.axes
    assert len(curves.lines) >= 7
    assert len(bars.patches) == 8


def test_twice_the_cost_is_twice_the_cost(shared, trial):
    x = shared.images.x[:1]
    cost, twice = (
        sum(row.dense for row in count_macs(net, x))
        for net in (recipe._narrow(shared, trial), recipe._twice(shared, trial))
    )
    assert cost == 64 * 6 + 3 * 36 + 6 * 10
    assert 2 * cost <= twice < 2.2 * cost


def test_the_residual_network_keeps_stem_and_head_dense(shared, generator):
    torch.manual_seed(0)
    images = shared.images
    net = ResNet(images, (4, 8))
    wide = iso_flop(net, images.x[:1], family="wide", sparsity=0.75, generator=generator)
    assert {name.split(".")[0] for name in wide.masks} == {"blocks"}
    assert wide.model.head.in_features == 16
    # A residual branch that begins at zero must begin at zero in the wide network too.
    assert not any(block.second_norm.weight.any() for block in wide.model.blocks)


def test_violations_are_seen(shared, generator):
    """A rule that lets everything grow is noticed, so a count of 0 means something."""

    class Careless(RigL):
        def __call__(self, weights, masks, **how):
            return type(masks)({n: torch.ones_like(m) for n, m in masks.items()})

    torch.manual_seed(0)
    net = mlp(shared.images, 6)
    outcome = train(
        net,
        shared.images,
        masks=random_masks(net, density=0.5, generator=generator),
        rule=Careless(),
        steps=4,
        every=2,
        generator=generator,
        device="cpu",
    )
    assert outcome.violations > 0


def test_digits_are_split_and_learned():
    images = digits(torch.Generator().manual_seed(0))
    assert len(images.x) == 1297 and len(images.test_x) == 500 and images.classes == 10
    torch.manual_seed(0)
    outcome = train(
        mlp(images, 16),
        images,
        steps=120,
        every=25,
        generator=torch.Generator().manual_seed(0),
        device="cpu",
    )
    assert outcome.accuracy > 0.85


def test_a_user_s_images(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    y = np.arange(20) % 4
    path = tmp_path / "images.npz"
    np.savez(path, x=x, y=y, test_x=x[:5], test_y=y[:5])
    images = read_images(path)
    assert images.classes == 4 and float(images.x.max()) <= 1
    np.testing.assert_allclose(images.x.numpy() * 255, x, atol=1e-4)
    np.savez(path, x=x, y=y)
    with pytest.raises(ValueError, match="lacks the arrays test_x, test_y"):
        read_images(path)
    np.savez(path, x=x[0], y=y, test_x=x, test_y=y)
    with pytest.raises(ValueError, match="must have axes"):
        read_images(path)


def test_bad_width(trial):
    with pytest.raises(ValueError, match="width must be at least 2"):
        recipe.setup(trial, width=1)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
