import copy
import itertools
import math

import pytest
import torch
from torch import nn

from rarefy.operators import NM
from rarefy.weights import (
    Movement,
    fisher,
    global_magnitude_mask,
    grasp,
    magnitude,
    mask_from_scores,
    random,
    select,
    snip,
    synflow,
    synflow_masks,
    wanda,
)


def squared_error(model, batch):
    x, y = batch
    return (model(x) - y).square().sum() / 2


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(4, 2, bias=False).double()


@pytest.fixture
def batches():
    g = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(3, 4, generator=g, dtype=torch.float64),
            torch.randn(3, 2, generator=g, dtype=torch.float64),
        )
        for _ in range(2)
    ]


def gradient(w, x, y):
    return (x @ w.T - y).T @ x


def test_snip_of_a_linear_layer_in_closed_form(linear, batches):
    w = linear.weight.detach()
    total = sum(gradient(w, x, y) for x, y in batches)
    found = snip(linear, batches, squared_error)["weight"]
    assert torch.allclose(found, (total * w).abs().float())
    assert linear.weight.grad is None


@pytest.mark.parametrize("score", [snip, grasp])
def test_scores_do_not_depend_on_how_the_data_is_batched(linear, batches, score):
    together = [tuple(torch.cat(parts) for parts in zip(*batches, strict=True))]
    one, two = (score(linear, b, squared_error)["weight"] for b in (together, batches))
    assert torch.allclose(one, two)


def test_fisher_in_closed_form(linear, batches):
    w = linear.weight.detach()
    mean = sum(gradient(w, x, y).square() for x, y in batches) / 2
    found = fisher(linear, iter(batches), squared_error)["weight"]
    assert torch.allclose(found, (mean * w.square()).float())


def test_grasp_of_a_quadratic_in_closed_form(linear, batches):
    # For the squared error of a linear layer H acts on each output row as X'X.
    w = linear.weight.detach()
    g, h = sum(gradient(w, x, y) for x, y in batches), sum(x.T @ x for x, _ in batches)
    hg = g @ h
    found = grasp(linear, batches, squared_error)["weight"]
    assert torch.allclose(found, (hg * w).float())


class Attention(nn.Module):
    """Torch's fused attention, or its formula."""

    def __init__(self, fused):
        super().__init__()
        self.fused = fused
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 4)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])
            return self.out(mixed[:, 0])
        return self.out((q @ k.mT / math.sqrt(8)).softmax(-1) @ v)


def test_grasp_of_fused_attention_is_that_of_its_formula(generator):
    fused, plain = Attention(True), Attention(False)
    plain.load_state_dict(fused.state_dict())
    x = torch.randn(3, 5, 8, generator=generator)
    one, other = (grasp(m, [x], lambda net, x: net(x).square().mean()) for m in (fused, plain))
    for name, scores in one.items():
        torch.testing.assert_close(scores, other[name], rtol=1e-4, atol=1e-6)
        assert scores.any()


def test_gradient_scores_need_data(linear):
    with pytest.raises(ValueError, match="batches is empty"):
        snip(linear, [], squared_error)


def test_synflow_counts_paths_and_conserves_flow():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7, bias=False), nn.Linear(7, 3, bias=False))
    a, b = (layer.weight.detach().abs().double() for layer in model)
    found = synflow(model, torch.zeros(1, 5))
    # R = 1' B A 1, so dR/dA_ij = (sum of column i of B) and dR/dB_ki = (sum of row i of A).
    assert torch.allclose(found["0.weight"], a * b.sum(0)[:, None])
    assert torch.allclose(found["1.weight"], b * a.sum(1)[None, :])
    # Layer-wise conservation (theorem 2 of the paper): each layer carries all of R.
    assert found["0.weight"].sum() == pytest.approx(found["1.weight"].sum().item())


