"""Fine-tuning with masks, and iterative magnitude pruning."""

import copy
from types import SimpleNamespace

import pytest
import torch

from rarefy.weights import Masks, finetune, iterative_magnitude, random_masks, select
from rarefy.weights.finetune import trainer_callback


def squared_error(model, batch):
    x, y = batch
    return (model(x) - y).square().mean()


@pytest.fixture
def batches():
    g = torch.Generator().manual_seed(0)
    teacher = torch.randn(12, 4, generator=g)
    xs = [torch.randn(32, 12, generator=g) for _ in range(40)]
    return [(x, x @ teacher) for x in xs]


def test_finetuning_learns_and_keeps_the_masks(mlp, batches, generator):
    mlp.eval()
    masks = random_masks(mlp, density=0.5, generator=generator)
    losses = finetune(mlp, batches, squared_error, masks=masks, lr=1e-2)
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert sum((Masks.from_zeros(mlp) & ~masks)[n].sum() for n in masks) == 0
    assert not mlp.training
    x, y = batches[0]
    mlp(x).sum().backward()
    torch.optim.SGD(mlp.parameters(), lr=0.1).step()  # no hook is left behind
    assert (Masks.from_zeros(mlp) & ~masks).nnz > 0


def test_finetuning_with_all_ones_is_dense_finetuning(mlp, batches):
    twin = copy.deepcopy(mlp)
    dense = finetune(mlp, batches, squared_error)
    masked = finetune(twin, batches, squared_error, masks=Masks.ones(select(twin)))
    assert dense == masked


def test_the_trainer_callback_runs_after_each_step():
    seen = []
    trainer_callback(seen.append).on_optimizer_step(None, SimpleNamespace(global_step=7), None)
    assert seen == [7]


def test_tickets_are_nested_exact_and_rewound(mlp, batches):
    start = copy.deepcopy(mlp.state_dict())
    rounds = []

    def train(model, masks):
        rounds.append(masks)
        for name, weight in select(model).items():
            assert torch.equal(weight, start[name] * masks[name])  # rewound
        finetune(model, batches[:5], squared_error, masks=masks, lr=1e-2)

    masks = iterative_magnitude(mlp, train, sparsity=0.8, rounds=4)
    rounds.append(masks)
    densities = [m.density() for m in rounds]
    assert densities == pytest.approx([0.2 ** (r / 4) for r in range(5)], abs=0.003)
    assert masks.nnz == round(0.2 * masks.numel)
    for before, after in zip(rounds, rounds[1:], strict=False):
        assert (after & ~before).nnz == 0
    for name, weight in select(mlp).items():
        assert torch.equal(weight, start[name] * masks[name])


def test_one_round_without_training_is_one_shot_magnitude(mlp):
    flat = torch.cat([w.detach().abs().flatten() for w in select(mlp).values()])
    masks = iterative_magnitude(mlp, lambda *_: None, sparsity=0.5, rounds=1)
    kept = torch.cat([m.flatten() for m in masks.values()])
    assert flat[kept].min() > flat[~kept].max()


def test_a_pruned_weight_never_comes_back_for_a_kept_zero(mlp):
    seen = []

    def train(model, masks):
        seen.append(masks)
        for weight in select(model).values():
            # First the low indices are pruned; then all ties, where low indices would win.
            rising = torch.arange(weight.numel()).view(weight.shape).float()
            weight.data = rising if len(seen) == 1 else (rising == weight.numel() - 1).float()

    masks = iterative_magnitude(mlp, train, sparsity=0.75, rounds=2)
    assert not seen[1]["0.weight"][0, 0]
    assert (masks & ~seen[1]).nnz == 0


def test_bad_requests(mlp):
    with pytest.raises(ValueError, match="rounds"):
        iterative_magnitude(mlp, lambda *_: None, sparsity=0.5, rounds=0)
    with pytest.raises(TypeError, match="exactly one"):
        iterative_magnitude(mlp, lambda *_: None)
