"""Run every benchmark, print the table and write ``benchmarks/results.json``.

    python benchmarks [NAME...]

Each module here offers ``rows()``: a list of ``{"name", "peer", "ours", "theirs", "unit", "ratio",
"goal"}``; a ratio above 1 means ours is better, ``goal`` is the ratio we hold ourselves to. With
names, only those modules run, and their rows replace those of the same name and peer.
"""

import importlib
import json
import pkgutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rarefy.evidence import environment

RESULTS = Path(__file__).parent / "results.json"


def main(names: list[str]) -> int:
    """Run the named benchmark modules, all of them without names; a missed goal is shown red."""
    known = [m.name for m in pkgutil.iter_modules([str(RESULTS.parent)]) if m.name[0] != "_"]
    if unknown := sorted(set(names) - set(known)):
        sys.stderr.write(f"no benchmark named {', '.join(unknown)}: {', '.join(known)}\n")
        return 2
    machine = environment()
    rows = []
    for name in names or known:
        module = importlib.import_module(name)
        rows += [row | {"machine": machine} for row in module.rows()]
    kept = json.loads(RESULTS.read_text()) if names and RESULTS.exists() else []
    measured = {(row["name"], row["peer"]) for row in rows}
    rows = [row for row in kept if (row["name"], row["peer"]) not in measured] + rows
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")
    Console().print(_table(rows))
    return 0


def _table(rows: list[dict]) -> Table:
    table = Table(title="rarefy beside its peers (ratio > 1: ours is better)")
    for column in ("benchmark", "peer", "unit"):
        table.add_column(column, overflow="fold")
    for column in ("ours", "theirs", "ratio", "goal"):
        table.add_column(column, justify="right")
    for row in rows:
        goal = row["goal"]
        met = goal is None or row["ratio"] >= goal
        table.add_row(
            row["name"],
            row["peer"],
            row["unit"],
            f"{row['ours']:.3g}",
            f"{row['theirs']:.3g}",
            f"[{'green' if met else 'red'}]{row['ratio']:.2f}[/]",
            "" if goal is None else f"{goal:g}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
