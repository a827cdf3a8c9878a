"""Recommenders against their formulas written out; ranking against brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from rarefy.models import MF, LightGCN, MultVAE, NeuMF, evaluate_ranking, rank_items


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    return csr_array((rng.random((7, 5)) < 0.4).astype(np.float32))


@pytest.fixture
def batch():
    return torch.tensor([0, 3, 3]), torch.tensor([1, 4, 0]), torch.tensor([2, 2, 3])


def test_lightgcn_against_a_dense_graph(x, batch):
    model = LightGCN(x, dim=4, layers=2, generator=seeded())
    dense = np.block([[np.zeros((7, 7)), x.toarray()], [x.toarray().T, np.zeros((5, 5))]])
    degree = dense.sum(1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0)
    a = torch.tensor(scale[:, None] * dense * scale, dtype=torch.float32)
    table = model.table.weight.detach().clone().requires_grad_()
    smooth = (table + a @ table + a @ a @ table) / 3
    users, positives, negatives = batch
    torch.testing.assert_close(model.scores(users), (smooth[users] @ smooth[7:].T).detach())
    margin = (smooth[users] * (smooth[7 + positives] - smooth[7 + negatives])).sum(1)
    squares = sum(table[ids].square().sum() for ids in (users, 7 + positives, 7 + negatives))
    expected = -margin.sigmoid().log().mean() + 1e-4 * 0.5 * squares / 3
    loss = model.loss(*batch)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(model.table.weight.grad, table.grad)
    assert "graph" not in model.state_dict()


def test_mf_is_lightgcn_without_layers(x, batch):
    mf = MF(x, dim=4, generator=seeded())
    gcn = LightGCN(x, dim=4, layers=0, generator=seeded(1))
    with torch.no_grad():
        gcn.table.weight.copy_(torch.cat([mf.user.weight, mf.item.weight]))
    torch.testing.assert_close(mf.loss(*batch), gcn.loss(*batch))
    torch.testing.assert_close(mf.scores(batch[0]), gcn.scores(batch[0]))


def test_neumf_scores_every_pair_as_its_forward_does(x, batch):
    model = NeuMF(x, dim=4, generator=seeded())
    users = torch.tensor([0, 3, 6])
    scores = model.scores(users)
    assert model.training
    model.eval()
    for row, user in enumerate(users):
        torch.testing.assert_close(
            scores[row], model(user.expand(5), torch.arange(5)).detach(), rtol=1e-4, atol=1e-6
        )
    positive, negative = model(batch[0], batch[1]), model(batch[0], batch[2])
    expected = -(positive.sigmoid().log().mean() + (1 - negative.sigmoid()).log().mean())
    torch.testing.assert_close(model.loss(*batch), expected)


def test_dropout_keeps_the_mean_and_follows_its_generator(x, batch):
    losses = [NeuMF(x, generator=seeded(), dropout=p).loss(*batch).item() for p in (0.2, 0.2, 0.0)]
    assert losses[0] == losses[1] != losses[2]
    model = MultVAE(x, latent=3, hidden=4, generator=seeded())
    kept = [model._rows_of(torch.tensor([0])).sum().item() for _ in range(3)]
    assert kept == [x[[0]].sum()] * 3


def test_multvae_against_its_formula(x):
    model = MultVAE(x, latent=3, hidden=4, anneal=4, generator=seeded()).eval()
    users = torch.tensor([1, 2])
    rows = torch.tensor(x[[1, 2]].toarray())
    units = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    first, _, second = model.encoder
    mean, log_variance = second(first(units).tanh()).chunk(2, 1)
    third, _, fourth = model.decoder
    logits = fourth(third(mean).tanh())
    # KL of a normal with these moments from the standard one, by torch's own formula.
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(
        normal(mean, (log_variance / 2).exp()), normal(torch.zeros(3), torch.ones(3))
    ).sum(1)
    likelihood = (rows * logits.softmax(1).log()).sum(1)
    for batches in range(1, 7):
        expected = (min(1, batches / 4) * 0.2 * kl - likelihood).mean()
        torch.testing.assert_close(model.loss(users, users, users), expected)
    torch.testing.assert_close(model.scores(users), logits.detach())


@pytest.mark.parametrize("make", [MF, LightGCN, NeuMF, MultVAE])
def test_every_model_names_its_embeddings_and_is_seeded(make, x):
    model, twin = (make(x, generator=seeded(4)) for _ in range(2))
    parameters = dict(model.named_parameters())
    for name in make.embeddings:
        assert parameters[name].ndim == 2
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert a.equal(b)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_ranking_against_brute_force(seed, k):
    rng = np.random.default_rng(seed)
    n, items = 9, 12
    drawn = rng.integers(0, 3, (n, items))
    # At least k items are left to every user.
    drawn[:, :4] = np.where(drawn[:, :4] == 1, 0, drawn[:, :4])
    drawn[0, 0] = 2
    train, test = (csr_array((drawn == part).astype(np.float32)) for part in (1, 2))
    scores = torch.tensor(rng.permuted(np.tile(np.arange(items), (n, 1)), axis=1)).float()
    recalls, gains, hits = [], [], []
    for user in range(n):
        wanted = set(np.flatnonzero(drawn[user] == 2))
        if not wanted:
            continue
        allowed = [i for i in range(items) if drawn[user, i] != 1]
        top = sorted(allowed, key=lambda i: -scores[user, i])[:k]
        recalls.append(len(wanted & set(top)) / len(wanted))
        hits.append(bool(wanted & set(top)))
        gain = sum(1 / math.log2(rank + 2) for rank, item in enumerate(top) if item in wanted)
        gains.append(gain / sum(1 / math.log2(r + 2) for r in range(min(k, len(wanted)))))
    found = evaluate_ranking(lambda users: scores[users], train, test, k=k)
    expected = [np.mean(recalls), np.mean(gains), np.mean(hits)]
    np.testing.assert_allclose(list(found.values()), expected)


def test_ndcg_against_scikit_learn():
    from sklearn.metrics import ndcg_score

    rng = np.random.default_rng(0)
    test = csr_array((rng.random((30, 40)) < 0.3).astype(np.float32))
    scores = torch.tensor(rng.permuted(np.tile(np.arange(40), (30, 1)), axis=1)).float()
    found = evaluate_ranking(lambda users: scores[users], csr_array(test.shape), test, k=(5, 10))
    for k in (5, 10):
        assert found[f"ndcg@{k}"] == pytest.approx(ndcg_score(test.toarray(), scores, k=k))


def test_bad_requests(x):
    with pytest.raises(ValueError, match="layers must not be negative"):
        LightGCN(x, layers=-1, generator=seeded())
    with pytest.raises(ValueError, match="a table needs a row and a column"):
        MF(x, dim=0, generator=seeded())
    with pytest.raises(ValueError, match="differ in shape"):
        evaluate_ranking(lambda u: u, x, csr_array((7, 6)))
    with pytest.raises(ValueError, match="test is empty"):
        evaluate_ranking(lambda u: u, x, csr_array(x.shape))
    with pytest.raises(ValueError, match="k must be from 1 to the 2 items that every user has"):
        rank_items(torch.zeros(1, 5), k=3, exclude=csr_array([[1, 1, 1, 0, 0]]))
