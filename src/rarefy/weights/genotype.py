"""What a cell is made of, written down: operations on earlier states, node by node.

A cell has two inputs (the outputs of the two cells before it) and nodes; a node is a sum of terms,
each one operation on one earlier state. Networks of a genotype are built in
:mod:`rarefy.weights.cell_network`.

Source: Liu et al. 2019, "DARTS" (ICLR, arXiv 1806.09055), and its public code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

NONE, SKIP = "none", "skip_connect"

DARTS_OPS = (
    NONE,
    SKIP,
    "max_pool_3x3",
    "avg_pool_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The operations of DARTS."""

KNOWN_OPS = (*DARTS_OPS, "conv_3x3", "conv_1x1")


class Term(NamedTuple):
    """One operation on one earlier state: 0 and 1 are the cell's inputs, 2 its first node."""

    op: str
    state: int


Node = tuple[Term, ...]
Mixture = tuple[Sequence[Tensor], Sequence[Tensor]]
"""For normal and for reduction cells, a vector for each node: the share of each of its terms."""


@dataclass(frozen=True)
class Genotype:
    """What the cells of a network are made of: the terms of every node.

    Attributes
    ----------
    normal, reduction : tuple of tuple of Term
        A reduction cell halves height and width.

    Examples
    --------
    >>> node = (Term("conv_3x3", 0), Term("skip_connect", 1))
    >>> genotype = Genotype(normal=(node,), reduction=(node,))
    >>> Genotype.from_json(genotype.to_json()) == genotype
    True
    """

    normal: tuple[Node, ...]
    reduction: tuple[Node, ...]

    def __post_init__(self) -> None:
        for cell in (self.normal, self.reduction):
            if not cell:
                raise ValueError("a cell of the genotype has no node; expected at least one")
            for i, node in enumerate(cell):
                for op, state in node:
                    check_op(op)
                    if op == NONE or not 0 <= state < i + 2:
                        raise ValueError(
                            f"node {i} of the genotype has the term ({op!r}, {state}); expected an "
                            f"operation other than 'none' on a state from 0 to {i + 1}"
                        )
                if not node:
                    raise ValueError(f"node {i} of the genotype has no term")

    def to_json(self) -> str:
        """Write it as a line of JSON."""
        return json.dumps({"normal": self.normal, "reduction": self.reduction})

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ValueError
            If it is something else.
        """
        try:
            cells = json.loads(text)
            normal, reduction = (
                tuple(tuple(Term(op, state) for op, state in node) for node in cells[kind])
                for kind in ("normal", "reduction")
            )
        except (TypeError, KeyError) as error:
            raise ValueError(
                "the JSON is no genotype: expected an object with normal and reduction, each a "
                'list of nodes, each a list of ["operation", state]'
            ) from error
        return cls(normal, reduction)


def check_op(op: str) -> None:
    """Refuse an operation that no cell knows."""
    if op not in KNOWN_OPS:
        raise ValueError(f"unknown operation {op!r}; known: {', '.join(KNOWN_OPS)}")
