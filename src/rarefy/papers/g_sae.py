"""Paper 34, g-SAE: latents chosen by activation and by what the loss feels of them.

The middle of a digits network, at two and at four latents a row: a reconstruction takes the site's
place, chosen by activation, by gradients (in an ordinary TopK dictionary too) or by thresholds.
And planted rows, of loud features that no loss reads and quiet ones that it reads.

Departures: a digits network in place of GPT-2; its classes in place of tokens to steer. Gradients
are of the true label, which choosing by them at test time therefore knows.

Planted quiet features are not recovered better by the rule at any setting tried. A possible reason,
not tested by itself: the score is strength times sensitivity, so a loud latent with a touch of a
quiet feature in it outranks the quiet one, and the error rewards it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from rarefy.evidence.claims import Measurements
from rarefy.papers._g_sae_claims import g_sae_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.dictionaries import SparseAutoencoder
    from rarefy.papers._g_sae_bench import Digits, Planted

# How latents are chosen in training, and then at test time.
ARMS: dict[str, tuple[str, str]] = {
    "TopK": ("TopK", "activation"),
    "TopK, gradient": ("TopK", "gradient"),
    "g-SAE, gradient": ("g-SAE 1", "gradient"),
    "g-SAE, activation": ("g-SAE 1", "activation"),
    "g-SAE, threshold": ("g-SAE 1", "threshold"),
    "attribution": ("g-SAE inf", "gradient"),
    "shuffled": ("g-SAE shuffled", "gradient"),
    "beta 0": ("g-SAE 0", "activation"),
}
K = (2, 4)
# One arm of each training stands for it on the planted rows, where the dictionary itself is judged.
PLANTED = ("TopK", "g-SAE, gradient", "attribution", "shuffled")

PAPER = Paper(
    number=34,
    slug="g-sae",
    title="Features that Make a Difference: Leveraging Gradients for Improved Dictionary Learning",
    venue="NAACL 2025 Findings",
    authors_code="",
    domain="dictionaries",
    arms=tuple(ARMS),
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
    seeds={"smoke": 1, "default": 5, "full": 10},
    tour_seeds=0,
)


# Compared and hashed as an object, so that what is remembered of it is never another's.
@dataclass(frozen=True, eq=False)
class Shared:
    """A network's site, planted rows, and the number of latents."""

    digits: Digits
    planted: Planted
    latents: int


def setup(trial: Trial, *, latents: int = 256) -> Shared:
    """Train the digits network and plant the features.

    Parameters
    ----------
    latents : int
        Of the dictionaries of the network's site, which is 64 wide.
    """
    from rarefy.papers._g_sae_bench import digits_network, planted

    if latents < max(K):
        raise ValueError(f"latents must be at least {max(K)}, got {latents}")
    return Shared(
        digits_network(trial, epochs=trial.pick(smoke=3, default=30, full=30)),
        planted(trial, rows=trial.pick(smoke=2000, default=20_000, full=50_000)),
        latents,
    )


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Train the arm's dictionaries, or remember them, and judge them by its choice of latents."""
    from rarefy.papers._threads import one_thread

    with one_thread():
        return _measure(arm, shared, trial)


def _measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.dictionaries import GradientSAE
    from rarefy.papers._g_sae_bench import judge, recovered, steering

    rule, selection = ARMS[arm]
    values: dict[str, float] = {}
    for place, k in enumerate(K if arm != "beta 0" else K[:1]):
        trial.progress(f"{rule} at {k} latents a row", place / 3)
        sae = _learned(rule, k, shared, trial)
        if rule == "TopK":
            chosen = GradientSAE.from_topk(sae) if selection == "gradient" else sae
        else:
            chosen = sae
            sae.selection = selection  # type: ignore[assignment]
        values |= {f"{name}_{k}": v for name, v in judge(chosen, shared.digits).items()}
        if arm in ("TopK", "g-SAE, gradient"):
            values |= {f"{name}_{k}": v for name, v in steering(sae, shared.digits).items()}
    if arm == "beta 0":
        top = _learned("TopK", K[0], shared, trial)
        own = _learned(rule, K[0], shared, trial)
        values["off_topk"] = float((top.decoder - own.decoder).abs().max().detach())
    if arm in PLANTED:
        trial.progress("planted features", 2 / 3)
        values["quiet"] = recovered(_planted(rule, shared, trial), shared.planted.quiet)
    return values


@lru_cache(maxsize=16)
def _learned(rule: str, k: int, shared: Shared, trial: Trial) -> SparseAutoencoder:
    """Train on the network's site; remembered, because several choices share a training."""
    from rarefy.papers._g_sae_bench import learn

    steps = trial.pick(smoke=20, default=600, full=2000)
    return learn(rule, shared.digits.train, trial, latents=shared.latents, k=k, steps=steps)


@lru_cache(maxsize=8)
def _planted(rule: str, shared: Shared, trial: Trial) -> SparseAutoencoder:
    from rarefy.papers._g_sae_bench import learn

    steps = trial.pick(smoke=20, default=500, full=2000)
    return learn(rule, shared.planted.rows, trial, latents=128, k=2, steps=steps)


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
