"""The gap, from the eigenvalues of the bipartite graph, and its sign where theory knows it."""

import math

import networkx as nx
import numpy as np
import pytest
import torch

from rarefy.weights import ramanujan_gap, random_mask


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
