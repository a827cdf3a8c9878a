"""Paper 45, top-AFA: as many features as the norm of the input asks for.

The bound is checked on random dictionaries; the diagnostics are taken of dictionaries of every
layer of a code model; top-AFA is trained on standardised image patches at four weights of its norm
loss, beside TopK at a sweep of k and at top-AFA's own mean L0.

Departures: models, widths and runs are far smaller than the paper's; top-AFA is trained on patches
only; JumpReLU and BatchTopK are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from rarefy.evidence.claims import Measurements
from rarefy.papers._recipe import Paper, Trial
from rarefy.papers._top_afa_claims import (
    LAYERS,
    OURS,
    SAME,
    SWEEP,
    WEIGHTS,
    arm_of,
    top_afa_claims,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from rarefy.dictionaries import SparseAutoencoder
    from rarefy.papers._patches import Patches
    from rarefy.papers._top_afa_training import Layers

KS = (8, 16, 32, 64, 128)
_DIFFICULT = 16
"""The TopK whose error says how hard a row is."""

PAPER = Paper(
    number=45,
    slug="top-afa",
    title="Evaluating and Designing Sparse Autoencoders by Approximating Quasi-Orthogonality",
    venue="COLM 2025",
    authors_code="https://github.com/SewoongLee/top-afa-sae",
    domain="dictionaries",
    arms=(
        "theory",
        "code model, topk",
        "code model, relu",
        *map(arm_of, WEIGHTS),
        SWEEP,
        SAME,
    ),
    claims=top_afa_claims(),
    summary=(
        "Where the rows of a dictionary are nearly orthogonal, a code's norm is nearly that of its "
        "input. Most codes are too small by this measure; and an activation that keeps just "
        "enough features for the norms to match needs no k. It reaches the error of the best TopK, "
        "but with dense codes."
    ),
    usage="""\
import torch
from rarefy.dictionaries import ArrayStream, NormLoss, TopAFA, train, zf_points

x = torch.randn(20_000, 64)
sae = TopAFA(64, 512)
train(sae, ArrayStream(x, batch_size=512), steps=100, losses=[NormLoss(2.0)])
print(zf_points(sae, x[:1000]).ratio, sae.encode(x[:1000]).l0.float().mean())
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
    tour_seeds=0,
)


# Compared and hashed as an object, so that what is remembered of it is never another's.
@dataclass(frozen=True, eq=False)
class Shared:
    """Patches, rows of the code model's layers, and the width of the patches' dictionaries."""

    patches: Patches
    layers: Layers
    n_latents: int


