"""The warm-up of the policy with tools: demonstrations, labels, resuming; and what is shipped."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file

from rarefy.models import SHIPPED, character_tokenizer, open_model
from rarefy.policy import _warm_up, train_tool_policy
from rarefy.policy._warm_up import learning_rate
from rarefy.policy.tasks.kbqa import KB_QA
from rarefy.policy.train_tool_policy import (
    demonstration,
    encode,
    environment,
    examples_at,
    success,
    train,
)


def text_of(segments):
    return "".join(text for text, _ in segments)


def test_demonstrators_succeed_as_often_as_their_slips_let_them():
    rng = random.Random(0)
    for level, expected in ((1, 0.36), (2, 0.6 * (0.6 * 0.5) * 0.6), (3, 0.6 * 0.3 * 0.3 * 0.6)):
        prompts = [KB_QA.sample(level, rng).prompt for _ in range(3000)]
        right = [KB_QA.verify(p, text_of(demonstration(p, rng))) for p in prompts]
        assert sum(right) / 3000 == pytest.approx(expected, abs=0.025)


def test_the_environment_writes_exactly_what_it_would():
    env = environment()
    rng = random.Random(1)
    for _ in range(300):
        segments = demonstration(KB_QA.sample(3, rng).prompt, rng)
        for place, (_, own) in enumerate(segments):
            reply = env.reply(text_of(segments[: place + 1])) if own else None
            behind = segments[place + 1] if place + 1 < len(segments) else None
            assert (reply, False) == behind if reply else behind is None or not own


def test_only_the_demonstrators_words_and_the_end_have_labels():
    tokenizer = character_tokenizer()
    segments = [("<a,bob>", True), ("[dod]", False), ("#dod", True)]
    batch = encode(tokenizer, [("?a,bob=", segments), ("?a,b=", [("#b", True)])])
    labels, ids = batch["labels"][0], batch["input_ids"][0]
    assert tokenizer.decode(labels[labels != -100]) == "<a,bob>#dod<eos>"
    assert tokenizer.decode(ids) == "?a,bob=<a,bob>[dod]#dod<eos>"
    assert labels[labels != -100].equal(ids[labels != -100])
    assert batch["attention_mask"].sum(1).tolist() == [24, 8]


def test_batches_are_functions_of_seed_and_step():
    assert examples_at(3, seed=0) == examples_at(3, seed=0) != examples_at(4, seed=0)


@pytest.fixture
def small(monkeypatch):
    for name, value in {"BATCH": 4, "EVALUATE_EVERY": 2}.items():
        monkeypatch.setattr(train_tool_policy, name, value)
    monkeypatch.setattr(train_tool_policy, "success", lambda *_, **__: 0.0)
    figures = {"success": 0.0, "parse_rate": 0.0, "all_wrong": 1.0}
    monkeypatch.setattr(train_tool_policy, "report", lambda *_, **__: [figures] * 5)


def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(small, tmp_path, monkeypatch):
    train(tmp_path / "whole", steps=4)
    rate = learning_rate

    def killed_at_the_fourth(step, steps):
        if step == 3:
            raise KeyboardInterrupt
        return rate(step, steps)

    with monkeypatch.context() as patch:
        patch.setattr(_warm_up, "learning_rate", killed_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed", steps=4)
    train(tmp_path / "killed", steps=4)
    whole, killed = (
        load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "killed")
    )
    assert all(whole[name].equal(killed[name]) for name in whole)
    assert "| 1 | 0.000 | 0.00 | 1.00 |" in (tmp_path / "whole/model/README.md").read_text()


def test_the_shipped_policy_is_as_its_card_says(monkeypatch):
    facts = json.loads((SHIPPED / "policy-tools" / "training.json").read_text())
    model, tokenizer = open_model(SHIPPED / "policy-tools")
    monkeypatch.setattr(train_tool_policy, "EVALUATION_ROWS", 96)
    torch.set_num_threads(1)
    assert success(model, tokenizer, level=1, seed=5) == pytest.approx(
        facts["by_level"][0]["success"], abs=0.15
    )
    assert facts["by_level"][2]["success"] < 0.1
