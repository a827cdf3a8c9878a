"""`rarefy doctor MODEL`: look a sparse model over, and say what its numbers mean."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rarefy.cli import _console

if TYPE_CHECKING:
    from rarefy.weights import Claimed, Diagnosis, Finding

_NAMED = 3
"""Layers that are named for one kind of finding; the rest are counted."""


def doctor(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A model folder, a hub name, or a safetensors file; without it, the shipped "
            "model.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Examine a model's sparsity: what is zero, what still acts, and what that is worth.

    A folder is opened and its paths are traced; of a bare safetensors file only the weights can be
    looked at. Exit status 1 if an error is found.
    """
    with _console.watching("doctor", lambda: "stopped; nothing was changed") as watch:
        watch("opening", 0.0)
        found = _of_file(Path(model)) if model and Path(model).is_file() else _of_folder(model)
    if json:
        _console.print_json({"model": model or "the shipped code model"} | found.to_json())
    else:
        _print(model or "the shipped code model", found)
    if not found.ok:
        raise typer.Exit(1)


def _of_file(path: Path) -> Diagnosis:
    from rarefy.weights import diagnose_tensors, load_sparse
    from rarefy.data.files import load_tensors

    tensors, metadata = load_tensors(path)
    said = json_.loads(metadata.get("rarefy", "{}"))
    if "packed" in metadata:
        tensors = load_sparse(path)
    return diagnose_tensors(tensors, names=said.get("layers"), claimed=_claimed(said))


def _of_folder(model: str | None) -> Diagnosis:
    from rarefy.models import example_inputs, open_network
    from rarefy.weights import Masks, diagnose

    network = open_network(model)
    record = Path(model or "") / "rarefy.json"
    said = json_.loads(record.read_text("utf-8")) if model and record.is_file() else {}
    parameters = dict(network.named_parameters())
    layers = {n: parameters[n] for n in said.get("layers", ()) if n in parameters}
    masks = Masks.from_zeros(layers or network)
    inputs = example_inputs(network)
    try:
        return diagnose(network, masks, inputs=inputs, claimed=_claimed(said))
    except (ValueError, RuntimeError, TypeError) as error:
        if inputs is None:
            raise
        # Whatever a strange architecture does, its weights can still be looked at.
        _console.note(f"paths and operations are left out: {error}")
        return diagnose(network, masks, claimed=_claimed(said))


def _claimed(said: dict[str, Any]) -> Claimed:
    """What rarefy wrote beside the weights when it saved them."""
    from rarefy.operators import NM
    from rarefy.weights import Claimed

    pattern = said.get("pattern")
    n_m = None if pattern is None else NM(*map(int, str(pattern).split(":")))
    return Claimed(density=said.get("density"), pattern=n_m)


def _print(name: str, found: Diagnosis) -> None:
    from rich.table import Table
    from rich.text import Text

    from rarefy.weights import LESSONS

    words = {
        "prunable": "of the prunable weights",
        "all": "of all parameters",
        "no_embedding": "of all but embeddings",
    }
    table = Table(title=name, title_justify="left", show_header=False, box=None)
    for key, share in found.density.items():
        table.add_row("kept", words[key], f"{share:.2%}")
    if found.effective_density is not None:
        table.add_row("effective", words["prunable"], f"{found.effective_density:.2%}")
    if found.macs_share is not None:
        table.add_row("operations", "of the dense multiply-accumulates", f"{found.macs_share:.2%}")
    structures = sorted({layer.granularity for layer in found.layers})
    table.add_row("structure", f"{len(found.layers)} layers", ", ".join(structures))
    _console.out.print(table)
    colours = {"error": "bold red", "warn": "yellow", "info": "dim"}
    for finding, layers in _grouped(found.findings):
        where = f" ({', '.join(layers)})" if layers else ""
        _console.out.print(
            Text.assemble(
                (f"{finding.severity:5}", colours[finding.severity]),
                f" {finding.code}: {finding.message}{where}",
                (f" [lesson {finding.lesson}]", "dim"),
            )
        )
    for number in sorted({finding.lesson for finding in found.findings}):
        lesson = LESSONS[number - 1]
        _console.out.print()
        _console.out.print(Text(f"Lesson {number}: {lesson.question}", style="bold"))
        _console.out.print(Text(lesson.answer))


def _grouped(findings: tuple[Finding, ...]) -> list[tuple[Finding, list[str]]]:
    """One line a kind: the first finding, and the layers it was made in."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.code, finding.severity), []).append(finding)
    lines = []
    for group in groups.values():
        layers = [finding.layer for finding in group if finding.layer]
        rest = len(layers) - _NAMED
        named = layers[:_NAMED] + ([f"{rest} more layers with their own"] if rest > 0 else [])
        lines.append((group[0], named))
    return lines
