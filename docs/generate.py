"""Write docs/papers/: a page for each recipe, and their index.

Pages come from the recipes and, where a report lies in ``rarefy-reports/``, from what it measured,
so they cannot drift from the code.
"""

from pathlib import Path

from rarefy.evidence import Report
from rarefy.papers import REPORTS, discover, markdown

PAGES = Path(__file__).parent / "papers"


def main() -> None:
    """Write every page anew."""
    PAGES.mkdir(exist_ok=True)
    rows = []
    for recipe in discover():
        paper = recipe.PAPER
        folder = REPORTS / paper.slug
        report = Report.read(folder) if (folder / "report.json").exists() else None
        (PAGES / f"{paper.slug}.md").write_text(markdown(recipe, report))
        rows.append(f"| {paper.number} | [{paper.title}]({paper.slug}.md) | {paper.domain} |")
    head = "# Papers\n\n| no. | paper | domain |\n|---|---|---|\n"
    (PAGES / "index.md").write_text(head + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
