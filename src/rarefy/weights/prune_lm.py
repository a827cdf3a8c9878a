"""Prune a causal language model after training, layer by layer, from calibration text.

    magnitude  drop the smallest |W_ij|                      (per matrix; per row where refined)
    wanda      drop the smallest |W_ij| ||x_j||              (per row)
    sparsegpt  drop by w^2 / [H^-1]_jj and update the rest   (per block of columns)

then, where asked, repair each layer's mask (DSnoT). N:M patterns replace the sparsity. Embedding,
norms and head are never touched.

Source: Sun et al. 2024 (Wanda), Frantar and Alistarh 2023 (SparseGPT), Zhang et al. 2024 (DSnoT)
and its released code. Departures: the released DSnoT on SparseGPT allocates its Hessian without
filling it; here kept weights stay as SparseGPT left them and revived ones get their dense value
(``sparsegpt_weights="updated"``), or everything is dense and only the mask is SparseGPT's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rarefy.operators import NM, TopK
from rarefy.weights.calibrate import LayerStats, Progress, block_linears, out_in, walk_blocks
from rarefy.weights.dsnot import DSnoTResult, dsnot
from rarefy.weights.from_scores import check_density, check_pattern, pattern_mask, row_mask
from rarefy.weights.masks import Masks
from rarefy.weights.scores import wanda
from rarefy.weights.select import input_axis
from rarefy.weights.sparsegpt import SparseGPTResult, obs_factor, sparsegpt, sparsegpt_score

Method = Literal["magnitude", "wanda", "sparsegpt"]


class Refine(Protocol):
    """Repairs a layer's mask: :func:`dsnot`, possibly with options bound by ``partial``."""

    def __call__(
        self,
        weight: Tensor,
        mask: Tensor,
        stats: LayerStats,
        *,
        pattern: NM | None,
        score: Tensor | None,
    ) -> DSnoTResult:
        """Return the repaired mask; arguments are those of :func:`dsnot`."""


class PrunedLayer(NamedTuple):
    """What happened to one linear layer.

    Attributes
    ----------
    name : str
        Of the module.
    shape : tuple of int
        (outputs, inputs).
    density : float
    error_before, error_after : float
        Mean over rows of ``|eps|``, the expected output error, with the pruner's mask and with
        the repaired one (equal where nothing was repaired).
    swaps : int
        Swaps made by the repair, over all rows.
    output_error : float
        ``||(W - W^) X|| / ||W X||`` on the calibration tokens; NaN without Gram matrices.
    """

    name: str
    shape: tuple[int, ...]
    density: float
    error_before: float
    error_after: float
    swaps: int
    output_error: float


class PrunedModel(NamedTuple):
    """The masks that are now baked into the model, and a line for each layer."""

    masks: Masks
    layers: list[PrunedLayer]


@torch.no_grad()
def prune_lm(
    model: nn.Module,
    windows: Tensor,
    *,
    method: Method = "wanda",
    density: float | None = None,
    sparsity: float | None = None,
    pattern: NM | None = None,
    refine: Literal["dsnot"] | Refine | None = None,
    layers: Literal["all", "attention"] | Callable[[str], bool] = "all",
    sparsegpt_weights: Literal["updated", "dense"] = "updated",
    variance: Literal["exact", "batch_mean"] = "exact",
    block: int = 128,
    damp: float = 0.01,
    gram: bool = True,
    batch: int = 8,
    progress: Progress | None = None,
) -> PrunedModel:
    """Prune every linear layer inside a language model's blocks, in place.

    Parameters
    ----------
    model : nn.Module
        A transformers causal language model.
    windows : int64 Tensor, shape (sequences, tokens)
        Calibration text; the papers take 128 windows of 2,048 tokens.
    method : {"wanda", "magnitude", "sparsegpt"}, default "wanda"
    density, sparsity : float in [0, 1]
        Exactly one of the two, unless ``pattern`` is given. Holds in every layer.
    pattern : NM, optional
        Keep n of every m consecutive inputs, for example ``NM(2, 4)``.
    refine : "dsnot" or callable, optional
        Repair of each mask; a callable such as ``partial(dsnot, var_power=0)``.
    layers : {"all", "attention"} or callable, default "all"
        Which layers are *repaired*; all are pruned. ``"attention"`` is the released default.
        A callable takes the module's name.
    sparsegpt_weights : {"updated", "dense"}, default "updated"
        See the module's departures; ``"dense"`` prunes per row and updates nothing.
    variance : {"exact", "batch_mean"}, default "exact"
        See :class:`LayerStats`.
    block, damp
        Of :func:`sparsegpt`.
    gram : bool, default True
        Gather each layer's Gram matrix. SparseGPT, :func:`gram_swaps` and ``accept="if_mse_drops"``
        of :func:`dsnot` need it; magnitude, Wanda and DSnoT do not, and are a third faster without
        (wide layers gain more), but then say no :attr:`PrunedLayer.output_error`.
    batch : int, default 8
        Windows a forward pass.
    progress : callable ``(what, fraction)``, optional

    Returns
    -------
    PrunedModel

    Raises
    ------
    TypeError, ValueError
        On bad requests, a model without linear blocks, or calibration text shorter than a
        window. Requests are checked before anything is changed.
    """
    start = _Start(method, _share(density, sparsity, pattern), pattern, block, damp)
    if method == "sparsegpt" and not gram:
        raise ValueError("method 'sparsegpt' works on Gram matrices: gram=True is wanted")
    if sparsegpt_weights not in ("updated", "dense"):
        raise ValueError(f"sparsegpt_weights is 'updated' or 'dense', got {sparsegpt_weights!r}")
    repair = dsnot if refine == "dsnot" else refine
    if isinstance(repair, str):
        raise ValueError(f"refine must be 'dsnot', a callable or None, got {refine!r}")
    repaired = _chooser(layers)
    for linears in block_linears(model):
        for name, linear in linears.items():
            if pattern is not None:
                check_pattern(pattern, out_in(linear).shape[1], name)

    masks: dict[str, Tensor] = {}
    report: list[PrunedLayer] = []

    def visit(name: str, linear: nn.Module, stats: LayerStats) -> None:
        weight = out_in(linear)
        dense = weight.clone()
        refining = repair is not None and repaired(name)
        if method == "sparsegpt" and sparsegpt_weights == "updated":
            new, mask = start.updated(dense, stats, name)
        else:
            new, mask = dense, start.mask(dense, stats, name, per_row=refining)
        contribution = dense.float() * stats.mean_sum
        before = after = float(contribution.masked_fill(mask, 0).sum(1).abs().mean())
        swaps = 0
        if repair is not None and refining:
            # The released code prunes within a group by the score that chose the group.
            score = start.score(dense, stats, name) if pattern is not None else None
            result = repair(dense, mask, stats, pattern=pattern, score=score)
            new, mask = torch.where(result.mask & ~mask, dense, new), result.mask
            after, swaps = float(result.error_after.abs().mean()), int(result.swaps.sum())
        weight.copy_(new.masked_fill(~mask, 0))
        masks[f"{name}.weight"] = (mask if input_axis(linear) == 1 else mask.t()).contiguous()
        report.append(
            PrunedLayer(
                name=name,
                shape=tuple(dense.shape),
                density=int(mask.count_nonzero()) / mask.numel(),
                error_before=before,
                error_after=after,
                swaps=swaps,
                output_error=output_error(dense, weight, stats) if gram else math.nan,
            )
        )

    walk_blocks(model, windows, visit, gram=gram, variance=variance, batch=batch, progress=progress)
    return PrunedModel(Masks(masks), report)


