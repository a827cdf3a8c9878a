"""Paper 30, MP-SAE: a sparse autoencoder whose encoder is matching pursuit.

A concept tree whose truth is known (part A), patches of photographs and a language model's
activations (part B), and planted data for what the paper shows on vision-language models (part C).

Departures: the number of active latents of ReLU is steered to the others'; Matryoshka's prefixes
follow the order of the latents. c2 to c5 are judged on patches and on a language model's rows, in
place of vision backbones; c6 on two planted modalities whose rows mix more concepts than a code may
have latents. Recovery of features in superposition, where others found MP-SAE worse, is reported
without a claim.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from rarefy.evidence.claims import Measurements
from rarefy.papers._mp_sae_claims import mp_sae_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.papers._mp_sae_real import Rows

# Settings were chosen on seeds from 0 to 299: figures that judge them come from seeds never seen.
_FIRST_SEED = 1000

# The settings of the tree: name, cosine between siblings, mean amplitude of children, and arms.
_ALL = ("mp", "batchtopk", "relu", "matryoshka")
TREES: dict[str, tuple[float, float, tuple[str, ...]]] = {
    "0": (0.0, 1.5, _ALL),
    "0.1": (0.1, 1.5, _ALL),
    "0.3": (0.3, 1.5, _ALL),
    "0.9": (0.9, 1.5, ("mp", "relu")),
    "weak": (0.0, 0.1, _ALL),
}

PAPER = Paper(
    number=30,
    slug="mp-sae",
    title="From Flat to Hierarchical: Extracting Sparse Representations with Matching Pursuit",
    venue="NeurIPS 2025",
    authors_code="https://github.com/mpsae/MP-SAE",
    domain="dictionaries",
    arms=("mp", "topk", "batchtopk", "relu", "matryoshka"),
    claims=mp_sae_claims(),
    summary=(
        "An autoencoder that picks its latents one after the other, each the best for what is left "
        "over, learns a hierarchy that others merge: ReLU and TopK children absorb their parents. "
        "How many latents it uses can be changed after training."
    ),
    usage="""\
import torch
from rarefy.dictionaries import ArrayStream, MatchingPursuitSAE, Revive, train

x = torch.randn(4096, 64)
sae = MatchingPursuitSAE(64, 256, k=8)
train(sae, ArrayStream(x, batch_size=512), steps=100, losses=[Revive()])
codes = sae.encode(x, 16)  # more steps than it was trained at
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
    tour_seeds=0,
)


class Shared(NamedTuple):
    """Real rows, the same for all seeds."""

    patches: Rows
    language: Rows


