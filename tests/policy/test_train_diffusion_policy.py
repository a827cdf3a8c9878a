"""The diffusion warm-up: what is shown, what is learnt, stopping, and going on after a kill."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file

from rarefy.models import character_model, character_tokenizer
from rarefy.policy import train_diffusion_policy as script
from rarefy.policy import train_policy
from rarefy.policy.canvas import on_canvas
from rarefy.policy.tasks import COUNTDOWN, spans

TOKENIZER = character_tokenizer()


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(train_policy, "BATCH", 4)
    for name, value in {"EVALUATE_EVERY": 2, "CHECKED_LEVELS": (1,), "EVALUATION_PROMPTS": 4,
                        "SAMPLER_STEPS": 3}.items():  # fmt: skip
        monkeypatch.setattr(script, name, value)


def test_a_revealed_canvas_has_the_trace_and_nothing_of_the_answer():
    rng = random.Random(0)
    problems = [COUNTDOWN.sample(level, rng) for level in (1, 2, 3, 4)]
    for problem, canvas in zip(problems, script.revealed(TOKENIZER, problems), strict=True):
        shown = canvas[canvas != TOKENIZER.mask_token_id]
        assert TOKENIZER.decode(shown) == problem.trace
        assert canvas[: len(shown)].equal(shown)


def test_only_answers_are_masked_in_three_rows_of_ten(monkeypatch):
    seen = []
    monkeypatch.setattr(
        script, "diffusion_loss", lambda *args, maskable, **_: seen.append((args[3], maskable))
    )
    model = character_model(TOKENIZER, seed=0, hidden=32, layers=1)
    for step in range(20):
        script.loss_at(model, TOKENIZER, step, [COUNTDOWN], seed=0)
    canvas, maskable = (torch.cat(parts) for parts in zip(*seen, strict=True))
    whole = maskable.all(1)
    assert 1 - whole.float().mean() == pytest.approx(0.3, abs=0.04)
    for tokens, answer in zip(canvas[~whole], maskable[~whole], strict=True):
        assert spans(TOKENIZER.decode(tokens, skip_special_tokens=True)).trace == TOKENIZER.decode(
            tokens[~answer]
        )


def test_success_is_that_of_the_canvas_up_to_its_end(monkeypatch):
    def expert(model, ids, mask, *, fixed, **_):
        rng = random.Random("0 evaluation 2")
        problems = [COUNTDOWN.sample(2, rng, split="eval") for _ in range(len(ids))]
        canvas = on_canvas(TOKENIZER, [p.completion for p in problems], length=script.CANVAS)
        canvas[:, -1] = TOKENIZER.convert_tokens_to_ids("x")  # behind the end, not read
        return canvas if fixed is not None else canvas.flip(1)

    monkeypatch.setattr(script, "denoise", expert)
    model = character_model(TOKENIZER, seed=0, hidden=32, layers=1)
    values = [
        script.success(model, TOKENIZER, [COUNTDOWN], level=2, seed=0, reveal=reveal)
        for reveal in (True, False)
    ]
    assert values == [1.0, 0.0]


def test_a_run_stops_at_the_target_and_goes_on_after_a_kill(small, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "success", lambda *_, **__: 0.02)
    script.train(tmp_path / "whole", steps=3)
    script.train(tmp_path / "killed", steps=3)
    (tmp_path / "killed" / "model" / "model.safetensors").unlink()
    script.train(tmp_path / "killed", steps=3)
    whole, killed = (
        load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "killed")
    )
    assert all(whole[name].equal(killed[name]) for name in whole)
    facts = json.loads((tmp_path / "whole" / "model" / "training.json").read_text())
    assert facts["steps"] == 3 and facts["success"] == [0.02]
    monkeypatch.setattr(script, "success", lambda *_, **__: 0.04)
    script.train(tmp_path / "stopped", steps=3)
    facts = json.loads((tmp_path / "stopped" / "model" / "training.json").read_text())
    assert facts["steps"] == 2
    card = (tmp_path / "stopped" / "model" / "README.md").read_text()
    assert "| with the expert's trace revealed | 0.040 |" in card
