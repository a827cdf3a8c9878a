import copy
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from rarefy.weights import (
    LowRank,
    Masks,
    block_weights,
    finetune,
    global_magnitude_mask,
    low_rank,
    mask_from_scores,
    select,
)


def squared(model, batch):
    x, y = batch
    return (model(x) - y).square().mean()


@pytest.fixture
def batches(generator):
    return [
        (torch.randn(8, 12, generator=generator), torch.randn(8, 4, generator=generator))
        for _ in range(5)
    ]


@pytest.fixture
def masks(mlp):
    masks = global_magnitude_mask(select(mlp), sparsity=0.6)
    masks.apply_(mlp)
    return masks


def test_the_correction_is_its_formula(generator):
    weight = torch.randn(5, 7, generator=generator)
    mask = torch.rand(5, 7, generator=generator) < 0.5
    low = LowRank(weight, mask, rank=2, alpha=3.0, generator=generator)
    with torch.no_grad():
        low.up.normal_(generator=generator)
    x = torch.randn(9, 7, generator=generator)
    # The two paths of LoRA, x W' and (x A') B', where there is no mask; with one, entry by entry.
    by_paths = linear(x, weight) + 3.0 / 2 * linear(linear(x, low.down), low.up)
    low.mask = None
    torch.testing.assert_close(linear(x, low(weight)), by_paths)
    low.mask = mask
    up, down, found = low.up.tolist(), low.down.tolist(), low(weight).tolist()
    for i, j in product(range(5), range(7)):
        wanted = float(weight[i, j]) + 1.5 * sum(up[i][k] * down[k][j] for k in range(2))
        assert found[i][j] == pytest.approx(wanted if mask[i, j] else 0.0, abs=1e-5)


def test_training_begins_at_the_model_and_trains_the_adapters_alone(mlp, masks, batches, generator):
    before = copy.deepcopy(mlp)
    adapters = low_rank(mlp, masks=masks, rank=2, generator=generator)
    x = batches[0][0]
    assert torch.equal(mlp(x), before(x))
    losses = finetune(mlp, batches * 20, squared, lr=1e-2)
    assert losses[-1] < losses[0]
    wanting = {id(p) for p in mlp.parameters() if p.requires_grad}
    assert wanting == {id(p) for p in adapters.parameters()}
    assert sum(p.numel() for p in adapters.parameters()) == 2 * (12 + 16) + 2 * (16 + 4)
    for name, weight in before.named_parameters():
        owner, _, attribute = name.rpartition(".")
        module = mlp.get_submodule(owner)
        stored = module.parametrizations[attribute].original if name in masks else None
        assert torch.equal(getattr(module, attribute) if stored is None else stored, weight)


def test_merged_is_what_was_trained_and_as_sparse(mlp, masks, batches, generator):
    before = {name: p.detach().clone() for name, p in mlp.named_parameters()}
    with low_rank(mlp, masks=masks, rank=2, generator=generator):
        finetune(mlp, batches, squared, lr=1e-2)
        x = batches[0][0]
        trained = mlp(x)
    assert torch.equal(mlp(x), trained)
    assert set(dict(mlp.named_parameters())) == set(before)
    assert all(type(m) in (nn.Linear, nn.LayerNorm, nn.ReLU) for m in mlp)
    assert all(p.requires_grad for p in mlp.parameters())
    for name, mask in masks.items():
        change = mlp.get_parameter(name) - before[name]
        assert not change[~mask].any() and change[mask].any()


def test_without_masks_the_merged_change_has_the_rank(mlp, batches, generator):
    before = mlp[0].weight.detach().clone()
    with low_rank(mlp, rank=3, generator=generator):
        finetune(mlp, batches, squared, lr=1e-2)
    assert torch.linalg.matrix_rank(mlp[0].weight - before, rtol=1e-4) == 3


def test_a_language_model_and_its_chosen_weights(tiny_llama, generator):
    masks = mask_from_scores(
        {name: w.detach().abs() for name, w in block_weights(tiny_llama).items()}, sparsity=0.5
    )
    masks.apply_(tiny_llama)
    ids = torch.randint(64, (2, 8), generator=generator)
    queries = {name: w for name, w in block_weights(tiny_llama).items() if "q_proj" in name}
    with low_rank(tiny_llama, masks=masks, weights=queries, generator=generator) as adapters:
        assert adapters.names == tuple(queries)
        finetune(tiny_llama, [ids], lambda m, x: m(input_ids=x, labels=x).loss, lr=1e-2)
    assert all(
        not w[~masks[name]].any() and w[masks[name]].all()
        for name, w in block_weights(tiny_llama).items()
    )


def test_convolutions_and_what_was_frozen_before(generator):
    conv = nn.Conv2d(3, 4, 3, bias=True)
    conv.bias.requires_grad_(False)
    before = conv.weight.detach().clone()
    with low_rank(conv, rank=2, generator=generator) as adapters:
        down, up = adapters.parameters()
        assert down.shape == (2, 27) and up.shape == (4, 2)
        with torch.no_grad():
            up.fill_(0.5)
    torch.testing.assert_close(
        conv.weight, before + 16 / 2 * 0.5 * down.sum(0).view(1, 3, 3, 3), rtol=1e-4, atol=1e-5
    )
    assert conv.weight.requires_grad and not conv.bias.requires_grad


def test_bad_requests(mlp, tiny_llama, generator):
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        low_rank(mlp, rank=0, generator=generator)
    with pytest.raises(ValueError, match="is tied"):
        weights = {"lm_head.weight": tiny_llama.lm_head.weight}
        low_rank(tiny_llama, weights=weights, generator=generator)
    with pytest.raises(ValueError):
        low_rank(mlp, masks=Masks({"0.weight": torch.ones(2, 2).bool()}), generator=generator)
    assert all(p.requires_grad for p in mlp.parameters())
