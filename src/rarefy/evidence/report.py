"""The report of one paper: verdicts, measurements and what they were taken on.

A report folder holds ``report.json`` (for programs), ``report.html`` (for people) and the figures
as SVG. Each file is written whole or not at all, ``report.json`` last: where it is, all are.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rarefy
from rarefy.evidence.claims import Claim, Measurements
from rarefy.evidence.files import write_whole
from rarefy.evidence.verdict import Effect, Estimate, Judgement


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything known about one run of one paper.

    ``seconds`` is computing time summed over arms and seeds, so a run that was stopped and went on,
    or ran on a cluster, says what it took altogether. ``figures`` maps file names to SVG text.
    ``venue`` and ``summary`` are for the page only and are not part of ``report.json``.
    """

    number: int
    slug: str
    title: str
    scale: str
    device: str
    seeds: tuple[int, ...]
    options: dict[str, Any]
    judgements: tuple[Judgement, ...]
    measurements: Measurements
    seconds: float
    peak_rss_mb: float
    environment: Mapping[str, str | int]
    figures: Mapping[str, str] = field(default_factory=dict)
    venue: str = ""
    summary: str = ""
    version: str = rarefy.__version__

    @property
    def verdicts(self) -> Counter[str]:
        """How many claims got each verdict."""
        return Counter(j.verdict for j in self.judgements)

    @property
    def command(self) -> str:
        """The command that measures this again."""
        words = ["rarefy", "run", self.slug, "--scale", self.scale]
        words += ["--seeds", str(len(self.seeds)), "--device", self.device]
        for name, value in self.options.items():
            flag = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                words.append(flag if value else "--no-" + flag[2:])
            elif isinstance(value, list):
                words += [word for item in value for word in (flag, str(item))]
            elif value is not None:
                words += [flag, str(value)]
        return shlex.join(words)

    def to_json(self) -> dict[str, Any]:
        """The report in JSON types, as it stands in ``report.json``.

        Metrics named ``clock_...`` come off the wall clock: they stand apart as ``timings``, so
        that ``measurements`` are the same whenever the seeds are.
        """
        measured = self.measurements.to_json()
        return {
            "rarefy": self.version,
            "paper": {"number": self.number, "slug": self.slug, "title": self.title},
            "scale": self.scale,
            "device": self.device,
            "seeds": list(self.seeds),
            "options": self.options,
            "claims": [_claim_to_json(j) for j in self.judgements],
            "measurements": [m for m in measured if not _is_timing(m)],
            "timings": [m for m in measured if _is_timing(m)],
            "seconds": round(self.seconds, 3),
            "peak_rss_mb": self.peak_rss_mb,
            "environment": dict(self.environment),
            "figures": list(self.figures),
        }

    def write(self, folder: Path) -> None:
        """Write ``report.json``, ``report.html`` and the figures into ``folder``."""
        from rarefy.evidence.page import report_page

        for name, svg in self.figures.items():
            write_whole(folder / name, svg)
        write_whole(folder / "report.html", report_page(self))
        write_whole(
            folder / "report.json",
            json.dumps(self.to_json(), indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        )

    @classmethod
    def read(cls, folder: Path) -> Report:
        """Read a report back from its folder, verdicts as they were recorded.

        Raises
        ------
        FileNotFoundError
            If the folder holds no ``report.json``.
        ValueError
            If ``report.json`` is not a report.
        """
        path = folder / "report.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                number=record["paper"]["number"],
                slug=record["paper"]["slug"],
                title=record["paper"]["title"],
                scale=record["scale"],
                device=record["device"],
                seeds=tuple(record["seeds"]),
                options=record["options"],
                judgements=tuple(map(_claim_from_json, record["claims"])),
                measurements=Measurements.from_json(record["measurements"] + record["timings"]),
                seconds=record["seconds"],
                peak_rss_mb=record["peak_rss_mb"],
                environment=record["environment"],
                figures={n: (folder / n).read_text(encoding="utf-8") for n in record["figures"]},
                version=record["rarefy"],
            )
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a report of rarefy ({error!r})") from error


def _is_timing(measurement: dict[str, Any]) -> bool:
    return str(measurement["metric"]).startswith("clock_")


def _claim_to_json(judgement: Judgement) -> dict[str, Any]:
    claim, effect = judgement.claim, judgement.effect
    return {
        "id": claim.id,
        "text": claim.text,
        "metric": claim.metric,
        "better": claim.better,
        "arm": claim.arm,
        "versus": claim.versus,
        "margin": claim.margin,
        "paper": claim.paper,
        "ours": _estimate_to_json(judgement.ours),
        "baseline": _estimate_to_json(judgement.baseline),
        "effect": {
            "mean": effect.mean if effect else None,
            "low": effect.low if effect else None,
            "high": effect.high if effect else None,
            "kind": claim.kind,
        },
        "verdict": judgement.verdict,
    }


def _estimate_to_json(estimate: Estimate | None) -> dict[str, float | None] | None:
    if estimate is None:
        return None
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def _claim_from_json(record: dict[str, Any]) -> Judgement:
    effect = record["effect"]
    names = ("id", "text", "metric", "arm", "versus", "better", "margin", "paper")
    claim = Claim(**{name: record[name] for name in names}, kind=effect["kind"])
    ours = Estimate(**record["ours"]) if record["ours"] else None
    baseline = Estimate(**record["baseline"]) if record["baseline"] else None
    measured = effect["mean"] is not None and ours is not None
    return Judgement(
        claim,
        ours,
        baseline,
        Effect(effect["mean"], effect["low"], effect["high"], ours.n, effect["kind"])
        if measured and ours
        else None,
        record["verdict"],
    )
