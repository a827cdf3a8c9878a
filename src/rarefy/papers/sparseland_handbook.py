"""Paper 20, the Sparseland handbook: what the numbers of a sparse network mean.

The paper asks ten questions and reports no figures. Each of its statements is a claim here, with
the measurement that would show it; planted faults test the doctor (``rarefy doctor``) that the
statements were turned into.

Source: Liu and Wang 2023. Departures: the networks are an MLP and a ResNet-8 on scikit-learn's
digits; statements 7 to 10 are reconstructed from the same authors' other work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rarefy.evidence.claims import Claim, Measurements
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.papers._sparseland_arms import Shared

WEIGHTS = (1200, 2500, 5000)
KINDS = ("static", "SET", "RigL", "small and dense")
_EQUAL = {f"MLP, {n} weights, {kind}": (kind, n) for n in WEIGHTS for kind in KINDS}
_RESNETS = (
    "ResNet-8 at 5 %",
    "ResNet-8, small and dense",
    "ResNet-8, dense with as many operations",
)
_STRUCTURES = ("unstructured", "1:8", "rows")
_ALLOCATIONS = ("uniform 99 %", "ERK 99 %")
_ABLATIONS = (
    "SNIP",
    "SNIP, shuffled",
    "SNIP, reinitialised",
    "SNIP, random",
    "magnitude",
    "magnitude, shuffled",
    "magnitude, reinitialised",
    "magnitude, random",
)


def _sparse_or_small(weights: int) -> Claim:
    return Claim(
        id=f"c1-mlp-{weights}",
        metric="accuracy",
        arm=f"MLP, {weights} weights, RigL",
        versus=f"MLP, {weights} weights, small and dense",
        better="higher",
        text=f"With {weights} weights a large, sparse MLP beats a small, dense one.",
        paper="at equal parameter count the larger and sparser one is usually better",
    )


def _class_of(id_: str, arm: str, text: str) -> Claim:
    return Claim(id=id_, metric="wrong_classes", arm=arm, deterministic=True, text=text)


PAPER = Paper(
    number=20,
    slug="sparseland-handbook",
    title=(
        'Ten Lessons We Have Learned in the New "Sparseland": A Short Handbook for Sparse Neural '
        "Network Researchers"
    ),
    venue="arXiv 2302.02596, 2023",
    authors_code="",
    domain="weights",
    arms=(
        "doctor",
        "reachability",
        *_ALLOCATIONS,
        *_RESNETS,
        *_EQUAL,
        "post-training",
        "gradual",
        *_STRUCTURES,
        "latency",
        *_ABLATIONS,
        "ResNet-50",
    ),
    claims=(
        Claim(
            id="faults",
            metric="faults_missed",
            arm="doctor",
            deterministic=True,
            text="The doctor finds each of 12 planted faults, in the right layer.",
        ),
        Claim(
            id="controls",
            metric="controls_blamed",
            arm="doctor",
            deterministic=True,
            text="The doctor finds no error in 12 clean controls.",
        ),
        Claim(
            id="c1-resnet",
            metric="accuracy",
            arm=_RESNETS[0],
            versus=_RESNETS[1],
            better="higher",
            margin=-0.005,
            text="A ResNet-8 at 5 % is no worse (0.5 points) than a dense one with its weights.",
            paper="at equal parameter count the larger and sparser one is usually better",
        ),
        Claim(
            id="c1-resnet-macs",
            metric="accuracy",
            arm=_RESNETS[0],
            versus=_RESNETS[2],
            better="higher",
            margin=-0.005,
            text="Nor than a dense one with its multiply-accumulates, which has more weights.",
        ),
        *(_sparse_or_small(weights) for weights in WEIGHTS),
        Claim(
            id="c2-rows",
            metric="accuracy",
            arm="unstructured",
            versus="rows",
            better="higher",
            text="At 12.5 %, unstructured pruning keeps more accuracy than pruning of rows.",
        ),
        Claim(
            id="c2-unstructured",
            metric="accuracy",
            arm="unstructured",
            versus="1:8",
            better="higher",
            margin=-0.005,
            text="At 12.5 %, unstructured is no worse (0.5 points) than 1:8.",
        ),
        Claim(
            id="c2-pattern",
            metric="accuracy",
            arm="1:8",
            versus="rows",
            better="higher",
            margin=-0.005,
            text="At 12.5 %, 1:8 is no worse (0.5 points) than pruning of rows.",
        ),
        Claim(
            id="c2-csr-half",
            metric="clock_csr_speedup_0.5",
            arm="latency",
            margin=1.0,
            text="At half density, CSR is slower than dense.",
        ),
        Claim(
            id="c2-csr-sparse",
            metric="clock_csr_speedup_0.05",
            arm="latency",
            better="higher",
            margin=1.0,
            text="At 5 %, CSR is faster than dense: unstructured sparsity is not useless.",
        ),
        Claim(
            id="c2-sliced",
            metric="clock_sliced_speedup_times_density_0.1",
            arm="latency",
            better="higher",
            margin=0.7,
            text="Rows sliced off give 70 % of the ideal speed-up at 10 %.",
        ),
        _class_of("c3-static", "MLP, 1200 weights, static", "Static training is told as such."),
        _class_of("c3-gradual", "gradual", "Gradual pruning is told as dense to sparse."),
        Claim(
            id="c3-macs",
            metric="training_macs_over_density",
            arm="MLP, 1200 weights, RigL",
            margin=1.1,
            text="Sparse-to-sparse training costs its density times dense training (to 10 %).",
        ),
        Claim(
            id="c4",
            metric="peak_density",
            arm="MLP, 1200 weights, RigL",
            versus="gradual",
            kind="ratio",
            text="Only sparse-to-sparse training bounds the density on the way.",
        ),
        _class_of("c4-set", "MLP, 1200 weights, SET", "SET is told as dynamic, sparse to sparse."),
        _class_of("c4-rigl", "MLP, 1200 weights, RigL", "So is RigL."),
        Claim(
            id="c5-coverage",
            metric="coverage_over_density",
            arm="MLP, 1200 weights, SET",
            better="higher",
            margin=2.0,
            text="SET tries out at least twice as many weights as it holds.",
        ),
        Claim(
            id="c5-rigl",
            metric="accuracy",
            arm="MLP, 1200 weights, RigL",
            versus="MLP, 1200 weights, static",
            better="higher",
            margin=0.05,
            text="At 1.4 % density, RigL beats a static mask by 5 points.",
            paper="dynamic masks usually win when very sparse and trained for long",
        ),
        Claim(
            id="c5-set",
            metric="accuracy",
            arm="MLP, 1200 weights, SET",
            versus="MLP, 1200 weights, static",
            better="higher",
            margin=0.02,
            text="At 1.4 % density, SET beats a static mask by 2 points.",
        ),
        _class_of("c6", "post-training", "Pruning a trained network is told as post-training."),
        Claim(
            id="c7-gap",
            metric="effective_share",
            arm="uniform 99 %",
            margin=0.9,
            text="At a uniform 99 %, over 10 % of a narrow ResNet-8's kept weights lie on no path.",
        ),
        Claim(
            id="c7-erk",
            metric="effective_share",
            arm="ERK 99 %",
            versus="uniform 99 %",
            better="higher",
            text="With Erdős-Rényi-kernel densities fewer do.",
        ),
        Claim(
            id="c7-exact",
            metric="differences",
            arm="reachability",
            deterministic=True,
            text="Effective masks equal boolean reachability on 50 random MLPs.",
        ),
        Claim(
            id="c8-snip",
            metric="accuracy",
            arm="SNIP, shuffled",
            versus="SNIP",
            better="higher",
            margin=-0.01,
            text="A SNIP mask shuffled within its layers is no worse (1 point): ratios suffice.",
        ),
        Claim(
            id="c8-magnitude",
            metric="accuracy",
            arm="magnitude",
            versus="magnitude, shuffled",
            better="higher",
            text="A magnitude mask of a trained network beats its shuffle: the mask matters.",
        ),
        Claim(
            id="speed-effective",
            metric="clock_effective_seconds",
            arm="ResNet-50",
            margin=3.0,
            text="Effective masks of a network of ResNet-50's size take at most 3 s.",
        ),
        Claim(
            id="speed-diagnose",
            metric="clock_diagnose_seconds",
            arm="ResNet-50",
            margin=5.0,
            text="Its whole diagnosis takes at most 5 s.",
        ),
    ),
    summary=(
        "Sparse networks are compared across classes that should not be compared: static with "
        "dynamic masks, pruning with sparse training, shares of one set of weights with shares of "
        "another. Ten questions sort that out; the doctor asks them of your model."
    ),
    usage="""\
