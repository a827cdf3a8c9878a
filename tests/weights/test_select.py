import pytest
import torch
from torch import nn

from rarefy.weights import block_weights, input_axes, input_axis, select


def test_only_weights_of_linear_layers_and_convolutions_are_prunable():
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(5, 4),
            "conv": nn.Conv2d(3, 4, 3),
            "up": nn.ConvTranspose1d(4, 2, 3),
            "norm": nn.BatchNorm2d(4),
            "attention": nn.MultiheadAttention(4, 2),
            "head": nn.Linear(4, 2),
        }
    )
    assert list(select(model)) == [
        "conv.weight",
        "up.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "head.weight",
    ]


def test_names_select_by_globs_and_predicates(mlp):
    assert list(select(mlp, include="3.*")) == ["3.weight"]
    assert list(select(mlp, exclude=["3.*"])) == ["0.weight"]
    wide = select(mlp, include=lambda name, module, tensor: module.out_features > 8)
    assert list(wide) == ["0.weight"]
    assert wide["0.weight"] is mlp[0].weight


def test_an_empty_selection_lists_what_there_is(mlp):
    with pytest.raises(ValueError, match=r"0\.weight, 3\.weight"):
        select(mlp, include="nothing*")
    with pytest.raises(ValueError, match="no linear or convolution layer"):
        select(nn.LayerNorm(3))


def test_a_tied_head_is_never_prunable(tiny_llama):
    assert "lm_head.weight" not in select(tiny_llama)
    assert "lm_head.weight" not in block_weights(tiny_llama)
    assert len(block_weights(tiny_llama)) == 2 * 7


def test_conv1d_reads_its_inputs_along_axis_0():
    from transformers.pytorch_utils import Conv1D

    layer = Conv1D(6, 4)  # 4 inputs, 6 outputs
    assert layer.weight.shape[input_axis(layer)] == 4
    assert input_axes(nn.Sequential(layer, nn.Linear(6, 3))) == {"0.weight": 0, "1.weight": 1}
    assert input_axis(nn.ConvTranspose2d(4, 6, 3)) == 0
    assert torch.is_tensor(select(nn.Sequential(layer))["0.weight"])
