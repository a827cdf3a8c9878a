"""The gap, from the eigenvalues of the bipartite graph, and its sign where theory knows it."""

import math

import networkx as nx
import numpy as np
import pytest
import torch

from rarefy.weights import mean_subgraph_gap, ramanujan_gap, random_mask, weighted_gap


@pytest.mark.parametrize("shape", [(12, 20), (9, 3, 2, 2), (30, 30)])
def test_equals_the_eigenvalues_of_the_graph(shape, generator):
    mask = random_mask(shape, 90, generator=generator)
    graph = nx.Graph((("l", i), ("r", j)) for i, j in mask.flatten(1).nonzero().tolist())
    values = np.sort(np.linalg.eigvalsh(nx.to_numpy_array(graph)))
    sides = [sum(1 for side, _ in graph if side == which) for which in "lr"]
    bound = sum(math.sqrt(90 / n - 1) for n in sides)
    assert ramanujan_gap(mask) == pytest.approx(bound - values[-2])


def test_known_graphs():
    # A complete bipartite graph has one singular value; a union of two has two equal ones.
    assert ramanujan_gap(torch.ones(5, 10) > 0) == pytest.approx(3 + 2)
    halves = torch.block_diag(torch.ones(5, 5), torch.ones(5, 5)) > 0
    assert ramanujan_gap(halves) == pytest.approx(4 - 5)
    # Units without an edge change nothing.
    assert ramanujan_gap(torch.nn.functional.pad(halves, (3, 0, 0, 2))) == pytest.approx(-1)
    assert math.isnan(ramanujan_gap(torch.ones(1, 4) > 0))
    with pytest.raises(ValueError, match="two axes or more"):
        ramanujan_gap(torch.ones(4) > 0)


@pytest.mark.parametrize("shape", [(12, 20), (9, 3, 2, 2)])
def test_the_weighted_gap_equals_the_eigenvalues_of_the_weighted_graph(shape, generator):
    weight = torch.randn(shape, generator=generator) * random_mask(shape, 80, generator=generator)
    graph = nx.Graph()
    for i, j in weight.flatten(1).nonzero().tolist():
        graph.add_edge(("l", i), ("r", j), weight=abs(float(weight.flatten(1)[i, j])))
    values = np.sort(np.linalg.eigvalsh(nx.to_numpy_array(graph)))
    assert weighted_gap(weight) == pytest.approx(values[-1] - values[-2], abs=1e-5)
    assert weighted_gap(-2 * weight) == pytest.approx(2 * weighted_gap(weight))


def test_weighted_gaps_that_are_known():
    outer = torch.arange(1.0, 4)[:, None] * torch.arange(1.0, 6)
    assert weighted_gap(outer) == pytest.approx(float(outer.norm()), rel=1e-6)  # of rank 1
    assert weighted_gap(torch.block_diag(outer, outer)) == pytest.approx(0, abs=1e-6)
    assert math.isnan(weighted_gap(torch.eye(4)[:1]))
    with pytest.raises(ValueError, match="weight must have two axes or more"):
        weighted_gap(torch.ones(4))


def test_subgraphs_are_of_inputs_with_equally_many_edges():
    # 4 inputs that all of 5 outputs read, 6 that the first 3 read, 2 that only one reads.
    mask = torch.zeros(5, 12, dtype=torch.bool)
    mask[:, :4], mask[:3, 4:10], mask[0, 10:] = True, True, True
    mask = mask[:, torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    # Complete graphs: sigma_2 is 0 and the bound is of their sides. The last is too thin.
    fives, threes = math.sqrt(5 - 1) + math.sqrt(4 - 1), math.sqrt(3 - 1) + math.sqrt(6 - 1)
    assert mean_subgraph_gap(mask) == pytest.approx((fives + threes) / 2)
    by_weight = mean_subgraph_gap(0.5 * mask, weighted_gap)
    assert by_weight == pytest.approx(0.5 * (math.sqrt(20) + math.sqrt(18)) / 2)
    assert math.isnan(mean_subgraph_gap(torch.eye(9) > 0))
    assert math.isnan(mean_subgraph_gap(torch.zeros(4, 4)))
    with pytest.raises(ValueError, match="matrix must have two axes or more"):
        mean_subgraph_gap(torch.ones(4))
