"""The core against straightforward dense torch code in double precision."""

import pytest
import torch

from rarefy.dictionaries import (
    ArrayStream,
    AuxK,
    BatchCoupled,
    Gated,
    JumpReLU,
    MatryoshkaError,
    SparseAutoencoder,
    SparseCodes,
    squared_error,
    train,
)
from rarefy.dictionaries.activations import select
from rarefy.operators import L0, L1, BatchTopK, FeatureTopK, TopK


def _sae(activation, *, d=6, f=24, dtype=torch.float64):
    sae = SparseAutoencoder(d, f, activation, seed=3).to(dtype)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(dtype)
    return sae


def _x(n=10, d=6, seed=5, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _top(u, k):
    return torch.zeros_like(u).scatter(1, u.topk(k, dim=1).indices, 1.0)


def _top_columns(u, k):
    return torch.zeros_like(u).scatter(0, u.topk(k, dim=0).indices, 1.0)


def _top_flat(u, k):
    mask = torch.zeros(u.numel(), dtype=u.dtype)
    mask[u.flatten().topk(k * len(u)).indices] = 1.0
    return mask.view_as(u)


DENSE = {
    "TopK": (TopK(4, by="positive"), lambda u: u.relu() * _top(u, 4)),
    "AbsTopK": (TopK(4), lambda u: u * _top(u.abs(), 4)),
    "BatchTopK": (BatchTopK(4, by="positive"), lambda u: u.relu() * _top_flat(u, 4)),
    "FeatureTopK": (FeatureTopK(3, by="positive"), lambda u: u.relu() * _top_columns(u, 3)),
    "ReLU": (L1(0.0, positive=True), lambda u: u.relu()),
    "soft": (L1(0.5), lambda u: u.sign() * (u.abs() - 0.5).relu()),
    "hard": (L0(0.125), lambda u: u * (u.abs() > 0.5)),
}


@pytest.mark.parametrize("name", DENSE)
def test_forward_and_gradients_are_the_dense_ones(name):
    activation, dense = DENSE[name]
    sae, x = _sae(activation), _x()
    squared_error(sae, x, None, sae(x)).backward()
    ours = {name: parameter.grad.clone() for name, parameter in sae.named_parameters()}
    sae.zero_grad()
    u = (x - sae.decoder_bias) @ sae.encoder.t() + sae.encoder_bias
    expected = dense(u) @ sae.decoder + sae.decoder_bias
    torch.testing.assert_close(sae(x), expected)
    (x - expected).square().sum().div(len(x)).backward()
    for key, parameter in sae.named_parameters():
        torch.testing.assert_close(ours[key], parameter.grad)


@pytest.mark.parametrize("name", DENSE)
def test_single_precision_takes_the_kernels_to_the_same_support(name):
    activation, _ = DENSE[name]
    u = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(*(_mask(select(activation, v)) for v in (u, u.double())))


def _mask(support):
    return SparseCodes(torch.ones(len(support.indices)), support).dense()


def test_batch_top_k_is_exact_where_the_guess_fails():
    u = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    u[::16] *= 100  # the sampled rows claim the whole budget
    expected = BatchTopK(4, by="positive").mask(u)
    assert torch.equal(_mask(select(BatchTopK(4, by="positive"), u)).bool(), expected)


def test_gated_is_the_dense_formula():
    gated = Gated(24)
    sae = SparseAutoencoder(6, 24, gated, encoder_bias=False).double()
    with torch.no_grad():
        for seed, bias in enumerate((gated.gate_bias, gated.magnitude_bias, gated.log_scale)):
            bias += 0.3 * torch.randn(24, generator=torch.Generator().manual_seed(seed)).double()
    x = _x()
    u = (x - sae.decoder_bias) @ sae.encoder.t()
    z = (u + gated.gate_bias > 0) * (gated.log_scale.exp() * u + gated.magnitude_bias).relu()
    expected = z @ sae.decoder + sae.decoder_bias
    torch.testing.assert_close(sae(x), expected)
    parameters = [gated.magnitude_bias, gated.log_scale, sae.encoder, sae.decoder]
    ours = torch.autograd.grad(sae(x).square().sum(), parameters)
    dense = torch.autograd.grad(expected.square().sum(), parameters)
    for mine, other in zip(ours, dense, strict=True):
        torch.testing.assert_close(mine, other)


def test_jump_relu_threshold_gradient_is_its_window():
    jump = JumpReLU(24, threshold=0.4, bandwidth=0.3)
    sae, x = _sae(jump), _x()
    u = ((x - sae.decoder_bias) @ sae.encoder.t() + sae.encoder_bias).detach()
    theta = jump.threshold.detach()
    torch.testing.assert_close(
        sae(x), (u * (u > theta)) @ sae.decoder + sae.decoder_bias, check_dtype=False
    )
    (gradient,) = torch.autograd.grad(sae(x).sum(), jump.threshold)
    window = ((u - theta).abs() < 0.15).double()
    expected = (-theta / 0.3 * window * sae.decoder.sum(1)).sum(0)
    torch.testing.assert_close(gradient, expected, check_dtype=False)


def test_aux_k_reaches_encoder_and_decoder_of_dead_rows_only():
    sae, x = _sae(TopK(2, by="positive")), _x()
    aux = AuxK(24, dead_after=5)
    encoded = sae.encode_all(x)
    aux(sae, x, encoded, sae.decode(encoded.codes)).backward()
    fired = encoded.codes.active > 0
    assert fired.any() and not fired.all()
    for weight in (sae.encoder, sae.decoder):
        assert not weight.grad[fired].any()
        assert weight.grad[~fired].abs().sum() > 0


def test_signed_codes_count_as_firing_and_explicit_zeros_do_not():
    codes = SparseCodes.from_dense(torch.tensor([[-1.0, 0.0], [2.0, -3.0]]))
    assert codes.active.tolist() == [2, 1] and codes.l0.tolist() == [1, 2]
    silent = SparseCodes(torch.tensor([0.0, 2.0, -3.0]), codes.support)
    assert silent.active.tolist() == [1, 1] and silent.l0.tolist() == [0, 2]


def test_matryoshka_is_the_mean_over_dense_prefixes():
    sae, x = _sae(TopK(6, by="positive")), _x()
    encoded = sae.encode_all(x)
    z, sizes = encoded.codes.dense(), (3, 9, 24)
    parts = [(x - z[:, :m] @ sae.decoder[:m] - sae.decoder_bias).square().sum(1) for m in sizes]
    ours = MatryoshkaError(sizes)(sae, x, encoded, sae.decode(encoded.codes))
    torch.testing.assert_close(ours, sum(part.mean() for part in parts) / 3)


def test_in_evaluation_a_row_does_not_depend_on_its_batch():
    sae = _sae(BatchCoupled(BatchTopK(4, by="positive"), 24), dtype=torch.float32)
    x = _x(40, dtype=torch.float32)
    sae.train()
    for start in range(0, 40, 10):
        sae.encode(x[start : start + 10])
    sae.eval()
    z = sae.encode(x).dense().detach()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sae.encode(x[order]).dense(), z[order])
    torch.testing.assert_close(torch.cat([sae.encode(row[None]).dense() for row in x]), z)


def test_a_batch_is_a_function_of_its_step():
    x = _x(50)
    one, other = (ArrayStream(x, batch_size=8, seed=2) for _ in range(2))
    forwards = [one.batch(step) for step in range(14)]
    for step in reversed(range(14)):
        assert torch.equal(other.batch(step), forwards[step])
    assert not torch.equal(forwards[0], forwards[6])


def test_bad_input_is_one_clear_sentence():
    with pytest.raises(ValueError, match="k must be from 1 to the 8 latents, got 9"):
        SparseAutoencoder(4, 8, TopK(9))
    sae = _sae(TopK(2))
    with pytest.raises(ValueError, match=r"x must be \(rows, 6\), got shape \(3, 5\)"):
        sae.encode(torch.zeros(3, 5).double())
    x = _x(3)
    x[1, 2] = torch.nan
    with pytest.raises(ValueError, match="not finite in 1 of 3 rows"):
        sae.encode(x)
    with pytest.raises(ValueError, match="the objective is inf at step 0"):
        train(sae, ArrayStream(_x(20) * 1e200, batch_size=4), steps=3, center=False)
