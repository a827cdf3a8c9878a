"""VSPO: values and refills against slow references, weights, and the loss's identities."""

import math
import random

import pytest
import torch

from rarefy.policy.batches import Batch
from rarefy.policy.grpo import GRPO
from rarefy.policy.losses import clipped_surrogate, token_mean
from rarefy.policy.rollout import Rollout, Scores
from rarefy.policy.tasks import SORT
from rarefy.policy.values import TaskValueStore
from rarefy.policy.vspo import (
    VSPO,
    ValueRefill,
    copy_weight,
    effective_tasks,
    refill_copies,
    task_value,
    vspo_loss,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_value_of_binary_rewards_is_largest_where_a_quarter_is_right():
    n = 400
    rewards = torch.stack([torch.arange(n) < right for right in range(n + 1)]).double()
    values = task_value(rewards)
    p = torch.arange(n + 1) / n
    expected = (1 - p) * (p * (1 - p)).sqrt() * math.sqrt(n / (n - 1))
    assert torch.allclose(values, expected.double(), atol=1e-6)
    assert int(values.argmax()) == n // 4
    assert values[0] == values[-1] == 0


def test_the_value_is_that_of_its_formula_and_of_equal_rewards_zero_to_the_bit():
    rewards = torch.rand(6, 5, generator=generator()).double()
    for row, value in zip(rewards.tolist(), task_value(rewards, r_max=2.0).tolist(), strict=True):
        mean = sum(row) / 5
        deviation = math.sqrt(sum((r - mean) ** 2 for r in row) / 4)
        assert value == pytest.approx((2 - mean) * deviation)
    assert task_value(torch.full((1, 3), 0.1)).item() == 0


def test_a_mean_above_the_maximum_is_warned_of_and_worth_nothing():
    with pytest.warns(RuntimeWarning, match="above r_max = 1"):
        assert task_value(torch.tensor([[3.0, 2.0]])).item() == 0


REWARDS = torch.tensor(
    [[0.0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0]]
)


def test_every_slot_is_filled_and_by_tasks_with_variance_only():
    for seed in range(20):
        copies = refill_copies(REWARDS, generator=generator(seed))
        assert int(copies.sum()) == len(REWARDS)
        assert copies[[0, 2, 4]].tolist() == [0, 0, 0] and int(copies[[1, 3, 5]].min()) >= 1
    assert refill_copies(REWARDS[[0, 2]], generator=generator()).tolist() == [0, 0]
    assert refill_copies(REWARDS[[1, 3]], generator=generator()).tolist() == [1, 1]


@pytest.mark.parametrize("mode", ["value", "random"])
def test_slots_are_drawn_in_proportion_to_value_or_alike(mode):
    empty = torch.zeros(30_000, 4)
    copies = refill_copies(torch.cat([REWARDS, empty]), generator=generator(), mode=mode)
    shares = (copies[[1, 3, 5]] - 1) / (copies[[1, 3, 5]] - 1).sum()
    expected = task_value(REWARDS)[[1, 3, 5]] if mode == "value" else torch.ones(3)
    assert torch.allclose(shares, expected / expected.sum(), atol=0.015)


@pytest.mark.parametrize("cap", [1.0, 2.0, 3.5])
@pytest.mark.parametrize("smoothing", ["log", "sqrt", "harmonic"])
def test_the_copies_of_a_task_weigh_at_most_the_cap_together(smoothing, cap):
    copies = torch.arange(1, 200)
    total = copies * copy_weight(copies, smoothing=smoothing, cap=cap)
    assert float(total.max()) <= cap + 1e-5
    assert total[0] == pytest.approx(1) and bool((total.diff() >= -1e-5).all())


def test_total_weights_are_those_of_their_names():
    c = torch.tensor([1, 2, 5])
    for smoothing, total in (
        ("log", [1 + math.log(n) for n in (1, 2, 5)]),
        ("sqrt", [math.sqrt(n) for n in (1, 2, 5)]),
        ("harmonic", [1, 1.5, 1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5]),
        ("none", [1, 2, 5]),
    ):
        assert (c * copy_weight(c, smoothing=smoothing, cap=99.0)).tolist() == pytest.approx(total)
    assert copy_weight(c, smoothing="none", cap=1.0).tolist() == [1, 1, 1]


def test_effective_tasks_counts_equal_shares():
    assert effective_tasks(torch.tensor([1, 1, 0, 1])) == pytest.approx(3)
    assert effective_tasks(torch.tensor([9, 1]), "none") == pytest.approx(100 / 82)
    assert effective_tasks(torch.tensor([0, 0])) == 0


def sampled(n_groups=6, size=4, width=5, seed=0):
    """A batch of made-up completions, with scores of the policy now, and of a reference."""
    g = generator(seed)
    n = n_groups * size
    lengths = torch.randint(1, width + 1, (n,), generator=g)
    lengths[0] = width
    mask = torch.arange(width) < lengths[:, None]
    old = -torch.rand(n, width, generator=g).double() * mask
    rollout = Rollout(
        torch.ones(n, 2).long(),
        torch.ones(n, 2).bool(),
        torch.ones(n, width).long(),
        mask,
        old,
        old.abs(),
        torch.ones(n).bool(),
    )
    rng = random.Random(0)
    rewards = REWARDS.double().reshape(-1)[:n]
    batch = Batch(
        [SORT.sample(3, rng) for _ in range(n_groups)],
        ["p"] * n_groups,
        rollout,
        rewards,
        rewards == 1,
        size,
        ref_logps=old + 0.1 * torch.randn(n, width, generator=g).double() * mask,
    )
    now = (old + 0.2 * torch.randn(n, width, generator=g).double() * mask).requires_grad_()
    return batch, now


def test_with_equal_weights_it_is_the_clipped_surrogate_of_all_tokens():
    batch, now = sampled()
    advantages = torch.randn(24, generator=generator()).double()
    args = (now, batch.rollout.logps, advantages, batch.rollout.completion_mask)
    expected = token_mean(clipped_surrogate(*args), batch.rollout.completion_mask)
    for mean in ("weights", "slots"):
        assert torch.allclose(vspo_loss(*args, torch.ones(24), mean=mean), expected, atol=1e-12)
    assert torch.allclose(vspo_loss(*args, torch.full((24,), 0.3)), expected, atol=1e-12)
    shrunk = vspo_loss(*args, torch.full((24,), 0.25).double(), mean="slots")
    assert torch.allclose(shrunk, expected / 4, atol=1e-12)


def test_the_loss_is_its_formula_written_out():
    batch, now = sampled()
    batch = batch.with_extra(weight=torch.linspace(0.1, 1, 24).double())
    objective = VSPO(kl_coef=0.3)
    batch.__dict__["advantages"] = objective.advantages(batch)
    now = now.detach()
    total = size = 0.0
    for i in range(24):
        group = batch.groups[i // 4]
        a = float((batch.rewards[i] - group.mean()) / (group.std() + 1e-6))
        for t in range(int(batch.rollout.lengths[i])):
            ratio = math.exp(float(now[i, t] - batch.rollout.logps[i, t]))
            d = float(batch.ref_logps[i, t] - now[i, t])
            loss = -min(ratio * a, min(max(ratio, 0.8), 1.2) * a) + 0.3 * (math.exp(d) - d - 1)
            total += float(batch.extra["weight"][i]) * loss
            size += float(batch.extra["weight"][i])
    ours = objective.loss(Scores(now, now), batch, None)
    assert ours.item() == pytest.approx(total / size, rel=1e-9)


def test_unweighted_it_is_grpo_with_a_mean_over_tokens():
    batch, now = sampled()
    losses = []
    for objective in (VSPO(kl_coef=0.0), GRPO(reduce=token_mean)):
        batch.__dict__["advantages"] = GRPO().advantages(batch)
        losses.append(objective.loss(Scores(now, now), batch, None).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_tokens_of_the_environment_have_no_gradient_and_no_part_in_the_loss():
    batch, now = sampled()
    own = batch.rollout.completion_mask.clone()
    own[:, 1] = False
    batch = batch.with_extra(own=own)
    batch.__dict__["advantages"] = VSPO().advantages(batch)
    loss = VSPO().loss(Scores(now, now), batch, None)
    loss.backward()
    assert bool((now.grad[~own] == 0).all()) and bool((now.grad[own][:8] != 0).any())
    moved = (now + 5 * (~own).double()).detach()
    assert VSPO().loss(Scores(moved, moved), batch, None).item() == loss.item()


def test_nothing_to_learn_from_is_a_loss_of_zero():
    batch, now = sampled()
    none = torch.zeros_like(batch.rollout.completion_mask)
    loss = vspo_loss(now, batch.rollout.logps, torch.ones(24), none, torch.ones(24))
    loss.backward()
    assert loss.item() == 0 and not now.grad.any()


class FakeTrainer:
    """What a sampler needs of a trainer."""

    def __init__(self, batch, problems=None):
        self.batch, self.problems, self.notes = batch, problems, {}
        self.asked = []

    def draw(self, n):
        assert n == len(self.batch)
        return self.batch

    def complete(self, problems):
        self.asked += problems
        n = len(problems)
        fresh = self.batch.select([self.batch.problems.index(p) for p in problems])
        fresh.__dict__["rewards"] = torch.ones(n * self.batch.group_size).double()
        return fresh

    def generator(self, purpose):
        return generator(len(purpose))


def test_the_sampler_copies_whole_groups_and_weighs_them():
    batch, _ = sampled()
    trainer = FakeTrainer(batch.with_extra(own=batch.rollout.completion_mask))
    filled = ValueRefill()(trainer, 6)
    copies = refill_copies(batch.groups, generator=generator(len("refill")))
    assert len(filled) == 6
    for group, problem in enumerate(filled.problems):
        source = batch.problems.index(problem)
        assert filled.groups[group].equal(batch.groups[source])
        weights = filled.extra["weight"].view(6, 4)[group]
        assert torch.allclose(weights, copy_weight(copies)[source].double())
    for source in range(6):
        assert sum(p is batch.problems[source] for p in filled.problems) == copies[source]
    assert filled.extra["own"].shape == filled.rollout.completion_ids.shape
    assert trainer.notes["refilled"] == 3 and trainer.notes["drawn_zero_variance"] == 0.5
    assert not trainer.asked


def test_or_samples_the_chosen_tasks_anew():
    batch, _ = sampled()
    trainer = FakeTrainer(batch)
    filled = ValueRefill(refill="rollout")(trainer, 6)
    assert len(filled) == 6 and len(trainer.asked) == 3
    assert filled.problems[3:] == trainer.asked and bool((filled.groups[3:] == 1).all())


def test_or_leaves_the_batch_as_it_is():
    batch, _ = sampled()
    assert ValueRefill("none")(FakeTrainer(batch), 6) is batch


def test_where_no_task_has_variance_nothing_is_trained():
    batch = sampled()[0].select([0, 2, 4])
    assert len(ValueRefill()(FakeTrainer(batch), 3)) == 0


def test_bad_options_are_refused():
    for options, message in (
        ({"mode": "best"}, "mode must be"),
        ({"refill": "copy"}, "refill must be"),
        ({"smoothing": "linear"}, "smoothing must be"),
        ({"cap": 0.5}, "cap is 0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            ValueRefill(**options)
    batch, now = sampled()
    with pytest.raises(ValueError, match="no reference"):
        vspo_loss(now, now, torch.ones(24), now != 0, torch.ones(24), kl_coef=0.1)


def pool(n):
    rng = random.Random(1)
    found = {p.prompt: p for p in (SORT.sample(4, rng) for _ in range(2 * n))}
    return list(found.values())[:n]


def test_the_store_draws_what_was_valuable_more_often():
    problems = pool(20)
    store = TaskValueStore(problems, seed=0)
    store.update(problems, torch.tensor([0.3] * 5 + [0.0] * 15))
    drawn = [p.prompt for _ in range(400) for p in store.draw(2)]
    valuable = {p.prompt for p in problems[:5]}
    # 5 of weight 3.7 and 15 of weight 0.1, two at a time without replacement
    assert sum(prompt in valuable for prompt in drawn) / len(drawn) == pytest.approx(0.92, abs=0.03)
    assert len(set(drawn)) > 10
    assert len({p.prompt for p in store.draw(10)}) == 10


def test_values_are_running_means_and_a_restored_store_goes_on():
    problems = pool(8)
    store = TaskValueStore(problems, seed=3, ema=0.7)
    store.update(problems[:1], torch.tensor([0.3]))
    store.update(problems[:1], torch.tensor([0.1]))
    assert store.values[problems[0].prompt] == pytest.approx(0.7 * 0.3 + 0.3 * 0.1)
    store.draw(3)
    other = TaskValueStore(problems, seed=3)
    other.load_state_dict(store.state_dict())
    assert [p.prompt for p in other.draw(5)] == [p.prompt for p in store.draw(5)]


def test_the_sampler_tells_the_store():
    batch, _ = sampled()
    store = TaskValueStore(batch.problems, seed=0)
    ValueRefill("none")(FakeTrainer(batch, store), 6)
    assert list(store.values.values()) == pytest.approx(task_value(batch.groups).tolist())


def test_a_bad_store_is_refused():
    with pytest.raises(ValueError, match="pool has 2 problems of 1 prompts"):
        TaskValueStore(pool(1) * 2, seed=0)
    with pytest.raises(ValueError, match="ema is 1"):
        TaskValueStore(pool(2), seed=0, ema=1)
    with pytest.raises(ValueError, match="explore is 0"):
        TaskValueStore(pool(2), seed=0, explore=0)


def test_a_mean_of_no_kind_and_lone_completions_are_refused():
    with pytest.raises(ValueError, match="mean must be"):
        VSPO(mean="groups")
    with pytest.raises(ValueError, match="at least 2 completions"):
        task_value(torch.zeros(3, 1))
