import copy
import math
from functools import partial

import pytest
import torch

from rarefy.operators import NM
from rarefy.weights import (
    LayerStats,
    block_weights,
    dsnot,
    output_errors,
    prune_lm,
    random_swaps,
    wanda,
)
from rarefy.weights.calibrate import block_linears, out_in, walk_blocks


@pytest.fixture
def windows():
    return torch.randint(64, (6, 16), generator=torch.Generator().manual_seed(0))


def sort_rows(score, sparsity):
    """Wanda's own words: sort each row, drop the first floor(in * sparsity)."""
    keep = torch.ones_like(score, dtype=torch.bool)
    drop = score.argsort(dim=1, stable=True)[:, : int(score.shape[1] * sparsity)]
    return keep.scatter(1, drop, False)


def first_block_stats(model, windows):
    found = {}
    walk_blocks(copy.deepcopy(model), windows, lambda n, _, s: found.update({n: s}), gram=True)
    return {name: found[name] for name in block_linears(model)[0]}


def test_wanda_against_its_formula(tiny_llama, windows):
    dense = copy.deepcopy(tiny_llama)
    stats = first_block_stats(dense, windows)
    pruned = prune_lm(tiny_llama, windows, method="wanda", sparsity=0.6)
    for name, s in stats.items():
        weight = dense.get_submodule(name).weight.detach()
        keep = sort_rows(weight.abs() * s.gram.diagonal().sqrt(), 0.6)
        assert torch.equal(pruned.masks[f"{name}.weight"], keep)
        assert torch.equal(tiny_llama.get_submodule(name).weight, weight * keep)


def test_magnitude_against_its_formula(tiny_llama, windows):
    dense = copy.deepcopy(tiny_llama)
    pruned = prune_lm(tiny_llama, windows, method="magnitude", sparsity=0.6)
    for name, weight in block_weights(dense).items():
        cut = weight.abs().flatten().kthvalue(round(0.6 * weight.numel())).values
        assert (pruned.masks[name] == (weight.abs() > cut)).float().mean() > 0.999
    per_row = prune_lm(
        copy.deepcopy(dense),
        windows,
        method="magnitude",
        sparsity=0.6,
        refine=partial(dsnot, max_cycles=0),
    )
    for name, weight in block_weights(dense).items():
        assert torch.equal(per_row.masks[name], sort_rows(weight.detach().abs(), 0.6))


def test_gram_matrices_serve_only_those_who_need_them(tiny_llama, windows):
    dense = copy.deepcopy(tiny_llama)
    found = [
        prune_lm(copy.deepcopy(dense), windows, sparsity=0.6, refine="dsnot", gram=gram)
        for gram in (True, False)
    ]
    for name, mask in found[0].masks.items():
        assert torch.equal(mask, found[1].masks[name])
    assert all(layer.output_error > 0 for layer in found[0].layers)
    assert all(math.isnan(layer.output_error) for layer in found[1].layers)
    with pytest.raises(ValueError, match="gram=True is wanted"):
        prune_lm(tiny_llama, windows, method="sparsegpt", sparsity=0.6, gram=False)
    assert all(map(torch.equal, tiny_llama.parameters(), dense.parameters()))


@pytest.mark.parametrize("method", ["wanda", "magnitude", "sparsegpt"])
@pytest.mark.parametrize("refine", [None, "dsnot"])
@pytest.mark.parametrize("budget", [{"sparsity": 0.5}, {"pattern": NM(2, 4)}], ids=["50%", "2:4"])
def test_counts_are_exact_and_baked(tiny_llama, windows, method, refine, budget):
    before = {n: p.detach().clone() for n, p in tiny_llama.named_parameters()}
    pruned = prune_lm(tiny_llama, windows, method=method, refine=refine, **budget)
    assert set(pruned.masks) == set(block_weights(tiny_llama))
    assert pruned.masks.nnz == pruned.masks.numel // 2
    for name, parameter in tiny_llama.named_parameters():
        if name in pruned.masks:
            mask = pruned.masks[name]
            assert not parameter[~mask].any()
            if "pattern" in budget:
                assert (mask.view(len(mask), -1, 4).sum(-1) == 2).all()
        else:
            assert torch.equal(parameter, before[name])


def test_layer_errors_order_as_theory_says(tiny_llama):
    # Correlated inputs: few distinct tokens and a strongly scaled embedding.
    windows = torch.randint(64, (8, 32), generator=torch.Generator().manual_seed(1))
    tiny_llama.model.embed_tokens.weight.data *= torch.logspace(-1, 1, 32)
    mean = {}
    for method in ("sparsegpt", "wanda", "magnitude"):
        model = copy.deepcopy(tiny_llama)
        prune_lm(model, windows, method=method, sparsity=0.6)
        errors = output_errors(tiny_llama, model, windows)
        mean[method] = sum(errors.values()) / len(errors)
    assert mean["sparsegpt"] < mean["wanda"] < mean["magnitude"]


