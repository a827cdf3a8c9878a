"""Effective masks against boolean reachability written out, and against taking weights away."""

import itertools

import pytest
import torch
from torch import nn

from rarefy.budget import Uniform
from rarefy.weights import Masks, attach, effective_masks, random_masks, select
from rarefy.weights.random_masks import random_mask


def random_mlp(generator):
    """Two to six layers of 1 to 30 units, and masks of 10 to 50 %; layers may be empty."""
    depth = int(torch.randint(2, 7, (1,), generator=generator))
    widths = torch.randint(1, 31, (depth + 1,), generator=generator).tolist()
    layers = [(nn.Linear(a, b), nn.GELU()) for a, b in itertools.pairwise(widths)]
    model = nn.Sequential(*itertools.chain(*layers))
    density = 0.1 + 0.4 * float(torch.rand(1, generator=generator))
    rule = Uniform(min_per_group=0)
    return model, random_masks(model, density=density, rule=rule, generator=generator)


def reachable(masks):
    """Boolean reachability, one layer after the other in both directions."""
    matrices = list(masks.values())
    forward = [torch.ones(matrices[0].shape[1], dtype=torch.bool)]
    for mask in matrices:
        forward.append((mask & forward[-1]).any(1))
    backward = [torch.ones(matrices[-1].shape[0], dtype=torch.bool)]
    for mask in reversed(matrices):
        backward.append((mask & backward[-1][:, None]).any(0))
    backward.reverse()
    return {
        name: mask & forward[i] & backward[i + 1][:, None]
        for i, (name, mask) in enumerate(masks.items())
    }


def test_equals_boolean_reachability_on_fifty_random_mlps(generator):
    gaps = 0
    for _ in range(50):
        model, masks = random_mlp(generator)
        effective = effective_masks(model, masks, torch.randn(2, model[0].in_features))
        expected = reachable(masks)
        for name in masks:
            assert torch.equal(effective[name], expected[name])
        gaps += effective.nnz < masks.nnz
    assert gaps > 25  # the comparison is not of full masks with full masks


