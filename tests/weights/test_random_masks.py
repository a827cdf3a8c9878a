import pytest
import torch

from rarefy.budget import ErdosRenyi, Uniform
from rarefy.weights import random_mask, random_masks


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (4, 3, 3, 3)])
def test_counts_are_exact(shape):
    numel = torch.Size(shape).numel()
    for k in {0, numel // 3, numel}:
        mask = random_mask(shape, k, generator=gen())
        assert mask.shape == shape
        assert int(mask.sum()) == k


def test_every_position_is_equally_likely():
    g = gen()
    total = sum(random_mask((3, 4), 4, generator=g).float() for _ in range(3000))
    # Binomial(3000, 1/3): standard deviation 26.
    assert (total - 1000).abs().max() < 4 * 26


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (6, 4, 3, 3), (5, 5)])
def test_no_dead_unit_where_the_budget_allows(shape):
    k = max(shape[:2])
    mask = (
        random_mask(shape, k, generator=gen(), avoid_dead=True).flatten(2)
        if len(shape) > 2
        else random_mask(shape, k, generator=gen(), avoid_dead=True)[:, :, None]
    )
    assert int(mask.sum()) == k
    assert mask.any(2).any(0).all()
    assert mask.any(2).any(1).all()


@pytest.mark.parametrize("rule", [Uniform(), ErdosRenyi()])
def test_the_total_is_exact_whatever_the_rule(mlp, rule):
    for density in (0.1, 0.5, 1.0):
        masks = random_masks(mlp, density=density, rule=rule, generator=gen())
        assert masks.nnz == round(density * masks.numel)


def test_the_seed_decides(mlp):
    one, two, other = (random_masks(mlp, sparsity=0.5, generator=gen(s)) for s in (0, 0, 1))
    assert sum(one.difference(two).values()) == 0
    assert sum(one.difference(other).values()) > 0


def test_bad_requests(mlp):
    with pytest.raises(ValueError, match="between 0 and the 6 entries"):
        random_mask((2, 3), 7, generator=gen())
    with pytest.raises(ValueError, match="density"):
        random_masks(mlp, density=1.5, generator=gen())


def test_masks_of_independent_entries_have_the_right_expectation_only(mlp):
    exact = random_masks(mlp, density=0.3, generator=gen())
    drawn = [random_masks(mlp, density=0.3, exact=False, generator=gen(s)) for s in range(200)]
    counts = torch.tensor([masks.nnz for masks in drawn], dtype=torch.float64)
    spread = sum(m.numel() * (d := exact.density(n)) * (1 - d) for n, m in exact.items()) ** 0.5
    assert counts.std().item() == pytest.approx(spread, rel=0.2)
    assert abs(counts.mean().item() - exact.nnz) < 4 * spread / 200**0.5
    for name in exact:
        share = torch.stack([masks[name] for masks in drawn]).double().mean().item()
        assert share == pytest.approx(exact.density(name), abs=0.02)
    with pytest.raises(ValueError, match="it goes with exact=True only"):
        random_masks(mlp, density=0.3, exact=False, avoid_dead=True, generator=gen())
