"""Paper 27: judge sparse autoencoders on one task, beside a dictionary that knows its attributes.

Part A, a linear IOI whose features are known: supervised dictionaries, then autoencoders of four
kinds, through approximation, control and interpretability. Part B, two toys in which features are
occluded and split. Part C, supervised dictionaries in a transformer that does the task.

Departures: no GPT-2 and no web text: the linear IOI stands for the cross-sections, sums of other
directions for other text, and part C is a transformer of 158,000 parameters (or the user's). In the
linear IOI S and Pos have readouts of their own. Part C has no unsupervised dictionaries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rarefy.evidence.claims import Measurements
from rarefy.papers._recipe import Paper, Trial
from rarefy.papers._sae_evals_claims import sae_evals_claims

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.papers._sae_evals_measures import Skyline
    from rarefy.papers._sae_evals_saes import Learned, Variant
    from rarefy.papers._sae_evals_simulator import LinearIOI
    from rarefy.papers._sae_evals_transformer import Transformer

LEARNED = ("vanilla", "gated", "top-k", "frozen decoder", "other text")
RATIOS = {"occlusion, 2 to 1": 2.0, "occlusion, 1 to 1": 1.0}
OCCLUSION_L1 = (0.2, 0.3)
SHRINKING_L1 = 0.2
SHRINKING = (0.0, 0.25, 0.5, 0.75, 1.0)
NEEDED_FIRING = 0.02

PAPER = Paper(
    number=27,
    slug="sae-evals",
    title=(
        "Towards Principled Evaluations of Sparse Autoencoders for Interpretability and Control"
    ),
    venue="arXiv 2405.08366, 2024",
    authors_code="https://github.com/amakelov/sae",
    domain="dictionaries",
    arms=(
        "no edit",
        "supervised",
        "supervised, means",
        "supervised, names in order",
        *LEARNED,
        *RATIOS,
        "shrinking IO",
        "two Gaussians",
        "transformer, no edit",
        "transformer, supervised",
    ),
    claims=sae_evals_claims(),
    summary=(
        "On a task whose attributes are known, a supervised dictionary shows what a dictionary can "
        "do: three active features are sufficient, necessary, and steer the model. Autoencoders "
        "come near in approximation and stay behind in control; they give features to the larger "
        "of two attributes only, and split one bit into many."
    ),
    usage="""\
from rarefy.dictionaries import Site, attribute_dictionary, collect, greedy_edit, patch

sites = [Site(layer, head, "z", "end") for layer in (9, 10) for head in range(12)]
a = collect(model, ids, sites, positions={"end": last_token})     # (prompts, sites, width)
supervised = attribute_dictionary(a, {"io": io, "s": s, "pos": pos})
edited = supervised.edit(a, "io", io, another_io)
logits = patch(model, ids, dict(zip(sites, edited.unbind(1))), positions={"end": last_token})
# any dictionary: greedy_edit(a_s, a_t, codes_s, codes_t, decoder, k=2)
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
    tour_seeds=0,
)


@dataclass(frozen=True, eq=False)
class Shared:
    """What one seed judges dictionaries with; each part is made when an arm first asks."""

    trial: Trial
    n_latents: int
    l1: float
    model: Path | None

    @cached_property
    def simulator(self) -> LinearIOI:
        """Part A."""
        from rarefy.papers._sae_evals_simulator import LinearIOI

        n = self.trial.pick(smoke=(1024, 512), default=(8000, 4000), full=(20000, 8000))
        return LinearIOI.draw(*n, generator=self.trial.generator())

    @cached_property
    def skyline(self) -> Skyline:
        """The supervised dictionary of part A."""
        from rarefy.papers._sae_evals_measures import Skyline

        return Skyline(self.simulator)

    @cached_property
    def learned(self) -> dict[str, Learned]:
        """The unsupervised dictionaries of part A, trained together."""
        from rarefy.papers._sae_evals_saes import learn
        from rarefy.papers._threads import side_by_side

        def train(arm: str) -> Learned:
            other = arm == "other text"
            return learn(
                "vanilla" if other else cast("Variant", arm),
                self.simulator.background if other else self.simulator.train_activations,
                n_latents=self.n_latents,
                l1=self.l1,
                steps=self.trial.pick(smoke=10, default=1000, full=5000),
                seed=self.simulator.dictionary_seed,
            )

        self.trial.progress("training five dictionaries", 0.0)
        trained = side_by_side([partial(train, arm) for arm in LEARNED])
        return dict(zip(LEARNED, trained, strict=True))

    @cached_property
    def transformer(self) -> Transformer:
        """Part C."""
        from rarefy.papers._sae_evals_transformer import Transformer

        n = self.trial.pick(smoke=(800, 50), default=(4000, 1000), full=(20000, 5000))
        return Transformer.open(self.model, *n, generator=self.trial.generator())


