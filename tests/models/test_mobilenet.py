"""MobileNets: their published sizes, their names, and what cache awareness caps."""

import pytest
import torch
from torch import nn

from rarefy.models.mobilenet import Stage, efficientnet_lite0, mobilenet_v1, mobilenet_v2
from rarefy.weights import count_macs


# Parameters of the published 1.0 models (torchvision's and timm's tables) and their multiply-adds.
@pytest.mark.parametrize(
    ("build", "parameters", "millions"),
    [
        (mobilenet_v1, 4_231_976, 569),
        (mobilenet_v2, 3_504_872, 301),
        (efficientnet_lite0, 4_652_008, 385),
    ],
)
def test_published_sizes(build, parameters, millions):
    model = build()
    assert sum(p.numel() for p in model.parameters()) == parameters
    macs = sum(row.dense for row in count_macs(model, torch.zeros(1, 3, 224, 224)))
    assert round(macs / 1e6) == millions


def test_torchvision_s_state_dict_would_load():
    names = set(mobilenet_v2().state_dict())
    assert {
        "features.0.0.weight",
        "features.0.1.running_mean",
        "features.1.conv.0.0.weight",
        "features.1.conv.1.weight",
        "features.1.conv.2.bias",
        "features.2.conv.0.0.weight",
        "features.2.conv.1.0.weight",
        "features.2.conv.2.weight",
        "features.2.conv.3.running_var",
        "features.17.conv.3.num_batches_tracked",
        "features.18.0.weight",
        "features.18.1.weight",
        "classifier.1.weight",
        "classifier.1.bias",
    } <= names
    assert len(names) == 314


def test_cache_aware_expansions_fit_the_cache_at_no_more_work():
    plain, aware = (mobilenet_v2(cache_aware=flag) for flag in (False, True))

    def widest(model):
        return max(m.groups for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1)

    x = torch.zeros(1, 3, 64, 64)
    cost = [sum(row.dense for row in count_macs(m, x)) for m in (plain, aware)]
    assert (widest(plain), widest(aware)) == (960, 512)
    assert 0.95 * cost[0] <= cost[1] <= cost[0]


def test_small_networks_for_small_images():
    x = torch.zeros(2, 1, 16, 16)
    v1 = mobilenet_v1(0.5, classes=10, channels=1, pairs=((64, 1), (128, 2)), stem_stride=1)
    v2 = mobilenet_v2(0.5, classes=10, channels=1, stages=(Stage(1, 16, 1, 1), Stage(6, 24, 2, 2)))
    assert v1(x).shape == v2(x).shape == (2, 10)
    assert [m.weight.shape[0] for m in v1.modules() if isinstance(m, nn.Conv2d)] == [
        *(16, 16, 32, 32, 64),
    ]


@pytest.mark.parametrize("build", [mobilenet_v1, mobilenet_v2])
def test_bad_width(build):
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        build(0)
    with pytest.raises(ValueError, match="classes must be positive"):
        build(classes=-1)
