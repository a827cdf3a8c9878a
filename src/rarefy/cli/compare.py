"""`rarefy compare weights [MODEL]`: methods side by side at several sparsities, and their cost."""

from __future__ import annotations

import json as json_
import math
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import rarefy
from rarefy.cli import _console
from rarefy.cli._language import SHIPPED, open_language, read_pattern
from rarefy.evidence.environment import peak_memory_mb
from rarefy.evidence.files import write_whole
from rarefy.evidence.journal import Entry, Journal
from rarefy.papers import REPORTS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rarefy.weights import Comparison, Method, Point

app = typer.Typer(
    help="Compare methods on one model, side by side, with what each costs.",
    no_args_is_help=True,
)

_SEED_OF_BATCHES = 1
"""Added to the seed, so that training does not see the calibration windows again."""


@app.callback()
def _group() -> None:
    """Compare methods on one model, side by side, with what each costs."""


class Allocation(StrEnum):
    """How random masks spread their budget over the tensors."""

    erk = "erk"
    uniform = "uniform"


@app.command("weights")
def weights(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="A model folder or hub name; without it, the shipped model."
        ),
    ] = None,
    methods: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="random, magnitude (of each tensor), global (of all), wanda, sparsegpt; each of "
            "the last but global with +dsnot; each with +finetune, +set or +rigl behind it; "
            "gradual, set and rigl alone as well.",
        ),
    ] = "magnitude,wanda,wanda+dsnot,sparsegpt",
    sparsity: Annotated[
        str,
        typer.Option(
            metavar="S,S,...", help="Shares of weights to remove, and patterns such as 2:4."
        ),
    ] = "0.5,0.8,0.9,0.95",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="TEXT",
            help="A text file or folder; its last fifth is kept back to measure on. Without it, "
            "the standard library: training modules calibrate and train, held-out ones measure.",
        ),
    ] = None,
    windows: Annotated[int, typer.Option(min=1, help="Calibration windows.")] = 32,
    length: Annotated[
        int | None,
        typer.Option(min=2, help="Tokens a window. [default: the model's context, at most 1024]"),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of methods that train.")] = 50,
    batch: Annotated[int, typer.Option(min=1, help="Windows a training step.")] = 2,
    lr: Annotated[
        float, typer.Option(help="Learning rate of the first step; it falls to 0.")
    ] = 5e-4,
    allocation: Annotated[
        Allocation, typer.Option(help="How random masks spread their budget.")
    ] = Allocation.erk,
    seed: Annotated[int, typer.Option(help="Draws windows, random masks and batches.")] = 0,
    device: Annotated[str, typer.Option(help="A torch device, such as cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder of the picture and the numbers.")] = REPORTS
    / "compare-weights",
    json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Prune a language model by several methods at several sparsities; one table, one picture.

    Every finished point is kept at once: after Ctrl-C the same command goes on, also with other
    methods or sparsities.
    """
    wanted = _methods(methods)
    targets = [_target(word) for word in _words(sparsity)]
    if not lr > 0:
        raise typer.BadParameter(f"lr is {lr:g}, above 0 is wanted", param_hint="--lr")
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file, a folder is wanted", param_hint="--out")

    def stopped() -> str:
        return (
            f"stopped; {len(kept)} points are kept in {path}, and the same "
            "command goes on from there"
        )

    path = out / "points.jsonl"
    kept: list[Point] = []
    with _console.watching("compare", stopped) as watch:
        watch("opening the model", 0.0)
        language = open_language(model, data=data, length=length, device=device)
        import torch

        from rarefy.budget import ErdosRenyiKernel, Uniform
        from rarefy.data import sample_windows
        from rarefy.models import perplexity
        from rarefy.weights import block_weights, compare

        settings = {
            "model": model or SHIPPED,
            "data": None if data is None else str(data),
            "length": language.length,
            "windows": windows,
            "steps": steps,
            "batch": batch,
            "lr": lr,
            "allocation": allocation.value,
            "seed": seed,
            "device": device,
        }

        def draw(count: int, seed: int) -> torch.Tensor:
            generator = torch.Generator().manual_seed(seed)
            return sample_windows(language.calibration, language.length, count, generator=generator)

        @cache
        def journal() -> Journal:
            opened = Journal(path, {"rarefy": rarefy.__version__, "compare": "weights"} | settings)
            if opened.started:
                watch(opened.started)
            return opened

        def keep(point: Point) -> None:
            journal().append(_entry(point, seed))
            kept.append(point)

        # A new one is begun by the first point: a request that is refused leaves nothing.
        if path.exists():
            kept.extend(map(_point, journal().entries.values()))
        found = compare(
            language.model,
            wanted,
            targets,
            evaluate=lambda m: perplexity(m, language.evaluation),
            weights=block_weights,
            allocation=ErdosRenyiKernel() if allocation is Allocation.erk else Uniform(),
            calibration=draw(windows, seed),
            data=draw(steps * batch, seed + _SEED_OF_BATCHES).to(device).split(batch),
            loss=_loss,
            finetune_steps=steps,
            lr=lr,
            inputs={"input_ids": language.evaluation[:1].to(device), "use_cache": False},
            seed=seed,
            known=tuple(kept),
            on_point=keep,
            progress=watch,
        )
    picture = found.svg(metric="perplexity on held-out text", log=True)
    write_whole(out / "compare.svg", picture)
    record = settings | {
        "metric": "perplexity",
        "evaluation_tokens": language.evaluation.numel(),
        "points": found.to_json(),
        "figure": str(out / "compare.svg"),
    }
    write_whole(out / "compare.json", json_.dumps(record, indent=1, allow_nan=False) + "\n")
    journal().finish()
    if json:
        _console.print_json(record)
    else:
        _print(model or SHIPPED, found)
        _console.out.print(
            f"measured on {language.evaluation.numel():,} held-out tokens; picture: "
            f"{out / 'compare.svg'}",
            style="dim",
            soft_wrap=True,
        )


def _loss(model: nn.Module, ids: Tensor) -> Tensor:
    """Mean loss over the predicted tokens, for any head."""
    from torch.nn.functional import cross_entropy

    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _methods(text: str) -> list[Method]:
    from rarefy.weights import Method

    try:
        return [Method.parse(word) for word in _words(text)]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--methods") from error


def _target(word: str) -> Any:
    if ":" in word:
        return read_pattern(word, option="--sparsity")
    try:
        share = float(word)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise typer.BadParameter(
            f"sparsity is {word}, a share between 0 and 1 or a pattern such as 2:4 is wanted",
            param_hint="--sparsity",
        )
    return share


def _entry(point: Point, seed: int) -> Entry:
    """Write a point as a line of a journal, which keeps numbers by arm and seed."""
    numbers = ("sparsity", "value", "training_density", "macs", "mask_seconds", "train_seconds")
    values = {name: getattr(point, name) for name in numbers}
    return Entry(
        f"{point.method} at {point.target}",
        seed,
        {name: value for name, value in values.items() if value is not None},
        point.mask_seconds + point.train_seconds,
        peak_memory_mb(),
    )


def _point(entry: Entry) -> Point:
    from rarefy.weights import Point

    method, _, target = entry.arm.rpartition(" at ")
    absent = {"training_density": None, "macs": None}
    return Point(method=method, target=target, **(absent | entry.values))  # type: ignore[arg-type]


def _print(name: str, found: Comparison) -> None:
    """One line a method, one column a sparsity, and what it cost, on average over them."""
    from rich.table import Table
    from rich.text import Text

    by_key = {(point.method, point.target): point for point in found.points}
    table = Table(title=f"{name}: perplexity", title_justify="left")
    table.add_column("method")
    for target in found.targets:
        table.add_column(target, justify="right")
    table.add_column("mask", justify="right")
    table.add_column("training", justify="right")
    best = {
        target: min((p.value for p in found.points if p.target == target), default=math.nan)
        for target in found.targets
    }
    for method in found.methods:
        points = [point for point in found.points if point.method == method]
        reference = by_key.get((method, "0"))
        cells = []
        for target in found.targets:
            value = (reference or by_key[method, target]).value
            bold = reference is None and value == best[target]
            cells.append(Text(f"{value:.4g}", style="bold" if bold else ""))
        mask = sum(point.mask_seconds for point in points) / len(points)
        training = sum(point.train_seconds for point in points) / len(points)
        table.add_row(
            method,
            *cells,
            f"{mask:.3g} s" if reference is None else "",
            f"{training:.3g} s" if training else "",
        )
    _console.out.print(table)
