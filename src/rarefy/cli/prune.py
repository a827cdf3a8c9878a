"""`rarefy prune [MODEL]`: prune a language model and say what it cost, before and after."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rarefy.cli import _console

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from rarefy.operators import NM

EVALUATION_SHARE = 0.2
"""Share of the user's text, at its end, that is kept back to measure perplexity on."""


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
    nm = None if pattern is None else _pattern(pattern)
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
    for folder in folders.values():
        if folder is not None and folder.exists():
            raise typer.BadParameter(f"{folder} is already there", param_hint="--out")

    from rarefy.data import sample_windows
    from rarefy.models import open_model, perplexity
    from rarefy.weights import prune_lm, save_pruned

    def stopped() -> str:
        return "stopped; folders that were finished are kept, nothing half-written is"

    rows: list[dict[str, Any]] = []
    with _console.watching("prune", stopped) as watch:
        watch("opening the model", 0.0)
        language_model, tokenizer = open_model(model, device=device)
        context = getattr(language_model.config, "max_position_embeddings", 1024)
        length = min(context, 1024) if length is None else length
        if length > context:
            raise ValueError(f"--length {length} is longer than the model's context of {context}")
        calibration, evaluation = _text(data, tokenizer, length)
        import torch

        generator = torch.Generator().manual_seed(seed)
        calibration = sample_windows(calibration, length, windows, generator=generator)
        watch("measuring the dense model", 0.0)
        dense = perplexity(language_model, evaluation)
        for position, name in enumerate(methods):
            if position:
                language_model, tokenizer = open_model(model, device=device)

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
                    tokenizer=tokenizer,
                    method=rows[-1]["method"],
                    pattern=pattern,
                    seed=seed,
                )
    if json:
        _console.print_json(
            {
                "model": model or "the shipped code model",
                "pattern": pattern,
                "calibration_tokens": calibration.numel(),
                "evaluation_tokens": evaluation.numel(),
                "dense_perplexity": dense,
                "pruned": rows,
            }
        )
    else:
        _print(model, dense, rows, calibration.numel(), evaluation.numel())


def _pattern(text: str) -> NM:
    from rarefy.operators import NM

    numbers = text.split(":")
    try:
        n, m = map(int, numbers)
        return NM(n, m)
    except ValueError as error:
        reason = str(error) if len(numbers) == 2 and all(map(str.isdigit, numbers)) else ""
        raise typer.BadParameter(
            reason or f"{text!r} is no pattern: N:M such as 2:4 is wanted", param_hint="--pattern"
        ) from error


def _text(
    path: Path | None, tokenizer: PreTrainedTokenizerBase, length: int
) -> tuple[Tensor, Tensor]:
    """Token stream to calibrate on, and windows to measure on, which it does not hold."""
    from rarefy.data import encode, modules, read_documents, windows

    if path is None:
        training = [module.read() for module in modules("train", tests=False)[::12]]
        held_out = [module.read() for module in modules("heldout", tests=False)]
        calibration, evaluation = encode(tokenizer, training), encode(tokenizer, held_out)
    else:
        tokens = encode(tokenizer, read_documents(path))
        kept_back = max(length, round(EVALUATION_SHARE * len(tokens)))
        if len(tokens) < 2 * length:
            raise ValueError(
                f"{path} has {len(tokens)} tokens: two windows of {length}, one to calibrate and "
                "one to measure on, are the least; give more text or a shorter --length"
            )
        calibration, evaluation = tokens[:-kept_back], tokens[-kept_back:]
    return calibration, windows(evaluation, length, limit=32)


def _print(
    model: str | None, dense: float, rows: list[dict[str, Any]], calibration: int, evaluation: int
) -> None:
    from rich.table import Table

    table = Table(title=model or "the shipped code model", title_justify="left")
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