def test_synflow_does_not_collapse_a_layer_where_one_shot_magnitude_does():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(20, 20, bias=False) for _ in range(4)))
    with torch.no_grad():
        model[2].weight *= 0.01
    before = copy.deepcopy(model.state_dict())
    density = 0.02
    masks = synflow_masks(model, torch.zeros(1, 20), density=density, rounds=30)
    assert masks.nnz == round(density * masks.numel)
    assert min(row.nnz for row in masks.summary()) > 0
    collapsed = mask_from_scores(magnitude(model), density=density)
    assert min(row.nnz for row in collapsed.summary()) == 0
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_movement_sums_minus_weight_times_gradient(linear, batches):
    movement = Movement(linear)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.01)
    by_hand = torch.zeros(2, 4, dtype=torch.float64)
    for batch in batches:
        w = linear.weight.detach().clone()
        optimizer.zero_grad()
        squared_error(linear, batch).backward()
        movement.update()
        by_hand -= w * gradient(w, *batch)
        optimizer.step()
    assert torch.allclose(movement.scores["weight"], by_hand.float(), rtol=1e-5)


def test_wanda_and_magnitude_are_their_formulas():
    w = torch.tensor([[1.0, -2.0], [0.5, 4.0]], dtype=torch.bfloat16)
    norms = torch.tensor([3.0, 0.5])
    assert wanda(w, norms).tolist() == [[3.0, 1.0], [1.5, 2.0]]
    assert wanda(w, norms).dtype == torch.float32
    assert magnitude({"w": w})["w"].tolist() == [[1.0, 2.0], [0.5, 4.0]]


def test_random_scores_come_from_the_generator(mlp):
    draw = lambda: random(mlp, generator=torch.Generator().manual_seed(3))  # noqa: E731
    assert all(torch.equal(a, b) for a, b in zip(draw().values(), draw().values(), strict=True))


# --- masks from scores


def by_sorting(values, k):
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    keep = [False] * len(values)
    for i in order[:k]:
        keep[i] = True
    return keep


