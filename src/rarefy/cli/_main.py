"""The application and its entry point: verbs, and what a user sees when something goes wrong.

Exit status: 0 done, 1 a clear error, 2 bad usage, 3 with ``--strict`` when a claim is not
reproduced, 130 stopped with Ctrl-C. Results go to standard output, everything else to standard
error.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import rarefy
from rarefy.cli import (
    _console,
    compare,
    doctor,
    fit,
    handbook,
    merge,
    papers,
    policy,
    prune,
    run,
    sae,
    screen,
    tasks,
    tour,
)

app = typer.Typer(
    name="rarefy",
    help="Sparsity in machine learning: make models sparse, and measure which claims hold.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("papers")(papers.papers)
app.command("show")(papers.show)
app.command("run", cls=run.RunCommand)(run.run)
app.command("tour")(tour.tour)
app.command("prune")(prune.prune)
app.command("merge")(merge.merge)
app.command("fit")(fit.fit)
app.add_typer(compare.app, name="compare")
app.add_typer(sae.app, name="sae")
app.add_typer(policy.app, name="policy")
app.command("screen")(screen.screen)
app.add_typer(tasks.app, name="tasks")
app.command("doctor")(doctor.doctor)
app.command("handbook")(handbook.handbook)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rarefy {rarefy.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Sparsity in machine learning: make models sparse, and measure which claims hold."""


def main() -> None:
    """Run the command; an error that a user can mend is one sentence, not a traceback."""
    # Their bars for loading and saving would break through ours.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app(prog_name="rarefy")
    except (ValueError, OSError, ImportError) as error:
        _console.fail(error)
        sys.exit(1)