@torch.no_grad()
def output_errors(
    dense: nn.Module, pruned: nn.Module, windows: Tensor, *, batch: int = 8
) -> dict[str, float]:
    """Measure ``||(W - W^) X|| / ||W X||`` of every layer on tokens of your choice.

    ``X`` are the inputs in the dense model, so layers are compared one by one and errors do not
    pile up; with held-out windows this is the generalisation of the layer-wise objective.

    Parameters
    ----------
    dense, pruned : nn.Module
        The same architecture before and after.
    windows : int64 Tensor, shape (sequences, tokens)
    batch : int, default 8

    Returns
    -------
    dict of str to float
        By module name.
    """
    errors = {}

    def visit(name: str, linear: nn.Module, stats: LayerStats) -> None:
        errors[name] = output_error(out_in(linear), out_in(pruned.get_submodule(name)), stats)

    walk_blocks(dense, windows, visit, gram=True, batch=batch)
    return errors


@dataclass(frozen=True)
class _Start:
    """The pruner whose masks are repaired: scores and masks of one layer."""

    method: Method
    share: float
    pattern: NM | None
    block: int
    damp: float

    def __post_init__(self) -> None:
        if self.method not in ("magnitude", "wanda", "sparsegpt"):
            raise ValueError(
                f"method must be 'magnitude', 'wanda' or 'sparsegpt', got {self.method!r}"
            )

    def score(self, dense: Tensor, stats: LayerStats, name: str) -> Tensor:
        if self.method == "magnitude":
            return dense.float().abs()
        if self.method == "wanda":
            return wanda(dense, stats.norm)
        return sparsegpt_score(dense, obs_factor(stats.gram, damp=self.damp, name=name))

    def mask(self, dense: Tensor, stats: LayerStats, name: str, *, per_row: bool) -> Tensor:
        score = self.score(dense, stats, name)
        if self.pattern is not None:
            return pattern_mask(score, self.pattern, name=name)
        if self.method == "magnitude" and not per_row:
            return TopK(round(self.share * score.numel()), by="value", axis=None).mask(score)
        return row_mask(score, density=self.share)

    def updated(self, dense: Tensor, stats: LayerStats, name: str) -> SparseGPTResult:
        return sparsegpt(
            dense,
            stats.gram,
            density=None if self.pattern else self.share,
            pattern=self.pattern,
            block=self.block,
            damp=self.damp,
            name=name,
        )


def _share(density: float | None, sparsity: float | None, pattern: NM | None) -> float:
    if pattern is None:
        return check_density(density=density, sparsity=sparsity)
    if density is not None or sparsity is not None:
        raise TypeError("give either pattern or one of density and sparsity: a pattern is both")
    return pattern.n / pattern.m


def _chooser(layers: str | Callable[[str], bool]) -> Callable[[str], bool]:
    if layers == "all":
        return lambda _name: True
    if layers == "attention":
        return lambda name: any("attn" in part or "attention" in part for part in name.split("."))
    if isinstance(layers, str):
        raise ValueError(f"layers must be 'all', 'attention' or a callable, got {layers!r}")
    return layers


def output_error(dense: Tensor, pruned: Tensor, stats: LayerStats) -> float:
    """Compute ``||(W - W^) X|| / ||W X||`` of one layer.

    Parameters
    ----------
    dense, pruned : Tensor, shape (o, i)
    stats : LayerStats
        With a Gram matrix: ``||D X||^2 = tr(D X X' D')``.

    Returns
    -------
    float
        0 where the dense output is 0.
    """
    gram, dense = stats.gram, dense.float()
    lost, whole = (float(((w @ gram) * w).sum()) for w in (dense - pruned.float(), dense))
    return math.sqrt(max(lost, 0.0) / whole) if whole > 0 else 0.0
