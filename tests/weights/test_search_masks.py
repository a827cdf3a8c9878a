"""Channel and allocation spaces: silent channels are silent, budgets exact, draws as said."""

import math

import pytest
import torch
from torch import nn

from rarefy.weights import RandomSearch, allocation_space, channel_space


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def convnet():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 3),
    )
    with torch.no_grad():  # norms that shift: a channel without weights would not be silent
        net[1].bias.fill_(1.0)
        net[1].running_mean.normal_(generator=gen())
    return net.eval()


def sliced(net, masks):
    """The same network with the channels physically left out."""
    first, second = (masks[f"{i}.weight"].flatten(1).any(1) for i in (0, 3))
    small = nn.Sequential(
        nn.Conv2d(1, int(first.sum()), 3, bias=False),
        nn.BatchNorm2d(int(first.sum())),
        nn.ReLU(),
        nn.Conv2d(int(first.sum()), int(second.sum()), 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(int(second.sum()) * 16, 3),
    ).eval()
    with torch.no_grad():
        small[0].weight.copy_(net[0].weight[first])
        for part in ("weight", "bias", "running_mean", "running_var"):
            getattr(small[1], part).copy_(getattr(net[1], part)[first])
        small[3].weight.copy_(net[3].weight[second][:, first])
        small[3].bias.copy_(net[3].bias[second])
        small[6].weight.copy_(net[6].weight.view(3, 6, 16)[:, second].flatten(1))
        small[6].bias.copy_(net[6].bias)
    return small


def test_silent_channels_are_as_if_cut_out(convnet):
    x = torch.randn(5, 1, 8, 8, generator=gen())
    space = channel_space(convnet, channel_sparsity=0.5)
    candidates = space.sample(6, gen())
    outputs = space.outputs(convnet, candidates, x)
    for masks, output in zip(candidates, outputs, strict=True):
        assert [int(masks[f"{i}.weight"].flatten(1).any(1).sum()) for i in (0, 3)] == [4, 3]
        torch.testing.assert_close(output, sliced(convnet, masks)(x), atol=1e-5, rtol=1e-5)
    search = RandomSearch(space, n_samples=8, generator=gen())
    assert math.isfinite(search.fit(convnet, x, torch.arange(5) % 3).best_score_)


def test_every_channel_is_as_likely(convnet):
    drawn = channel_space(convnet, channel_sparsity=0.75).sample(2000, gen())
    share = torch.stack([m["0.weight"].flatten(1).any(1) for m in drawn]).double().mean(0)
    # Four standard deviations of a share of 1/4 in 2,000 draws.
    assert float((share - 0.25).abs().max()) < 4 * math.sqrt(0.25 * 0.75 / 2000)


def test_allocations_hold_the_budget_and_follow_dirichlet():
    model = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 40))
    shares = {}
    for concentration in (0.2, 1.0, 1e4):
        space = allocation_space(model, density=0.05, concentration=concentration)
        drawn = space.sample(400, gen())
        assert {masks.nnz for masks in drawn} == {160}
        first = torch.tensor([int(m["0.weight"].sum()) / 160 for m in drawn])
        shares[concentration] = first
        assert float(first.mean()) == pytest.approx(0.5, abs=0.1)
    # Two shares of Dirichlet(c, c): variance 1 / (4 (2 c + 1)).
    for concentration in (0.2, 1.0):
        wanted = 1 / (4 * (2 * concentration + 1))
        assert float(shares[concentration].var()) == pytest.approx(wanted, rel=0.2)
    assert float(shares[1e4].std()) < 0.01


def test_layers_that_are_too_small_hand_on_what_they_cannot_take():
    model = nn.Sequential(nn.Linear(100, 20), nn.ReLU(), nn.Linear(20, 2))
    for masks in allocation_space(model, density=0.5, concentration=0.05).sample(50, gen()):
        assert masks.nnz == 1020 and all(m.any() for m in masks.values())


def test_bad_requests(convnet):
    with pytest.raises(ValueError, match=r"channel_sparsity must lie in \[0, 1\), got 1.0"):
        channel_space(convnet, channel_sparsity=1.0)
    with pytest.raises(ValueError, match="no two-dimensional convolution without groups"):
        channel_space(nn.Linear(2, 2), channel_sparsity=0.5)
    with pytest.raises(ValueError, match=r"density must lie in \(0, 1\]"):
        allocation_space(convnet, density=0.0)
    with pytest.raises(ValueError, match="concentration must be positive"):
        allocation_space(convnet, density=0.5, concentration=0.0)
