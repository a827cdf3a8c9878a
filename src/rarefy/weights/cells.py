"""The space of cells that differentiable and random search move in.

Source: the search space of Liu et al. 2019, "DARTS" (ICLR, arXiv 1806.09055), and its public code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rarefy.weights.cell_network import CellNetwork, build
from rarefy.weights.genotype import (
    DARTS_OPS,
    NONE,
    Genotype,
    Mixture,
    Node,
    Term,
    check_op,
)


@dataclass(frozen=True)
class CellSpace:
    """All genotypes with one operation on each of two earlier states for every node.

    Parameters
    ----------
    ops : tuple of str, default `DARTS_OPS`
        ``none`` takes a share of every edge of the supernet, and is never part of a genotype.
    nodes : int, default 4
        Of a cell.
    cells, channels : int, default 8 and 16
        Of the supernet.

    Raises
    ------
    ValueError
        If an operation is unknown, none is left, or a number is below 1.
    """

    ops: tuple[str, ...] = DARTS_OPS
    nodes: int = 4
    cells: int = 8
    channels: int = 16

    def __post_init__(self) -> None:
        for op in self.ops:
            check_op(op)
        if len(set(self.ops)) < len(self.ops) or not self.choices:
            raise ValueError(f"ops must name operations other than 'none', once each: {self.ops}")
        for name in ("nodes", "cells", "channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def choices(self) -> tuple[str, ...]:
        """The operations that a genotype can name."""
        return tuple(op for op in self.ops if op != NONE)

    @property
    def edges(self) -> int:
        """Of a cell: node i has i + 2 incoming ones."""
        return sum(i + 2 for i in range(self.nodes))

    def supernet(
        self, *, classes: int, in_channels: int = 3, generator: torch.Generator
    ) -> CellNetwork:
        """Build the network that holds every genotype of the space.

        Parameters
        ----------
        classes : int
        in_channels : int, default 3
        generator : torch.Generator
            Of the weights.
        """
        cell = tuple(
            tuple(Term(op, j) for j in range(i + 2) for op in self.choices)
            for i in range(self.nodes)
        )
        return build(
            Genotype(cell, cell),
            channels=self.channels,
            cells=self.cells,
            classes=classes,
            in_channels=in_channels,
            affine=False,
            generator=generator,
        )

    def mixture(self, alphas: Sequence[Tensor]) -> Mixture:
        """Turn architecture parameters into the share of every term of the supernet.

        Parameters
        ----------
        alphas : two Tensors (edges, ops)
            Of normal and of reduction cells.
        """
        normal, reduction = (self._shares(alpha) for alpha in alphas)
        return normal, reduction

    def derive(self, alphas: Sequence[Tensor]) -> Genotype:
        """Keep, for each node, the two states whose best operation has the largest share.

        Parameters
        ----------
        alphas : two Tensors (edges, ops)
        """
        normal, reduction = (
            tuple(self._strongest(shares) for shares in self._shares(alpha.detach()))
            for alpha in alphas
        )
        return Genotype(normal, reduction)

    def sample(self, n: int, generator: torch.Generator) -> list[Genotype]:
        """Draw genotypes uniformly.

        Parameters
        ----------
        n : int
        generator : torch.Generator
            Of the CPU.
        """

        def node(i: int) -> Node:
            states = sorted(torch.randperm(i + 2, generator=generator)[:2].tolist())
            ops = torch.randint(len(self.choices), (2,), generator=generator).tolist()
            return tuple(Term(self.choices[op], state) for op, state in zip(ops, states))  # noqa: B905 - two each

        return [
            Genotype(*(tuple(node(i) for i in range(self.nodes)) for _ in range(2)))
            for _ in range(n)
        ]

    def _shares(self, alpha: Tensor) -> list[Tensor]:
        """Of the terms of each node, states in order and operations in order within them."""
        shares = alpha.softmax(1)
        if NONE in self.ops:
            shares = shares[:, [i for i, op in enumerate(self.ops) if op != NONE]]
        sizes = [(i + 2) * len(self.choices) for i in range(self.nodes)]
        return list(shares.flatten().split(sizes))

    def _strongest(self, shares: Tensor) -> Node:
        best, op = shares.view(-1, len(self.choices)).max(1)
        states = sorted(best.argsort(descending=True, stable=True)[:2].tolist())
        return tuple(Term(self.choices[int(op[state])], state) for state in states)
