"""Every architecture, forward and gradients, against dense torch code written from its formula."""

import pytest
import torch

from rarefy.dictionaries import (
    AuxK,
    BatchCoupled,
    Gated,
    GateLoss,
    JumpReLU,
    L0Loss,
    L1Loss,
    MatryoshkaError,
    SparseAutoencoder,
    SparseCodes,
    squared_error,
)
from rarefy.operators import L0, L1, BatchTopK, FeatureTopK, TopK

D, F, B = 6, 24, 40


def _sae(activation, **options):
    sae = SparseAutoencoder(D, F, activation, **options).double()
    g = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in sae.parameters():
            noise = torch.randn(parameter.shape, generator=g, dtype=torch.float64)
            parameter += 0.2 * noise
    return sae


def _x():
    g = torch.Generator().manual_seed(6)
    return torch.randn(B, D, generator=g, dtype=torch.float64)


def _kept(u, scores, k):
    return torch.zeros_like(u).scatter(1, scores.topk(k, dim=1).indices, 1.0)


def _batch_kept(u, k):
    flat = torch.zeros(u.numel(), dtype=u.dtype)
    flat[u.flatten().topk(k * len(u)).indices] = 1
    return flat.view_as(u)


DENSE = {
    "topk": (lambda: TopK(4, by="positive"), lambda u: u.relu() * _kept(u, u, 4)),
    "abstopk": (lambda: TopK(4), lambda u: u * _kept(u, u.abs(), 4)),
    "relu": (lambda: L1(0.0, positive=True), torch.relu),
    "soft": (lambda: L1(0.3), lambda u: u.sign() * (u.abs() - 0.3).relu()),
    "hard": (lambda: L0(0.08), lambda u: u * (u.abs() > 0.4)),
    "jumprelu": (lambda: L0(0.08, positive=True), lambda u: u * (u > 0.4)),
    "batchtopk": (
        lambda: BatchCoupled(BatchTopK(4, by="positive"), F),
        lambda u: u.relu() * _batch_kept(u, 4),
    ),
    "feature choice": (
        lambda: BatchCoupled(FeatureTopK(5, by="positive"), F),
        lambda u: u.relu() * _kept(u.t(), u.t(), 5).t(),
    ),
}


