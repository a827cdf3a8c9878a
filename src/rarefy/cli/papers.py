"""`rarefy papers` and `rarefy show`: what there is, and what was found when it was last run."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rarefy.cli import _console
from rarefy.evidence import Report
from rarefy.evidence.table import STYLES, claims_table
from rarefy.evidence.verdict import Judgement
from rarefy.papers import DOMAINS, REPORTS, Option, Recipe, discover, options

_MARKS = {"reproduced": "✓", "contradicted": "✗", "inconclusive": "?"}

Json = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")]


def papers(json: Json = False) -> None:
    """List the papers by domain, with the verdicts of their last run here."""
    recipes = discover()
    last = {recipe.PAPER.slug: _last_report(recipe) for recipe in recipes}
    if json:
        _console.print_json([_row(recipe, last[recipe.PAPER.slug]) for recipe in recipes])
        return
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("no.", justify="right")
    table.add_column("paper", no_wrap=True)
    table.add_column("title", ratio=1)
    table.add_column("claims", justify="right")
    table.add_column("last run", no_wrap=True)
    for domain in DOMAINS:
        inside = [recipe.PAPER for recipe in recipes if recipe.PAPER.domain == domain]
        if not inside:
            continue
        table.add_section()
        table.add_row("", Text(domain, style="bold"))
        for paper in inside:
            verdicts = _marks(last[paper.slug])
            table.add_row(
                str(paper.number), paper.slug, escape(paper.title), str(len(paper.claims)), verdicts
            )
    _console.out.print(table)
    _console.out.print("✓ reproduced  ✗ contradicted  ? inconclusive", style="dim")


def show(
    paper: Annotated[str, typer.Argument(metavar="PAPER", help="A paper's slug or number.")],
    json: Json = False,
) -> None:
    """Say what a paper claims, its options, and how to use its method from Python."""
    recipe = _console.recipe(paper)
    about = recipe.PAPER
    last = _last_report(recipe)
    if json:
        details = {
            "venue": about.venue,
            "authors_code": about.authors_code,
            "summary": about.summary,
            "arms": list(about.arms),
            "seeds": dict(about.seeds),
            "options": [_option(option) for option in options(recipe)],
            "usage": about.usage.strip(),
        }
        _console.print_json(_row(recipe, last) | details)
        return
    out = _console.out
    out.print(Text(f"{about.number}. {about.title}", style="bold"))
    out.print(Text(f"{about.venue} · {about.domain}", style="dim"))
    if about.authors_code:
        out.print(Text(f"authors' code: {about.authors_code}", style="dim"), soft_wrap=True)
    out.print()
    out.print(Text(about.summary))
    out.print(Text(f"\narms: {' · '.join(about.arms)}"))
    if last:
        seeds = f"{len(last.seeds)} seeds" if len(last.seeds) > 1 else "1 seed"
        out.print(Text(f"\nclaims, as last measured here ({last.scale} scale, {seeds})"))
        out.print(claims_table(last.judgements))
    else:
        out.print(Text("\nclaims"))
        unmeasured = [Judgement(c, None, None, None, "inconclusive") for c in about.claims]
        out.print(_claims(unmeasured))
    if options(recipe):
        out.print(Text(f"options of rarefy run {about.slug}"))
        out.print(_options(options(recipe)))
    out.print(Text("in Python\n"))
    # Printed as it stands, so that it can be copied.
    out.print(Text(about.usage.strip()), soft_wrap=True)


def _row(recipe: Recipe, last: Report | None) -> dict[str, Any]:
    paper = recipe.PAPER
    return {
        "number": paper.number,
        "slug": paper.slug,
        "title": paper.title,
        "domain": paper.domain,
        "claims": [
            {"id": c.id, "text": c.text, "test": c.test, "paper": c.paper} for c in paper.claims
        ],
        "verdicts": {j.claim.id: j.verdict for j in last.judgements} if last else {},
    }


def _last_report(recipe: Recipe) -> Report | None:
    """The report in the default folder; one that cannot be read is as good as none."""
    try:
        return Report.read(REPORTS / recipe.PAPER.slug)
    except (OSError, ValueError):
        return None


def _marks(report: Report | None) -> Text:
    if report is None:
        return Text("–", style="dim")
    marks = [
        Text(f"{report.verdicts[verdict]}{mark}", style=STYLES[verdict])
        for verdict, mark in _MARKS.items()
        if report.verdicts[verdict]
    ]
    return Text(" ").join(marks)


def _claims(judgements: list[Judgement]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for j in judgements:
        text = Text(j.claim.text)
        if j.claim.paper:
            text.append(f"\npaper: {j.claim.paper}", style="dim")
        table.add_row(Text(j.claim.id, style="bold"), text)
    return table


def _option(option: Option) -> dict[str, Any]:
    default = option.default
    return {
        "name": option.name,
        "type": "choice" if option.choices else option.type.__name__,
        "choices": list(option.choices),
        "many": option.many,
        "default": default if isinstance(default, str | int | float | None) else str(default),
        "help": option.help,
    }


def _options(found: tuple[Option, ...]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for option in found:
        text = Text(option.help)
        if option.default is not None:
            text.append(f" (default: {option.default})", style="dim")
        table.add_row(f"--{option.name.replace('_', '-')}", text)
    return table
