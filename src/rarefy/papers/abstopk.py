"""Paper 41, AbsTopK: sparse autoencoders whose codes keep their sign.

Four data sets: image patches (errors, with the controls of capacity), planted axes (one latent or
two), digits (probing) and a code model's activations (everything else). All dictionaries are
trained alike.

Departures: models, widths and runs are far smaller than the paper's; free labels stand in for
language-model judges and safety benchmarks, shifts of predictions for judged answers; RAVEL is left
out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rarefy.evidence.claims import Measurements
from rarefy.papers._abstopk_claims import KS, abstopk_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rarefy.dictionaries import SparseAutoencoder
    from rarefy.papers._abstopk_language import Language

AUTOENCODERS = (
    "topk",
    "abstopk",
    "jumprelu",
    "topk, twice as wide",
    "abstopk, half as wide",
)
PER_WAY = "topk, a latent for each way"
DIM = "difference in means"

PAPER = Paper(
    number=41,
    slug="abstopk",
    title="AbsTopK: Rethinking Sparse Autoencoders For Bidirectional Features",
    venue="ICLR 2026",
    authors_code="https://github.com/GoXzascc/AbsTopK-SAE",
    domain="dictionaries",
    arms=("operators", *AUTOENCODERS, PER_WAY, DIM),
    claims=abstopk_claims(),
    summary=(
        "The encoders of sparse autoencoders are single proximal gradient steps, with a hidden "
        "demand that codes be positive. Without it TopK becomes AbsTopK, which keeps the k largest "
        "magnitudes with their sign: one latent then holds both poles of an axis, and the error "
        "falls at the same k."
    ),
    usage="""\
import torch
from rarefy.dictionaries import ArrayStream, SparseAutoencoder, bidirectionality, train
from rarefy.operators import TopK

x = torch.randn(20_000, 64)
sae = SparseAutoencoder(64, 256, TopK(8))  # by magnitude, signs kept: AbsTopK
train(sae, ArrayStream(x, batch_size=512), steps=200)
print(bidirectionality(sae.encode(x)).two_sided().float().mean())
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
    tour_seeds=1,
)


# Compared and hashed as an object, so that what is remembered of it is never another's.
@dataclass(frozen=True, eq=False)
class Shared:
    """Rows of the code model, and the sizes of its dictionaries."""

    language: Language
    n_latents: int
    k: int
    kl: float


def setup(
    trial: Trial,
    *,
    model: str | None = None,
    data: Path | None = None,
    site: int = 1,
    n_latents: int = 1024,
    k: int = 16,
    kl: float = 0.1,
) -> Shared:
    """Harvest the activations.

    Parameters
    ----------
    model : str, optional
        A model folder or hub name; the shipped code model by default.
    data : Path, optional
        A text file or folder; the standard library by default.
    site : int
        Layer, counted from 0, whose output is taken.
    n_latents : int
        Latents of the code model's dictionaries.
    k : int
        Active latents there.
    kl : float
        Cost in nats at which steering is compared.
    """
    from rarefy.papers._abstopk_language import language
    from rarefy.papers._abstopk_training import one_thread_everywhere

    if not 1 <= k <= n_latents // 4:
        raise ValueError(f"k must be from 1 to a quarter of the {n_latents} latents, got {k}")
    if not kl > 0:
        raise ValueError(f"kl must be positive, got {kl}")
    trial.progress("harvesting activations")
    with one_thread_everywhere():
        rows = language(
            model,
            data,
            site,
            trial.device,
            trial.pick(smoke=1500, default=60_000, full=2_000_000),
            trial.pick(smoke=1000, default=2500, full=40_000),
            trial.pick(smoke=2, default=8, full=8),
        )
    return Shared(rows, n_latents, k, kl)


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure an arm on every data set that has something to ask of it."""
    from rarefy.papers._abstopk_training import one_thread_everywhere

    with one_thread_everywhere():
        return _measure(arm, shared, trial)


def _measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.papers._abstopk_language import steered
    from rarefy.papers._abstopk_theory import axis_metrics, operator_metrics
    from rarefy.papers._threads import side_by_side

    if arm == "operators":
        return operator_metrics(trial)
    if arm == DIM:
        return _shifts(_by_means(shared), shared)
    if arm == PER_WAY:
        sae = _on_language("topk", shared, trial)
        return _shifts(steered(sae, shared.language, kl=shared.kl, one_sided=True), shared)
    trial.progress(f"training {arm}", 0.1)
    jobs = [partial(_patch_metrics, arm, k, trial) for k in reversed(KS)]
    if arm in ("topk", "abstopk", "topk, twice as wide"):
        jobs.append(partial(axis_metrics, arm, trial))
    if arm in ("topk", "abstopk"):
        jobs.append(partial(_digit_metrics, arm, trial))
        jobs.insert(0, partial(_many_active, arm, shared, trial))
    if arm in ("topk", "abstopk", "jumprelu"):
        jobs.insert(0, partial(_language_metrics, arm, shared, trial))
    values: dict[str, float] = {}
    for part in side_by_side(jobs):
        values |= part
    return values


def _patch_metrics(arm: str, k: int, trial: Trial) -> dict[str, float]:
    from rarefy.dictionaries import evaluate
    from rarefy.papers._abstopk_training import trained
    from rarefy.papers._patches import patches

    rows = patches(
        train=trial.pick(smoke=2000, default=80_000, full=80_000),
        test=trial.pick(smoke=1000, default=8000, full=20_000),
        standardise=True,
    )
    sae = trained(
        arm,
        rows.train,
        n_latents=256,
        k=k,
        steps=trial.pick(smoke=4, default=300, full=3000),
        batch_size=512,
        lr=2e-3,
        seed=trial.seed,
    )
    found = evaluate(sae, rows.test)
    return {f"fvu_{k}": found.fvu, f"l0_{k}": found.l0, f"dead_{k}": found.dead}


def _digit_metrics(arm: str, trial: Trial) -> dict[str, float]:
    """Accuracy of one-against-rest probes on 1, 2 and 5 latents of a dictionary of digits."""
    from rarefy.data import digits
    from rarefy.dictionaries import Labelled, sparse_probe
    from rarefy.papers._abstopk_training import trained
    from rarefy.papers._patches import whitened

    images = digits(trial.generator())
    x, test_x = whitened(images.x.flatten(1), images.test_x.flatten(1))
    sae = trained(
        arm,
        x,
        n_latents=128,
        k=8,
        steps=trial.pick(smoke=4, default=300, full=2000),
        batch_size=256,
        lr=2e-3,
        seed=trial.seed,
    )
    return {
        f"digits_{k}": fmean(
            sparse_probe(
                sae, Labelled(x, images.y == c), Labelled(test_x, images.test_y == c), k=k
            ).accuracy
            for c in range(images.classes)
        )
        for k in (1, 2, 5)
    }


@lru_cache(maxsize=8)
def _on_language(arm: str, shared: Shared, trial: Trial) -> SparseAutoencoder:
    """Train on the code model's rows; remembered, because TopK's serves two arms."""
    from rarefy.papers._abstopk_training import trained

    return trained(
        arm,
        shared.language.train,
        n_latents=shared.n_latents,
        k=shared.k,
        steps=trial.pick(smoke=4, default=250, full=20_000),
        batch_size=512,
        lr=4e-3,
        seed=trial.seed,
    )


def _language_metrics(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.papers._abstopk_language import fidelity, judged, steered

    sae = _on_language(arm, shared, trial)
    if arm == "jumprelu":
        return fidelity(sae, shared.language)
    values = fidelity(sae, shared.language) | judged(sae, shared.language)
    # What stands for both poles: a latent of two meanings, or a pair of opposite ones.
    values["both_poles"] = max(values["opposite"], values["split_pairs"])
    return values | _shifts(steered(sae, shared.language, kl=shared.kl), shared)


def _many_active(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Variance unexplained where four times as many latents are active."""
    from rarefy.dictionaries import evaluate

    sae = _on_language(arm, replace(shared, k=4 * shared.k), trial)
    return {"fvu_lm_4k": evaluate(sae, shared.language.test.x).fvu}


