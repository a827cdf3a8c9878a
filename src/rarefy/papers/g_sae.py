"""Paper 34, g-SAE: latents chosen by activation and by what the loss feels of them.

A layer of a language model, and the middle of a digits network at two and at four latents a row: a
reconstruction takes the site's place, chosen by activation, by gradients (in an ordinary TopK
dictionary too) or by thresholds that keep as many latents. And planted rows, of loud features that
no loss reads and quiet ones that it reads.

Departures: the shipped code model and a digits network in place of GPT-2; half-trained dictionaries
(minutes, not days). Gradients are of the true label, which choosing by them at test time therefore
knows.

Planted quiet features are not recovered better by the rule, and the last arms measure why. Handed
the true features, the rule picks about half of the quiet ones that are there where TopK picks a
twentieth. Training on from there loses them, and what loses them is the squared error of x, which
pays every latent that is picked for taking up loud energy, ten times that of the quiet: counted
only where the loss reads, training by the same rule keeps nearly all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from rarefy.evidence.claims import Measurements
from rarefy.papers._g_sae_claims import g_sae_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.dictionaries import SparseAutoencoder
    from rarefy.papers._g_sae_bench import Digits, Planted
    from rarefy.papers._g_sae_cause import Taught
    from rarefy.papers._spliced_site import LanguageSite

Selection = Literal["activation", "gradient", "threshold"]

# How latents are chosen in training, and then at test time.
ARMS: dict[str, tuple[str, Selection]] = {
    "TopK": ("TopK", "activation"),
    "TopK, gradient": ("TopK", "gradient"),
    "g-SAE, gradient": ("g-SAE 1", "gradient"),
    "g-SAE, activation": ("g-SAE 1", "activation"),
    "g-SAE, threshold": ("g-SAE 1", "threshold"),
    "attribution": ("g-SAE inf", "gradient"),
    "shuffled": ("g-SAE shuffled", "gradient"),
    "beta 0": ("g-SAE 0", "activation"),
}
# Weighing a direction's gradient like its activation: along a direction drawn at random g is of
# the order of 1 / sqrt(256) in the language model's layer, so that 1 hardly changes a choice there.
STRONG = "g-SAE strong"
K = (2, 4)
K_LANGUAGE = 16
# One arm of each training stands for it on the planted rows, where the dictionary itself is judged.
PLANTED = ("TopK", "g-SAE, gradient", "attribution", "shuffled")
# What happens to true features that a rule is handed.
CAUSES: dict[str, tuple[str, Taught]] = {
    "TopK, handed": ("TopK", "handed"),
    "attribution, handed": ("g-SAE inf", "handed"),
    "TopK, trained on": ("TopK", "trained on"),
    "attribution, trained on": ("g-SAE inf", "trained on"),
    "attribution, quiet error": ("g-SAE inf", "trained on, quiet error"),
}

PAPER = Paper(
    number=34,
    slug="g-sae",
    title="Features that Make a Difference: Leveraging Gradients for Improved Dictionary Learning",
    venue="NAACL 2025 Findings",
    authors_code="",
    domain="dictionaries",
    arms=(*ARMS, STRONG, *CAUSES),
    claims=g_sae_claims(),
    summary=(
        "A TopK autoencoder that chooses latents by activation times sensitivity of the loss is "
        "said to keep a model's loss better, with fewer dead latents that steer more. Its rule "
        "knows the label, so it is held against the same rule on a TopK dictionary. That people "
        "find its features as readable, and that it holds for every size of GPT-2, cannot be "
        "measured offline."
    ),
    usage="""\
import torch
from rarefy.dictionaries import ArrayStream, GradientSAE, train

x, g = torch.randn(2, 1024, 16, generator=torch.Generator().manual_seed(0))
sae = GradientSAE(16, 64, k=4, beta=1.0)
train(sae, ArrayStream(x, g, batch_size=128), steps=50)
sae.selection = "gradient"  # or "activation", "threshold": without gradients
sae.encode(x, g)
""",
    seeds={"smoke": 1, "default": 3, "full": 10},
    tour_seeds=0,
)


# Compared and hashed as an object, so that what is remembered of it is never another's.
@dataclass(frozen=True, eq=False)
class Shared:
    """A language model's site, a network's site, planted rows, and the number of latents."""

    language: LanguageSite
    digits: Digits
    planted: Planted
    latents: int


def setup(trial: Trial, *, latents: int = 256, model: str | None = None, layer: int = 2) -> Shared:
    """Harvest a language model's activations, train the digits network and plant the features.

    Parameters
    ----------
    latents : int
        Of the dictionaries of the digits network's site, which is 64 wide.
    model : str, optional
        A causal language model: a folder, or a hub name; by default the shipped code model.
    layer : int
        Whose output is learned, counted from 0, with 8 times as many latents as it is wide.
    """
    from rarefy.papers._g_sae_bench import digits_network, planted
    from rarefy.papers._spliced_site import language_site
    from rarefy.papers._threads import one_thread

    if latents < max(K):
        raise ValueError(f"latents must be at least {max(K)}, got {latents}")
    with one_thread():
        return Shared(
            language_site(
                *(model, layer),
                train=trial.pick(smoke=6, default=200, full=2000),
                held=trial.pick(smoke=4, default=24, full=100),
                gradients=True,
                device=trial.device,
            ),
            digits_network(trial, epochs=trial.pick(smoke=3, default=30, full=30)),
            planted(trial, rows=trial.pick(smoke=2000, default=20_000, full=50_000)),
            latents,
        )


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Train the arm's dictionaries, or remember them, and judge them by its choice of latents."""
    from rarefy.papers._g_sae_cause import cause
    from rarefy.papers._threads import one_thread

    with one_thread():
        if arm in CAUSES:
            steps = _planted_steps(trial)
            return cause(*CAUSES[arm], shared.planted, trial, steps=steps)
        if arm == STRONG:
            return _on_language("g-SAE 16", "gradient", shared, trial)
        values = _on_digits(arm, shared, trial)
        if arm in PLANTED:
            trial.progress("planted features", 0.5)
            values |= _on_planted(arm, shared, trial)
        if ARMS[arm][0] in ("TopK", "g-SAE 1"):
            trial.progress("on the language model", 0.6)
            values |= _on_language(*ARMS[arm], shared, trial)
            if arm in ("TopK", "g-SAE, gradient"):
                values["steering_lm"] = _steering_on_language(ARMS[arm][0], shared, trial)
    return values


