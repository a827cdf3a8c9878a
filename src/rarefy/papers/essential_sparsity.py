"""Paper 39, essential sparsity: how much of a pre-trained model is free, and when it becomes so.

A(s) is the metric at sparsity s of the block weights; free is ``s* = max s: A(s') within delta of
A(0) for all s' <= s``, with delta 5 % of perplexity or 1 % of accuracy, interpolated and isotonic.

Source: Jaiswal et al. 2023. Departures: the language arms stand on a code model of 3 M parameters
in place of BERT and OPT; the zero-shot task in place of MMLU asks which of four lines comes next,
the task with a head of its own names the file that a line is from; the tasks of different
difficulty are kinds of tokens; pre-training is watched in a tiny model.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from rarefy.evidence.claims import Claim, Measurements
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.papers._essential_language import Language

_BASELINES = ("magnitude by layer", "random", "random (ERK)")
_BASELINES_TUNED = ("random, tuned", "random (ERK), tuned")
_PATTERNS = ("1:2", "2:4", "4:8")
_PATTERNS_TUNED = tuple(f"{pattern}, tuned" for pattern in _PATTERNS)
_SHARES = {"10 % of the text": 0.1, "30 % of the text": 0.3, "all of the text": 1.0}
_OBJECTIVES = ("hidden patches", "labels")

PAPER = Paper(
    number=39,
    slug="essential-sparsity",
    title=(
        "The Emergence of Essential Sparsity in Large Pre-trained Models: The Weights that Matter"
    ),
    venue="NeurIPS 2023",
    authors_code="https://github.com/VITA-Group/essential_sparsity",
    domain="weights",
    arms=(
        "magnitude",
        *_BASELINES,
        "Wanda",
        *_PATTERNS,
        "magnitude, tuned",
        *_BASELINES_TUNED,
        *_PATTERNS_TUNED,
        "IMP, tuned",
        "next line",
        "file of a line",
        *_SHARES,
        *_OBJECTIVES,
    ),
    claims=(
        Claim(
            id="c1-free",
            metric="essential",
            arm="magnitude",
            better="higher",
            margin=0.3,
            text="One-shot magnitude pruning takes 30 % of the weights for 5 % perplexity.",
            paper="30-50 % of BERT, OPT, ViT and DINO are free",
        ),
        Claim(
            id="c1-random",
            metric="essential",
            arm="magnitude",
            versus="random",
            better="higher",
            kind="ratio",
            margin=2.0,
            text="Magnitude pruning frees more than 3 times what random pruning does.",
        ),
        Claim(
            id="c1-break-low",
            metric="break_low",
            arm="magnitude",
            better="higher",
            margin=0.3,
            text="The curve turns at 30 % or later (lower end of the break's interval).",
        ),
        Claim(
            id="c1-break-high",
            metric="break_high",
            arm="magnitude",
            margin=0.85,
            text="The curve turns at 85 % or earlier (upper end of the break's interval).",
        ),
        Claim(
            id="c1-sharp",
            metric="sharpness",
            arm="magnitude",
            better="higher",
            margin=4.0,
            text="After the break log-perplexity rises at least 4 times as fast as before.",
            paper="a sharp turning point",
        ),
        Claim(
            id="c1-line",
            metric="bic_gain",
            arm="magnitude",
            better="higher",
            text="Two segments describe the curve better than one line (BIC).",
        ),
        Claim(
            id="c1-accuracy",
            metric="essential_resolved",
            arm="file of a line",
            better="higher",
            margin=0.3,
            text="With a linear head that names a line's file 30 % are free (to a standard error).",
            paper="30-50 % on most tasks, to 1 % of the accuracy",
        ),
        Claim(
            id="c2-4:8",
            metric="perplexity",
            arm="4:8",
            versus="2:4",
            kind="ratio",
            text="4:8 costs less perplexity than 2:4.",
        ),
        Claim(
            id="c2-2:4",
            metric="perplexity",
            arm="2:4",
            versus="1:2",
            kind="ratio",
            text="2:4 costs less perplexity than 1:2.",
        ),
        Claim(
            id="c2-4:8-tuned",
            metric="perplexity",
            arm="4:8, tuned",
            versus="2:4, tuned",
            kind="ratio",
            text="4:8 costs less perplexity than 2:4 after fine-tuning too.",
        ),
        Claim(
            id="c2-2:4-tuned",
            metric="perplexity",
            arm="2:4, tuned",
            versus="1:2, tuned",
            kind="ratio",
            text="2:4 costs less perplexity than 1:2 after fine-tuning too.",
        ),
        *(
            Claim(
                id=f"c2-free-{pattern}",
                metric="increase",
                arm=f"{pattern}, tuned",
                margin=0.1,
                text=f"After fine-tuning {pattern} is at most 10 % over the dense perplexity.",
                paper="N:M patterns have an essential range too",
            )
            for pattern in _PATTERNS
        ),
        Claim(
            id="c3",
            metric="essential_resolved",
            arm="next line",
            better="higher",
            margin=0.3,
            text="In a zero-shot multiple choice 30 % of the model are free (to a standard error).",
            paper="30-40 % of Vicuna-7B on MMLU",
        ),
        Claim(
            id="c4-similar",
            metric="similarity",
            arm="IMP, tuned",
            better="higher",
            margin=0.8,
            text="Within the essential range lottery and one-shot masks agree beyond chance.",
            paper="cosine above 0.98, not corrected for chance",
        ),
        Claim(
            id="c4-falls",
            metric="similarity_fall",
            arm="IMP, tuned",
            better="higher",
            text="Beyond the essential range the two masks agree less.",
        ),
        Claim(
            id="c4-equal",
            metric="perplexity_gap",
            arm="IMP, tuned",
            margin=0.01,
            text="Within the essential range both masks give the same perplexity (to 1 %).",
            paper="one-shot pruning is as good as lottery tickets",
        ),
        Claim(
            id="c5-abrupt",
            metric="jump_ratio",
            arm="all of the text",
            better="higher",
            margin=3.0,
            text="In pre-training the free sparsity jumps by 3 times its median step at once.",
            paper="abrupt after some thousand steps of BERT",
        ),
        Claim(
            id="c5-grows",
            metric="growth",
            arm="all of the text",
            better="higher",
            text="Free sparsity is larger at the end of pre-training than at the first checkpoint.",
        ),
        Claim(
            id="c6-10",
            metric="essential",
            arm="all of the text",
            versus="10 % of the text",
            better="higher",
            text="Ten times the text at equal steps leaves more weights free.",
        ),
        Claim(
            id="c6-30",
            metric="essential",
            arm="all of the text",
            versus="30 % of the text",
            better="higher",
            text="Three times the text at equal steps leaves more weights free.",
        ),
        Claim(
            id="c7",
            metric="essential",
            arm="hidden patches",
            versus="labels",
            better="higher",
            text="Self-supervised pre-training leaves more weights free than supervised.",
            paper="DINO against ViT",
        ),
        Claim(
            id="c8",
            metric="difficulty_correlation",
            arm="magnitude",
            text="The harder the task, the smaller its essential range (rank correlation).",
        ),
    ),
    summary=(
        "A pre-trained transformer has weights that go for free: up to some sparsity, deleting the "
        "smallest at once costs next to nothing, and beyond it quality falls sharply. Within that "
        "range the simple mask is as good as a lottery ticket."
    ),
    usage="""\
