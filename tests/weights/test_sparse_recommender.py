"""The estimator: what it trains, keeps, recommends and refuses."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from rarefy.data import planted_interactions, split_interactions
from rarefy.weights import DSL, SparseRecommender, Static


@pytest.fixture(scope="module")
def parts():
    g = torch.Generator().manual_seed(0)
    x = planted_interactions(150, 60, per_user=12, popularity=0.3, rank=3, generator=g)
    return split_interactions(x, test=0.25, validation=0, generator=g)


QUICK = {"steps": 120, "update_every": 10, "batch_size": 256, "learning_rate": 0.02}


@pytest.mark.parametrize("model", ["lightgcn", "mf", "neumf", "multvae"])
def test_every_model_is_sparse_and_better_than_chance(parts, model):
    settings = {"latent": 8, "hidden": 16} if model == "multvae" else {"dim": 16}
    rate = 0.002 if model == "multvae" else 0.02
    sparse = SparseRecommender(
        model, density=0.3, settings=settings, **QUICK | {"learning_rate": rate}
    ).fit(parts.train)
    for name, mask in sparse.masks_.items():
        assert int(mask.sum()) == pytest.approx(0.3 * mask.numel(), abs=1)
        weight = dict(sparse.model_.named_parameters())[name]
        assert not weight[~mask].any()
    chance = 10 / (60 - 9)
    assert sparse.evaluate(parts.test, k=10)["recall@10"] > 1.3 * chance
    assert sparse.ever_active_ > 0.35


def test_what_is_stored_scores_as_the_model_does(parts):
    sparse = SparseRecommender("mf", density=0.2, **QUICK).fit(parts.train)
    stored = sparse.export()
    users = torch.arange(10)
    scores = stored["item.weight"].score(stored["user.weight"].rows(users))
    np.testing.assert_allclose(scores, sparse.scores(users), rtol=1e-4, atol=1e-5)
    nnz, rows = sparse.masks_.nnz, 150 + 60
    assert sum(table.nbytes for table in stored.values()) == 5 * nnz + 4 * (rows + 2)
    halves = sparse.export(dtype=torch.float16)
    assert sum(table.nbytes for table in halves.values()) == 3 * nnz + 4 * (rows + 2)


def test_recommendations_leave_out_what_was_seen_and_are_in_order(parts):
    sparse = SparseRecommender("lightgcn", density=0.5, **QUICK).fit(parts.train)
    found = sparse.recommend([3, 7], k=5)
    scores = sparse.scores([3, 7])
    for user, row, items in zip((3, 7), scores, found, strict=True):
        assert not parts.train[[user]].toarray()[0, items].any()
        free = np.flatnonzero(parts.train[[user]].toarray()[0] == 0)
        assert items.tolist() == free[np.argsort(-row[free])][:5].tolist()
    everything = sparse.recommend([3], k=60, exclude_seen=False)
    assert sorted(everything[0]) == list(range(60))


def test_a_seed_says_everything_and_rules_matter(parts):
    one, again, other = (
        SparseRecommender("mf", density=0.2, rule=rule, **QUICK).fit(parts.train.toarray())
        for rule in (DSL(), DSL(), Static())
    )
    np.testing.assert_array_equal(one.scores([0]), again.scores([0]))
    assert sum(one.masks_.difference(other.masks_).values()) > 0
    assert other.ever_active_ == pytest.approx(0.2, abs=1e-3)


def test_a_dense_one_has_no_masks(parts):
    dense = SparseRecommender("mf", density=1, **QUICK).fit(parts.train)
    assert not dense.masks_ and not dense.export()


def test_masks_that_cannot_move_are_warned_of(parts):
    with pytest.warns(UserWarning, match="the masks never move"):
        SparseRecommender("mf", steps=5, update_every=5, batch_size=8).fit(parts.train)


def test_bad_requests(parts):
    for how, message in (
        ({"model": "als"}, "model must be one of lightgcn|mf"),
        ({"density": 0.0}, r"density must be in \(0, 1\], got 0.0"),
        ({"density": float("nan")}, "density must be in"),
        ({"update_every": 0}, "update_every must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            SparseRecommender(**how)
    fresh = SparseRecommender("mf", **QUICK)
    with pytest.raises(RuntimeError, match="call fit first"):
        fresh.recommend([0])
    with pytest.raises(ValueError, match="interactions must be 0 or 1, got 3.0"):
        fresh.fit(csr_array([[0.0, 3.0]]))
    with pytest.raises(ValueError, match="got 1 dimensions"):
        fresh.fit([1, 0])
    fresh.fit(parts.train)
    with pytest.raises(ValueError, match="users must be from 0 to 149, got 0 to 150"):
        fresh.recommend([0, 150])
    with pytest.raises(ValueError, match="k must be from 1 to"):
        fresh.recommend([0], k=60)
    with pytest.raises(ValueError, match="differ in shape"):
        fresh.evaluate(csr_array((3, 3)))
