"""Paper 25: the recipe runs, its claims speak of what is measured, and its arms are fair."""

from functools import partial

import numpy as np
import pytest
import torch

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import dass as recipe
from rarefy.papers._dass_nets import MobileNet, at_size, count, latency_ratio, resnet8
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
    assert {f"c{i}" for i in range(1, 5)} <= ids


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    # What a run that was stopped and goes on does: a new setup, and only the arms that are missing.
    shared = recipe.setup(trial)
    for arm in ("mobilenet-v2, matched", "random", "sparse objective only"):
        again = recipe.measure(arm, shared, trial)
        for metric, value in smoke[arm].items():
            assert metric.startswith("clock") or again[metric] == value, (arm, metric)


def test_the_search_takes_its_options(trial):
    def searched(**how):
        return recipe._search("dass", recipe.setup(trial, **how), trial, few=128, epochs=5)

    plain, turns, ramp = searched(), searched(repeats=2), searched(ramp=True)
    assert [line.phase for line in turns.history] == ["train", *["prune", "fine-tune"] * 2]
    assert ramp.history[0].loss == plain.history[0].loss
    assert ramp.history[1].alpha_loss != plain.history[1].alpha_loss


def test_every_competitor_keeps_as_many_weights(smoke, shared):
    for arm in recipe.PAPER.arms[:-1]:
        assert smoke[arm]["nnz"] == shared.kept == 600
        assert smoke[arm]["mask_violations"] == 0
        # The width comes as near to the size as whole numbers allow.
        assert 0.06 < smoke[arm]["density"] < 0.16


def test_networks_are_tested_with_the_statistics_of_the_training_images(shared, trial):
    network = recipe._found("darts", shared, trial).network
    convolution, norm = network.stem
    with torch.no_grad():
        parts = [convolution(x) for x in shared.images.x.split(128)]
    mean = torch.stack([part.mean((0, 2, 3)) for part in parts]).mean(0)
    variance = torch.stack([part.var((0, 2, 3)) for part in parts]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(norm.running_var, variance, rtol=1e-4, atol=1e-6)


def test_macs_are_those_of_the_weights_left(shared, trial):
    evaluated = recipe._found("darts", shared, trial)
    rows = count_macs(evaluated.network, shared.images.x[:1], evaluated.masks)
    assert evaluated.macs(shared.images) == sum(row.sparse for row in rows)
    assert sum(row.sparse for row in rows) < 0.5 * sum(row.dense for row in rows)
    zeros = sum(int((p == 0).sum()) for n, p in evaluated.network.named_parameters() if p.ndim > 1)
    assert zeros >= evaluated.masks.numel - evaluated.masks.nnz


@pytest.mark.parametrize("make", [resnet8, MobileNet])
def test_width_is_the_nearest_to_a_size(make, shared):
    sizes = [count(make(shared.images, width)) for width in range(1, 20)]
    for size in (900, 6000):
        chosen = count(at_size(partial(make, shared.images), size))
        assert abs(chosen - size) == min(abs(each - size) for each in sizes)


def test_latency_ratio_sees_a_larger_network(shared):
    small, large = MobileNet(shared.images, 1), MobileNet(shared.images, 48)
    assert latency_ratio(small, large, shared.images, repeats=5) > 1.5


def test_figure_draws_both_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    drops, gains = recipe.figure(measurements).axes
    assert len(drops.get_yticks()) == 7 and len(gains.patches) == 6


def test_bad_options(trial):
    with pytest.raises(ValueError, match="density must be between 0 and 1, got 1"):
        recipe.setup(trial, density=1.0)
    with pytest.raises(ValueError, match="leaves 50 weights"):
        recipe.setup(trial, size=500)
    with pytest.raises(ValueError, match="channels must be at least 1"):
        recipe.setup(trial, channels=0)


def test_a_user_s_images(tmp_path, trial):
    rng = np.random.default_rng(0)
    x = rng.random((40, 3, 8, 8), dtype=np.float32)
    np.savez(tmp_path / "i.npz", x=x, y=np.arange(40) % 3, test_x=x[:6], test_y=np.arange(6) % 3)
    shared = recipe.setup(trial, images=tmp_path / "i.npz", size=2000)
    assert shared.images.classes == 3
    network = MobileNet(shared.images, 4)
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 3)
