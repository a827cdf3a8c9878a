"""Proxies: equal to the scores they sum, on networks cut out by hand, and usable in a search."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from rarefy.weights import (
    NodeSpace,
    RandomSearch,
    WeightSpace,
    gradient_norm_proxy,
    mean_error,
    random_masks,
    snip_proxy,
    subnetwork,
    synflow,
    synflow_proxy,
    trained_proxy,
)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def task(generator):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    return model, torch.randn(40, 5, generator=generator), torch.arange(40) % 3


def test_flow_is_the_sum_of_synflows_saliencies_in_every_layer(task):
    model, X, y = task
    space = WeightSpace(lambda g: random_masks(model, density=0.4, generator=g))
    candidates = space.sample(4, gen())
    flows = (-synflow_proxy(space, model, candidates, X, y)).exp()
    plain = [p.clone() for p in model.parameters()]
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    for masks, flow in zip(candidates, flows, strict=True):
        for saliency in synflow(model, X[:1], masks=masks).values():
            assert float(saliency.sum()) == pytest.approx(float(flow))
    assert all(p.shape == q.shape for p, q in zip(plain, model.parameters(), strict=True))


def test_nothing_flows_through_a_cut(task):
    model, X, y = task
    cut = random_masks(model, density=0.4, generator=gen())
    cut["2.weight"].fill_(False)
    space = WeightSpace(lambda _: cut)
    assert math.isinf(float(synflow_proxy(space, model, [cut], X, y)[0]))


def test_gradient_proxies_are_those_of_the_network_cut_out(task):
    model, X, y = task
    space = NodeSpace((12, 8), node_sparsity=0.5)
    candidates = space.sample(5, gen())
    masses = snip_proxy(space, model, candidates, X, y)
    norms = gradient_norm_proxy(space, model, candidates, X, y)
    assert all(p.grad is None for p in model.parameters())
    for i, candidate in enumerate(candidates):
        small = subnetwork(model, candidate)
        cross_entropy(small(X), y).backward()
        weights = [m.weight for m in small if isinstance(m, nn.Linear)]
        mass = sum(float((w * w.grad).abs().sum().detach()) for w in weights)
        norm = math.sqrt(sum(float(w.grad.square().sum()) for w in weights))
        assert float(masses[i]) == pytest.approx(-mass, rel=1e-4)
        assert float(norms[i]) == pytest.approx(-norm, rel=1e-4)


@pytest.mark.parametrize("proxy", [synflow_proxy, snip_proxy, gradient_norm_proxy])
def test_a_search_by_proxy_keeps_the_least(task, proxy):
    model, X, y = task
    space = NodeSpace((12, 8), node_sparsity=0.5)
    search = RandomSearch(space, proxy=proxy, n_samples=12, batch_size=5, generator=gen())
    before = [p.clone() for p in model.parameters()]
    search.fit(model, X, y)
    scores = proxy(space, model, space.sample(12, gen()), X, y)
    torch.testing.assert_close(search.scores_, scores)
    assert search.best_score_ == float(scores.min())
    assert all(map(torch.equal, before, model.parameters()))


def test_training_each_candidate_and_the_error(task):
    model, X, y = task
    space = NodeSpace((12, 8), node_sparsity=0.5)

    def train(parent, candidate):
        small = subnetwork(parent, candidate)
        sgd = torch.optim.SGD(small.parameters(), lr=0.5)
        for _ in range(3):
            sgd.zero_grad()
            cross_entropy(small(X), y).backward()
            sgd.step()
        return float((small(X).argmax(1) == y).float().mean())

    search = RandomSearch(space, proxy=trained_proxy(train), n_samples=6, generator=gen())
    search.fit(model, X, y)
    assert -search.best_score_ == max(train(model, c) for c in space.sample(6, gen()))
    outputs = space.outputs(model, space.sample(3, gen()), X)
    by_hand = [1 - float((o.argmax(1) == y).float().mean()) for o in outputs]
    assert mean_error(outputs, y).tolist() == pytest.approx(by_hand)
