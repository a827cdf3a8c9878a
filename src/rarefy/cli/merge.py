"""`rarefy merge BASE TUNED OUT`: the largest updates of a tuned model, added to its base."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from rarefy.cli import _console


class Scope(StrEnum):
    """Where updates are ranked."""

    whole = "global"
    tensor = "tensor"


def merge(
    base: Annotated[Path, typer.Argument(help="Folder of the model that was tuned.")],
    tuned: Annotated[Path, typer.Argument(help="Folder of what it became.")],
    out: Annotated[Path, typer.Argument(help="Folder for the merged model.")],
    keep: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the updates to keep: the largest.")
    ] = 0.25,
    scale: Annotated[float, typer.Option(min=0, help="What is kept of a kept update.")] = 0.7,
    scope: Annotated[
        Scope, typer.Option(help="Rank updates over the whole model, or within each tensor.")
    ] = Scope.whole,
) -> None:
    """Merge a fine-tuned model into its base: a quarter of its updates, at seven tenths.

    For a tuning that gained what was asked of it and lost something elsewhere. No training, no
    data. The folder is written whole or not at all, and opens with from_pretrained.
    """
    for folder, name in ((base, "BASE"), (tuned, "TUNED")):
        if not folder.is_dir():
            raise typer.BadParameter(f"{folder} is no folder", param_hint=name)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise typer.BadParameter(f"{out} is already there", param_hint="OUT")

    from rarefy.weights.merge import merge_folders

    ranked: Any = scope.value
    merge_folders(base, tuned, out, keep=keep, scale=scale, scope=ranked)
    _console.out.print(f"merged model written to {out}", soft_wrap=True)
