"""How the dictionaries of paper 41 are trained: alike but for the activation and the width."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from torch import Tensor

from rarefy.dictionaries import (
    ArrayStream,
    AuxK,
    JumpReLU,
    L0Loss,
    SparseAutoencoder,
    train,
)
from rarefy.operators import TopK
from rarefy.papers._threads import one_thread

T = TypeVar("T")


class Kind(NamedTuple):
    """An architecture: its activation, and its width beside that of TopK."""

    activation: str
    width: float = 1.0


KINDS = {
    "topk": Kind("topk"),
    "abstopk": Kind("abstopk"),
    "jumprelu": Kind("jumprelu"),
    "topk, twice as wide": Kind("topk", 2.0),
    "abstopk, half as wide": Kind("abstopk", 0.5),
}


def trained(
    arm: str,
    x: Tensor,
    *,
    n_latents: int,
    k: int,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> SparseAutoencoder:
    """Train the dictionary of an arm on rows of norm about sqrt(d)."""
    kind = KINDS[arm]
    width = int(kind.width * n_latents)
    signed = kind.activation == "abstopk"
    losses: list[AuxK | L0Loss] = []
    activation: TopK | JumpReLU
    if kind.activation == "jumprelu":
        activation = JumpReLU(width, bandwidth=0.5)
        losses = [L0Loss(100.0, target=k)]
    else:
        activation = TopK(k) if signed else TopK(k, by="positive")
        losses = [AuxK(width, dead_after=50 * batch_size, signed=signed)]
    sae = SparseAutoencoder(x.shape[1], width, activation, seed=seed)
    if isinstance(activation, JumpReLU):
        activation.threshold.data.zero_()
        _match(sae, activation, x[:2048] - x.mean(0), k)
    stream = ArrayStream(x, batch_size=batch_size, seed=seed)
    train(sae, stream, steps=steps, losses=losses, lr=lr)
    if isinstance(activation, JumpReLU):
        _match(sae, activation, x[:8192], k)
    return sae


def _match(sae: SparseAutoencoder, activation: JumpReLU, x: Tensor, k: int) -> None:
    """Move all thresholds alike, so that rows have k codes on average."""
    over = (sae.pre_codes(x) - activation.threshold.data).flatten()
    activation.threshold.data += over.topk(k * len(x) + 1).values[-1]


@contextmanager
def one_thread_everywhere() -> Iterator[None]:
    """One thread for BLAS as well, which fits the probes: two trainings run side by side."""
    with one_thread():
        yield