class Convolutions(nn.Module):
    """Stride, padding, a residual, a max-pooling and a gate: what a path must get through."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.gate = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = self.pool(x + torch.relu(self.second(x)))
        x = x.mean((2, 3))
        return self.head(x * torch.sigmoid(self.gate(x)))


def test_a_convolutional_network_against_taking_each_weight_away(generator):
    """A weight is effective if the output of random positive weights changes without it."""
    torch.manual_seed(0)
    model = Convolutions().eval()
    masks = random_masks(model, density=0.3, rule=Uniform(), generator=generator)
    effective = effective_masks(model, masks, torch.randn(1, 2, 6, 6))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.rand_like(parameter) + 0.1)
            if name.endswith("bias"):
                parameter.zero_()
        masks.apply_(model)
        # Averages let every position through, as maxima do for some input.
        model.pool = nn.AvgPool2d(3, stride=2, padding=1)
        x = torch.rand(1, 2, 6, 6, dtype=torch.float64) + 0.1
        model.double()
        whole = model(x)
        for name, weight in select(model).items():
            for index in masks[name].nonzero().tolist():
                kept = weight[tuple(index)].clone()
                weight[tuple(index)] = 0
                changed = bool((model(x) - whole).abs().max() > 1e-12)
                weight[tuple(index)] = kept
                # The gate is open without its weights, but they still move it.
                assert changed == bool(effective[name][tuple(index)]), (name, index)
    assert effective.nnz < masks.nnz


def test_a_padded_weight_that_sees_only_padding_is_without_effect():
    model = nn.Conv2d(1, 1, 3, padding=1)
    masks = {"weight": torch.ones(1, 1, 3, 3, dtype=torch.bool)}
    effective = effective_masks(model, masks, torch.ones(1, 1, 1, 1))
    assert effective["weight"].flatten().nonzero().tolist() == [[4]]


def test_depth_does_not_overflow(generator):
    # Counting paths gives about 6^200 here, in both directions.
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(200)))
    masks = random_masks(model, density=0.1, generator=generator)
    effective, expected = effective_masks(model, masks, torch.ones(1, 64)), reachable(masks)
    assert 0 < effective.nnz < masks.nnz
    for name in masks:
        assert torch.equal(effective[name], expected[name])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_dense_transformer_is_all_effective_and_a_dead_head_is_not(tiny_llama, attention):
    tiny_llama.set_attn_implementation(attention)
    ids = {"input_ids": torch.zeros(1, 6, dtype=torch.long)}
    masks = Masks.ones(select(tiny_llama))
    assert effective_masks(tiny_llama, masks, ids).nnz == masks.nnz
    # Without the values of the first group, its queries, keys and columns of o_proj are idle.
    block = "model.layers.0.self_attn"
    masks[f"{block}.v_proj.weight"][:8] = False
    effective = effective_masks(tiny_llama, masks, ids)
    assert not effective[f"{block}.q_proj.weight"][:16].any()
    assert not effective[f"{block}.k_proj.weight"][:8].any()
    assert not effective[f"{block}.o_proj.weight"][:, :16].any()
    assert effective[f"{block}.q_proj.weight"][16:].all()
    assert effective.nnz == masks.nnz - (16 + 8 + 16) * 32


def test_torchs_own_attention():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    masks = Masks.ones(select(layer))
    assert effective_masks(layer, masks, torch.randn(2, 5, 16)).nnz == masks.nnz
    masks["self_attn.in_proj_weight"][32:40] = False  # values of the first head
    effective = effective_masks(layer, masks, torch.randn(2, 5, 16))
    assert not effective["self_attn.in_proj_weight"][:8].any()
    assert not effective["self_attn.out_proj.weight"][:, :8].any()
    assert effective["self_attn.in_proj_weight"][8:16].all()


def test_conv1d_of_transformers(generator):
    from transformers.pytorch_utils import Conv1D

    # The same network twice, stored (in, out) and (out, in).
    linear = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    turned = nn.Sequential(Conv1D(8, 6), nn.ReLU(), Conv1D(3, 8))
    masks = random_masks(linear, density=0.25, generator=generator)
    expected = effective_masks(linear, masks, torch.ones(1, 6))
    found = effective_masks(turned, {n: m.T for n, m in masks.items()}, torch.ones(1, 6))
    for name, mask in found.items():
        assert torch.equal(mask.T, expected[name])


def test_the_model_is_left_as_it_was_and_masks_may_be_attached(mlp, generator):
    masks = random_masks(mlp, density=0.2, generator=generator)
    x = torch.randn(3, 12)
    free = effective_masks(mlp, masks, x)
    mlp.train()
    mlp[1].eval()
    before = {name: tensor.clone() for name, tensor in mlp.state_dict().items()}
    with attach(mlp, masks):
        held = effective_masks(mlp, masks, x)
        assert [module.training for module in mlp] == [True, False, True, True]
    assert sum(free.difference(held).values()) == 0
    mlp_after = mlp.state_dict()
    for name, tensor in before.items():
        assert torch.equal(
            mlp_after[name], tensor.masked_fill(~masks[name], 0) if name in masks else tensor
        )
    assert all(parameter.grad is None for parameter in mlp.parameters())


def test_what_cannot_be_traced_is_said(generator):
    class Difference(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)
            self.head = nn.Linear(4, 1)

        def forward(self, x):
            return self.head(self.left(x) - 2 * self.right(x))

    model = Difference()
    with pytest.raises(ValueError, match="subtracts activations"):
        effective_masks(model, Masks.ones(select(model)), torch.ones(1, 4))
    masks = {"weight_ih_l0": torch.ones(16, 4) > 0}
    with pytest.raises(ValueError, match="recurrent"):
        effective_masks(nn.LSTM(4, 4), masks, torch.ones(1, 3, 4))
    with pytest.raises(ValueError, match="no parameter of that shape for nowhere"):
        effective_masks(
            nn.Linear(4, 4), {"nowhere": random_mask((2, 2), 1, generator=generator)}, 0
        )
