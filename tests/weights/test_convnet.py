"""Sparse networks against the dense ones they were made of, and what they choose."""

import copy
import math
import pickle
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from rarefy.models.mobilenet import efficientnet_lite0, mobilenet_v1, mobilenet_v2
from rarefy.weights import (
    Masks,
    SparseConv1x1,
    attach,
    block_mask,
    convnet,
    magnitude,
    select,
    sparsify_for_inference,
)
from rarefy.weights.conv_graph import Convolution, GlobalMean, network


def pruned(model, sparsity=0.9, block=1):
    """1 x 1 convolutions pruned, and batch norms that have seen something."""
    chosen = select(model, include=lambda _n, m, _w: getattr(m, "kernel_size", ()) == (1, 1))
    block_mask(magnitude(chosen), block=block, sparsity=sparsity).apply_(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return model.eval()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def always_sparse(monkeypatch):
    """Take the sparse product wherever it is allowed, whatever the clock says."""
    monkeypatch.setattr(
        "rarefy.weights.conv_plan._time",
        lambda steps: {kernel: float(i) for i, kernel in enumerate(steps)},
    )
    monkeypatch.setattr(convnet, "_MARGIN", float("inf"))


def assert_same(fast, model, x):
    with torch.no_grad():
        wanted = model(x)
    got = fast(x)
    assert (got - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.usefixtures("always_sparse")
@pytest.mark.parametrize(
    "build",
    [
        lambda: mobilenet_v1(0.25, classes=10),
        lambda: mobilenet_v2(0.25, classes=10),
        lambda: mobilenet_v2(0.35, classes=10, cache_aware=True),
        lambda: efficientnet_lite0(classes=10),
    ],
    ids=["v1", "v2", "v2 cache-aware", "lite0"],
)
def test_whole_networks_equal_the_masked_dense_model(build):
    model, x = pruned(build()), torch.randn(2, 3, 128, 128)
    before = copy.deepcopy(model.state_dict())
    fast = sparsify_for_inference(model, x)
    assert fast.layout == "chain"
    stem, *others = fast.choices
    assert stem.kernel == "columns"
    assert {choice.kernel for choice in others} == {"sparse", "windows"}
    assert_same(fast, model, x)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


@pytest.mark.usefixtures("always_sparse")
def test_other_sizes_batches_and_threads():
    model = pruned(mobilenet_v2(0.25, classes=10))
    fast = sparsify_for_inference(model, torch.randn(1, 3, 64, 64), threads=2)
    for shape in ((1, 3, 64, 64), (3, 3, 64, 64), (2, 3, 96, 70), (1, 3, 33, 33)):
        assert_same(fast, model, torch.randn(shape))
    last = torch.randn(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    assert_same(fast, model, last)


@pytest.mark.usefixtures("always_sparse")
def test_an_output_is_the_callers():
    model = pruned(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), 0.7)
    fast = sparsify_for_inference(model, torch.randn(1, 3, 8, 8))
    first = fast(torch.ones(1, 3, 8, 8))
    kept = first.clone()
    fast(torch.zeros(1, 3, 8, 8))
    assert torch.equal(first, kept)


class Odd(nn.Module):
    """What converters trip over: values read twice, sums of several kinds, a gate, functions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.a = nn.Conv2d(16, 16, 1)
        self.norm = nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 16, 1, bias=False)
        self.norm_b = nn.BatchNorm2d(16)
        self.strided = nn.Conv2d(16, 16, 1, stride=2)
        self.grouped = nn.Conv2d(16, 16, 1, groups=2)
        self.wide = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.valid = nn.Conv2d(16, 16, 3, groups=16)
        self.gate = nn.Conv2d(16, 16, 1)
        self.drop = nn.Dropout(0.5)
        self.shift = nn.Parameter(torch.randn(16, 1, 1))

    def forward(self, x):
        x = F.silu(self.stem(x))
        read_twice = self.a(x)
        x = self.norm(self.drop(read_twice)) + read_twice
        x = F.relu(x + self.b(x))
        x = self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid() * x + self.shift
        y = F.relu6(self.grouped(self.strided(x)))
        y = torch.relu(self.wide(y))
        y = torch.relu(self.norm_b(self.b(y)))
        y = self.a(y) + y.mean((2, 3), keepdim=True)
        y = self.a(y.view(-1, 16, 5, 10)).view(-1, 16, 10, 10)
        return self.valid(y).mean([2, 3])


@pytest.mark.usefixtures("always_sparse")
def test_a_network_of_odd_parts():
    model, x = pruned(Odd(), 0.8), torch.randn(2, 3, 20, 20)
    fast = sparsify_for_inference(model, x)
    assert_same(fast, model, x)
    kernels = [choice.kernel for choice in fast.choices if choice.name in ("a", "b")]
    assert "sparse" in kernels


class TimmNorm(nn.BatchNorm2d):
    """A batch norm with its activation, as timm writes it."""

    __module__ = "elsewhere"

    def forward(self, x):
        torch._assert(x.ndim == 4, "expected 4D input")
        x = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps
        )
        return F.relu(x)


@pytest.mark.usefixtures("always_sparse")
def test_norms_in_timm_s_way_are_folded():
    model = pruned(
        nn.Sequential(
            nn.Conv2d(3, 16, 3, bias=False), TimmNorm(16), nn.Conv2d(16, 8, 1), TimmNorm(8)
        )
    )
    x = torch.randn(1, 3, 12, 12)
    ops = network(model, x).ops
    assert [type(op) for op in ops] == [Convolution, Convolution]
    assert all(op.clamp == (0.0, float("inf")) for op in ops)
    assert_same(sparsify_for_inference(model, x), model, x)


class SameConv(nn.Conv2d):
    """TensorFlow's padding as timm writes it: a control flow on the size of the image."""

    def forward(self, x):
        height, width = (
            max((math.ceil(p / s) - 1) * s + k - p, 0)
            for p, s, k in zip(x.shape[2:], self.stride, self.kernel_size, strict=True)
        )
        if height > 0 or width > 0:
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class StandardConv(nn.Conv2d):
    """A convolution that is not what its attributes say."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class SameMean(nn.AvgPool2d):
    def forward(self, x):
        if x.shape[2] % 2 or x.shape[3] % 2:
            x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        return super().forward(x)


def same_net():
    return pruned(
        nn.Sequential(
            SameConv(3, 16, 3, stride=2, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU6(),
            StandardConv(16, 16, 1),
            SameMean(2),
            nn.Conv2d(16, 8, 1),
        ),
        0.7,
    )


@pytest.mark.usefixtures("always_sparse")
@pytest.mark.parametrize("known", [False, True], ids=["anybody's", "timm's"])
def test_convolutions_derived_from_torch_s(monkeypatch, known):
    if known:
        timm = SimpleNamespace(Conv2dSame=SameConv)
        monkeypatch.setitem(sys.modules, "timm.layers.conv2d_same", timm)
    else:
        monkeypatch.delitem(sys.modules, "timm.layers.conv2d_same", raising=False)
    model = same_net()
    ops = network(model, torch.randn(1, 3, 20, 20)).ops
    convolutions = [op for op in ops if isinstance(op, Convolution)]
    assert len(convolutions) == (2 if known else 1)
    assert (convolutions[0].clamp == (0.0, 6.0)) == known
    fast = sparsify_for_inference(model, torch.randn(1, 3, 20, 20))
    for shape in ((1, 3, 20, 20), (2, 3, 33, 18), (3, 3, 19, 40)):
        assert_same(fast, model, torch.randn(shape))


def test_a_mobilenet_becomes_convolutions_a_mean_and_a_head():
    ops = network(mobilenet_v2(), torch.zeros(1, 3, 32, 32)).ops
    assert [type(op) for op in ops[-2:]] == [GlobalMean, type(ops[-1])]
    convolutions = ops[:-2]
    assert len(ops) == 54 and all(isinstance(op, Convolution) for op in convolutions)
    assert sum(op.residual is not None for op in convolutions) == 10
    assert sum(op.clamp == (0.0, 6.0) for op in convolutions) == 35


@pytest.mark.usefixtures("always_sparse")
@pytest.mark.parametrize("how", ["attach", "torch prune"])
def test_masks_still_attached_count(how):
    model, x = pruned(mobilenet_v1(0.25, classes=4), 0.0), torch.randn(1, 3, 64, 64)
    chosen = select(model, include=lambda _n, m, _w: getattr(m, "kernel_size", ()) == (1, 1))
    if how == "attach":
        attach(model, Masks(block_mask(magnitude(chosen), block=1, sparsity=0.9)))
    else:
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
                prune.l1_unstructured(module, "weight", 0.9)
    fast = sparsify_for_inference(model, x)
    assert sum(choice.kernel == "sparse" for choice in fast.choices) >= 8
    assert_same(fast, model, x)


def test_modes_are_left_as_they_were():
    model = mobilenet_v1(0.25, classes=4).train()
    model.features[0][1].eval()
    sparsify_for_inference(model, torch.zeros(1, 3, 32, 32))
    assert model.training and model.features[1].training and not model.features[0][1].training


def test_dense_networks_stay_dense_with_a_note():
    fast = sparsify_for_inference(mobilenet_v1(0.25, classes=4), torch.zeros(1, 3, 64, 64))
    assert not any(c.kernel == "sparse" for c in fast.choices)
    assert "0% sparse, less than 67%" in {choice.note for choice in fast.choices}


def test_auto_falls_back_where_sparse_is_slower(monkeypatch):
    slow = {"sparse": 2.0, "dense": 1.0, "torch": 3.0}
    monkeypatch.setattr(
        "rarefy.weights.conv_plan._time",
        lambda steps: {kernel: slow.get(kernel, 1.0) for kernel in steps},
    )
    model = pruned(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1)), 0.9)
    fast = sparsify_for_inference(model, torch.randn(1, 8, 8, 8))
    assert [choice.kernel for choice in fast.choices] == ["dense", "dense"]
    assert fast.choices[0].note == "dense is faster here"


def test_a_network_that_is_faster_dense_runs_dense(monkeypatch):
    times = {"chain": 2.0, "contiguous": 1.5, "channels_last": 1.0}
    monkeypatch.setattr(convnet.SparseConvNet, "_measure", lambda self, sample: times)
    model, x = pruned(mobilenet_v1(0.25, classes=4)), torch.randn(2, 3, 64, 64)
    fast = sparsify_for_inference(model, x)
    assert fast.layout == "channels_last"
    assert_same(fast, model, x)
    times["chain"] = 0.5
    assert sparsify_for_inference(model, x).layout == "chain"


@pytest.mark.usefixtures("always_sparse")
def test_auto_sees_blocks_and_a_block_can_be_forced():
    x = torch.randn(1, 3, 64, 64)
    model = pruned(mobilenet_v1(0.25, classes=4), 0.9, block=4)
    blocks = {c.block for c in sparsify_for_inference(model, x).choices if c.kernel == "sparse"}
    assert blocks == {4}
    fast = sparsify_for_inference(model, x, block=1)
    assert {c.block for c in fast.choices if c.kernel == "sparse"} == {1}
    assert_same(fast, model, x)


@pytest.mark.usefixtures("always_sparse")
def test_it_survives_pickling_and_copying():
    model, x = pruned(mobilenet_v1(0.25, classes=4)), torch.randn(1, 3, 32, 32)
    fast = sparsify_for_inference(model, x)
    for again in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert again.layout == fast.layout
        assert_same(again, model, x)


def test_one_layer():
    conv, bn = nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8)
    model = pruned(nn.Sequential(conv, bn, nn.ReLU6()), 0.8)
    sparse = SparseConv1x1.from_dense(conv, bn, clamp=(0, 6))
    for shape in ((1, 16, 5, 5), (3, 16, 2, 3), (2, 16, 20, 11)):
        assert_same(sparse, model, torch.randn(shape))
    assert len(sparse.packed.col) == int(conv.weight.count_nonzero())


def with_nan():
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    model[0].weight.data[0] = float("nan")
    return model


class TwoInputs(nn.Module):
    def forward(self, x, y=None):
        return x


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Pair(nn.Module):
    def forward(self, x):
        return x, x


X = torch.zeros(1, 3, 8, 8)
NET = nn.Sequential(nn.Conv2d(3, 4, 1))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sparsify_for_inference(nn.Sequential(nn.ReLU()), X), ValueError, "no convolution"),
        (lambda: sparsify_for_inference(lambda x: x, X), TypeError, "model must be a torch module"),
        (lambda: sparsify_for_inference(NET, X.double()), TypeError, "sample must be float32"),
        (lambda: sparsify_for_inference(NET, X[0]), ValueError, "sample must be images"),
        (lambda: sparsify_for_inference(NET, X[:0]), ValueError, "sample must be images"),
        (lambda: sparsify_for_inference(NET, X, block=3), ValueError, "block must be 1, 2, 4"),
        (lambda: sparsify_for_inference(NET, X, min_sparsity=2), ValueError, "min_sparsity must"),
        (lambda: sparsify_for_inference(NET, X, threads=0), ValueError, "threads must be"),
        (lambda: sparsify_for_inference(with_nan(), X), ValueError, "weights of 0 hold NaN"),
        (lambda: sparsify_for_inference(TwoInputs(), X), ValueError, "model must take one input"),
        (lambda: sparsify_for_inference(Branches(), X), ValueError, "torch.fx cannot trace"),
        (lambda: sparsify_for_inference(Pair(), X), ValueError, "model must return one tensor"),
        (lambda: SparseConv1x1.from_dense(nn.Linear(3, 4)), TypeError, "must be an nn.Conv2d"),
        (lambda: SparseConv1x1.from_dense(nn.Conv2d(4, 4, 3)), ValueError, "have kernel_size"),
        (lambda: SparseConv1x1.from_dense(nn.Conv2d(4, 4, 1, 2)), ValueError, "have stride"),
        (lambda: SparseConv1x1.from_dense(nn.Conv2d(4, 4, 1, groups=2)), ValueError, "have groups"),
        (lambda: SparseConv1x1.from_dense(nn.Conv2d(4, 4, 1, padding=1)), ValueError, "no padding"),
        (lambda: SparseConv1x1.from_dense(nn.Conv2d(4, 4, 1).half()), TypeError, "float32"),
        (
            lambda: SparseConv1x1.from_dense(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(5)),
            ValueError,
            "bn has 5 channels, conv 4",
        ),
        (
            lambda: SparseConv1x1.from_dense(
                nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)
            ),
            ValueError,
            "no running statistics",
        ),
        (
            lambda: SparseConv1x1.from_dense(nn.Conv2d(3, 4, 1))(torch.zeros(1, 4, 2, 2)),
            ValueError,
            r"x must have shape \(n, 3, H, W\)",
        ),
        (
            lambda: SparseConv1x1.from_dense(nn.Conv2d(3, 4, 1))(X.clone().requires_grad_()),
            ValueError,
            "x requires grad",
        ),
    ],
)
def test_errors_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_network_refuses_gradients_and_wrong_images():
    fast = sparsify_for_inference(NET, X)
    with pytest.raises(ValueError, match="x requires grad"):
        fast(X.clone().requires_grad_())
    with pytest.raises(TypeError, match="x must be float32"):
        fast(X.half())