def setup(trial: Trial, *, model: str | None = None, layer: int = 2) -> Shared:
    """Cut patches and harvest activations.

    Parameters
    ----------
    model : str, optional
        A causal language model: a folder, or a hub name; by default the shipped code model.
    layer : int
        Whose output is learned, counted from 0.
    """
    from rarefy.papers._mp_sae_real import Rows, activations
    from rarefy.papers._patches import patches

    train = trial.pick(smoke=2000, default=20_000, full=200_000)
    test = trial.pick(smoke=500, default=4000, full=20_000)
    return Shared(
        Rows(*patches(train=train, test=test)),
        activations(model, layer, train, test // 2, trial.device),
    )


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure an arm on all parts that speak of it."""
    from rarefy.papers._threads import one_thread

    trial = replace(trial, seed=trial.seed + _FIRST_SEED)
    with one_thread():
        values = _measure_tree(arm, trial)
        if arm != "matryoshka":
            values |= _measure_real(arm, shared, trial)
        if arm in ("mp", "topk"):
            values |= _measure_planted(arm, trial)
    return values


def _measure_tree(arm: str, trial: Trial) -> dict[str, float]:
    from rarefy.data import make_concept_tree
    from rarefy.papers._mp_sae_tree import learn_tree
    from rarefy.papers._threads import side_by_side

    settings = {name: setting for name, setting in TREES.items() if arm in setting[2]}
    trial.progress("learning concept trees", 0.0)
    steps = trial.pick(smoke=6, default=820, full=15_000)
    learned = side_by_side(
        [
            partial(
                learn_tree,
                arm,
                make_concept_tree(correlation=correlation, child_mean=child_mean),
                steps=steps,
                seed=trial.seed,
            )
            for correlation, child_mean, _ in settings.values()
        ]
    )
    values: dict[str, float] = {}
    for name, tree in zip(settings, learned, strict=True):
        values |= {f"{metric}_{name}": value for metric, value in tree.metrics.items()}
    if learned:
        # the picture's heat map: parent and child, and every pair of the first family's four
        gram = learned[0].gram
        values |= {f"gram_{i}_{j}": float(gram[i, j]) for i in range(12) for j in range(12)}
    return values


def _measure_real(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.dictionaries import MatchingPursuitSAE
    from rarefy.papers._mp_sae_real import (
        by_inference,
        coherence,
        fidelity,
        learn,
        pursuit_facts,
        rank,
    )
    from rarefy.papers._threads import side_by_side

    trial.progress("learning patches and activations", 0.4)
    steps = trial.pick(smoke=4, default=200, full=20_000)
    at = partial(learn, arm, steps=steps, batch=trial.pick(smoke=256, default=512, full=4096))
    counts = (4, 8, 16)
    jobs = [
        partial(at, shared.patches, n_latents=256, k=k, seed=trial.seed) for k in reversed(counts)
    ]
    width = 4 * shared.language.train.shape[1]
    language = partial(at, shared.language, n_latents=width, k=16, seed=trial.seed)
    on_language, *on_patches = side_by_side([language, *jobs])
    by_count = dict(zip(reversed(counts), on_patches, strict=True))
    values = fidelity(on_language, shared.language, "language")
    for k in counts:
        values |= fidelity(by_count[k], shared.patches, f"patches_{k}")
        values[f"rank_{k}"] = rank(by_count[k], shared.patches)
    values["rank_growth"] = values["rank_16"] / values["rank_4"]
    judged = (("patches", by_count[8], shared.patches, 8),
              ("language", on_language, shared.language, 16))  # fmt: skip
    for name, sae, rows, k in judged:
        values |= coherence(sae, rows, k, name)
        if arm in ("mp", "topk"):
            values |= by_inference(sae, rows, k, name)
        if isinstance(sae, MatchingPursuitSAE):
            facts = pursuit_facts(sae, rows.test, 4 * k)
            values |= {fact: max(values.get(fact, 0.0), worst) for fact, worst in facts.items()}
    return values


def _measure_planted(arm: str, trial: Trial) -> dict[str, float]:
    from rarefy.papers._mp_sae_planted import learn_modalities, learn_superposed
    from rarefy.papers._threads import side_by_side

    trial.progress("learning planted data", 0.8)
    sizes = {"rows": trial.pick(smoke=1000, default=10_000, full=50_000), "seed": trial.seed}
    steps = trial.pick(smoke=4, default=400, full=5000)
    shared, recovered = side_by_side(
        [
            partial(learn_modalities, arm, steps=steps, **sizes),
            partial(learn_superposed, arm, steps=steps, **sizes),
        ]
    )
    return {"shared_latents": shared, "recovery_superposed": recovered}


def figure(measurements: Measurements) -> Figure:
    """Cosines of learned concepts beside the true ones, and error against inference steps."""
    from matplotlib.figure import Figure

    from rarefy.papers._mp_sae_figure import draw_errors, draw_grams

    drawn = Figure(figsize=(11, 6.4), layout="constrained")
    above, below = list(drawn.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.1))[:, 0])
    draw_grams(above, measurements, ("mp", "batchtopk", "relu", "matryoshka"))
    draw_errors(below, measurements)
    return drawn
