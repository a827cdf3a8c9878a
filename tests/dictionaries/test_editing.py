"""Edits against the algorithm written out with every candidate formed, and against closed forms."""

import pytest
import torch

from rarefy.dictionaries.editing import (
    feature_weights,
    greedy_edit,
    guided_edit,
    subtract_features,
)


def random_codes(n, m, seed, density=0.3):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(n, m, generator=g) * (torch.rand(n, m, generator=g) < density)


@pytest.fixture(scope="module")
def problem():
    g = torch.Generator().manual_seed(0)
    n, m, d = 40, 30, 8
    decoder = torch.randn(m, d, generator=g, dtype=torch.float64)
    alpha, beta = random_codes(n, m, 1).double(), random_codes(n, m, 2).double()
    source = alpha @ decoder + 0.1 * torch.randn(n, d, generator=g)
    target = beta @ decoder + 0.1 * torch.randn(n, d, generator=g)
    return source, target, alpha, beta, decoder


def by_all_candidates(source, target, alpha, beta, decoder, k):
    """The box of the paper: form every candidate of every prompt, at every step."""
    moves = (beta - alpha)[:, :, None] * decoder
    edit = torch.zeros_like(source)
    rows = torch.arange(len(source))
    for _ in range(k):
        distance = (edit[:, None] + moves - (target - source)[:, None]).norm(dim=2)
        best = distance.argmin(1)
        edit += moves[rows, best]
        moves[rows, best] = 0
    return source + edit


@pytest.mark.parametrize("k", [1, 2, 6, 30])
def test_greedy_edit_is_the_box_of_the_paper(problem, k):
    found = greedy_edit(*problem, k=k)
    torch.testing.assert_close(found.activations, by_all_candidates(*problem, k))
    assert found.changed.sum(1).max() <= k


def test_what_changed_accounts_for_the_edit(problem):
    source, target, alpha, beta, decoder = problem
    found = greedy_edit(*problem, k=5)
    moved = ((beta - alpha) * found.changed) @ decoder
    torch.testing.assert_close(found.activations, source + moved)
    assert not (found.changed & (alpha == beta)).any()


def test_an_edit_never_leads_away_from_the_target(problem):
    source, target, *_ = problem
    before = (target - source).norm(dim=1)
    for k in (1, 3, 9):
        after = (target - greedy_edit(*problem, k=k).activations).norm(dim=1)
        assert (after <= before + 1e-9).all()
        before = after


def test_an_orthonormal_dictionary_needs_as_many_edits_as_values_differ():
    x = torch.tensor([[1.0, 0, 2, 0], [1, 1, 0, 0]])
    y = torch.tensor([[1.0, 3, 0, 0], [1, 1, 0, 5]])
    two = greedy_edit(x, y, x, y, torch.eye(4), k=2)
    assert two.activations.equal(y)
    assert two.changed.sum(1).tolist() == [2, 1]


def test_guided_edit_swaps_the_best_active_features():
    decoder = torch.eye(4)
    old, new = torch.tensor([[2.0, 1, 0, 0]]), torch.tensor([[0, 0, 3.0, 4]])
    # The best score of all is of a feature that is not active, and does not count.
    remove = torch.tensor([[0.2, 0.7, 0.0, 0.9]])
    add = torch.tensor([[0.9, 0.0, 0.1, 0.3]])
    edited = guided_edit(old, old, new, decoder, remove=remove, add=add, k=1)
    assert edited.tolist() == [[2, 0, 0, 4]]
    edited = guided_edit(old, old, new, decoder, remove=remove, add=add, k=2)
    assert edited.equal(new)


def test_weights_are_shares_of_the_reconstruction():
    codes = random_codes(50, 20, 3)
    decoder = torch.randn(20, 6, generator=torch.Generator().manual_seed(4))
    codes[0] = 0
    weights = feature_weights(codes, decoder)
    assert weights[0].eq(0).all() and weights.isfinite().all()
    torch.testing.assert_close(weights[1:].sum(1), torch.ones(49))
    # Orthonormal features: the share is that of the squares.
    orthogonal = feature_weights(codes[:, :6], torch.eye(6))[1:]
    squares = codes[1:, :6].square()
    active = squares.sum(1) > 0
    wanted = squares[active] / squares[active].sum(1, keepdim=True)
    torch.testing.assert_close(orthogonal[active], wanted)


def test_subtracting_all_features_leaves_bias_and_error(problem):
    source, _, alpha, _, decoder = problem
    every = torch.ones(len(decoder), dtype=torch.bool)
    torch.testing.assert_close(
        subtract_features(source, alpha, decoder, every), source - alpha @ decoder
    )
    torch.testing.assert_close(subtract_features(source, alpha, decoder, ~every), source)


def test_bad_input(problem):
    for k in (0, 31):
        with pytest.raises(ValueError, match=f"k is {k}, expected from 1 to the 30 features"):
            greedy_edit(*problem, k=k)
    source, target, alpha, beta, decoder = problem
    with pytest.raises(ValueError, match=r"do not fit: \(n, d\), \(n, m\) and \(m, d\) are"):
        greedy_edit(source, target, alpha, beta[:, 1:], decoder, k=1)
    with pytest.raises(ValueError, match="do not fit"):
        guided_edit(source[:, 1:], alpha, beta, decoder, remove=alpha, add=beta, k=1)