def setup(
    trial: Trial, *, n_latents: int = 192, l1: float = 0.15, model: Path | None = None
) -> Shared:
    """Say what to judge; nothing is computed before an arm asks for it.

    Parameters
    ----------
    n_latents : int
        Of the autoencoders of part A; the paper has 1,024 for 434 values of its attributes, and
        here there are 82.
    l1 : float
        Weight of their L1 penalty, for inputs of mean norm 1.
    model : Path, optional
        A causal language model of the GPT-2 or Llama kind, for part C, to whose tokenizer each
        word of the task is one token (GPT-2's is such); the shipped IOI model by default.
    """
    if n_latents < 8:
        raise ValueError(f"n_latents is {n_latents}, expected at least 8")
    if l1 < 0:
        raise ValueError(f"l1 is {l1}, expected 0 or more")
    return Shared(trial, n_latents, l1, model)


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure one arm."""
    if arm in LEARNED:
        return _learned(arm, shared)
    if arm in RATIOS:
        return _occlusion(RATIOS[arm], trial)
    return {
        "no edit": _no_edit,
        "supervised": _supervised,
        "supervised, means": _means,
        "supervised, names in order": _names,
        "shrinking IO": _shrinking,
        "two Gaussians": _two_gaussians,
        "transformer, no edit": _transformer_no_edit,
        "transformer, supervised": _transformer_supervised,
    }[arm](shared)


def _no_edit(shared: Shared) -> dict[str, float]:
    return _agreements(shared, edited=False)


def _agreements(shared: Shared, *, edited: bool) -> dict[str, float]:
    """Of each attribute; ``agreement`` is that of the worst."""
    found = {
        f"agreement_{name}": shared.skyline.agreement(name, edited=edited)
        for name in shared.simulator.tasks
    }
    worst = min(found.values()) if edited else max(found.values())
    return found | {"agreement": worst}


def _supervised(shared: Shared) -> dict[str, float]:
    simulator, skyline = shared.simulator, shared.skyline
    reconstruction = skyline.dictionary.reconstruct(simulator.test.attributes)
    approximation = simulator.task.approximation(reconstruction[:, None])
    return approximation._asdict() | skyline.metrics | _agreements(shared, edited=True)


def _means(shared: Shared) -> dict[str, float]:
    from rarefy.papers._sae_evals_transformer import supervised

    simulator = shared.simulator
    train, test = simulator.train.attributes, simulator.test.attributes
    fitted = supervised(simulator.train_activations, train, method="mean")
    return simulator.task.approximation(fitted.reconstruct(test)[:, None])._asdict()


def _names(shared: Shared) -> dict[str, float]:
    from rarefy.papers._sae_evals_transformer import names_in_order, supervised

    simulator = shared.simulator
    train, test = names_in_order(simulator.train), names_in_order(simulator.test)
    fitted = supervised(simulator.train_activations, train, method="mean")
    return simulator.task.approximation(fitted.reconstruct(test)[:, None])._asdict()


def _learned(arm: str, shared: Shared) -> dict[str, float]:
    from rarefy.papers._sae_evals_measures import measure_learned

    found = measure_learned(shared.learned[arm], shared.skyline)
    # A guided edit takes features out and puts others in: twice as many changes.
    return found | {"guided_gap": found["control_4"] - found["guided"]}


def _occlusion(ratio: float, trial: Trial) -> dict[str, float]:
    from rarefy.papers._sae_evals_toys import occlusion
    from rarefy.papers._threads import side_by_side

    def train(l1: float) -> dict[str, float]:
        return occlusion(
            ratio,
            n=trial.pick(smoke=1024, default=8000, full=8000),
            steps=trial.pick(smoke=10, default=900, full=900),
            l1=l1,
            generator=trial.generator(),
        )

    metrics: dict[str, float] = {}
    trained = side_by_side([partial(train, l1) for l1 in OCCLUSION_L1])
    for l1, found in zip(OCCLUSION_L1, trained, strict=True):
        metrics |= {f"{name}_{l1:g}": value for name, value in found.items()}
        metrics[f"gap_{l1:g}"] = found["large_near"] - found["small_near"]
        metrics[f"half_gap_{l1:g}"] = found["large_half"] - found["small_half"]
    return metrics


def _shrinking(shared: Shared) -> dict[str, float]:
    """Correlation, by rank, of how much of IO is taken out with how many S have a feature."""
    from scipy.stats import spearmanr

    from rarefy.dictionaries import coverage
    from rarefy.papers._sae_evals_saes import learn
    from rarefy.papers._sae_evals_toys import PAPER_RATE
    from rarefy.papers._threads import side_by_side

    simulator, trial = shared.simulator, shared.trial
    train, noise = simulator.train, simulator.noise["train"]

    def share_with_a_feature(alpha: float) -> float:
        a = simulator.activations(train, noise, io_scale=1 - alpha)
        learned = learn(
            "vanilla",
            a,
            n_latents=shared.n_latents,
            l1=SHRINKING_L1,
            steps=trial.pick(smoke=10, default=300, full=500),
            seed=simulator.dictionary_seed,
            lr=PAPER_RATE,
        )
        return coverage(learned.codes(a) != 0, train.s, threshold=0.5)

    values = side_by_side([partial(share_with_a_feature, alpha) for alpha in SHRINKING])
    # All equal: no correlation is defined, and nothing rises.
    spearman = float(spearmanr(SHRINKING, values)[0]) if len(set(values)) > 1 else 0.0
    named = {f"coverage_{alpha:g}": v for alpha, v in zip(SHRINKING, values, strict=True)}
    return named | {"spearman": spearman}


def _two_gaussians(shared: Shared) -> dict[str, float]:
    from rarefy.papers._sae_evals_toys import LAMBDAS, oversplitting

    trial = shared.trial
    found = oversplitting(
        n=trial.pick(smoke=500, default=8000, full=50000),
        n_train=trial.pick(smoke=1024, default=8000, full=50000),
        steps=trial.pick(smoke=10, default=600, full=5000),
        generator=trial.generator(),
    )
    gains = [
        found["ideal"][f"loss_{lam:g}"] - found["random"][f"loss_{lam:g}"]
        for lam in LAMBDAS
        # Where the ideal features hardly fire any more both losses are that of doing nothing.
        if found["ideal"][f"firing_{lam:g}"] >= NEEDED_FIRING
    ]
    named = {f"{who}_{m}": v for who, metrics in found.items() for m, v in metrics.items()}
    split = found["trained"]["features_per_sign"]
    return named | {"least_gain": min(gains), "compared": len(gains), "features_per_sign": split}


def _transformer_no_edit(shared: Shared) -> dict[str, float]:
    part = shared.transformer
    task = part.task
    agreement = task.agreement(task.activations, part.target_activations)
    return {"agreement": agreement, "accuracy": part.accuracy, "sites": len(part.sites)}


def _transformer_supervised(shared: Shared) -> dict[str, float]:
    from rarefy.papers._sae_evals_transformer import names_in_order, supervised

    part = shared.transformer
    task = part.task
    fitted = supervised(part.train_activations, part.train.attributes)
    found = task.approximation(fitted.reconstruct(part.test.attributes))._asdict()
    edited = fitted.edit(task.activations, "io", part.test.io, part.target.io)
    found["agreement"] = task.agreement(edited, part.target_activations)
    names = supervised(part.train_activations, names_in_order(part.train))
    by_names = task.approximation(names.reconstruct(names_in_order(part.test)))
    return found | {"sufficiency_names": by_names.sufficiency, "logit_difference": task.clean}


def figure(measurements: Measurements) -> Figure:
    """Draw control against features changed, occlusion, and over-splitting."""
    from rarefy.papers._sae_evals_figure import draw

    return draw(measurements)
