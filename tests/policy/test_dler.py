"""DLER's parts against slow references, and its sampler at the trainer's hand."""

from types import SimpleNamespace

import pytest
import torch

from rarefy.policy.batches import Batch
from rarefy.policy.dler import DLER, dler_advantages, dler_loss
from rarefy.policy.dynamic import Dynamic
from rarefy.policy.frontier import accuracy_at_budget, parallel_curve, pareto_front
from rarefy.policy.rollout import Rollout, Scores
from rarefy.policy.sampling import MeanBetween, NotEnoughGroups
from rarefy.policy.tasks import Problem

G = 4


def sample(seed=0, groups=3, width=5):
    g = torch.Generator().manual_seed(seed)
    rows = groups * G
    lengths = torch.randint(1, width + 1, (rows,), generator=g)
    mask = torch.arange(width) < lengths[:, None]
    rewards = torch.randint(0, 2, (rows,), generator=g).float()
    logps, old, ref = (
        -3 * torch.rand(rows, width, generator=g, dtype=torch.float64) for _ in range(3)
    )
    return mask, rewards, logps, old, ref


def slow_advantages(rewards, mask=None):
    """One completion, or one token, after the other."""
    centred = []
    for start in range(0, len(rewards), G):
        group = rewards[start : start + G].tolist()
        centred += [r - sum(group) / G for r in group]
    counts = [1] * len(centred) if mask is None else mask.sum(1).tolist()
    items = [a for a, n in zip(centred, counts, strict=True) for _ in range(n)]
    mean = sum(items) / len(items)
    std = (sum((a - mean) ** 2 for a in items) / len(items)) ** 0.5
    return [(a - mean) / (std + 1e-8) for a in centred]


@pytest.mark.parametrize("over", ["samples", "tokens"])
def test_whitening_equals_a_slow_loop(over):
    mask, rewards, *_ = sample()
    mask = mask if over == "tokens" else None
    ours = dler_advantages(rewards, G, mask=mask)
    assert ours.tolist() == pytest.approx(slow_advantages(rewards, mask), abs=1e-5)


def test_over_tokens_and_over_samples_differ_where_lengths_do():
    mask, rewards, *_ = sample()
    over_samples, over_tokens = (dler_advantages(rewards, G, mask=m) for m in (None, mask))
    assert (over_samples - over_tokens).abs().max() > 1e-3
    same = torch.ones_like(mask)
    torch.testing.assert_close(over_samples, dler_advantages(rewards, G, mask=same))


def test_the_boost_is_for_what_is_right_whatever_it_earned():
    _, rewards, *_ = sample()
    correct = torch.arange(len(rewards)) % 2 == 0
    plain = dler_advantages(rewards, G)
    boosted = dler_advantages(rewards, G, correct=correct, correct_boost=0.1)
    torch.testing.assert_close(boosted - plain, 0.1 * correct.float())
    with pytest.raises(ValueError, match="pass correct"):
        dler_advantages(rewards, G, correct_boost=0.1)


def test_a_batch_without_variance_has_no_gradient_and_no_nan():
    assert dler_advantages(torch.ones(8), G).tolist() == [0.0] * 8
    assert dler_advantages(torch.full((8,), 0.1), G).tolist() == [0.0] * 8


def slow_loss(logps, old, advantages, mask, ref):
    total = 0.0
    for row in range(len(logps)):
        for t in range(logps.shape[1]):
            if not mask[row, t]:
                continue
            a = float(advantages[row])
            rho = float((logps[row, t] - old[row, t]).exp())
            gain = min(rho * a, min(max(rho, 0.8), 1.28) * a)
            if a < 0:
                gain = max(gain, 10 * a)
            total += -gain + 5e-4 * 0.5 * float(logps[row, t] - ref[row, t]) ** 2
    return total / int(mask.sum())


def test_the_loss_equals_a_slow_loop_in_all_its_branches():
    mask, rewards, logps, old, ref = sample(3)
    rewards[:2] = torch.tensor([0.0, 1.0])  # a negative advantage first
    advantages = dler_advantages(rewards, G)
    assert advantages[0] < 0
    old[0, 0], logps[0, 0] = -3.0, -0.1  # rho is 18: the dual clip bites
    ours = dler_loss(logps, old, advantages, mask, ref_logps=ref)
    assert float(ours) == pytest.approx(slow_loss(logps, old, advantages, mask, ref))
    unbounded = dler_loss(logps, old, advantages, mask, ref_logps=ref, dual_clip=None)
    assert unbounded > ours


def test_what_is_masked_changes_nothing():
    mask, rewards, logps, old, ref = sample(4)
    advantages = dler_advantages(rewards, G)
    before = dler_loss(logps, old, advantages, mask, ref_logps=ref)
    logps = torch.where(mask, logps, torch.full_like(logps, -50.0))
    assert dler_loss(logps, old, advantages, mask, ref_logps=ref) == before