def test_the_report_is_true(tiny_llama, windows):
    dense = copy.deepcopy(tiny_llama)
    pruned = prune_lm(tiny_llama, windows, sparsity=0.5, refine="dsnot")
    stats = first_block_stats(dense, windows)
    for row in pruned.layers:
        assert row.density == pytest.approx(0.5, abs=0.02)
        assert row.error_after <= row.error_before
        if row.name not in stats:
            continue
        s, w = stats[row.name], dense.get_submodule(row.name).weight.detach()
        lost = w - tiny_llama.get_submodule(row.name).weight.detach()
        assert row.error_after == pytest.approx(float((lost @ s.mean_sum).abs().mean()), rel=1e-3)
        ratio = torch.trace(lost @ s.gram @ lost.T) / torch.trace(w @ s.gram @ w.T)
        assert row.output_error == pytest.approx(float(ratio.sqrt()), rel=1e-3)


def test_only_the_layers_asked_for_are_repaired(tiny_llama, windows):
    rows = prune_lm(tiny_llama, windows, sparsity=0.5, refine="dsnot", layers="attention").layers
    assert {row.name.split(".")[3] for row in rows if row.swaps} == {"self_attn"}
    rows = prune_lm(
        tiny_llama, windows, sparsity=0.6, refine="dsnot", layers=lambda name: "mlp" in name
    ).layers
    assert {row.name.split(".")[3] for row in rows if row.swaps} <= {"mlp"}


def test_dsnot_on_sparsegpt_keeps_updates_and_revives_dense_weights(tiny_llama, windows):
    dense = copy.deepcopy(tiny_llama)
    plain = copy.deepcopy(tiny_llama)
    start = prune_lm(plain, windows, method="sparsegpt", sparsity=0.6)
    repaired = prune_lm(tiny_llama, windows, method="sparsegpt", sparsity=0.6, refine="dsnot")
    revived = 0
    for name in block_linears(dense)[0]:
        key = f"{name}.weight"
        new, old = tiny_llama.get_parameter(key), plain.get_parameter(key)
        grown = repaired.masks[key] & ~start.masks[key]
        stayed = repaired.masks[key] & start.masks[key]
        assert torch.equal(new[grown], dense.get_parameter(key)[grown])
        assert torch.equal(new[stayed], old[stayed])
        revived += int(grown.sum())
    assert revived > 0
    only_mask = copy.deepcopy(dense)
    masks = prune_lm(
        only_mask,
        windows,
        method="sparsegpt",
        sparsity=0.6,
        refine="dsnot",
        sparsegpt_weights="dense",
    ).masks
    for key, mask in masks.items():
        assert torch.equal(only_mask.get_parameter(key), dense.get_parameter(key) * mask)


def test_a_callable_may_repair(tiny_llama, windows):
    control = partial(random_swaps, generator=torch.Generator().manual_seed(0))
    rows = prune_lm(tiny_llama, windows, sparsity=0.5, refine=control).layers
    assert sum(row.swaps for row in rows) > 0


def test_gpt2_is_pruned_along_its_own_inputs(windows):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2)).eval()
    pruned = prune_lm(model, windows, pattern=NM(2, 4), refine="dsnot")
    weight = model.transformer.h[0].mlp.c_fc.weight  # stored (in, out) = (16, 64)
    assert ((weight != 0).view(4, 4, 64).sum(1) == 2).all()
    assert pruned.masks["transformer.h.0.mlp.c_fc.weight"].shape == weight.shape
    assert out_in(model.transformer.h[0].mlp.c_fc).shape == (64, 16)


def test_the_same_call_gives_the_same_model(tiny_llama, windows):
    twin = copy.deepcopy(tiny_llama)
    options = {"method": "sparsegpt", "sparsity": 0.5, "refine": "dsnot"}
    a, b = (prune_lm(m, windows, **options) for m in (tiny_llama, twin))
    assert a.layers == b.layers
    assert sum(a.masks.difference(b.masks).values()) == 0


def test_progress_is_told(tiny_llama, windows):
    told = []
    prune_lm(tiny_llama, windows, sparsity=0.5, progress=lambda what, done: told.append(done))
    assert len(told) == 14
    assert told[-1] == 1.0


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"sparsity": 1.2}, ValueError, r"sparsity must lie between 0 and 1, got 1\.2"),
        ({}, TypeError, "exactly one"),
        ({"sparsity": 0.5, "pattern": NM(2, 4)}, TypeError, "pattern"),
        ({"pattern": NM(2, 5)}, ValueError, r"2:5 does not fit model\.layers\.0\.self_attn"),
        ({"sparsity": 0.5, "method": "magic"}, ValueError, "method must be"),
        ({"sparsity": 0.5, "refine": "magic"}, ValueError, "refine must be"),
        ({"sparsity": 0.5, "layers": "some"}, ValueError, "layers must be"),
        ({"sparsity": 0.5, "sparsegpt_weights": "x"}, ValueError, "sparsegpt_weights"),
    ],
)
def test_bad_requests_leave_the_model_alone(tiny_llama, windows, options, error, message):
    before = copy.deepcopy(tiny_llama.state_dict())
    with pytest.raises(error, match=message):
        prune_lm(tiny_llama, windows, **options)
    assert all(torch.equal(v, before[k]) for k, v in tiny_llama.state_dict().items())


def test_wanda_uses_token_norms():
    stats = LayerStats(2)
    stats.update(torch.tensor([[[3.0, 0.0], [4.0, 1.0]]]))
    assert wanda(torch.tensor([[1.0, 2.0]]), stats.norm).tolist() == [[5.0, 2.0]]
