"""A planted dictionary is found, the rules minimise what they say, and bad input is refused."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from rarefy.dictionaries import DictionaryLearner, SparseCoder, tune_penalty
from rarefy.dictionaries.dictionary_updates import Gradient, Surrogate
from rarefy.operators import CEL0, L0, L1, Lq


@pytest.mark.filterwarnings("ignore:.*still moving:sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([DictionaryLearner(6, max_steps=5, tol=1e-6, random_state=0)])
def test_scikit_learn(estimator, check):
    check(estimator)


def planted(n=3000, atoms=20, d=16, active=2, seed=0):
    rng = np.random.default_rng(seed)
    dictionary = rng.standard_normal((atoms, d)).astype(np.float32)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    codes = np.zeros((n, atoms), np.float32)
    for row in codes:
        row[rng.choice(atoms, active, replace=False)] = rng.choice([-1, 1], active) * (
            1 + rng.random(active)
        )
    return codes @ dictionary, dictionary


def found(dictionary, truth):
    """Mean |cosine| under the best matching of atoms."""
    cosines = np.abs(truth @ dictionary.T)
    return cosines[linear_sum_assignment(-cosines)].mean()


@pytest.mark.parametrize("penalty", [L1(0.2), L0(0.1), CEL0(0.1), Lq(0.15)], ids=repr)
def test_a_planted_dictionary_is_found(penalty):
    x, truth = planted()
    learner = DictionaryLearner(20, penalty, max_steps=100, batch_size=128, random_state=0).fit(x)
    start = DictionaryLearner(20, penalty, max_steps=1, random_state=0).fit(x)
    assert found(learner.components_, truth) > 0.9
    assert found(start.components_, truth) < 0.85


def test_the_surrogate_minimises_the_past_batches():
    # One atom at a time is least squares: after passes enough it is the minimum over unit atoms.
    g = torch.Generator().manual_seed(0)
    x, codes = torch.randn(50, 6, generator=g), torch.randn(50, 1, generator=g)
    start = torch.nn.functional.normalize(torch.randn(1, 6, generator=g))
    rule = Surrogate(start)
    best = rule(start, x, codes)
    pull = codes.T @ x
    assert torch.allclose(best, pull / pull.norm(), atol=1e-5)


def test_the_gradient_step_is_the_released_one_within_its_cap():
    g = torch.Generator().manual_seed(0)
    x, codes = torch.randn(50, 6, generator=g), torch.randn(50, 3, generator=g)
    start = torch.nn.functional.normalize(torch.randn(3, 6, generator=g))
    moved = start + 1e-4 * codes.T @ (x - codes @ start)
    assert torch.allclose(
        Gradient(1e-4)(start, x, codes), moved / moved.norm(dim=1, keepdim=True), atol=1e-6
    )
    far = Gradient(10.0)(start, x, codes)
    assert float((far - start).norm(dim=1).max()) < 0.11


@pytest.mark.parametrize("update", ["surrogate", "gradient"])
def test_error_falls_and_atoms_have_unit_norm(update):
    x, _ = planted()

    def error(steps):
        learner = DictionaryLearner(
            20, CEL0(0.1), max_steps=steps, update=update, lr=0.02, random_state=0
        ).fit(x)
        assert np.allclose(np.linalg.norm(learner.components_, axis=1), 1, atol=1e-5)
        return ((x - learner.inverse_transform(learner.transform(x))) ** 2).mean()

    assert error(60) < 0.7 * error(1)


def test_the_same_seed_gives_the_same_dictionary():
    x, _ = planted(n=500)
    first, again, other = (
        DictionaryLearner(8, max_steps=5, random_state=seed).fit(x).components_
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_partial_fit_goes_on():
    x, _ = planted(n=600)
    learner = DictionaryLearner(10, CEL0(0.1), random_state=0)
    for batch in np.split(x, 6):
        learner.partial_fit(batch)
    assert learner.n_iter_ == 6
    with pytest.raises(ValueError, match="expecting 16 features"):
        learner.partial_fit(x[:, :4])


def test_silent_units_are_given_the_worst_input():
    x, _ = planted(n=400)
    learner = DictionaryLearner(8, L0(0.2), max_steps=4, revive_after=2, random_state=0)
    learner._check_parameters()
    learner._start(learner._rows(x, reset=True))
    # An atom that is orthogonal to every input, in a feature of its own, is never active.
    learner.partial_fit(x)
    still = DictionaryLearner(8, L0(1e9), revive_after=None, random_state=0)
    with pytest.warns(ConvergenceWarning, match="every code was zero under L0"):
        still.fit(x)
    batch = torch.from_numpy(x[:50])
    codes = torch.zeros(50, 8)
    learner._revive(torch.tensor([3]), batch, codes)
    worst = batch[batch.square().sum(1).argmax()]
    assert torch.allclose(learner._dictionary[3], worst / worst.norm(), atol=1e-5)


def test_codes_that_all_vanish_leave_the_dictionary():
    x, _ = planted(n=300)
    learner = DictionaryLearner(8, L1(1e6), max_steps=3, random_state=0)
    with pytest.warns(ConvergenceWarning, match="lower lam"):
        learner.fit(x)
    before = learner.components_
    with pytest.warns(ConvergenceWarning, match="lower lam"):
        learner.partial_fit(x)
    assert np.array_equal(before, learner.components_)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_components": 0}, "n_components is 0, expected at least 1"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"update": "sgd"}, "update is 'sgd', expected 'surrogate' or 'gradient'"),
        ({"lr": 0}, "lr is 0, expected a positive number"),
        ({"revive_after": 0}, "revive_after is 0, expected None or at least 1"),
    ],
)
def test_bad_parameters(change, message):
    with pytest.raises(ValueError, match=message):
        DictionaryLearner(**change).fit(np.eye(3))


@pytest.mark.parametrize("penalty", [L1(1.0), L0(1e-4), CEL0(5.0)], ids=repr)
def test_tuning_meets_its_target(penalty):
    x, truth = planted(n=400)
    coder = SparseCoder(truth, penalty, tol=1e-3, max_iter=5000)
    by_l0 = tune_penalty(coder, x, target_l0=3.0, max_fits=20)
    codes = by_l0.learner.transform(x)
    assert abs((codes != 0).sum(1).mean() / 3 - 1) < 0.05 and by_l0.fits <= 20
    by_error = tune_penalty(coder, x, target_error=0.1, max_fits=20)
    rest = x - by_error.learner.inverse_transform(by_error.learner.transform(x))
    assert abs((rest**2).mean() / (x**2).mean() / 0.1 - 1) < 0.05
    assert coder.penalty == penalty


def test_tuning_wants_one_target():
    coder = SparseCoder(np.eye(3))
    with pytest.raises(ValueError, match="one of target_l0 and target_error"):
        tune_penalty(coder, np.eye(3))
    with pytest.raises(ValueError, match="target_l0 is -1"):
        tune_penalty(coder, np.eye(3), target_l0=-1)
    with pytest.raises(ValueError, match="lam of the learner's penalty is 0"):
        tune_penalty(SparseCoder(np.eye(3), L1(0)), np.eye(3), target_l0=1)
