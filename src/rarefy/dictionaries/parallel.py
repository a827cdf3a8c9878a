r"""Training in several processes, each with the whole autoencoder and its share of the rows.

.. math:: g = \frac1P \sum_p g_p

Gradients are averaged, what is counted over rows is counted over the rows of all processes, and
buffers are those of process 0, so every process holds the same autoencoder after every step. Where
the loss is a mean over rows, a step of P processes is one of a single process with their rows
together.

The processes are those of :mod:`torch.distributed`; without a process group there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn

from rarefy.dictionaries.stream import Stream


def processes() -> tuple[int, int]:
    """Number of this process, from 0, and how many there are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


@contextmanager
def joined(device: str | torch.device) -> Iterator[tuple[int, int]]:
    """Join the processes that ``torchrun`` has started, if it has, until the block ends.

    Parameters
    ----------
    device : str or torch.device
        Of the model: gloo connects processors, nccl GPUs.

    Yields
    ------
    rank, size : int
        As :func:`processes`.
    """
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield processes()
        return
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield processes()
    finally:
        distributed.destroy_process_group()


def total(tensor: Tensor) -> Tensor:
    """Sum over all processes; the tensor itself where there is one."""
    if processes()[1] == 1:
        return tensor
    tensor = tensor.detach().clone()
    distributed.all_reduce(tensor)
    return tensor


def mean(tensor: Tensor) -> Tensor:
    """Mean over all processes; the tensor itself where there is one."""
    size = processes()[1]
    return tensor if size == 1 else total(tensor) / size


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the mean of all processes' gradients."""
    if processes()[1] == 1:
        return
    for parameter in parameters:
        # Every process must take part, also one whose rows did not reach the parameter.
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad.copy_(mean(parameter.grad))


@torch.no_grad()
def follow_first(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors with those of process 0."""
    if processes()[1] > 1:
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


class Dealt:
    """A process's own stream, as its share of one whose batches are dealt to all in turn.

    Parameters
    ----------
    stream : Stream
        Only of this process: batch n of all is batch ``n // size`` of process ``n % size``.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def batch(self, step: int) -> Any:
        """Rows of a batch that is this process's."""
        return self.stream.batch(step // processes()[1])
