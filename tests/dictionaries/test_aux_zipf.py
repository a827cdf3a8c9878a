"""Aux-Zipf: AuxK where nothing fired, and whom it reaches elsewhere."""

import numpy as np
import pytest
import torch

from rarefy.dictionaries import AuxK, AuxZipf, SparseAutoencoder, ZipfLaw
from rarefy.operators import TopK

F, D = 40, 12


@pytest.fixture
def sae():
    sae = SparseAutoencoder(D, F, TopK(3, by="positive"), seed=1)
    with torch.no_grad():
        # never among the three best, but positive now and then
        sae.encoder_bias[25:] = -2.0
        sae.encoder[25:] *= 0.5
    return sae


@pytest.fixture
def x():
    return torch.randn(64, D, generator=torch.Generator().manual_seed(0)) * 2


def objective(sae, loss, x):
    sae.zero_grad()
    encoded = sae.encode_all(x)
    return loss(sae, x, encoded, sae.decode(encoded.codes))


def test_at_tau_zero_it_is_aux_k(sae, x):
    zipf = AuxZipf(F, tau=0.0, shortfall=False, refit_every=1, weight=0.5, law=ZipfLaw())
    aux = AuxK(F, dead_after=0, weight=0.5)
    value = objective(sae, zipf, x)
    value.backward()
    gradients = [p.grad.clone() for p in (sae.encoder, sae.decoder)]
    expected = objective(sae, aux, x)
    assert float(expected.detach()) > 0
    assert torch.equal(zipf.under_used, aux.dead)
    torch.testing.assert_close(value, expected)
    expected.backward()
    for mine, theirs in zip(gradients, (sae.encoder.grad, sae.decoder.grad), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_gradients_reach_the_under_used_and_nobody_else(sae, x):
    loss = AuxZipf(F, tau=0.5, refit_every=1, k=4)
    objective(sae, loss, x).backward()
    under = loss.under_used
    assert 15 <= int(under.sum()) < F
    for weight in (sae.encoder, sae.decoder):
        assert (weight.grad[~under] == 0).all()
        assert (weight.grad[under] != 0).any()


def test_codes_are_scaled_by_the_shortfall(sae, x):
    loss = AuxZipf(F, law=ZipfLaw(0.0, 0.0, 1.0), tau=1.0, refit_every=1, k=F, weight=1.0)
    value = objective(sae, loss, x)
    u = sae.pre_codes(x)
    dense = (u.relu() * (1 - loss.density))[:, loss.under_used]
    with torch.no_grad():
        error = x - sae(x)
        left = (error - dense @ sae.decoder[loss.under_used]).square().sum()
        spread = (error - error.mean(0)).square().sum()
    share = int(loss.under_used.sum()) / F
    torch.testing.assert_close(value.detach(), share * left / spread)


def test_none_is_under_used_before_the_first_fit(sae, x):
    loss = AuxZipf(F, refit_every=3)
    assert float(objective(sae, loss, x)) == 0
    assert not loss.under_used.any()


def test_densities_are_a_running_mean(sae):
    loss = AuxZipf(3, decay=0.9, refit_every=10**6)
    seen = np.random.default_rng(0).random((5, 3))
    for row in seen:
        loss.count(torch.tensor(row))
    np.testing.assert_allclose(loss.density.numpy(), seen.mean(0), rtol=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="tau must be at least 0"):
        AuxZipf(4, tau=-1)
