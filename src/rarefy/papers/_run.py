"""Running a recipe: seeds, then arms, each kept as soon as it is measured; then the verdicts."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import rarefy
from rarefy.evidence import Journal, Measurement, Measurements, Report, environment, judge
from rarefy.evidence.environment import peak_memory_mb, reset_peak_memory
from rarefy.evidence.figures import draw
from rarefy.evidence.journal import Entry
from rarefy.papers._options import resolve
from rarefy.papers._recipe import SCALES, Progress, Recipe, Scale, Trial, silent

REPORTS = Path("rarefy-reports")
"""Where reports go unless told otherwise: a folder for each paper's slug."""


def run(
    recipe: Recipe,
    *,
    scale: Scale = "default",
    seeds: int | None = None,
    device: str = "cpu",
    out: Path | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    on: str | None = None,
) -> Report:
    """Measure a paper's arms, judge its claims and write the report.

    Every finished (arm, seed) is kept at once in ``out/measurements.jsonl``; a run that was stopped
    and is started again with the same settings measures only what is missing, and ends with the
    same numbers.

    Parameters
    ----------
    recipe : Recipe
        The recipe, as `find` returns it.
    scale : {"smoke", "default", "full"}
        How large the trials are.
    seeds : int, optional
        How many seeds, counted from 0; by default what the paper says for the scale.
    device : str
        A torch device.
    out : Path, optional
        The report's folder; by default ``rarefy-reports/SLUG``.
    options : mapping, optional
        The recipe's own options; what is not given keeps its default.
    progress : Progress
        Is told what is being done and how much of the whole is done.
    on : str, optional
        ``"ray"`` or ``"ray://HOST:PORT"`` makes every seed a Ray task; ``None`` runs here.

    Returns
    -------
    Report
        What was also written to ``out``.

    Raises
    ------
    ValueError
        If the scale, the seeds, the device or an option cannot be used.
    ImportError
        If ``on`` asks for Ray and it is not installed.
    """
    paper = recipe.PAPER
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}, expected one of {', '.join(SCALES)}")
    n_seeds = paper.seeds[scale] if seeds is None else seeds
    if n_seeds < 1:
        raise ValueError(f"seeds is {n_seeds}, expected at least 1")
    if on is not None and on != "ray" and not on.startswith("ray://"):
        raise ValueError(f"on is {on!r}, expected 'ray' or 'ray://HOST:PORT'")
    _check_device(device)
    resolved = resolve(recipe, options or {})
    recorded = {name: _plain(value) for name, value in resolved.items()}
    out = REPORTS / paper.slug if out is None else out
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; give a folder for the report")

    header = {"rarefy": rarefy.__version__, "paper": paper.slug, "scale": scale}
    journal = Journal(out / "measurements.jsonl", header | {"device": device, "options": recorded})
    if journal.started:
        progress(journal.started)
    missing = {
        seed: [arm for arm in paper.arms if (arm, seed) not in journal.entries]
        for seed in range(n_seeds)
    }
    missing = {seed: arms for seed, arms in missing.items() if arms}
    measure = _measure_here if on is None else _measure_on_ray
    for entry in measure(recipe, missing, scale, device, resolved, progress, on or ""):
        journal.append(entry)

    progress("judging the claims", 1.0)
    entries = [journal.entries[arm, seed] for seed in range(n_seeds) for arm in paper.arms]
    measurements = Measurements(
        Measurement(e.arm, e.seed, metric, value)
        for e in entries
        for metric, value in e.values.items()
    )
    report = Report(
        number=paper.number,
        slug=paper.slug,
        title=paper.title,
        scale=scale,
        device=device,
        seeds=tuple(range(n_seeds)),
        options=recorded,
        judgements=tuple(judge(claim, measurements) for claim in paper.claims),
        measurements=measurements,
        seconds=math.fsum(e.seconds for e in entries),
        peak_rss_mb=max(e.peak_rss_mb for e in entries),
        environment=environment(),
        figures={"figure.svg": draw(recipe.figure, measurements, name=paper.slug)},
        venue=paper.venue,
        summary=paper.summary,
    )
    report.write(out)
    journal.finish()
    return report


def _measure_here(
    recipe: Recipe,
    missing: Mapping[int, Sequence[str]],
    scale: Scale,
    device: str,
    options: Mapping[str, Any],
    progress: Progress,
    on: str,  # noqa: ARG001
) -> Iterator[Entry]:
    """Measure what is missing in this process, one (arm, seed) after the other."""
    total = sum(map(len, missing.values()))
    done = 0

    def watch(message: str, fraction: float | None = None, /) -> None:
        progress(f"seed {seed}, {message}", (done + min(fraction or 0.0, 1.0)) / total)

    for seed, arms in missing.items():
        trial = Trial(seed, scale, device, watch)
        for entry in _measure_seed(recipe, arms, trial, options):
            yield entry
            done += 1


def _measure_seed(
    recipe: Recipe, arms: Sequence[str], trial: Trial, options: Mapping[str, Any]
) -> Iterator[Entry]:
    """Set one seed up and measure its arms; the first arm's seconds include the setup's."""
    reset_peak_memory()
    start = time.perf_counter()
    trial.progress("setting up")
    shared = recipe.setup(trial, **options)
    for arm in arms:
        trial.progress(arm)
        values = {
            metric: _number(value, f"{recipe.PAPER.slug}: {metric} of {arm}")
            for metric, value in recipe.measure(arm, shared, trial).items()
        }
        now = time.perf_counter()
        yield Entry(arm, trial.seed, values, round(now - start, 3), peak_memory_mb())
        start = time.perf_counter()


def _ray_task(
    module: str, arms: Sequence[str], trial: Trial, options: Mapping[str, Any]
) -> list[Entry]:
    """One seed on a Ray worker, which finds the recipe by its module's name."""
    recipe = cast(Recipe, importlib.import_module(module))
    return list(_measure_seed(recipe, arms, trial, options))


def _measure_on_ray(
    recipe: Recipe,
    missing: Mapping[int, Sequence[str]],
    scale: Scale,
    device: str,
    options: Mapping[str, Any],
    progress: Progress,
    on: str,
) -> Iterator[Entry]:
    """Measure what is missing as one Ray task for each seed; a seed is kept when all of it is."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "running on Ray needs the package ray: pip install 'rarefy[cluster]'"
        ) from error
    ray.init(address=None if on == "ray" else on, log_to_driver=False)
    try:
        task = ray.remote(_ray_task).options(num_gpus=1 if device.startswith("cuda") else 0)
        pending = [
            task.remote(recipe.__name__, arms, Trial(seed, scale, device), options)
            for seed, arms in missing.items()
        ]
        while pending:
            progress(f"{len(pending)} seeds on Ray", 1 - len(pending) / len(missing))
            finished, pending = ray.wait(pending)
            for entries in ray.get(finished):
                yield from entries
    finally:
        ray.shutdown()


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here: {reason}") from error


def _plain(value: Any) -> Any:
    """An option's value in JSON types."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} is {value!r}, expected a number") from error
