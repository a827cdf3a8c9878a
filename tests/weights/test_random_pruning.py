import copy

import pytest
import torch
from torch import nn

from rarefy.budget import GlobalBudget
from rarefy.weights import (
    Masks,
    gradient_norm,
    grasp,
    mask_from_scores,
    random_masks,
    scale_init_,
    score_ratios,
    select,
    snip,
)
from rarefy.weights.random_pruning import xavier_


def loss(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


@pytest.fixture
def batch(generator):
    return torch.randn(32, 12, generator=generator), torch.arange(32) % 4


@pytest.fixture
def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 8, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(8 * 16, 10),
    )


@pytest.mark.parametrize("score", [snip, grasp])
def test_ratios_are_those_of_one_threshold_on_the_scores(mlp, batch, generator, score):
    rule = score_ratios(score, mlp, [batch], loss, redraw=False, generator=generator)
    by_threshold = mask_from_scores(score(mlp, [batch], loss), density=0.2)
    masks = random_masks(mlp, density=0.2, rule=rule, generator=generator)
    for name, mask in masks.items():
        assert mask.count_nonzero() == by_threshold[name].count_nonzero()
    # The positions are thrown away.
    assert sum(masks.difference(by_threshold).values()) > 0


def test_a_redrawn_copy_is_scored_and_the_model_is_left_alone(convolutional, generator):
    x, y = torch.randn(20, 1, 8, 8, generator=generator), torch.arange(20) % 10
    before = copy.deepcopy(convolutional.state_dict())
    seed = generator.get_state()
    rule = score_ratios(snip, convolutional, [(x, y)], loss, generator=generator)
    for key, tensor in convolutional.state_dict().items():
        assert torch.equal(tensor, before[key]), key  # the statistics of the batch norm too
    assert all(parameter.grad is None for parameter in convolutional.parameters())
    twin = copy.deepcopy(convolutional)
    generator.set_state(seed)
    xavier_(select(twin), generator=generator)
    expected = snip(twin, [(x, y)], loss)
    for name, score in expected.items():
        assert torch.equal(rule.scores[name], score)
    assert not torch.allclose(
        rule.scores["0.weight"], snip(convolutional, [(x, y)], loss)["0.weight"]
    )


def test_what_a_network_was_trained_to_does_not_change_its_redrawn_ratios(mlp, batch):
    def counts(model):
        g = torch.Generator().manual_seed(3)
        rule = score_ratios(snip, model, [batch], loss, generator=g)
        return rule(select(model), density=0.3)

    other = copy.deepcopy(mlp)
    with torch.no_grad():
        other[0].weight.mul_(100)
    assert counts(mlp) == counts(other)


def test_grasp_takes_its_gradient_over_both_halves(mlp, batch):
    # Gradient and Hessian of the whole batch's mean loss are half the sums over its two halves.
    x, y = batch
    halves = [(x[:16], y[:16]), (x[16:], y[16:])]
    mlp.double()
    whole = grasp(mlp, [(x.double(), y)], loss)
    parts = grasp(mlp, [(x.double(), y) for x, y in halves], loss)
    for name, score in whole.items():
        torch.testing.assert_close(parts[name], 4 * score, rtol=1e-5, atol=1e-9)


def test_xavier_has_its_variance(generator):
    weights = {"conv": torch.empty(64, 32, 3, 3), "linear": torch.empty(300, 100)}
    xavier_(weights, generator=generator)
    for weight, fans in (("conv", (64 + 32) * 9), ("linear", 400)):
        assert weights[weight].var().item() == pytest.approx(2 / fans, rel=0.05)


def test_scaled_weights_keep_the_variance_of_the_output(generator):
    layer = nn.Linear(2000, 500, bias=False)
    nn.init.normal_(layer.weight, generator=generator)
    x = torch.randn(50, 2000, generator=generator)
    dense = layer(x).var().item()
    masks = random_masks(layer, density=0.1, generator=generator)
    scale_init_(layer, masks)
    masks.apply_(layer)
    assert layer(x).var().item() == pytest.approx(dense, rel=0.1)


def test_scaling_leaves_an_empty_tensor_and_what_has_no_mask(mlp):
    before = copy.deepcopy(mlp.state_dict())
    scale_init_(mlp, Masks({"0.weight": torch.zeros(16, 12, dtype=torch.bool)}))
    assert all(torch.equal(tensor, before[key]) for key, tensor in mlp.state_dict().items())
    with pytest.raises(ValueError, match="missing"):
        scale_init_(mlp, Masks({"5.weight": torch.ones(2, 2, dtype=torch.bool)}))


def test_gradient_norm_against_the_loop(mlp, batch, generator):
    masks = random_masks(mlp, density=0.3, generator=generator)
    assert gradient_norm(mlp, masks) == 0.0
    loss(mlp, batch).backward()
    squares = sum(
        float(parameter.grad.flatten()[i]) ** 2
        for name, parameter in select(mlp).items()
        for i in masks[name].flatten().nonzero().flatten()
    )
    assert gradient_norm(mlp, masks) == pytest.approx(squares**0.5, rel=1e-5)


def test_bad_requests(mlp, generator):
    with pytest.raises(ValueError, match="batches is empty"):
        score_ratios(snip, mlp, [], loss, generator=generator)
    with pytest.raises(ValueError, match="hold NaN"):
        rule = score_ratios(
            snip, mlp, [torch.nan], lambda m, x: m[0].weight.sum() * x, generator=generator
        )
        rule(select(mlp), density=0.5)
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="is tied"):
        score_ratios(
            snip,
            tied,
            [torch.ones(1, 4)],
            lambda m, x: m(x).sum(),
            weights={"0.weight": tied[0].weight},
            generator=generator,
        )


def test_a_floor_for_every_layer(mlp, generator):
    def of_the_head(model, _):
        return model[3].weight.square().sum()

    rule = score_ratios(snip, mlp, [None], of_the_head, min_per_group=5, generator=generator)
    counts = rule(select(mlp), density=0.2)
    assert counts["0.weight"] == 5
    assert sum(counts.values()) == round(0.2 * 256)
    none = score_ratios(snip, mlp, [None], of_the_head, min_per_group=0, generator=generator)
    assert none(select(mlp), density=0.2)["0.weight"] == 0
    assert none(select(mlp), density=0.2) == GlobalBudget(min_per_group=0)(none.scores, density=0.2)
