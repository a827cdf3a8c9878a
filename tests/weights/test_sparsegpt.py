import pytest
import torch

from rarefy.operators import NM
from rarefy.weights import obs_factor, sparsegpt, sparsegpt_score


def problem(outputs=5, inputs=12, tokens=80, seed=0):
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(inputs, inputs, generator=g)
    x = torch.randn(tokens, inputs, generator=g) @ mixing  # correlated inputs
    return torch.randn(outputs, inputs, generator=g), x


def damped(gram, damp=0.01):
    h = gram.double()
    return h + damp * h.diagonal().mean() * torch.eye(len(h), dtype=torch.float64)


def by_explicit_inverses(weight, gram, density, block, pattern=None):
    """Algorithm 1 from its formulas: the remaining Hessian is inverted anew at every column."""
    h, w = damped(gram), weight.double().clone()
    outputs, inputs = w.shape
    inverses = [torch.linalg.inv(h[j:, j:]) for j in range(inputs)]
    cost = torch.stack([inverse[0, 0] for inverse in inverses])
    keep = torch.zeros(outputs, inputs, dtype=torch.bool)
    kept = 0
    for j in range(inputs):
        if pattern is None and j % block == 0:
            stop = min(j + block, inputs)
            upto = round(density * outputs * stop)
            scores = (w[:, j:stop] ** 2 / cost[j:stop]).flatten()
            best = torch.zeros(scores.numel(), dtype=torch.bool)
            best[scores.argsort(descending=True, stable=True)[: upto - kept]] = True
            keep[:, j:stop] = best.view(outputs, -1)
            kept = upto
        if pattern is not None and j % pattern[1] == 0:
            scores = w[:, j : j + pattern[1]] ** 2 / cost[j : j + pattern[1]]
            order = scores.argsort(dim=1, descending=True, stable=True)[:, : pattern[0]]
            keep[:, j : j + pattern[1]].scatter_(1, order, True)
        for row in range(outputs):
            if not keep[row, j]:
                step = w[row, j] / inverses[j][0, 0] * inverses[j][0]
                w[row, j:] -= step
    return w, keep


@pytest.mark.parametrize("block", [4, 5, 128])
@pytest.mark.parametrize("density", [0.25, 0.5, 0.8])
def test_unstructured_against_explicit_inverses(density, block):
    weight, x = problem()
    found = sparsegpt(weight, x.T @ x, density=density, block=block)
    wanted, keep = by_explicit_inverses(weight, x.T @ x, density, block)
    assert torch.equal(found.mask, keep)
    assert torch.allclose(found.weight.double(), wanted, atol=1e-3)
    assert int(found.mask.sum()) == round(density * weight.numel())


@pytest.mark.parametrize("n, m", [(2, 4), (1, 3), (2, 6)])
def test_patterns_against_explicit_inverses(n, m):
    weight, x = problem()
    found = sparsegpt(weight, x.T @ x, pattern=NM(n, m), block=5)
    wanted, keep = by_explicit_inverses(weight, x.T @ x, None, 5, pattern=(n, m))
    assert torch.equal(found.mask, keep)
    assert torch.allclose(found.weight.double(), wanted, atol=1e-3)
    assert (found.mask.view(5, -1, m).sum(-1) == n).all()


def test_it_is_the_exact_obs_solution_where_pruned_columns_come_first():
    # The kept columns, all to the right of the pruned ones, are then free to solve the least
    # squares problem min ||W X - W^ X|| exactly.
    weight, x = problem(inputs=10)
    weight[:, :4] *= 1e-3
    found = sparsegpt(weight, x.T @ x, density=0.6)
    assert not found.mask[:, :4].any()
    h = damped(x.T @ x)
    w = weight.double()
    shift = torch.linalg.solve(h[4:, 4:], h[4:, :4] @ w[:, :4].T).T
    assert torch.allclose(found.weight[:, 4:].double(), w[:, 4:] + shift, atol=1e-4)


def test_scores_are_the_loss_of_removing_one_weight():
    weight, x = problem()
    u = obs_factor(x.T @ x)
    assert torch.allclose((u.T @ u).double(), torch.linalg.inv(damped(x.T @ x)), atol=1e-4)
    assert torch.allclose(sparsegpt_score(weight, u), weight**2 / u.diagonal() ** 2)


def test_a_dead_input_is_pruned_and_harmless():
    weight, x = problem()
    x[:, 3] = 0
    found = sparsegpt(weight, x.T @ x, sparsity=0.5)
    assert not found.weight[:, 3].any()
    assert torch.isfinite(found.weight).all()


def test_the_scale_of_the_gram_does_not_matter():
    weight, x = problem()
    a, b = (sparsegpt(weight, s * (x.T @ x), sparsity=0.5) for s in (1.0, 1 / 64))
    assert torch.equal(a.mask, b.mask)
    assert torch.allclose(a.weight, b.weight, atol=1e-5)


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_edges(density):
    weight, x = problem()
    found = sparsegpt(weight, x.T @ x, density=density)
    assert bool(found.mask.all()) == bool(density)
    assert torch.equal(found.weight, weight * density)


def test_half_precision_comes_back_as_it_went_in():
    weight, x = problem()
    found = sparsegpt(weight.bfloat16(), x.T @ x, sparsity=0.5)
    assert found.weight.dtype == torch.bfloat16


def test_bad_input():
    weight, x = problem()
    bad = -torch.eye(12)
    with pytest.raises(ValueError, match=r"layers\.0\.up .*larger damp, or more calibration"):
        sparsegpt(weight, bad, sparsity=0.5, name="layers.0.up")
    with pytest.raises(ValueError, match="2:5 does not fit .* 12 inputs"):
        sparsegpt(weight, x.T @ x, pattern=NM(2, 5))
    with pytest.raises(ValueError, match=r"1\.2"):
        sparsegpt(weight, x.T @ x, sparsity=1.2)
    with pytest.raises(TypeError, match="pattern"):
        sparsegpt(weight, x.T @ x, sparsity=0.5, pattern=NM(2, 4))
