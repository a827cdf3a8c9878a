"""Sub-networks: slicing is masking, and a stack of networks is each of them alone."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from rarefy.weights import (
    NodeSpace,
    StackedPerceptrons,
    embed,
    masked_call,
    perceptron,
    subnetwork,
    unit_masks,
)
from rarefy.weights.subnetwork import kept_units


def net(*widths, act=nn.ReLU, bias=True, seed=0):
    torch.manual_seed(seed)
    modules = []
    for i, o in zip(widths, widths[1:], strict=False):
        modules += [nn.Linear(i, o, bias=bias), act()]
    return nn.Sequential(*modules[:-1])


def masked_by_hand(model, units, x):
    """h_l = act(W_l h_{l-1} + b_l) z_l, layer by layer."""
    parts = perceptron(model)
    h = x
    for linear, act, kept in zip(parts.linears, parts.after, [*units, None], strict=True):
        h = act(linear(h))
        if kept is not None:
            z = torch.zeros(linear.out_features)
            z[kept] = 1
            h = h * z
    return h


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 9), min_size=3, max_size=5),
    sparsity=st.floats(0, 0.99),
    act=st.sampled_from([nn.ReLU, nn.Sigmoid, nn.Tanh]),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_sliced_embedded_and_masked_agree(widths, sparsity, act, bias, seed):
    model = net(*widths, act=act, bias=bias, seed=seed)
    g = torch.Generator().manual_seed(seed)
    space = NodeSpace(widths[1:-1], node_sparsity=sparsity)
    (units,) = space.sample(1, g)
    x = torch.randn(6, widths[0], generator=g)
    wanted = masked_by_hand(model, units, x)
    sub = subnetwork(model, units)
    torch.testing.assert_close(sub(x), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(embed(sub, model, units)(x), wanted, atol=1e-5, rtol=1e-5)
    masks = unit_masks(model, units)
    torch.testing.assert_close(masked_call(model, masks, x), wanted, atol=1e-5, rtol=1e-5)
    assert masks.nnz == sum(layer.weight.numel() for layer in perceptron(sub).linears)


def test_embedding_writes_trained_weights_and_zeros(generator):
    model = net(4, 6, 5, 3)
    (units,) = NodeSpace((6, 5), node_sparsity=0.5).sample(1, generator)
    sub = subnetwork(model, units)
    with torch.no_grad():
        for parameter in sub.parameters():
            parameter += 1
    whole = embed(sub, model, units)
    x = torch.randn(7, 4, generator=generator)
    torch.testing.assert_close(whole(x), sub(x))
    dropped = torch.ones(6, dtype=torch.bool)
    dropped[units[0]] = False
    assert not whole[0].weight[dropped].any() and not whole[0].bias[dropped].any()
    assert not whole[2].weight[:, dropped].any()


def test_a_sub_network_has_weights_of_its_own(generator):
    model = net(4, 6, 3)
    before = [p.clone() for p in model.parameters()]
    sub = subnetwork(model, (torch.tensor([1, 4]),))
    nn.init.zeros_(sub[0].weight)
    embed(sub, model, (torch.tensor([1, 4]),))
    assert all(map(torch.equal, before, model.parameters()))


def test_rescaling_keeps_the_variance(generator):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 400), nn.Identity(), nn.Linear(400, 200, bias=False))
    units = (torch.arange(40),)
    x = torch.randn(500, 8, generator=generator)
    plain, rescaled = (subnetwork(model, units, rescale=r)(x).var() for r in (False, True))
    torch.testing.assert_close(rescaled / plain, torch.tensor(10.0))
    torch.testing.assert_close(rescaled, model(x).var(), rtol=0.35, atol=0)


def test_other_shapes_of_perceptrons(generator):
    model = nn.Sequential(
        OrderedDict(
            flat=nn.Flatten(),
            one=nn.Linear(6, 8),
            act=nn.GELU(),
            drop=nn.Dropout(),
            two=nn.Linear(8, 2),
        )
    ).eval()
    units = (torch.tensor([0, 3, 7]),)
    x = torch.randn(5, 2, 3, generator=generator)
    wanted = masked_by_hand(model, units, x.flatten(1))
    torch.testing.assert_close(subnetwork(model, units)(x), wanted)
    torch.testing.assert_close(masked_call(model, unit_masks(model, units), x), wanted)


@pytest.mark.parametrize(
    "width, sparsity, kept",
    [
        (256, 0.5, 128),
        (256, 0.9, 26),
        (256, 0.98, 5),
        (10, 0.75, 3),
        (5, 0.9, 1),
        (7, 0.0, 7),
        (3, 0.99, 1),
    ],
)
def test_units_that_stay(width, sparsity, kept):
    assert kept_units(width, node_sparsity=sparsity) == kept


@pytest.mark.parametrize(
    "model, message",
    [
        (nn.Linear(2, 2), "nn.Sequential"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "no hidden layer"),
        (
            nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
            "module 1 is a LayerNorm",
        ),
        (nn.Sequential(nn.Linear(2, 4), nn.Softmax(1), nn.Linear(4, 2)), "module 1 is a Softmax"),
    ],
)
def test_no_perceptron(model, message):
    with pytest.raises(ValueError, match=message):
        subnetwork(model, (torch.tensor([0]),))


@pytest.mark.parametrize(
    "units, message",
    [
        ((), "units has 0 layers"),
        ((torch.tensor([0, 4]),), "below its width 4"),
        ((torch.tensor([-1, 2]),), "below its width 4"),
        ((torch.tensor([1, 1]),), "rising indices"),
        ((torch.tensor([], dtype=torch.long),), "rising indices"),
    ],
)
def test_units_that_do_not_fit(units, message):
    with pytest.raises(ValueError, match=message):
        subnetwork(net(2, 4, 2), units)


def test_what_does_not_fit_its_parent():
    with pytest.raises(ValueError, match=r"widths \(3,\), units keeps \(2,\)"):
        embed(net(2, 3, 2), net(2, 4, 2), (torch.tensor([0, 1]),))


def loss(outputs, y):
    return cross_entropy(outputs, y)


def test_a_stack_trains_as_each_alone(generator):
    nets = [net(6, 5, 4, 3, seed=s) for s in range(4)]
    x, y = torch.randn(96, 6, generator=generator), torch.arange(96) % 3
    stacked = StackedPerceptrons(nets)
    adam = torch.optim.Adam(stacked.parameters(), lr=1e-2)
    alone = [torch.optim.Adam(n.parameters(), lr=1e-2) for n in nets]
    for batch in torch.arange(96).split(16) * 3:
        outputs = stacked(x[batch])
        adam.zero_grad()
        sum(loss(o, y[batch]) for o in outputs).backward()
        adam.step()
        for n, optimizer in zip(nets, alone, strict=True):
            optimizer.zero_grad()
            loss(n(x[batch]), y[batch]).backward()
            optimizer.step()
    for ours, theirs in zip(stacked.unstacked(), nets, strict=True):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_stack_takes_one_batch_or_one_each(generator):
    nets = [net(6, 5, 3, bias=False, seed=s) for s in range(3)]
    stacked = StackedPerceptrons(nets)
    x = torch.randn(3, 7, 6, generator=generator)
    torch.testing.assert_close(
        stacked(x), torch.stack([n(part) for n, part in zip(nets, x, strict=True)])
    )
    torch.testing.assert_close(stacked(x[0]), torch.stack([n(x[0]) for n in nets]))
    assert all(b.requires_grad is False for b in stacked.biases)
    assert stacked.unstacked()[0][0].bias is None


def test_stacks_that_cannot_be():
    with pytest.raises(ValueError, match="empty"):
        StackedPerceptrons([])
    for other in (net(2, 5, 2), net(2, 4, 2, bias=False), net(2, 4, 2, act=nn.Tanh)):
        with pytest.raises(ValueError, match="one shape, but number 1 is Linear"):
            StackedPerceptrons([net(2, 4, 2), other])
