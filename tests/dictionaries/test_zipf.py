"""Zipf's law of densities, and Feature Choice by it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.dictionaries import (
    ArrayStream,
    BatchCoupled,
    FeatureChoice,
    SparseAutoencoder,
    ZipfLaw,
    evaluate,
    load,
    progressive_choice,
    save,
)
from rarefy.dictionaries.zipf import ranks_of
from rarefy.operators import BatchTopK, FeatureTopK, TopK


@pytest.mark.parametrize(("s", "q"), [(1.1, 5.0), (0.8, 20.0), (1.5, 2.0)])
def test_fit_recovers_the_law_from_a_million_draws(s, q):
    shares = (np.arange(1, 301) + q) ** -s
    counts = np.random.default_rng(0).multinomial(1_000_000, shares / shares.sum())
    law = ZipfLaw.fit(np.random.default_rng(1).permutation(counts / 1e6))
    assert law.s == pytest.approx(s, rel=0.05)
    assert law.q == pytest.approx(q, rel=0.05, abs=0.3)
    assert law.ks_distance(counts / 1e6) < 0.005


def test_fit_ignores_a_starved_tail_and_the_order():
    densities = ZipfLaw(1.0, 10.0, 0.5).expected(np.arange(1, 201))
    starved = densities.copy()
    starved[160:] *= 0.01
    law = ZipfLaw.fit(starved[::-1])
    assert (law.s, law.q, law.c) == pytest.approx((1.0, 10.0, 0.5), rel=1e-3)
    assert ZipfLaw.fit(starved, drop_tail=0.0).s > 1.2


def test_too_few_features_share_alike():
    with pytest.warns(UserWarning, match="5 features fire often enough"):
        law = ZipfLaw.fit(np.r_[np.full(5, 0.4), np.zeros(95)])
    assert law.expected([1, 50, 100]) == pytest.approx([0.02] * 3)


@settings(max_examples=60, deadline=None)
@given(
    features=st.integers(1, 80),
    rows=st.integers(1, 60),
    share=st.floats(0, 1),
    s=st.floats(0, 3),
    q=st.floats(0, 50),
)
def test_counts_give_away_exactly_the_total_and_descend(features, rows, share, s, q):
    total = int(share * features * rows)
    counts = ZipfLaw(s, q).counts(features, rows, total=total)
    assert counts.sum() == total
    assert counts.max(initial=0) <= rows
    assert counts.min() >= (total >= features)
    assert (np.diff(counts) <= 1).all()


def test_bad_input():
    with pytest.raises(ValueError, match="densities must be one finite number"):
        ZipfLaw.fit([0.1, -0.1])
    with pytest.raises(ValueError, match="drop_tail must be at least 0 and below 1, got 1"):
        ZipfLaw.fit([0.1], drop_tail=1)
    with pytest.raises(ValueError, match="total must be from 0 to 3 features times 2 rows, got 7"):
        ZipfLaw().counts(3, 2, total=7)


def test_every_latent_gets_its_count_and_ranks_follow_demand():
    choice = FeatureChoice(np.linspace(1, 0.1, 30), k=4, law=ZipfLaw(), refresh_every=1, smooth=0.0)
    u = torch.rand(50, 30, generator=torch.Generator().manual_seed(0)) + torch.arange(30) / 10
    support = choice.select(u)
    assert torch.equal(torch.bincount(support.indices, minlength=30), choice.counts(50))
    assert int(choice.counts(50).sum()) == 200
    # at first by the densities given, after a look by what Mutual Choice would pick of u
    assert choice.counts(50)[0] > choice.counts(50)[29]
    choice.select(u)
    wanted = BatchTopK(4, by="positive").mask(u).sum(0)
    assert ranks_of(choice.density).tolist() == ranks_of(wanted).tolist()
    assert choice.counts(50)[29] > choice.counts(50)[0]


def test_batches_of_one_row_are_topk_and_full_columns_keep_what_is_positive():
    u = torch.randn(1, 40, generator=torch.Generator().manual_seed(1))
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(2))
    mutual = BatchTopK(5, by="positive").mask(u)
    assert torch.equal(mutual, TopK(5, by="positive").mask(u))
    sae = SparseAutoencoder(8, 40, BatchCoupled(FeatureTopK(20, by="positive"), 40))
    codes = sae.encode(x)
    assert torch.equal(codes.dense(), sae.pre_codes(x).relu())


@pytest.fixture(scope="module")
def progressive():
    g = torch.Generator().manual_seed(0)
    atoms = torch.nn.functional.normalize(torch.randn(40, 16, generator=g), dim=1)
    shares = 1 / (torch.arange(40) + 3.0)
    x = ((torch.rand(4096, 40, generator=g) < shares).float()) @ atoms
    sae = SparseAutoencoder(16, 64, BatchCoupled(BatchTopK(4, by="positive"), 64, decay=0.9))
    law = progressive_choice(sae, ArrayStream(x, batch_size=256), steps=150, lr=5e-3, rows=1024)
    return sae, law, x


def test_progressive_choice_leaves_no_latent_dead(progressive):
    sae, law, x = progressive
    assert law.s > 0
    assert isinstance(sae.activation, BatchCoupled)
    assert sum(sae.activation.projection.k) == 4 * 256
    measured = evaluate(sae, x)
    assert measured.dead == 0
    assert measured.fvu < 0.3


def test_a_row_s_code_does_not_depend_on_its_batch(progressive):
    sae, _, x = progressive
    whole = sae.encode(x[:64]).dense()
    assert torch.equal(torch.cat([sae.encode(r[None]).dense() for r in x[:64]]) != 0, whole != 0)


def test_folders(progressive, tmp_path):
    sae, _, x = progressive
    save(sae, tmp_path / "sae")
    torch.testing.assert_close(load(tmp_path / "sae")(x[:50]), sae(x[:50]))


def test_progressive_choice_wants_mutual_choice_first():
    stream = ArrayStream(torch.randn(8, 4), batch_size=4)
    sae = SparseAutoencoder(4, 8, TopK(2, by="positive"))
    with pytest.raises(ValueError, match="starts from BatchCoupled.*got TopK"):
        progressive_choice(sae, stream, steps=3)
    sae = SparseAutoencoder(4, 8, BatchCoupled(BatchTopK(2, by="positive"), 8))
    with pytest.raises(ValueError, match="mutual must leave each phase a step of the 3, got 1"):
        progressive_choice(sae, stream, steps=3, mutual=1)
