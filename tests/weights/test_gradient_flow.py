"""The record of gradients agrees with NumPy on gradients that were computed apart."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from rarefy.operators import NM
from rarefy.weights import (
    DynamicMasks,
    GradientFlow,
    MdGf,
    NMTraining,
    RigL,
    random_masks,
    sr_ste,
)


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(16, 4)


def loss(layer, seed):
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(seed))
    return layer(x).square().mean()


def test_variances_by_numpy(layer):
    adam = torch.optim.AdamW(layer.parameters(), lr=0.05, weight_decay=0.0)
    training = NMTraining(layer, NM(1, 4), adam, rule=sr_ste(), steps=5)
    flow = GradientFlow(training.weights, lambda: training.masks, adam)
    weight = training.weights["weight"]
    sparse, mask, v = None, None, None
    for t in range(5):
        adam.zero_grad()
        loss(layer, t).backward()
        g, keep = weight.grad.numpy().copy(), training.masks["weight"].numpy().copy()
        now = weight.detach().numpy() * keep
        adam.step()
        record = flow.records[t]
        assert record.step == t and record.name == "weight"
        assert record.variance == pytest.approx(np.var(g), rel=1e-5)
        assert record.variance_kept == pytest.approx(np.var(g[keep]), rel=1e-5)
        assert record.variance_pruned == pytest.approx(np.var(g[~keep]), rel=1e-5)
        assert record.square_kept == pytest.approx(np.mean(g[keep] ** 2), rel=1e-5)
        if t:
            assert record.moment == pytest.approx(np.var(v), rel=1e-4)
            assert record.flips == (keep != mask).sum()
            moved = np.linalg.norm(now - sparse) / np.linalg.norm(sparse)
            assert record.change == pytest.approx(moved, rel=1e-5)
        else:
            assert math.isnan(record.moment) and math.isnan(record.change) and record.flips == 0
        v = 0.001 * g**2 + (0.999 * v if t else 0)
        sparse, mask = now, keep
    assert sum(record.flips for record in flow.records) > 0


def test_a_hard_mask_hands_pruned_weights_nothing(layer):
    sgd = torch.optim.SGD(layer.parameters(), lr=0.05)
    training = NMTraining(layer, NM(1, 4), sgd, rule=MdGf(), steps=10)
    with GradientFlow(training.weights, lambda: training.masks, sgd, every=3) as flow:
        for t in range(10):
            sgd.zero_grad()
            loss(layer, t).backward()
            sgd.step()
    steps, pruned = flow.series("variance_pruned")
    assert steps == [0, 3, 6, 9]
    # Fading over the first three steps, then nothing.
    assert pruned[0] > 0 and pruned[1:] == [0, 0, 0]
    assert min(flow.series("variance_kept")[1]) > 0
    loss(layer, 11).backward()
    sgd.step()
    assert len(flow.records) == 4


def test_masks_of_any_kind_and_means_over_tensors(mlp, generator):
    sgd = torch.optim.SGD(mlp.parameters(), lr=0.1)
    masks = random_masks(mlp, density=0.3, generator=generator)
    held = DynamicMasks(mlp, masks, sgd, rule=RigL(), steps=4, every=2, generator=generator)
    weights = {name: mlp.get_parameter(name) for name in masks}
    flow = GradientFlow(weights, lambda: held.masks, sgd)
    for _ in range(4):
        sgd.zero_grad()
        mlp(torch.ones(2, 12)).square().sum().backward()
        sgd.step()
    _, means = flow.series("variance_kept")
    by_hand = [r.variance_kept for r in flow.records if r.step == 2]
    assert len(by_hand) == 2 and means[2] == pytest.approx(sum(by_hand) / 2)
    assert flow.series("flips")[1][2] > 0  # the update behind the second step


def test_bad_input(layer):
    sgd = torch.optim.SGD(layer.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="every must be at least 1 step, got 0"):
        GradientFlow({"weight": layer.weight}, dict, sgd, every=0)
    flow = GradientFlow({"weight": layer.weight}, dict, sgd)
    with pytest.raises(ValueError, match="no field 'noise'; there are variance"):
        flow.series("noise")
