"""Paper 35, Mutual Choice and Feature Choice: who picks whom when codes share one budget.

Rows of planted features, common and rare by a Zipf law, few or many in a row; dictionaries that
pick latents for each row (TopK), pairs out of a whole batch (Mutual Choice, MC) or rows for each
latent (Feature Choice, FC). At equal mean L0: variance left, dead and under-used latents, densities
by rank, and whether richer rows get more latents. And a layer of a language model: variance left,
loss recovered, and whether harder tokens get more.

Departures: planted data and the shipped code model in place of GPT-2. The form of aux-zipf and the
schedule from Mutual to Feature Choice are rarefy's own, the paper's are not public; FC trains half
as long again.

The language model's rows are of nearly equal norm. Mutual Choice leaves 4 % more variance there
than TopK, and in trials on single seeds 2 to 4 % at 300 steps too, with aux-k and aux-zipf or with
neither; harder tokens get fewer latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from rarefy.evidence.claims import Measurements
from rarefy.papers._mutual_choice_claims import mutual_choice_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rarefy.papers._mutual_choice_language import Language
    from rarefy.papers._mutual_choice_training import Planted, Schedule

PAPER = Paper(
    number=35,
    slug="mutual-choice",
    title="Adaptive Sparse Allocation with Mutual Choice & Feature Choice Sparse Autoencoders",
    venue="arXiv 2411.02124, 2024",
    authors_code="",
    domain="dictionaries",
    arms=(
        "TopK",
        "MC",
        "FC",
        "FC, zipf",
        "FC, uniform",
        *(f"MC, aux-{what} {alpha}" for alpha in (1, 4) for what in ("k", "zipf")),
        "TopK, wide",
        "MC, wide",
        "FC, wide",
    ),
    claims=mutual_choice_claims(),
    summary=(
        "Sparse codes match rows to features under a budget. Fixing only the total (Mutual Choice, "
        "which is BatchTopK) spends it where rows are rich and reconstructs best; fixing how often "
        "each feature fires, by a Zipf law (Feature Choice), leaves none dead."
    ),
    usage="""\
import torch
from rarefy.dictionaries import ArrayStream, BatchCoupled, SparseAutoencoder, progressive_choice
from rarefy.operators import BatchTopK

sae = SparseAutoencoder(16, 64, BatchCoupled(BatchTopK(4, by="positive"), 64))
x = torch.randn(4096, 16, generator=torch.Generator().manual_seed(0))
law = progressive_choice(sae, ArrayStream(x, batch_size=512), steps=60)
sae.encode(x)
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
    tour_seeds=0,
)


# What is also trained on the language model.
LANGUAGE = ("TopK", "MC", "FC")


@dataclass(frozen=True)
class Shared:
    """Rows of one seed, the sizes of the two widths, and a language model's site."""

    train: Planted
    held: Planted
    narrow: Schedule
    wide: Schedule
    language: Language


def setup(
    trial: Trial,
    *,
    latents: int = 512,
    k: int = 8,
    batch: int = 1024,
    model: str | None = None,
    layer: int = 2,
) -> Shared:
    """Plant the features, draw the rows, and harvest a language model's activations.

    Parameters
    ----------
    latents : int
        Of a dictionary; those called wide have 8 times as many.
    k : int
        Latents a row, on average; the rows have 8 features.
    batch : int
        Rows that share a budget.
    model : str, optional
        A causal language model: a folder, or a hub name; by default the shipped code model.
    layer : int
        Whose output is learned, counted from 0, with 8 times as many latents as it is wide.
    """
    import torch

    from rarefy.papers._mutual_choice_language import Language
    from rarefy.papers._mutual_choice_training import Schedule, planted, planted_atoms
    from rarefy.papers._spliced_site import language_site
    from rarefy.papers._threads import one_thread

    narrow_steps = trial.pick(smoke=6, default=450, full=700)
    wide_steps = trial.pick(smoke=2, default=120, full=700)
    narrow = Schedule(latents, k, batch, narrow_steps)
    wide = Schedule(8 * latents, k, batch, wide_steps)
    with one_thread():
        site = language_site(
            *(model, layer),
            train=trial.pick(smoke=6, default=200, full=2000),
            held=trial.pick(smoke=4, default=24, full=100),
            gradients=False,
            device=trial.device,
        )
    language = Language(
        site,
        Schedule(
            8 * site.x.shape[1],
            k=16,
            batch=512,
            steps=trial.pick(smoke=2, default=100, full=2000),
            lr=3e-3,
        ),
    )
    # Not the trial's seed: from it a dictionary would draw these very features.
    generator = torch.Generator().manual_seed(trial.seed + 10_000)
    atoms = planted_atoms(generator)
    rows = trial.pick(smoke=8192, default=60_000, full=60_000)
    return Shared(
        planted(rows, generator, atoms=atoms),
        planted(8192, generator, atoms=atoms),
        narrow,
        wide,
        language,
    )


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Train one kind of dictionary and measure it on held-out rows."""
    from rarefy.papers._mutual_choice_language import on_language
    from rarefy.papers._mutual_choice_training import figures, learn
    from rarefy.papers._threads import one_thread

    how = arm.removesuffix(", wide")
    schedule = shared.narrow if how == arm else shared.wide
    with one_thread():
        values = figures(*learn(how, shared.train.x, schedule, trial), shared.held, schedule)
        if arm in LANGUAGE:
            values |= on_language(arm, shared.language, trial)
    return values


def figure(measurements: Measurements) -> Figure:
    """Densities by rank under their law, and variance left against under-used latents."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.5, 4.2))
    ranks, costs = drawn.subplots(1, 2)
    _draw_ranks(ranks, measurements)
    _draw_costs(costs, measurements)
    return drawn


def _draw_ranks(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS

    for colour, arm in zip(COLOURS, ("TopK", "MC", "FC"), strict=False):
        seen = {
            int(metric.removeprefix("density_")): fmean(measurements.values(arm, metric))
            for metric in {m.metric for m in measurements if m.arm == arm}
            if metric.startswith("density_")
        }
        ranks = sorted(rank for rank in seen if seen[rank] > 0)
        axes.plot(ranks, [seen[rank] for rank in ranks], "o", ms=3, color=colour, label=arm)
        if arm == "MC":
            s, q, c = (fmean(measurements.values(arm, f"law_{name}")) for name in "sqc")
            axes.plot(
                ranks, [c * (r + q) ** -s for r in ranks], color=COLOURS[6], lw=1, label="MC's law"
            )
    axes.set(xscale="log", yscale="log", xlabel="rank", ylabel="density")
    axes.set_title("How often latents fire")
    axes.legend(fontsize=8)


def _draw_costs(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    for arm in PAPER.arms:
        if arm.endswith("wide"):
            continue
        x = 100 * estimate(measurements.values(arm, "under_used")).mean
        y = estimate(measurements.values(arm, "fvu")).mean
        axes.plot(x, y, "o", color=COLOURS[PAPER.arms.index(arm) % 6])
        axes.annotate(arm, (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
    axes.set(xlabel="under-used latents, %", ylabel="variance left", title="What it costs")
