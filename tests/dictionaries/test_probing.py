"""Probing: planted dictionaries whose latents are known to carry, split or mix the labels."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from rarefy.dictionaries import (
    Crossed,
    Labelled,
    SparseAutoencoder,
    ablate,
    absorption,
    detect,
    label_latents,
    mean_difference,
    sparse_probe,
    spurious_removal,
    targeted_removal,
    unlearning_latents,
)
from rarefy.dictionaries.probing import _best_cut, _columns
from rarefy.operators import L1


def identity_dictionary(d):
    """A dictionary whose latents are the axes: its codes are the positive parts of x."""
    sae = SparseAutoencoder(d, d, L1(0.0, positive=True))
    with torch.no_grad():
        sae.encoder.copy_(torch.eye(d))
        sae.decoder.copy_(torch.eye(d))
    return sae.eval()


def rows(n, d, seed=0):
    """Noise, and three labels that add to the axes 0, 1 and 2."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.3 * torch.randn(n, d, generator=generator)
    labels = torch.rand(n, 3, generator=generator) < 0.5
    x[:, :3] += 2.0 * labels
    return x, labels


def test_the_planted_latent_is_found():
    (x, y), (test_x, test_y) = rows(400, 8), rows(400, 8, seed=1)
    sae = identity_dictionary(8)
    probe = sparse_probe(sae, Labelled(x, y[:, 1]), Labelled(test_x, test_y[:, 1]))
    assert probe.latents.tolist() == [1]
    assert probe.accuracy > 0.98 and probe.auroc > 0.98
    wrong = sparse_probe(sae, Labelled(x, y[:, 1].roll(1)), Labelled(test_x, test_y[:, 1]), k=2)
    assert wrong.accuracy < 0.8
    found = detect(sae, Labelled(x, ~y[:, 2]), Labelled(test_x, ~test_y[:, 2]))
    assert (found.latent, found.sign) == (2, -1) and found.f1 > 0.95
    assert label_latents(sae, Labelled(x, y[:, 0]), n=1).tolist() == [0]


def test_mean_difference_and_columns_are_those_of_the_dense_codes():
    x, y = rows(100, 6)
    codes = identity_dictionary(6).encode(x)
    z = codes.dense()
    expected = z[y[:, 0]].mean(0) - z[~y[:, 0]].mean(0)
    torch.testing.assert_close(mean_difference(codes, y[:, 0]), expected)
    np.testing.assert_array_equal(_columns(codes, torch.tensor([4, 1])), z[:, [4, 1]].detach())


def test_best_cut_is_the_best_of_all_cuts():
    generator = np.random.default_rng(0)
    for _ in range(5):
        score, y = generator.integers(0, 5, 30), generator.random(30) < 0.4
        cut, f1 = _best_cut(score, y)
        assert f1 == pytest.approx(max(f1_score(y, score >= c) for c in np.unique(score)))
        assert f1_score(y, score >= cut) == pytest.approx(f1)


def test_ablation_takes_off_what_the_latents_add():
    x, _ = rows(20, 6)
    sae = identity_dictionary(6)
    without = ablate(sae, x.view(4, 5, 6), torch.tensor([2])).view(20, 6)
    expected = x.clone()
    expected[:, 2] -= x[:, 2].clamp(min=0)
    torch.testing.assert_close(without, expected)


def test_spurious_removal_cures_where_the_attribute_has_its_own_latent():
    sae = identity_dictionary(8)
    parts = []
    for seed in (0, 1):
        x, y = rows(600, 8, seed)
        x[:, 1] *= 3  # the spurious attribute is the easier one to read
        parts.append(Crossed(x, y[:, 0], y[:, 1]))
    result = spurious_removal(sae, *parts, n=1)
    assert result.before < 0.9 < result.unbiased
    assert result.score > 0.8
    # A dictionary whose every latent mixes both cannot remove the one and keep the other.
    mixed = identity_dictionary(8)
    with torch.no_grad():
        turn = torch.eye(8)
        turn[:2, :2] = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]) / 2**0.5
        mixed.encoder.copy_(turn)
        mixed.decoder.copy_(turn)
    assert spurious_removal(mixed, *parts, n=1).score < result.score


def test_targeted_removal_hurts_the_class_meant():
    generator = torch.Generator().manual_seed(2)
    x = 0.2 * torch.randn(600, 6, generator=generator)
    y = torch.arange(600) % 3
    x[torch.arange(600), y] += 2
    result = targeted_removal(identity_dictionary(6), (x[:400], y[:400]), (x[400:], y[400:]), n=1)
    assert result.drops.shape == (3, 3)
    assert (np.diag(result.drops) > 0.2).all()
    assert result.score == pytest.approx(
        np.diag(result.drops).mean() - (result.drops.sum() - np.trace(result.drops)) / 6
    )
    assert result.score > 0.2


def test_absorption_is_the_share_of_rows_taken_over():
    generator = torch.Generator().manual_seed(3)
    n = 800
    y = torch.rand(n, generator=generator) < 0.5
    child = y & (torch.rand(n, generator=generator) < 0.25)
    x = 0.1 * torch.randn(n, 6, generator=generator)
    x[:, 0] += 2.0 * y
    x[:, 1] += 1.0 * child
    sae = identity_dictionary(6)
    train, test = Labelled(x[:400], y[:400]), Labelled(x[400:], y[400:])
    assert absorption(sae, train, test) == 0
    with torch.no_grad():
        # The parent keeps silent where the child speaks, and the child says both.
        sae.encoder[0] = torch.tensor([1.0, -4.0, 0, 0, 0, 0])
        sae.decoder[1] = torch.tensor([2.0, 1.0, 0, 0, 0, 0]) / 5**0.5
    expected = float(child[400:][y[400:]].float().mean())
    assert absorption(sae, train, test) == pytest.approx(expected, abs=0.05)


def test_unlearning_takes_latents_that_are_rare_elsewhere():
    x = torch.zeros(100, 5)
    x[:50, 0] = 1.0
    x[:30, 1] = 1.0
    x[:, 2] = 1.0
    latents = unlearning_latents(identity_dictionary(5), x[:50], x[50:], n=4)
    assert latents.tolist() == [0, 1]


def test_bad_input():
    x, y = rows(50, 4)
    sae = identity_dictionary(4)
    with pytest.raises(ValueError, match="k must be from 1 to the 4 latents, got 5"):
        sparse_probe(sae, Labelled(x, y[:, 0]), Labelled(x, y[:, 0]), k=5)
    with pytest.raises(ValueError, match="both values must occur, got 50 true of 50"):
        sparse_probe(sae, Labelled(x, y[:, 0] | True), Labelled(x, y[:, 0]))
