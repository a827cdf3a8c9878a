"""Standard output, standard error, and progress: what every verb shares."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from rarefy.papers import Recipe, find

# soft_wrap and highlight are off where text is a path or a command that people copy.
out = Console(highlight=False)
err = Console(highlight=False, stderr=True)

_SILENT_SECONDS = 2.0
_SECONDS_BETWEEN_LINES = 5.0

Watch = Callable[..., None]


def fail(error: Exception) -> None:
    """Say on standard error what went wrong, in one sentence."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    err.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


def note(message: str) -> None:
    """Say something on standard error."""
    err.print(Text(message, style="dim"), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print JSON, and nothing else, on standard output."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def recipe(name: str) -> Recipe:
    """Find a paper by slug or number; an unknown one is bad usage."""
    try:
        return find(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="PAPER") from error


@contextmanager
def watching(label: str, stopped: Callable[[], str]) -> Iterator[Watch]:
    """Show progress on standard error while the block runs.

    The block calls what it is given as ``watch(message, fraction)``; a message without a fraction
    stays on the screen. A terminal gets a bar, a file or pipe a line now and then.

    Parameters
    ----------
    label : str
        What is being worked on.
    stopped : callable
        Says, after Ctrl-C, what is saved and how to go on; the exit status is then 130.
    """
    try:
        with _bar(label) if err.is_terminal else _lines(label) as watch:
            yield watch
    except KeyboardInterrupt:
        note(stopped())
        raise typer.Exit(130) from None


@contextmanager
def _bar(label: str) -> Iterator[Watch]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("[bold]{task.fields[label]}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=1.0, label=label)

        def watch(message: str, fraction: float | None = None, /) -> None:
            if fraction is None:
                note(message)
            else:
                bar.update(task, description=message, completed=fraction)

        yield watch


@contextmanager
def _lines(label: str) -> Iterator[Watch]:
    due = time.monotonic() + _SILENT_SECONDS

    def watch(message: str, fraction: float | None = None, /) -> None:
        nonlocal due
        if fraction is None:
            note(message)
        elif time.monotonic() >= due:
            note(f"{label} {100 * fraction:3.0f} % {message}")
            due = time.monotonic() + _SECONDS_BETWEEN_LINES

    yield watch
