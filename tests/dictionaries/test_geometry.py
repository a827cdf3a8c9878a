"""Geometry of dictionaries against closed forms and brute force."""

import math
from itertools import combinations, permutations

import pytest
import torch

from rarefy.dictionaries import (
    SparseCodes,
    absorption_score,
    babel,
    effective_rank,
    gram_error,
    match_latents,
    modality_score,
    selected_babel,
)


def unit(*shape, seed=0):
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


def brute_babel(cosines, atoms, size):
    return max(
        sum(cosines[i][j] for j in chosen)
        for i in atoms
        for chosen in combinations([j for j in atoms if j != i], size)
    )


def test_babel_is_the_best_set_of_every_size():
    rows = unit(7, 4)
    cosines = (rows @ rows.t()).abs().tolist()
    expected = [brute_babel(cosines, range(7), size) for size in range(1, 7)]
    assert babel(3 * rows).tolist() == pytest.approx(expected, abs=1e-6)
    assert babel(rows, 2).tolist() == pytest.approx(expected[:2], abs=1e-6)


def test_babel_of_an_equiangular_set_is_linear():
    rho = 0.3
    gram = torch.full((5, 5), rho).fill_diagonal_(1)
    assert babel(torch.linalg.cholesky(gram)).tolist() == pytest.approx(
        [rho * r for r in range(1, 5)], abs=1e-6
    )


def test_selected_babel_looks_at_a_rows_own_atoms():
    rows = unit(6, 3, seed=1)
    cosines = (rows @ rows.t()).abs().tolist()
    z = torch.zeros(4, 6)
    sets = [(0, 2, 5), (1, 4), (0, 1, 2, 3), (3,)]
    for i, atoms in enumerate(sets):
        z[i, list(atoms)] = 1.5
    expected = [brute_babel(cosines, atoms, len(atoms) - 1) for atoms in sets[:3]]
    codes = SparseCodes.from_dense(z)
    assert selected_babel(codes, rows, batch=2) == pytest.approx(sum(expected) / 3, abs=1e-6)
    assert math.isnan(selected_babel(SparseCodes.from_dense(z[3:]), rows))


def test_effective_rank_of_known_spectra():
    assert effective_rank(torch.ones(9, 3)) == pytest.approx(1)
    z = torch.diag(torch.tensor([1.0, 2.0]))
    entropy = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert effective_rank(z) == pytest.approx(math.exp(entropy))
    wide = torch.randn(5, 40, generator=torch.Generator().manual_seed(2))
    assert effective_rank(wide) == pytest.approx(effective_rank(wide.t()), rel=1e-6)
    with pytest.raises(ValueError, match="all zeros"):
        effective_rank(torch.zeros(3, 3))


def test_matching_is_the_best_of_all_assignments():
    g = torch.Generator().manual_seed(3)
    z, truth = torch.rand(20, 5, generator=g), torch.rand(20, 4, generator=g)
    similarity = (truth / truth.amax(0)).t() @ (z / z.amax(0))
    best = max(
        permutations(range(5), 4),
        key=lambda p: float(sum(similarity[i, j] for i, j in enumerate(p))),
    )
    assert match_latents(z, truth).tolist() == list(best)
    order = torch.tensor([3, 0, 2, 1])
    spikes = torch.eye(4)
    assert match_latents(7 * spikes[:, order.argsort()], spikes).tolist() == order.tolist()
    with pytest.raises(ValueError, match=r"\(20, 4\) and \(20, 5\)"):
        match_latents(truth, z)


def test_absorption_of_a_child_that_stands_for_both():
    truth = torch.eye(4)
    parents = torch.tensor([-1, 0, 0, -1])
    assert absorption_score(truth, truth, parents) == 0
    learned = truth.clone()
    learned[1] = 2 * (truth[0] + truth[1])
    assert absorption_score(learned, truth, parents) == pytest.approx(math.sqrt(0.5) / 2)


def test_gram_error_separates_levels():
    truth = torch.eye(3)
    same = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]]).bool()
    learned = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0, 0, 1]])
    assert gram_error(learned, truth, same) == pytest.approx((0.36, 0.0))
    assert gram_error(learned[[0, 2, 1]], truth, same) == pytest.approx((0.0, 0.18))
    assert same.sum() == 2


def test_modality_score_is_a_share_of_mean_energies():
    first = torch.tensor([[2.0, 0, 1, 0], [2.0, 0, 1, 0]])
    second = torch.tensor([[0.0, 3, 1, 0]])
    assert modality_score(first, second).tolist()[:3] == [1, 0, 0.5]
    assert modality_score(first, second)[3].isnan()


def test_bad_arguments():
    with pytest.raises(ValueError, match="size must be from 1 to the 2 other atoms, got 3"):
        babel(unit(3, 2), 3)
    with pytest.raises(ValueError, match="no zero row, got 1"):
        babel(torch.tensor([[1.0, 0], [0, 0]]))
