"""Dynamic masks: counts exact after every update, drop and grow against the definition."""

import copy

import pytest
import torch
from torch import nn

from rarefy.budget import Cubic
from rarefy.weights import (
    DynamicMask,
    Masks,
    gradual_magnitude,
    random_masks,
    rigl_update,
    select,
    set_update,
)


def train(model, update, *, masks, steps=60, every=5, optimizer=torch.optim.AdamW):
    """Train and return the masks of every update; pruned weights are checked at each step."""
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(64, 12, generator=g), torch.randn(64, 4, generator=g)
    optimizer = optimizer(model.parameters(), lr=1e-2, weight_decay=0.1)
    seen = [masks]
    moving = DynamicMask(
        model,
        masks,
        update,
        optimizer=optimizer,
        steps=steps,
        every=every,
        on_update=lambda step, masks: seen.append(masks),
    )
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
        for name, weight in select(model).items():
            assert not weight[~moving.masks[name]].any()
            for slot in optimizer.state[weight].values():
                if slot.shape == weight.shape:
                    assert not slot[~moving.masks[name]].any()
    moving.detach()
    return seen


@pytest.mark.parametrize("kind", ["SET", "RigL"])
def test_every_layer_keeps_its_count_and_the_mask_moves_until_it_rests(mlp, kind, generator):
    update = set_update(generator=generator) if kind == "SET" else rigl_update()
    masks = random_masks(mlp, density=0.2, generator=generator)
    seen = train(mlp, update, masks=masks)
    counts = {row.name: row.nnz for row in masks.summary()}
    for after in seen[1:]:
        assert {row.name: row.nnz for row in after.summary()} == counts
    assert len(seen) == 9  # at 5, 10, ..., 40 of 60 steps; nothing from 45 on
    assert sum(seen[1].difference(seen[0]).values()) > 0
    assert Masks.from_zeros(mlp).nnz <= masks.nnz


def test_rigl_drops_the_smallest_and_grows_the_largest_gradients():
    weight = nn.Parameter(torch.tensor([[5.0, -0.1, 3.0, 0.0, 0.0, 0.0, 0.0, 2.0]]))
    weight.grad = torch.tensor([[9.0, 9.0, 9.0, 0.1, -0.7, 0.2, 0.3, 9.0]])
    mask = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 1]]) > 0
    # Half of four at progress 0: the two smallest go (-0.1 and 2), though their gradients are 9.
    moved = rigl_update(drop=0.5)(Masks({"w": mask}), {"w": weight}, 0.0)["w"]
    assert moved.tolist() == [[True, False, True, False, True, False, True, False]]


def test_set_grows_where_nothing_was_and_anywhere(generator):
    weight = nn.Parameter(torch.randn(40, 40, generator=generator))
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[:10] = True
    update = set_update(generator=generator, drop=0.5)
    moved = update(Masks({"w": mask}), {"w": weight}, 0.0)["w"]
    assert int((moved & ~mask).sum()) == 200
    dropped = weight.detach().abs()[mask & ~moved].max()
    assert dropped <= weight.detach().abs()[mask & moved].min()
    share = (moved & ~mask)[10:].float().mean(1)  # 200 of 1200, spread over all rows
    assert float(share.min()) > 0.02 and float(share.max()) < 0.5


def test_gradual_magnitude_follows_its_schedule_and_nests(mlp):
    masks = Masks.ones(select(mlp))
    schedule = Cubic(0.1, end=0.75)
    seen = train(mlp, gradual_magnitude(schedule), masks=masks)
    assert seen[-1].nnz == round(0.1 * masks.numel)
    for i, (before, after) in enumerate(zip(seen, seen[1:], strict=False), 1):
        assert after.nnz == round(schedule(5 * i / 60) * masks.numel)
        assert (after & before).nnz == after.nnz


def test_a_full_layer_has_nothing_to_grow(mlp):
    masks = Masks.ones(select(mlp))
    seen = train(mlp, rigl_update(), masks=masks, steps=20)
    assert all(after.nnz == masks.numel for after in seen)


def test_detach_leaves_an_ordinary_model(mlp, generator):
    keys = list(mlp.state_dict())
    train(mlp, rigl_update(), masks=random_masks(mlp, density=0.2, generator=generator), steps=20)
    assert list(mlp.state_dict()) == keys
    copy.deepcopy(mlp)


def test_bad_settings_are_refused(mlp, generator):
    masks = random_masks(mlp, density=0.2, generator=generator)
    optimizer = torch.optim.SGD(mlp.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="shares of 1, got 1.5"):
        rigl_update(drop=1.5)
    with pytest.raises(ValueError, match="at least 1, got 10 and 0"):
        DynamicMask(mlp, masks, rigl_update(), optimizer=optimizer, steps=10, every=0)
    with pytest.raises(ValueError, match="has none: is it frozen"):
        rigl_update()(masks, select(mlp), 0.0)
