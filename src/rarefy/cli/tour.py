"""`rarefy tour`: one paper of each domain, within minutes, and one page with all of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from rarefy.cli import _console
from rarefy.cli.run import measure, print_report
from rarefy.evidence import words as say
from rarefy.evidence.files import write_whole
from rarefy.evidence.page import index_page
from rarefy.papers import DOMAINS, REPORTS, discover

_INTRODUCTION = (
    "Few things matter; rarefy finds which, keeps only those, and learns when they are rarely "
    "seen. Here is one paper of each domain, measured on this machine a moment ago, at the "
    "default scale with few seeds, so intervals are wide: rarefy run PAPER measures any of them "
    "with all its seeds."
)


def tour(
    out: Annotated[Path, typer.Option(help="Where the page and the reports go.")] = REPORTS
    / "tour",
    json: Annotated[
        bool, typer.Option("--json", help="Print only the reports as JSON on standard output.")
    ] = False,
) -> None:
    """Measure one paper of each domain and write one page with all of them."""
    recipes = [recipe for recipe in discover() if recipe.PAPER.tour_seeds]
    first = {
        domain: next(r for r in recipes if domain == r.PAPER.domain)
        for domain in DOMAINS
        if any(domain == r.PAPER.domain for r in recipes)
    }
    if not first:
        raise ValueError("there is no paper to tour")
    start = time.monotonic()
    reports = {}
    for domain, recipe in first.items():
        folder = out / recipe.PAPER.slug
        report = measure(recipe, folder=folder, seeds=recipe.PAPER.tour_seeds)
        reports[domain] = [report]
        if not json:
            print_report(report, folder)
    page = out / "index.html"
    write_whole(page, index_page("A tour of rarefy", _INTRODUCTION, reports))
    if json:
        _console.print_json([report.to_json() for group in reports.values() for report in group])
        return
    took = say.duration(time.monotonic() - start)
    _console.out.print(Text(f"\nTook {took}. Open this page:"))
    _console.out.print(Text(str(page.resolve())), soft_wrap=True)
