"""Codes are optimal where optimality can be told, and do not depend on their neighbours."""

import inspect
from unittest import SkipTest

import numpy as np
import pytest
import torch
from sklearn.decomposition import sparse_encode
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import estimator_checks_generator

from rarefy.dictionaries import SparseCoder, sparse_codes
from rarefy.operators import CEL0, L0, L1, MCP, SCAD, CappedL1, LogSum, Lq

PENALTIES = (
    L1(0.2),
    L0(0.05),
    Lq(0.1),
    Lq(0.1, q=0.7),
    CEL0(0.05),
    MCP(0.3),
    SCAD(0.2),
    CappedL1(0.2, theta=0.5),
    LogSum(0.1),
)
named = pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: type(p).__name__)


def problem(n=20, m=24, d=10, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    dictionary = torch.randn(m, d, generator=g, dtype=dtype)
    dictionary /= dictionary.norm(dim=1, keepdim=True)
    return torch.randn(n, d, generator=g, dtype=dtype), dictionary


def objective(x, dictionary, codes, penalty):
    return float((x - codes @ dictionary).square().sum() / 2 + penalty.value(codes))


@named
def test_objective_never_rises(penalty):
    x, dictionary = problem()
    if penalty.convex:
        pytest.skip("accelerated: its objective may rise for a moment")
    values = [
        objective(x, dictionary, sparse_codes(x, dictionary, penalty, max_iter=i).codes, penalty)
        for i in range(1, 40)
    ]
    assert all(after <= before + 1e-9 for before, after in zip(values, values[1:], strict=False))
    assert values[-1] < values[0]


@named
def test_a_code_is_a_fixed_point_of_a_step_written_out(penalty):
    x, dictionary = problem()
    codes = sparse_codes(x, dictionary, penalty, max_iter=20_000, tol=1e-9).codes
    step = 0.95 / float(torch.linalg.matrix_norm(dictionary, 2)) ** 2
    again = penalty.prox(codes + step * (x - codes @ dictionary) @ dictionary.T, step)
    assert torch.allclose(codes, again, atol=1e-6)


def test_l1_is_lasso():
    x, dictionary = problem()
    ours = sparse_codes(x, dictionary, L1(0.2), max_iter=20_000, tol=1e-8).codes.numpy()
    theirs = sparse_encode(
        x.numpy(), dictionary.numpy(), algorithm="lasso_cd", alpha=0.2, max_iter=20_000
    )
    assert np.abs(ours - theirs).max() < 2e-3
    assert np.array_equal(np.abs(ours) > 5e-3, np.abs(theirs) > 5e-3)


@named
def test_an_orthonormal_dictionary_gives_the_prox(penalty):
    x = torch.linspace(-2, 2, 60, dtype=torch.float64).view(-1, 3) + 1e-3
    turned, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    if isinstance(penalty, (L0, Lq, CEL0, CappedL1, LogSum)):
        # Not convex in one coordinate: a fixed point may be another local minimum.
        codes = sparse_codes(x @ turned, turned, penalty, tol=1e-9, max_iter=5000).codes
        best = objective(x, torch.eye(3).double(), penalty.prox(x, 1.0), penalty)
        assert objective(x @ turned, turned, codes, penalty) >= best - 1e-9
    else:
        codes = sparse_codes(x @ turned, turned, penalty, tol=1e-9, max_iter=5000).codes
        assert torch.allclose(codes, penalty.prox(x, 1.0), atol=1e-6)


@named
def test_a_code_does_not_depend_on_its_neighbours(penalty):
    x, dictionary = problem(n=600)
    together = sparse_codes(x, dictionary, penalty)
    alone = sparse_codes(x[300:305], dictionary, penalty)
    assert torch.allclose(together.codes[300:305], alone.codes, atol=1e-9)
    assert together.n_iter[300:305].equal(alone.n_iter)


@named
def test_both_ways_to_the_gradient_agree(penalty):
    # 24 atoms of 10 features take the residual, 12 doubled features the Gram matrix.
    x, dictionary = problem()
    pad = torch.zeros(1, 1, dtype=x.dtype)
    wide_x, wide = (torch.cat([a, pad.expand(len(a), 4)], 1) for a in (x, dictionary))
    assert len(wide) <= 2 * wide.shape[1] and len(dictionary) > 2 * dictionary.shape[1]
    ours, theirs = sparse_codes(x, dictionary, penalty), sparse_codes(wide_x, wide, penalty)
    assert torch.allclose(ours.codes, theirs.codes, atol=1e-8)


def test_stronger_is_sparser():
    x, dictionary = problem(n=200)
    counts = [
        int((sparse_codes(x, dictionary, L1(lam)).codes != 0).sum()) for lam in (0.05, 0.2, 0.8, 9)
    ]
    assert counts == sorted(counts, reverse=True) and counts[-1] == 0


def test_kinds_and_dtypes_come_back():
    x, dictionary = problem(dtype=torch.float32)
    coder = SparseCoder(dictionary, L1(0.2)).fit(x)
    tensor, array = coder.transform(x), coder.transform(x.numpy())
    assert isinstance(tensor, torch.Tensor) and array.dtype == np.float32
    assert np.allclose(tensor.numpy(), array)
    assert isinstance(coder.inverse_transform(tensor), torch.Tensor)
    assert np.allclose(coder.inverse_transform(array), array @ dictionary.numpy())
    assert coder.get_feature_names_out()[0] == "sparsecoder0"


def test_unfinished_codes_are_told():
    x, dictionary = problem()
    coder = SparseCoder(dictionary, CEL0(0.01), max_iter=3, tol=1e-9).fit(x)
    with pytest.warns(ConvergenceWarning, match="20 of 20 codes were still moving after 3"):
        coder.transform(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, d: SparseCoder(d[:, :4]).fit(x), "atoms of 4 features, but X has 10"),
        (lambda x, d: SparseCoder(d, max_iter=0).fit(x), "max_iter is 0, expected at least 1"),
        (lambda x, d: SparseCoder(d, tol=0.0).fit(x), "tol is 0.0, expected a positive number"),
        (lambda x, d: SparseCoder(d).fit(x / 0), "contains NaN or infinity"),
        (lambda x, d: SparseCoder(d).fit(x).transform(x[:, :3]), "X has 3 features"),
        (lambda x, d: SparseCoder(d).fit(x).inverse_transform(x), "expected \\(n, 24\\)"),
        (lambda x, d: SparseCoder(d, L1(-1)).fit(x), "lam must be at least 0"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make(*problem())


def test_a_penalty_is_an_object():
    x, dictionary = problem()
    with pytest.raises(TypeError, match="penalty is 'l1', expected an object of rarefy.operators"):
        SparseCoder(dictionary, "l1").fit(x)


def for_width(width):
    return SparseCoder(np.random.default_rng(0).standard_normal((6, width)), tol=1e-6)


# scikit-learn's checks draw data of these widths, and a dictionary has one of them.
WIDTHS = (1, 2, 3, 4, 5, 10, 20)


def checks():
    return [check for _, check in estimator_checks_generator(for_width(2), mark=None)]


@pytest.mark.parametrize("index", range(len(checks())), ids=lambda i: _name(checks()[i]))
@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn(index):
    failures = []
    for width in WIDTHS:
        coder, check = list(estimator_checks_generator(for_width(width), mark=None))[index]
        try:
            check(coder)
        except SkipTest as skip:
            pytest.skip(str(skip))
        except Exception as failure:
            failures.append(f"{width}: {failure}")
        else:
            return
    raise AssertionError("\n".join(failures))


def _name(check):
    return getattr(check, "func", check).__name__ if not inspect.isfunction(check) else str(check)
