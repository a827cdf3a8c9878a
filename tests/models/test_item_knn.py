"""Item neighbourhoods against scikit-learn's cosine similarity, and against popularity."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.metrics.pairwise import cosine_similarity

from rarefy.data import planted_interactions, split_interactions
from rarefy.models import ItemKNN, evaluate_ranking
from rarefy.models import item_knn as module


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def x(generator):
    return planted_interactions(60, 40, per_user=8, generator=generator)


def test_scores_are_sums_of_cosines(x, monkeypatch):
    monkeypatch.setattr(module, "_ITEMS_AT_ONCE", 16)  # several blocks
    cosine = cosine_similarity(x.toarray().T.astype(float))
    np.fill_diagonal(cosine, 0)
    knn = ItemKNN(x, neighbours=40)
    np.testing.assert_allclose(knn.similarity.toarray(), cosine, atol=1e-12)
    users = torch.tensor([3, 0, 3])
    wanted = x.toarray()[users.numpy()] @ cosine
    np.testing.assert_allclose(knn.scores(users).numpy(), wanted, rtol=1e-5)


def test_the_k_largest_of_each_item_stay(x):
    cosine = cosine_similarity(x.toarray().T.astype(float))
    np.fill_diagonal(cosine, 0)
    similarity = ItemKNN(x, neighbours=5).similarity.toarray()
    for row, full in zip(similarity, cosine, strict=True):
        assert (row > 0).sum() == min(5, (full > 0).sum())
        np.testing.assert_allclose(np.sort(row)[-5:], np.sort(full)[-5:], atol=1e-12)


def test_shrinkage_by_hand():
    x = csr_array([[1, 1], [1, 0], [1, 1], [1, 0]])
    shrunk = ItemKNN(x, shrink=3.0).similarity.toarray()
    assert shrunk[0, 1] == pytest.approx(2 / (np.sqrt(4 * 2) + 3))
    assert shrunk[0, 0] == 0


def test_it_beats_popularity_where_there_is_structure(generator):
    x = planted_interactions(300, 100, per_user=20, generator=generator)
    parts = split_interactions(x, test=0.2, validation=0, generator=generator)
    counts = torch.from_numpy(parts.train.sum(axis=0))
    found = [
        evaluate_ranking(scores, parts.train, parts.test, k=20)["ndcg@20"]
        for scores in (ItemKNN(parts.train).scores, lambda users: counts.expand(len(users), -1))
    ]
    assert found[0] > 1.1 * found[1]


def test_items_that_nobody_chose_and_bad_requests():
    x = csr_array([[1, 0, 1], [1, 0, 1]])
    assert ItemKNN(x).scores(torch.tensor([0])).tolist()[0][1] == 0
    with pytest.raises(ValueError, match="neighbours must be at least 1, got 0"):
        ItemKNN(x, neighbours=0)
    with pytest.raises(ValueError, match="shrink must not be negative, got nan"):
        ItemKNN(x, shrink=float("nan"))
