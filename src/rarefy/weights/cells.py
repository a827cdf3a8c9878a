"""The space of cells that differentiable and random search move in.

It draws genotypes, and it runs them within one supernet, whose weights they share: each runs the
terms that it names, and no others. That makes it a :class:`rarefy.weights.SearchSpace`.

Source: the search space of Liu et al. 2019, "DARTS" (ICLR, arXiv 1806.09055), and its public code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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
        cell = self._every_term()
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

    def outputs(self, model: nn.Module, candidates: Sequence[Genotype], x: Tensor) -> Tensor:
        """Run genotypes within one supernet, one after the other.

        Batch norms go by their running statistics: of a supernet that was never trained these
        change nothing.

        Parameters
        ----------
        model : CellNetwork
            The supernet of this space, in evaluation mode.
        candidates : sequence of Genotype
        x : Tensor (n, c, h, w)

        Returns
        -------
        Tensor (b, n, classes)

        Raises
        ------
        ValueError
            If the model is not this space's supernet, or is in training mode.

        Examples
        --------
        >>> from rarefy.weights import RandomSearch
        >>> g = torch.Generator().manual_seed(0)
        >>> space = CellSpace(nodes=2, cells=2, channels=4)
        >>> supernet = space.supernet(classes=3, in_channels=1, generator=g)
        >>> x, y = torch.randn(12, 1, 8, 8, generator=g), torch.arange(12) % 3
        >>> search = RandomSearch(space, n_samples=8, generator=g).fit(supernet, x, y)
        >>> type(search.best_).__name__, len(search.scores_)
        ('Genotype', 8)
        """
        every = self._every_term()
        if not isinstance(model, CellNetwork) or model.genotype != Genotype(every, every):
            raise ValueError(
                "the model must be the supernet of this space, as CellSpace.supernet builds it, "
                f"got {type(model).__name__}"
            )
        if model.training:
            raise ValueError(
                "the supernet is in training mode, where every candidate would move its running "
                "statistics; call model.eval() first"
            )
        return torch.stack([model.part(genotype, x) for genotype in candidates])

    def _every_term(self) -> tuple[Node, ...]:
        """Cells of the supernet."""
        return tuple(
            tuple(Term(op, j) for j in range(i + 2) for op in self.choices)
            for i in range(self.nodes)
        )

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
