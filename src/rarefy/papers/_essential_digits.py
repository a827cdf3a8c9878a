"""The vision side of paper 39: one small transformer, pre-trained in two ways on the same digits.

scikit-learn's 8 x 8 digits in patches of 2 x 2. Half of the classes pre-train the encoder, by
filling in hidden patches or by naming the digit; the other half is the task that both are
fine-tuned on, with the same steps, once a mask has been put on.

Axis letters: n images, p patches, d width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rarefy.weights import Masks, finetune

_PATCH, _PIXELS = 16, 4
_CLASSES = 5
_WIDTH, _DEPTH, _HEADS = 32, 2, 4
_BATCH = 32
_RATE = 3e-3
_HIDDEN = 0.5


class Digits(NamedTuple):
    """Patches (n, p, 4) and labels 0..4 (n,) of one part of the data."""

    patches: Tensor
    labels: Tensor


class Encoder(nn.Module):
    """Patches to features, (n, p, 4) -> (n, p, d); only the blocks' weights are ever pruned."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(_PIXELS, _WIDTH)
        self.position = nn.Parameter(torch.randn(_PATCH, _WIDTH) * 0.3)
        self.hidden = nn.Parameter(torch.zeros(_WIDTH))
        layer = nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, 2 * _WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, _DEPTH, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(_WIDTH)

    def forward(self, patches: Tensor, hide: Tensor | None = None) -> Tensor:
        """Encode; where ``hide`` (n, p) is true the encoder sees a blank in place of the patch."""
        x = self.embed(patches)
        if hide is not None:
            x = torch.where(hide[..., None], self.hidden, x)
        return self.norm(self.blocks(x + self.position))


class Classifier(nn.Module):
    """An encoder and a linear head on the mean of its patches."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(_WIDTH, _CLASSES)
        nn.init.zeros_(self.head.weight)

    def forward(self, patches: Tensor) -> Tensor:
        """Logits, (n, classes)."""
        return self.head(self.encoder(patches).mean(1))


def digits(generator: torch.Generator) -> tuple[Digits, Digits, Digits]:
    """Split by class into a half to pre-train on and a task, and the task into train and test."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32) / 16
    patches = images.unfold(1, 2, 2).unfold(2, 2, 2).reshape(len(images), _PATCH, _PIXELS)
    labels = torch.tensor(data.target)
    classes = torch.randperm(10, generator=generator)
    order = torch.randperm(len(images), generator=generator)
    patches, labels = patches[order], classes[labels[order]]
    task = labels >= _CLASSES
    task_patches, task_labels = patches[task], labels[task] - _CLASSES
    half = len(task_labels) // 2
    return (
        Digits(patches[~task], labels[~task]),
        Digits(task_patches[:half], task_labels[:half]),
        Digits(task_patches[half:], task_labels[half:]),
    )


def new_encoder(seed: int) -> Encoder:
    """Build an encoder; the seed is scoped, the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder()


def pretrain_masked(
    encoder: Encoder, data: Digits, *, steps: int, generator: torch.Generator
) -> None:
    """Teach an encoder to fill in hidden patches, in place; mean squared error over those."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        model = nn.ModuleDict({"encoder": encoder, "decoder": nn.Linear(_WIDTH, _PIXELS)})

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        patches, hide = batch
        filled = model["decoder"](model["encoder"](patches, hide))  # type: ignore[index]
        return (filled - patches)[hide].square().mean()

    batches = [
        (patches, torch.rand(patches.shape[:2], generator=generator) < _HIDDEN)
        for patches, _ in _batches(data, steps, generator)
    ]
    finetune(model, batches, loss, lr=_RATE)


def train_classifier(
    model: nn.Module,
    data: Digits,
    *,
    steps: int,
    generator: torch.Generator,
    masks: Masks | None = None,
) -> None:
    """Teach a classifier its labels, in place, with masks held where they are given."""

    def loss(model: nn.Module, batch: Digits) -> Tensor:
        return cross_entropy(model(batch.patches), batch.labels)

    finetune(model, _batches(data, steps, generator), loss, masks=masks, lr=_RATE)


def pretrain_labels(
    encoder: Encoder, data: Digits, *, steps: int, generator: torch.Generator
) -> None:
    """Teach an encoder to name digits, in place; the head is thrown away."""
    train_classifier(Classifier(encoder), data, steps=steps, generator=generator)


@torch.no_grad()
def accuracy(model: nn.Module, data: Digits) -> float:
    """Share of the images that are named rightly."""
    return float((model(data.patches).argmax(1) == data.labels).float().mean())


def _batches(data: Digits, steps: int, generator: torch.Generator) -> list[Digits]:
    drawn = torch.randint(len(data.labels), (steps, _BATCH), generator=generator)
    return [Digits(data.patches[i], data.labels[i]) for i in drawn]
