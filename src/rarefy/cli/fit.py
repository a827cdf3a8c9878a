"""`rarefy fit TABLE --target NAME`: a sparse linear model of a table, and what it kept."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rarefy.cli import _console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.regression import PenaltyPath


class PenaltyName(StrEnum):
    """Which penalty."""

    l1 = "l1"
    elastic_net = "elastic-net"
    mcp = "mcp"
    scad = "scad"
    l0 = "l0"


class LossName(StrEnum):
    """Which loss."""

    linear = "linear"
    logistic = "logistic"
    poisson = "poisson"


_SHOWN = 30


def fit(
    table: Annotated[Path, typer.Argument(help="A .csv or .parquet file with column names.")],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    penalty: Annotated[PenaltyName, typer.Option(help="What keeps it sparse.")] = PenaltyName.l1,
    loss: Annotated[
        LossName | None,
        typer.Option(help="[default: logistic for two values, linear for other numbers]"),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="Of the penalty, on standardised columns. [default: cross-validated]"),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="For the cross-validation.")] = 5,
    seed: Annotated[int, typer.Option(help="Shuffles the rows into folds.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Folds at a time.")] = 1,
    path: Annotated[
        bool, typer.Option("--path", help="Draw every coefficient along the strengths.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for fit.json, and for path.svg. [default: path.svg here]"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Fit a sparse linear model to a table and say which columns it keeps.

    Columns of words become one column for each word; every column is standardised for the fit, and
    coefficients are given in the table's own units.
    """
    if strength is not None and not strength >= 0:
        raise typer.BadParameter(
            f"strength is {strength:g}, at least 0 is wanted", param_hint="--strength"
        )
    if out is not None and out.exists():
        raise typer.BadParameter(f"{out} is already there", param_hint="--out")

    import numpy as np

    from rarefy.data.tables import read_table

    data = read_table(table, target)
    kind = loss.value if loss is not None else _loss_of(data.y, target)
    means, scales = data.X.mean(0), data.X.std(0)
    constant = scales <= 1e-12 * np.abs(means)
    scales[constant] = 1.0
    standardised = (data.X - means) / scales

    def stopped() -> str:
        return "stopped; nothing is written"

    with _console.watching("fit", stopped) as watch:
        watch(f"{len(data.names)} columns, {len(data.y)} rows", 0.0)
        model = _estimator(kind, penalty, strength, folds, seed, jobs).fit(standardised, data.y)
        watch("following the path", 0.7)
        along = _path(kind, penalty, standardised, data.y) if path else None

    coef = np.ravel(model.coef_)
    order = np.argsort(-np.abs(coef), kind="stable")[: np.count_nonzero(coef)]
    kept = [
        {
            "name": data.names[j],
            "coefficient": float(coef[j] / scales[j]),
            "standardised": float(coef[j]),
        }
        for j in order
    ]
    found = {
        "table": str(table),
        "target": target,
        "loss": kind,
        "penalty": penalty.value,
        "strength": float(getattr(model, "penalty_", model.penalty).lam),
        "rows": len(data.y),
        "columns": len(data.names),
        "constant": [name for name, flat in zip(data.names, constant, strict=True) if flat],
        "score": float(model.score(standardised, data.y)),
        "held_out_loss": float(model.loss_path_.mean(1).min()) if strength is None else None,
        "intercept": float(np.ravel(model.intercept_)[0] - means @ (coef / scales)),
        "kept": kept,
    }
    _write(found, along, data.names, out)
    if json:
        _console.print_json(found)
    else:
        _print(found)


def _loss_of(y: Any, target: str) -> str:
    """The loss that a target asks for."""
    import numpy as np

    values = np.unique(y)
    if len(values) == 2:
        return "logistic"
    if y.dtype.kind != "f":
        raise ValueError(
            f"target {target!r} must hold numbers or two classes, got {len(values)} different words"
        )
    return "linear"


def _penalty(name: PenaltyName, strength: float) -> Any:
    from rarefy import operators

    kinds = {
        PenaltyName.l1: operators.L1,
        PenaltyName.elastic_net: operators.ElasticNet,
        PenaltyName.mcp: operators.MCP,
        PenaltyName.scad: operators.SCAD,
        PenaltyName.l0: operators.L0,
    }
    return kinds[name](strength)


