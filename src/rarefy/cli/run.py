"""`rarefy run PAPER...`: measure, judge, report."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum, StrEnum
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, cast

import typer
from rich.text import Text
from typer.core import TyperCommand

from rarefy.cli import _console
from rarefy.evidence import Report
from rarefy.evidence import words as say
from rarefy.evidence.table import claims_table
from rarefy.papers import REPORTS, Option, Recipe, discover, options
from rarefy.papers import run as run_recipe

_GIVEN = "rarefy.options"


class ScaleChoice(StrEnum):
    """How large the trials are."""

    smoke = "smoke"
    default = "default"
    full = "full"


class RunCommand(TyperCommand):
    """`rarefy run`, which also takes the options of the papers named on its command line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Look for papers among the words, add their options, then parse as usual."""
        named = list(self._named(args))
        ctx.meta["rarefy.parameters"] = _parameters(named) if named else []
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """Give the command's own parameters, the papers' options, and help last."""
        *own, help_option = super().get_params(ctx)
        return [*own, *ctx.meta.get("rarefy.parameters", []), help_option]

    def _named(self, args: list[str]) -> Iterator[Recipe]:
        """Recipes named by a word that is not the value of one of our own options."""
        takes_value = {
            name for p in self.params if not getattr(p, "is_flag", False) for name in p.opts
        }
        recipes = {key: r for r in discover() for key in (r.PAPER.slug, str(r.PAPER.number))}
        for before, word in zip(["", *args], args, strict=False):
            if word in recipes and before not in takes_value:
                yield recipes[word]


def _parameters(recipes: list[Recipe]) -> list[Any]:
    """Command-line parameters for the options of recipes; each name once."""
    arguments: dict[str, inspect.Parameter] = {}
    for recipe in recipes:
        for option in options(recipe):
            if option.name in inspect.signature(run).parameters:
                raise TypeError(f"{recipe.__name__}: option {option.name!r} is `rarefy run`'s own")
            arguments.setdefault(option.name, _argument(option, recipe.PAPER.slug))

    def stub(**_: Any) -> None: ...

    stub.__signature__ = inspect.Signature(list(arguments.values()))  # type: ignore[attr-defined]
    stub.__annotations__ = {name: a.annotation for name, a in arguments.items()}
    sub = typer.Typer(add_completion=False)
    sub.command()(stub)
    parameters = [p for p in typer.main.get_command(sub).params if p.name in arguments]
    for parameter in parameters:
        # The values are gathered aside: `run` itself knows nothing of any recipe's options.
        parameter.callback, parameter.expose_value = _gather, False
    return parameters


def _argument(option: Option, slug: str) -> inspect.Parameter:
    """A parameter that stays ``None`` when it is not given, so that each recipe's default holds."""
    kind: Any = option.type
    if option.choices:
        kind = cast(Any, Enum)(option.name, {choice: choice for choice in option.choices})
    if option.many:
        kind = GenericAlias(list, (kind,))
    default = " ".join(map(str, option.default)) if option.many else str(option.default)
    about = typer.Option(
        help=option.help,
        show_default=False if option.default in (None, False, ()) else default,
        rich_help_panel=f"Options of {slug}",
    )
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, about],
    )


def _gather(ctx: Any, parameter: Any, value: Any) -> Any:
    if value is not None and value != () and value != []:
        many = isinstance(value, tuple | list)
        plain = [getattr(v, "value", v) for v in value] if many else getattr(value, "value", value)
        ctx.meta.setdefault(_GIVEN, {})[parameter.name] = plain
    return value


def run(
    ctx: typer.Context,
    papers: Annotated[
        list[str], typer.Argument(metavar="PAPER...", help="Slugs or numbers of papers.")
    ],
    scale: Annotated[
        ScaleChoice, typer.Option(help="How large: seconds, minutes, or a GPU's hours.")
    ] = ScaleChoice.default,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many seeds; by default the paper's own number.")
    ] = None,
    device: Annotated[str, typer.Option(help="A torch device, such as cpu or cuda.")] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(help="The report's folder; with several papers, a folder in it for each."),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print only the report (several: a list) as JSON."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 when a claim is not reproduced.")
    ] = False,
    on: Annotated[
        str | None,
        typer.Option(metavar="ray|ray://HOST:PORT", help="Run the seeds as Ray tasks."),
    ] = None,
) -> None:
    """Measure papers and judge their claims; `rarefy run PAPER --help` adds the paper's options.

    A run that was stopped goes on where it was when the same command is given again.
    """
    recipes = list({r.PAPER.slug: r for r in map(_console.recipe, papers)}.values())
    given = ctx.meta.get(_GIVEN, {})
    reports = []
    for recipe in recipes:
        own = {option.name for option in options(recipe)}
        folder = REPORTS if out is None else out
        folder = folder / recipe.PAPER.slug if out is None or len(recipes) > 1 else folder
        report = measure(
            recipe,
            folder=folder,
            scale=scale.value,
            seeds=seeds,
            device=device,
            options={name: value for name, value in given.items() if name in own},
            on=on,
        )
        reports.append(report)
        if not json:
            print_report(report, folder)
    if json:
        records = [report.to_json() for report in reports]
        _console.print_json(records[0] if len(records) == 1 else records)
    if strict and any(r.verdicts["reproduced"] < len(r.judgements) for r in reports):
        raise typer.Exit(3)


def measure(recipe: Recipe, *, folder: Path, **settings: Any) -> Report:
    """Run a recipe under a progress bar; Ctrl-C says what is kept in ``folder``."""

    def stopped() -> str:
        journal = folder / "measurements.jsonl"
        kept = len(journal.read_bytes().splitlines()) - 1 if journal.exists() else 0
        return (
            f"stopped; {kept} measurements of {recipe.PAPER.slug} are kept in {journal}, "
            "and the same command goes on from there"
        )

    with _console.watching(recipe.PAPER.slug, stopped) as watch:
        return run_recipe(recipe, out=folder, progress=watch, **settings)


def print_report(report: Report, folder: Path) -> None:
    """Print a report's claims and where the rest of it is."""
    out = _console.out
    out.print(Text(f"{report.number}. {report.title}", style="bold"))
    out.print(claims_table(report.judgements))
    seeds = f"{len(report.seeds)} seeds" if len(report.seeds) > 1 else "1 seed"
    facts = f"{report.scale} scale, {seeds}, {say.duration(report.seconds)}"
    out.print(Text(f"{facts}; report: {folder / 'report.html'}"), soft_wrap=True)
