import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rarefy.weights import Masks, mask_similarity, random_masks, select
from rarefy.weights.masks import pack_bits, unpack_bits


def draw(mlp, density=0.3, seed=0):
    return random_masks(mlp, density=density, generator=torch.Generator().manual_seed(seed))


def test_counts(mlp):
    masks = draw(mlp)
    assert masks.numel == 12 * 16 + 16 * 4
    assert masks.nnz == round(0.3 * masks.numel)
    assert masks.density() == pytest.approx(masks.nnz / masks.numel)
    rows = masks.summary()
    assert [row.name for row in rows] == ["0.weight", "3.weight"]
    assert sum(row.nnz for row in rows) == masks.nnz
    assert rows[0].density == masks.density("0.weight")


def test_set_operations_against_numpy(mlp):
    a, b = draw(mlp, seed=1), draw(mlp, seed=2)
    for name in a:
        x, y = a[name].numpy(), b[name].numpy()
        assert np.array_equal((a & b)[name], x & y)
        assert np.array_equal((a | b)[name], x | y)
        assert np.array_equal((~a)[name], ~x)
        assert a.difference(b)[name] == int((x != y).sum())
    assert sum(a.difference(a).values()) == 0


def test_shuffling_keeps_the_layer_densities(mlp, generator):
    masks = draw(mlp)
    shuffled = masks.shuffled(generator=generator)
    assert [r.nnz for r in shuffled.summary()] == [r.nnz for r in masks.summary()]
    assert sum(masks.difference(shuffled).values()) > 0


def test_everything_that_does_not_fit_is_listed_at_once(mlp):
    bad = Masks({"0.weight": torch.ones(2, 2) > 0, "nowhere": torch.ones(1) > 0})
    with pytest.raises(ValueError, match=r"0\.weight has shape .*nowhere is missing"):
        bad.validate(mlp)
    with pytest.raises(ValueError, match="boolean"):
        Masks({"w": torch.ones(2)})
    with pytest.raises(ValueError, match="one of them only"):
        Masks({"0.weight": torch.ones(16, 12) > 0}) & draw(mlp)


def test_apply_zeroes_weights_and_momentum(mlp):
    optimizer = torch.optim.SGD(mlp.parameters(), lr=0.1, momentum=0.9)
    mlp(torch.ones(3, 12)).square().sum().backward()
    optimizer.step()
    masks = draw(mlp)
    masks.apply_(mlp, optimizer=optimizer)
    for name, weight in select(mlp).items():
        assert not weight[~masks[name]].any()
        assert not optimizer.state[weight]["momentum_buffer"][~masks[name]].any()
    assert Masks.from_zeros(mlp).difference(masks) == dict.fromkeys(masks, 0)


@given(st.lists(st.booleans(), max_size=40))
def test_packing_bits_is_lossless(bits):
    mask = torch.tensor(bits, dtype=torch.bool)
    packed = pack_bits(mask)
    assert packed.numel() == math.ceil(len(bits) / 8)
    assert torch.equal(unpack_bits(packed, mask.shape), mask)


def test_save_and_load(mlp, tmp_path):
    masks = draw(mlp)
    masks.save(tmp_path / "masks.safetensors")
    loaded = Masks.load(tmp_path / "masks.safetensors")
    assert list(loaded) == list(masks)
    assert loaded.difference(masks) == dict.fromkeys(masks, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["masks.safetensors"]


def test_a_corrupt_file_is_named(tmp_path):
    path = tmp_path / "masks.safetensors"
    path.write_bytes(b"not a safetensors file at all")
    with pytest.raises(ValueError, match=r"masks\.safetensors is no readable safetensors"):
        Masks.load(path)


def test_zero_sized_and_single_element_layers():
    masks = Masks({"empty": torch.ones(0, 3) > 0, "one": torch.ones(1, 1) > 0})
    assert masks.density("empty") == 1.0
    assert masks.nnz == 1
    assert copy.deepcopy(masks).nnz == 1


def test_similarity_against_sets(mlp):
    a, b = draw(mlp, seed=1), draw(mlp, seed=2)
    as_set = lambda m: {(n, i) for n in m for i in m[n].flatten().nonzero().flatten().tolist()}  # noqa: E731
    first, second = as_set(a), as_set(b)
    found = mask_similarity(a, b)
    assert found.cosine == pytest.approx(len(first & second) / math.sqrt(len(first) * len(second)))
    assert found.jaccard == pytest.approx(len(first & second) / len(first | second))
    assert found.chance == pytest.approx(a.density())
    assert mask_similarity(a, a).corrected == pytest.approx(1.0)


def test_independent_masks_are_at_chance():
    g = torch.Generator().manual_seed(0)
    tensors = {"w": torch.zeros(300, 300)}
    a, b = (random_masks(tensors, density=0.9, generator=g) for _ in range(2))
    found = mask_similarity(a, b)
    assert found.cosine > 0.88
    assert abs(found.corrected) < 0.05


def test_similarity_of_nothing_is_refused():
    nothing = Masks({"w": torch.zeros(2, 2) > 0})
    with pytest.raises(ValueError, match="keeps nothing"):
        mask_similarity(nothing, nothing)
