"""Differentiable search for cells that stay accurate when they are pruned.

    min_alpha  L_B(W*, m*, alpha)
    s.t.  W  = argmin_W L_A(W, 1, alpha)            train dense
          m* = TopK(|argmin_S L_A(W, TopK(|S|), alpha)|)   learn the scores, weights frozen
          W* = argmin_W L_A(W, m*, alpha)           fine-tune what is left, masks frozen

approximated in one run: the three steps are three phases, and in the last two every batch of A
(half of the data: weights or scores) is preceded by one of B (the other half: alpha). These two can
take turns, and the density can ramp down over the first pruning. To first order alpha takes W and S
as they are; *unrolled*, it looks a step of rate xi ahead, by differences:

    w' = w - xi dL_A/dw,    dL_B(w')/dalpha - xi (dL_A(w+)/dalpha - dL_A(w-)/dalpha) / (2 eps),
    w+- = w +- eps dL_B(w')/dw',    eps = 0.01 / ||dL_B(w')/dw'||

The paper's two ingredients can be had one by one: with operations and objective both dense, or at
density 1, this is first-order DARTS after a warm-up.

Source: Mousavi et al. 2022, "DASS: Differentiable Architecture Search for Sparse Neural Networks"
(arXiv 2207.06968); Liu et al. 2019, "DARTS", for all that is not sparse.

Departures: the authors' code could not be found; phase lengths, the scores' rate and their
gradient are a reconstruction. The step ahead is plain descent. The search stops where skip
connections take a cell over, the failure that DARTS is known for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from rarefy.budget import ErdosRenyiKernel
from rarefy.weights.cell_network import CellNetwork, reductions
from rarefy.weights.cells import CellSpace
from rarefy.weights.genotype import SKIP, Genotype
from rarefy.weights.learned_masks import LearnedMasks, step_scores

Phase = Literal["train", "prune", "fine-tune"]
Kind = Literal["sparse", "dense"]

_CLIP = 5.0
_DIFFERENCE = 0.01


class Epoch(NamedTuple):
    """One line of a search's history.

    ``loss`` is on A and ``alpha_loss`` on B, NaN where alpha takes no step; ``skips`` is the share
    of skip connections in the genotype so far, in that of its two cells which has more of them.
    """

    phase: Phase
    loss: float
    alpha_loss: float
    skips: float


@dataclass(frozen=True)
class CellSearch:
    """What a search found.

    Attributes
    ----------
    genotype : Genotype
    alphas : two Tensors (edges, ops)
        Architecture parameters of normal and of reduction cells.
    history : list of Epoch
    """

    genotype: Genotype
    alphas: tuple[Tensor, Tensor]
    history: list[Epoch]


def dass(
    space: CellSpace,
    x: Tensor,
    y: Tensor,
    *,
    density: float | Callable[[float], float] = 0.1,
    rule: Callable[..., dict[str, int]] = ErdosRenyiKernel(),  # noqa: B008 - a frozen constant
    operations: Kind = "sparse",
    objective: Kind = "sparse",
    epochs: int = 50,
    phases: tuple[float, float, float] = (0.3, 0.2, 0.5),
    repeats: int = 1,
    max_skips: float = 0.5,
    batch_size: int = 64,
    lr: float = 0.025,
    score_lr: float = 0.1,
    alpha_lr: float = 3e-4,
    unrolled: bool = False,
    generator: torch.Generator,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> CellSearch:
    """Search a space of cells on labelled images.

    Parameters
    ----------
    space : CellSpace
    x : Tensor (n, c, h, w)
        The search runs on its device.
    y : Tensor (n,)
        Labels 0 to classes - 1.
    density : float in (0, 1] or schedule, default 0.1
        Of the supernet from the second phase on. A schedule of :mod:`rarefy.budget`, such as
        ``Cubic(0.1)``, brings it down over the epochs of the first pruning.
    rule : allocation rule, default ``ErdosRenyiKernel()``
    operations : {"sparse", "dense"}, default "sparse"
        Whether scores are learned and weights fine-tuned under their masks, or weights are trained
        without masks throughout.
    objective : {"sparse", "dense"}, default "sparse"
        Whether alpha sees the masked supernet or the same weights without masks. The masks of dense
        operations are those of the largest weights, taken anew every epoch.
    epochs : int, default 50
        Passes over half of the data, all phases together.
    phases : three floats, default (0.3, 0.2, 0.5)
        Shares of training, pruning and fine-tuning.
    repeats : int, default 1
        How often pruning and fine-tuning take turns within these shares.
    max_skips : float, default 0.5
        The search ends, with alpha as it was an epoch before, once a larger share of a cell is skip
        connections; 1 lets it go on.
    batch_size : int, default 64
    lr : float, default 0.025
        Of SGD on the weights; a half cosine down to a 25th over the epochs that train them.
    score_lr : float, default 0.1
        Of SGD on the scores; small supernets want 0.02.
    alpha_lr : float, default 3e-4
        Of Adam on alpha, whose weight decay of 1e-3 is part of the gradient.
    unrolled : bool, default False
        Second-order DARTS: alpha looks one step of W (or S) ahead, at about three times the cost.
    generator : torch.Generator
        Of the split, the weights, alpha and the batches.
    on_epoch : callable, optional
        Told each line of the history.

    Returns
    -------
    CellSearch

    Raises
    ------
    ValueError
        If a number is out of range, labels and images do not fit, there are fewer than two classes,
        the supernet halves the images to less than a pixel, or the search diverges.

    Examples
    --------
    >>> g = torch.Generator().manual_seed(0)
    >>> space = CellSpace(("none", "max_pool_3x3", "conv_3x3"), nodes=1, cells=2, channels=2)
    >>> x, y = torch.randn(16, 1, 4, 4, generator=g), torch.arange(16) % 2
    >>> found = dass(space, x, y, epochs=3, phases=(1 / 3, 1 / 3, 1 / 3), generator=g)
    >>> [line.phase for line in found.history]
    ['train', 'prune', 'fine-tune']
    """
    _check_images(space, x, y)
    schedule = density if callable(density) else lambda _: density
    if not 0 < schedule(1.0) <= 1:  # also true for NaN
        raise ValueError(f"density must be above 0 and at most 1, got {schedule(1.0)}")
    if not 0 <= max_skips <= 1:
        raise ValueError(f"max_skips must be a share from 0 to 1, got {max_skips}")
    lengths = _lengths(epochs, phases, repeats)
    for name, kind in (("operations", operations), ("objective", objective)):
        if kind not in ("sparse", "dense"):
            raise ValueError(f"{name} must be 'sparse' or 'dense', got {kind!r}")
    if batch_size < 2:
        raise ValueError(f"batch_size must be at least 2, as batch norms ask, got {batch_size}")
    masked = schedule(1.0) < 1 and "sparse" in (operations, objective)
    learned = masked and operations == "sparse"
    net = space.supernet(classes=int(y.max()) + 1, in_channels=x.shape[1], generator=generator).to(
        x.device
    )
    search = _Search(space, net.train(), (x, y), batch_size, alpha_lr, generator)
    weights = list(net.parameters())
    sgd = SGD(weights, lr=lr, momentum=0.9, weight_decay=3e-4, fused=True)
    trained = epochs - learned * sum(length for phase, length in lengths if phase == "prune")
    falling = CosineAnnealingLR(sgd, max(trained, 1), eta_min=lr / 25)

    def train_weights(loss: Tensor) -> None:
        grads = torch.autograd.grad(loss, weights, allow_unused=True)
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad
        nn.utils.clip_grad_norm_(weights, _CLIP)
        sgd.step()

    train_scores: Callable[[Tensor], None] = train_weights
    history: list[Epoch] = []
    found: list[Tensor] | None = None
    for place, (phase, length) in enumerate(lengths):
        prunes = learned and phase == "prune"
        first = masked and place == 1
        if first:
            search.held = LearnedMasks(net, density=schedule(1.0), rule=rule)
            search.on_a, search.on_b = operations == "sparse", objective == "sparse"
            train_scores = _score_step(search.held, score_lr)
        if search.held is not None:
            for scores in search.held.scores:
                scores.requires_grad_(prunes)
        inner = search.held.scores if prunes and search.held is not None else weights
        for done in range(1, length + 1):
            if search.held is not None and first:
                search.held.resize(density=schedule(done / length))
            if search.held is not None and not learned:
                search.held.reset()
            rate = score_lr if prunes else float(sgd.param_groups[0]["lr"])
            line = search.epoch(
                phase,
                train_scores if prunes else train_weights,
                ahead=(inner, rate) if unrolled else None,
            )
            if not prunes:
                falling.step()
            history.append(line)
            if not math.isfinite(line.loss):
                raise ValueError(
                    f"the search diverged in epoch {len(history)}, in phase {phase!r}: lower "
                    f"{'score_lr' if prunes else 'lr'}, which is {score_lr if prunes else lr}"
                )
            if on_epoch is not None:
                on_epoch(line)
            if phase == "train":
                continue
            # Alpha begins as noise: it can only fall back once it was something else.
            if line.skips > max_skips and found is not None:
                return _result(space, found, history)
            if line.skips <= max_skips:
                found = [alpha.detach().clone() for alpha in search.alphas]
    return _result(space, search.alphas, history)


def _result(space: CellSpace, alphas: Sequence[Tensor], history: list[Epoch]) -> CellSearch:
    normal, reduction = (alpha.detach() for alpha in alphas)
    return CellSearch(space.derive((normal, reduction)), (normal, reduction), history)


class _Search:
    """The supernet, alpha and the two halves of the data; ``on_a``, ``on_b``: who sees masks."""

    def __init__(
        self,
        space: CellSpace,
        net: CellNetwork,
        data: tuple[Tensor, Tensor],
        batch_size: int,
        alpha_lr: float,
        generator: torch.Generator,
    ) -> None:
        self.space, self.net, self.data = space, net, data
        self.held: LearnedMasks | None = None
        self.on_a = self.on_b = False
        self.generator = generator
        self.alphas = [
            (1e-3 * torch.randn(space.edges, len(space.ops), generator=generator))
            .to(data[0].device)
            .requires_grad_()
            for _ in range(2)
        ]
        self.adam = Adam(self.alphas, lr=alpha_lr, betas=(0.5, 0.999), weight_decay=1e-3)
        n = len(data[0])
        self.halves = torch.randperm(n, generator=generator).split(n // 2)[:2]
        self.batch_size = min(batch_size, n // 2)

    def epoch(
        self,
        phase: Phase,
        step: Callable[[Tensor], None],
        *,
        ahead: tuple[Sequence[Tensor], float] | None = None,
    ) -> Epoch:
        """Go through A with ``step``, every batch behind one of B for alpha unless in training.

        ``ahead`` holds the variables that ``step`` moves and their rate, if alpha looks ahead.
        """
        losses, alpha_losses = [], []
        for (x, y), (val_x, val_y) in zip(*map(self._batches, self.halves), strict=True):
            if phase != "train":
                if ahead is None:
                    loss = self._loss(val_x, val_y, self.alphas, self.on_b)
                    # Without a reduction cell, alpha of one is not used.
                    grads = torch.autograd.grad(loss, self.alphas, materialize_grads=True)
                else:
                    loss, grads = self._look_ahead((x, y), (val_x, val_y), *ahead)
                for alpha, grad in zip(self.alphas, grads, strict=True):
                    alpha.grad = grad
                self.adam.step()
                alpha_losses.append(loss.detach())
            fixed = [alpha.detach() for alpha in self.alphas]
            loss = self._loss(x, y, fixed, self.on_a)
            step(loss)
            losses.append(loss.detach())
        return Epoch(
            phase,
            float(torch.stack(losses).mean()),
            float(torch.stack(alpha_losses).mean()) if alpha_losses else math.nan,
            self._skips(),
        )

    def _skips(self) -> float:
        genotype = self.space.derive(self.alphas)
        # Without a reduction cell, alpha of one stays noise.
        cells = [genotype.normal, genotype.reduction][: 1 + bool(reductions(self.space.cells))]
        ops = [[op for node in cell for op, _ in node] for cell in cells]
        return max(one.count(SKIP) / len(one) for one in ops)

    def _look_ahead(
        self,
        of_a: tuple[Tensor, Tensor],
        of_b: tuple[Tensor, Tensor],
        inner: Sequence[Tensor],
        rate: float,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss on B one step ahead, and its gradient for alpha through that step."""
        before = [w.detach().clone() for w in inner]
        grad = partial(torch.autograd.grad, materialize_grads=True)
        fixed = [alpha.detach() for alpha in self.alphas]
        with _restored(inner, before):
            _move(inner, grad(self._loss(*of_a, fixed, self.on_a), inner), -rate)
            loss = self._loss(*of_b, self.alphas, self.on_b)
            grads = grad(loss, [*self.alphas, *inner])
        direct, towards = grads[: len(self.alphas)], grads[len(self.alphas) :]
        length = torch.stack([w.norm() for w in towards]).norm()
        if not length > 0:  # the loss on B does not see what moved
            return loss, direct
        eps = float(_DIFFERENCE / length)
        sides = []
        for sign in (1, -1):
            with _restored(inner, before):
                _move(inner, towards, sign * eps)
                sides.append(grad(self._loss(*of_a, self.alphas, self.on_a), self.alphas))
        implicit = [rate * (up - down) / (2 * eps) for up, down in zip(*sides, strict=True)]
        return loss, tuple(d - i for d, i in zip(direct, implicit, strict=True))

    def _loss(self, x: Tensor, y: Tensor, alphas: Sequence[Tensor], masked: bool) -> Tensor:
        off = self.held.off() if self.held is not None and not masked else nullcontext()
        with off:
            return cross_entropy(self.net(x, self.space.mixture(alphas)), y)

    def _batches(self, half: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = self.data
        order = half[torch.randperm(len(half), generator=self.generator)]
        for place in range(0, len(half) - self.batch_size + 1, self.batch_size):
            drawn = order[place : place + self.batch_size].to(x.device)
            yield x[drawn], y[drawn]


@contextmanager
def _restored(inner: Sequence[Tensor], before: Sequence[Tensor]) -> Iterator[None]:
    """Put variables back in place behind the block."""
    try:
        yield
    finally:
        with torch.no_grad():
            for w, old in zip(inner, before, strict=True):
                w.copy_(old)


@torch.no_grad()
def _move(inner: Sequence[Tensor], along: Sequence[Tensor], by: float) -> None:
    for w, direction in zip(inner, along, strict=True):
        w.add_(direction, alpha=by)


def _score_step(held: LearnedMasks, lr: float) -> Callable[[Tensor], None]:
    sgd = SGD(held.scores, lr=lr, momentum=0.9)
    return lambda loss: step_scores(held, sgd, loss, clip=_CLIP)


def _lengths(
    epochs: int, phases: tuple[float, float, float], repeats: int
) -> list[tuple[Phase, int]]:
    """Epochs of each phase in turn, none of them empty."""
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    if epochs < 1 + 2 * repeats:
        raise ValueError(
            f"epochs must be at least {1 + 2 * repeats}, one for each phase, got {epochs}"
        )
    if len(phases) != 3 or min(phases) <= 0 or not math.isclose(sum(phases), 1, rel_tol=1e-6):
        raise ValueError(f"phases must be three shares above 0 that add up to 1, got {phases}")
    train = min(max(1, round(phases[0] * epochs)), epochs - 2 * repeats)
    prune = min(max(repeats, round(phases[1] * epochs)), epochs - train - repeats)
    lengths: list[tuple[Phase, int]] = [("train", train)]
    for turn in range(repeats):
        # Whole epochs as even as they come: the ends of equal parts, rounded down.
        ends = [(turn + i) * prune // repeats for i in (0, 1)]
        others = [(turn + i) * (epochs - train - prune) // repeats for i in (0, 1)]
        lengths += [("prune", ends[1] - ends[0]), ("fine-tune", others[1] - others[0])]
    return lengths


def _check_images(space: CellSpace, x: Tensor, y: Tensor) -> None:
    if x.ndim != 4 or not x.is_floating_point() or y.shape != x.shape[:1]:
        raise ValueError(
            "x must be float images (n, channels, height, width) with a label each in y, got "
            f"{x.dtype} of shape {tuple(x.shape)} and labels of shape {tuple(y.shape)}"
        )
    if len(x) < 4:
        raise ValueError(f"x holds {len(x)} images; at least 4 are wanted, two for each half")
    if not bool(x.isfinite().all()):
        raise ValueError("x holds NaN or infinite pixels")
    if y.is_floating_point() or int(y.min()) < 0 or len(y.unique()) < 2:
        raise ValueError(
            "y must hold labels from 0 of at least two classes, got "
            f"{len(y.unique())} distinct values of {y.dtype} from {y.min().item()}"
        )
    halvings = len(reductions(space.cells))
    if min(x.shape[2:]) < 2**halvings:
        raise ValueError(
            f"images of {x.shape[2]} x {x.shape[3]} are too small for a supernet of {space.cells} "
            f"cells, which halves them {halvings} times: {2**halvings} x {2**halvings} are wanted"
        )
