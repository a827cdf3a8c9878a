"""The bench of paper 21: a table split in three, parents, and training many networks at once.

Adam at 1e-3, batches of 64, the same order of examples for every arm, no early stopping. Parents
are He-normal with zero biases.

Axis letters: n examples, p parents, e epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rarefy.papers._threads import one_thread
from rarefy.weights import StackedPerceptrons

_BATCH, _RATE = 64, 1e-3
_NAMES = ("digits", "breast_cancer", "wine")


class Table(NamedTuple):
    """Standardised features (n, d) and labels (n,) of the three parts; the test part is last."""

    x: Tensor
    y: Tensor
    val_x: Tensor
    val_y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return 1 + max(int(labels.max()) for labels in (self.y, self.val_y, self.test_y))


class Outcome(NamedTuple):
    """What trained networks reached, one value each."""

    accuracy: Tensor
    """On the test part, after training."""
    epochs: Tensor
    """First epoch at 90 % of the network's own final accuracy on the validation part."""
    area: Tensor
    """Mean of the validation accuracy over the epochs."""


def read_table(data: str, seed: int) -> Table:
    """Split a table at random, 56 : 14 : 30 with the classes spread evenly; standardise it.

    Parameters
    ----------
    data : str
        ``digits``, ``breast_cancer`` or ``wine``, or an ``.npz`` file with ``X`` and ``y``.
    seed : int
        Of the split.

    Raises
    ------
    ValueError
        If it is neither.
    """
    from sklearn.model_selection import train_test_split

    x, labels = _read(data)
    y = np.unique(labels, return_inverse=True)[1]
    x, test_x, y, test_y = train_test_split(x, y, test_size=0.3, stratify=y, random_state=seed)
    x, val_x, y, val_y = train_test_split(x, y, test_size=0.2, stratify=y, random_state=seed)
    mean, spread = x.mean(0), x.std(0)
    spread[spread == 0] = 1
    parts: list[Tensor] = []
    for features, targets in ((x, y), (val_x, val_y), (test_x, test_y)):
        scaled = ((features - mean) / spread).astype(np.float32)
        parts += [torch.from_numpy(scaled), torch.from_numpy(targets)]
    return Table(*parts)


def _read(data: str) -> tuple[np.ndarray, np.ndarray]:
    if data in _NAMES:
        from sklearn import datasets

        return getattr(datasets, f"load_{data}")(return_X_y=True)
    path = Path(data)
    if not path.is_file():
        raise ValueError(
            f"data must be one of {', '.join(_NAMES)}, or an .npz file with X and y, got {data!r}"
        )
    with np.load(path) as file:
        if missing := {"X", "y"} - set(file):
            raise ValueError(f"{path} lacks the arrays {', '.join(sorted(missing))}")
        x, y = file["X"], file["y"]
    if len(x) != len(y) or y.ndim != 1:
        raise ValueError(f"X and y of {path} must have a row each, got {x.shape} and {y.shape}")
    return x.reshape(len(x), -1).astype(np.float64), y


def parent(table: Table, width: int, generator: torch.Generator) -> nn.Sequential:
    """Build a parent of two hidden layers."""
    sizes = (table.x.shape[1], width, width, table.classes)
    modules: list[nn.Module] = []
    for i, o in zip(sizes[:-1], sizes[1:], strict=True):
        linear = nn.Linear(i, o, device="meta").to_empty(device="cpu")
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(linear.bias)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def train(
    networks: Sequence[nn.Module],
    table: Table,
    *,
    epochs: int,
    order: torch.Generator,
    device: str,
) -> Outcome:
    """Train networks of one shape side by side, and test them.

    Parameters
    ----------
    networks : sequence of nn.Sequential
        Left as they are.
    table : Table
    epochs : int
    order : torch.Generator
        Of the examples; all networks see the same.
    device : str
    """
    with one_thread():
        return _trained(networks, Table(*(p.to(device) for p in table)), epochs, order, device)


def _trained(
    networks: Sequence[nn.Module], on: Table, epochs: int, order: torch.Generator, device: str
) -> Outcome:
    stacked = StackedPerceptrons(networks).to(device)
    adam = torch.optim.Adam(stacked.parameters(), lr=_RATE, fused=True)
    labels = on.y.expand(len(stacked), -1)
    curve = []
    for _ in range(epochs):
        for batch in torch.randperm(len(on.x), generator=order).to(device).split(_BATCH):
            adam.zero_grad()
            logits = stacked(on.x[batch]).transpose(1, 2)
            losses = cross_entropy(logits, labels[:, batch], reduction="none")
            losses.mean(1).sum().backward()
            adam.step()
        curve.append(_accuracy(stacked, on.val_x, on.val_y))
    validation = torch.stack(curve, dim=1)  # (p, e)
    reached = validation >= 0.9 * validation[:, -1:]
    return Outcome(
        _accuracy(stacked, on.test_x, on.test_y),
        1.0 + reached.int().argmax(1),
        validation.mean(1),
    )


@torch.no_grad()
def _accuracy(stacked: StackedPerceptrons, x: Tensor, y: Tensor) -> Tensor:
    return (stacked(x).argmax(2) == y).double().mean(1).cpu()
