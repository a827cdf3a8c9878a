from itertools import combinations

import numpy as np
import pytest
import torch

from rarefy.policy import (
    clip_stats,
    clipped_surrogate,
    completion_stats,
    group_outcomes,
    mean_pass_at_k,
    pass_at_k,
)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_pass_at_k_counts_the_subsets_that_hold_a_right_one(n):
    for c in range(n + 1):
        right = [i < c for i in range(n)]
        for k in range(1, n + 1):
            subsets = list(combinations(right, k))
            want = sum(any(subset) for subset in subsets) / len(subsets)
            assert pass_at_k(n, c, k) == pytest.approx(want, abs=1e-12)


def test_pass_at_k_of_many_completions_is_still_exact():
    assert pass_at_k(4000, 1, 2000) == pytest.approx(0.5)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0)])
def test_pass_at_k_refuses_counts_that_cannot_be(n, c, k):
    with pytest.raises(ValueError, match=f"got n = {n}, c = {c}, k = {k}"):
        pass_at_k(n, c, k)


def test_the_interval_of_pass_at_k_is_over_problems():
    few = mean_pass_at_k([8, 0] * 10, n=8, k=1, seed=0)
    many = mean_pass_at_k([8, 0] * 160, n=8, k=1, seed=0)
    # Problems of success 0 or 1: the standard error is 1 / (2 sqrt(problems)).
    assert few.mean == many.mean == 0.5
    assert (few.high - few.low) == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(20), rel=0.15)
    assert (many.high - many.low) == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(320), rel=0.15)
    assert mean_pass_at_k([3, 3, 3], n=8, k=2, seed=0)[0] == pytest.approx(pass_at_k(8, 3, 2))
    with pytest.raises(ValueError, match="correct is empty"):
        mean_pass_at_k([], n=8, k=2, seed=0)


def test_groups_without_a_signal_are_told_apart():
    rewards = torch.tensor([[0, 0], [1, 1], [0, 1], [0.5, 0.5]]).flatten()
    assert group_outcomes(rewards, 2) == (0.75, 0.25, 0.25)
    with pytest.raises(ValueError, match="group_size is 1"):
        group_outcomes(rewards, 1)


def test_clipped_are_the_tokens_without_a_gradient():
    generator = torch.Generator().manual_seed(0)
    logps, old = torch.rand(2, 20, 4, generator=generator)
    logps.requires_grad_()
    advantages = torch.randn(20, generator=generator)
    mask = torch.rand(20, 4, generator=generator) < 0.8
    stats = clip_stats(logps, old, advantages, mask, eps_low=0.1, eps_high=0.3)
    per_token = clipped_surrogate(logps, old, advantages, mask, eps_low=0.1, eps_high=0.3)
    per_token[mask].sum().backward()
    still = (logps.grad == 0) & mask
    positive = (advantages > 0)[:, None]
    assert 0 < stats.low == pytest.approx(float((still & ~positive).sum() / mask.sum()))
    assert 0 < stats.high == pytest.approx(float((still & positive).sum() / mask.sum()))
    ratios = (logps - old).exp()[mask]
    assert stats.ratio_min == pytest.approx(ratios.min().item())
    assert stats.ratio_max == pytest.approx(ratios.max().item())


def test_clipped_completions_count_once_each():
    old = torch.zeros(3, 2)
    logps = torch.tensor([[0.5, 0.5], [0.0, 0.0], [9.0, 9.0]])
    mask = torch.tensor([[1, 1], [1, 0], [0, 0]])
    stats = clip_stats(logps, old, torch.ones(3), mask, level="sequence")
    assert stats == pytest.approx((0.0, 0.5, 1.0, float(torch.tensor(0.5).exp())))
    assert clip_stats(logps, old, torch.ones(3), mask * 0) == (0.0, 0.0, 1.0, 1.0)


def test_completions_are_weighed_by_token_and_not_beyond_their_end():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    entropies = torch.tensor([[1.0, 1.0, 1.0], [5.0, 99.0, 99.0]])
    stats = completion_stats(mask, torch.tensor([False, True]), entropies)
    assert stats == (2.0, 2.0, 0.5, 4)
