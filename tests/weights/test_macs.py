import torch
from torch import nn

from rarefy.weights import Masks, block_weights, count_macs, random_masks
from rarefy.weights.macs import OTHER


def test_convolutions_by_hand():
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, groups=2, stride=2),
        nn.ConvTranspose2d(6, 2, 2, stride=2),
        nn.Flatten(),
        nn.Linear(2 * 8 * 8, 5),
    )
    rows = {row.name: row.dense for row in count_macs(model, torch.zeros(3, 4, 8, 8))}
    assert rows == {
        "0.weight": 3 * 4 * 4 * (6 * 2 * 9),
        "1.weight": 3 * 4 * 4 * (6 * 2 * 4),
        "3.weight": 3 * (128 * 5),
    }


def test_sparse_counts_follow_the_masks(generator):
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    masks = Masks({"0.weight": torch.arange(32).view(4, 8) < 10})
    first, second = count_macs(model, torch.zeros(7, 8), masks)
    assert (first.dense, first.sparse) == (7 * 32, 7 * 10)
    assert (second.dense, second.sparse) == (7 * 8, 7 * 8)


def test_attention_products_stand_alone(tiny_llama, generator):
    ids = torch.zeros(2, 10, dtype=torch.int64)
    masks = random_masks(block_weights(tiny_llama), density=0.5, generator=generator)
    rows = count_macs(tiny_llama, {"input_ids": ids, "use_cache": False}, masks)
    linear = sum(w.numel() for w in block_weights(tiny_llama).values())
    assert sum(r.dense for r in rows if "layers" in r.name) == 2 * 10 * linear
    assert sum(r.sparse for r in rows if "layers" in r.name) == 2 * 10 * masks.nnz
    # Two products of 10 x 10 x 8 a head: 4 heads, 2 layers, 2 sequences (and tiny rotary ones).
    other = rows[-1]
    assert other.name == OTHER
    attention = 2 * 10 * 10 * 8 * 4 * 2 * 2
    assert attention <= other.dense <= 1.05 * attention
    assert other.sparse == other.dense


def test_a_shared_layer_counts_each_time_it_runs():
    layer = nn.Linear(4, 4)
    (row,) = count_macs(nn.Sequential(layer, layer), torch.zeros(1, 4))
    assert row.dense == 32