def setup(
    trial: Trial, *, model: str | None = None, data: Path | None = None, n_latents: int = 512
) -> Shared:
    """Cut the patches and harvest the activations.

    Parameters
    ----------
    model : str, optional
        A model folder or hub name of four layers or more; the shipped code model by default.
    data : Path, optional
        A text file or folder; the standard library by default.
    n_latents : int
        Latents of the patches' dictionaries.
    """
    from rarefy.papers._abstopk_training import one_thread_everywhere
    from rarefy.papers._patches import patches
    from rarefy.papers._top_afa_training import layers

    if n_latents < max(KS):
        raise ValueError(f"n_latents must be at least {max(KS)}, got {n_latents}")
    trial.progress("harvesting activations")
    with one_thread_everywhere():
        rows = layers(
            model,
            data,
            trial.device,
            trial.pick(smoke=1500, default=30_000, full=2_000_000),
            trial.pick(smoke=500, default=4000, full=20_000),
        )
        cut = patches(
            train=trial.pick(smoke=4000, default=80_000, full=80_000),
            test=trial.pick(smoke=500, default=4000, full=20_000),
            standardise=True,
        )
    return Shared(cut, rows, n_latents)


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure an arm: the bound, the diagnostics of every layer, or errors on patches."""
    from rarefy.papers._abstopk_training import one_thread_everywhere

    with one_thread_everywhere():
        return _measure(arm, shared, trial)


def _measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.papers._top_afa_training import diagnosed, judged, theory_metrics

    if arm == "theory":
        return theory_metrics(trial)
    if arm.startswith("code model"):
        return diagnosed(_of_layers(arm.split(", ")[1], shared, trial), shared.layers.test[:LAYERS])
    test = shared.patches.test
    hard = _difficulty(shared, trial)
    if arm in map(arm_of, WEIGHTS):
        return judged(_ours(float(arm.split(", ")[1]), shared, trial), test, difficulty=hard)
    if arm == SAME:
        l0 = _ours(2.0, shared, trial).encode(test).l0.float().mean()
        k = min(shared.n_latents, max(1, round(float(l0))))
        return judged(_top_k(k, shared, trial), test, difficulty=hard)
    sweep = {k: judged(_top_k(k, shared, trial), test, difficulty=hard) for k in KS}
    best = min(sweep.values(), key=lambda found: found["nmse"])
    return best | {
        f"{metric}_{k}": sweep[k][metric] for k in KS for metric in ("nmse", "mismatch", "lbo")
    }


@lru_cache(maxsize=2)
def _of_layers(kind: str, shared: Shared, trial: Trial) -> list[SparseAutoencoder]:
    from rarefy.papers._threads import side_by_side
    from rarefy.papers._top_afa_training import fitted

    return side_by_side(
        [
            partial(
                fitted,
                kind,
                x,
                n_latents=512,
                k=_DIFFICULT,
                steps=trial.pick(smoke=4, default=200, full=10_000),
                batch_size=256,
                lr=4e-3,
                seed=trial.seed,
            )
            for x in shared.layers.train[:LAYERS]
        ]
    )


@lru_cache(maxsize=2)
def _patch_dictionaries(shared: Shared, trial: Trial) -> dict[str, SparseAutoencoder]:
    """Train top-AFA at every weight and TopK at every k, two at a time."""
    from rarefy.papers._threads import side_by_side

    names = [*map(arm_of, WEIGHTS), *(f"topk, {k}" for k in KS)]
    jobs = [partial(_fit, "top-afa", shared, trial, weight=weight) for weight in WEIGHTS]
    jobs += [partial(_fit, "topk", shared, trial, k=k) for k in KS]
    return dict(zip(names, side_by_side(jobs), strict=True))


def _ours(weight: float, shared: Shared, trial: Trial) -> SparseAutoencoder:
    return _patch_dictionaries(shared, trial)[arm_of(weight)]


def _top_k(k: int, shared: Shared, trial: Trial) -> SparseAutoencoder:
    known = _patch_dictionaries(shared, trial)
    return known[f"topk, {k}"] if k in KS else _fit("topk", shared, trial, k=k)


def _fit(
    kind: str, shared: Shared, trial: Trial, *, k: int = 1, weight: float = 0.0
) -> SparseAutoencoder:
    from rarefy.papers._top_afa_training import fitted

    return fitted(
        kind,
        shared.patches.train,
        n_latents=shared.n_latents,
        k=k,
        weight=weight,
        steps=trial.pick(smoke=5, default=600, full=10_000),
        batch_size=256,
        lr=2e-3,
        seed=trial.seed,
    )


def _difficulty(shared: Shared, trial: Trial) -> Tensor:
    from rarefy.papers._top_afa_training import row_errors

    return row_errors(_top_k(_DIFFICULT, shared, trial), shared.patches.test)


def figure(measurements: Measurements) -> Figure:
    """Ratios of norms by layer, norms on patches, and error against active features."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(12.5, 4.2))
    ratios, matches, errors = drawn.subplots(1, 3)
    _draw_ratios(ratios, measurements)
    _draw_matches(matches, measurements)
    _draw_errors(errors, measurements)
    return drawn


def _draw_ratios(axes: Axes, measurements: Measurements) -> None:
    """Draw a ZF plot in short: medians of the ratio of norms, by layer."""
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    for colour, kind in zip(COLOURS, ("topk", "relu"), strict=False):
        ratio = [
            estimate(measurements.values(f"code model, {kind}", f"ratio_{i}")).mean
            for i in range(LAYERS)
        ]
        axes.plot(range(1, LAYERS + 1), ratio, "o-", color=colour, label=kind)
    axes.axhline(1, color=COLOURS[6], linewidth=1)
    axes.set_xticks(range(1, LAYERS + 1))
    axes.set(xlabel="layer", ylabel="norm of code / of input", title="Code model: under-activated")
    axes.legend(fontsize=8)


def _draw_matches(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    arms = [*map(arm_of, WEIGHTS), SAME, SWEEP]
    off = [100 * estimate(measurements.values(arm, "mismatch")).mean for arm in arms]
    axes.barh(range(len(arms)), off, color=[COLOURS[0]] * len(WEIGHTS) + [COLOURS[1]] * 2)
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    axes.set(xlabel="norms apart, %", title="Patches")


def _draw_errors(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    sweep = [estimate(measurements.values(SWEEP, f"nmse_{k}")).mean for k in KS]
    axes.plot(KS, sweep, "o-", color=COLOURS[1], label="TopK")
    for arm in map(arm_of, WEIGHTS):
        l0 = estimate(measurements.values(arm, "l0")).mean
        nmse = estimate(measurements.values(arm, "nmse")).mean
        axes.plot(l0, nmse, "s", color=COLOURS[0], label="top-AFA" if arm == OURS else None)
        axes.annotate(f" {arm.split(', ')[1]}", (l0, nmse), fontsize=8)
    axes.axvline(64, color=COLOURS[6], linewidth=1, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set(xlabel="active features (dotted: d)", ylabel="normalised error", title="Patches")
    axes.legend(fontsize=8)
