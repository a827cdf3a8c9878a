"""Evaluation: what it counts as right is verified again here, one completion at a time."""

from itertools import combinations

import numpy as np
import pytest

from rarefy.models import SHIPPED, open_model
from rarefy.policy import TaskProblems, evaluate
from rarefy.policy.tasks import COUNTDOWN, TASKS


@pytest.fixture(scope="module")
def problems():
    shares = {(COUNTDOWN, 1): 1.0, (COUNTDOWN, 3): 1.0}
    return TaskProblems(shares, seed=0, split="eval").draw(8)


@pytest.fixture(scope="module")
def found(problems):
    model, tokenizer = open_model(SHIPPED / "policy")
    return evaluate(model, tokenizer, problems, max_new_tokens=20, n_completions=4, seed=3)


def test_right_is_verified_and_ended(problems, found):
    for row, problem in enumerate(problems):
        told = [TASKS[problem.task].verify(problem.prompt, text) for text in found.texts[row]]
        assert found.correct[row].tolist() == [
            bool(t) and bool(e) for t, e in zip(told, found.terminated[row], strict=True)
        ]
    assert 0 < found.success() < 1 and found.entropy > 0
    assert found.lengths.shape == (8, 4) and found.lengths.max() <= 20


def test_success_and_pass_at_k_by_level(found):
    for level in (1, 3, None):
        rows = found.correct[found.at(level)]
        assert found.success(level) == rows.mean()
        drawn = [any(row[list(pick)]) for row in rows for pick in combinations(range(4), 2)]
        assert found.pass_at(2, level) == pytest.approx(np.mean(drawn))
    assert found.at(1).sum() + found.at(3).sum() == len(found.problems)


def test_the_seed_is_all_that_it_depends_on(problems, found):
    model, tokenizer = open_model(SHIPPED / "policy")
    options = {"max_new_tokens": 20, "n_completions": 4}
    again = evaluate(model, tokenizer, problems, seed=3, **options)
    assert again.texts == found.texts
    assert evaluate(model, tokenizer, problems, seed=4, **options).texts != found.texts
