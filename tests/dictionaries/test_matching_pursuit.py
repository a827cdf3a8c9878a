"""MP-SAE: the kernel against autograd through plain steps, and what the method promises."""

import json

import pytest
import torch
from safetensors.torch import load_file

from rarefy.dictionaries import (
    ArrayStream,
    MatchingPursuitSAE,
    Revive,
    SparseAutoencoder,
    load,
    save,
    train,
)
from rarefy.operators import TopK, matching_pursuit


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("k", "atoms"), [(5, 40), (40, 100), (40, 64)])
def test_kernel_and_its_backward_are_autograds(signed, k, atoms):
    sae = MatchingPursuitSAE(24, atoms, k=k, signed=signed, tol=0.3, decoder_bias=False)
    g = torch.Generator().manual_seed(7)
    data, weight = torch.randn(32, 24, generator=g), torch.randn(32, k, generator=g)
    x = data.clone().requires_grad_()
    encoded = sae.encode_all(x)
    loss = (encoded.v.view(32, k) * weight).sum() + (x - sae.decode(encoded.codes)).square().sum()
    loss.backward()
    exact_x = data.double().requires_grad_()
    exact_d = sae.decoder.detach().double().requires_grad_()
    c, j = matching_pursuit(exact_x, exact_d, k, signed=signed, tol=0.3)
    z = torch.zeros(32, atoms, dtype=torch.float64).scatter_add(1, j, c)
    ((c * weight).sum() + (exact_x - z @ exact_d).square().sum()).backward()
    assert torch.equal(encoded.codes.support.indices.view(32, k), j)
    torch.testing.assert_close(encoded.v.view(32, k).double(), c, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(x.grad.double(), exact_x.grad, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(sae.decoder.grad.double(), exact_d.grad, atol=1e-4, rtol=1e-3)


def test_one_step_is_topk_of_one_with_a_tied_encoder():
    mp = MatchingPursuitSAE(8, 30, k=1, seed=3)
    top = SparseAutoencoder(8, 30, TopK(1, by="positive"), seed=3)
    x = torch.randn(50, 8)
    torch.testing.assert_close(mp(x), top(x))


def test_more_steps_never_raise_a_rows_error():
    sae = MatchingPursuitSAE(16, 60, k=4)
    norms = sae.residual_norms(torch.randn(40, 16), 50)
    assert (norms.diff(dim=1) <= 1e-5).all()
    assert norms.shape == (40, 51)


def test_it_learns_a_planted_dictionary_and_l0_counts_an_atom_once():
    g = torch.Generator().manual_seed(0)
    truth = torch.linalg.qr(torch.randn(12, 12, generator=g))[0]
    z = (torch.rand(4000, 12, generator=g) < 0.15) * (1 + torch.rand(4000, 12, generator=g))
    sae = MatchingPursuitSAE(12, 12, k=4, tol=0.05, seed=1)
    history = train(
        sae, ArrayStream(z @ truth, batch_size=256), steps=400, lr=2e-2, losses=[Revive()]
    )
    assert history[-1] < 0.05 * history[0]
    cosines = (sae.decoder.detach() @ truth.t()).abs().amax(1)
    assert (cosines > 0.95).sum() >= 10


def test_a_repeated_atom_counts_once():
    sae = MatchingPursuitSAE(2, 2, k=8, signed=True, decoder_bias=False)
    with torch.no_grad():
        sae.decoder.copy_(torch.tensor([[1.0, 0.0], [0.8, 0.6]]))
    codes = sae.encode(torch.tensor([[1.0, 1.0]]))
    assert (codes.values != 0).sum() > 2
    assert codes.l0.tolist() == [2]


def test_folders(tmp_path):
    sae = MatchingPursuitSAE(6, 20, k=3, signed=True)
    x = torch.randn(10, 6)
    save(sae, tmp_path / "ours")
    assert torch.equal(load(tmp_path / "ours")(x), sae(x))
    plain = MatchingPursuitSAE(6, 20, k=3)
    save(plain, tmp_path / "theirs", format="saelens")
    config = json.loads((tmp_path / "theirs" / "cfg.json").read_text())
    assert config["architecture"] == "matching_pursuit" and config["max_iterations"] == 3
    assert set(load_file(tmp_path / "theirs" / "sae_weights.safetensors")) == {"W_dec", "b_dec"}
    torch.testing.assert_close(load(tmp_path / "theirs")(x), plain(x))
    with pytest.raises(ValueError, match="signed"):
        save(sae, tmp_path / "no", format="saelens")


def test_bad_arguments():
    with pytest.raises(ValueError, match="k must be from 1, got 0"):
        MatchingPursuitSAE(6, 20, k=0)
    with pytest.raises(ValueError, match="k must be from 1 to 6, got 7"):
        MatchingPursuitSAE(6, 20, k=7, orthogonal=True)