@pytest.mark.parametrize("density", [0.0, 0.1, 0.37, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_global_masks_against_a_sort(density, dtype, generator):
    scores = {
        "a": torch.randn(7, 5, generator=generator).to(dtype),
        "b": torch.randn(3, 4, generator=generator).round().to(dtype),  # ties
    }
    flat = torch.cat([s.flatten() for s in scores.values()]).tolist()
    masks = mask_from_scores(scores, density=density)
    kept = torch.cat([m.flatten() for m in masks.values()]).tolist()
    assert kept == by_sorting(flat, round(density * len(flat)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_global_magnitude_without_copies_is_the_same_mask(dtype, generator):
    weights = {n: torch.randn(9, 4, generator=generator).to(dtype) for n in "ab"}
    quick = global_magnitude_mask(weights, sparsity=0.37)
    assert sum(quick.difference(mask_from_scores(magnitude(weights), sparsity=0.37)).values()) == 0
    with pytest.raises(ValueError, match="NaN"):
        global_magnitude_mask({"w": torch.tensor([[math.nan, 1.0]])}, sparsity=0.5)


@pytest.mark.parametrize("min_density", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("by_magnitude", [False, True])
def test_least_densities_against_every_choice(min_density, by_magnitude, generator):
    weights = {
        "large": 5 + torch.rand(2, 3, generator=generator),
        "small": torch.randn(1, 4, generator=generator),
        "tiny": 0.01 * torch.randn(2, 1, generator=generator),
    }
    scores = magnitude(weights) if by_magnitude else weights
    flat = torch.cat([s.flatten() for s in scores.values()]).tolist()
    owner = [name for name, s in scores.items() for _ in range(s.numel())]
    least = {name: math.ceil(min_density * s.numel()) for name, s in scores.items()}
    allowed = [
        chosen
        for chosen in itertools.combinations(range(12), 6)
        if all(sum(owner[i] == name for i in chosen) >= n for name, n in least.items())
    ]
    best = max(allowed, key=lambda chosen: sum(flat[i] for i in chosen))
    masks = (
        global_magnitude_mask(weights, density=0.5, min_density=min_density)
        if by_magnitude
        else mask_from_scores(scores, density=0.5, min_density=min_density)
    )
    kept = torch.cat([m.flatten() for m in masks.values()]).nonzero().flatten().tolist()
    assert kept == list(best)
    assert all(masks.density(name) >= min_density for name in masks)


def test_least_densities_that_cannot_be():
    weights = {"a": torch.rand(2, 5), "b": torch.rand(1, 5)}
    with pytest.raises(ValueError, match="asks for 8 weights in all, but the density leaves 6"):
        global_magnitude_mask(weights, density=0.4, min_density=0.5)
    for wrong in (-0.1, 1.5, math.nan):
        with pytest.raises(ValueError, match="min_density must lie between 0 and 1"):
            mask_from_scores(weights, density=0.4, min_density=wrong)
    for other in ({"density": 0.4, "scope": "layer"}, {"pattern": NM(2, 5)}):
        with pytest.raises(ValueError, match="min_density=0.1 is for scope 'global'"):
            mask_from_scores(weights, min_density=0.1, **other)


def test_layer_and_row_scopes(generator):
    scores = {
        "a": torch.rand(6, 10, generator=generator),
        "b": torch.rand(4, 5, generator=generator),
    }
    layer = mask_from_scores(scores, sparsity=0.7, scope="layer")
    assert [int(m.sum()) for m in layer.values()] == [18, 6]
    assert layer["a"].flatten().tolist() == by_sorting(scores["a"].flatten().tolist(), 18)
    rows = mask_from_scores(scores, sparsity=0.7, scope="row")
    for name, score in scores.items():
        keep = score.shape[1] - math.floor(score.shape[1] * 7 / 10)
        for mask, values in zip(rows[name].tolist(), score.tolist(), strict=True):
            assert mask == by_sorting(values, keep)
    turned = mask_from_scores(
        {"a": scores["a"].t()}, sparsity=0.7, scope="row", input_axes={"a": 0}
    )
    assert torch.equal(turned["a"].t(), rows["a"])


def test_patterns_keep_n_of_m_and_name_the_layer_they_do_not_fit(generator):
    scores = {"up.weight": torch.randn(3, 8, generator=generator)}
    mask = mask_from_scores(scores, pattern=NM(2, 4))["up.weight"]
    for group, values in zip(
        mask.view(-1, 4).tolist(), scores["up.weight"].view(-1, 4).tolist(), strict=True
    ):
        assert group == by_sorting(values, 2)
    with pytest.raises(ValueError, match=r"2:5 does not fit up\.weight: its 8 inputs"):
        mask_from_scores(scores, pattern=NM(2, 5))
    with pytest.raises(ValueError, match="n"):
        NM(3, 2)


def test_bad_requests(generator):
    scores = {"w": torch.rand(2, 3, generator=generator)}
    with pytest.raises(ValueError, match=r"sparsity must lie between 0 and 1, got 1\.2"):
        mask_from_scores(scores, sparsity=1.2)
    with pytest.raises(ValueError, match="got nan"):
        mask_from_scores(scores, density=math.nan)
    with pytest.raises(TypeError, match="exactly one"):
        mask_from_scores(scores)
    with pytest.raises(TypeError, match="exactly one"):
        mask_from_scores(scores, density=0.5, sparsity=0.5)
    with pytest.raises(TypeError, match="pattern"):
        mask_from_scores(scores, density=0.5, pattern=NM(2, 4))
    with pytest.raises(ValueError, match="scope"):
        mask_from_scores(scores, density=0.5, scope="galaxy")
    with pytest.raises(ValueError, match="empty"):
        mask_from_scores({}, density=0.5)
    with pytest.raises(ValueError, match="scores of w hold NaN"):
        mask_from_scores({"w": torch.tensor([[math.nan, 1.0]])}, density=0.5)


def test_equal_scores_warn():
    with pytest.warns(UserWarning, match="all scores are equal"):
        masks = mask_from_scores({"w": torch.ones(2, 2)}, density=0.5)
    assert masks["w"].tolist() == [[True, True], [False, False]]


def test_scores_do_not_touch_a_models_tied_weights(tiny_llama):
    weights = dict(tiny_llama.named_parameters())
    with pytest.raises(ValueError, match="tied"):
        snip(tiny_llama, [None], lambda model, _: None, weights=weights)
    assert "lm_head.weight" not in magnitude(tiny_llama)
    assert set(select(tiny_llama)) == set(magnitude(tiny_llama))
