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
    """Lay out judgements for a console: claim, paper, here, effect with interval, verdict."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), leading=1)
    table.add_column("claim", ratio=5)
    table.add_column("paper", ratio=3)
    table.add_column("here", ratio=3, justify="right")
    table.add_column("effect [95 %]", ratio=3, justify="right")
    table.add_column("verdict", no_wrap=True, min_width=12)
    for j in judgements:
        verdict = Text(j.verdict, style=STYLES[j.verdict])
        claim = Text.assemble((j.claim.id, "bold"), " ", j.claim.text)
        if j.reason:
            claim.append(f"\n{j.reason}", style="dim")
        table.add_row(
            claim, Text(j.claim.paper or "–"), words.here(j), words.interval(j.effect), verdict
        )
    return table