import torch
from torch import nn
from rarefy.weights import diagnose, random_masks

model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
masks = random_masks(model, density=0.01, generator=torch.Generator().manual_seed(0))
masks.apply_(model)
found = diagnose(model, masks, inputs=torch.ones(1, 64))
print(found.to_markdown())
""",
    seeds={"smoke": 1, "default": 3, "full": 10},
    tour_seeds=0,
)


def setup(trial: Trial, *, model: str | None = None) -> Shared:
    """Split the digits and train the dense MLP that pruning begins with.

    Parameters
    ----------
    model : str, optional
        What the arm "ResNet-50" examines instead: a model folder or hub name, or, where torchvision
        is installed, the name of one of its networks. A dense one is pruned at random to 10 %.
    """
    from rarefy.papers._sparseland_arms import shared

    return shared(trial, model)


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure one arm."""
    from rarefy.papers import _sparseland_arms as arms
    from rarefy.papers._sparseland_large import large

    if arm == "doctor":
        return arms.doctor(trial)
    if arm == "reachability":
        return arms.reachability(trial)
    if arm in _ALLOCATIONS:
        return arms.effective(arm, trial)
    if arm in _RESNETS:
        return arms.resnet(arm, shared)
    if arm in _EQUAL:
        return arms.equal_weights(*_EQUAL[arm], shared)
    if arm == "post-training":
        return arms.post_training(shared)
    if arm == "gradual":
        return arms.gradual(shared)
    if arm in _STRUCTURES:
        return arms.structure(arm, shared)
    if arm == "latency":
        return arms.latency(trial)
    if arm in _ABLATIONS:
        return arms.ablation(arm, shared)
    return large(shared.large, trial)


def figure(measurements: Measurements) -> Figure:
    """Draw accuracy at equal weights, the ablation, and speed against density."""
    from rarefy.papers._sparseland_figure import draw

    return draw(measurements)
