"""Two-sided latents: counts, energies, labels, split axes, and the convention of signs."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from rarefy.dictionaries import (
    SparseAutoencoder,
    SparseCodes,
    auroc,
    bidirectionality,
    fix_signs,
    opposite_meaning,
    opposite_pairs,
)
from rarefy.operators import TopK


def test_counts_and_energies_are_those_of_the_dense_codes():
    z = TopK(3)(torch.randn(200, 10, generator=torch.Generator().manual_seed(0)))
    z[:, 0] = z[:, 0].abs()
    z[:, 1] = 0
    found = bidirectionality(SparseCodes.from_dense(z))
    assert torch.equal(found.positive, (z > 0).sum(0))
    assert torch.equal(found.negative, (z < 0).sum(0))
    energy = torch.stack([z.clamp(min=0).square().sum(0), z.clamp(max=0).square().sum(0)])
    balance = energy.min(0).values / energy.sum(0)
    torch.testing.assert_close(found.energy_balance, balance.nan_to_num(0))
    assert found.balance[0] == found.balance[1] == 0
    assert not found.alive[1] and found.alive[2:].all()
    assert not found.two_sided(n_min=5)[:2].any() and found.two_sided(n_min=5)[2:].all()
    assert not found.two_sided(n_min=200).any()


def test_small_codes_of_the_other_sign_are_not_a_second_side():
    z = torch.ones(100, 1)
    z[:50] = -0.05
    found = bidirectionality(SparseCodes.from_dense(z))
    assert found.balance == 0.5 and not found.two_sided().any()


def test_auroc_is_scikit_learns():
    generator = torch.Generator().manual_seed(1)
    score = torch.randint(6, (60,), generator=generator).numpy()
    y = (torch.rand(60, generator=generator) < 0.4).numpy()
    assert auroc(score, y) == pytest.approx(roc_auc_score(y, score))
    with pytest.raises(ValueError, match="got 60 positive and 0 negative"):
        auroc(score, y | True)


def test_opposite_meaning_needs_both_signs():
    y = torch.arange(60) < 30
    sign = torch.where(y, 1.0, -1.0)
    noise = torch.where(torch.arange(60) % 2 == 0, 1.0, -1.0)
    z = torch.stack([sign, -2 * sign, sign.clamp(min=0), noise], 1)
    z[40:, 0] = 0  # it need not fire everywhere
    found = opposite_meaning(SparseCodes.from_dense(z), y)
    assert found.tolist() == [True, True, False, False]


def test_opposite_pairs():
    generator = torch.Generator().manual_seed(2)
    rows = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    decoder = torch.cat([rows, -2 * rows[:3] + 0.05 * rows[5], rows[:1]])
    assert set(opposite_pairs(decoder)[:, 1].tolist()) == {8, 9, 10}
    assert len(opposite_pairs(rows)) == 0


def test_fixing_signs_changes_no_reconstruction():
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(3))
    sae = SparseAutoencoder(8, 24, TopK(3))
    with torch.no_grad():
        sae.encoder_bias.normal_(generator=torch.Generator().manual_seed(4))
    before = sae(x)
    turned = fix_signs(sae, x)
    assert turned.any() and not turned.all()
    torch.testing.assert_close(sae(x), before)
    codes = sae.encode(x)
    assert (codes.support.column_sums(codes.values) >= 0).all()
    assert not fix_signs(sae, x).any()
    with pytest.raises(ValueError, match="are not free"):
        fix_signs(SparseAutoencoder(8, 24, TopK(3, by="positive")), x)
