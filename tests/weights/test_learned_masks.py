"""Learned masks: exact counts, the gradient by hand, and masks better than magnitude's."""

import copy
from itertools import combinations

import pytest
import torch
from torch import nn

from rarefy.budget import Uniform
from rarefy.weights import LearnedMask, LearnedMasks, finetune, prune_by_scores, select


def small(generator):
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return net


def loss(net, batch):
    return net(batch).square().mean()


@pytest.fixture
def batch(generator):
    return torch.randn(5, 2, 4, 4, generator=generator)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_gradients_by_hand(generator):
    weight = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    part = LearnedMask(torch.randn(3, 4, generator=generator, dtype=torch.float64), k=5)
    upstream = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    (part(weight) * upstream).sum().backward()
    order = part.scores.detach().abs().flatten().argsort(descending=True)
    kept = torch.zeros(12, dtype=torch.float64)
    kept[order[:5]] = 1
    kept = kept.view(3, 4)
    torch.testing.assert_close(weight.grad, upstream * kept)
    # The mask as if it were |S|: its derivative is sign(S), and S's reaches pruned weights too.
    torch.testing.assert_close(part.scores.grad, upstream * weight.detach() * part.scores.sign())
    assert part.scores.grad[kept == 0].ne(0).all()


def test_the_first_mask_is_the_magnitude_mask(generator):
    net = small(generator)
    held = LearnedMasks(net, density=0.3, rule=Uniform())
    held.detach()
    for name, mask in held.masks.items():
        size = dict(net.named_parameters())[name].abs()
        assert size[mask].min() > size[~mask].max()


@pytest.mark.parametrize("how", [{}, {"fused": True}, {"foreach": True}])
def test_counts_are_exact_and_masks_move_with_the_scores(generator, batch, how):
    net = small(generator)
    with LearnedMasks(net, density=0.25, rule=Uniform()) as held:
        before = held.masks
        wanted = {name: round(0.25 * mask.numel()) for name, mask in before.items()}
        sgd = torch.optim.SGD(held.scores, lr=1.0, momentum=0.9, **how)
        for _ in range(10):
            sgd.zero_grad()
            loss(net, batch).backward()
            sgd.step()
            for (name, mask), part in zip(held.masks.items(), (net[0], net[3]), strict=True):
                assert int(mask.sum()) == wanted[name]
                assert torch.equal(part.weight != 0, mask)
        assert sum(before.difference(held.masks).values()) > 0


def test_a_copy_ranks_its_own_scores(generator, batch):
    net = small(generator)
    held = LearnedMasks(net, density=0.5, rule=Uniform())
    twin = copy.deepcopy(net)
    scores = twin[3].parametrizations.weight[0].scores
    with torch.no_grad():
        scores.neg_().reciprocal_()
    assert not torch.equal(twin[3].weight != 0, net[3].weight != 0)
    assert int((twin[3].weight != 0).sum()) == held.masks["3.weight"].sum()


def test_frozen_scores_receive_nothing(generator, batch):
    net = small(generator)
    held = LearnedMasks(net, density=0.5)
    for scores in held.scores:
        scores.requires_grad_(False)
    loss(net, batch).backward()
    assert all(scores.grad is None for scores in held.scores)
    weight = net[3].parametrizations.weight.original
    assert not weight.grad[~held.masks["3.weight"]].any()


def test_off_and_detach_give_back_the_model(generator, batch):
    net = small(generator)
    dense, parameters = net(batch), dict(net.named_parameters())
    with LearnedMasks(net, density=0.1) as held:
        masked = net(batch)
        with held.off():
            assert torch.equal(net(batch), dense)
        assert torch.equal(net(batch), masked) and not torch.equal(masked, dense)
    assert torch.equal(net(batch), dense)
    assert {n: id(p) for n, p in net.named_parameters()} == {
        n: id(p) for n, p in parameters.items()
    }


def test_reset_takes_the_weights_as_they_are_now(generator):
    net = small(generator)
    held = LearnedMasks(net, density=0.5, rule=Uniform())
    weight = net[3].parametrizations.weight.original
    with torch.no_grad():
        weight.copy_(1 / weight)
    before = held.masks["3.weight"]
    held.reset()
    assert torch.equal(before, ~held.masks["3.weight"])


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_learned_masks_beat_magnitude_s_and_near_the_best(flip, generator):
    """On least squares every mask can be tried; both signs, as the scores carry them."""
    x = torch.randn(200, 8, generator=generator)
    x = x * torch.tensor([4.0, 3.0, 2.5, 2.0, 0.5, 0.4, 0.3, 0.2])
    weight = flip * torch.tensor([[-0.5, 0.6, -0.7, 0.8, -1.5, 1.6, -1.7, 1.8]])
    y = x @ weight.T
    layer = nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)

    def error(kept):
        mask = torch.zeros(1, 8)
        mask[0, list(kept)] = 1
        return float((x @ (weight * mask).T - y).square().mean())

    def squared(net, _):
        return (net(x) - y).square().mean()

    (mask,) = prune_by_scores(layer, range(100), squared, density=0.5, lr=0.05).values()
    errors = sorted(error(kept) for kept in combinations(range(8), 4))
    learned = error(mask[0].nonzero().flatten().tolist())
    assert error(range(4, 8)) > 3 * learned
    assert learned <= errors[3]


def test_prune_by_scores_changes_no_weight(generator, batch):
    net = small(generator).eval()
    before = copy.deepcopy(net.state_dict())
    masks = prune_by_scores(net, [batch] * 3, loss, density=0.3)
    assert not net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert masks.nnz == round(0.3 * sum(w.numel() for w in select(net).values()))
    finetune(net, [batch] * 2, loss, masks=masks)
    assert not net[3].weight[~masks["3.weight"]].any()


def test_no_batches_leave_the_magnitude_masks(generator):
    net = small(generator)
    none = prune_by_scores(net, [], loss, density=0.3)
    with LearnedMasks(net, density=0.3) as held:
        assert sum(none.difference(held.masks).values()) == 0


def test_bad_density(generator):
    net = small(generator)
    with pytest.raises(ValueError, match="density must lie between 0 and 1, got 1.5"):
        LearnedMasks(net, density=1.5)
    with pytest.raises(TypeError, match="exactly one of density and sparsity"):
        prune_by_scores(net, [], loss)


def test_resize_asks_the_rule_again_and_keeps_the_scores():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    with LearnedMasks(net, density=1.0, rule=Uniform()) as held:
        scores = [part.clone() for part in held.scores]
        for frozen in (False, True):
            for part in held.scores:
                part.requires_grad_(not frozen)
            for density in (0.5, 0.125, 0.75):
                held.resize(density=density)
                assert {n: int(m.sum()) for n, m in held.masks.items()} == {
                    "0.weight": 64 * density,
                    "1.weight": 32 * density,
                }
                assert int(net[0].weight.count_nonzero()) == 64 * density
        assert all(map(torch.equal, held.scores, scores))
        with pytest.raises(ValueError, match="density"):
            held.resize(density=1.5)
