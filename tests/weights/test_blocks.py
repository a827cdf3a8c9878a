"""Masks of whole blocks: exact counts, whole blocks, the best ones; gradual pruning with them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rarefy.budget import Cubic
from rarefy.weights import DynamicMasks, GradualMagnitude, Masks, block_mask, select


@settings(max_examples=40, deadline=None)
@given(
    block=st.sampled_from([1, 2, 4]),
    axis=st.sampled_from([0, 1]),
    density=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_whole_blocks_the_best_and_as_many_as_asked(block, axis, density, seed):
    g = torch.Generator().manual_seed(seed)
    score = torch.rand(8, 12, 1, 1, generator=g)
    mask = block_mask({"w": score}, block=block, axis=axis, density=density)["w"]
    blocks = mask.movedim(axis, 0).reshape(-1, block, 96 // mask.shape[axis])
    assert (blocks == blocks[:, :1]).all()
    assert int(mask.sum()) == round(density * 96 / block) * block
    means = score.movedim(axis, 0).reshape(blocks.shape).mean(1)
    kept = blocks[:, 0]
    if kept.any() and not kept.all():
        assert means[kept].min() >= means[~kept].max()


def test_blocks_of_one_tensor_and_not_of_another():
    scores = {n: torch.rand(8, 4, generator=torch.Generator().manual_seed(0)) for n in "ab"}
    masks = block_mask(scores, block={"a": 4}, density=0.5)
    assert (masks["a"].view(2, 4, 4).float().mean(1) % 1 == 0).all()
    assert not (masks["b"].view(2, 4, 4).float().mean(1) % 1 == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": 3, "density": 0.5}, "blocks of 3 do not divide the 8 channels of w"),
        ({"block": 0, "density": 0.5}, "block must be at least 1"),
        ({"block": 2, "density": 1.5}, "density must lie between 0 and 1"),
        ({"block": {"w": 2}, "density": 0.5, "scope": "global"}, "cannot compete"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        block_mask({"w": torch.rand(8, 4), "v": torch.rand(8, 4)}, **options)


@pytest.mark.parametrize("axis", [0, 1])
def test_gradual_pruning_in_blocks(axis):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    rule = GradualMagnitude(Cubic(0.25, end=0.8), scope="layer", block=4, block_axis=axis)
    held = DynamicMasks(
        net,
        Masks.ones(select(net)),
        sgd,
        rule=rule,
        steps=20,
        every=2,
        generator=torch.Generator().manual_seed(0),
    )
    before = held.masks
    for _ in range(20):
        sgd.zero_grad()
        net(torch.randn(4, 8)).square().mean().backward()
        sgd.step()
        assert (held.masks & ~before).nnz == 0
        before = held.masks
    for mask in held.masks.values():
        assert float(mask.float().mean()) == 0.25
        blocks = mask.unflatten(axis, (-1, 4))
        assert (blocks == blocks.narrow(axis + 1, 0, 1)).all()
