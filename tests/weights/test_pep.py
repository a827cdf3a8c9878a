"""Learned thresholds: their gradient, their rise under weight decay, and a clean end."""

import pytest
import torch
from torch import nn

from rarefy.weights import LearnedThresholds, SoftThreshold


def test_the_threshold_is_soft_and_its_gradient_right():
    threshold = SoftThreshold(-1.0).double()
    w = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(
        lambda w, s: torch.func.functional_call(threshold, {"s": s}, (w,)),
        (w.requires_grad_(), threshold.s.detach().requires_grad_()),
    )
    level = 1 / (1 + torch.e)
    expected = torch.where(w > level, w - level, torch.where(w < -level, w + level, 0))
    torch.testing.assert_close(threshold(w), expected)


def test_weight_decay_raises_the_threshold_until_the_loss_holds_it():
    g = torch.Generator().manual_seed(0)
    target = torch.randn(30, 8, generator=g) * (torch.rand(30, 8, generator=g) < 0.3)
    table = nn.Embedding(30, 8, _weight=0.01 * torch.randn(30, 8, generator=g))
    learned = LearnedThresholds(table, ["weight"], start=-8.0)
    assert learned.nnz() > 230
    adam = torch.optim.Adam(
        [
            {"params": [table.parametrizations.weight.original], "lr": 0.02},
            {"params": learned.thresholds, "lr": 0.05, "weight_decay": 1e-3},
        ]
    )
    for _ in range(200):
        adam.zero_grad()
        (table.weight - target).square().mean().backward()
        adam.step()
    kept = learned.masks()["weight"]
    # What is left is what matters, for the most part.
    assert 0.15 < kept.float().mean() < 0.45
    assert (target[kept] != 0).float().mean() > 0.85
    shrunk = table.weight.detach().clone()
    learned.detach()
    assert [*table.state_dict()] == ["weight"] and table.weight.equal(shrunk)


def test_bad_requests():
    with pytest.raises(ValueError, match="no parameter bias"):
        LearnedThresholds(nn.Embedding(2, 2), ["bias"])
