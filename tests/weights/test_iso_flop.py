"""Sparse-IFT: the layers compute what the paper writes, and cost what the dense ones cost."""

import copy
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rarefy.weights import (
    SparseDoped,
    SparseFactorized,
    SparseParallel,
    count_macs,
    dead_units,
    folded_decay,
    folded_parameters,
    iso_flop,
    scale_init_,
    select,
)

FAMILIES = ("wide", "parallel", "factorized", "doped")


class Residual(nn.Module):
    """Two stages with a residual sum, a stride, a depthwise convolution and a flattened head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.same = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.GroupNorm(1, 16),
        )
        self.down = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.point = nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        x = (x + self.same(x)).relu()
        return self.head(self.point(self.down(x).relu()).flatten(1))


@pytest.fixture
def residual():
    torch.manual_seed(0)
    return Residual()


def counted(model, x):
    """Non-zero weights times the places they are applied at, by hooks of its own."""
    total = 0

    def hook(module, _, output):
        nonlocal total
        places = output[:, 0].numel() if output.ndim == 4 else output[..., 0].numel()
        total += int((module.weight != 0).sum()) * places

    hooks = [
        m.register_forward_hook(hook)
        for m in model.modules()
        if isinstance(m, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        model.eval()(x)
    for h in hooks:
        h.remove()
    return total


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sparsity", [0.5, 0.75, 0.9])
def test_the_network_costs_what_the_dense_one_does(residual, family, sparsity, generator):
    x = torch.randn(2, 3, 8, 8)
    before = copy.deepcopy(residual.state_dict())
    sparse = iso_flop(
        residual, x, family=family, sparsity=sparsity, generator=generator, keep_dense="head*"
    )
    dense = counted(copy.deepcopy(residual), x)
    assert sparse.dense_macs == dense
    assert counted(sparse.model, x) == sparse.macs == pytest.approx(dense, rel=1e-3)
    assert sparse.model(x).shape == (2, 10)
    assert sum(p.numel() for p in sparse.model.parameters()) > 1.1 * sum(
        p.numel() for p in residual.parameters()
    )
    for name, tensor in residual.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.filterwarnings("ignore:sparsity .* no whole number")
@settings(deadline=None, max_examples=40)
@given(
    st.integers(2, 40),
    st.integers(2, 40),
    st.sampled_from([0, 1, 3]),
    st.floats(0.34, 0.97),
)
def test_each_layer_keeps_as_many_weights_as_the_dense_one(inputs, outputs, kernel, sparsity):
    layer = nn.Conv2d(inputs, outputs, kernel) if kernel else nn.Linear(inputs, outputs)
    made = [SparseParallel(layer, sparsity=sparsity), SparseFactorized(layer, sparsity=sparsity)]
    if sparsity * layer.weight.numel() >= layer.weight[0].numel() + outputs:
        made.append(SparseDoped(layer, sparsity=sparsity))
    for module in made:
        weights = {n: w for n, w in select(module).items() if n != "0.weight"}
        kept = {name: module.kept.get(name, w.numel()) for name, w in weights.items()}
        assert all(kept[name] <= w.numel() for name, w in weights.items())
        assert sum(kept.values()) == layer.weight.numel()


def test_a_number_of_branches_that_is_not_whole_is_said():
    said = "makes 1 / (1 - sparsity) = 3.33, no whole number; the layer gets 3 branches of sparsity"
    with pytest.warns(UserWarning, match=re.escape(said)):
        module = SparseParallel(nn.Linear(8, 8), sparsity=0.7)
    assert module.branches == 3
    for sparsity in (0.0, 0.5, 2 / 3, 0.9, 0.67):  # 0.67: 3.03
        SparseParallel(nn.Linear(8, 8), sparsity=sparsity)  # a warning is an error here


def test_sizes_are_those_of_the_paper():
    # Inner widths and ranks worked out by hand from the card's formulas.
    square, conv = nn.Linear(64, 64), nn.Conv2d(16, 32, 3, stride=2)
    assert SparseParallel(square, sparsity=0.9).branches == 10
    assert SparseFactorized(square, sparsity=0.75).reduce.out_features == 128
    assert SparseDoped(square, sparsity=0.75).reduce.out_features == 24
    assert SparseFactorized(conv, sparsity=0.5).reduce.out_channels == math.ceil(4608 / 176 * 2)
    assert SparseDoped(conv, sparsity=0.5).reduce.out_channels == math.floor(0.5 * 4608 / 176)
    # 9 f_in f_out / (9 (1 - s) f_in + f_out)
    first = SparseFactorized(conv, sparsity=0.5, dense_expand=True)
    assert first.reduce.out_channels == math.ceil(4608 / (72 + 32))
    assert first.kept == {"reduce.weight": 4608 - 45 * 32}
    # 1 - 0.9 is no tenth in floating point; 60 must not become 61.
    assert SparseFactorized(nn.Linear(12, 12), sparsity=0.9).reduce.out_features == 60


@pytest.mark.parametrize("shape", [(7, 5), (7, 3, 5), (7, 5, 6, 6)])
def test_parallel_is_the_sum_of_normed_branches(shape):
    torch.manual_seed(0)
    conv = len(shape) == 4
    layer = nn.Conv2d(5, 4, 3, padding=1) if conv else nn.Linear(5, 4)
    module = SparseParallel(layer, sparsity=0.75)
    x = torch.randn(shape)
    expected = 0
    for branch in range(4):
        single = copy.deepcopy(layer)
        single.weight.data = module.stacked.weight.data[4 * branch : 4 * branch + 4]
        single.bias.data = module.stacked.bias.data[4 * branch : 4 * branch + 4]
        y = single(x)
        axes = (0, 2, 3) if conv else tuple(range(y.ndim - 1))
        mean, var = y.mean(axes, keepdim=True), y.var(axes, unbiased=False, keepdim=True)
        expected = expected + (y - mean) / (var + 1e-5).sqrt()
    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-4)


def test_doped_is_a_sparse_matrix_plus_one_of_low_rank():
    module = SparseDoped(nn.Linear(12, 9), sparsity=0.6)
    x = torch.randn(4, 12)
    low = module.expand.weight @ module.reduce.weight
    assert torch.linalg.matrix_rank(low) == math.floor(0.6 * 108 / 21)
    expected = x @ (module.sparse.weight + low).T + module.sparse.bias
    torch.testing.assert_close(module(x), expected)


def test_factorized_without_psi_is_one_product_and_with_it_is_not():
    linear = SparseFactorized(nn.Linear(6, 4), sparsity=0.5, between=lambda _: nn.Identity())
    x = torch.randn(5, 6)
    product = linear.expand.weight @ linear.reduce.weight
    torch.testing.assert_close(linear(x), x @ product.T + linear.expand.bias)
    default = SparseFactorized(nn.Linear(6, 4), sparsity=0.5)
    u = x @ default.reduce.weight.T
    u = ((u - u.mean(0)) / (u.var(0, unbiased=False) + 1e-5).sqrt()).clamp_min(0)
    torch.testing.assert_close(default(x), u @ default.expand.weight.T + default.expand.bias)


def test_strided_and_dilated_convolutions_keep_their_output_shape():
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, padding_mode="reflect")
    x = torch.randn(1, 4, 11, 9)
    for make in (SparseParallel, SparseFactorized, SparseDoped):
        assert make(layer, sparsity=0.75)(x).shape == layer(x).shape


def test_wide_layers_have_the_paper_s_widths_and_what_fits_them(residual, generator):
    x = torch.randn(1, 3, 8, 8)
    wide = iso_flop(
        residual, x, family="wide", sparsity=0.75, generator=generator, keep_dense="head*"
    ).model
    shapes = {name: tuple(p.shape) for name, p in wide.named_parameters()}
    assert shapes["stem.0.weight"] == (32, 3, 3, 3)
    assert shapes["stem.1.weight"] == (32,)
    assert shapes["same.3.weight"] == (32, 1, 3, 3)
    assert shapes["down.weight"] == (64, 32, 3, 3)
    assert shapes["head.weight"] == (10, 64 * 16)


def test_layerwise_matching_keeps_the_dense_counts(residual, generator):
    x = torch.randn(1, 3, 8, 8)
    sparse = iso_flop(
        residual,
        x,
        family="wide",
        sparsity=0.5,
        generator=generator,
        match="layer",
        keep_dense=(),
    )
    dense = {row.name: row.dense for row in count_macs(residual, x)}
    rows = {row.name: row.sparse for row in count_macs(sparse.model, x, sparse.masks)}
    assert {n: rows[n] for n in sparse.masks} == {n: dense[n] for n in sparse.masks}


def test_the_mlps_of_a_language_model(tiny_llama, generator):
    ids = {"input_ids": torch.zeros(2, 8, dtype=torch.int64), "use_cache": False}
    sparse = iso_flop(
        tiny_llama,
        ids,
        family="wide",
        sparsity=0.75,
        widen=("*gate_proj*", "*up_proj*"),
        keep_dense=(),
        generator=generator,
    )
    assert {name.split(".")[-2] for name in sparse.masks} == {"gate_proj", "up_proj", "down_proj"}
    assert sparse.model.model.layers[1].mlp.down_proj.in_features == 4 * 64
    assert sparse.macs == pytest.approx(sparse.dense_macs, rel=1e-3)
    assert sparse.masks.density() == pytest.approx(0.25, abs=1e-3)
    sparse.model(**ids, labels=ids["input_ids"]).loss.backward()


@pytest.mark.parametrize("family", ["wide", "parallel", "factorized", "doped"])
def test_gpt2_whose_layers_are_stored_the_other_way_round(family, generator):
    from transformers import GPT2Config, GPT2LMHeadModel

    from rarefy.weights.iso_flop import _with_linear_layers

    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    ).eval()
    ids = {"input_ids": torch.arange(8)[None]}
    torch.testing.assert_close(_with_linear_layers(gpt2)(**ids).logits, gpt2(**ids).logits)
    options = {"widen": "*c_fc*"} if family == "wide" else {}
    sparse = iso_flop(
        gpt2, ids, family=family, sparsity=0.5, keep_dense=(), generator=generator, **options
    )
    assert abs(sparse.macs / sparse.dense_macs - 1) < 1e-3
    assert sum("mlp" in name for name in sparse.masks) >= 4
    assert sparse.model(**ids).logits.shape == (1, 8, 50)


def test_a_sequence_model_takes_every_family(generator):
    model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 16), nn.Linear(16, 3))
    x = torch.randn(2, 5, 6)
    for family in FAMILIES:
        sparse = iso_flop(model, x, family=family, sparsity=0.5, generator=generator, keep_dense=())
        assert sparse.model(x).shape == (2, 5, 3)
        assert sparse.macs == pytest.approx(sparse.dense_macs, rel=1e-3)


def test_a_seed_gives_one_model_and_the_global_state_is_left_alone(residual):
    x = torch.randn(1, 3, 8, 8)
    made = []
    state = torch.random.get_rng_state()
    for seed in (3, 3, 4):
        g = torch.Generator().manual_seed(seed)
        made.append(iso_flop(residual, x, family="parallel", sparsity=0.5, generator=g))
        assert torch.equal(torch.random.get_rng_state(), state)
    same, other = (
        [torch.equal(a, b) for a, b in zip(m.masks.values(), made[0].masks.values(), strict=True)]
        for m in made[1:]
    )
    assert all(same) and not any(other)
    first, second = (m.model.down.stacked.weight for m in made[:2])
    assert torch.equal(first, second)


def test_a_budget_that_the_dense_layers_eat_is_refused(generator):
    # A dense stem of 64 inputs costs most of this network: widened, it leaves next to nothing.
    model = nn.Sequential(nn.Linear(64, 6), nn.Linear(6, 6), nn.Linear(6, 10))
    with pytest.raises(ValueError, match="leaves the sparse ones a density of 0.000"):
        iso_flop(model, torch.ones(1, 64), family="wide", sparsity=0.75, generator=generator)


def test_bad_requests(residual, generator, tiny_llama):
    x = torch.randn(1, 3, 8, 8)
    ask = {"generator": generator, "sparsity": 0.5, "family": "wide"}
    for sparsity in (1.0, -0.1, 1.2, float("nan")):
        with pytest.raises(ValueError, match="sparsity must be at least 0 and below 1"):
            iso_flop(residual, x, **ask | {"sparsity": sparsity})
    with pytest.raises(ValueError, match="family must be one of"):
        iso_flop(residual, x, **ask | {"family": "thin"})
    with pytest.raises(ValueError, match=r"single branch.*1/3"):
        SparseParallel(nn.Linear(8, 8), sparsity=0.2)
    with pytest.raises(ValueError, match="no rank"):
        SparseDoped(nn.Linear(4, 4), sparsity=0.4)
    with pytest.raises(ValueError, match="2 x 2 or larger"):
        SparseFactorized(nn.Linear(4, 1), sparsity=0.4)
    with pytest.raises(ValueError, match="without groups"):
        SparseFactorized(nn.Conv2d(4, 4, 3, groups=4), sparsity=0.4)
    with pytest.raises(ValueError, match="no layer is left"):
        iso_flop(residual, x, **ask | {"family": "doped", "keep_dense": "*"})
    with pytest.raises(ValueError, match="belongs to family 'wide'"):
        iso_flop(residual, x, **ask | {"family": "doped", "widen": "*"})
    ids = {"input_ids": torch.zeros(1, 4, dtype=torch.int64), "use_cache": False}
    with pytest.raises(ValueError, match="its code fixes a width"):
        iso_flop(tiny_llama, ids, **ask)


@pytest.mark.parametrize("conv", [False, True])
def test_linear_layers_fold_into_one(conv):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 8, 3, stride=2, padding=1) if conv else nn.Linear(6, 8)
    x = torch.randn(4, 6, 7, 7) if conv else torch.randn(4, 6)
    linear = SparseFactorized(layer, sparsity=0.5, between=lambda _: nn.Identity())
    for module, bias in (
        (linear, linear.expand.bias),
        (doped := SparseDoped(layer, sparsity=0.75), doped.sparse.bias),
    ):
        dense = copy.deepcopy(layer)
        dense.weight, dense.bias = nn.Parameter(module.folded()), bias
        torch.testing.assert_close(module(x), dense(x), atol=1e-5, rtol=1e-5)


def test_folded_decay_is_that_of_the_dense_layer_and_others_are_left_out():
    torch.manual_seed(0)
    doped = SparseDoped(nn.Linear(6, 8), sparsity=0.75)
    model = nn.Sequential(doped, nn.ReLU(), SparseFactorized(nn.Linear(8, 8), sparsity=0.5))
    loss = folded_decay(model)
    loss.backward()
    # d/dU of |S + VU|^2 / 2 is V'(S + VU): by hand, from the paper's formula.
    whole = doped.sparse.weight + doped.expand.weight @ doped.reduce.weight
    torch.testing.assert_close(doped.sparse.weight.grad, whole)
    torch.testing.assert_close(doped.reduce.weight.grad, doped.expand.weight.T @ whole)
    torch.testing.assert_close(doped.expand.weight.grad, whole @ doped.reduce.weight.T)
    covered = folded_parameters(model)
    assert {id(p) for p in covered} == {id(p) for p in model.parameters() if p.grad is not None}
    with pytest.raises(ValueError, match="only linear factors fold; between them is Sequential"):
        model[2].folded()
    for function in (folded_decay, folded_parameters):
        with pytest.raises(ValueError, match="no doped layer and no factorized one"):
            function(model[2])


def test_a_masked_low_rank_part_costs_less(residual, generator):
    x = torch.randn(1, 3, 8, 8)
    how = {"family": "doped", "sparsity": 0.75, "generator": generator, "keep_dense": "head*"}
    paper = iso_flop(residual, x, **how)
    released = iso_flop(residual, x, mask_low_rank=True, **how)
    assert counted(released.model, x) == released.macs < 0.7 * paper.macs
    for name in ("down", "point"):
        for part in ("reduce", "expand"):
            assert released.masks.density(f"{name}.{part}.weight") == pytest.approx(0.25, abs=0.01)


def test_scaled_initialisation_gives_the_dense_variance_back(generator):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 256, bias=False), nn.Linear(256, 256, bias=False))
    x = torch.randn(500, 256, generator=generator)
    sparse = iso_flop(
        model, x[:1], family="wide", sparsity=0.75, keep_dense=(), generator=generator
    )
    wide, dense = sparse.model[0].weight.detach(), model[0].weight.detach()
    assert wide.shape == (512, 256)
    before = (x @ wide.T).var()
    scale_init_(sparse.model, sparse.masks)
    wanted = (x @ dense.T).var()
    torch.testing.assert_close(before, sparse.masks.density("0.weight") * wanted, rtol=0.1, atol=0)
    torch.testing.assert_close((x @ wide.T).var(), wanted, rtol=0.1, atol=0)


def test_no_unit_begins_dead_if_asked(generator):
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16))
    how = {"family": "parallel", "sparsity": 0.9, "keep_dense": (), "generator": generator}
    dead = []
    for avoid in (False, True):
        made = iso_flop(model, torch.ones(1, 16), avoid_dead=avoid, **how)
        dead.append(sum(sum(dead_units(mask)) for mask in made.masks.values()))
        assert made.masks.nnz == 3 * 256
    assert dead[0] > 0 and dead[1] == 0
