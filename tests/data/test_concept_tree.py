"""The concept tree: its Gram matrix in closed form, its frequencies by counting."""

import pytest
import torch

from rarefy.data import make_concept_tree
from rarefy.data.concept_tree import _mixing


@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3, 0.6, 0.9])
def test_siblings_have_the_cosine_and_levels_are_orthogonal(correlation):
    tree = make_concept_tree(correlation=correlation)
    gram = tree.directions @ tree.directions.t()
    expected = torch.eye(20) + correlation * tree.siblings
    torch.testing.assert_close(gram, expected, atol=1e-6, rtol=0)
    assert tree.children.tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert int(tree.same_level.sum()) == 11 * 10 + 9 * 8


@pytest.mark.parametrize(
    ("correlation", "parent", "child"),
    [(0.1, 0.3, 0.0895), (0.3, 0.529, 0.226), (0.5, 0.6467, 0.3335), (0.8, 0.7739, 0.482)],
)
def test_mixing_is_the_released_generators(correlation, parent, child):
    # There a direction is (1 - epsilon) of itself and epsilon of the mean of its siblings.
    for siblings, epsilon in ((11, parent), (3, child)):
        weight = epsilon / (siblings - 1) / (1 - epsilon)
        assert _mixing(correlation, siblings) == pytest.approx(weight, rel=5e-3)


def test_frequencies_and_amplitudes():
    tree = make_concept_tree(child_mean=0.5)
    x, amplitudes = tree.sample(40_000, torch.Generator().manual_seed(0))
    active = (amplitudes > 0).double()
    is_parent = tree.parents < 0
    assert active[:, is_parent].sum(1).eq(1).all()
    share = torch.where(is_parent, 0.05, 0.04)
    share[[0, 4, 8]] = 0.2
    torch.testing.assert_close(active.mean(0), share.double(), atol=0.01, rtol=0)
    assert float(active.sum(1).mean()) == pytest.approx(1.36, abs=0.01)
    children = tree.children
    # a child never fires without its parent
    assert (active[:, children] <= active[:, tree.parents[children]]).all()
    firing = amplitudes[:, 1][amplitudes[:, 1] > 0]
    assert float(firing.mean()) == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(x, amplitudes @ tree.directions)


def test_bad_arguments():
    with pytest.raises(ValueError, match="correlation must be at least 0 and below 1, got 1"):
        make_concept_tree(correlation=1)
    with pytest.raises(ValueError, match="child_mean must be positive, got 0"):
        make_concept_tree(child_mean=0)
