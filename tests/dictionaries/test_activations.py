"""Selections: the kernels of single precision keep what plain torch keeps in double."""

import pytest
import torch

from rarefy.dictionaries import (
    BatchCoupled,
    Everything,
    Gated,
    JumpReLU,
    SparseAutoencoder,
    SparseCodes,
)
from rarefy.dictionaries.activations import _largest_of_zero, select
from rarefy.operators import (
    L0,
    L1,
    MCP,
    SCAD,
    BatchTopK,
    FeatureTopK,
    Lq,
    Penalty,
    Threshold,
    TopK,
)

ACTIVATIONS = {
    "TopK": TopK(4, by="positive"),
    "AbsTopK": TopK(4),
    "BatchTopK": BatchTopK(4, by="positive"),
    "BatchAbsTopK": BatchTopK(4),
    "FeatureTopK": FeatureTopK(3, by="positive"),
    "ReLU": L1(0.0, positive=True),
    "soft": L1(0.5),
    "hard": L0(0.125),
    "threshold": Threshold(0.4, by="value"),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_single_precision_takes_the_kernels_to_the_same_support(name):
    activation = ACTIVATIONS[name]
    u = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(*(_mask(select(activation, v)) for v in (u, u.double())))


def _mask(support):
    return SparseCodes(torch.ones(len(support.indices)), support).dense()


def test_batch_top_k_is_exact_where_the_guess_fails():
    u = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    u[::16] *= 100  # the sampled rows claim the whole budget
    expected = BatchTopK(4, by="positive").mask(u)
    assert torch.equal(_mask(select(BatchTopK(4, by="positive"), u)).bool(), expected)


@pytest.mark.parametrize("share", [0.01, 0.5])
@pytest.mark.parametrize("kind", ["relu", "soft", "half", "jumprelu", "gated"])
def test_few_or_all_entries_give_the_same_codes_and_gradients(kind, share):
    """Where many are active all entries are kept, the others with the value 0."""
    width = 64
    start = -float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(share)))
    activation = {
        "relu": lambda: L1(start, positive=True),
        "soft": lambda: L1(start + 0.3),
        "half": lambda: Lq(start / 2 + 0.1, positive=True),
        "jumprelu": lambda: JumpReLU(width, threshold=start + 0.01, bandwidth=0.2),
        "gated": lambda: Gated(width),
    }[kind]()
    if kind == "gated":
        activation.gate_bias.data.fill_(-start)
        activation.log_scale.data.normal_(generator=torch.Generator().manual_seed(1))
    found = []
    for dtype in (torch.float32, torch.float64):
        sae = SparseAutoencoder(16, width, activation, encoder_bias=kind != "gated").to(dtype)
        x = torch.randn(90, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
        encoded = sae.encode_all(x)
        support = encoded.codes.support
        assert isinstance(support, Everything) == (share == 0.5)
        # the rule is about cost: a list of the active entries must give the same
        z = encoded.codes.dense()
        u = (x - sae.decoder_bias) @ sae.encoder.t()
        if isinstance(activation, Penalty):
            dense = activation.prox(u + sae.encoder_bias)
        elif kind == "jumprelu":
            dense = torch.where(u > activation.threshold, u, 0.0)
        else:
            opened = u + activation.gate_bias > 0
            dense = opened * (activation.log_scale.exp() * u + activation.magnitude_bias).relu()
        torch.testing.assert_close(z, dense)
        sae.zero_grad()
        slope = torch.randn(z.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
        wanted = torch.autograd.grad((dense * slope).sum(), [sae.encoder, sae.decoder_bias])
        got = torch.autograd.grad((z * slope).sum(), [sae.encoder, sae.decoder_bias])
        for ours, theirs in zip(got, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        found.append(z.detach().double())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_the_largest_value_that_a_prox_takes_to_zero_is_exact():
    for penalty in (L1(0.3, positive=True), L0(0.08), Lq(0.2), MCP(0.5), SCAD(0.4), L1(0.0)):
        for dtype in (torch.float32, torch.float64):
            cut = torch.tensor(_largest_of_zero(penalty, dtype), dtype=dtype)
            above = torch.nextafter(cut, cut + 1)
            assert penalty.prox(cut[None]).item() == 0
            assert penalty.prox(above[None]).item() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*ACTIVATIONS, "jumprelu", "gated", "coupled"])
def test_pre_codes_that_are_not_finite_are_refused_in_one_sentence(name, dtype):
    modules = {
        "jumprelu": JumpReLU(96),
        "gated": Gated(96),
        "coupled": BatchCoupled(BatchTopK(4, by="positive"), 96),
    }
    u = torch.randn(64, 96, generator=torch.Generator().manual_seed(0)).to(dtype)
    activation = ACTIVATIONS.get(name) or modules[name].to(dtype)
    select(activation, u)
    for value in (torch.nan, torch.inf):
        bad = u.clone()
        bad[[5, 40], 7] = value
        with pytest.raises(ValueError, match="not finite in 2 of 64 rows"):
            select(activation, bad)


def test_damaged_weights_are_found_before_they_spread():
    sae = SparseAutoencoder(16, 32, JumpReLU(32))
    sae.encoder.data[3, 4] = torch.nan
    with pytest.raises(ValueError, match="pre-codes hold values that are not finite in 9 of 9"):
        sae(torch.ones(9, 16))
