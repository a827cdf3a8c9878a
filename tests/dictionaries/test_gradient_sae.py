"""g-SAE: TopK where gradients do not count, attribution where nothing else does."""

import pytest
import torch

from rarefy.dictionaries import ArrayStream, GradientSAE, SparseAutoencoder, load, save, train
from rarefy.operators import TopK


@pytest.fixture
def pairs():
    g = torch.Generator().manual_seed(0)
    return torch.randn(256, 12, generator=g), torch.randn(256, 12, generator=g)


def test_beta_zero_is_topk_bit_for_bit(pairs):
    x, g = pairs
    top = SparseAutoencoder(12, 48, TopK(3, by="positive"), seed=4)
    ours = GradientSAE(12, 48, k=3, beta=0.0, seed=4)
    losses = [
        train(sae, stream, steps=20, lr=1e-2)
        for sae, stream in (
            (top, ArrayStream(x, batch_size=64)),
            (ours, ArrayStream(x, g, batch_size=64)),
        )
    ]
    assert losses[0] == losses[1]
    assert torch.equal(top.decoder, ours.decoder)


def test_scores_are_the_formula_and_a_large_beta_is_attribution(pairs):
    x, g = pairs
    sae = GradientSAE(12, 48, k=3, beta=0.7, selection="gradient")
    sae.train()
    sae.encode(x, g)
    u = sae.pre_codes(x)
    effect = (g @ sae.decoder.t()).abs() / g.norm(dim=1).mean()
    torch.testing.assert_close(sae.score(u, g), u.relu() * (1 + 0.7 * effect))
    sae.eval()
    by_attribution = (u.relu() * effect).topk(3).indices.sort().values
    for beta in (1e8, float("inf")):
        sae.beta = beta
        chosen = sae.encode(x, g).support.indices.view(-1, 3).sort().values
        assert torch.equal(chosen, by_attribution)


def test_values_are_activations_and_negative_ones_are_never_kept(pairs):
    x, g = pairs
    sae = GradientSAE(12, 48, k=40, beta=100.0, selection="gradient").eval()
    z = sae.encode(x, g).dense()
    assert torch.equal(z, sae.pre_codes(x).relu())


def test_gradients_are_required_where_they_choose(pairs):
    x, g = pairs
    sae = GradientSAE(12, 48, k=3, selection="gradient").eval()
    with pytest.raises(ValueError, match='selection="gradient" chooses by gradients'):
        sae.encode(x)
    with pytest.raises(ValueError, match=r"gradients must be \(256, 12\) as x"):
        sae.encode(x, g[:1])
    sae.train()
    sae.selection = "activation"
    with pytest.raises(ValueError, match="training chooses by gradients"):
        sae.encode(x)
    assert int(sae.eval().encode(x).l0.max()) <= 3


def test_attribution_is_the_change_of_a_linear_loss(pairs):
    x, _ = pairs
    weight = torch.randn(12, generator=torch.Generator().manual_seed(1))
    g = weight.expand(256, -1)
    sae = GradientSAE(12, 48, k=4, selection="gradient").eval()
    attribution = sae.attribution(x, g).detach()
    z = sae.encode(x, g).dense().detach()
    for j in z[0].nonzero()[:, 0].tolist():
        without = z.clone()
        without[0, j] = 0
        change = ((z - without)[0] @ sae.decoder) @ weight
        torch.testing.assert_close(change.detach(), attribution[0, j])


def test_post_hoc_is_topk_with_another_choice(pairs):
    x, g = pairs
    top = SparseAutoencoder(12, 48, TopK(3, by="positive"), seed=2)
    train(top, ArrayStream(x, batch_size=64), steps=5)
    post = GradientSAE.from_topk(top, beta=2.0)
    assert post.selection == "gradient"
    assert not torch.equal(post(x, g), top(x))
    post.selection = "activation"
    assert torch.equal(post(x), top(x))
    with pytest.raises(ValueError, match="activation must be TopK"):
        GradientSAE.from_topk(SparseAutoencoder(4, 8, TopK(2)))


def test_threshold_is_a_latent_s_own_and_unseen_latents_stay_silent(pairs):
    x, g = pairs
    sae = GradientSAE(12, 48, k=2, selection="threshold", decay=0.9)
    with torch.no_grad():
        sae.encoder_bias[40:] = -1e3
    sae.encode(x, g)
    with torch.no_grad():
        sae.encoder_bias[40:] = 1e3
    support = sae.encode(x, g).support
    smallest = sae.threshold.clone()
    assert smallest[:40].isfinite().any()
    sae.eval()
    u = sae.pre_codes(x)
    codes = sae.encode(x)
    assert torch.equal(codes.dense() != 0, u > smallest)
    assert support.shape == (256, 48)


def test_an_unseen_latent_has_no_threshold(pairs):
    x, g = pairs
    sae = GradientSAE(12, 48, k=2, selection="threshold")
    with torch.no_grad():
        sae.encoder_bias[40:] = -1e3
    sae.encode(x, g)
    with torch.no_grad():
        sae.encoder_bias[40:] = 0
    assert sae.eval().encode(x).active[40:].sum() == 0


def test_calibrated_thresholds_keep_as_many_as_asked(pairs):
    x, g = pairs
    sae = GradientSAE(12, 48, k=2, selection="threshold")
    train(sae, ArrayStream(x, g, batch_size=64), steps=20)
    before = sae.threshold.clone()
    for l0 in (0.5, 2, 5.25):
        sae.calibrate(x, l0=l0)
        assert float(sae.encode(x).l0.float().mean()) == pytest.approx(l0, abs=0.02)
        seen = before.isfinite()
        ratio = sae.threshold[seen] / before[seen]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    for l0 in (0, 48):
        with pytest.raises(ValueError, match=f"positive latents with a threshold a row, got {l0}"):
            sae.calibrate(x, l0=l0)


def test_folders(pairs, tmp_path):
    x, g = pairs
    sae = GradientSAE(12, 48, k=3, beta=2.0, selection="gradient", encoder_bias=False)
    train(sae, ArrayStream(x, g, batch_size=64), steps=5)
    save(sae, tmp_path / "sae")
    opened = load(tmp_path / "sae")
    assert opened.config() == sae.config()
    assert torch.equal(opened(x, g), sae(x, g))
    opened.selection = sae.selection = "threshold"
    assert torch.equal(opened(x), sae(x))


def test_bad_input():
    with pytest.raises(ValueError, match="beta must be at least 0, got -1"):
        GradientSAE(4, 8, k=2, beta=-1)
    with pytest.raises(ValueError, match="selection must be one of"):
        GradientSAE(4, 8, k=2, selection="label")
    with pytest.raises(ValueError, match="k must be from 1 to the 8 latents, got 9"):
        GradientSAE(4, 8, k=9)
