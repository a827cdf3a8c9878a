"""GRPO and RLOO as objectives: the pure functions on the tensors of a batch."""

from dataclasses import replace

import pytest
import torch

from rarefy.policy import (
    GRPO,
    RLOO,
    Batch,
    Rollout,
    Scores,
    clipped_surrogate,
    group_norm,
    kl_estimate,
    rloo,
    sequence_mean,
    token_mean,
)
from rarefy.policy.tasks import Problem

GROUP, ROWS, WIDTH = 3, 6, 5


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, WIDTH + 1, (ROWS,), generator=g)
    mask = torch.arange(WIDTH) < lengths[:, None]
    old, ref = -2 * torch.rand(2, ROWS, WIDTH, generator=g)
    ids = torch.ones(ROWS, WIDTH, dtype=torch.long)
    ended = torch.ones(ROWS, dtype=torch.bool)
    problems = [Problem("rows", 1, "p", "", "")] * (ROWS // GROUP)
    rollout = Rollout(ids[:, :2], mask[:, :1].expand(-1, 2), ids, mask, old, old, ended)
    rewards = torch.tensor([1.0, 0, 0, 1, 1, 0])
    return Batch(problems, ["p", "p"], rollout, rewards, rewards > 0, GROUP, ref_logps=ref)


@pytest.fixture
def scores(batch):
    now = batch.rollout.logps + torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1))
    return Scores(now.requires_grad_(), batch.rollout.entropies)


@pytest.mark.parametrize(
    "objective",
    [
        GRPO(),
        GRPO(scale="none", reduce=token_mean, eps_high=0.28),
        GRPO(scale="batch", level="sequence", eps_low=0.01, eps_high=0.02),
        GRPO(kl_coef=0.3),
    ],
)
def test_grpo(batch, scores, objective):
    advantages = objective.advantages(batch)
    assert advantages.equal(group_norm(batch.rewards, GROUP, scale=objective.scale))
    batch = replace(batch, advantages=advantages)
    mask = batch.rollout.completion_mask
    per_token = clipped_surrogate(
        scores.logps,
        batch.rollout.logps,
        advantages,
        mask,
        eps_low=objective.eps_low,
        eps_high=objective.eps_high,
        level=objective.level,
    ) + objective.kl_coef * kl_estimate(scores.logps, batch.ref_logps)
    found = objective.loss(scores, batch, None)
    torch.testing.assert_close(found, objective.reduce(per_token, mask), rtol=0, atol=1e-7)


def test_rloo_is_the_score_function_of_whole_completions(batch):
    """Where nothing has moved the gradient is that of the sum of log-probabilities."""
    objective = RLOO()
    batch = replace(batch, advantages=objective.advantages(batch))
    assert batch.advantages.equal(rloo(batch.rewards, GROUP))
    now = batch.rollout.logps.clone().requires_grad_()
    objective.loss(Scores(now, now), batch, None).backward()
    expected = -batch.advantages[:, None] * batch.rollout.completion_mask / ROWS
    torch.testing.assert_close(now.grad, expected, rtol=0, atol=1e-6)


def test_rloo_clips_completions_where_asked(batch, scores):
    batch = replace(batch, advantages=rloo(batch.rewards, GROUP))
    mask = batch.rollout.completion_mask
    per_token = clipped_surrogate(
        scores.logps, batch.rollout.logps, batch.advantages, mask, eps_low=0.2, eps_high=0.2,
        level="product",
    )  # fmt: skip
    found = RLOO(eps=0.2).loss(scores, batch, None)
    torch.testing.assert_close(found, sequence_mean(per_token, mask), rtol=0, atol=1e-6)
    assert found != RLOO().loss(scores, batch, None)


def test_a_divergence_needs_a_reference(batch, scores):
    batch = replace(batch, advantages=group_norm(batch.rewards, GROUP), ref_logps=None)
    with pytest.raises(ValueError, match="no reference"):
        GRPO(kl_coef=0.1).loss(scores, batch, None)
