"""`rarefy handbook [LESSON]`: the lessons that the doctor's findings name."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from rarefy.cli import _console


def handbook(
    lesson: Annotated[
        int | None,
        typer.Argument(metavar="[LESSON]", help="A lesson's number; without it, all of them."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Print ten lessons on what the numbers of a sparse network mean."""
    from rarefy.weights import LESSONS

    if lesson is not None and not 1 <= lesson <= len(LESSONS):
        raise typer.BadParameter(
            f"lesson is {lesson}, 1 to {len(LESSONS)} are there", param_hint="LESSON"
        )
    chosen = LESSONS if lesson is None else LESSONS[lesson - 1 : lesson]
    if json:
        _console.print_json([each._asdict() for each in chosen])
        return
    for each in chosen:
        _console.out.print(Text(f"{each.number}. {each.question}", style="bold"))
        _console.out.print(Text(each.answer + "\n"))
