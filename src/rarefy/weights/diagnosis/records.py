"""What a run leaves behind, its trace and its configuration, and whether they tell the same story.

    cost share  = sum_t (t_i+1 - t_i) kept_i / (T numel),    equal-cost steps = steps / cost share

A configuration is a JSON file with one :class:`RunCard`, or with a list of them, by field name. Of
several, the first is of the run that left the trace; the others are those it is compared with.

Source: Liu and Wang 2023, lessons 3 to 7 and 10. Departures: the checks and the files are ours.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from rarefy.weights.diagnosis.fair import RunCard
from rarefy.weights.diagnosis.findings import Finding
from rarefy.weights.diagnosis.trace import SparsityTrace
from rarefy.weights.masks import Masks

_POINTS = 0.02
"""Difference of two densities from which one of them is wrong."""


def read_runs(path: str | os.PathLike[str]) -> list[RunCard]:
    """Read the configuration of one run or of several.

    Parameters
    ----------
    path : path
        JSON: an object with the fields of :class:`RunCard`, or a list of such.

    Returns
    -------
    list of RunCard

    Raises
    ------
    ValueError
        If it is no such file; the sentence names the run and the field.
    """
    file = os.fspath(path)
    try:
        read = json.loads(Path(path).read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no readable JSON: {error}") from error
    runs = read if isinstance(read, list) else [read]
    if not runs:
        raise ValueError(f"{file} describes no run")
    return [_card(run, f"run {number} of {file}") for number, run in enumerate(runs, 1)]


def _card(run: Any, where: str) -> RunCard:
    fields = dataclasses.fields(RunCard)
    known = [field.name for field in fields]
    if not isinstance(run, dict):
        raise ValueError(f"{where} must be an object with {', '.join(known)}")
    wanted = [field.name for field in fields if field.default is dataclasses.MISSING]
    if missing := [name for name in wanted if name not in run]:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    if unknown := [name for name in run if name not in known]:
        raise ValueError(f"{where} has {', '.join(unknown)}, which is none of {', '.join(known)}")
    try:
        return RunCard(**run)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def trace_findings(
    trace: SparsityTrace, *, masks: Masks | None = None, card: RunCard | None = None
) -> list[Finding]:
    """Check a trace against the model it should have led to, and against what is said of the run.

    Parameters
    ----------
    trace : SparsityTrace
    masks : Masks, optional
        Of the model.
    card : RunCard, optional
        Of the run.

    Returns
    -------
    list of Finding
        ``TRAINING_COST`` (an info: what the run cost, and how many steps would cost what the dense
        one does), ``OTHER_MODEL``, ``DENSITY_ON_RECORD``, ``PEAK_ON_RECORD``, ``STEPS_ON_RECORD``,
        ``START_ON_RECORD``.

    Raises
    ------
    ValueError
        If the trace is empty.
    """
    share, kind = trace.training_share(), trace.classify()
    words = f"{kind.path}, {kind.topology} masks: {share:.1%} of a dense training's operations"
    if share and kind.path != "post-training":
        words += f" in as many steps, so {1 / share:.3g} times the steps cost the same"
    evidence = {"training_share": share, "coverage": trace.coverage}
    found = [Finding("TRAINING_COST", "info", 3, words, evidence=evidence)]
    if masks is not None:
        found += _against_model(trace, masks)
    return found if card is None else found + _against_card(trace, card)


def _against_model(trace: SparsityTrace, masks: Masks) -> list[Finding]:
    last = trace.kept[-1]
    fitting = [name for name in last if name in masks and masks[name].numel() == trace.numel[name]]
    if not fitting:
        words = "none of the tensors of the trace is in the model: it is of another run"
        return [Finding("OTHER_MODEL", "error", 7, words)]
    found = []
    for name in fitting:
        recorded, measured = last[name] / max(trace.numel[name], 1), masks.density(name)
        if abs(recorded - measured) > _POINTS:
            words = f"the trace ends at a density of {recorded:.3f}, the model has {measured:.3f}"
            evidence = {"trace": recorded, "model": measured}
            found.append(Finding("OTHER_MODEL", "error", 7, words, name, evidence))
    return found


def _against_card(trace: SparsityTrace, card: RunCard) -> list[Finding]:
    found = []

    def differs(code: str, lesson: int, what: str, said: float, recorded: float) -> None:
        words = f"{card.name}: said to have {what} {said:.4g}, the trace has {recorded:.4g}"
        evidence = {"said": said, "trace": recorded}
        found.append(Finding(code, "error", lesson, words, evidence=evidence))

    final, peak = trace.densities[-1], max(trace.densities)
    if card.denominator == "prunable" and abs(card.density - final) > _POINTS:
        differs("DENSITY_ON_RECORD", 7, "a density of", card.density, final)
    if card.denominator == "prunable" and peak - card.peak > _POINTS:
        differs("PEAK_ON_RECORD", 4, "been no denser on the way than", card.peak, peak)
    if trace.steps[-1] != card.steps:
        differs("STEPS_ON_RECORD", 10, "trained for steps:", card.steps, trace.steps[-1])
    if bool(card.pretrained_steps) != bool(trace.pretrained_steps):
        differs(
            "START_ON_RECORD",
            6,
            "begun with a network trained for steps:",
            card.pretrained_steps,
            trace.pretrained_steps,
        )
    return found
