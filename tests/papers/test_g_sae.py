"""Paper 34: the recipe runs, its claims speak of what is measured, its bench is what it says."""

from copy import deepcopy

import pytest
import torch

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import g_sae as recipe
from rarefy.papers._g_sae_bench import judge, recovered


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_that_can_be_measured_offline_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {f"c{i}" for i in range(1, 5)} <= ids
    assert not {"c5", "c6"} & ids


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    shared = recipe.setup(trial)
    for arm in ("g-SAE, threshold", "TopK, gradient", "beta 0"):
        assert recipe.measure(arm, shared, trial) == smoke[arm]


def test_choices_share_a_training_and_beta_zero_is_topk(smoke):
    assert smoke["beta 0"]["off_topk"] == 0
    assert smoke["beta 0"]["kl_2"] == smoke["TopK"]["kl_2"]
    assert smoke["TopK, gradient"]["kl_2"] != smoke["TopK"]["kl_2"]


def test_gradients_are_the_network_s(shared):
    x, g, y = shared.digits.held
    # small enough to meet no kink of the ReLUs; the difference is taken in double
    step = 1e-5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    tail = deepcopy(shared.digits.tail).double()
    losses = [
        torch.nn.functional.cross_entropy(tail((x + s).double()), y, reduction="sum").item()
        for s in (step, -step)
    ]
    assert (losses[0] - losses[1]) / 2 == pytest.approx(float((g * step).sum()), rel=0.02)


def test_no_loss_reads_loud_features(shared):
    rows, quiet = shared.planted.rows, shared.planted.quiet
    # gradients lie in the span of the quiet features, half of the space
    assert int(torch.linalg.matrix_rank(rows.g, atol=1e-3)) == 16
    assert int(torch.linalg.matrix_rank(torch.cat([rows.g[:100], quiet]), atol=1e-3)) == 16


def test_a_perfect_dictionary_loses_nothing_and_recovers_all(shared):
    class Same(torch.nn.Module):
        decoder = shared.planted.quiet
        n_latents = 1

        def encode(self, x):
            from rarefy.dictionaries import SparseCodes

            self.x = x
            return SparseCodes.from_dense(torch.ones(len(x), 1))

        def decode(self, codes):
            return self.x

        forward = torch.nn.Identity.forward

    values = judge(Same(), shared.digits)
    assert values["kl"] == values["delta_ce"] == values["fvu"] == 0
    assert recovered(Same(), shared.planted.quiet) == 1
    assert recovered(Same(), torch.eye(32)) < 1


def test_figure_draws_both_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    left, right = recipe.figure(measurements).axes
    assert len(left.containers) == len(right.containers) == len(recipe.PAPER.arms) - 1


def test_bad_options(trial):
    with pytest.raises(ValueError, match="latents must be at least 4, got 3"):
        recipe.setup(trial, latents=3)
