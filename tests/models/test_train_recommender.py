"""Triples are what they say, drawn uniformly, and a model learns from them."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from rarefy.data import planted_interactions, split_interactions
from rarefy.models import MF, LightGCN, MultVAE, NeuMF, evaluate_ranking
from rarefy.models.train_recommender import TripleSampler, train_recommender


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_triples_hold_a_chosen_item_and_another_and_are_uniform():
    x = np.array([[1, 1, 1, 0, 0], [0] * 5, [0, 0, 0, 0, 1]])
    users, positives, negatives = TripleSampler(csr_array(x)).sample(6000, generator=seeded())
    assert x[users, positives].all() and not x[users, negatives].any()
    # Users first, then their items: 1/6 each for the first user's three, 1/2 for the other's one.
    for user, item, share in ((0, 0, 1 / 6), (0, 2, 1 / 6), (2, 4, 1 / 2)):
        count = int(((users == user) & (positives == item)).sum())
        assert abs(count - 6000 * share) < 5 * (6000 * share * (1 - share)) ** 0.5
    for user, item, share in ((0, 3, 1 / 4), (0, 4, 1 / 4), (2, 1, 1 / 8)):
        count = int(((users == user) & (negatives == item)).sum())
        assert abs(count - 6000 * share) < 5 * (6000 * share * (1 - share)) ** 0.5


def test_unsorted_rows_are_sorted_first():
    x = csr_array((np.ones(3), np.array([3, 0, 2]), np.array([0, 3])), shape=(1, 5))
    _, positives, negatives = TripleSampler(x).sample(200, generator=seeded())
    assert {*positives.tolist()} == {0, 2, 3} and {*negatives.tolist()} == {1, 4}


@pytest.mark.parametrize(
    ("make", "rate"), [(MF, 0.02), (LightGCN, 0.02), (NeuMF, 0.02), (MultVAE, 1e-3)]
)
def test_every_model_beats_popularity(make, rate):
    x = planted_interactions(150, 60, per_user=12, popularity=0.3, rank=3, generator=seeded())
    parts = split_interactions(x, test=0.25, validation=0, generator=seeded())
    settings = {"latent": 16, "hidden": 32} if make is MultVAE else {"dim": 16}
    model = make(parts.train, generator=seeded(), **settings)
    adam = torch.optim.Adam(model.parameters(), lr=rate)
    train_recommender(model, parts.train, adam, steps=300, batch_size=256, generator=seeded())
    popularity = torch.tensor(parts.train.sum(axis=0)).float()
    ours, popular = (
        evaluate_ranking(scores, parts.train, parts.test, k=10)["ndcg@10"]
        for scores in (model.scores, lambda users: popularity.expand(len(users), -1))
    )
    assert ours > 1.15 * popular


def test_the_rate_falls_and_training_can_be_ended():
    x = planted_interactions(20, 30, per_user=5, generator=seeded())
    model = MF(x, dim=4, generator=seeded())
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    rates = []

    def note(step):
        rates.append(sgd.param_groups[0]["lr"])
        return step == 8

    train_recommender(model, x, sgd, steps=10, batch_size=4, generator=seeded(), on_step=note)
    expected = [0.01 + 0.99 / 2 * (1 + np.cos(np.pi * t / 10)) for t in range(8)]
    np.testing.assert_allclose(rates, expected)


def test_bad_requests():
    x = csr_array(np.eye(3))
    model = MF(x, dim=2, generator=seeded())
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        train_recommender(model, x, sgd, steps=0, generator=seeded())
    with pytest.raises(ValueError, match="interactions is empty"):
        TripleSampler(csr_array((3, 3)))
    with pytest.raises(ValueError, match="user 1 has all 2 items"):
        TripleSampler(csr_array([[1, 0], [1, 1]]))
