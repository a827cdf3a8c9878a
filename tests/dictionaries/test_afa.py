"""Top-AFA: what it selects, what its loss pulls, and what norms say of a dictionary."""

import math

import pytest
import torch
from matplotlib.figure import Figure

from rarefy.dictionaries import (
    ArrayStream,
    NormLoss,
    SparseAutoencoder,
    SparseCodes,
    TopAFA,
    code_norms,
    coherence,
    draw_zf,
    epsilon_lbo,
    norm_bounds,
    norms,
    train,
    zf_points,
)
from rarefy.operators import NormMatched, TopK


def rows(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("target", ["centred", "input"])
def test_selection_is_the_operator_s(target):
    x = rows(50, 12)
    sae = TopAFA(12, 60, target=target)
    with torch.no_grad():
        sae.decoder.mul_(1 + torch.rand(60, 1, generator=torch.Generator().manual_seed(1)))
        sae.decoder_bias.fill_(0.3)
    u = (x - sae.decoder_bias) @ sae.encoder.t()
    goal = ((x - sae.decoder_bias) if target == "centred" else x).norm(dim=1)
    rule = NormMatched(goal.detach(), scale=sae.decoder.detach().norm(dim=1), by="positive")
    torch.testing.assert_close(sae.encode(x).dense(), rule(u))
    # In double precision the operator itself selects.
    torch.testing.assert_close(sae.double().encode(x.double()).dense().float(), rule(u))


def test_a_row_equal_to_the_bias_has_an_empty_code():
    sae = TopAFA(6, 20)
    assert int(sae.encode(torch.zeros(3, 6)).l0.sum()) == 0
    x = torch.zeros(3, 6)
    loss = NormLoss(1.0)(sae, x, sae.encode_all(x), x)
    loss.backward()
    assert torch.isfinite(sae.encoder.grad).all()


def test_norm_loss_and_its_gradient_are_those_of_dense_code():
    x = rows(30, 8)
    sae = TopAFA(8, 40)
    encoded = sae.encode_all(x)
    ours = NormLoss(3.0)(sae, x, encoded, sae.decode(encoded.codes))
    mask = encoded.codes.dense().detach() > 0
    z = ((x - sae.decoder_bias) @ sae.encoder.t()) * mask
    dense = 3.0 * (z.norm(dim=1) - x.norm(dim=1)).square().mean()
    torch.testing.assert_close(ours, dense)
    for a, b in zip(
        torch.autograd.grad(ours, [sae.encoder, sae.decoder_bias]),
        torch.autograd.grad(dense, [sae.encoder, sae.decoder_bias]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    assert NormLoss.from_paper(1 / 64, 64).weight == 1


def test_training_brings_norms_together():
    x = rows(1000, 12)
    apart = []
    for weight in (0.0, 4.0):
        sae = TopAFA(12, 60)
        train(sae, ArrayStream(x, batch_size=250), steps=80, lr=3e-3, losses=[NormLoss(weight)])
        norm_x, norm_z = norms(sae, x)
        apart.append(float((norm_z / norm_x - 1).abs().mean()))
    assert apart[1] < 0.5 * apart[0]


def test_norms_count_decoder_rows_and_the_bias_as_a_feature():
    x = rows(40, 6)
    sae = SparseAutoencoder(6, 20, TopK(3, by="positive"))
    with torch.no_grad():
        sae.decoder.mul_(2)
        sae.decoder_bias.fill_(0.5)
    z = sae.encode(x).dense().detach() * sae.decoder.detach().norm(dim=1)
    norm_x, norm_z = norms(sae, x)
    torch.testing.assert_close(norm_z, z.norm(dim=1))
    torch.testing.assert_close(norm_x, (x - 0.5).norm(dim=1))
    points = zf_points(sae, x)
    extra = torch.full((40, 1), 0.5 * 6**0.5)
    torch.testing.assert_close(points.norm_z, torch.cat([z, extra], 1).norm(dim=1))
    torch.testing.assert_close(points.norm_x, x.norm(dim=1))
    assert points.under == float((points.norm_z < points.norm_x).float().mean())
    assert code_norms(SparseCodes.from_dense(torch.zeros(2, 3)), torch.ones(3)).tolist() == [0, 0]


@pytest.mark.parametrize("d", [16, 128])
def test_bound_and_lbo_hold_for_exact_codes(d):
    g = torch.Generator().manual_seed(d)
    decoder = torch.nn.functional.normalize(torch.randn(50, d, generator=g).double(), dim=1)
    epsilon = coherence(decoder).largest
    gram = (decoder @ decoder.t()).fill_diagonal_(0).abs()
    assert epsilon == pytest.approx(float(gram.max()))
    z = torch.rand(500, 50, generator=g).double() * (torch.rand(500, 50, generator=g) < 0.1)
    z = z[(z > 0).any(1)]
    norm_x, norm_z = (z @ decoder).norm(dim=1), z.norm(dim=1)
    for count in (50, (z > 0).sum(1)):
        low, high = norm_bounds(norm_x, epsilon, count)
        assert (norm_z >= low - 1e-9).all() and (norm_z <= high + 1e-9).all()
    assert (epsilon_lbo(norm_x, norm_z, 50) <= epsilon).all()
    assert epsilon_lbo(torch.ones(1), torch.zeros(1), 50).isinf().all()
    # The bound is tight: of two features with inner product epsilon.
    pair = torch.tensor([[1.0, 0.0], [0.6, 0.8]]).double()
    norm = torch.ones(1, 2).double() @ pair
    low, _ = norm_bounds(norm.norm(dim=1), 0.6, 2)
    assert float(low) == pytest.approx(2**0.5)


def test_coherence_of_a_block_is_part_of_it():
    decoder = rows(300, 20)
    exact, part = coherence(decoder), coherence(decoder, block=50)
    assert part.largest <= exact.largest
    assert part.mean == pytest.approx(exact.mean, rel=0.05)


def test_zf_plot_draws_points_diagonal_and_bands():
    x = rows(40, 6)
    axes = Figure().subplots()
    draw_zf(axes, zf_points(SparseAutoencoder(6, 20, TopK(3)), x))
    lines = axes.get_lines()
    assert len(lines) == 1 + 5 + 1 and len(lines[-1].get_xdata()) == 40
    slopes = sorted(line.get_ydata()[1] / line.get_xdata()[1] for line in lines[:-1])
    assert slopes == pytest.approx(
        sorted([1, *(1 / math.sqrt(1 + e) for e in (0.25, 0.5, 1)), 1 / 0.75**0.5, 2**0.5])
    )


def test_bad_input():
    with pytest.raises(ValueError, match="target must be 'centred' or 'input', got 'x'"):
        TopAFA(4, 8, target="x")
    with pytest.raises(ValueError, match="limits must be"):
        TopAFA(4, 8, k_min=5, k_max=2)
