"""Look a sparse model over, and say what its numbers mean.

Puts together what the other modules of this package find: structure and dead units, effective
sparsity and layer collapse, operations against weights, fake sparsity, claims, the kind of run,
and whether runs are comparable.

Source: Liu and Wang 2023, "Ten lessons we have learned in the new Sparseland" (arXiv 2302.02596).
Departures: the paper asks the questions; the tests and their thresholds are ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from rarefy.weights.diagnosis.audit import (
    Claimed,
    audit,
    axes_of,
    denominator_findings,
    densities,
    pattern_findings,
)
from rarefy.weights.diagnosis.fair import RunCard, comparable
from rarefy.weights.diagnosis.findings import Diagnosis, Finding, LayerHealth
from rarefy.weights.diagnosis.latency import layer_times, speedup
from rarefy.weights.diagnosis.reachability import effective_masks, stored_parameters
from rarefy.weights.diagnosis.records import trace_findings
from rarefy.weights.diagnosis.structure import dead_units, granularity
from rarefy.weights.diagnosis.trace import SparsityTrace
from rarefy.weights.macs import count_macs
from rarefy.weights.masks import Masks

_GAP = 0.05
"""Share of the kept weights that may lie on no path without a word."""
_OPERATIONS = 0.1
"""Relative difference of operations and weights that may pass without a word."""
_GUARD = 1.3
"""Timings vary; a claimed speed-up is refused beyond this many times the measured one."""

_RANK = {"error": 0, "warn": 1, "info": 2}


def diagnose(
    model: nn.Module,
    masks: Masks | None = None,
    *,
    inputs: Any = None,
    optimizer: Optimizer | None = None,
    claimed: Claimed | None = None,
    trace: SparsityTrace | None = None,
    runs: Sequence[RunCard] = (),
) -> Diagnosis:
    """Examine a sparse model.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    masks : Masks, optional
        Read off the model's zeros by default.
    inputs : Tensor, tuple of positional or dict of keyword arguments, optional
        An example of what the model is called with. Without it paths and operations are not
        looked at.
    optimizer : torch optimizer, optional
        Whose state should be as sparse as the model.
    claimed : Claimed, optional
        What is said about the model, to be checked. A speed-up is timed.
    trace : SparsityTrace, optional
        Of the run that made it, to be classified and checked against the model.
    runs : sequence of RunCard, optional
        Runs that are to be compared; the first is the one that made the model.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ValueError
        If the model has nothing to prune, a mask fits no parameter, or paths cannot be traced.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> _ = nn.init.zeros_(model[2].weight)
    >>> found = diagnose(model, inputs=torch.ones(1, 4))
    >>> [(finding.code, finding.layer) for finding in found.findings if not found.ok][:2]
    [('LAYER_COLLAPSE', '2.weight'), ('CUT', '')]
    """
    masks = Masks.from_zeros(model) if masks is None else masks
    if not masks:
        raise ValueError("masks is empty: at least one masked tensor is wanted")
    weights = stored_parameters(model, masks)
    found = audit(model, masks, inputs=inputs, optimizer=optimizer, claimed=claimed)
    # What a tied mask does cannot be said, and paths through it neither.
    tied = any(finding.code == "TIED" for finding in found)
    effective = None if inputs is None or tied else effective_masks(model, masks, inputs)
    axes = axes_of(model, masks)
    layers = _layers(masks, effective, axes)
    found += structure_findings(masks, axes, layers)
    if effective is not None:
        found += _path_findings(model, masks, effective, inputs)
    share = None
    if inputs is not None:
        counted = count_macs(model, inputs, masks)
        share = sum(row.sparse for row in counted) / max(sum(row.dense for row in counted), 1)
        masked = [row for row in counted if row.name in masks]
        found += _operations(masks, masked)
    if claimed is not None and claimed.speedup is not None:
        found += _speed(weights, masks, axes, claimed.speedup)
    made = diagnose_run(trace=trace, runs=runs, masks=masks)
    return Diagnosis(
        findings=_ranked([*found, *made.findings]),
        layers=layers,
        density=densities(model, masks),
        effective_density=None if effective is None else effective.density(),
        macs_share=share,
        taxonomy=made.taxonomy,
    )


def diagnose_run(
    *,
    trace: SparsityTrace | None = None,
    runs: Sequence[RunCard] = (),
    masks: Masks | None = None,
) -> Diagnosis:
    """Examine how a model was made, and what it is compared with; the model may be elsewhere.

    Parameters
    ----------
    trace : SparsityTrace, optional
    runs : sequence of RunCard, optional
        To be compared; the first is the run that left the trace.
    masks : Masks, optional
        Of the model, which the trace should end at.

    Returns
    -------
    Diagnosis
        Of findings and, with a trace, the taxonomy.

    Raises
    ------
    ValueError
        If the trace is empty, or two runs have one name.

    Examples
    --------
    >>> card = RunCard(name="RigL", data="d", split="s", metric="acc", steps=9, batch=1, seeds=1)
    >>> [finding.code for finding in diagnose_run(runs=[card]).findings]
    ['ONE_SEED']
    """
    found = comparable(runs)
    if trace is not None:
        found += trace_findings(trace, masks=masks, card=runs[0] if runs else None)
    return Diagnosis(findings=_ranked(found), taxonomy=None if trace is None else trace.classify())


def diagnose_tensors(
    tensors: Mapping[str, Tensor],
    *,
    names: Collection[str] | None = None,
    claimed: Claimed | None = None,
    trace: SparsityTrace | None = None,
    runs: Sequence[RunCard] = (),
) -> Diagnosis:
    """Examine weights without their model: structure, empty layers and dead units only.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        As in a safetensors file.
    names : collection of str, optional
        Tensors that are masked. By default the floating ones of two or more axes, but not those
        named as embeddings or positions.
    claimed : Claimed, optional
        Its density and pattern are checked; a speed-up needs the model.
    trace, runs
        As for :func:`diagnose`.

    Returns
    -------
    Diagnosis
        ``density["all"]`` is over all tensors.

    Raises
    ------
    ValueError
        If there is no such tensor.
    """
    weights = {
        name: tensor
        for name, tensor in tensors.items()
        if (name in names if names is not None else _is_matrix(name, tensor))
    }
    if not weights:
        raise ValueError("no weight matrix among the tensors: nothing here could be pruned")
    masks = Masks.from_zeros(weights)
    bad = [name for name, weight in weights.items() if not bool(weight.isfinite().all())]
    found = [
        Finding("NOT_FINITE", "error", 9, "weights are NaN or infinite", layer=name) for name in bad
    ]
    layers = _layers(masks, None, {})
    found += structure_findings(masks, {}, layers)
    total = sum(tensor.numel() for tensor in tensors.values())
    shares = {"prunable": masks.density(), "all": 1 - (masks.numel - masks.nnz) / total}
    claimed = claimed or Claimed()
    found += denominator_findings(shares, claimed.density)
    found += pattern_findings(masks, {}, claimed.pattern)
    made = diagnose_run(trace=trace, runs=runs, masks=masks)
    return Diagnosis(
        findings=_ranked([*found, *made.findings]),
        layers=layers,
        density=shares,
        taxonomy=made.taxonomy,
    )


def structure_findings(
    masks: Masks, axes: Mapping[str, int], layers: Sequence[LayerHealth]
) -> list[Finding]:
    """Find empty layers, dead units, and masks that save nothing on ordinary kernels."""
    found = []
    if masks.density() == 1:
        return [Finding("DENSE", "info", 7, "no weight is zero: this model is dense")]
    for name, mask in masks.items():
        if not mask.numel():
            continue
        if not mask.any():
            words = "no weight is kept: nothing passes"
            found.append(Finding("LAYER_COLLAPSE", "error", 8, words, layer=name))
            continue
        outputs, inputs = dead_units(mask, axis=axes.get(name, 1))
        if outputs or inputs:
            found.append(
                Finding(
                    "DEAD_UNITS",
                    "info",
                    8,
                    f"{outputs} output units keep no weight, {inputs} inputs are read by none",
                    layer=name,
                    evidence={"outputs": outputs, "inputs": inputs},
                )
            )
    loose = [layer.name for layer in layers if layer.granularity == "unstructured"]
    if loose:
        words = (
            f"{len(loose)} of {len(masks)} layers are unstructured: no faster and no smaller in "
            "dense kernels and files; they need a sparse kernel"
        )
        found.append(Finding("NO_STRUCTURE", "info", 2, words, evidence={"layers": loose}))
    return found


def _layers(
    masks: Masks, effective: Masks | None, axes: Mapping[str, int]
) -> tuple[LayerHealth, ...]:
    return tuple(
        LayerHealth(
            name=row.name,
            shape=row.shape,
            density=row.density,
            effective_density=None if effective is None else effective.density(row.name),
            granularity=granularity(masks[row.name], axis=axes.get(row.name, 1)),
        )
        for row in masks.summary()
    )


def _path_findings(model: nn.Module, masks: Masks, effective: Masks, inputs: Any) -> list[Finding]:
    if masks.nnz and not effective.nnz:
        words = "no path of kept weights leads from the input to the output"
        return [Finding("CUT", "error", 8, words, evidence={"kept": masks.nnz})]
    found = []
    collapsed = [n for n, m in effective.items() if masks[n].any() and not m.any()]
    if collapsed:
        # A layer that this call does not run, such as a head for training, is not to blame.
        used = effective_masks(model, Masks.ones(masks), inputs)
        for name in collapsed:
            if used[name].any():
                words = "not one of its kept weights lies on a path from input to output"
                found.append(
                    Finding(
                        "LAYER_COLLAPSE",
                        "error",
                        8,
                        words,
                        layer=name,
                        evidence={"kept": int(masks[name].sum())},
                    )
                )
            else:
                words = "not on the way from these inputs to the output, masked or not"
                found.append(Finding("UNUSED", "info", 8, words, layer=name))
    for name, mask in masks.items():
        kept, inactive = int(mask.sum()), int((mask & ~effective[name]).sum())
        if kept and inactive > _GAP * kept and name not in collapsed:
            found.append(
                Finding(
                    "INEFFECTIVE",
                    "warn",
                    8,
                    f"{inactive} of {kept} kept weights lie on no path: the layer is sparser than "
                    "it says",
                    layer=name,
                    evidence={"kept": kept, "inactive": inactive},
                )
            )
    return found


def _operations(masks: Masks, counted: list[Any]) -> list[Finding]:
    dense, sparse = sum(row.dense for row in counted), sum(row.sparse for row in counted)
    density = masks.density()
    if not dense or abs(sparse / dense - density) <= _OPERATIONS * density:
        return []
    words = (
        f"{density:.1%} of the weights do {sparse / dense:.1%} of the multiply-accumulates: "
        "quote both"
    )
    evidence = {"density": density, "macs_share": sparse / dense}
    return [Finding("FLOPS_NE_PARAMS", "warn", 9, words, evidence=evidence)]


def _speed(
    weights: Mapping[str, Tensor], masks: Masks, axes: Mapping[str, int], said: float
) -> list[Finding]:
    times = layer_times(weights, masks, axes=axes)
    measured = speedup(times)
    if said <= _GUARD * measured:
        return []
    words = (
        f"said to be {said:.3g} times as fast; the best backend here reaches {measured:.2f} "
        f"at a density of {masks.density():.3f}"
    )
    evidence = {"claimed": said, "measured": measured}
    return [Finding("SPEEDUP", "error", 2, words, evidence=evidence)]


def _ranked(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: _RANK[finding.severity]))


def _is_matrix(name: str, tensor: Tensor) -> bool:
    parts = name.lower().split(".")
    is_table = any("embed" in part or part in ("wte", "wpe", "shared") for part in parts)
    return tensor.is_floating_point() and tensor.ndim >= 2 and not is_table
