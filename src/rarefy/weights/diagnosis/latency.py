"""How long masked layers take on this CPU: dense, as CSR, and packed for rarefy's own kernel.

    speed-up = sum_l dense_l / sum_l min_backends t_l

for each masked weight as a matrix (outputs x the rest) times ``columns`` activations: exact for
linear layers and 1x1 convolutions, the unfolded product for other convolutions.

Source: Liu and Wang 2023, lesson 2. Departures: none; what is timed is stated above.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from rarefy.weights.masks import Masks


@dataclass(frozen=True)
class LayerTimes:
    """Median seconds of one layer's product; ``sliced`` without its dead rows and columns."""

    name: str
    dense: float
    csr: float
    packed: float
    sliced: float

    @property
    def best(self) -> float:
        """The shortest."""
        return min(self.dense, self.csr, self.packed, self.sliced)


@torch.no_grad()
def layer_times(
    weights: Mapping[str, Tensor],
    masks: Masks,
    *,
    columns: int = 64,
    repeats: int = 7,
    axes: Mapping[str, int] | None = None,
) -> list[LayerTimes]:
    """Time each masked layer in turns, one call of every backend a round.

    Parameters
    ----------
    weights : mapping of str to Tensor
    masks : Masks
        Layers to time.
    columns : int, default 64
        Activations a layer is applied to at once.
    repeats : int, default 7
        Rounds; the median counts.
    axes : mapping of str to int, optional
        Axis over the inputs where it is not 1.

    Returns
    -------
    list of LayerTimes
    """
    from rarefy.kernels.cpu.spmm import pack, spmm

    found = []
    for name, mask in masks.items():
        axis = (axes or {}).get(name, 1)
        sparse = weights[name].detach().float().cpu().masked_fill(~mask.cpu(), 0)
        matrix = sparse.movedim(axis, 1).flatten(1).contiguous()
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(matrix.shape[1], columns, generator=generator)
        packed, csr = pack(matrix), _csr(matrix)
        rows, inner = matrix.any(1), matrix.any(0)
        small, small_x = matrix[rows][:, inner].contiguous(), x[inner].contiguous()
        products = (
            partial(torch.matmul, matrix, x),
            partial(torch.matmul, csr, x),
            partial(spmm, packed, x),
            partial(torch.matmul, small, small_x),
        )
        found.append(LayerTimes(name, *_medians(repeats, products)))
    return found


def speedup(times: list[LayerTimes]) -> float:
    """Compute the speed-up of all layers together, each with its best backend.

    Raises
    ------
    ValueError
        If there is no layer.
    """
    if not times:
        raise ValueError("times is empty: at least one layer is wanted")
    return sum(layer.dense for layer in times) / sum(layer.best for layer in times)


def _csr(matrix: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return matrix.to_sparse_csr()


def _medians(repeats: int, functions: Sequence[Callable[[], object]]) -> list[float]:
    seconds = np.empty((repeats, len(functions)))
    for function in functions:
        function()
    for row in seconds:
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            row[i] = time.perf_counter() - start
    return np.median(seconds, 0).tolist()
