"""Data, networks and training of paper 20: scikit-learn's digits, an MLP and a ResNet-8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from rarefy.weights import DynamicMasks, Masks, Rule, SparsityTrace, Static

_BATCH = 64
_TRAIN = 1257


class Digits(NamedTuple):
    """Standardised pixels (n, 64) and labels (n,), for training and for testing."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


class Trained(NamedTuple):
    """A trained network, its accuracy on the test half, and the record of its masks."""

    model: nn.Module
    accuracy: float
    trace: SparsityTrace


def digits(seed: int) -> Digits:
    """Split into 1,257 to train on and 540 to test on, each class in proportion."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        images, labels, train_size=_TRAIN, stratify=labels, random_state=seed
    )
    # Pixels in the corners never vary.
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    pixels = (torch.tensor(part, dtype=torch.float32).clamp(-5, 5) for part in (x, x_test))
    train, test = pixels
    return Digits(train, torch.tensor(y), test, torch.tensor(y_test))


def mlp(width: int) -> nn.Module:
    """Build 64-width-width-10."""
    return nn.Sequential(
        nn.Linear(64, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 10),
    )


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
        return relu(y + self.shortcut(x))


class ResNet8(nn.Module):
    """A stem, three residual blocks of width, 2 and 4 times width, and a head, on 8 x 8 pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(
            _Block(width, width, 1), _Block(width, 2 * width, 2), _Block(2 * width, 4 * width, 2)
        )
        self.head = nn.Linear(4 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of flat images, (n, 64) -> (n, 10)."""
        x = relu(self.norm(self.stem(x.view(-1, 1, 8, 8))))
        return self.head(self.blocks(x).mean((2, 3)))


def fresh(build: Callable[[int], nn.Module], width: int, seed: int) -> nn.Module:
    """Build with seeded weights; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(width)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of a batch."""
    return cross_entropy(model(batch[0]), batch[1])


def batches(data: Digits, epochs: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Shuffle anew each epoch; the last, smaller batch counts too."""
    generator = torch.Generator().manual_seed(seed)
    n = len(data.train)
    orders = torch.cat([torch.randperm(n, generator=generator) for _ in range(epochs)])
    return [(data.train[i], data.train_labels[i]) for i in orders.split(_BATCH)]


@dataclass(frozen=True)
class Training:
    """How long and how fast; ``every`` steps between updates of a mask that moves."""

    epochs: int
    lr: float = 2e-3
    every: int = 40


def train(
    model: nn.Module,
    data: Digits,
    how: Training,
    *,
    seed: int,
    masks: Masks | None = None,
    rule: Rule | None = None,
    pretrained_steps: int = 0,
) -> Trained:
    """Train in place by Adam with a cosine of the learning rate; masks are held, and may move."""
    steps = batches(data, how.epochs, seed)
    trace = SparsityTrace(pretrained_steps)
    optimizer = torch.optim.Adam(model.parameters(), lr=how.lr)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(len(steps), 1))
    held: Any = None
    if masks is not None:
        trace.record(0, masks)
        held = DynamicMasks(
            model,
            masks,
            optimizer,
            rule=rule or Static(),
            steps=len(steps),
            every=how.every,
            generator=torch.Generator().manual_seed(seed),
            on_update=trace.record,
        )
    model.train()
    for batch in steps:
        optimizer.zero_grad(set_to_none=True)
        loss(model, batch).backward()
        optimizer.step()
        falling.step()
    model.eval()
    if held is not None:
        held.detach()
        trace.record(len(steps), held.masks)
    return Trained(model, accuracy(model, data), trace)


@torch.no_grad()
def accuracy(model: nn.Module, data: Digits) -> float:
    """Share of the test images that are named rightly."""
    return float((model(data.test).argmax(1) == data.test_labels).float().mean())
