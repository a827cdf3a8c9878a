"""The picture of paper 30."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from rarefy.data import make_concept_tree
from rarefy.evidence.claims import Measurements
from rarefy.evidence.figures import COLOURS
from rarefy.evidence.verdict import estimate
from rarefy.papers._mp_sae_real import INFERENCE

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

_SHOWN = 12


def draw_grams(place: SubFigure, measurements: Measurements, arms: Sequence[str]) -> None:
    """Cosines within the three families of the tree: the truth, then each arm at its first seed."""
    truth = make_concept_tree().directions[:_SHOWN]
    grams = {"truth": (truth @ truth.t()).tolist()}
    for arm in arms:
        grams[arm] = [
            [measurements.values(arm, f"gram_{i}_{j}")[0] for j in range(_SHOWN)]
            for i in range(_SHOWN)
        ]
    axes = place.subplots(1, len(grams))
    for axis, (name, gram) in zip(axes, grams.items(), strict=True):
        image = axis.imshow(gram, vmin=-1, vmax=1, cmap="RdBu_r")
        axis.set(title=name, xticks=(0, 4, 8), yticks=(0, 4, 8))
    place.colorbar(image, ax=axes, label="cosine of learned concepts", shrink=0.8)


def draw_errors(place: SubFigure, measurements: Measurements) -> None:
    """Absorption by method and by how alike siblings are; error at other k than the trained."""
    left, right = place.subplots(1, 2)
    names = ("0", "0.1", "0.3")
    for place_, arm in enumerate(("mp", "matryoshka", "batchtopk", "relu")):
        values = [estimate(measurements.values(arm, f"absorption_{name}")) for name in names]
        left.bar(
            [i + 0.2 * (place_ - 1.5) for i in range(len(names))],
            [value.mean for value in values],
            yerr=[0.0 if value.low is None else value.mean - value.low for value in values],
            width=0.18,
            color=COLOURS[place_],
            label=arm,
        )
    left.set_xticks(range(len(names)), names)
    left.axhline(0, color=COLOURS[6], linewidth=1)
    left.set(xlabel="cosine between siblings", ylabel="absorption: child on true parent")
    left.legend(fontsize=8)
    for colour, arm in ((COLOURS[0], "mp"), (COLOURS[1], "topk")):
        errors = [fmean(measurements.values(arm, f"inference_language_{k}")) for k in INFERENCE]
        right.plot(INFERENCE, errors, "o-", color=colour, label=arm)
    right.axvline(16, color=COLOURS[6], linewidth=1, linestyle=":")
    right.set_xscale("log", base=2)
    right.set_xticks(INFERENCE, [str(k) for k in INFERENCE])
    right.set(
        xlabel="latents at inference (trained at 16)", ylabel="variance unexplained, code model"
    )
    right.legend(fontsize=8)
