"""The scikit-learn classifier: its contract, its budget, and what it is without masks."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

from rarefy.budget import Uniform
from rarefy.weights.sparse_mlp import SparseMLPClassifier


@parametrize_with_checks([SparseMLPClassifier((16,), density=0.5, epochs=100, random_state=0)])
def test_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16)[:1200], y[:1200], (X / 16)[1200:], y[1200:]


@pytest.fixture(scope="module")
def fitted(digits):
    X, y, _, _ = digits
    return SparseMLPClassifier((200, 50), density=0.05, epochs=50, random_state=0).fit(X, y)


def test_a_twentieth_of_the_weights_comes_near_the_dense_network(digits, fitted):
    X, y, test_X, test_y = digits
    dense = clone(fitted).set_params(density=1.0).fit(X, y)
    assert dense.masks_.density() == 1
    assert fitted.score(test_X, test_y) > dense.score(test_X, test_y) - 0.08 > 0.8


def test_the_budget_is_met_and_pruned_weights_are_zero(fitted):
    masks = fitted.masks_
    assert masks.nnz == round(0.05 * (64 * 200 + 200 * 50 + 50 * 10))
    weights = dict(fitted.model_.named_parameters())
    assert all(not weights[name][~mask].any() for name, mask in masks.items())
    assert fitted.loss_curve_[-1] < 0.2 * fitted.loss_curve_[0] and len(fitted.loss_curve_) == 50


def test_a_seed_is_a_network(digits, fitted):
    X, y, test_X, _ = digits
    again = clone(fitted).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(test_X), fitted.predict_proba(test_X))
    other = clone(fitted).set_params(random_state=1, epochs=1).fit(X, y)
    assert sum(other.masks_.difference(fitted.masks_).values()) > 0
    restored = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(restored.predict(test_X), fitted.predict(test_X))


def test_the_allocation_is_the_rules(digits):
    X, y, _, _ = digits
    sparse = SparseMLPClassifier((20,), density=0.25, allocation=Uniform(), epochs=1)
    masks = sparse.fit(X[:100], y[:100]).masks_
    assert [masks.density(name) for name in masks] == [0.25, 0.25]


def test_fitting_leaves_the_global_stream_alone(digits):
    X, y, _, _ = digits
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    SparseMLPClassifier((4,), density=0.5, epochs=1, random_state=0).fit(X[:50], y[:50])
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"density": 0.0}, "density"),
        ({"density": 1.5}, "density"),
        ({"density": 0.0001}, "is a budget of 0, but the groups need at least 2"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"hidden_layer_sizes": ()}, "hidden_layer_sizes must be"),
        ({"hidden_layer_sizes": (4, 0)}, "hidden_layer_sizes must be"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
    ],
)
def test_bad_parameters(how, match):
    X, y = np.eye(10, 8), np.arange(10) % 2
    with pytest.raises(ValueError, match=match):
        SparseMLPClassifier(**{"hidden_layer_sizes": (4,), "epochs": 1} | how).fit(X, y)
