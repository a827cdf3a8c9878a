import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.policy import (
    batch_norm,
    batch_whiten,
    clipped_surrogate,
    gae,
    group_norm,
    reward_tensor,
    rloo,
    sequence_mean,
)


def random_rewards(n, seed=0):
    return torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_mask(rows, width, seed=0):
    lengths = torch.randint(1, width + 1, (rows,), generator=torch.Generator().manual_seed(seed))
    return torch.arange(width) < lengths[:, None]


def test_grpo_and_dr_grpo_are_what_their_formulas_say():
    rewards = random_rewards(8).tolist()
    for scale in ("group", "batch", "none"):
        got = group_norm(torch.tensor(rewards), 4, scale=scale).tolist()
        for i, reward in enumerate(rewards):
            group = rewards[i - i % 4 : i - i % 4 + 4]
            over = {"group": group, "batch": rewards, "none": []}[scale]
            mean = sum(over) / len(over) if over else 0.0
            variance = sum((r - mean) ** 2 for r in over) / (len(over) - 1) if over else 0.0
            divisor = math.sqrt(variance) + 1e-4 if over else 1.0
            assert got[i] == pytest.approx((reward - sum(group) / 4) / divisor, abs=1e-5)


def test_rloo_leaves_each_out():
    rewards = random_rewards(6)
    for i, advantage in enumerate(rloo(rewards, 3)):
        group = [j for j in range(i - i % 3, i - i % 3 + 3) if j != i]
        assert advantage == pytest.approx(rewards[i] - rewards[group].mean())
    torch.testing.assert_close(rloo(rewards, 3), group_norm(rewards, 3, scale="none") * 3 / 2)


@settings(deadline=None, max_examples=60)
@given(st.floats(-100, 100, width=32), st.integers(2, 9))
def test_equal_rewards_give_no_gradient_to_the_last_bit(reward, group_size):
    rewards = torch.cat([torch.full((group_size,), reward), torch.arange(group_size) / 7])
    for advantages in (
        group_norm(rewards, group_size),
        group_norm(rewards, group_size, scale="batch"),
        group_norm(rewards, group_size, scale="none"),
        rloo(rewards, group_size),
        batch_norm(rewards, group_size),
    ):
        logps = torch.full((2 * group_size, 3), -1.0, requires_grad=True)
        old = torch.linspace(-3, 1, 6 * group_size).reshape(-1, 3)
        mask = torch.ones_like(old)
        sequence_mean(clipped_surrogate(logps, old, advantages, mask), mask).backward()
        assert not logps.grad[:group_size].any()
        assert logps.grad[group_size:].any()


def test_batch_norm_has_one_scale_for_all_groups():
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    advantages = batch_norm(rewards, 4)
    centred = group_norm(rewards, 4, scale="none")
    torch.testing.assert_close(advantages / advantages[0], centred / centred[0])
    assert advantages.square().mean() == pytest.approx(1.0)


def test_batch_norm_over_tokens_repeats_a_completion_as_often_as_it_has_tokens():
    rewards, mask = random_rewards(8), random_mask(8, 5)
    got = batch_norm(rewards, 4, mask=mask)
    centred = group_norm(rewards, 4, scale="none")
    tokens = centred.repeat_interleave(mask.sum(1))
    want = (centred - tokens.mean()) / tokens.std(correction=0)
    torch.testing.assert_close(got, want)


def test_whitened_tokens_have_mean_zero_and_deviation_one_and_none_outside():
    advantages = random_rewards(40).reshape(8, 5)
    mask = random_mask(8, 5)
    white = batch_whiten(advantages, mask)
    assert white[mask].mean() == pytest.approx(0, abs=1e-12)
    assert white[mask].std(correction=0) == pytest.approx(1)
    assert not white[~mask].any()
    torch.testing.assert_close(white, batch_whiten(7 * advantages + 3, mask))


@pytest.mark.parametrize("mask", [None, torch.ones(4, 3), torch.zeros(4, 3)])
def test_whitening_what_is_constant_gives_zeros(mask):
    assert not batch_whiten(torch.full((4,), 0.1), mask).any()


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (1.0, 0.95), (0.9, 0.5), (0.99, 0.0)])
def test_gae_is_the_discounted_sum_of_errors(gamma, lam):
    rewards, values = random_rewards(30).reshape(5, 6), random_rewards(30, 1).reshape(5, 6)
    mask = random_mask(5, 6)
    got = gae(rewards, values, mask, gamma=gamma, lam=lam)
    for row, length in enumerate(mask.sum(1).tolist()):
        r, v = rewards[row, :length].tolist(), [*values[row, :length].tolist(), 0.0]
        delta = [r[t] + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(6):
            want = sum((gamma * lam) ** (s - t) * delta[s] for s in range(t, length))
            assert got.advantages[row, t] == pytest.approx(want, abs=1e-12)
            returns = want + v[t] if t < length else 0.0
            assert got.returns[row, t] == pytest.approx(returns, abs=1e-12)


def test_a_group_of_one_is_refused():
    for function in (group_norm, rloo, batch_norm):
        with pytest.raises(ValueError, match="group_size is 1.*at least 2"):
            function(torch.ones(4), 1)


def test_rewards_that_fill_no_group_are_refused():
    with pytest.raises(ValueError, match=r"shape \(7,\).*multiple of group_size = 4"):
        group_norm(torch.ones(7), 4)
    with pytest.raises(ValueError, match=r"shape \(2, 2\).*one axis"):
        rloo(torch.ones(2, 2), 2)


def test_rewards_that_are_no_numbers_are_refused():
    rewards = torch.tensor([0.0, 1.0, math.nan, math.inf])
    with pytest.raises(ValueError, match=r"2 of 4 rewards are not finite, the first at 2 \(nan\)"):
        group_norm(rewards, 2)
    with pytest.raises(ValueError, match="not finite"):
        reward_tensor([0.0, math.nan], n_completions=2)


def test_a_reward_callable_that_returns_too_few_or_none_is_refused():
    with pytest.raises(ValueError, match="returned 2 values for 3 completions"):
        reward_tensor([0.0, 1.0], n_completions=3)
    with pytest.raises(ValueError, match="returned None for 1 of 2 completions, the first at 1"):
        reward_tensor([0.0, None], n_completions=2)


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="scale must be .*'std'"):
        group_norm(torch.ones(4), 2, scale="std")
