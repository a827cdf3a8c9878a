"""`rarefy tasks`: the verifiable problems as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rarefy.cli import _console

app = typer.Typer(no_args_is_help=True, help="Verifiable problems, with answers, as files.")


@app.callback()
def _tasks() -> None:
    """Verifiable problems, with answers, as files."""


@app.command("export")
def export(
    out: Annotated[Path, typer.Option(help="Folder for the files; made if need be.")],
    tasks: Annotated[
        str, typer.Option(metavar="all|NAME,...", help="Which of the 42 tasks.")
    ] = "all",
    per_level: Annotated[int, typer.Option(min=1, help="Problems of each level and task.")] = 6,
    images: Annotated[bool, typer.Option(help="Draw each problem too, as PNG.")] = True,
    seed: Annotated[int, typer.Option(help="Draws the problems.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Write the long-chain tasks of MM-HELIX as JSON lines, and an image of each problem.

    A line has id, task, category, level, prompt, answer, state and image. With all tasks and six
    problems of each level it is a set of 1,260.
    """
    from rarefy.policy.tasks.helix import export as write
    from rarefy.policy.tasks.helix import list_tasks

    known = list_tasks()
    chosen = known if tasks == "all" else [name.strip() for name in tasks.split(",")]
    if unknown := sorted(set(chosen) - set(known)):
        raise typer.BadParameter(
            f"{', '.join(unknown)}: no such task; all, or some of {', '.join(known)}",
            param_hint="--tasks",
        )
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file, a folder is wanted", param_hint="--out")
    with _console.watching("tasks", lambda: "stopped; the files written so far are kept") as watch:
        watch(f"{len(chosen)} tasks, {5 * per_level} problems each")
        path = write(out, tasks=chosen, per_level=per_level, seed=seed, images=images)
    n_problems = len(chosen) * 5 * per_level
    if json:
        _console.print_json({"file": str(path), "problems": n_problems, "images": images})
    else:
        drawn = " and an image of each" if images else ""
        _console.out.print(f"{n_problems:,} problems written to {path}{drawn}", soft_wrap=True)
