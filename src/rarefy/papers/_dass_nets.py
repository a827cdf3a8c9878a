"""What paper 25 evaluates: hand-made networks, and the three steps that every network goes through.

Each network is given the width at which its size is nearest to the one asked for, and then the
density that leaves every competitor *the same number of weights*: at equal density, cells full of
pooling would keep far fewer than cells full of convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

from rarefy.data.images import Images
from rarefy.papers._recipe import Trial
from rarefy.papers._sparse_ift_digits import ResNet
from rarefy.weights import Masks, count_macs, finetune, prune_by_scores, select

Make = Callable[[int], nn.Module]

_BATCH = 128
# Chosen on a network of random cells, for every competitor alike.
_RATE = 1e-2
_SCORE_RATE = 0.02
_TUNING_RATE = 2e-2
_LARGEST = 128


@dataclass(frozen=True)
class Evaluated:
    """A network after training, pruning and fine-tuning; its pruned weights are zero."""

    network: nn.Module
    masks: Masks
    dense_accuracy: float
    accuracy: float

    def metrics(self, images: Images, target: int) -> dict[str, float]:
        """Measurements of the network; ``nnz_off`` is from the number of weights asked for."""
        nnz = self.masks.nnz
        alive = Masks.from_zeros(select(self.network))
        return {
            "accuracy": self.accuracy,
            "dense_accuracy": self.dense_accuracy,
            "drop": self.dense_accuracy - self.accuracy,
            "density": self.masks.density(),
            "nnz": float(nnz),
            "nnz_off": abs(nnz / target - 1),
            "mask_violations": float((alive & ~self.masks).nnz),
            "macs": float(self.macs(images)),
        }

    def macs(self, images: Images) -> int:
        """Multiply-accumulates for one picture."""
        return sum(row.sparse for row in count_macs(self.network, images.x[:1], self.masks))


def at_size(make: Make, size: int) -> nn.Module:
    """Build the network whose prunable weights are nearest to ``size`` in number.

    Parameters
    ----------
    make : callable ``width -> nn.Module``
    size : int
    """
    best, nearest = make(1), float("inf")
    for width in range(1, _LARGEST + 1):
        network = make(width)
        off = abs(count(network) / size - 1)
        if off > nearest:
            break
        best, nearest = network, off
    return best


def count(network: nn.Module) -> int:
    """Count the prunable weights."""
    return sum(weight.numel() for weight in select(network).values())


def evaluate(network: nn.Module, images: Images, trial: Trial, *, kept: int) -> Evaluated:
    """Train, learn the scores with the weights frozen, fine-tune under the masks; and test.

    Before each test batch norms gather their statistics anew, over the training images.

    Parameters
    ----------
    network : nn.Module
        Trained in place.
    images : Images
    trial : Trial
    kept : int
        How many weights are left.
    """
    train, prune, tune = trial.pick(smoke=(1, 1, 1), default=(7, 3, 9), full=(30, 10, 40))
    draw = trial.generator()
    network.to(trial.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def epochs(number: int) -> list[tuple[Tensor, Tensor]]:
        batches = []
        for _ in range(number):
            order = torch.randperm(len(images.x), generator=draw)
            batches += [
                (images.x[drawn].to(trial.device), images.y[drawn].to(trial.device))
                for drawn in order.split(_BATCH)
                if len(drawn) == _BATCH
            ][: trial.pick(smoke=2, default=None, full=None)]
        return batches

    def settle() -> None:
        # Of few weights logits hang on small means, which a running average follows too late: a
        # network that classifies 85 % by its batches' statistics can be at chance without this.
        update_bn((x.to(trial.device) for x in images.x.split(_BATCH)), network)

    finetune(network, epochs(train), _loss, lr=_RATE)
    settle()
    dense_accuracy = _accuracy(network, images, trial)
    masks = prune_by_scores(
        network, epochs(prune), _loss, density=kept / count(network), lr=_SCORE_RATE
    )
    masks.apply_(network)
    finetune(network, epochs(tune), _loss, masks=masks, lr=_TUNING_RATE)
    settle()
    return Evaluated(network, masks, dense_accuracy, _accuracy(network, images, trial))


def latency_ratio(ours: nn.Module, theirs: nn.Module, images: Images, *, repeats: int) -> float:
    """Time of theirs over ours for a batch, in dense kernels, taken in turns."""
    x = images.test_x[:64].to(next(ours.parameters()).device)
    seconds: dict[nn.Module, list[float]] = {ours: [], theirs: []}
    with torch.inference_mode():
        for _ in range(repeats + 2):
            for network, times in seconds.items():
                network.eval()
                start = perf_counter()
                network(x).argmax(1).cpu()
                times.append(perf_counter() - start)
    ours_median, theirs_median = (sorted(t[2:])[repeats // 2] for t in seconds.values())
    return theirs_median / ours_median


def resnet8(images: Images, width: int) -> nn.Module:
    """Build the ResNet-8 of card 24: three residual blocks of one, two and four times a width."""
    return ResNet(images, (width, 2 * width, 4 * width))


class MobileNet(nn.Module):
    """A small MobileNet-v2: inverted residual blocks, each three times as wide inside."""

    def __init__(self, images: Images, width: int) -> None:
        super().__init__()
        self.stem = _normed(nn.Conv2d(images.x.shape[1], width, 3, padding=1, bias=False))
        self.blocks = nn.Sequential(
            _Inverted(width, width, 1),
            _Inverted(width, 2 * width, 2),
            _Inverted(2 * width, 2 * width, 1),
        )
        self.last = _normed(nn.Conv2d(2 * width, 4 * width, 1, bias=False))
        self.head = nn.Linear(4 * width, images.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (n, classes)."""
        inner = self.blocks(self.stem(x).relu())
        return self.head(self.last(inner).relu().mean((2, 3)))


class _Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = 3 * inputs
        self.adds = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            _normed(nn.Conv2d(inputs, inner, 1, bias=False)),
            nn.ReLU(),
            _normed(nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)),
            nn.ReLU(),
            _normed(nn.Conv2d(inner, outputs, 1, bias=False)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


def _normed(convolution: nn.Conv2d) -> nn.Module:
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))


def _loss(network: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return cross_entropy(network(x), y)


@torch.no_grad()
def _accuracy(network: nn.Module, images: Images, trial: Trial) -> float:
    network.eval()
    right = network(images.test_x.to(trial.device)).argmax(1).cpu() == images.test_y
    return float(right.float().mean())
