"""Encoders as proximal steps: each activation solves its problem, and more steps are more steps."""

from itertools import combinations

import pytest
import torch

from rarefy.dictionaries import (
    ArrayStream,
    SparseAutoencoder,
    UnrolledAutoencoder,
    evaluate,
    proximal_gradient,
    train,
)
from rarefy.operators import L0, L1, TopK

K = 2
SUPPORTS = [s for size in range(7) for s in combinations(range(6), size)]


def brute_force(u, cost, positive):
    """Least objective over all supports of R^6, each with its own best values on a grid."""
    best = float("inf")
    for support in SUPPORTS:
        z = torch.zeros(6)
        for i in support:
            grid = torch.cat([torch.linspace(-4, 4, 401), u[i, None]])
            grid = grid[grid >= 0] if positive else grid
            each = 0.5 * (u[i] - grid) ** 2 + cost(grid)
            z[i] = grid[each.argmin()]
        best = min(best, float(0.5 * ((u - z) ** 2).sum() + cost(z).sum()))
    return best


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("penalty", [L1, L0])
def test_penalties_are_proximal_maps(penalty, positive):
    generator = torch.Generator().manual_seed(0)
    operator = penalty(0.4, positive=positive)
    cost = (lambda z: 0.4 * z.abs()) if penalty is L1 else (lambda z: 0.4 * (z != 0).float())
    for u in torch.randn(2, 6, generator=generator):
        z = operator.prox(u)
        ours = float(0.5 * ((u - z) ** 2).sum() + cost(z).sum())
        assert not positive or (z >= 0).all()
        assert ours <= brute_force(u, cost, positive) + 1e-6
        assert ours == pytest.approx(brute_force(u, cost, positive), abs=1e-3)


@pytest.mark.parametrize("by", ["positive", "magnitude"])
def test_top_k_is_the_projection_onto_its_constraint(by):
    for u in torch.randn(60, 6, generator=torch.Generator().manual_seed(1)):
        z = TopK(K, by=by)(u)
        allowed = [s for s in SUPPORTS if len(s) <= K]
        distances = []
        for support in allowed:
            other = torch.zeros(6)
            for i in support:
                other[i] = u[i].clamp(min=0) if by == "positive" else u[i]
            distances.append(float(((u - other) ** 2).sum()))
        assert float(((u - z) ** 2).sum()) == pytest.approx(min(distances), abs=1e-6)
        if by == "magnitude":
            assert torch.equal(TopK(K)(-u), -z)
            assert int((z != 0).sum()) == K


@pytest.mark.parametrize(
    "activation",
    [L1(0.2, positive=True), L0(0.1, positive=True), TopK(3, by="positive"), L1(0.2), TopK(3)],
    ids=repr,
)
def test_one_tied_step_of_size_one_is_the_autoencoder(activation):
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(2))
    sae = SparseAutoencoder(8, 24, activation)
    expected = proximal_gradient(x, sae.decoder.detach(), activation, step_size=1.0)
    torch.testing.assert_close(sae.encode(x).dense(), expected, atol=1e-6, rtol=0)
    unrolled = UnrolledAutoencoder(8, 24, activation, steps=1)
    torch.testing.assert_close(unrolled(x), sae(x))


def test_ista_never_raises_its_objective_and_ends_at_its_minimum():
    generator = torch.Generator().manual_seed(3)
    decoder = torch.randn(16, 12, generator=generator).double()
    x = torch.randn(10, 12, generator=generator).double()
    penalty = L1(0.5)
    z, objectives = torch.zeros(10, 16).double(), []
    for _ in range(50):
        z = proximal_gradient(x, decoder, penalty, start=z)
        objectives.append(float(0.5 * ((x - z @ decoder) ** 2).sum() + penalty.value(z)))
    assert all(b <= a + 1e-9 for a, b in zip(objectives, objectives[1:], strict=False))
    # At the minimum the correlations of the residual are at most lam, and lam where z is not 0.
    z = proximal_gradient(x, decoder, penalty, steps=3000, start=z)
    correlation = (x - z @ decoder) @ decoder.t()
    assert correlation.abs().max() <= 0.5 + 1e-6
    torch.testing.assert_close(correlation[z != 0], 0.5 * z[z != 0].sign(), atol=1e-6, rtol=0)


def test_signed_codes_are_those_of_a_doubled_dictionary():
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(4))
    signed = SparseAutoencoder(8, 20, TopK(3))
    doubled = SparseAutoencoder(8, 40, TopK(3, by="positive"))
    with torch.no_grad():
        signed.encoder_bias.normal_(generator=torch.Generator().manual_seed(5))
        for name in ("encoder", "decoder", "encoder_bias"):
            parameter = getattr(signed, name)
            getattr(doubled, name).copy_(torch.cat([parameter, -parameter]))
    z, pairs = signed.encode(x).dense(), doubled.encode(x).dense()
    assert torch.equal(z, pairs[:, :20] - pairs[:, 20:])
    torch.testing.assert_close(signed(x), doubled(x))


@pytest.mark.parametrize("shared", [True, False])
def test_later_steps_and_their_gradients_are_those_of_dense_code(shared):
    x = torch.randn(10, 8, generator=torch.Generator().manual_seed(6))
    sae = UnrolledAutoencoder(8, 24, TopK(3), steps=3, shared=shared)
    with torch.no_grad():
        for i, encoder in enumerate(sae.later_encoders):
            encoder.mul_(0.5 + i)
        sae.encoder_bias.normal_(generator=torch.Generator().manual_seed(7))
    encoders = [sae.encoder, *(sae.later_encoders if not shared else [sae.encoder] * 2)]
    z = torch.zeros(10, 24)
    for encoder in encoders:
        z = TopK(3)(z + (x - z @ sae.decoder - sae.decoder_bias) @ encoder.t() + sae.encoder_bias)
    dense = ((x - z @ sae.decoder - sae.decoder_bias) ** 2).sum()
    parameters = list(sae.parameters())
    wanted = torch.autograd.grad(dense, parameters)
    ours = ((x - sae(x)) ** 2).sum()
    torch.testing.assert_close(ours, dense)
    for a, b in zip(torch.autograd.grad(ours, parameters), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_second_step_reconstructs_better():
    x = torch.randn(2000, 12, generator=torch.Generator().manual_seed(8))
    fvu = []
    for steps in (1, 3):
        sae = UnrolledAutoencoder(12, 48, TopK(4), steps=steps)
        train(sae, ArrayStream(x, batch_size=250), steps=60, lr=3e-3)
        fvu.append(evaluate(sae, x).fvu)
    assert fvu[1] < fvu[0]


def test_bad_input():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        UnrolledAutoencoder(4, 8, TopK(2), steps=0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        proximal_gradient(torch.zeros(1, 2), torch.eye(2), L1(1.0), steps=0)
    with pytest.raises(ValueError, match="step_size must be positive, got -1"):
        proximal_gradient(torch.zeros(1, 2), torch.eye(2), L1(1.0), step_size=-1.0)
