"""The compiled selection by norm and its sorting twin keep the same entries."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.kernels.cpu.norm_matched import norm_matched, norm_matched_reference


def same(u, target, **options):
    ours = norm_matched(u, target, threads=2, **options)
    theirs = norm_matched_reference(u, target, **options)
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("width", [1, 5, 40, 700])
@pytest.mark.parametrize("nearest", [True, False])
def test_same_entries_on_random_rows(width, nearest):
    g = torch.Generator().manual_seed(width)
    u = torch.randn(60, width, generator=g)
    target = torch.rand(60, generator=g) * 1.2 * u.clamp(min=0).norm(dim=1)
    target[0] = 0
    assert same(u, target, nearest=nearest)
    scale = 0.5 + torch.rand(width, generator=g)
    assert same(u, target, nearest=nearest, scale=scale)
    assert same(u, target, nearest=nearest, k_min=min(3, width), k_max=max(3, width // 4))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-3, 4), min_size=30, max_size=30),
    st.integers(0, 12),
    st.booleans(),
)
def test_ties_go_to_the_lowest_index(values, target, nearest):
    u = torch.tensor([values], dtype=torch.float32)
    assert same(u, torch.tensor([float(target)]), nearest=nearest)


def test_a_row_does_not_depend_on_the_row_before_it():
    g = torch.Generator().manual_seed(3)
    sizes = torch.logspace(-3, 3, 40)[torch.randperm(40, generator=g)]
    u = sizes[:, None] * torch.randn(40, 300, generator=g)
    share = torch.rand(40, generator=g) * 1.2
    target = share * u.clamp(min=0).norm(dim=1)
    target[::7] = 0
    u[5] = -1.0
    for k_min in (0, 1, 30):
        assert same(u, target, k_min=k_min)
        alone = [norm_matched(u[i : i + 1], target[i : i + 1], k_min=k_min)[0] for i in range(40)]
        assert torch.equal(norm_matched(u, target, k_min=k_min, threads=1)[0], torch.cat(alone))
