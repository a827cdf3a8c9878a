"""Bytes are those of scipy's arrays and of the files; break-even is where the bytes are equal."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from torch import nn

from rarefy.data.files import load_tensors
from rarefy.operators import NM
from rarefy.weights import (
    Masks,
    convert,
    layer_mean_density,
    load_sparse_masks,
    random_mask,
    save_sparse,
    storage,
)


def draw(shape, k):
    return random_mask(shape, k, generator=torch.Generator().manual_seed(0))


@given(st.integers(1, 1000))
def test_units_are_one_number(thousandth):
    density = thousandth / 1000
    by_density = convert(density=density)
    assert by_density.sparsity == pytest.approx(1 - density)
    assert by_density.compression * density == pytest.approx(1)
    for unit in ("sparsity", "compression"):
        assert convert(**{unit: getattr(by_density, unit)}) == pytest.approx(by_density)


def test_the_ends_and_what_is_out_of_range():
    assert convert(density=0.0).compression == float("inf")
    assert convert(compression=float("inf")).sparsity == 1
    assert convert(sparsity=0.95).compression == 20
    for given_ in ({}, {"density": 0.5, "sparsity": 0.5}):
        with pytest.raises(TypeError, match="exactly one of density, sparsity and compression"):
            convert(**given_)
    for unit, value in (("density", 1.1), ("sparsity", float("nan")), ("compression", 0.5)):
        with pytest.raises(ValueError, match=f"{unit} must be in"):
            convert(**{unit: value})


def test_bytes_are_those_of_csr_arrays_and_of_files(tmp_path):
    layers = nn.Sequential(nn.Linear(64, 24, bias=False), nn.Linear(24, 8, bias=False))
    masks = Masks({"0.weight": draw((24, 64), 200), "1.weight": draw((8, 24), 50)})
    masks.apply_(layers)
    found = storage(masks)
    arrays = [csr_array(layers[i].weight.detach().numpy()) for i in (0, 1)]
    assert found["csr32"].nbytes == sum(
        a.data.nbytes + a.indices.astype(np.int32).nbytes + a.indptr.astype(np.int32).nbytes
        for a in arrays
    )
    assert found["csr32"].nbytes - found["csr16"].nbytes == 2 * masks.nnz
    save_sparse(layers, tmp_path / "m.safetensors", masks)
    tensors, _ = load_tensors(tmp_path / "m.safetensors")
    assert found["bitmask"].nbytes == sum(t.numel() * t.element_size() for t in tensors.values())
    assert load_sparse_masks(tmp_path / "m.safetensors")["0.weight"].equal(masks["0.weight"])
    assert found["dense"].nbytes == 4 * masks.numel


def test_a_pattern_is_stored_as_its_file_is(tmp_path):
    layer = nn.Linear(16, 8, bias=False)
    masks = Masks({"weight": NM(2, 4).mask(layer.weight.detach())})
    masks.apply_(layer)
    save_sparse(layer, tmp_path / "m.safetensors", masks, pattern=NM(2, 4, axis=1))
    tensors, _ = load_tensors(tmp_path / "m.safetensors")
    stored = storage(masks, pattern=NM(2, 4))["2:4"]
    assert stored.nbytes == sum(t.numel() * t.element_size() for t in tensors.values())
    # The card: 9/16 of bf16.
    assert storage(masks, bits=16, pattern=NM(2, 4))["2:4"].share == pytest.approx(9 / 16)


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_at_the_break_even_density_sparse_and_dense_are_as_big(bits):
    shape = (50, 400)
    for name, stored in storage({"w": draw(shape, 0)}, bits=bits).items():
        if name == "dense" or stored.break_even in (0.0, 1.0):
            continue
        k = round(stored.break_even * 20_000)
        assert storage({"w": draw(shape, k)}, bits=bits)[name].share == pytest.approx(1, abs=1e-3)
        assert storage({"w": draw(shape, k - 200)}, bits=bits)[name].share < 1
        assert storage({"w": draw(shape, k + 200)}, bits=bits)[name].share > 1


def test_wide_rows_and_bad_requests():
    assert "csr16" not in storage({"w": torch.zeros(1, 2**16 + 1) > 0})
    with pytest.raises(ValueError, match="bits must be 32, 16, 8 or 4, got 7"):
        storage({"w": torch.ones(2, 2) > 0}, bits=7)
    for function in (storage, layer_mean_density):
        with pytest.raises(ValueError, match="masks is empty"):
            function({})
