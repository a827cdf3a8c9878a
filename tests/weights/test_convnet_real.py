"""Networks of torchvision and timm as they are built there, pruned, against themselves dense."""

import pytest
import torch
from torch import nn

from rarefy.weights import convnet, magnitude, mask_from_scores, select, sparsify_for_inference

# Library and name; some with TensorFlow's padding, gates, shuffles, or sums of more than two.
NETWORKS = [
    ("torchvision", "mobilenet_v2"),
    ("torchvision", "mobilenet_v3_small"),
    ("torchvision", "shufflenet_v2_x0_5"),
    ("timm", "mobilenetv1_100"),
    ("timm", "mobilenetv2_100"),
    ("timm", "mobilenetv4_conv_small"),
    ("timm", "tf_efficientnet_lite0"),
    ("timm", "tf_mobilenetv3_small_minimal_100"),
    ("timm", "resnet18"),
]


def build(library, name):
    made = pytest.importorskip(library)
    torch.manual_seed(0)
    if library == "timm":
        model = made.create_model(name, pretrained=False)
    else:
        model = made.models.get_model(name, weights=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    chosen = select(model, include=lambda _n, m, _w: getattr(m, "kernel_size", ()) == (1, 1))
    mask_from_scores(magnitude(chosen), sparsity=0.9, scope="layer").apply_(model)
    return model.eval()


@pytest.mark.parametrize(("library", "name"), NETWORKS, ids=[name for _, name in NETWORKS])
def test_a_pruned_network_equals_itself(monkeypatch, library, name):
    monkeypatch.setattr(
        "rarefy.weights.conv_plan._time",
        lambda steps: {kernel: float(i) for i, kernel in enumerate(steps)},
    )
    monkeypatch.setattr(convnet, "_MARGIN", float("inf"))
    monkeypatch.setattr(convnet, "_ROUNDS", 1)
    model = build(library, name)
    fast = sparsify_for_inference(model, torch.randn(1, 3, 96, 96))
    assert name == "resnet18" or any(choice.kernel == "sparse" for choice in fast.choices)
    for shape in ((1, 3, 96, 96), (3, 3, 96, 96), (2, 3, 97, 75)):
        x = torch.randn(shape)
        with torch.no_grad():
            wanted = model(x)
        assert (fast(x) - wanted).abs().max() <= 1e-4 * wanted.abs().max()