def batch(rewards, *, solved=None, tag="p", seed=0):
    rewards = torch.as_tensor(rewards, dtype=torch.float32).reshape(-1)
    n, width = len(rewards), 3
    g = torch.Generator().manual_seed(seed)
    mask = torch.ones(n, width, dtype=torch.bool)
    rollout = Rollout(
        torch.ones(n, 2, dtype=torch.long),
        torch.ones(n, 2, dtype=torch.bool),
        torch.randint(3, 9, (n, width), generator=g),
        mask,
        -torch.rand(n, width, generator=g),
        torch.rand(n, width, generator=g),
        torch.ones(n, dtype=torch.bool),
    )
    problems = [Problem("t", 1, f"{tag}{i}=", "", "") for i in range(n // 2)]
    right = rewards >= 1 if solved is None else torch.as_tensor(solved).reshape(-1)
    return Batch(problems, [p.prompt for p in problems], rollout, rewards, right, 2)


class Drawn:
    """As much of a trainer as a sampler sees."""

    def __init__(self, *batches):
        self.batches = list(batches)
        self.notes = {"kept": 1.0}

    def draw(self, n):
        found = self.batches.pop(0)
        assert len(found) == n
        return found


MIXED, EQUAL = [0.0, 1.0], [1.0, 1.0]


def test_groups_are_drawn_until_the_batch_is_full_and_cut_to_size():
    rounds = [batch([MIXED, EQUAL], tag="a"), batch([MIXED, MIXED], tag="b", seed=1)]
    trainer = Drawn(*rounds)
    found = Dynamic()(trainer, 2)
    assert found.prompts == ["a0=", "b0="]
    assert found.rewards.tolist() == [0, 1, 0, 1]
    for row, (origin, place) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected = rounds[origin].rollout.completion_ids[place]
        assert torch.equal(found.rollout.completion_ids[row], expected)
    assert trainer.notes == {
        "kept": 1.0,
        "sampling_rounds": 2.0,
        "drawn_groups": 4.0,
        "kept_groups": 3.0,
        "partial": 0.0,
    }


def test_a_batch_that_cannot_be_filled_is_partial_and_said_to_be():
    trainer = Drawn(*(batch([EQUAL, MIXED if i == 1 else EQUAL]) for i in range(3)))
    found = Dynamic(max_rounds=3)(trainer, 2)
    assert len(found) == 1 and trainer.notes["partial"] == 1
    trainer = Drawn(batch([EQUAL, EQUAL]))
    assert len(Dynamic(max_rounds=1)(trainer, 2)) == 0 and trainer.notes["kept_groups"] == 0
    with pytest.raises(NotEnoughGroups, match="0 of 2 groups"):
        Dynamic(max_rounds=1, on_exhausted="error")(Drawn(batch([EQUAL, EQUAL])), 2)


def test_the_filter_sees_shaped_rewards_or_what_is_solved():
    def rounds():
        # Both right, of different length; and equal rewards of which one is right.
        return Drawn(batch([[1.5, 1.0], [0.5, 0.5]], solved=[[True, True], [True, False]]))

    assert Dynamic(max_rounds=1)(rounds(), 2).prompts == ["p0="]
    assert Dynamic(max_rounds=1, filter_on="raw")(rounds(), 2).prompts == ["p1="]
    keep = MeanBetween(0.4, 0.6)
    assert Dynamic(keep, max_rounds=1)(rounds(), 2).prompts == ["p1="]


def test_the_objective_is_its_functions():
    of = batch([MIXED, [1.0, 0.0], EQUAL], solved=[True] * 6)
    objective = DLER(kl_coef=0.0, whiten_over="tokens", correct_boost=0.1)
    advantages = objective.advantages(of)
    expected = dler_advantages(
        of.rewards, 2, mask=of.rollout.completion_mask, correct=of.solved, correct_boost=0.1
    )
    assert torch.equal(advantages, expected)
    of = SimpleNamespace(**(vars(of) | {"advantages": advantages}))
    logps = of.rollout.logps - 0.3
    ours = objective.loss(Scores(logps, logps), of, None)
    mask = of.rollout.completion_mask
    assert ours == dler_loss(logps, of.rollout.logps, advantages, mask)
    with pytest.raises(ValueError, match="no reference to stay near"):
        DLER().loss(Scores(logps, logps), of, None)


def test_options_that_are_none_of_them():
    with pytest.raises(ValueError, match="whiten_over must be"):
        DLER(whiten_over="batch")
    with pytest.raises(ValueError, match="filter_on must be"):
        Dynamic(filter_on="reward")
    with pytest.raises(ValueError, match="max_rounds is 0"):
        Dynamic(max_rounds=0)


def test_the_front_equals_comparing_all_pairs():
    g = torch.Generator().manual_seed(0)
    points = torch.randint(0, 6, (40, 2), generator=g).double()
    accuracy, length = points[:, 0].tolist(), points[:, 1].tolist()
    front = pareto_front(accuracy, length)
    beaten = {
        (a, n)
        for a, n in zip(accuracy, length, strict=True)
        for b, m in zip(accuracy, length, strict=True)
        if b >= a and m <= n and (b, m) != (a, n)
    }
    assert {(accuracy[i], length[i]) for i in front} == set(
        zip(accuracy, length, strict=True)
    ) - beaten
    assert [length[i] for i in front] == sorted(length[i] for i in front)


def test_parallel_completions():
    correct = [[True, False, False, False], [False] * 4]
    lengths = [[4, 4, 8, 8], [6, 6, 6, 6]]
    curve = parallel_curve(correct, lengths)
    assert curve.tokens.tolist() == [6, 12, 18, 24]
    assert curve.passed.tolist() == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert curve.at(9) == pytest.approx(0.1875)
    assert curve.at(3) == pytest.approx(0.0625) and curve.at(1000) == 0.5
    assert accuracy_at_budget(correct, lengths, 4) == 0.125
    assert accuracy_at_budget(correct, lengths, 3) == 0


def test_frontier_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="as many finite numbers"):
        pareto_front([0.5], [1, 2])
    with pytest.raises(ValueError, match="one length for each"):
        accuracy_at_budget([True], [1, 2], 3)
    with pytest.raises(ValueError, match="two axes|\\(problems, completions\\)"):
        parallel_curve([True], [1])


def test_a_dual_clip_within_the_upper_clip_is_refused_at_once():
    with pytest.raises(ValueError, match="dual_clip is 1.2"):
        DLER(dual_clip=1.2)