from rarefy.data import encode, modules, windows
from rarefy.models import open_model, perplexity
from rarefy.weights import block_weights, global_magnitude_mask, sparsity_curve

model, tokenizer = open_model()
text = windows(encode(tokenizer, [m.read() for m in modules("heldout")[:20]]), 256, limit=16)
curve = sparsity_curve(
    model,
    lambda pruned: perplexity(pruned, text),
    lambda pruned, s, seed: global_magnitude_mask(block_weights(pruned), sparsity=s),
    greater_is_better=False,
    log=True,
)
curve.essential(delta=0.05), curve.knee()
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
)


def setup(trial: Trial, *, model: str | None = None, text: Path | None = None) -> Language:
    """Open the model and draw this seed's windows and questions.

    Parameters
    ----------
    model : str, optional
        Model folder or hub name of the language arms; the shipped code model by default. The
        pre-training and vision arms train their own.
    text : Path, optional
        Text file or folder to evaluate and fine-tune on, every other file for each; the held-out
        standard-library modules by default.
    """
    from rarefy.papers._essential_language import language

    return language(trial, model=model, text=text)


def measure(arm: str, shared: Language, trial: Trial) -> dict[str, float]:
    """Measure one arm; ``perplexity_S`` and ``accuracy_S`` are at S per cent sparsity."""
    from rarefy.papers import _essential_arms as arms

    if arm == "magnitude":
        return arms.magnitude(shared)
    if arm in _BASELINES:
        return arms.language_curve(shared.one_shot(arm, shared.size.coarse))
    if arm == "Wanda":
        return arms.language_curve(shared.wanda(shared.size.coarse))
    if arm in _PATTERNS:
        return {"perplexity": math.exp(shared.one_shot(arm, (0.5,))[0.5].log_perplexity)}
    if arm == "magnitude, tuned":
        return arms.language_curve(shared.magnitude_tuned)
    if arm in _BASELINES_TUNED:
        method, grid = arm.removesuffix(", tuned"), (0.0, *shared.size.tickets[::4])
        return arms.language_curve(shared.after_tuning(method, grid))
    if arm in _PATTERNS_TUNED:
        pattern = arm.removesuffix(", tuned")
        tuned = shared.after_tuning(pattern, (0.5,))[0.5].log_perplexity
        over = tuned - shared.dense_tuned.log_perplexity
        return {"perplexity": math.exp(tuned), "increase": math.expm1(over)}
    if arm == "IMP, tuned":
        return arms.tickets(shared)
    if arm == "next line":
        return arms.next_line(shared)
    if arm == "file of a line":
        return arms.file_of_a_line(shared)
    if arm in _SHARES:
        return arms.pretraining(_SHARES[arm], trial)
    return arms.vision(arm, trial)


def figure(measurements: Measurements) -> Figure:
    """Draw the curves, the tickets and the emergence."""
    from rarefy.papers._essential_figure import draw

    return draw(measurements)
