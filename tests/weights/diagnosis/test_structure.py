import pytest
import torch

from rarefy.operators import NM
from rarefy.weights import dead_units, granularity
from rarefy.weights.random_masks import random_mask


def rows(mask):
    mask[: len(mask) // 2] = True
    return mask


def blocks(mask, generator, side):
    small = random_mask((64 // side, 64 // side), (64 // side) ** 2 // 4, generator=generator)
    return small.repeat_interleave(side, 0).repeat_interleave(side, 1)


def test_every_structure_is_named(generator):
    nothing = torch.zeros(64, 64, dtype=torch.bool)
    assert granularity(nothing) == "empty"
    assert granularity(~nothing) == "dense"
    assert granularity(rows(nothing.clone())) == "output units"
    assert granularity(rows(nothing.clone()).T) == "input units"
    assert granularity(rows(nothing.clone()).T, axis=0) == "output units"
    for side in (4, 8, 16, 32):
        assert granularity(blocks(nothing, generator, side)) == f"{side}x{side} blocks"
    for density in (0.5, 0.25, 0.1, 0.02):
        mask = random_mask((64, 64), round(density * 4096), generator=generator)
        assert granularity(mask) == "unstructured"


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8), (1, 2), (1, 4), (1, 8), (1, 16), (1, 32)])
def test_every_pattern_is_named_along_the_inputs_only(n, m, generator):
    mask = NM(n, m, axis=1).mask(torch.randn(48, 64, generator=generator))
    # 1:2 is 2:4 as well, and the card of the hardware says 2:4.
    assert granularity(mask) == ("2:4" if (n, m) == (1, 2) else f"{n}:{m}")
    assert granularity(mask.T.contiguous(), axis=0) == granularity(mask)
    assert granularity(mask.T.contiguous()) == "unstructured"


def test_convolutions_lose_channels(generator):
    mask = torch.ones(8, 6, 3, 3, dtype=torch.bool)
    mask[:, 2:] = False
    assert granularity(mask) == "input units"
    assert dead_units(mask) == (0, 4)
    mask[3] = False
    assert dead_units(mask) == (1, 4)
