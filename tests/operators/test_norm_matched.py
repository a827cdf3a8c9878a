"""Selection by norm, against a loop that tries every count."""

import pytest
import torch

from rarefy.operators import NormMatched


def brute_force(row, target, k_min=1):
    if target == 0:
        return torch.zeros_like(row)
    order = row.abs().argsort(descending=True, stable=True)
    apart = [
        abs(float(row[order[:n]].double().norm()) - target) for n in range(k_min, len(row) + 1)
    ]
    kept = torch.zeros_like(row)
    chosen = order[: k_min + apart.index(min(apart))]
    kept[chosen] = row[chosen]
    return kept


def test_nearest_norm_of_all_counts():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 12, generator=g)
    target = 4 * torch.rand(40, generator=g)
    target[0] = 0
    kept = NormMatched(target)(x)
    for row, t, ours in zip(x, target.tolist(), kept, strict=True):
        assert torch.equal(ours, brute_force(row, t))
    assert torch.equal(NormMatched(target)(-x), -kept)


def test_reaching_the_target_and_falling_short():
    x = torch.tensor([[3.0, 1.0, 2.0, -7.0]])
    assert NormMatched(3.1, nearest=False, by="positive")(x).tolist() == [[3.0, 0.0, 2.0, 0.0]]
    assert NormMatched(3.1, by="positive")(x).tolist() == [[3.0, 0.0, 0.0, 0.0]]
    assert NormMatched(99.0, by="positive")(x).tolist() == [[3.0, 1.0, 2.0, 0.0]]
    assert NormMatched(0.0)(x).count_nonzero() == 0


def test_limits_and_scale():
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert NormMatched(0.1, k_min=3)(x).count_nonzero() == 3
    assert NormMatched(99.0, k_max=2)(x).tolist() == [[0.0, 0.0, 3.0, 4.0]]
    scaled = NormMatched(10.0, scale=torch.tensor([10.0, 1.0, 1.0, 1.0]))(x)
    assert scaled.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_numpy_and_shapes():
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    target = torch.full((2, 3), 2.0)
    kept = NormMatched(target)(x)
    assert torch.equal(kept.view(6, 8), NormMatched(2.0)(x.view(6, 8)))
    assert (NormMatched(target.numpy())(x.numpy()) == kept.numpy()).all()


def test_bad_input():
    with pytest.raises(ValueError, match="target must be finite and at least 0"):
        NormMatched(torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="limits must be 0 <= k_min <= k_max"):
        NormMatched(1.0, k_min=3, k_max=2)
    with pytest.raises(ValueError, match=r"target is of shape \(3,\) but x is of \(2, 4\)"):
        NormMatched(torch.ones(3))(torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"scale is of shape \(3,\) but x has 4 columns"):
        NormMatched(1.0, scale=torch.ones(3))(torch.ones(2, 4))
