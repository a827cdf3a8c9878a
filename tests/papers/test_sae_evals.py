"""Paper 27: the recipe runs, its claims speak of what is measured, and its parts are as said."""

import pytest
import torch

from rarefy.data.ioi import ioi_prompts
from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import sae_evals as recipe
from rarefy.papers._sae_evals_simulator import LinearIOI
from rarefy.papers._sae_evals_toys import ideal_loss, random_loss, two_gaussians
from rarefy.papers._sae_evals_transformer import names_in_order


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert ids == {f"c{i}" for i in range(1, 8)}


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    # What a run that was stopped and goes on does: a new setup, and only the arms that are missing.
    shared = recipe.setup(trial)
    for arm in ("other text", "supervised", "occlusion, 1 to 1", "transformer, no edit"):
        assert recipe.measure(arm, shared, trial) == smoke[arm], arm


def test_a_transformer_is_edited_at_the_sites_that_carry_the_answer(smoke):
    assert smoke["transformer, no edit"]["accuracy"] >= 0.95
    assert smoke["transformer, supervised"]["agreement"] >= 0.8
    assert smoke["transformer, no edit"]["agreement"] <= 0.1


def test_the_simulator_s_truth_needs_no_fit():
    simulator = LinearIOI.draw(64, 200, generator=torch.Generator().manual_seed(3))
    for name, task in simulator.tasks.items():
        prompts, target = simulator.targets[name]
        vectors = simulator.vectors[name]
        old, new = simulator.test.attributes[name], prompts.attributes[name]
        edited = task.activations[:, 0] - vectors[old] + vectors[new]
        torch.testing.assert_close(edited, target[:, 0], atol=1e-5, rtol=0)


def test_dictionaries_do_not_start_at_the_truth(shared):
    # From the seed of the vectors a decoder would draw these very vectors.
    from rarefy.dictionaries import SparseAutoencoder
    from rarefy.operators import L1

    simulator = shared.simulator
    start = SparseAutoencoder(64, 192, L1(0.0), seed=simulator.dictionary_seed).decoder
    truth = torch.cat(list(simulator.vectors.values()))
    cosines = start @ (truth / truth.norm(dim=1, keepdim=True)).T
    assert cosines.max() < 0.75


def test_names_in_order_are_what_is_read():
    prompts = ioi_prompts(20, generator=torch.Generator().manual_seed(0))
    names = names_in_order(prompts)
    for row, text in enumerate(prompts.texts()):
        words = text.replace(",", "").replace(".", "").split()
        from rarefy.data.ioi import NAMES

        read = [word for word in words if word in NAMES]
        assert read == [NAMES[names[place][row]] for place in ("first", "second", "third")]


def test_losses_of_the_toy_are_those_of_the_features_written_out():
    a, _, mu = two_gaussians(300, generator=torch.Generator().manual_seed(1))
    unit = mu / mu.norm()
    best = float("inf")
    for k in torch.linspace(0, 2, 41):
        for gamma in torch.linspace(0, 5, 51):
            plus, minus = (k * a @ mu - gamma).relu(), (-k * a @ mu - gamma).relu()
            error = (a - plus[:, None] * unit + minus[:, None] * unit).square().sum(1).mean()
            best = min(best, float(error + 2 * (plus + minus).mean()))
    assert ideal_loss(a, mu, (2.0,))[0][0] == pytest.approx(best, rel=1e-5)
    # With a penalty beyond all use, nothing fires: the loss is that of the activations.
    rows = torch.randn(20, 100, generator=torch.Generator().manual_seed(2))
    silent = float(a.square().sum(1).mean())
    assert ideal_loss(a, mu, (1e3,))[0][0] == pytest.approx(silent)
    assert random_loss(a, rows, (1e3,))[0][0] == pytest.approx(silent)


def test_figure_draws_three_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    control, occlusion, splitting = recipe.figure(measurements).axes
    assert len(control.lines) == 7 and len(occlusion.patches) == 8 and len(splitting.lines) == 2


def test_bad_options(trial):
    with pytest.raises(ValueError, match="n_latents is 7, expected at least 8"):
        recipe.setup(trial, n_latents=7)
    with pytest.raises(ValueError, match="l1 is -1, expected 0 or more"):
        recipe.setup(trial, l1=-1)
