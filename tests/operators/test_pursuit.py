"""Pursuits against closed forms, scikit-learn, and each other."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp_gram

from rarefy.operators import matching_pursuit, orthogonal_matching_pursuit


def _dictionary(atoms, d, seed=0):
    rows = np.random.default_rng(seed).standard_normal((atoms, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_an_orthonormal_dictionary_is_read_off_largest_first():
    q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))
    x = np.array([[3.0, 0.5, 0, 2.0, 0, 0, 1.0, 0]]) @ q
    found = matching_pursuit(x, q, 6)
    assert found.atoms[0, :4].tolist() == [0, 3, 6, 1]
    np.testing.assert_allclose(found.coefficients[0, :4], [3, 2, 1, 0.5])
    assert np.abs(found.coefficients[0, 4:]).max() < 1e-12


@pytest.mark.parametrize("signed", [False, True])
def test_each_residual_is_orthogonal_to_its_atom_and_energy_is_conserved(signed):
    d, x = _dictionary(40, 12), np.random.default_rng(2).standard_normal((30, 12))
    c, j = matching_pursuit(x, d, 10, signed=signed)
    r = x
    for t in range(10):
        after = r - c[:, t, None] * d[j[:, t]]
        live = c[:, t] != 0
        assert np.abs((after * d[j[:, t]]).sum(1)[live]).max() < 1e-12
        np.testing.assert_allclose((after**2).sum(1), (r**2).sum(1) - c[:, t] ** 2)
        r = after
    assert signed or (c >= 0).all()


def test_fewer_steps_are_a_prefix_and_tol_stops():
    d, x = _dictionary(40, 12), np.random.default_rng(3).standard_normal((30, 12))
    long, short = matching_pursuit(x, d, 12), matching_pursuit(x, d, 5)
    np.testing.assert_array_equal(long.atoms[:, :5], short.atoms)
    c, j = matching_pursuit(x, d, 12, tol=2.0)
    steps = (c != 0).sum(1)
    for i, n in enumerate(steps):
        before = np.linalg.norm(x[i] - c[i, : max(n - 1, 0)] @ d[j[i, : max(n - 1, 0)]])
        assert n == 0 or before > 2.0


def test_orthogonal_pursuit_is_scikit_learns():
    rng = np.random.default_rng(99)
    for seed in range(20):
        d = _dictionary(25, 10, seed)
        x = rng.standard_normal((5, 10))
        c, j = orthogonal_matching_pursuit(x, d, 4)
        for row in range(5):
            ours = np.zeros(25)
            ours[j[row]] = c[row]
            theirs = orthogonal_mp_gram(d @ d.T, d @ x[row], n_nonzero_coefs=4)
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_kinds_and_dtypes_are_kept_and_bad_input_named():
    d, x = _dictionary(9, 4), np.ones((2, 4))
    found = matching_pursuit(x.astype(np.float32), d.astype(np.float32), 2)
    assert isinstance(found.coefficients, np.ndarray) and found.coefficients.dtype == np.float32
    assert isinstance(matching_pursuit(torch.ones(2, 4), torch.eye(4), 2).atoms, torch.Tensor)
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(9, 4\)"):
        matching_pursuit(x[:, :3], d, 2)
    with pytest.raises(ValueError, match="row 0 has 2"):
        matching_pursuit(x, 2 * d, 2)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        matching_pursuit(x, d, 0)
    with pytest.raises(ValueError, match="at most 4"):
        orthogonal_matching_pursuit(x, d, 5)
