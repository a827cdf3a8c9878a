"""Rollouts with tools: what the environment says, what is masked, and the trainer on top."""

import pytest
import torch

from rarefy.models import character_model, character_tokenizer
from rarefy.policy.grpo import GRPO
from rarefy.policy.losses import token_mean
from rarefy.policy.problems import TaskProblems
from rarefy.policy.rollout import generate, score
from rarefy.policy.tasks.kbqa import KB_QA, TOOLS
from rarefy.policy.tools import (
    OwnTokens,
    ToolEnv,
    ToolTrainer,
    evaluate_with_tools,
    generate_with_tools,
)
from rarefy.policy.vspo import VSPO, ValueRefill

ENV = ToolEnv({"add": lambda a, b: str(int(a) + int(b)), "x": lambda _: "yz"}, max_calls=2)


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("<add,2,3>", "[5]"),
        ("so <x,a>[yz] <add,2,3>", "[5]"),
        ("<add,2>", "[!]"),
        ("<add,two,3>", "[!]"),
        ("<add>", "[!]"),
        ("<none,1>", "[!]"),
        ("<>", "[!]"),
        ("<<x,1>", "[yz]"),
        ("<x,1>[yz]>", None),
        ("x,1>", None),
        ("<x,1", None),
        ("<x,1>[yz]<x,1>[yz]<x,1>", None),
    ],
)
def test_the_environment_answers_a_call_when_it_ends(text, reply):
    assert ENV.reply(text) == reply


def test_a_call_is_an_attempt_whether_it_parses_or_not():
    assert ENV.attempts("<x,1>[yz]<x><none,1>[!]<x,1") == [True, False, False, False]
    assert ENV.attempts("none") == []


def test_bad_environments_are_refused():
    with pytest.raises(ValueError, match="tools is empty"):
        ToolEnv({})
    with pytest.raises(ValueError, match="max_calls 0"):
        ToolEnv(TOOLS, max_calls=0)


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer()


@pytest.fixture(scope="module")
def caller(tokenizer):
    """A policy whose weights make it open and close calls often."""
    model = character_model(tokenizer, seed=0, hidden=32, layers=1)
    g = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(0, 0.3, generator=g)
    common = tokenizer("<>,xyz#", add_special_tokens=False)["input_ids"]
    common.append(tokenizer.eos_token_id)
    bias = torch.full((len(tokenizer),), -4.0)
    bias[common] = 0.0
    bias[tokenizer.eos_token_id] = -1.5
    model.lm_head.register_forward_hook(lambda module, args, out: out + bias)
    return model.eval().double()


def sampled(caller, tokenizer, **options):
    options = {"max_new_tokens": 40, "n_completions": 8} | options
    return generate_with_tools(
        caller,
        tokenizer,
        ["?a,bob=", "?abc,dod="],
        ENV,
        generator=torch.Generator().manual_seed(0),
        **options,
    )


def test_results_stand_behind_their_calls_and_only_they_are_masked(caller, tokenizer):
    rollout, own = sampled(caller, tokenizer)
    n_results = 0
    for ids, row, text in zip(rollout.completions(), own, rollout.text(tokenizer), strict=True):
        spoken = ""
        position = 0
        while position < len(ids):
            if not row[position]:
                reply = ENV.reply(spoken)
                rest = tokenizer.decode(ids[position : position + len(reply)])
                assert reply.startswith(rest) and (rest == reply or len(ids) == 40)
                assert not row[position : position + len(rest)].any()
                spoken += rest
                position += len(rest)
                n_results += 1
                continue
            assert ENV.reply(spoken) is None or spoken.endswith("]")
            spoken += tokenizer.decode(ids[position], skip_special_tokens=True)
            position += 1
        assert spoken == text
        assert not row[len(ids) :].any()
    assert n_results > 5


def test_log_probabilities_are_those_of_a_pass_over_the_whole(caller, tokenizer):
    rollout, own = sampled(caller, tokenizer)
    again = score(caller, rollout)
    assert torch.allclose(again.logps, rollout.logps, atol=1e-8)
    assert torch.allclose(again.entropies * own, rollout.entropies, atol=1e-8)
    assert not rollout.entropies[~own].any()


