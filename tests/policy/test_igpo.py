"""IGPO: which hints learn, which completions give way, and the loss, against slow references."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.models import character_model, character_tokenizer
from rarefy.policy.canvas import Canvas, on_canvas
from rarefy.policy.diffusion_trainer import DiffusionTrainer
from rarefy.policy.grpo import GRPO
from rarefy.policy.igpo import IGPO, Inpainting, igpo_loss, replacements, top_entropy
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import COUNTDOWN
from rarefy.policy.trainer import PolicyTrainer, plain

TOKENIZER = character_tokenizer()
MASK = TOKENIZER.mask_token_id
CANVAS = Canvas(length=24, steps=3, block_length=8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from([0.1, 0.2, 0.5, 1.0]))
def test_of_the_hints_the_most_uncertain_learn_and_all_else(seed, tau):
    draws = generator(seed)
    entropies = torch.rand(3, 12, generator=draws)
    hint = torch.rand(3, 12, generator=draws) < 0.6
    kept = top_entropy(entropies, hint, tau)
    for row in range(3):
        places = hint[row].nonzero()[:, 0].tolist()
        wanted = sorted(places, key=lambda k: -float(entropies[row, k]))
        wanted = set(wanted[: max(1, int(tau * len(places) + 1e-9))])
        assert {k for k in places if kept[row, k]} == wanted
        assert kept[row][~hint[row]].all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_right_ones_replace_wrong_ones_up_to_the_share(seed, share):
    draws = generator(seed)
    wrong, right = (torch.rand(4, 8, generator=draws) < p for p in (0.8, 0.4))
    chosen = replacements(wrong, right, share=share, generator=draws)
    for group in range(4):
        taken = [int(i) for i in chosen[group] if i >= 0]
        assert len(taken) == min(int(wrong[group].sum()), int(right[group].sum()), int(share * 8))
        assert len(set(taken)) == len(taken) and all(right[group, i] for i in taken)
        assert wrong[group][chosen[group] >= 0].all()


def slow_loss(logps, old, advantages, mask, ref, eps, beta, ratio):
    total, count = 0.0, 0
    for i in range(len(logps)):
        counted = [k for k in range(logps.shape[1]) if mask[i, k]]
        for k in counted:
            if ratio == "token":
                s = (logps[i, k] - old[i, k]).exp()
            else:
                s = (sum(logps[i, j] - old[i, j] for j in counted) / len(counted)).exp()
            gain = min(s * advantages[i], s.clamp(1 - eps, 1 + eps) * advantages[i])
            d = ref[i, k] - logps[i, k]
            total = total - gain + beta * (d.exp() - d - 1)
            count += 1
    return total / count


@pytest.mark.parametrize("ratio", ["sequence", "token"])
def test_the_loss_is_the_slow_one(ratio):
    draws = generator(5)
    old = torch.rand(4, 6, generator=draws) - 2
    logps, ref = (old + 0.6 * torch.randn(4, 6, generator=draws) for _ in range(2))
    advantages = torch.randn(4, generator=draws)
    mask = torch.rand(4, 6, generator=draws) < 0.7
    given_ = {"eps": 0.2, "beta": 0.05, "ratio": ratio}
    ours = igpo_loss(logps, old, advantages, mask, ref_logps=ref, **given_)
    torch.testing.assert_close(ours, slow_loss(logps, old, advantages, mask, ref, **given_))


@pytest.mark.parametrize("ratio", ["sequence", "token"])
def test_a_token_that_does_not_learn_is_in_neither_the_sum_nor_the_ratio(ratio):
    draws = generator(6)
    old = torch.rand(2, 5, generator=draws) - 2
    logps = (old + 0.05 * torch.randn(2, 5, generator=draws)).requires_grad_()
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[0, 1] = False
    advantages = torch.tensor([0.5, -0.5])
    loss = igpo_loss(logps, old, advantages, mask, ratio=ratio)
    loss.backward()
    assert logps.grad[0, 1] == 0 and (logps.grad[mask] != 0).all()
    moved = logps.detach().clone()
    moved[0, 1] += 1.0
    torch.testing.assert_close(igpo_loss(moved, old, advantages, mask, ratio=ratio), loss.detach())


class Scripted(DiffusionTrainer):
    """Unhelped completions are wrong (the first group's may be right); inpainted ones as told."""

    def __init__(self, *, inpainted_right, first_right=0, **given_):
        super().__init__(
            character_model(TOKENIZER, seed=0, hidden=32, layers=1), TOKENIZER,
            TaskProblems({(COUNTDOWN, 3): 1.0, (COUNTDOWN, 4): 1.0}, seed=0),
            canvas=CANVAS, reward=COUNTDOWN.reward, objective=IGPO(), n_prompts=3, group_size=4,
            **given_,
        )  # fmt: skip
        self.inpainted_right, self.first_right, self.fixed = inpainted_right, first_right, None

    def complete(self, problems, prompts=None, *, fixed=None):
        batch = super().complete(problems, prompts, fixed=fixed)
        texts = []
        for number, problem in enumerate(problems):
            right = self.inpainted_right if fixed is not None else 0
            if fixed is None and number == 0:
                right = self.first_right
            texts += [problem.completion if i < right else "0#0" for i in range(4)]
        ids = on_canvas(TOKENIZER, texts, length=24)
        if fixed is not None:
            self.fixed = fixed
            assert fixed[fixed != MASK].equal(
                on_canvas(TOKENIZER, [p.completion for p in problems for _ in range(4)], length=24)[
                    fixed != MASK
                ]
            )
        every = torch.ones_like(ids).bool()
        rollout = replace(
            batch.rollout, completion_ids=ids, completion_mask=every, terminated=every[:, 0]
        )
        return self.judge(problems, batch.prompts, rollout)


SAMPLER = Inpainting(size=(2, 3), eta=(0.5, 1.0))


def test_all_wrong_groups_get_half_their_completions_inpainted_and_no_answer_is_given():
    trainer = Scripted(inpainted_right=3, first_right=1)
    batch = SAMPLER(trainer, 3)
    assert batch.n_solved.tolist() == [1, 2, 2]  # of three right ones at most half of four
    assert batch.rewards.equal(batch.solved.float())
    notes = trainer.notes
    assert notes["triggered"] == pytest.approx(2 / 3) and notes["all_wrong_after"] == 0
    assert notes["replaced"] == 4 and trainer.n_rollouts == 12 + 8
    mark = TOKENIZER.convert_tokens_to_ids("#")
    for row, text in enumerate(trainer.fixed):
        problem = batch.problems[1 + row // 4]
        shown = (text != MASK).nonzero()[:, 0].tolist()
        assert shown and max(shown) < len(problem.trace)
        assert mark not in text.tolist()
    keep = batch.extra["keep"]
    assert keep[:4].all()
    inpainted = batch.solved & (torch.arange(12) >= 4)
    assert keep[~inpainted].all()
    assert not keep[inpainted].all(1).any()


def test_groups_with_something_right_are_left_as_they_are():
    trainer = Scripted(inpainted_right=4, first_right=4)
    ours = SAMPLER(trainer, 1)
    theirs = plain(Scripted(inpainted_right=4, first_right=4), 1)
    assert ours.rollout.completion_ids.equal(theirs.rollout.completion_ids)
    assert trainer.n_rollouts == 4 and trainer.notes["triggered"] == 0
    assert IGPO().advantages(ours).abs().max() == 0  # all right: nothing to learn


def test_where_inpainting_fails_too_the_group_stays():
    trainer = Scripted(inpainted_right=0)
    batch = SAMPLER(trainer, 3)
    assert not batch.solved.any() and trainer.notes["replaced"] == 0
    assert batch.extra["keep"].all() and trainer.notes["all_wrong_after"] == 1


def test_without_hints_it_is_as_many_samples_and_nothing_is_filtered():
    trainer = Scripted(inpainted_right=2)
    batch = replace(SAMPLER, eta=(0.0, 0.0))(trainer, 3)
    assert trainer.notes["empty_hints"] == 1 and trainer.n_rollouts == 24
    assert batch.extra["keep"].all() and batch.n_solved.tolist() == [2, 2, 2]


def test_the_same_step_draws_the_same_hints():
    first, again, later = (Scripted(inpainted_right=1) for _ in range(3))
    later.step = 1
    for trainer in (first, again, later):
        SAMPLER(trainer, 3)
    assert first.fixed.equal(again.fixed) and not first.fixed.equal(later.fixed)


def test_answers_in_a_trace_are_cut_off_and_the_room_is_free():
    trainer = Scripted(inpainted_right=1)
    problems = [replace(p, trace=p.completion) for p in trainer.problems.draw(3)]
    sampler = replace(SAMPLER, eta=(1.0, 1.0), room=14)
    fixed = sampler.canvases(trainer, problems)
    assert TOKENIZER.convert_tokens_to_ids("#") not in fixed.flatten().tolist()
    assert (fixed[:, 10:] == MASK).all() and (fixed[:, 0] != MASK).all()
    stretched = replace(sampler, stretched=True, room=0).canvases(trainer, problems)
    assert ((stretched != MASK).sum(1) <= torch.tensor([[len(p.trace)] * 4 for p in problems])
            .flatten()).all()  # fmt: skip


def test_only_a_trainer_of_canvases_can_inpaint():
    trainer = PolicyTrainer(
        character_model(TOKENIZER, seed=0, hidden=32, layers=1), TOKENIZER,
        TaskProblems({(COUNTDOWN, 1): 1.0}, seed=0), reward=COUNTDOWN.reward, objective=GRPO(),
        max_new_tokens=4,
    )  # fmt: skip
    with pytest.raises(TypeError, match="only a DiffusionTrainer can inpaint"):
        SAMPLER(trainer, 2)


def test_shares_out_of_range_are_refused():
    with pytest.raises(ValueError, match="tau is 0"):
        top_entropy(torch.zeros(1, 1), torch.ones(1, 1).bool(), 0)
    with pytest.raises(ValueError, match="share is 2"):
        replacements(torch.ones(1, 2).bool(), torch.ones(1, 2).bool(), share=2,
                     generator=generator())  # fmt: skip


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"eta": (0.6, 0.2)}, "eta is"),
        ({"size": (0, 4)}, "size is"),
        ({"share": 1.5}, "share is"),
        ({"tau": -0.1}, "tau is"),
        ({"room": -1}, "room is"),
    ],
)
def test_hints_out_of_range_are_refused_at_once(options, says):
    with pytest.raises(ValueError, match=says):
        Inpainting(**options)


def test_a_ratio_of_no_kind_is_refused_at_once():
    with pytest.raises(ValueError, match="ratio must be"):
        IGPO(ratio="group")