def _on_digits(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.papers._g_sae_bench import chosen_by, judge, steering

    rule, selection = ARMS[arm]
    values: dict[str, float] = {}
    for place, k in enumerate(K if arm != "beta 0" else K[:1]):
        trial.progress(f"{rule} at {k} latents a row", place / 4)
        sae = chosen_by(selection, _learned(rule, k, shared, trial), shared.digits.held.x)
        values |= {f"{name}_{k}": v for name, v in judge(sae, shared.digits).items()}
        if arm in ("TopK", "g-SAE, gradient"):
            values[f"steering_{k}"] = steering(sae, shared.digits)
    if arm == "beta 0":
        top = _learned("TopK", K[0], shared, trial)
        own = _learned(rule, K[0], shared, trial)
        values["off_topk"] = float((top.decoder - own.decoder).abs().max().detach())
    return values


def _on_planted(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.papers._g_sae_bench import learn, recovered

    x, g, _ = shared.planted.rows
    steps = _planted_steps(trial)
    sae = learn(ARMS[arm][0], x, g, trial, latents=128, k=2, steps=steps)
    return {"quiet": recovered(sae, shared.planted.quiet)}


def _on_language(rule: str, selection: Selection, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.papers._g_sae_bench import chosen_by
    from rarefy.papers._g_sae_language import judge_language

    site = shared.language
    sae = chosen_by(selection, _learned_language(rule, shared, trial), site.held.x)
    return judge_language(sae, site)


def _steering_on_language(rule: str, shared: Shared, trial: Trial) -> float:
    from rarefy.papers._g_sae_language import steering_language

    latents = trial.pick(smoke=1, default=24, full=200)
    sae = _learned_language(rule, shared, trial)
    return steering_language(sae, shared.language, trial, latents=latents)


@lru_cache(maxsize=16)
def _learned(rule: str, k: int, shared: Shared, trial: Trial) -> SparseAutoencoder:
    """Train on the network's site; remembered, because several choices share a training."""
    from rarefy.papers._g_sae_bench import learn

    steps = trial.pick(smoke=20, default=400, full=2000)
    x, g, _ = shared.digits.train
    return learn(rule, x, g, trial, latents=shared.latents, k=k, steps=steps)


@lru_cache(maxsize=4)
def _learned_language(rule: str, shared: Shared, trial: Trial) -> SparseAutoencoder:
    from rarefy.papers._g_sae_bench import learn

    x, g = shared.language.x, shared.language.g
    assert g is not None
    steps = trial.pick(smoke=3, default=150, full=2000)
    latents = 8 * x.shape[1]
    return learn(rule, x, g, trial, latents=latents, k=K_LANGUAGE, steps=steps, batch=512, lr=3e-3)


def _planted_steps(trial: Trial) -> int:
    return trial.pick(smoke=20, default=500, full=2000)


def figure(measurements: Measurements) -> Figure:
    """Draw divergence against variance left, for every choice of latents, at both k."""
    from matplotlib.figure import Figure

    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    drawn = Figure(figsize=(10.5, 4.2))
    for axes, k in zip(drawn.subplots(1, 2), K, strict=True):
        for place, arm in enumerate(ARMS):
            if arm == "beta 0":
                continue
            x = estimate(measurements.values(arm, f"fvu_{k}")).mean
            y = estimate(measurements.values(arm, f"kl_{k}"))
            axes.errorbar(
                x,
                y.mean,
                yerr=0.0 if y.low is None else y.mean - y.low,
                fmt="o",
                color=COLOURS[place % len(COLOURS)],
                capsize=2,
                label=arm,
            )
        axes.set(xscale="log", yscale="log", xlabel="variance left")
        axes.set(ylabel="divergence from the clean network", title=f"{k} latents a row")
    axes.legend(fontsize=7)
    return drawn
