"""Groups of filled canvases: what is read and given in them, and fine-tuning on them."""

import random
from types import SimpleNamespace

import pytest
import torch

from rarefy.models import character_model, character_tokenizer
from rarefy.policy import canvas as module
from rarefy.policy.canvas import Canvas, evaluate_canvas, fill, on_canvas
from rarefy.policy.diffusion_sft import fine_tune
from rarefy.policy.mean_field import mean_field_scores
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import COUNTDOWN

TOKENIZER = character_tokenizer()
MASK, END = TOKENIZER.mask_token_id, TOKENIZER.eos_token_id
MODEL = character_model(TOKENIZER, seed=0, hidden=32, layers=1).eval()
SMALL = Canvas(length=16, steps=4, block_length=8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_rollout_reads_up_to_the_first_end(monkeypatch):
    canvases = on_canvas(TOKENIZER, ["a#b", "abcdefghijklmno"], length=16)
    canvases[0, 8] = canvases[1, 15] = TOKENIZER.convert_tokens_to_ids("x")
    monkeypatch.setattr(module, "denoise", lambda *_, **__: canvases)
    rollout = fill(MODEL, TOKENIZER, ["n3>3=", "sa21="], SMALL, generator=generator())
    assert rollout.text(TOKENIZER) == ["a#b", "abcdefghijklmnox"]
    assert rollout.terminated.tolist() == [True, False]
    assert rollout.lengths.tolist() == [4, 16]


def test_given_tokens_stay_and_parts_of_rows_change_nothing_but_the_draws(monkeypatch):
    monkeypatch.setattr(module, "CPU_ROWS", 2)
    fixed = torch.full((6, 16), MASK)
    fixed[1, 3], fixed[5, 15] = 30, 31
    prompts = ["n3>3=", "n3,4,5>12="]
    rollout = fill(
        MODEL, TOKENIZER, prompts, SMALL, n_completions=3, generator=generator(), fixed=fixed
    )
    assert (rollout.completion_ids != MASK).all()
    assert rollout.completion_ids[fixed != MASK].tolist() == [30, 31]
    ids, mask = rollout.prompt_ids, rollout.prompt_mask
    assert TOKENIZER.batch_decode([row[m] for row, m in zip(ids, mask, strict=True)]) == [
        prompt for prompt in prompts for _ in range(3)
    ]
    whole = mean_field_scores(MODEL, ids, mask.long(), rollout.completion_ids, mask_token_id=MASK)
    torch.testing.assert_close(rollout.logps, whole.logps, atol=1e-5, rtol=0)
    torch.testing.assert_close(rollout.entropies, whole.entropies, atol=1e-5, rtol=0)
    assert not rollout.logps.requires_grad and not rollout.completion_ids.is_inference()


def test_a_whole_trace_that_is_given_is_there_verbatim():
    problem = COUNTDOWN.sample(2, random.Random(0))
    fixed = on_canvas(TOKENIZER, [problem.trace], length=16)
    fixed[0, len(problem.trace) :] = MASK
    rollout = fill(MODEL, TOKENIZER, [problem.prompt], SMALL, generator=generator(), fixed=fixed)
    assert TOKENIZER.decode(rollout.completion_ids[0]).startswith(problem.trace)


def test_experts_canvases_are_right_and_their_answers_needed(monkeypatch):
    rng = random.Random(0)
    problems = [COUNTDOWN.sample(level, rng) for level in (1, 2, 3, 4)]
    right = on_canvas(TOKENIZER, [p.completion for p in problems], length=24)
    wrong = on_canvas(TOKENIZER, [p.trace for p in problems], length=24)
    both = torch.stack([right, wrong], dim=1).flatten(0, 1)
    monkeypatch.setattr(module, "denoise", lambda *_, **__: both)
    found = evaluate_canvas(MODEL, TOKENIZER, problems, Canvas(), n_completions=2, seed=0)
    assert found.correct.tolist() == [[True, False]] * 4
    assert found.success(3) == 0.5 and found.pass_at(2) == 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="length is 12, block_length 8 and steps 4"):
        Canvas(length=12, steps=4, block_length=8)
    with pytest.raises(ValueError, match="as many steps in each"):
        Canvas(length=16, steps=3, block_length=8)
    with pytest.raises(ValueError, match="has 16 tokens; at most 15 fit"):
        on_canvas(TOKENIZER, ["a" * 16], length=16)
    with pytest.raises(ValueError, match="the longest prompt has 500 tokens"):
        fill(MODEL, TOKENIZER, ["a" * 500], SMALL, generator=generator())
    with pytest.raises(ValueError, match="no mask token"):
        fill(MODEL, SimpleNamespace(mask_token_id=None), ["a"], SMALL, generator=generator())


def test_fine_tuning_lowers_the_loss_and_is_its_seeds():
    def run(seed):
        model = character_model(TOKENIZER, seed=0, hidden=32, layers=1)
        problems = TaskProblems({(COUNTDOWN, 1): 1.0}, seed=seed)
        return fine_tune(
            model, TOKENIZER, problems, length=16, steps=16, seed=seed, batch_size=8,
            learning_rate=1e-2,
        )  # fmt: skip

    losses = run(0)
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    assert losses == run(0) and losses != run(1)
    with pytest.raises(ValueError, match="at most 3 fit"):
        fine_tune(
            MODEL, TOKENIZER, TaskProblems({(COUNTDOWN, 1): 1.0}, seed=0), length=4, steps=1, seed=0
        )
