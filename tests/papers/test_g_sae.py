"""Paper 34: the recipe runs, its claims speak of what is measured, its bench is what it says."""

from copy import deepcopy

import pytest
import torch

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import g_sae as recipe
from rarefy.papers._g_sae_bench import judge, recovered
from rarefy.papers._spliced_site import spliced


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
    for arm in ("g-SAE, threshold", "TopK, gradient", "beta 0", "attribution, trained on"):
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


def test_thresholds_keep_as_many_latents_as_the_others(smoke):
    for where, k in (("2", 2), ("4", 4), ("lm", 16)):
        assert smoke["g-SAE, threshold"][f"l0_{where}"] == pytest.approx(k, rel=0.01)


def test_choosing_true_features_by_attribution_finds_the_quiet_ones(smoke):
    for arm in ("TopK, handed", "attribution, handed"):
        assert smoke[arm]["quiet"] == 1
    assert smoke["attribution, handed"]["picked"] > smoke["TopK, handed"]["picked"] + 0.2


def test_splicing_a_site_into_itself_costs_nothing(shared):
    site = shared.language
    costs = spliced(site, site.held.x)
    assert costs["delta_ce"] == pytest.approx(0, abs=1e-5)
    assert costs["recovered"] == pytest.approx(1, abs=1e-5)
    assert spliced(site, 0 * site.held.x)["recovered"] == pytest.approx(0, abs=1e-6)


def test_every_held_out_row_has_its_own_loss(shared):
    site = shared.language
    logits = site.opened.model(input_ids=site.windows[:1], use_cache=False).logits[0, :-1]
    each = torch.nn.functional.cross_entropy(logits, site.windows[0, 1:], reduction="none")
    kept = site.mask[0, :-1]
    torch.testing.assert_close(site.loss_by_row[: int(kept.sum())], each[kept].detach())
    assert len(site.loss_by_row) == len(site.held.x) == int(site.mask.sum())


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
    assert len(left.containers) == len(right.containers) == len(recipe.ARMS) - 1


def test_bad_options(trial):
    with pytest.raises(ValueError, match="latents must be at least 4, got 3"):
        recipe.setup(trial, latents=3)
