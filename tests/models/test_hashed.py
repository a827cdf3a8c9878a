"""Hashed tables: rows by the formula, all of them different, and in a recommender that learns."""

import math

import pytest
import torch

from rarefy.data import planted_interactions
from rarefy.models import MF, LightGCN, MultVAE, NeuMF, QREmbedding, hash_tables_
from rarefy.models.train_recommender import train_recommender


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("combine", ["multiply", "add", "hash"])
def test_rows_one_by_one(combine):
    table = QREmbedding(23, 4, buckets=7, combine=combine, generator=gen())
    for i in range(23):
        wanted = table.remainder[i % 7]
        if combine != "hash":
            quotient = table.quotient[i // 7]
            wanted = wanted * quotient if combine == "multiply" else wanted + quotient
        torch.testing.assert_close(table(torch.tensor(i)), wanted)
    torch.testing.assert_close(table.weight, table(torch.arange(23)))
    distinct = len(table.weight.detach().unique(dim=0))
    assert distinct == (7 if combine == "hash" else 23)


@pytest.mark.parametrize("combine", ["multiply", "add", "hash"])
def test_entries_have_the_spread_asked_for(combine):
    table = QREmbedding(10_000, 64, buckets=100, combine=combine, std=0.1, generator=gen())
    assert table.weight.detach().std().item() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("make", [MF, LightGCN, NeuMF])
@pytest.mark.parametrize("combine", ["multiply", "hash"])
def test_a_recommender_learns_from_hashed_tables(make, combine):
    x = planted_interactions(120, 80, per_user=8, generator=gen())
    model = make(x, generator=gen())
    names = model.embeddings
    before = {name: dict(model.named_parameters())[name].numel() for name in names}
    hash_tables_(model, density=0.4, combine=combine, generator=gen())
    for name in names:
        table = model.get_submodule(name.removesuffix(".weight"))
        held = sum(p.numel() for p in table.parameters())
        assert 0.3 * before[name] < held <= 0.4 * before[name]
    sampled = [torch.arange(40) % n for n in (120, 80, 79)]
    first = float(model.loss(*sampled).detach())
    adam = torch.optim.Adam(model.parameters(), lr=0.02)
    train_recommender(model, x, adam, steps=30, batch_size=256, generator=gen())
    assert math.isfinite(first) and model.scores(torch.arange(3)).shape == (3, 80)
    chosen, others = x.toarray() > 0, x.toarray() == 0
    scores = model.scores(torch.arange(120)).numpy()
    assert scores[chosen].mean() > scores[others].mean() + 0.1


def test_bad_requests():
    x = planted_interactions(60, 40, per_user=8, generator=gen())
    for how, match in (
        ({"buckets": 0}, "buckets from 1 to the 10 rows, got 4 and 0"),
        ({"buckets": 11}, "got 4 and 11"),
        ({"buckets": 2, "combine": "xor"}, "combine must be multiply, add or hash, got 'xor'"),
    ):
        with pytest.raises(ValueError, match=match):
            QREmbedding(10, 4, generator=gen(), **how)
    with pytest.raises(ValueError, match="allows 6 rows for a table of 60; hashed tables need 16"):
        hash_tables_(MF(x, generator=gen()), density=0.1, generator=gen())
    with pytest.raises(ValueError, match=r"density must be in \(0, 1\]"):
        hash_tables_(MF(x, generator=gen()), density=0.0, generator=gen())
    with pytest.raises(ValueError, match="MultVAE has no embedding table to hash"):
        hash_tables_(MultVAE(x, generator=gen()), density=0.5, generator=gen())
