"""The loop on canvases: inner updates, old log-probabilities of what is hidden, going on."""

import copy

import pytest
import torch

from rarefy.models import character_model, character_tokenizer
from rarefy.policy.canvas import Canvas
from rarefy.policy.diffusion_trainer import DiffusionTrainer
from rarefy.policy.igpo import IGPO, Inpainting
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import COUNTDOWN

TOKENIZER = character_tokenizer()


def shortness(prompts, completions, completion_ids=None, **_):
    """Something an untrained policy has luck with: an even number of characters."""
    return [float(len(completion) % 2 == 0) for completion in completions]


def trainer(**given):
    model = character_model(TOKENIZER, seed=0, hidden=32, layers=1)
    settings = {
        "canvas": Canvas(length=16, steps=2, block_length=8),
        "reward": shortness, "objective": IGPO(), "n_prompts": 2, "group_size": 4,
        "learning_rate": 1e-2,
    } | given  # fmt: skip
    problems = TaskProblems({(COUNTDOWN, 1): 1.0, (COUNTDOWN, 2): 1.0}, seed=0)
    return DiffusionTrainer(model, TOKENIZER, problems, **settings)


def with_reference(**given):
    made = trainer(sync_every=2, sampler=Inpainting(size=(1, 2), room=2), **given)
    made.reference = copy.deepcopy(made.model)
    return made


def test_a_killed_run_goes_on_with_the_same_numbers(tmp_path):
    whole = with_reference()
    whole.train(5)
    killed = with_reference()
    killed.train(3, checkpoint=tmp_path / "run.pt")
    again = with_reference()
    again.train(5, checkpoint=tmp_path / "run.pt")
    for name in ("model", "reference"):
        ours, theirs = getattr(whole, name).state_dict(), getattr(again, name).state_dict()
        assert all(ours[key].equal(theirs[key]) for key in ours)
    clock = {"seconds"}
    for ours, theirs in zip(whole.history, again.history, strict=True):
        assert {k: v for k, v in ours.items() if k not in clock} == pytest.approx(
            {k: v for k, v in theirs.items() if k not in clock}, nan_ok=True
        )


def test_the_reference_follows_every_so_many_steps():
    made = with_reference()
    start = copy.deepcopy(made.reference.state_dict())
    made.train(2)
    assert all(made.reference.state_dict()[key].equal(start[key]) for key in start)
    two = copy.deepcopy(made.model.state_dict())
    made.train(3)
    assert all(made.reference.state_dict()[key].equal(two[key]) for key in two)


@pytest.mark.parametrize(
    "given", [{}, {"estimator": "random"}, {"estimator": "random", "prompt_share": 0.3}]
)
def test_before_the_first_update_every_ratio_is_one(given):
    made = trainer(inner=1, **given)
    (row,) = made.train(1)
    assert row["ratio_min"] == pytest.approx(1, abs=1e-5)
    assert row["ratio_max"] == pytest.approx(1, abs=1e-5)
    made = trainer(inner=3, **given)
    (row,) = made.train(1)
    assert row["ratio_max"] > 1.001


@pytest.mark.parametrize(("given", "patterns"), [({}, 1), ({"estimator": "random"}, 3)])
def test_inner_updates_each_have_old_log_probabilities_of_what_they_hide(given, patterns):
    made = trainer(inner=3, **given)
    seen, steps = [], []
    made.objective = type(
        "Watched", (IGPO,), {"loss": lambda self, scores, batch, t: (
            seen.append((batch.rollout, scores)), IGPO.loss(self, scores, batch, t))[1]},
    )()  # fmt: skip
    made.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    made.train(1)
    assert len(steps) == len(seen) == 3
    masks = {tuple(rollout.completion_mask.flatten().tolist()) for rollout, _ in seen}
    assert len(masks) == patterns
    for rollout, scores in seen:
        assert (scores.logps[rollout.completion_mask] < 0).all()
        if patterns > 1:  # what is shown has no log-probability, now or then
            assert ((scores.logps == 0) == (rollout.logps == 0)).all()


def test_tokens_behind_the_end_learn_or_do_not():
    masks = []
    for behind in (True, False):
        made = trainer(behind_end=behind)
        batch = made.sampler(made, 2)
        batch.rollout.completion_mask[:, 5:] = False
        masks.append(made._prepared(batch).extra["learnt"])
    assert masks[0].all() and not masks[1][:, 5:].any() and masks[1][:, :5].any()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="inner is 0"):
        trainer(inner=0)
    with pytest.raises(ValueError, match="sync_every 0"):
        trainer(sync_every=0)
    with pytest.raises(ValueError, match="estimator is 'half'"):
        trainer(estimator="half")


def test_generated_canvases_are_all_counted():
    made = trainer(sampler=Inpainting(size=(1, 2)), reward=lambda p, c, i, **_: [0.0] * len(c))
    made.train(2)
    assert made.n_rollouts == 2 * 2 * 2 * 4
    assert made.history[-1]["triggered"] == made.history[-1]["all_wrong_after"] == 1
    assert torch.tensor([row["loss"] for row in made.history]).abs().max() == 0
