import math

import pytest
import torch

from rarefy.policy import (
    cispo,
    clipped_surrogate,
    constant_mean,
    importance_ratio,
    reinforce,
    sequence_mean,
    sequence_sum,
    token_mean,
    value_loss,
)


@pytest.fixture
def batch():
    """Log-probabilities now and then, advantages of both signs, and a ragged mask."""
    generator = torch.Generator().manual_seed(0)
    logps, old = -3 * torch.rand(2, 6, 5, dtype=torch.float64, generator=generator)
    advantages = torch.randn(6, dtype=torch.float64, generator=generator)
    lengths = torch.tensor([5, 1, 3, 2, 4, 5])
    return logps.requires_grad_(), old, advantages, torch.arange(5) < lengths[:, None]


def test_the_surrogate_is_ppos_token_by_token(batch):
    logps, old, advantages, mask = batch
    got = clipped_surrogate(*batch, eps_low=0.2, eps_high=0.28, dual_clip=3.0)
    for i, t in mask.nonzero().tolist():
        ratio, a = math.exp((logps - old)[i, t].item()), advantages[i].item()
        want = min(ratio * a, min(max(ratio, 0.8), 1.28) * a)
        want = max(want, 3 * a) if a < 0 else want
        assert got[i, t].item() == pytest.approx(-want)


def test_the_gradient_stops_where_the_ratio_has_gone_far_enough():
    old = torch.zeros(2, 3)
    logps = torch.tensor([[0.3, 0.0, -0.3]] * 2, requires_grad=True)
    clipped_surrogate(logps, old, torch.tensor([1.0, -1.0]), torch.ones(2, 3)).sum().backward()
    assert (logps.grad != 0).tolist() == [[False, True, True], [True, True, False]]


def test_dual_clip_bounds_the_loss_of_a_bad_token_that_became_likely():
    logps = torch.tensor([[3.0]], requires_grad=True)
    loss = clipped_surrogate(
        logps, torch.zeros(1, 1), torch.tensor([-1.0]), torch.ones(1, 1), dual_clip=10.0
    )
    loss.sum().backward()
    assert loss.item() == pytest.approx(10.0)
    assert logps.grad.item() == 0.0
    with pytest.raises(ValueError, match="dual_clip is 1.1, expected more than"):
        clipped_surrogate(
            logps, torch.zeros(1, 1), torch.tensor([-1.0]), torch.ones(1, 1), dual_clip=1.1
        )


@pytest.mark.parametrize("level", ["token", "sequence", "product"])
def test_a_ratio_beyond_all_floats_is_clipped_without_a_nan(level):
    logps = torch.zeros(2, 1, requires_grad=True)
    args = (torch.full((2, 1), -1000.0), torch.tensor([1.0, -1.0]), torch.ones(2, 1))
    loss = token_mean(clipped_surrogate(logps, *args, dual_clip=10.0, level=level), args[-1])
    loss.backward()
    assert loss.item() == pytest.approx((10 - 1.2) / 2)
    assert logps.grad.tolist() == [[0.0], [0.0]]


def test_ratios_of_completions(batch):
    logps, old, _, mask = batch
    mean = importance_ratio(logps, old, mask, level="sequence")
    product = importance_ratio(logps, old, mask, level="product")
    for i in range(6):
        logs = (logps - old).detach()[i][mask[i]]
        assert mean[i].item() == pytest.approx(math.exp(logs.mean()))
        assert product[i].item() == pytest.approx(math.exp(logs.sum()))
    with pytest.raises(ValueError, match="level must be"):
        importance_ratio(logps, old, mask, level="batch")


def test_what_lies_outside_the_mask_changes_nothing(batch):
    logps, old, advantages, mask = batch
    wild = logps.detach().masked_fill(~mask, math.inf).requires_grad_()
    for level in ("token", "sequence", "product"):
        for reduce in (token_mean, sequence_mean, sequence_sum):
            want = reduce(clipped_surrogate(logps, old, advantages, mask, level=level), mask)
            got = reduce(clipped_surrogate(wild, old, advantages, mask, level=level), mask)
            torch.testing.assert_close(got, want)
            (gradient,) = torch.autograd.grad(got, wild)
            assert gradient.isfinite().all()
            assert not gradient[~mask].any()


def test_cispo_weights_every_token_but_lets_no_gradient_through_the_weight(batch):
    logps, old, advantages, mask = batch
    token_mean(cispo(*batch, eps_high=0.5), mask).backward()
    weight = (logps - old).exp().clamp(max=1.5)
    want = (-weight * advantages[:, None] / mask.sum()).masked_fill(~mask, 0)
    torch.testing.assert_close(logps.grad, want.detach())


def test_on_policy_all_have_the_gradient_of_reinforce(batch):
    logps, _, advantages, mask = batch

    def gradient(per_token):
        return torch.autograd.grad(sequence_mean(per_token, mask), logps)[0]

    want = gradient(reinforce(logps, advantages))
    args = (logps, logps.detach(), advantages, mask)
    torch.testing.assert_close(gradient(clipped_surrogate(*args)), want)
    torch.testing.assert_close(gradient(clipped_surrogate(*args, level="sequence")), want)
    torch.testing.assert_close(gradient(cispo(*args)), want)


def test_reductions_are_what_their_names_say():
    per_token = torch.tensor([[1.0, 2.0, 9.0], [4.0, 9.0, 9.0]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert float(token_mean(per_token, mask)) == pytest.approx(7 / 3)
    assert float(token_mean(per_token, mask, n_tokens=14)) == pytest.approx(0.5)
    assert float(sequence_mean(per_token, mask)) == pytest.approx((1.5 + 4) / 2)
    assert float(sequence_sum(per_token, mask)) == pytest.approx(3.5)
    assert float(constant_mean(per_token, mask, length=7)) == pytest.approx(0.5)


def test_micro_batches_add_up_to_the_global_token_mean(batch):
    logps, old, advantages, mask = batch
    per_token = clipped_surrogate(logps, old, advantages, mask)
    parts = [
        token_mean(per_token[half], mask[half], n_tokens=int(mask.sum()))
        for half in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(sum(parts), token_mean(per_token, mask))


def test_an_empty_mask_has_no_loss_and_no_gradient(batch):
    logps, old, advantages, mask = batch
    nothing = torch.zeros_like(mask)
    for level in ("token", "sequence"):
        per_token = clipped_surrogate(logps, old, advantages, nothing, level=level)
        for reduce in (token_mean, sequence_mean, sequence_sum):
            loss = reduce(per_token, nothing)
            assert loss.item() == 0.0
            assert not torch.autograd.grad(loss, logps, retain_graph=True)[0].any()


def test_the_critic_gains_nothing_by_moving_past_the_clip():
    values = torch.tensor([0.1, 0.5, 0.9], requires_grad=True)
    loss = value_loss(values, torch.zeros(3), torch.ones(3), clip=0.2)
    loss.sum().backward()
    torch.testing.assert_close(loss.detach(), torch.tensor([0.9, 0.8, 0.8]).square() / 2)
    assert (values.grad != 0).tolist() == [True, False, False]
