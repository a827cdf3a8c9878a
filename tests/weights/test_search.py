"""Random search: the batch gives what a loop gives, the draws are uniform, the protocol is fair."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from rarefy.operators import NM
from rarefy.weights import (
    NodeSpace,
    RandomSearch,
    WeightSpace,
    compare_to_random_search,
    is_nm,
    mask_from_scores,
    random,
    random_masks,
    subnetwork,
    synflow_proxy,
)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def task(generator):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))
    return model, torch.randn(40, 5, generator=generator), torch.arange(40) % 3


@pytest.mark.parametrize("rescale", [False, True])
def test_a_batch_of_sub_networks_is_each_of_them(task, rescale):
    model, X, _ = task
    space = NodeSpace((12, 8), node_sparsity=0.6, rescale=rescale)
    candidates = space.sample(9, gen())
    loop = torch.stack([subnetwork(model, c, rescale=rescale)(X) for c in candidates])
    torch.testing.assert_close(space.outputs(model, candidates, X), loop, atol=1e-5, rtol=1e-5)


def test_a_batch_without_biases_and_with_pictures(generator):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 7, bias=False), nn.ReLU(), nn.Linear(7, 2, bias=False)
    )
    x = torch.randn(5, 2, 3, generator=generator)
    space = NodeSpace((7,), node_sparsity=0.5)
    candidates = space.sample(4, generator)
    loop = torch.stack([subnetwork(model, c)(x) for c in candidates])
    torch.testing.assert_close(space.outputs(model, candidates, x), loop)


def test_a_batch_of_masks_is_each_of_them(generator):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    ).eval()
    x = torch.randn(6, 1, 4, 4, generator=generator)
    space = WeightSpace(lambda g: random_masks(model, density=0.3, generator=g))
    candidates = space.sample(5, generator)
    before = [p.clone() for p in model.parameters()]
    outputs = space.outputs(model, candidates, x)
    assert all(map(torch.equal, before, model.parameters()))
    for masks, output in zip(candidates, outputs, strict=True):
        masks.apply_(model)
        torch.testing.assert_close(output, model(x), atol=1e-5, rtol=1e-5)
        for parameter, stored in zip(model.parameters(), before, strict=True):
            parameter.data.copy_(stored)


def test_random_patterns_are_patterns(task):
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    pattern = NM(1, 2)
    space = WeightSpace(lambda g: mask_from_scores(random(model, generator=g), pattern=pattern))
    one, other = space.sample(2, gen())
    assert all(is_nm(mask, NM(1, 2, axis=1)) for mask in one.values())
    assert sum(one.difference(other).values()) > 0


def test_the_best_is_the_least_of_all(task):
    model, X, y = task
    space = NodeSpace((12, 8), node_sparsity=0.6)
    search = RandomSearch(space, n_samples=50, batch_size=16, generator=gen()).fit(model, X, y)
    losses = [
        float(cross_entropy(subnetwork(model, c)(X), y).detach()) for c in space.sample(50, gen())
    ]
    torch.testing.assert_close(search.scores_, torch.tensor(losses), atol=1e-5, rtol=1e-5)
    assert search.best_score_ == float(search.scores_.min())
    best = cross_entropy(subnetwork(model, search.best_)(X), y)
    assert float(best.detach()) == pytest.approx(min(losses), abs=1e-6)


def test_the_batch_size_changes_nothing(task):
    model, X, y = task
    weights = WeightSpace(lambda g: random_masks(model, density=0.3, generator=g))
    for space in (NodeSpace((12, 8), node_sparsity=0.6), weights):
        one, other = (
            RandomSearch(space, n_samples=23, batch_size=b, generator=gen()).fit(model, X, y)
            for b in (5, 64)
        )
        torch.testing.assert_close(one.scores_, other.scores_, atol=1e-5, rtol=1e-5)


def test_another_objective_and_the_mode_of_the_model(task):
    model, X, y = task

    def mistakes(outputs, y):
        return (outputs.argmax(2) != y).float().mean(1)

    space = NodeSpace((12, 8), node_sparsity=0.5)
    search = RandomSearch(space, objective=mistakes, n_samples=40, generator=gen())
    search.fit(model.train(), X, y)
    assert model.training
    wrong = (subnetwork(model, search.best_)(X).argmax(1) != y).float().mean()
    assert search.best_score_ == float(wrong) < float(search.scores_.mean())


def test_every_subset_is_equally_likely():
    space = NodeSpace((5,), node_sparsity=0.6)
    counts = dict.fromkeys(itertools.combinations(range(5), 2), 0)
    for (kept,) in space.sample(5000, gen()):
        counts[tuple(kept.tolist())] += 1
    # Binomial(5000, 1/10): standard deviation 21.
    assert all(abs(count - 500) < 4 * 21 for count in counts.values())


def test_how_many_candidates_there_are():
    space = NodeSpace((256, 256), node_sparsity=0.9)
    assert space.kept == (26, 26)
    assert space.log10_size == pytest.approx(2 * math.log10(math.comb(256, 26)))
    whole = NodeSpace((4, 3), node_sparsity=0.0)
    assert whole.log10_size == 0
    assert [kept.tolist() for kept in whole.sample(1, gen())[0]] == [[0, 1, 2, 3], [0, 1, 2]]


def test_expected_best_against_every_subset(task):
    model, X, y = task
    space = NodeSpace((12, 8), node_sparsity=0.6)
    search = RandomSearch(space, n_samples=7, generator=gen()).fit(model, X, y)
    for t in range(1, 8):
        least = [min(c) for c in itertools.combinations(search.scores_.tolist(), t)]
        assert search.expected_best(t) == pytest.approx(sum(least) / len(least), abs=1e-6)
    with pytest.raises(ValueError, match="between 1 and 7, got 8"):
        search.expected_best(8)


def test_expected_value_of_a_proxys_pick_against_every_subset(task):
    model, X, y = task
    space = NodeSpace((12, 8), node_sparsity=0.6)
    search = RandomSearch(space, proxy=synflow_proxy, n_samples=7, generator=gen())
    scores = search.fit(model, X, y).scores_.tolist()
    trained = torch.rand(7, generator=gen())
    for t in range(1, 8):
        picks = [min(c, key=scores.__getitem__) for c in itertools.combinations(range(7), t)]
        wanted = trained[picks].mean()
        assert search.expected_best(t, values=trained) == pytest.approx(float(wanted), abs=1e-6)
    with pytest.raises(ValueError, match=r"one a candidate, shape \(7,\), got \(6,\)"):
        search.expected_best(2, values=trained[:6])


def test_cut_networks_make_a_short_search_infinite(task):
    model, X, y = task
    search = RandomSearch(NodeSpace((12, 8), node_sparsity=0.6), n_samples=1200, generator=gen())
    search.fit(model, X, y)
    search.scores_[:600] = math.inf
    # A search of 590 meets none but cut networks so seldom that the chance rounds to zero.
    assert search.expected_best(590) == math.inf
    assert search.expected_best(610) < math.inf


def test_bad_requests(task):
    model, X, y = task
    space = NodeSpace((12, 8), node_sparsity=0.6)
    for name in ("n_samples", "batch_size"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            RandomSearch(space, generator=gen(), **{name: 0})
    search = RandomSearch(space, n_samples=3, generator=gen())
    with pytest.raises(ValueError, match="got 40 and 39"):
        search.fit(model, X, y[1:])
    with pytest.raises(ValueError, match="got 0 and 0"):
        search.fit(model, X[:0], y[:0])
    with pytest.raises(ValueError, match=r"widths \(12, 8\), the space \(12, 9\)"):
        RandomSearch(NodeSpace((12, 9), node_sparsity=0.5), generator=gen()).fit(model, X, y)
    with pytest.raises(ValueError, match=r"one score a candidate, shape \(3,\), got \(\)"):
        RandomSearch(space, objective=lambda o, _: o.mean(), n_samples=3, generator=gen()).fit(
            model, X, y
        )
    with pytest.raises(ValueError, match="NaN"):
        search.fit(model, X * float("nan"), y)
    for bad in (1.0, -0.1):
        with pytest.raises(ValueError, match=r"node_sparsity must lie in \[0, 1\)"):
            NodeSpace((4,), node_sparsity=bad)
    with pytest.raises(ValueError, match="widths must be"):
        NodeSpace((), node_sparsity=0.5)


class Ladder:
    """A space of numbers whose score is the number, to see through the protocol."""

    def __init__(self):
        self.drawn = []

    def sample(self, n, generator):
        found = torch.rand(n, generator=generator).tolist()
        self.drawn += found
        return found

    def outputs(self, model, candidates, x):
        return torch.tensor(candidates)


def compared(method, train, **how):
    return compare_to_random_search(
        method,
        Ladder(),
        parent=lambda seed: nn.Identity(),
        train=train,
        X=torch.zeros(1),
        y=torch.zeros(1),
        objective=lambda outputs, _: outputs,
        n_samples=200,
        **how,
    )


def test_the_protocol_tells_better_worse_and_equivalent():
    # Training gives 1 - candidate: random search finds nearly 0, a random candidate is 1/2.
    found = compared(lambda parent, seed: 0.005, lambda parent, c, seed: 1 - c, margin=0.05)
    assert found.verdict("better", "random") == "reproduced"
    assert found.verdict("no better", "random") == "contradicted"
    for question in ("no worse", "no better"):
        assert found.verdict(question, "random search") == "reproduced"
    worse = compared(lambda parent, seed: 0.9, lambda parent, c, seed: 1 - c)
    assert worse.verdict("better", "random search") == "contradicted"


def test_the_protocol_gives_everyone_the_same_parent_and_seed():
    seen = []

    def train(parent, candidate, seed):
        seen.append((float(parent.weight.detach()[0, 0]), seed))
        return float(candidate)

    def parent(seed):
        torch.manual_seed(seed)
        return nn.Linear(1, 1)

    space = Ladder()
    result = compare_to_random_search(
        lambda parent, seed: 0.5,
        space,
        parent=parent,
        train=train,
        X=torch.zeros(1),
        y=torch.zeros(1),
        objective=lambda outputs, _: outputs,
        n_samples=3,
        seeds=(3, 5),
    )
    assert len(seen) == 6 and len(set(seen)) == 2
    assert result.measurements.seeds == [3, 5]
    # The random candidate is none of those that the search saw: three of a search and one, twice.
    assert len(space.drawn) == len(set(space.drawn)) == 2 * (3 + 1)


def test_the_protocol_wants_two_seeds():
    with pytest.raises(ValueError, match="at least two seeds"):
        compared(lambda parent, seed: 0.5, lambda parent, c, seed: c, seeds=(1,))
