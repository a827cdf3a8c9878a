"""The warm-up: what its batches hold, that it learns, resumes as if never stopped, and stops."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file

from rarefy.models import character_tokenizer, open_model
from rarefy.policy import _warm_up, train_policy
from rarefy.policy._warm_up import learning_rate
from rarefy.policy.tasks import TASKS, task_of
from rarefy.policy.train_policy import encode, examples_at, train

SORT = TASKS["sort"]


@pytest.fixture
def small(monkeypatch):
    for name, value in {"BATCH": 4, "EVALUATE_EVERY": 2, "EVALUATION_ROWS": 4,
                        "REPORT_PROMPTS": 1, "REPORT_GROUP": 2}.items():  # fmt: skip
        monkeypatch.setattr(train_policy, name, value)


def test_batches_are_expert_completions_a_quarter_with_hints():
    tasks = [TASKS["countdown"], SORT]
    examples = [example for step in range(10) for example in examples_at(step, tasks, seed=0)]
    assert examples[:64] == examples_at(0, tasks, seed=0) != examples_at(0, tasks, seed=1)
    assert examples[:64] != examples[64:128]
    assert {task_of(prompt).name for prompt, _ in examples} == {"countdown", "sort"}
    assert all(task_of(prompt).verify(prompt, completion) for prompt, completion in examples)
    hints = sum("~" in prompt for prompt, _ in examples) / len(examples)
    assert hints == pytest.approx(0.25, abs=0.06)


def test_only_the_completion_and_its_end_have_labels():
    tokenizer = character_tokenizer()
    batch = encode(tokenizer, [("sa21=", "1.2;2.#12"), ("sd1=", "1.#1")])
    for row, text in enumerate(["1.2;2.#12", "1.#1"]):
        labels = batch["labels"][row]
        told = labels[labels != -100]
        assert tokenizer.decode(told[:-1]) == text and told[-1] == tokenizer.eos_token_id
        assert batch["input_ids"][row][labels != -100].equal(told)
    assert batch["attention_mask"].sum(1).tolist() == [5 + 9 + 1, 4 + 4 + 1]


def test_learning_rate_warms_up_and_falls_to_a_tenth():
    rates = [learning_rate(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(rates[-1] / 3, rel=0.02)
    assert max(rates) == rates[29] == pytest.approx(2e-3, rel=0.03)
    assert rates[-1] == pytest.approx(2e-4, rel=0.01)


def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(small, tmp_path, monkeypatch):
    monkeypatch.setattr(train_policy, "report", lambda *_, **__: [])
    monkeypatch.setattr(train_policy, "success", lambda *_, **__: 0.0)
    train(tmp_path / "whole", steps=4, tasks=[SORT], target_success=1.0)
    rate = learning_rate

    def killed_at_the_fourth(step, steps):
        if step == 3:
            raise KeyboardInterrupt
        return rate(step, steps)

    with monkeypatch.context() as patch:
        patch.setattr(_warm_up, "learning_rate", killed_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed", steps=4, tasks=[SORT], target_success=1.0)
    assert not (tmp_path / "killed" / "model").exists()
    train(tmp_path / "killed", steps=4, tasks=[SORT], target_success=1.0)
    whole, killed = (
        load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "killed")
    )
    assert all(whole[name].equal(killed[name]) for name in whole)


def test_training_stops_at_the_target_and_its_model_opens(small, tmp_path, monkeypatch):
    monkeypatch.setattr(train_policy, "success", lambda *_, **__: 0.04)
    state = torch.get_rng_state()
    train(tmp_path, steps=50, tasks=[SORT], target_level=3)
    assert torch.get_rng_state().equal(state)
    facts = json.loads((tmp_path / "model" / "training.json").read_text())
    assert facts["steps"] == 2
    assert [set(level) for level in facts["by_task"]["sort"]] == [
        {"success", "credit", "all_wrong"}
    ] * 5
    assert "| sort | 0.000 (1.00) | 0.000" in (tmp_path / "model" / "README.md").read_text()
    model, tokenizer = open_model(tmp_path / "model")
    assert tokenizer.padding_side == "left" and tokenizer.pad_token != tokenizer.eos_token
    assert model.num_parameters() == 648_064


def test_a_policy_that_copies_the_expert_succeeds(small, monkeypatch):
    def expert(model, tokenizer, problems, *, seed):
        return [p.completion if p.level < 3 else p.trace for p in problems]

    monkeypatch.setattr(train_policy, "sample_completions", expert)
    assert train_policy.success(None, None, [SORT], level=2, seed=0) == 1.0
    figures = train_policy.report(None, None, SORT, seed=0)
    assert [f["success"] for f in figures] == [1, 1, 0, 0, 0]
    assert [f["all_wrong"] for f in figures] == [0, 0, 1, 1, 1]


def test_sampled_completions_follow_their_seed():
    tokenizer = character_tokenizer()
    model = train_policy.character_model(tokenizer, seed=0, hidden=32, layers=1)
    problems = [SORT.sample(level, random.Random(0)) for level in (1, 2)]
    first, again, other = (
        train_policy.sample_completions(model, tokenizer, problems, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other
