"""A paper's page for the documentation, generated from its recipe and its last report."""

from __future__ import annotations

from collections.abc import Sequence

from rarefy.evidence import Report, words
from rarefy.papers._options import options
from rarefy.papers._recipe import Recipe


def markdown(recipe: Recipe, report: Report | None = None) -> str:
    """Write the page of a paper as Markdown.

    Parameters
    ----------
    recipe : Recipe
        The paper's recipe.
    report : Report, optional
        A report of it; without one the page says what is claimed, not what was found.
    """
    paper = recipe.PAPER
    parts = [f"# {paper.number}. {paper.title}", f"*{paper.venue}*", paper.summary]
    if paper.authors_code:
        parts.append(f"The authors' code: <{paper.authors_code}>.")
    parts.append("## Claims")
    parts.append(_claims(recipe, report))
    if report:
        parts.append(
            f"Measured at {report.scale} scale over {len(report.seeds)} seeds in "
            f"{words.duration(report.seconds)} on {report.environment['cpu']}:"
        )
        parts.append(f"```bash\n{report.command}\n```")
    parts += ["## In Python", f"```python\n{paper.usage.strip()}\n```"]
    if options(recipe):
        parts += ["## Options", _options(recipe)]
    return "\n\n".join(parts) + "\n"


def _claims(recipe: Recipe, report: Report | None) -> str:
    if report is None:
        rows = [(c.id, c.text, c.test, c.paper) for c in recipe.PAPER.claims]
        return _table(("", "claim", "test", "paper"), rows)
    found = [
        (j.claim.id, j.claim.text, j.claim.paper, words.here(j), words.interval(j.effect))
        + (f"**{j.verdict}**",)
        for j in report.judgements
    ]
    return _table(("", "claim", "paper", "here", "effect, 95 % interval", "verdict"), found)


def _options(recipe: Recipe) -> str:
    rows = [
        (f"`--{o.name.replace('_', '-')}`", "" if o.default is None else f"`{o.default}`", o.help)
        for o in options(recipe)
    ]
    return _table(("option", "default", "meaning"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
