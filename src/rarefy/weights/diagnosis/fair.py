"""Whether runs may stand in one table, and the dense network a sparse one must be compared with.

Source: Liu and Wang 2023, lessons 1, 3, 4, 6 and 10. Departures: the checks are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from torch import nn

from rarefy.weights.diagnosis.findings import Finding, Severity
from rarefy.weights.macs import count_macs
from rarefy.weights.select import select

MIN_SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class RunCard:
    """What must be known of a run before its figure is compared with another's.

    Parameters
    ----------
    name : str
    data, split, metric : str
        Equal where data, split and metric are equal; a hash will do.
    steps, batch : int
        Training after the starting point.
    pretrained_steps : int, default 0
        Training of the network the run began with.
    density : float, default 1.0
        At the end.
    peak_density : float, optional
        The highest on the way; ``density`` by default.
    denominator : {"prunable", "all", "no_embedding"}, default "prunable"
    seeds : int, default 1
    tuned : int, default 1
        Settings (learning rates and the like) that were tried.
    selected_on : {"nothing", "train", "validation", "test"}, default "nothing"
        What the reported checkpoint or setting was chosen on.
    augmentation : str, default ""
        Of the data.
    schedule : str, default ""
        Of the learning rate.
    value : float, optional
        What was reached in the metric, the mean over seeds.
    interval : float, optional
        Half the width of its 95 % interval over seeds.

    Raises
    ------
    ValueError
        If a number is out of range or no number, or a choice is unknown.
    """

    name: str
    data: str
    split: str
    metric: str
    steps: int
    batch: int
    pretrained_steps: int = 0
    density: float = 1.0
    peak_density: float | None = None
    denominator: Literal["prunable", "all", "no_embedding"] = "prunable"
    seeds: int = 1
    tuned: int = 1
    selected_on: Literal["nothing", "train", "validation", "test"] = "nothing"
    augmentation: str = ""
    schedule: str = ""
    value: float | None = None
    interval: float | None = None

    def __post_init__(self) -> None:
        for field in ("name", "data", "split", "metric", "augmentation", "schedule"):
            if not isinstance(getattr(self, field), str):
                raise ValueError(f"{field} must be a string, got {getattr(self, field)!r}")
        for field in ("steps", "batch", "pretrained_steps", "seeds", "tuned"):
            count = getattr(self, field)
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ValueError(f"{field} must be a whole number from 0, got {count!r}")
        for field in ("density", "peak_density"):
            share = getattr(self, field)
            if field == "peak_density" and share is None:
                continue
            if not isinstance(share, int | float) or not 0 <= share <= 1:  # also true for NaN
                raise ValueError(f"{field} must be a number in [0, 1], got {share!r}")
        for field, least in (("value", -math.inf), ("interval", 0.0)):
            number = getattr(self, field)
            if number is not None and not (
                isinstance(number, int | float) and least <= number < math.inf
            ):
                raise ValueError(
                    f"{field} must be a finite number{'' if field == 'value' else ' from 0'}, "
                    f"got {number!r}"
                )
        for field, known in (
            ("denominator", ("prunable", "all", "no_embedding")),
            ("selected_on", ("nothing", "train", "validation", "test")),
        ):
            if getattr(self, field) not in known:
                raise ValueError(
                    f"{field} must be one of {', '.join(known)}, got {getattr(self, field)!r}"
                )

    @property
    def peak(self) -> float:
        """Highest density on the way."""
        return self.density if self.peak_density is None else self.peak_density


# attribute, code, severity, lesson, what differs
_EQUAL: tuple[tuple[str, str, Severity, int, str], ...] = (
    ("data", "UNEQUAL_DATA", "error", 10, "the data differ"),
    ("split", "UNEQUAL_DATA", "error", 10, "the splits differ"),
    ("metric", "UNEQUAL_METRIC", "error", 10, "the metrics differ"),
    ("denominator", "DENOMINATOR", "error", 7, "the densities have different denominators"),
    ("steps", "UNEQUAL_STEPS", "error", 10, "they trained for unequal numbers of steps"),
    ("batch", "UNEQUAL_STEPS", "error", 10, "the batches differ in size"),
    ("augmentation", "UNEQUAL_DATA", "warn", 10, "the augmentations differ"),
    ("schedule", "UNEQUAL_SCHEDULE", "warn", 10, "the learning rates have different schedules"),
    ("tuned", "UNEQUAL_TUNING", "warn", 10, "they were tuned unequally"),
)


def comparable(runs: Sequence[RunCard]) -> list[Finding]:
    """Say what speaks against putting runs into one table.

    Parameters
    ----------
    runs : sequence of RunCard

    Returns
    -------
    list of Finding
        Empty if nothing does. ``UNEQUAL_DATA``, ``UNEQUAL_METRIC``, ``UNEQUAL_STEPS``,
        ``UNEQUAL_SCHEDULE``, ``UNEQUAL_TUNING``, ``DENOMINATOR``, ``PRETRAINED``,
        ``PEAK_DENSITY``, ``ONE_SEED``, ``FEW_SEEDS``, ``NO_INTERVAL``, ``WITHIN_NOISE``,
        ``TEST_SELECTION``.

    Raises
    ------
    ValueError
        If two runs have one name.

    Examples
    --------
    >>> card = dict(data="d", split="s", metric="accuracy", batch=64, seeds=3)
    >>> [f.code for f in comparable([RunCard(name="dense", steps=100, **card),
    ...                              RunCard(name="sparse", steps=300, **card)])]
    ['UNEQUAL_STEPS']
    """
    names = [run.name for run in runs]
    if len(set(names)) != len(names):
        raise ValueError(f"each run needs a name of its own, got {names}")
    found = []
    for attribute, code, severity, lesson, words in _EQUAL:
        values = _by_run(runs, attrgetter(attribute))
        if len(set(values.values())) > 1:
            found.append(
                Finding(code, severity, lesson, f"{words}: {_list(values)}", evidence=values)
            )
    starts = _by_run(runs, attrgetter("pretrained_steps"))
    if len({bool(steps) for steps in starts.values()}) > 1:
        words = f"some start from a trained network and some from scratch: {_list(starts)} steps"
        found.append(Finding("PRETRAINED", "error", 6, words, evidence=starts))
    found += _peaks(runs)
    for run in runs:
        if run.seeds < MIN_SEEDS:
            single = run.seeds <= 1
            found.append(
                Finding(
                    "ONE_SEED" if single else "FEW_SEEDS",
                    "error" if single else "warn",
                    10,
                    f"{run.name}: {run.seeds} {'seed gives no' if single else 'seeds give a wide'} "
                    f"interval; {MIN_SEEDS} are the least",
                    evidence={"seeds": run.seeds},
                )
            )
        elif run.value is not None and run.interval is None:
            words = f"{run.name}: {run.value:.4g} is given without an interval over its seeds"
            found.append(Finding("NO_INTERVAL", "warn", 10, words, evidence={"value": run.value}))
        if run.selected_on == "test":
            words = f"{run.name}: its setting or checkpoint was chosen on the test set"
            found.append(Finding("TEST_SELECTION", "error", 10, words))
    return found + _within_noise(runs)


def _within_noise(runs: Sequence[RunCard]) -> list[Finding]:
    """Runs no further from the first than their intervals, taken as independent, explain."""
    if not runs or runs[0].value is None or runs[0].interval is None:
        return []
    first, value, interval = runs[0].name, runs[0].value, runs[0].interval
    found = []
    for run in runs[1:]:
        if run.value is None or run.interval is None:
            continue
        apart, noise = abs(run.value - value), math.hypot(run.interval, interval)
        if apart <= noise:
            words = (
                f"{first} and {run.name} differ by {apart:.3g}, which their intervals explain "
                f"(to {noise:.3g}): say that they are level"
            )
            evidence = {"difference": apart, "noise": noise}
            found.append(Finding("WITHIN_NOISE", "warn", 10, words, evidence=evidence))
    return found


def _peaks(runs: Sequence[RunCard]) -> list[Finding]:
    sparse = [run for run in runs if run.density < 1]
    peaks = _by_run(sparse, attrgetter("peak"))
    from_sparse = {run.peak <= 1.1 * run.density + 0.02 for run in sparse}
    if len(from_sparse) < 2:
        return []
    words = f"some were denser while they trained, so their training cost more: {_list(peaks)}"
    return [Finding("PEAK_DENSITY", "warn", 4, words, evidence=peaks)]


def _by_run(runs: Sequence[RunCard], of: Callable[[RunCard], Any]) -> dict[str, Hashable]:
    return {run.name: of(run) for run in runs}


def _list(values: dict[str, Hashable]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def matched_width(
    build: Callable[[int], nn.Module], budget: int, *, low: int, high: int, inputs: Any = None
) -> int:
    """Find the widest dense network that has, or does, no more than a sparse one.

    Parameters
    ----------
    build : callable ``width -> nn.Module``
        Its weights must grow with the width.
    budget : int
        Prunable weights that the sparse network keeps; with ``inputs``, its multiply-accumulates.
    low, high : int
        Widths to look between, both included.
    inputs : Tensor, tuple of positional or dict of keyword arguments, optional
        What the networks are called with. The budget is then of multiply-accumulates, in which
        convolutions count once a pixel (:func:`rarefy.weights.count_macs`).

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If even ``low`` has more.

    Examples
    --------
    >>> matched_width(lambda width: nn.Linear(width, 10), 64, low=1, high=50)
    6
    >>> import torch
    >>> pixels = torch.ones(1, 1, 8, 8)
    >>> matched_width(lambda width: nn.Conv2d(1, width, 1), 640, low=1, high=50, inputs=pixels)
    10
    """

    def size(width: int) -> int:
        network = build(width)
        if inputs is not None:
            return sum(row.dense for row in count_macs(network, inputs))
        return sum(weight.numel() for weight in select(network).values())

    if size(low) > budget:
        what = "weights" if inputs is None else "multiply-accumulates"
        raise ValueError(
            f"a width of {low} has {size(low)} {what} already, more than {budget}: "
            "no dense network is as small"
        )
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(middle) <= budget else (low, middle - 1)
    return low
