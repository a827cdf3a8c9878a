"""Paper 35: the recipe runs, its claims speak of what is measured, its rows are as planted."""

import pytest
import torch

from rarefy.dictionaries import SparseAutoencoder
from rarefy.evidence.claims import Measurement, Measurements
from rarefy.operators import TopK
from rarefy.papers import mutual_choice as recipe
from rarefy.papers._mutual_choice_training import planted, planted_atoms


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert ids == {f"c{i}" for i in range(1, 6)}


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    shared = recipe.setup(trial)
    for arm in ("FC", "MC, aux-zipf 4"):
        assert recipe.measure(arm, shared, trial) == smoke[arm]


def test_batches_keep_k_a_row_and_feature_choice_leaves_none_dead(smoke):
    for arm in ("TopK", "MC", "FC", "FC, wide"):
        assert smoke[arm]["l0_batch"] == pytest.approx(8, rel=0.05)
    assert smoke["FC"]["dead_batch"] == smoke["FC, wide"]["dead_batch"] == 0


def test_rows_are_sums_of_as_many_features_as_they_say():
    g = torch.Generator().manual_seed(5)
    atoms = torch.eye(60)
    rows = planted(6000, g, atoms=atoms)
    assert torch.equal((rows.x.abs() > 0.25).sum(1), rows.complexity)
    # 1 + a geometric of mean 7, cut at 30
    assert float(rows.complexity.float().mean()) == pytest.approx(7.85, abs=0.3)
    density = (rows.x > 0.25).float().mean(0)
    assert density[:5].mean() > 3 * density[-20:].mean()
    norms = planted_atoms(g).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(400))


def test_features_are_not_the_first_dictionary(monkeypatch, trial):
    drawn = []

    def noted(generator):
        drawn.append(planted_atoms(generator))
        return drawn[-1]

    monkeypatch.setattr("rarefy.papers._mutual_choice_training.planted_atoms", noted)
    recipe.setup(trial)
    first = SparseAutoencoder(64, 512, TopK(8), seed=trial.seed).decoder.detach()
    nearest = (drawn[0] @ torch.nn.functional.normalize(first, dim=1).t()).max(1).values
    assert float(nearest.mean()) < 0.6


def test_figure_draws_both_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    ranks, costs = recipe.figure(measurements).axes
    assert len(ranks.lines) == 4 and len(costs.lines) == len(recipe.PAPER.arms) - 3


def test_bad_options(trial):
    with pytest.raises(ValueError, match="k times the batch must be at least the 4096 latents"):
        recipe.setup(trial, batch=256)
