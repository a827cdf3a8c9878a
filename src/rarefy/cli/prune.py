"""`rarefy prune [MODEL]`: prune a language model and say what it cost, before and after."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from rarefy.cli import _console
from rarefy.cli._language import SHIPPED, open_language, read_pattern


class Method(StrEnum):
    """Which weights go."""

    magnitude = "magnitude"
    wanda = "wanda"
    sparsegpt = "sparsegpt"


class Refinement(StrEnum):
    """How a mask is repaired."""

    dsnot = "dsnot"


def prune(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="A model folder or hub name; without it, the shipped model."
        ),
    ] = None,
    method: Annotated[
        list[Method] | None,
        typer.Option(help="Which weights go; give it again to compare. [default: wanda]"),
    ] = None,
    refine: Annotated[
        Refinement | None, typer.Option(help="Repair each mask without training.")
    ] = None,
    sparsity: Annotated[
        float | None,
        typer.Option(help="Share of weights to remove from every layer. [default: 0.5]"),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(metavar="N:M", help="Keep N of every M inputs instead.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="TEXT",
            help="A text file or folder; its last fifth is kept back to measure on. Without it, "
            "the standard library: training modules calibrate, held-out ones measure.",
        ),
    ] = None,
    windows: Annotated[int, typer.Option(min=1, help="Calibration windows.")] = 32,
    length: Annotated[
        int | None,
        typer.Option(min=2, help="Tokens a window. [default: the model's context, at most 1024]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the calibration windows.")] = 0,
    device: Annotated[str, typer.Option(help="A torch device, such as cpu or cuda.")] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the pruned model; with several methods, one in it for each."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Prune a language model after training; perplexity before and after, and a folder to keep.

    The folder is written whole or not at all, and opens with AutoModelForCausalLM.from_pretrained.
    """
    methods: list[Any] = [m.value for m in method or [Method.wanda]]
    repair: Any = None if refine is None else refine.value
    nm = None if pattern is None else read_pattern(pattern, option="--pattern")
    if nm is None:
        sparsity = 0.5 if sparsity is None else sparsity
        if not 0 < sparsity < 1:
            raise typer.BadParameter(
                f"sparsity is {sparsity:g}, a share between 0 and 1 is wanted",
                param_hint="--sparsity",
            )
    elif sparsity is not None:
        raise typer.BadParameter("give --sparsity or --pattern, not both", param_hint="--pattern")
    folders = {m: out if out is None or len(methods) == 1 else out / m for m in methods}
    for folder in filter(None, folders.values()):
        if folder.exists():
            raise typer.BadParameter(f"{folder} is already there", param_hint="--out")
        if file := next((parent for parent in folder.parents if parent.is_file()), None):
            raise typer.BadParameter(f"{file} is a file, a folder is wanted", param_hint="--out")

    from rarefy.data import sample_windows
    from rarefy.models import open_model, perplexity
    from rarefy.weights import prune_lm, save_pruned

    def stopped() -> str:
        return "stopped; folders that were finished are kept, nothing half-written is"

    rows: list[dict[str, Any]] = []
    with _console.watching("prune", stopped) as watch:
        watch("opening the model", 0.0)
        language = open_language(model, data=data, length=length, device=device)
        language_model, evaluation = language.model, language.evaluation
        import torch

        generator = torch.Generator().manual_seed(seed)
        calibration = sample_windows(
            language.calibration, language.length, windows, generator=generator
        )
        watch("measuring the dense model", 0.0)
        dense = perplexity(language_model, evaluation)
        for position, name in enumerate(methods):
            if position:
                language_model, _ = open_model(model, device=device)

            def step(
                layer: str, fraction: float, position: int = position, name: str = name
            ) -> None:
                watch(f"{name}: {layer}", (position + fraction) / len(methods))

            pruned = prune_lm(
                language_model,
                calibration,
                method=name,
                sparsity=sparsity if nm is None else None,
                pattern=nm,
                refine=repair,
                gram=name == "sparsegpt",
                progress=step,
            )
            folder = folders[name]
            rows.append(
                {
                    "method": name if repair is None else f"{name}+{repair}",
                    "sparsity": 1 - pruned.masks.density(),
                    "perplexity": perplexity(language_model, evaluation),
                    "out": None if folder is None else str(folder),
                }
            )
            if folder is not None:
                save_pruned(
                    language_model,
                    pruned.masks,
                    folder,
                    tokenizer=language.tokenizer,
                    method=rows[-1]["method"],
                    pattern=pattern,
                    seed=seed,
                )
    if json:
        _console.print_json(
            {
                "model": model or SHIPPED,
                "pattern": pattern,
                "calibration_tokens": calibration.numel(),
                "evaluation_tokens": evaluation.numel(),
                "dense_perplexity": dense,
                "pruned": rows,
            }
        )
    else:
        _print(model, dense, rows, calibration.numel(), evaluation.numel())


def _print(
    model: str | None, dense: float, rows: list[dict[str, Any]], calibration: int, evaluation: int
) -> None:
    from rich.table import Table

    table = Table(title=model or SHIPPED, title_justify="left")
    table.add_column("method")
    table.add_column("sparsity", justify="right")
    table.add_column("perplexity", justify="right")
    table.add_column("times dense", justify="right")
    table.add_row("dense", "0.0 %", f"{dense:.4g}", "1.00")
    for row in rows:
        table.add_row(
            row["method"],
            f"{100 * row['sparsity']:.1f} %",
            f"{row['perplexity']:.4g}",
            f"{row['perplexity'] / dense:.2f}",
        )
    _console.out.print(table)
    _console.out.print(
        f"calibrated on {calibration:,} tokens, measured on {evaluation:,} others", style="dim"
    )
    for row in rows:
        if row["out"] is not None:
            _console.out.print(f"{row['method']} written to {row['out']}", soft_wrap=True)