def _estimator(
    kind: str, penalty: PenaltyName, strength: float | None, folds: int, seed: int, jobs: int
) -> Any:
    from sklearn.model_selection import KFold, StratifiedKFold

    from rarefy import regression

    plain, chosen = {
        "linear": (regression.SparseLinearRegression, regression.SparseLinearRegressionCV),
        "logistic": (regression.SparseLogisticRegression, regression.SparseLogisticRegressionCV),
        "poisson": (regression.SparsePoissonRegression, regression.SparsePoissonRegressionCV),
    }[kind]
    if strength is not None:
        return plain(_penalty(penalty, strength))
    splitter = StratifiedKFold if kind == "logistic" else KFold
    return chosen(
        _penalty(penalty, 1.0), cv=splitter(folds, shuffle=True, random_state=seed), n_jobs=jobs
    )


def _path(kind: Any, penalty: PenaltyName, X: Any, y: Any) -> PenaltyPath:
    import numpy as np

    from rarefy.regression import penalty_path

    if kind == "logistic":
        y = (y == np.unique(y)[1]).astype(float)
    return penalty_path(X, y, _penalty(penalty, 1.0), loss=kind)


def _write(
    found: dict[str, Any], along: PenaltyPath | None, names: list[str], out: Path | None
) -> None:
    from json import dumps

    from rarefy.data.files import written_whole
    from rarefy.evidence.figures import to_svg

    if along is not None:
        found["path"] = str(Path("path.svg") if out is None else out / "path.svg")
        svg = to_svg(lambda: _draw(along, names, found["strength"]), name="path")
    if out is not None:
        with written_whole(out, folder=True) as folder:
            folder.mkdir()
            (folder / "fit.json").write_text(dumps(found, indent=1), encoding="utf-8")
            if along is not None:
                (folder / "path.svg").write_text(svg, encoding="utf-8")
    elif along is not None:
        with written_whole("path.svg") as file:
            file.write_text(svg, encoding="utf-8")


def _draw(along: PenaltyPath, names: list[str], chosen: float) -> Figure:
    """Standardised coefficients along the strengths; the largest are named."""
    import numpy as np
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots()
    order = np.argsort(-np.abs(along.coefs).max(0), kind="stable")
    named = order[:7][np.abs(along.coefs[:, order[:7]]).max(0) > 0]
    for j in np.flatnonzero(along.coefs.any(0)):
        if j not in named:
            axes.plot(along.strengths, along.coefs[:, j], color="0.8", linewidth=0.8, zorder=1)
    for j in named:
        axes.plot(along.strengths, along.coefs[:, j], label=names[j])
    axes.axvline(chosen, color="0.3", linestyle=":", label="chosen")
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.set_xlabel("strength of the penalty")
    axes.set_ylabel("coefficient, standardised")
    axes.legend(fontsize=8)
    plt.close(figure)
    return figure


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    kept = found["kept"]
    table = Table(title=f"{found['target']} from {found['table']}", title_justify="left")
    table.add_column("kept")
    table.add_column("coefficient", justify="right")
    table.add_column("standardised", justify="right")
    for row in kept[:_SHOWN]:
        table.add_row(Text(row["name"]), f"{row['coefficient']:.4g}", f"{row['standardised']:+.4f}")
    _console.out.print(table)
    if len(kept) > _SHOWN:
        _console.out.print(f"and {len(kept) - _SHOWN} more: --json has them all", style="dim")
    word = {"linear": "R²", "logistic": "accuracy", "poisson": "D²"}[found["loss"]]
    _console.out.print(
        f"{len(kept)} of {found['columns']} columns kept, {found['penalty']} at "
        f"{found['strength']:.4g}, intercept {found['intercept']:.4g}; {word} on these rows "
        f"{found['score']:.3f}",
        style="dim",
        soft_wrap=True,
    )
    if found["constant"]:
        _console.out.print(f"constant, left out: {', '.join(found['constant'])}", style="dim")
    if "path" in found:
        _console.out.print(f"path drawn in {found['path']}", soft_wrap=True)
