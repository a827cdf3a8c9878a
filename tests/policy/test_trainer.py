"""The loop: resumed as if never stopped, learning nothing from nothing, and clear when it ends."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from rarefy.models import SHIPPED, open_model
from rarefy.policy import GRPO, PolicyTrainer, TaskProblems
from rarefy.policy.dynamic import Dynamic
from rarefy.policy.tasks import COUNTDOWN, PERMUTE
from rarefy.policy.trainer import plain

LEVELS = {(COUNTDOWN, 1): 1.0, (COUNTDOWN, 3): 2.0}


def make(**options):
    model, tokenizer = open_model(SHIPPED / "policy")
    settings = {
        "reward": COUNTDOWN.reward,
        "objective": GRPO(),
        "max_new_tokens": 20,
        "n_prompts": 4,
        "group_size": 4,
        "minibatches": 2,
        "seed": 7,
    }
    shares = options.pop("shares", LEVELS)
    return PolicyTrainer(model, tokenizer, TaskProblems(shares, seed=7), **settings | options)


def figures(trainer):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history]


def assert_same(one, other):
    """Weights, optimizer and figures, bit for bit."""
    weights = other.model.state_dict()
    assert all(tensor.equal(weights[name]) for name, tensor in one.model.state_dict().items())
    moments = other.optimizer.state_dict()["state"]
    for key, state in one.optimizer.state_dict()["state"].items():
        assert all(torch.equal(state[name], moments[key][name]) for name in state)
    assert repr(figures(one)) == repr(figures(other))  # by repr, since nan is not nan
    assert (one.n_rollouts, one.n_tokens) == (other.n_rollouts, other.n_tokens)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("sampler", [plain, Dynamic()], ids=["plain", "dynamic"])
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path, sampler):
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    whole = make(sampler=sampler)
    whole.train(4)

    child = os.fork()
    if child == 0:
        signal.alarm(600)

        def die(row):
            if row["step"] == 3:  # the last checkpoint is that of step 2
                os.kill(os.getpid(), signal.SIGKILL)

        make(sampler=sampler).train(4, checkpoint=checkpoint, checkpoint_every=2, progress=die)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    resumed = make(sampler=sampler)
    resumed.train(4, checkpoint=checkpoint)
    assert_same(resumed, whole)
    assert torch.load(checkpoint, weights_only=True)["step"] == 4


def test_a_step_that_raises_is_not_done_and_those_before_it_are_kept(tmp_path):
    calls = []

    def fails_at_the_third(prompts, completions, completion_ids=None, **columns):
        calls.append(None)
        if len(calls) == 3:
            raise OSError("the disk of the verifier is full")
        return COUNTDOWN.reward(prompts, completions)

    broken = make(reward=fails_at_the_third)
    with pytest.raises(OSError, match="verifier is full"):
        broken.train(4, checkpoint=tmp_path / "c.pt")
    assert broken.step == 2 and len(broken.history) == 2
    whole, resumed = make(), make()
    whole.train(4)
    resumed.train(4, checkpoint=tmp_path / "c.pt")
    assert_same(resumed, whole)


def test_the_first_gradient_is_that_of_a_slow_reference():
    trainer = make(temperature=0.9)
    batch = trainer._prepared(trainer.draw(4))
    trainer.objective.loss(trainer.score(batch.rollout), batch, trainer).backward()
    found = [p.grad.clone() for p in trainer.model.parameters()]
    trainer.model.zero_grad()

    total = 0.0
    rollout = batch.rollout
    for row in range(len(rollout)):
        asked = rollout.prompt_ids[row][rollout.prompt_mask[row]]
        told = rollout.completion_ids[row][rollout.completion_mask[row]]
        logits = trainer.model(torch.cat([asked, told])[None]).logits[0] / 0.9
        group = batch.rewards[row // 4 * 4 :][:4]
        advantage = (batch.rewards[row] - group.mean()) / (group.std() + 1e-4)
        logps = [logits[len(asked) + t - 1].log_softmax(-1)[token] for t, token in enumerate(told)]
        total = total - advantage * sum(logps) / len(logps) / len(rollout)
    assert batch.rewards.std() > 0
    total.backward()
    for ours, parameter in zip(found, trainer.model.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_groups_without_variance_move_nothing(value):
    trainer = make(reward=lambda prompts, *_, **__: [value] * len(prompts))
    before = {name: p.clone() for name, p in trainer.model.state_dict().items()}
    (row,) = trainer.train(1)
    assert row["grad_norm"] == 0 and row["zero_variance"] == 1
    assert all(before[name].equal(p) for name, p in trainer.model.state_dict().items())


def test_what_dynamic_sampling_keeps_varies_and_all_is_counted():
    trainer = make(sampler=Dynamic(), n_prompts=6, shares={(COUNTDOWN, 3): 1.0})
    (row,) = trainer.train(1)
    assert row["zero_variance"] == 0
    assert row["n_rollouts"] == 4 * 6 * row["sampling_rounds"]
    assert row["kept_groups"] < row["drawn_groups"] and row["all_wrong"] > 0


def test_a_step_without_a_group_to_learn_from_trains_nothing():
    trainer = make(sampler=Dynamic(), reward=lambda prompts, *_, **__: [0.0] * len(prompts))
    (row,) = trainer.train(1)
    assert row["trained_groups"] == 0 and row["sampling_rounds"] == 8 and "loss" not in row


def test_what_card_00_lists_is_in_the_history():
    (row,) = make().train(1)
    wanted = "reward_mean reward_std all_wrong all_right n_rollouts n_tokens entropy clipped_low"
    wanted += " clipped_high ratio_min ratio_max mean_length truncated grad_norm"
    assert set(wanted.split()) <= set(row)


def test_warns_after_five_steps_of_cut_off_completions():
    trainer = make(max_new_tokens=2)
    trainer.train(4)
    with pytest.warns(RuntimeWarning, match="cut off at max_new_tokens = 2 .* raise max_new_token"):
        trainer.train(5)


def test_cut_off_completions_are_not_solved():
    trainer = make(max_new_tokens=2, reward=lambda prompts, *_, **__: [1.0] * len(prompts))
    assert not trainer.draw(4).solved.any()


BAD = {
    "group_size is 1": {"group_size": 1},
    "minibatches is 5": {"minibatches": 5},
    "temperature is 0": {"temperature": 0.0},
}


@pytest.mark.parametrize("sentence", list(BAD))
def test_numbers_out_of_range(sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**BAD[sentence])


REWARDS = {
    "returned 15 values for 16": lambda n: [1.0] * (n - 1),
    "not finite, the first at 0": lambda n: [float("nan")] * n,
    "returned None for 16": lambda n: [None] * n,
}


@pytest.mark.parametrize("sentence", list(REWARDS))
def test_rewards_that_are_none(sentence):
    trainer = make(reward=lambda prompts, *_, **__: REWARDS[sentence](len(prompts)))
    with pytest.raises(ValueError, match=sentence):
        trainer.train(1)
    assert trainer.step == 0 and trainer.n_rollouts == 0


def test_prompts_that_do_not_fit():
    with pytest.raises(ValueError, match="does not fit the model's context"):
        make(max_new_tokens=510).train(1)


def test_rewards_get_the_problems_columns():
    seen = {}

    def reward(prompts, completions, completion_ids, **columns):
        seen.update(columns, prompts=prompts, completion_ids=completion_ids)
        return [0.0] * len(prompts)

    trainer = make(reward=reward, shares={(PERMUTE, 2): 1.0})
    batch = trainer.draw(2)
    assert seen["level"] == [2] * 8 and seen["task"] == ["permute"] * 8
    assert seen["trace"][::4] == [problem.trace for problem in batch.problems]
    assert seen["answer"][::4] == [problem.answer for problem in batch.problems]
    assert seen["prompts"][::4] == batch.prompts
    assert [len(ids) for ids in seen["completion_ids"]] == batch.rollout.lengths.tolist()


def test_hinted_prompts_are_asked_but_not_shown_to_the_reward():
    seen = []

    def reward(prompts, completions, *_, **__):
        seen.extend(prompts)
        return [0.0] * len(prompts)

    trainer = make(reward=reward)
    problems = trainer.problems.draw(2)
    batch = trainer.complete(problems, ["n1,2>3~1=", "n1,2>3="])
    assert seen[::4] == [problem.prompt for problem in problems]
    text = trainer.tokenizer.decode(batch.rollout.prompt_ids[0], skip_special_tokens=True)
    assert text == "n1,2>3~1="


def test_checkpoints_are_whole_or_not_there(tmp_path, monkeypatch):
    trainer = make()
    trainer.train(1, checkpoint=tmp_path / "c.pt")
    before = (tmp_path / "c.pt").read_bytes()

    def full(state, path):
        Path(path).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        trainer.train(2, checkpoint=tmp_path / "c.pt", checkpoint_every=1)
    assert (tmp_path / "c.pt").read_bytes() == before