@pytest.mark.parametrize("name", DENSE)
def test_forward_and_gradients_are_those_of_dense_code(name):
    activation, dense = DENSE[name]
    sae, x = _sae(activation()), _x().requires_grad_()
    squared_error(sae, x, sae.encode_all(x), sae(x)).backward()
    got = [p.grad.clone() for p in sae.parameters()] + [x.grad.clone()]
    sae.zero_grad()
    x.grad = None
    u = (x - sae.decoder_bias) @ sae.encoder.t() + sae.encoder_bias
    error = x - (dense(u) @ sae.decoder + sae.decoder_bias)
    (error.square().sum() / B).backward()
    for ours, theirs in zip(got, [*(p.grad for p in sae.parameters()), x.grad], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gated_and_its_loss():
    sae, x = _sae(Gated(F), encoder_bias=False), _x()
    encoded = sae.encode_all(x)
    reconstruction = sae.decode(encoded.codes)
    loss = squared_error(sae, x, encoded, reconstruction)
    (loss + GateLoss(0.3)(sae, x, encoded, reconstruction)).backward()
    names = [name for name, _ in sae.named_parameters()]
    got = [p.grad.clone() for p in sae.parameters()]
    sae.zero_grad()
    gated = sae.activation
    product = (x - sae.decoder_bias) @ sae.encoder.t()
    gate = product + gated.gate_bias
    z = (gate > 0) * (product * gated.log_scale.exp() + gated.magnitude_bias).relu()
    error = x - (z @ sae.decoder + sae.decoder_bias)
    open_ = gate.relu()
    l1 = (open_ * sae.decoder.norm(dim=1)).sum()
    frozen = x - (open_ @ sae.decoder.detach() + sae.decoder_bias.detach())
    total = error.square().sum() + 0.3 * l1 + frozen.square().sum()
    (total / B).backward()
    for name, ours, p in zip(names, got, sae.parameters(), strict=True):
        torch.testing.assert_close(ours, p.grad, msg=name)


def test_jumprelu_learns_its_threshold_through_the_window():
    sae, x = _sae(JumpReLU(F, threshold=0.3, bandwidth=0.4)), _x()
    with torch.no_grad():
        sae.activation.threshold.clamp_(min=0.05)
    theta = sae.activation.threshold.detach()
    encoded = sae.encode_all(x)
    u = (x - sae.decoder_bias) @ sae.encoder.t() + sae.encoder_bias
    torch.testing.assert_close(encoded.codes.dense(), u * (u > theta))
    window = ((u - theta).abs() < 0.2).double()
    assert window.sum() > 10
    g = torch.randn(B, F, dtype=torch.float64)
    (encoded.codes.dense() * g).sum().backward()
    torch.testing.assert_close(
        sae.activation.threshold.grad, (-theta / 0.4 * window * g).sum(0).detach()
    )
    sae.zero_grad()
    encoded = sae.encode_all(x)
    l0 = L0Loss(2.0)(sae, x, encoded, x)
    torch.testing.assert_close(l0, 2.0 * (u > theta).double().sum() / B)
    l0.backward()
    torch.testing.assert_close(
        sae.activation.threshold.grad, (-2.0 / 0.4 * window).sum(0).detach() / B
    )
    # in use there is no window: what is below the threshold is not active
    torch.testing.assert_close(sae.eval().encode(x).dense(), torch.where(u > theta, u, 0.0))


def test_l1_weighs_by_decoder_norms():
    sae, x = _sae(L1(0.0, positive=True)), _x()
    encoded = sae.encode_all(x)
    expected = 0.7 * (encoded.codes.dense() @ sae.decoder.norm(dim=1)).mean()
    torch.testing.assert_close(L1Loss(0.7)(sae, x, encoded, x), expected)


def test_matryoshka_is_the_mean_over_prefixes():
    sae, x = _sae(TopK(6, by="positive")), _x()
    encoded = sae.encode_all(x)
    z = encoded.codes.dense()
    parts = [
        (x - (z[:, :m] @ sae.decoder[:m] + sae.decoder_bias)).square().sum() / B for m in (3, 12, F)
    ]
    got = MatryoshkaError((3, 12, F))(sae, x, encoded, sae.decode(encoded.codes))
    torch.testing.assert_close(got, sum(parts) / 3)


@pytest.mark.parametrize("signed", [False, True])
def test_auxk_moves_encoder_and_decoder_of_the_dead_and_no_others(signed):
    sae, x = _sae(TopK(3, by="magnitude" if signed else "positive")), _x()
    dead = torch.tensor([1, 8, 20])
    with torch.no_grad():
        sae.encoder_bias[:] = 5.0
        sae.encoder[dead] *= 0.01
        sae.encoder_bias[dead] = -0.01 if signed else 0.01
    auxk = AuxK(F, dead_after=0, k=2, weight=1.0, signed=signed)
    auxk.rows_since_fired[:] = 0
    auxk.rows_since_fired[dead] = 10
    auxk.dead_after = B + 5
    encoded = sae.encode_all(x)
    assert not encoded.codes.active[dead].any()
    auxk.rows_since_fired[[j for j in range(F) if j not in dead]] = -1000
    reconstruction = sae.decode(encoded.codes)
    loss = auxk(sae, x, encoded, reconstruction)
    loss.backward()
    error = (x - reconstruction).detach()
    u = encoded.u[:, dead]
    kept = u * _kept(u, u.abs() if signed else u, 2)
    left = (
        error - kept.relu() @ sae.decoder[dead] if not signed else error - kept @ sae.decoder[dead]
    )
    torch.testing.assert_close(loss, left.square().sum() / (error - error.mean(0)).square().sum())
    for gradient in (sae.encoder.grad, sae.decoder.grad):
        moved = gradient.abs().sum(1) > 0
        assert set(moved.nonzero()[:, 0].tolist()) <= set(dead.tolist())
        assert moved.sum() >= 2


def test_negative_codes_count_as_firing():
    sae = _sae(TopK(F))
    auxk = AuxK(F, dead_after=1, signed=True)
    x = _x()
    auxk(sae, x, sae.encode_all(x), sae(x))
    assert not auxk.dead.any()


@pytest.mark.parametrize("projection", [BatchTopK(4, by="positive"), BatchTopK(4), FeatureTopK(6)])
def test_at_test_time_rows_do_not_depend_on_each_other(projection):
    sae = _sae(BatchCoupled(projection, F))
    x = _x()
    trained = sae.train().encode(x)
    sae.eval()
    together = sae.encode(x).dense()
    order = torch.randperm(B)
    torch.testing.assert_close(sae.encode(x[order]).dense(), together[order])
    torch.testing.assert_close(
        torch.cat([sae.encode(x[:7]).dense(), sae.encode(x[7:]).dense()]), together
    )
    # after one batch the threshold is its smallest kept value, and what equals it is not above it
    thresholds = len(sae.activation.threshold)
    assert int(trained.l0.sum()) - int(together.ne(0).sum()) == thresholds


def test_any_shape_and_dtype_comes_back():
    sae = SparseAutoencoder(D, F, TopK(3, by="positive")).eval()
    x = torch.randn(2, 5, D, dtype=torch.bfloat16)
    out = sae(x)
    assert out.shape == x.shape and out.dtype == torch.bfloat16


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match="k must be from 1 to the 24 latents, got 25"):
        SparseAutoencoder(D, F, TopK(25))
    with pytest.raises(ValueError, match="n_latents must be at least 1, got 0"):
        SparseAutoencoder(D, 0, TopK(1))
    sae = SparseAutoencoder(D, F, TopK(3))
    with pytest.raises(ValueError, match=r"x must be \(rows, 6\), got shape \(4, 7\)"):
        sae.encode(torch.zeros(4, 7))
    x = torch.zeros(4, D)
    x[1, 2] = torch.nan
    with pytest.raises(ValueError, match="not finite in 1 of 4 rows"):
        sae.encode(x)
    with pytest.raises(TypeError, match="L0Loss needs a JumpReLU, got TopK"):
        L0Loss(1.0)(sae, torch.zeros(1, D), sae.encode_all(torch.zeros(1, D)), torch.zeros(1, D))
    assert isinstance(sae.encode(torch.zeros(1, D)), SparseCodes)
