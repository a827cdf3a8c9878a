"""Networks built of cells: those that a search found, and the supernet that it moves in.

A cell has two inputs (the outputs of the two cells before it) and N nodes. A node is a sum over
operations on what came before it; the cell's output is its nodes, concatenated. In the *supernet* a
node sums every operation of the space on every earlier state,

    s_i = sum_{j < i} sum_o softmax(alpha_ij)_o norm(o(s_j)),

in a network that was found it sums one operation on each of two states. Both are a `CellNetwork`:
the supernet is the network of the genotype that names everything.

Source: the search space of Liu et al. 2019, "DARTS" (ICLR, arXiv 1806.09055), and its public code.

Departures: the batch norms that end the operations of a node are one over all of them together,
pooling's included, in found networks too; no auxiliary head and no path dropout; odd sizes are
padded where their halves would not fit.

Axis letters: n images, c channels, h height, w width, o operations of a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rarefy.weights.genotype import (
    SKIP,
    Genotype,
    Mixture,
    Node,
)


def build(
    genotype: Genotype,
    *,
    channels: int,
    cells: int,
    classes: int,
    in_channels: int = 3,
    affine: bool = True,
    generator: torch.Generator,
) -> CellNetwork:
    """Build the network of a genotype.

    Parameters
    ----------
    genotype : Genotype
    channels : int
        Of the first cells; every reduction doubles them.
    cells : int
        Those at one third and at two thirds of the depth are reductions, but never the first.
    classes : int
    in_channels : int, default 3
    affine : bool, default True
        Whether batch norms learn scale and shift.
    generator : torch.Generator
        Of the weights.

    Returns
    -------
    CellNetwork

    Raises
    ------
    ValueError
        If a number is below 1.

    Examples
    --------
    >>> from rarefy.weights import CellSpace
    >>> g = torch.Generator().manual_seed(0)
    >>> genotype = CellSpace(nodes=2).sample(1, g)[0]
    >>> net = build(genotype, channels=8, cells=3, classes=10, in_channels=1, generator=g)
    >>> net(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    for name, value in (
        ("channels", channels),
        ("cells", cells),
        ("classes", classes),
        ("in_channels", in_channels),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return CellNetwork(genotype, channels, cells, classes, in_channels, affine)


def reductions(cells: int) -> set[int]:
    """Places of the reduction cells in a network of so many."""
    return {cells // 3, 2 * cells // 3} - {0}


class CellNetwork(nn.Module):
    """A stem, cells, and a linear head on the mean over the picture; made by :func:`build`."""

    def __init__(
        self,
        genotype: Genotype,
        channels: int,
        cells: int,
        classes: int,
        in_channels: int,
        affine: bool,
    ) -> None:
        super().__init__()
        self.genotype = genotype
        before = last = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, last, 3, padding=1, bias=False), nn.BatchNorm2d(last)
        )
        self.cells = nn.ModuleList()
        halved = False
        for place in range(cells):
            halves = place in reductions(cells)
            channels *= 2 if halves else 1
            nodes = genotype.reduction if halves else genotype.normal
            self.cells.append(_Cell(nodes, (before, last), channels, halves, halved, affine))
            before, last, halved = last, len(nodes) * channels, halves
        self.head = nn.Linear(last, classes)

    def forward(self, x: Tensor, mixture: Mixture | None = None) -> Tensor:
        """Compute logits.

        Parameters
        ----------
        x : Tensor (n, c, h, w)
        mixture : Mixture, optional
            Shares of the terms of each node; by default they are added up.

        Returns
        -------
        Tensor (n, classes)
        """
        before = last = self.stem(x)
        for cell in self.cells:
            assert isinstance(cell, _Cell)
            shares = None if mixture is None else mixture[int(cell.halves)]
            before, last = last, cell(before, last, shares)
        return self.head(last.mean((2, 3)))

    def part(self, genotype: Genotype, x: Tensor) -> Tensor:
        """Compute logits of a network of some of this one's terms, with its weights.

        Parameters
        ----------
        genotype : Genotype
            Its terms are among this network's own. Only these run, each normed by the running
            statistics of its own: in evaluation mode, as other terms do not take part.
        x : Tensor (n, c, h, w)

        Returns
        -------
        Tensor (n, classes)
        """
        before = last = self.stem(x)
        for cell in self.cells:
            assert isinstance(cell, _Cell)
            own, chosen = (
                g.reduction if cell.halves else g.normal for g in (self.genotype, genotype)
            )
            places = [[o.index(term) for term in c] for o, c in zip(own, chosen, strict=True)]
            before, last = last, cell(before, last, None, places)
        return self.head(last.mean((2, 3)))


class _Cell(nn.Module):
    def __init__(
        self,
        nodes: tuple[Node, ...],
        inputs: tuple[int, int],
        channels: int,
        halves: bool,
        after_halving: bool,
        affine: bool,
    ) -> None:
        super().__init__()
        self.halves = halves
        # The cell before the last still has the size of before the halving.
        widen = _Halving if after_halving else _Pointwise
        self.before = nn.Sequential(
            nn.ReLU(), widen(inputs[0], channels), nn.BatchNorm2d(channels, affine=affine)
        )
        self.last = nn.Sequential(
            nn.ReLU(), _Pointwise(inputs[1], channels), nn.BatchNorm2d(channels, affine=affine)
        )
        self.nodes = nn.ModuleList(_Node(node, channels, halves, affine) for node in nodes)

    def forward(
        self,
        before: Tensor,
        last: Tensor,
        shares: Sequence[Tensor] | None,
        places: Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        stride = 2 if self.halves else 1
        states = [_State(self.before(before), stride), _State(self.last(last), stride)]
        for i, node in enumerate(self.nodes):
            assert isinstance(node, _Node)
            if places is None:
                x = node(states, None if shares is None else shares[i])
            else:
                x = node.part(states, places[i])
            states.append(_State(x, 1))
        return torch.cat([state.x for state in states[2:]], 1)


class _State:
    """What operations read of a state, each computed once for all nodes that read it."""

    def __init__(self, x: Tensor, stride: int) -> None:
        self.x = x
        self.stride = stride

    @cached_property
    def relu(self) -> Tensor:
        return self.x.relu()

    @cached_property
    def max_pool(self) -> Tensor:
        return F.max_pool2d(self.x, 3, self.stride, 1)

    @cached_property
    def avg_pool(self) -> Tensor:
        return F.avg_pool2d(self.x, 3, self.stride, 1, count_include_pad=False)


class _Node(nn.Module):
    """The sum of a node's terms, weighted by their shares where there are any."""

    def __init__(self, terms: Node, channels: int, halves: bool, affine: bool) -> None:
        super().__init__()
        self.channels = channels
        self.terms = nn.ModuleList()
        self.normed: list[tuple[int, int]] = []
        self.passed: list[tuple[int, int]] = []
        for place, (op, state) in enumerate(terms):
            stride = 2 if halves and state < 2 else 1
            if op == SKIP and stride == 1:
                self.passed.append((place, state))
                self.terms.append(nn.Identity())
            else:
                self.normed.append((place, state))
                self.terms.append(_operation(op, channels, stride, affine))
        if self.normed:
            self.norm = nn.BatchNorm2d(channels * len(self.normed), affine=affine)

    def forward(self, states: Sequence[_State], shares: Tensor | None) -> Tensor:
        total = None
        if self.normed:
            outputs = [self.terms[place](states[j]) for place, j in self.normed]
            y = self.norm(torch.cat(outputs, 1))
            n, _, h, w = y.shape
            y = y.reshape(n, len(outputs), -1)
            if shares is None:
                total = y.sum(1)
            else:
                total = torch.matmul(shares[[place for place, _ in self.normed]], y)
            total = total.view(n, self.channels, h, w)
        for place, j in self.passed:
            x = states[j].x if shares is None else shares[place] * states[j].x
            total = x if total is None else total + x
        assert total is not None  # a node has a term
        return total

    def part(self, states: Sequence[_State], places: Sequence[int]) -> Tensor:
        """The sum of some of the terms, each under its own part of the norm."""
        kept = [states[j].x for place, j in self.passed if place in places]
        for rank, (place, j) in enumerate(self.normed):
            if place in places:
                part = slice(rank * self.channels, (rank + 1) * self.channels)
                weight, bias, mean, variance = (
                    None if tensor is None else tensor[part]
                    for tensor in (
                        self.norm.weight,
                        self.norm.bias,
                        self.norm.running_mean,
                        self.norm.running_var,
                    )
                )
                y = self.terms[place](states[j])
                kept.append(F.batch_norm(y, mean, variance, weight, bias, eps=self.norm.eps))
        return torch.stack(kept).sum(0)


class _Pool(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, state: _State) -> Tensor:
        return state.max_pool if self.kind == "max_pool" else state.avg_pool


class _Convolutions(nn.Sequential):
    """Convolutions behind a ReLU; the batch norm behind them is the node's."""

    def forward(self, state: _State) -> Tensor:
        return super().forward(state.relu)


class _Halving(nn.Module):
    """A 1x1 convolution at stride 2, half of its outputs one pixel further down and right."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        first = (outputs + 1) // 2
        self.even = nn.Conv2d(inputs, first, 1, 2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - first, 1, 2, bias=False) if first < outputs else None

    def forward(self, x: Tensor) -> Tensor:
        if self.odd is None:
            return self.even(x)
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return torch.cat([self.even(x), self.odd(shifted)], 1)


def _Pointwise(inputs: int, outputs: int) -> nn.Module:  # noqa: N802 - stands beside _Halving
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def _separable(channels: int, size: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (size - 1) // 2
    depthwise = nn.Conv2d(
        channels, channels, size, stride, padding, dilation, groups=channels, bias=False
    )
    return [depthwise, _Pointwise(channels, channels)]


def _operation(op: str, channels: int, stride: int, affine: bool) -> nn.Module:
    kind, _, kernel = op.rpartition("_")
    size = int(kernel[0]) if kernel[0].isdigit() else 0
    match kind:
        case "sep_conv":
            return _Convolutions(
                *_separable(channels, size, stride),
                nn.BatchNorm2d(channels, affine=affine),
                nn.ReLU(),
                *_separable(channels, size, 1),
            )
        case "dil_conv":
            return _Convolutions(*_separable(channels, size, stride, dilation=2))
        case "conv":
            return _Convolutions(nn.Conv2d(channels, channels, size, stride, size // 2, bias=False))
        case "max_pool" | "avg_pool":
            return _Pool(kind)
        case _:  # a skip that halves
            return _Convolutions(_Halving(channels, channels))
