"""What a paper says, and what was measured here: the two inputs of every verdict.

A claim is one sentence of a paper made testable: a metric, the arm it speaks of, the arm it is
compared with, a direction and a margin. A measurement is one number, ``(arm, seed, metric)``.
This module is plain Python on purpose: a recipe imports it at the top, and listing the papers must
stay fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

Direction = Literal["lower", "higher"]
EffectKind = Literal["difference", "ratio"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One testable sentence of a paper.

    The *effect* of a claim is oriented: positive (above 1 for a ratio) is always the claim's side.

    ============ =============== ================================= =====================
    ``versus``   ``kind``        effect when ``better="lower"``    holds when the effect
    ============ =============== ================================= =====================
    an arm       ``difference``  versus − arm                      > margin
    an arm       ``ratio``       versus / arm                      > 1 + margin
    ``None``     ``difference``  margin − arm                      ≥ 0
    ============ =============== ================================= =====================

    With ``better="higher"`` the two sides of each effect change places. Without ``versus`` the
    claim is absolute: the margin is the bar itself, and meeting it is enough ("violations ≤ 0").
    Against another arm a tie is no win, hence the strict comparison; a negative margin asks for
    non-inferiority ("no worse than 2 %" is a ratio with margin −0.02).

    Parameters
    ----------
    id : str
        Short and unique in its paper, as on the method card: ``"c1"``.
    text : str
        What the paper says, in one sentence.
    metric : str
        Name of the measured quantity.
    arm : str
        The arm the claim speaks of.
    versus : str, optional
        The arm it is compared with; ``None`` makes the claim absolute.
    better : {"lower", "higher"}
        Which way the claim points.
    margin : float
        How large the effect must be; the bar itself for an absolute claim.
    kind : {"difference", "ratio"}
        Scale of the effect. Ratios are averaged on the log scale.
    deterministic : bool
        Whether the metric holds by construction rather than by luck (a count, a guarantee). Then
        one seed is enough, and several must all agree.
    paper : str
        What the paper reports, for the reader.
    """

    id: str
    text: str
    metric: str
    arm: str
    versus: str | None = None
    better: Direction = "lower"
    margin: float = 0.0
    kind: EffectKind = "difference"
    deterministic: bool = False
    paper: str = ""

    def __post_init__(self) -> None:
        if self.better not in ("lower", "higher"):
            raise ValueError(
                f"claim {self.id}: better is {self.better!r}, expected 'lower' or 'higher'"
            )
        if self.kind not in ("difference", "ratio"):
            raise ValueError(
                f"claim {self.id}: kind is {self.kind!r}, expected 'difference' or 'ratio'"
            )
        if not math.isfinite(self.margin):
            raise ValueError(f"claim {self.id}: margin is {self.margin}, expected a finite number")
        if self.kind == "ratio" and self.versus is None:
            raise ValueError(f"claim {self.id}: a ratio needs an arm to compare with; give versus")
        if self.kind == "ratio" and self.margin <= -1:
            raise ValueError(
                f"claim {self.id}: margin is {self.margin}, but a ratio must exceed 1 + margin > 0"
            )

    @property
    def test(self) -> str:
        """The comparison that decides the claim, in words.

        >>> Claim(id="c1", text="", metric="loss", arm="a", versus="b", margin=0.5).test
        'loss of a lower than of b by more than 0.5'
        """
        subject = f"{self.metric} of {self.arm}"
        if self.versus is None:
            return f"{subject} {'≤' if self.better == 'lower' else '≥'} {self.margin:g}"
        if self.kind == "ratio":
            over, under = (
                (self.versus, self.arm) if self.better == "lower" else (self.arm, self.versus)
            )
            return f"{self.metric} of {over} ÷ of {under} above {1 + self.margin:g}"
        if self.margin < 0:
            worse = "higher" if self.better == "lower" else "lower"
            return f"{subject} at most {-self.margin:g} {worse} than of {self.versus}"
        more = f" by more than {self.margin:g}" if self.margin else ""
        return f"{subject} {self.better} than of {self.versus}{more}"


@dataclass(frozen=True)
class Measurement:
    """One number: what ``metric`` was for ``arm`` at ``seed``."""

    arm: str
    seed: int
    metric: str
    value: float


class Measurements:
    """The measurements of one paper, in the order they were taken.

    Parameters
    ----------
    items : iterable of Measurement
        At most one for each (arm, seed, metric).

    Raises
    ------
    ValueError
        If one (arm, seed, metric) comes twice.

    Examples
    --------
    >>> m = Measurements([Measurement("a", 0, "loss", 1.0), Measurement("b", 0, "loss", 3.0),
    ...                   Measurement("b", 1, "loss", 4.0)])
    >>> m.values("b", "loss")
    [3.0, 4.0]
    >>> m.paired("a", "b", "loss")
    [(1.0, 3.0)]
    """

    def __init__(self, items: Iterable[Measurement] = ()) -> None:
        self._values: dict[tuple[str, int, str], float] = {}
        for item in items:
            key = (item.arm, item.seed, item.metric)
            if key in self._values:
                raise ValueError(
                    f"{item.metric} of {item.arm} at seed {item.seed} was measured twice"
                )
            self._values[key] = float(item.value)

    def __iter__(self) -> Iterator[Measurement]:
        for (arm, seed, metric), value in self._values.items():
            yield Measurement(arm, seed, metric, value)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Measurements({len(self)} of {len(self.arms)} arms at {len(self.seeds)} seeds)"

    @property
    def arms(self) -> list[str]:
        """Arms in the order they were first measured."""
        return list(dict.fromkeys(arm for arm, _, _ in self._values))

    @property
    def metrics(self) -> list[str]:
        """Metrics in the order they were first measured."""
        return list(dict.fromkeys(metric for _, _, metric in self._values))

    @property
    def seeds(self) -> list[int]:
        """Every seed that was measured, ascending."""
        return sorted({seed for _, seed, _ in self._values})

    def by_seed(self, arm: str, metric: str) -> dict[int, float]:
        """Value of ``metric`` for ``arm`` at each seed where it was measured, seeds ascending."""
        found = {s: v for (a, s, m), v in self._values.items() if (a, m) == (arm, metric)}
        return dict(sorted(found.items()))

    def values(self, arm: str, metric: str) -> list[float]:
        """Values of ``metric`` for ``arm``, one for each seed, seeds ascending."""
        return list(self.by_seed(arm, metric).values())

    def paired(self, arm: str, versus: str, metric: str) -> list[tuple[float, float]]:
        """Pairs ``(arm, versus)`` of ``metric`` at the seeds that both have, seeds ascending."""
        ours, theirs = self.by_seed(arm, metric), self.by_seed(versus, metric)
        return [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]

    def to_json(self) -> list[dict[str, Any]]:
        """Plain records for JSON; a value that is not finite becomes ``None``."""
        return [
            {
                "arm": m.arm,
                "seed": m.seed,
                "metric": m.metric,
                "value": m.value if math.isfinite(m.value) else None,
            }
            for m in self
        ]

    @classmethod
    def from_json(cls, records: Iterable[dict[str, Any]]) -> Measurements:
        """Read back what `to_json` gave; ``None`` comes back as NaN."""
        return cls(
            Measurement(
                r["arm"], r["seed"], r["metric"], math.nan if r["value"] is None else r["value"]
            )
            for r in records
        )
