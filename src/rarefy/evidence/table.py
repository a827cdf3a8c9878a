"""The claims of a report as a console table that fits 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rarefy.evidence import words
from rarefy.evidence.verdict import Judgement

if TYPE_CHECKING:
    from rich.table import Table

STYLES = {"reproduced": "green", "contradicted": "red", "inconclusive": "yellow"}


def claims_table(judgements: Sequence[Judgement]) -> Table:
    """Lay out judgements for a console: claim, here, effect with interval, verdict."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 2, 0, 0), leading=1)
    table.add_column("claim", ratio=1)
    table.add_column("here", justify="right")
    table.add_column("effect", justify="right")
    table.add_column("verdict", no_wrap=True)
    for j in judgements:
        claim = Text.assemble((j.claim.id, "bold"), " ", j.claim.text)
        if j.claim.paper:
            claim.append(f"\npaper: {j.claim.paper}", style="dim")
        if j.reason:
            claim.append(f"\n{j.reason}", style="italic")
        table.add_row(
            claim,
            words.here(j).replace(" vs ", "\nvs "),
            words.interval(j.effect).replace(" [", "\n["),
            Text(j.verdict, style=STYLES[j.verdict]),
        )
    return table
