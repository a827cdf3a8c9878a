"""`rarefy screen TABLE`: which columns of a table tell something about a target."""

from __future__ import annotations

import csv
import io
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rarefy.cli import _console

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rarefy.data import Columns


class Estimator(StrEnum):
    """How mutual information is estimated."""

    kde = "kde"
    binning = "binning"
    knn = "knn"
    pearson = "pearson"


class Kind(StrEnum):
    """What the target is."""

    auto = "auto"
    classes = "classes"
    numbers = "numbers"


def screen(
    table: Annotated[
        Path, typer.Argument(help="A table: .csv, .parquet, .npy, or .bed with .bim and .fam.")
    ],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A column's name, or a .npy file. [default: of .bed, the phenotype in the .fam]",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many columns to name.")] = 20,
    estimator: Annotated[Estimator, typer.Option(help="The estimator.")] = Estimator.kde,
    bandwidth: Annotated[
        str,
        typer.Option(metavar="H|RULE", help="Of kde: deviations, or silverman, scott or isj."),
    ] = "1.0",
    grid: Annotated[int, typer.Option(min=4, help="Of kde: points on each axis.")] = 64,
    kind: Annotated[
        Kind, typer.Option("--target-kind", help="Whether the target holds classes.")
    ] = Kind.auto,
    levels: Annotated[
        bool,
        typer.Option("--levels", help="The columns hold levels, such as genotypes: exact tables."),
    ] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Leave out a column; may be given again."),
    ] = None,
    clump: Annotated[
        float | None,
        typer.Option(
            min=0, help="Leave out columns that tell more nats than this about a better one."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Threads; -1 for all cores.")] = -1,
    out: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Write every column's score here.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Rank the columns of a table by their mutual information with a target, however many.

    Parquet, .npy and .bed are read in blocks and may be far larger than memory.
    """
    if out is not None and out.exists():
        raise typer.BadParameter(f"{out} is already there", param_hint="--out")
    width: Any = bandwidth if bandwidth in ("silverman", "scott", "isj") else _number(bandwidth)
    columns, y, target_name = _open(table, target, exclude or [])

    from rarefy.regression import clump as clumped
    from rarefy.regression import linfoot, mutual_info_screen

    options: dict[str, Any] = {
        "estimator": estimator.value,
        "bandwidth": width,
        "grid": grid,
        "discrete_features": levels or "auto",
        "n_jobs": jobs,
    }
    discrete: Any = {"auto": "auto", "classes": True, "numbers": False}[kind.value]
    with _console.watching("screen", lambda: "stopped; nothing was written") as watch:
        scores = mutual_info_screen(columns, y, discrete_target=discrete, progress=watch, **options)
        order = (-scores).argsort(kind="stable")
        if clump is not None:
            watch("clumping", 1.0)
            best = clumped(columns, scores, threshold=clump, k=top, **options)
        else:
            best = order[:top]
    rows = [
        {
            "rank": rank,
            "column": int(j),
            "name": columns.name(int(j)),
            "score": float(scores[j]),
            "linfoot": float(linfoot(scores[j])),
        }
        for rank, j in enumerate(best, 1)
    ]
    if out is not None:
        _write(out, columns, scores, order)
    if json:
        _console.print_json(
            {
                "table": str(table),
                "target": target_name,
                "rows": columns.n_rows,
                "columns": columns.n_columns,
                "estimator": estimator.value,
                "top": rows,
                "out": None if out is None else str(out),
            }
        )
    else:
        _print(rows, columns, target_name)
        if out is not None:
            _console.out.print(f"all scores written to {out}", soft_wrap=True)


def _number(bandwidth: str) -> float:
    try:
        value = float(bandwidth)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise typer.BadParameter(
            f"{bandwidth!r} is no bandwidth: a number above 0, silverman, scott or isj is wanted",
            param_hint="--bandwidth",
        )
    return value


def _open(table: Path, target: str | None, exclude: list[str]) -> tuple[Columns, NDArray[Any], str]:
    """Columns, the target's values, and what to call it."""
    from rarefy.data import open_columns, plink_phenotype, read_column

    ending = table.suffix.lower()
    named = ending in (".csv", ".parquet", ".pq")
    if not table.exists():
        raise typer.BadParameter(f"there is no {table}", param_hint="TABLE")
    if target is not None and target.endswith(".npy"):
        return open_columns(table, without=exclude), _load(Path(target)), target
    if named:
        if target is None:
            raise typer.BadParameter("name the column to predict", param_hint="--target")
        return (
            open_columns(table, without=[target, *exclude]),
            read_column(table, target),
            target,
        )
    columns = open_columns(table, without=exclude)
    if target is not None or ending != ".bed":
        raise typer.BadParameter(
            f"columns of {table.name} have no target among them; give a .npy file",
            param_hint="--target",
        )
    return columns, plink_phenotype(table), "phenotype"


def _load(path: Path) -> NDArray[Any]:
    import numpy as np

    try:
        return np.load(path)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no readable .npy file: {error}") from error


def _write(out: Path, columns: Columns, scores: NDArray[Any], order: NDArray[Any]) -> None:
    from rarefy.evidence.files import write_whole

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("rank", "column", "name", "score"))
    writer.writerows(
        (rank, j, columns.name(j), f"{scores[j]:.9g}") for rank, j in enumerate(map(int, order), 1)
    )
    write_whole(out, text.getvalue())


def _print(rows: list[dict[str, Any]], columns: Columns, target: str) -> None:
    from rich.table import Table

    table = Table(title=f"mutual information with {target}", title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("column", overflow="fold")
    table.add_column("nats", justify="right")
    table.add_column("Linfoot", justify="right")
    for row in rows:
        table.add_row(str(row["rank"]), row["name"], f"{row['score']:.4g}", f"{row['linfoot']:.3f}")
    _console.out.print(table)
    _console.out.print(f"{columns.n_rows:,} rows, {columns.n_columns:,} columns", style="dim")
