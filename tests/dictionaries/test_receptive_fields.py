"""Gabor functions come back as they were drawn; kinds of fields are told apart."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from rarefy.dictionaries import (
    class_entropy,
    code_report,
    debias,
    fit_gabor,
    orientation_selectivity,
    receptive_field_report,
    sparse_codes,
)
from rarefy.dictionaries.gabor import _gabor, on_grid
from rarefy.dictionaries.receptive_fields import _two_gaussians
from rarefy.operators import L1

_, XY = on_grid(torch.zeros(1, 12, 12))


def drawn(n=20, noise=0.0):
    """Gabor functions of known parameters: a, b, x0, y0, log widths, frequency, orientation."""
    g = torch.Generator().manual_seed(0)
    u = torch.rand(n, 8, generator=g, dtype=torch.float64)
    low = torch.tensor([0.5, -1, -2, -2, math.log(1.5), math.log(1.5), 0.12, 0.0])
    high = torch.tensor([1.5, 1, 2, 2, math.log(2.5), math.log(2.5), 0.3, math.pi])
    p = low + (high - low) * u
    fields = _gabor(XY, p)[0]
    fields = fields + noise * torch.randn(fields.shape, generator=g, dtype=torch.float64)
    return p, fields.view(n, 12, 12)


def test_parameters_come_back():
    p, fields = drawn()
    fit = fit_gabor(fields)
    assert fit.r2.min() > 0.999 and fit.gabor_like.all()
    assert torch.allclose(fit.frequency, p[:, 6], atol=2e-2)
    turned = (fit.theta - p[:, 7] + math.pi / 2) % math.pi - math.pi / 2
    assert turned.abs().max() < 0.05
    amplitude = torch.hypot(p[:, 0], p[:, 1])
    assert torch.allclose(fit.amplitude, amplitude, rtol=0.1)


def test_as_good_as_scipy_from_the_truth():
    p, fields = drawn(6, noise=0.1)
    fit = fit_gabor(fields)
    for i, field in enumerate(fields):
        target = field.ravel().numpy()
        theirs = least_squares(
            lambda q, t=target: _gabor(XY, torch.from_numpy(q)[None])[0][0].numpy() - t,
            p[i].numpy(),
            method="lm",
        )
        r2 = 1 - 2 * theirs.cost / ((target - target.mean()) ** 2).sum()
        assert fit.r2[i] >= r2 - 0.01


@pytest.mark.parametrize(("model", "k"), [(_gabor, 8), (_two_gaussians, 6)])
def test_derivatives(model, k):
    g = torch.Generator().manual_seed(0)
    p = torch.randn(1, k, generator=g, dtype=torch.float64) / 2
    by_torch = torch.autograd.functional.jacobian(lambda q: model(XY, q)[0], p)[0, :, 0]
    assert torch.allclose(by_torch, model(XY, p)[1][0], atol=1e-12)


def test_noise_is_not_gabor_like():
    noise = torch.randn(60, 12, 12, generator=torch.Generator().manual_seed(0))
    report = receptive_field_report(noise)
    assert report.selective <= 0.02 and report.shares["unlocalised"] > 0.7


def test_kinds():
    r2 = (XY**2).sum(1).view(12, 12)
    spot = torch.exp(-r2 / 4) - 0.5 * torch.exp(-r2 / 16)
    x, y = XY.T.reshape(2, 12, 12)
    corner = torch.exp(-r2 / 8) * (torch.sign(x) * torch.sign(y))
    stripes = torch.exp(-r2 / 8) * torch.cos(2 * math.pi * 0.2 * (x + y))
    report = receptive_field_report(torch.stack([spot, corner, stripes]))
    assert report.kind[0] == "unoriented" and report.kind[2] == "oriented"
    assert class_entropy(report) > 0.9
    assert report.osi[0] < 0.05 < 0.3 < report.osi[2]


def test_selectivity_turns_with_the_field():
    _, fields = drawn(5)
    turned = fields.flip(1).mT
    assert torch.allclose(orientation_selectivity(fields), orientation_selectivity(turned))


def test_debiased_codes_are_least_squares():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 8, generator=g)
    dictionary = torch.nn.functional.normalize(torch.randn(12, 8, generator=g))
    codes = sparse_codes(x, dictionary, L1(0.4)).codes
    found = debias(x, dictionary, codes)
    for i, code in enumerate(codes):
        on = (code != 0).numpy()
        best = np.linalg.lstsq(dictionary[on].T.numpy(), x[i].numpy(), rcond=None)[0]
        assert np.allclose(found[i, on], best, atol=1e-4) and not found[i, ~on].any()
    report = code_report(x, dictionary, codes)
    assert report.debiased_error < report.error
    one = torch.zeros(1, 12).index_fill(1, torch.tensor([3]), 2.0)
    assert code_report(x[:1], dictionary, one).population_sparseness == pytest.approx(1 - 1 / 12)


def test_bad_fields():
    with pytest.raises(ValueError, match="expected \\(m, p, p\\) with p at least 8"):
        fit_gabor(torch.zeros(3, 6, 6))
    with pytest.raises(ValueError, match="do not fit together"):
        code_report(torch.zeros(2, 3), torch.zeros(4, 3), torch.zeros(2, 5))
