"""The general warm-up: what its batches hold, that it ends in a model, and what is shipped."""

import json
import random
from collections import Counter

import pytest

from rarefy.models import SHIPPED, open_model
from rarefy.policy import train_general_policy as script
from rarefy.policy.evaluation import evaluate
from rarefy.policy.tasks import COUNTDOWN, PERMUTE, SORT, task_of


def test_batches_hold_the_shares_and_only_right_completions():
    examples = [example for step in range(30) for example in script.examples_at(step, seed=0)]
    assert examples[:64] == script.examples_at(0, seed=0) != script.examples_at(0, seed=1)
    counts = Counter(task_of(prompt).name for prompt, _ in examples)
    assert sum(script.SHARES.values()) == pytest.approx(1)
    for task in (*script.GENERAL, COUNTDOWN):
        share = sum(s for (kind, _), s in script.SHARES.items() if kind is task)
        assert counts[task.name] / len(examples) == pytest.approx(share, abs=0.03)
    assert all(task_of(prompt).verify(prompt, completion) for prompt, completion in examples)


def test_it_stops_at_the_target_and_its_model_opens(tmp_path, monkeypatch):
    for name, value in {"BATCH": 4, "EVALUATE_EVERY": 2}.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(script, "success", lambda *_, **__: 0.9)
    nothing = {"success": 0.0}
    monkeypatch.setattr(script, "report", lambda *_, **__: [nothing] * 5)
    script.train(tmp_path, steps=10)
    facts = json.loads((tmp_path / "model" / "training.json").read_text())
    assert facts["steps"] == 2 and set(facts["by_task"]) == {
        "sort",
        "rewrite",
        "permute",
        "countdown",
    }
    assert open_model(tmp_path / "model").model.num_parameters() == 648_064
    assert "stops at general success" in (tmp_path / "model" / "README.md").read_text()


def test_the_shipped_policy_is_as_its_card_says():
    model, tokenizer = open_model(SHIPPED / "policy-general")
    facts = json.loads((SHIPPED / "policy-general" / "training.json").read_text())["by_task"]
    rng = random.Random(7)
    for task, level in ((SORT, 2), (PERMUTE, 2), (PERMUTE, 4)):
        problems = [task.sample(level, rng, split="eval") for _ in range(24)]
        found = evaluate(
            model, tokenizer, problems, max_new_tokens=54, n_completions=2, seed=0
        ).success()
        assert found == pytest.approx(facts[task.name][level - 1]["success"], abs=0.15)