def test_without_a_call_it_is_an_ordinary_rollout(caller, tokenizer):
    silent = ToolEnv(TOOLS, open="@", close="@")
    g = torch.Generator().manual_seed(3)
    ours, own = generate_with_tools(
        caller, tokenizer, ["?a,bob="], silent, max_new_tokens=30, n_completions=16, generator=g
    )
    theirs = generate(
        caller,
        [tokenizer("?a,bob=")["input_ids"]],
        max_new_tokens=30,
        n_completions=16,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        generator=torch.Generator().manual_seed(3),
    )
    assert ours.completion_ids.equal(theirs.completion_ids)
    assert torch.allclose(ours.logps, theirs.logps) and ours.terminated.equal(theirs.terminated)
    assert own.equal(theirs.completion_mask)


def trainer(tokenizer, model=None, seed=0, **options):
    model = character_model(tokenizer, seed=0, hidden=32, layers=1) if model is None else model
    options = {"objective": VSPO(kl_coef=0.0), "reward": KB_QA.credit_reward} | options
    return ToolTrainer(
        model,
        tokenizer,
        TaskProblems({(KB_QA, 1): 1.0}, seed=seed),
        max_new_tokens=24,
        n_prompts=2,
        group_size=4,
        tools=ToolEnv(TOOLS),
        seed=seed,
        **options,
    )


def test_no_token_of_the_environment_has_a_gradient(caller, tokenizer):
    """Against finite differences of the logits at the positions that it wrote."""
    for objective in (VSPO(kl_coef=0.0), OwnTokens(GRPO(reduce=token_mean))):
        at = trainer(tokenizer, caller, objective=objective)
        batch = at.complete(at.problems.draw(2))
        batch.__dict__["rewards"] = torch.rand(8, generator=torch.Generator().manual_seed(0))
        batch.__dict__["advantages"] = objective.advantages(batch)
        logps = batch.rollout.logps.clone().requires_grad_()
        scores = score(caller, batch.rollout)._replace(logps=logps)
        objective.loss(scores, batch, at).backward()
        written = batch.rollout.completion_mask & ~batch.extra["own"]
        assert written.any() and not logps.grad[written].any()
        assert bool((logps.grad[batch.extra["own"]] != 0).any())


def test_steps_note_parse_rates_and_count_own_tokens_only(tokenizer, caller):
    at = trainer(tokenizer, caller, sampler=ValueRefill("none"))
    row = at._one_step()
    assert 0 <= row["parse_rate"] <= 1 and row["own_entropy"] > 0
    assert row["n_rollouts"] == 8 and row["n_tokens"] < row["mean_length"] * 8 + 1e-9


def test_a_killed_run_goes_on_with_the_same_numbers(tokenizer, tmp_path):
    options = {"sampler": ValueRefill(refill="rollout")}
    whole = trainer(tokenizer, **options).train(4)
    trainer(tokenizer, **options).train(2, checkpoint=tmp_path / "c.pt")
    resumed = trainer(tokenizer, **options).train(4, checkpoint=tmp_path / "c.pt")
    for a, b in zip(whole, resumed, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in b.items() if k != "seconds"}, nan_ok=True
        )


def test_evaluation_is_by_the_task(tokenizer, caller):
    problems = TaskProblems({(KB_QA, 2): 1.0}, seed=0).draw(3)
    evaluation, (rollout, own) = evaluate_with_tools(
        caller,
        tokenizer,
        problems,
        ToolEnv(TOOLS),
        tasks=[KB_QA],
        max_new_tokens=20,
        n_completions=2,
        seed=0,
    )
    assert evaluation.correct.shape == (3, 2) and len(rollout) == len(own) == 6
    for problem, row, right in zip(problems, evaluation.texts, evaluation.correct, strict=True):
        for text, correct in zip(row, right, strict=True):
            assert not correct or KB_QA.verify(problem.prompt, text) == 1


def test_bad_input_is_refused(tokenizer, caller):
    with pytest.raises(ValueError, match="does not fit the model's context"):
        sampled(caller, tokenizer, max_new_tokens=600)
