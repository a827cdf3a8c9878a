"""What the doctor says: findings with their evidence, and a diagnosis that gathers them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rarefy.weights.diagnosis.lessons import LESSONS
from rarefy.weights.diagnosis.trace import Taxonomy

Severity = Literal["info", "warn", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes
    ----------
    code : str
        Upper-case name of the kind of finding, for programs.
    severity : {"info", "warn", "error"}
        An error means that a number people would quote is wrong.
    lesson : int
        The lesson (:data:`LESSONS`) it comes from.
    message : str
        One sentence.
    layer : str
        Parameter it is about; empty for the whole model.
    evidence : mapping
        The numbers behind it.
    """

    code: str
    severity: Severity
    lesson: int
    message: str
    layer: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerHealth:
    """One layer of a diagnosis; what could not be measured is ``None``."""

    name: str
    shape: tuple[int, ...]
    density: float
    effective_density: float | None
    granularity: str


@dataclass(frozen=True)
class Diagnosis:
    """Everything found about a model and how it was made.

    Attributes
    ----------
    findings : tuple of Finding
        Errors first.
    layers : tuple of LayerHealth
    density : dict of str to float
        By denominator: ``"prunable"``, ``"all"``, ``"no_embedding"``.
    effective_density : float or None
        Share of the prunable weights on a path; None if paths were not traced.
    macs_share : float or None
        Sparse multiply-accumulates over dense ones.
    taxonomy : Taxonomy or None
        How the network was made, where a trace was given.
    """

    findings: tuple[Finding, ...]
    layers: tuple[LayerHealth, ...] = ()
    density: Mapping[str, float] = field(default_factory=dict)
    effective_density: float | None = None
    macs_share: float | None = None
    taxonomy: Taxonomy | None = None

    @property
    def ok(self) -> bool:
        """Whether there is no error among the findings."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, with the lessons that the findings speak of."""
        return dataclasses.asdict(self) | {
            "ok": self.ok,
            "lessons": [LESSONS[n - 1]._asdict() for n in self._numbers()],
        }

    def to_markdown(self) -> str:
        """Findings, the layer table and the lessons, as Markdown."""
        lines = ["# Diagnosis", ""]
        lines += [
            f"- **{f.severity}** `{f.code}` {f.layer and f'`{f.layer}`: '}{f.message} "
            f"(lesson {f.lesson})"
            for f in self.findings
        ] or ["Nothing found."]
        if self.layers:
            lines += ["", "| layer | density | effective | structure |", "|---|---|---|---|"]
            lines += [
                f"| `{row.name}` | {row.density:.4f} | {_share(row.effective_density)} "
                f"| {row.granularity} |"
                for row in self.layers
            ]
        for number in self._numbers():
            lesson = LESSONS[number - 1]
            lines += ["", f"## Lesson {number}: {lesson.title}", "", lesson.question, lesson.answer]
        return "\n".join(lines) + "\n"

    def _numbers(self) -> list[int]:
        return sorted({finding.lesson for finding in self.findings})


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
