"""Experts' completions as rollouts, and the loop that learns from them alone."""

import math
from dataclasses import replace

import pytest
import torch

from rarefy.models.characters import character_model, character_tokenizer
from rarefy.policy.imitation import SFT, expert_rollout, experts, has_expert
from rarefy.policy.problems import TaskProblems
from rarefy.policy.rollout import score
from rarefy.policy.tasks import COUNTDOWN, PERMUTE, SORT, verified
from rarefy.policy.train_policy import encode
from rarefy.policy.trainer import PolicyTrainer

TOKENIZER = character_tokenizer()


class HalfTold(TaskProblems):
    """Traces of countdown only."""

    def draw(self, n):
        return [p if p.task == "countdown" else replace(p, trace="") for p in super().draw(n)]


def trainer(problems, **settings):
    settings = {"objective": SFT(), "sampler": experts, "n_prompts": 6, "group_size": 2} | settings
    model = character_model(TOKENIZER, seed=0, hidden=32, layers=1)
    return PolicyTrainer(
        model, TOKENIZER, problems, reward=verified, max_new_tokens=4, seed=0, **settings
    )


def test_the_loss_is_that_of_labels():
    problems = TaskProblems({(COUNTDOWN, 3): 1, (SORT, 2): 1}, seed=0).draw(5)
    model = character_model(TOKENIZER, seed=0, hidden=32, layers=1).eval()
    rollout = expert_rollout(model, TOKENIZER, problems)
    assert rollout.text(TOKENIZER) == [p.completion for p in problems]
    assert rollout.terminated.all() and all(
        row[-1] == TOKENIZER.eos_token_id for row in rollout.completions()
    )
    batch = encode(TOKENIZER, [(p.prompt, p.completion) for p in problems])
    logps = score(model, rollout).logps
    ours = -logps.sum() / rollout.completion_mask.sum()
    torch.testing.assert_close(ours, model(**batch).loss, rtol=1e-5, atol=1e-6)
    assert (logps[~rollout.completion_mask] == 0).all()


def test_it_learns_without_rolling_out_and_leaves_out_who_has_no_expert():
    run = trainer(HalfTold({(COUNTDOWN, 1): 1, (PERMUTE, 1): 1}, seed=1), learning_rate=1e-2)
    rows = run.train(12)
    assert run.n_rollouts == run.n_tokens == 0
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5 and rows[0]["loss"] < math.log(80)
    assert all(row["trained_groups"] == row["expert_prompts"] for row in rows)
    assert 0 < sum(row["trained_groups"] for row in rows) < 6 * 12


def test_a_step_without_experts_changes_nothing():
    run = trainer(HalfTold({(PERMUTE, 1): 1}, seed=1))
    before = [p.clone() for p in run.model.parameters()]
    (row,) = run.train(1)
    assert row["trained_groups"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))


def test_bad_input():
    model = character_model(TOKENIZER, seed=0, hidden=32, layers=1)
    (problem,) = TaskProblems({(COUNTDOWN, 1): 1}, seed=0).draw(1)
    assert has_expert(problem) and not has_expert(replace(problem, trace=""))
    with pytest.raises(ValueError, match="problem 1 has no trace"):
        expert_rollout(model, TOKENIZER, [problem, replace(problem, trace="")])
    with pytest.raises(ValueError, match="problems is empty"):
        expert_rollout(model, TOKENIZER, [])
    with pytest.raises(ValueError, match="does not fit the model's context of 512"):
        expert_rollout(model, TOKENIZER, [replace(problem, trace="1" * 600)])
