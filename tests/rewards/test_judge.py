"""The shipped judge, its three scores against plain forward passes, and its training script."""

import random
from statistics import fmean

import pytest
import torch

from rarefy.policy.tasks import COUNTDOWN, PERMUTE
from rarefy.policy.tasks.traces import first_fault
from rarefy.policy.train_trace_judge import (
    accuracy,
    contests,
    loss_at,
    problems_at,
    sums,
    train,
    untrained,
)
from rarefy.rewards.judge import TraceJudge

QUESTION, SOUND = "n3,5,2>16=", "3;+5.8;*2.16"


@pytest.fixture(scope="module")
def judge():
    return TraceJudge.shipped()


def by_token(judge, context, text):
    """Log-probability and entropy of each token of the text, one text in one pass."""
    ids = [judge.tokenizer.bos_token_id, *judge.tokenizer(context + text)["input_ids"]]
    n = len(judge.tokenizer(text)["input_ids"])
    with torch.no_grad():
        logps = judge.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    rows = range(len(ids) - n - 1, len(ids) - 1)
    return [(float(logps[t, ids[t + 1]]), -float((logps[t].exp() * logps[t]).sum())) for t in rows]


def test_the_scores_are_what_plain_passes_give(judge):
    pairs = [(QUESTION, SOUND), ("n2,2>4=", "2;+2.4"), (QUESTION, "3;+5.9;*2.18"), (QUESTION, "3")]
    wanted = [sum(p + h for p, h in by_token(judge, q, r + "#")) for q, r in pairs]
    assert judge.coherence(pairs) == pytest.approx(wanted, abs=1e-3)
    other = {QUESTION: "n2,2>4=", "n2,2>4=": QUESTION}
    wanted = [
        fmean(p for p, _ in by_token(judge, q, r + "#"))
        - fmean(p for p, _ in by_token(judge, other[q], r + "#"))
        for q, r in pairs
    ]
    assert judge.follows(pairs) == pytest.approx(wanted, abs=1e-3)
    answers = [(SOUND, "3+5*2"), (SOUND, "5"), ("2;+2.4", "2+2")]
    wanted = [
        fmean(p for p, _ in by_token(judge, r + "#", a + "<eos>"))
        - fmean(p for p, _ in by_token(judge, "#", a + "<eos>"))
        for r, a in answers
    ]
    assert judge.entails(answers) == pytest.approx(wanted, abs=1e-3)


def test_company_order_and_repetition_change_nothing(judge):
    rng = random.Random(0)
    pairs = [(p.prompt, p.trace) for p in (COUNTDOWN.sample(3, rng) for _ in range(9))]
    alone = [judge.coherence([pair])[0] for pair in pairs]
    judge._last = {}
    together = judge.coherence([*pairs[::-1], *pairs])
    assert together[:9] == pytest.approx(alone[::-1], abs=1e-3)
    assert together[9:] == together[8::-1]


def test_a_single_question_has_no_other_to_compare_with(judge):
    wanted = fmean(p for p, _ in by_token(judge, QUESTION, SOUND + "#"))
    assert judge.follows([(QUESTION, SOUND)]) == pytest.approx([wanted], abs=1e-4)


def test_steps_add_up_and_a_fault_costs_its_own_step(judge):
    flawed = judge.by_step(QUESTION, "3;+5.2;*2.16")
    total = judge.coherence([(QUESTION, "3;+5.2;*2.16")])[0]
    assert sum(flawed) == pytest.approx(total, abs=1e-3)
    sound = judge.by_step(QUESTION, SOUND)
    assert flawed[0] == pytest.approx(sound[0], abs=1e-4) and flawed[1] < sound[1] - 1


@pytest.mark.parametrize("task", [COUNTDOWN, PERMUTE], ids=lambda task: task.name)
def test_held_out_contests_are_won(judge, task):
    assert accuracy(judge.model, judge.tokenizer, [task], seed=7) > 0.95


def test_contests_are_of_a_sound_and_an_unsound_trace():
    problems = problems_at(3, [COUNTDOWN, PERMUTE], seed=0)
    against = contests(problems, random.Random(0))
    assert len(against) == len(problems)
    for (question, sound), (same, spoilt) in against:
        assert question == same
        assert first_fault(question, sound[:-1]) is None
        assert first_fault(question, spoilt[:-1]) is not None


def test_buckets_change_nothing(judge):
    pairs = [(p.prompt, p.completion) for p in problems_at(1, [COUNTDOWN, PERMUTE], seed=0, n=7)]
    logps, lengths = sums(judge.model, judge.tokenizer, pairs)
    assert lengths.tolist() == [len(text) for _, text in pairs]
    wanted = [sum(p for p, _ in by_token(judge, *pair)) for pair in pairs]
    torch.testing.assert_close(logps, torch.tensor(wanted), atol=1e-3, rtol=1e-4)


def test_the_loss_has_a_gradient_and_is_a_function_of_the_step(judge):
    model = untrained(judge.tokenizer, seed=0)
    losses = [loss_at(step, model, judge.tokenizer, [COUNTDOWN], seed=0) for step in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    losses[0].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_a_killed_training_goes_on_with_the_same_weights(tmp_path, monkeypatch):
    from safetensors.torch import load_file

    from rarefy.policy import train_trace_judge as script

    for name, value in {"WITHOUT_QUESTION": 1, "ANSWER_ALONE": 1, "SPOILT": 2}.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(script, "EVALUATION_PROBLEMS", 4)
    monkeypatch.setattr(script, "EVALUATE_EVERY", 2)
    monkeypatch.setitem(problems_at.__kwdefaults__, "n", 4)

    def run(folder):
        train(tmp_path / folder, steps=4, tasks=[COUNTDOWN], target_success=2.0)
        return load_file(tmp_path / folder / "model" / "model.safetensors")

    def killed(step, *arguments, **settings):
        if step > 3:
            raise KeyboardInterrupt
        return loss_at(step, *arguments, **settings)

    whole = run("whole")
    with monkeypatch.context() as patch:
        patch.setattr(script, "loss_at", killed)
        with pytest.raises(KeyboardInterrupt):
            run("parts")
    parts = run("parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert "trace judge" in (tmp_path / "parts" / "model" / "README.md").read_text()
