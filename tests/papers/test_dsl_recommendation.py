"""Paper 31: the recipe runs, its claims speak of what is measured, and its arms are fair."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import _dsl_training as training
from rarefy.papers import dsl_recommendation as recipe
from rarefy.weights import DSL, Masks, Static

ARMS = recipe.PAPER.arms


@pytest.fixture(scope="module")
def shared(trial):
    return recipe.setup(trial, data="planted")


@pytest.fixture(scope="module")
def smoke(shared, trial):
    """Every arm at one seed, measured once for this file."""
    before = [part.toarray() for part in shared]
    measured = {arm: recipe.measure(arm, shared, trial) for arm in ARMS}
    for part, was in zip(shared, before, strict=True):
        np.testing.assert_array_equal(part.toarray(), was)
    return measured


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert ids >= {"c1", "c2", "c3", "c4", "c5", "budget"}


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    # What a run that was stopped and goes on does: a new setup, and only the arms that are missing.
    shared = recipe.setup(trial, data="planted")
    for arm in ("random growth", "PEP", "NeuMF: DSL", "MultVAE: dense"):
        again = recipe.measure(arm, shared, trial)
        for metric, value in again.items():
            assert metric.startswith("clock_") or value == smoke[arm][metric], (arm, metric)


def test_arms_that_are_built_differently_differ(smoke):
    pairs = [
        ("DSL", arm)
        for arm in ("fixed mask", "DSL, accumulated", "smaller dense", "hashed", "dense")
    ]
    pairs += [("DSL", arm) for arm in ("random growth", "random pruning", "constant ratio")]
    for one, other in pairs:
        assert smoke[one]["recall_20"] != smoke[other]["recall_20"], (one, other)
    assert smoke["DSL, sampled"]["ndcg_20"] != smoke["DSL, accumulated"]["ndcg_20"]
    for arm in ("ratio 0.3", "ratio 0.7", "interval halved", "interval doubled"):
        assert smoke["DSL"]["ndcg_50"] != smoke[arm]["ndcg_50"], arm


def test_figure_draws_its_three_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    curves, parts, shifts = recipe.figure(measurements).axes
    assert len(curves.lines) >= 9
    assert len(parts.patches) == 12 and len(shifts.patches) == 6


def test_arms_of_a_seed_begin_alike_and_budgets_are_equal(shared, trial):
    fixed = training.run(shared, trial, density=0.2, rule=Static())
    moving = training.run(shared, trial, density=0.2, rule=DSL())
    assert sum(fixed.start.difference(moving.start).values()) == 0
    hashed = training.run(shared, trial, hashed=0.2)
    assert sum(p.numel() for p in hashed.model.parameters()) <= moving.masks.nnz
    assert fixed.masks.nnz == moving.masks.nnz == round(0.2 * moving.masks.numel)
    assert sum(fixed.start.difference(fixed.masks).values()) == 0
    assert sum(moving.start.difference(moving.masks).values()) > 0
    first, second = (training.begin(shared, trial)[0].table.weight for _ in range(2))
    assert first.equal(second)


def test_tickets_and_searches_meet_the_budget(shared, trial):
    for density, ticket in zip(
        (0.5, 0.2), training.prune_and_retrain(shared, trial, (0.5, 0.2)), strict=True
    ):
        assert ticket.masks.nnz == round(density * ticket.masks.numel)
    found = training.pep(shared, trial, 0.2)
    assert 0 < found.masks.nnz <= round(0.2 * found.masks.numel)


def test_violations_are_seen(shared, trial):
    """A rule that lets everything grow is noticed, so a count of 0 means something."""

    class Careless(DSL):
        def __call__(self, weights, masks, **how):
            return Masks({name: torch.ones_like(mask) for name, mask in masks.items()})

    assert training.run(shared, trial, density=0.5, rule=Careless()).violations > 0


def test_shifts_of_the_budget_by_hand():
    train = csr_array(np.array([[1, 1, 0], [1, 0, 0]], np.float32))
    keep = torch.tensor([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]) > 0
    moved = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0], [0, 0, 0]]) > 0
    outcome = training.Outcome(None, Masks({"t": keep}), Masks({"t": moved}), {}, 0.0, 0)
    assert training.budget_shifts(outcome, train) == {
        "popular_gain": 3.0,
        "item_gain": pytest.approx(4 / 3 - 1 / 2),
    }


def test_popularity_ranks_by_counts():
    train, test = np.zeros((2, 2, 30), np.float32)
    train[0, 0] = train[1, 0] = train[1, 29] = test[0, 29] = 1
    parts = training.Parts(csr_array(train), csr_array(test))
    assert training.popularity(parts)["ndcg@20"] == 1.0


def test_a_user_s_file(tmp_path, trial):
    lines = [f"u{u} " + " ".join(f"i{(u + j) % 9}" for j in range(6)) for u in range(9)]
    path = tmp_path / "mine.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    parts = recipe.setup(trial, interactions=path)
    assert parts.train.shape == (9, 9) and parts.test.nnz == 9
    path.write_text("u1 i1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="5 items for each user"):
        recipe.setup(trial, interactions=path)