@lru_cache(maxsize=2)
def _by_means(shared: Shared) -> dict[str, float]:
    from rarefy.papers._abstopk_language import steered

    return steered(None, shared.language, kl=shared.kl)


def _shifts(shifts: dict[str, float], shared: Shared) -> dict[str, float]:
    """Shift of every attribute, their mean, and the share that comes near DiM's."""
    best = _by_means(shared)
    near = fmean(shift >= 0.9 * best[name] for name, shift in shifts.items())
    by_name = {f"shift_{name.replace(' ', '_')}": shift for name, shift in shifts.items()}
    return by_name | {"shift": fmean(shifts.values()), "near_dim": near}


def figure(measurements: Measurements) -> Figure:
    """Error against k, how axes are represented, and steering at equal cost."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(12.5, 4.2))
    errors, axes, steering = drawn.subplots(1, 3, width_ratios=(1.3, 0.8, 1.2))
    _draw_errors(errors, measurements)
    _draw_axes(axes, measurements)
    _draw_steering(steering, measurements)
    return drawn


def _draw_errors(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    for colour, arm in zip(COLOURS, AUTOENCODERS, strict=False):
        l0 = [estimate(measurements.values(arm, f"l0_{k}")).mean for k in KS]
        found = [estimate(measurements.values(arm, f"fvu_{k}")) for k in KS]
        low = [0.0 if e.low is None else e.mean - e.low for e in found]
        style = "--" if "wide" in arm else "-"
        axes.errorbar(
            l0, [e.mean for e in found], yerr=low, fmt=f"o{style}", color=colour, label=arm
        )
    axes.set_xscale("log", base=2)
    axes.set(xlabel="active latents", ylabel="variance unexplained", title="Image patches")
    axes.legend(fontsize=8)


def _draw_axes(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    arms = ("topk", "topk, twice as wide", "abstopk")
    for colour, metric, label in (
        (COLOURS[0], "axes_in_one", "in one latent"),
        (COLOURS[1], "axes_in_two", "split in two"),
    ):
        shares = [100 * estimate(measurements.values(arm, metric)).mean for arm in arms]
        offset = -0.2 if metric == "axes_in_one" else 0.2
        axes.bar([i + offset for i in range(3)], shares, width=0.38, color=colour, label=label)
    axes.set_xticks(range(3), ["TopK", "TopK, for\nboth poles", "AbsTopK"])
    axes.set(ylabel="% of planted axes", title="Axes")
    axes.legend(fontsize=8)


def _draw_steering(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    names = [m for m in measurements.metrics if m.startswith("shift_")]
    arms = (DIM, "abstopk", "topk", PER_WAY)
    for place, arm in enumerate(arms):
        values = [estimate(measurements.values(arm, name)).mean for name in names]
        axes.bar(
            [i + 0.2 * (place - 1.5) for i in range(len(names))],
            values,
            width=0.19,
            color=COLOURS[place],
            label=arm,
        )
    axes.set_xticks(
        range(len(names)),
        [name.removeprefix("shift_").replace("_", " ") for name in names],
        rotation=30,
        ha="right",
        fontsize=8,
    )
    axes.set(ylabel="shift of log odds at equal KL", title="Steering by one direction")
    axes.legend(fontsize=8)
