"""Paper 39, essential sparsity: how much of a pre-trained model is free, and when it becomes so.

A(s) is the metric at sparsity s of the block weights; free is ``s* = max s: A(s') within delta of
A(0) for all s' <= s``, with delta 5 % of perplexity or 1 % of accuracy, interpolated and isotonic.

Source: Jaiswal et al. 2023. Departures: the language arms stand on a code model of 3 M parameters
in place of BERT and OPT; the zero-shot task in place of MMLU asks which of four lines comes next;
the tasks of different difficulty are kinds of tokens; pre-training is watched in a tiny model.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarefy.evidence.claims import Claim, Measurements
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.papers._essential_language import Language, Reading
    from rarefy.weights import SparsityCurve

_BASELINES = ("magnitude by layer", "random", "random (ERK)")
_PATTERNS = ("1:2", "2:4", "4:8")
_SHARES = {"10 % of the text": 0.1, "30 % of the text": 0.3, "all of the text": 1.0}
_OBJECTIVES = ("hidden patches", "labels")

PAPER = Paper(
    number=39,
    slug="essential-sparsity",
    title="The Emergence of Essential Sparsity in Large Pre-trained Models: The Weights that Matter",
    venue="NeurIPS 2023",
    authors_code="VITA-Group/essential_sparsity",
    domain="weights",
    arms=(
        "magnitude", *_BASELINES, *_PATTERNS,
        "magnitude, tuned", "random, tuned", "2:4, tuned", "IMP, tuned", "next line",
        *_SHARES, *_OBJECTIVES,
    ),
    claims=(
        Claim(
            id="c1-free", metric="essential", arm="magnitude", better="higher", margin=0.3,
            text="At least 30 % of the weights go by one-shot magnitude pruning for 5 % perplexity.",
            paper="30-50 % of BERT, OPT, ViT and DINO are free",
        ),
        Claim(
            id="c1-random", metric="essential", arm="magnitude", versus="random",
            better="higher", kind="ratio", margin=2.0,
            text="Magnitude pruning frees more than 3 times what random pruning does.",
        ),
        Claim(
            id="c1-break-low", metric="break_low", arm="magnitude", better="higher", margin=0.3,
            text="The curve turns at 30 % or later (lower end of the break's interval).",
        ),
        Claim(
            id="c1-break-high", metric="break_high", arm="magnitude", margin=0.85,
            text="The curve turns at 85 % or earlier (upper end of the break's interval).",
        ),
        Claim(
            id="c1-sharp", metric="sharpness", arm="magnitude", better="higher", margin=4.0,
            text="After the break log-perplexity rises at least 4 times as fast as before.",
            paper="a sharp turning point",
        ),
        Claim(
            id="c1-line", metric="bic_gain", arm="magnitude", better="higher",
            text="Two segments describe the curve better than one line (BIC).",
        ),
        Claim(
            id="c2-4:8", metric="perplexity", arm="4:8", versus="2:4", kind="ratio",
            text="4:8 costs less perplexity than 2:4.",
        ),
        Claim(
            id="c2-2:4", metric="perplexity", arm="2:4", versus="1:2", kind="ratio",
            text="2:4 costs less perplexity than 1:2.",
        ),
        Claim(
            id="c2-free", metric="increase", arm="2:4, tuned", margin=0.1,
            text="After fine-tuning 2:4 is at most 10 % over the dense model's perplexity.",
            paper="N:M patterns have an essential range too",
        ),
        Claim(
            id="c3", metric="essential", arm="next line", better="higher", margin=0.3,
            text="At least 30 % of a language model is free in a zero-shot multiple choice.",
            paper="30-40 % of Vicuna-7B on MMLU",
        ),
        Claim(
            id="c4-similar", metric="similarity", arm="IMP, tuned", better="higher", margin=0.8,
            text="Within the essential range lottery-ticket and one-shot masks agree, beyond chance.",
            paper="cosine above 0.98, not corrected for chance",
        ),
        Claim(
            id="c4-falls", metric="similarity_fall", arm="IMP, tuned", better="higher",
            text="Beyond the essential range the two masks agree less.",
        ),
        Claim(
            id="c4-equal", metric="perplexity_gap", arm="IMP, tuned", margin=0.01,
            text="Within the essential range both masks give the same perplexity (to 1 %).",
            paper="one-shot pruning is as good as lottery tickets",
        ),
        Claim(
            id="c5-abrupt", metric="jump_ratio", arm="all of the text", better="higher", margin=3.0,
            text="In pre-training the free sparsity jumps by 3 times its median step at once.",
            paper="abrupt after some thousand steps of BERT",
        ),
        Claim(
            id="c5-grows", metric="growth", arm="all of the text", better="higher",
            text="Free sparsity is larger at the end of pre-training than at the first checkpoint.",
        ),
        Claim(
            id="c6-10", metric="essential", arm="all of the text", versus="10 % of the text",
            better="higher", text="Ten times the text at equal steps leaves more weights free.",
        ),
        Claim(
            id="c6-30", metric="essential", arm="all of the text", versus="30 % of the text",
            better="higher", text="Three times the text at equal steps leaves more weights free.",
        ),
        Claim(
            id="c7", metric="essential", arm="hidden patches", versus="labels", better="higher",
            text="Self-supervised pre-training leaves more weights free than supervised.",
            paper="DINO against ViT",
        ),
        Claim(
            id="c8", metric="difficulty_correlation", arm="magnitude",
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
from rarefy.weights import block_weights, magnitude, mask_from_scores, sparsity_curve

model, tokenizer = open_model()
text = windows(encode(tokenizer, [m.read() for m in modules("heldout")[:20]]), 256, limit=16)
curve = sparsity_curve(
    model,
    lambda pruned: perplexity(pruned, text),
    lambda pruned, s, seed: mask_from_scores(magnitude(block_weights(pruned)), sparsity=s),
    greater_is_better=False,
    log=True,
)
curve.essential(delta=0.05), curve.knee()
""",
    seeds={"smoke": 2, "default": 3, "full": 5},
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

    rounds = trial.pick(smoke=2, default=5, full=5)
    tickets = tuple(1 - 0.8**r for r in range(1, rounds + 1))
    return language(
        model=model,
        text=text,
        device=trial.device,
        files=trial.pick(smoke=4, default=None, full=None),
        windows=trial.pick(smoke=4, default=12, full=64),
        length=trial.pick(smoke=64, default=192, full=512),
        steps=trial.pick(smoke=2, default=10, full=200),
        step_length=trial.pick(smoke=32, default=128, full=512),
        questions=trial.pick(smoke=8, default=64, full=1000),
        grid=trial.pick(
            smoke=(0.0, 0.2, 0.4, 0.6, 0.8, 0.9),
            default=(0.0, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9),
            full=tuple(i / 20 for i in range(20)),
        ),
        coarse=trial.pick(
            smoke=(0.0, 0.1, 0.5, 0.9),
            default=tuple(i / 10 for i in range(10)),
            full=tuple(i / 20 for i in range(20)),
        ),
        tickets=tickets,
        seed=trial.seed,
        progress=trial.progress,
    )


def measure(arm: str, shared: Language, trial: Trial) -> dict[str, float]:
    """Measure one arm; ``perplexity_S`` and ``accuracy_S`` are at S per cent sparsity."""
    if arm == "magnitude":
        return _magnitude(shared)
    if arm in _BASELINES:
        return _language_curve(shared.one_shot(arm, shared.coarse))
    if arm in _PATTERNS:
        return {"perplexity": math.exp(shared.one_shot(arm, (0.5,))[0.5].log_perplexity)}
    if arm == "magnitude, tuned":
        return _language_curve(shared.magnitude_tuned)
    if arm == "random, tuned":
        return _language_curve(shared.after_tuning("random", (0.0, *shared.tickets[::2])))
    if arm == "2:4, tuned":
        tuned = shared.after_tuning("2:4", (0.5,))[0.5].log_perplexity
        over = tuned - shared.dense_tuned.log_perplexity
        return {"perplexity": math.exp(tuned), "increase": math.expm1(over)}
    if arm == "IMP, tuned":
        return _tickets(shared)
    if arm == "next line":
        return _next_line(shared)
    if arm in _SHARES:
        return _pretraining(_SHARES[arm], trial)
    return _vision(arm, trial)


def _magnitude(shared: Language) -> dict[str, float]:
    """The one-shot curve: its essential range, where and how it turns, and c8's tasks."""
    from rarefy.papers._essential_language import perplexity_curve, task_ranges, window_curves

    readings = shared.one_shot("magnitude", shared.grid)
    knee = perplexity_curve(readings).knee()
    over_windows = window_curves(readings).knee(seed=shared.seed)
    emptiest = shared.masks("magnitude", shared.grid[-1])
    tasks = task_ranges(readings)
    return {
        **_language_curve(readings),
        "kneedle": knee.kneedle,
        "break": knee.breakpoint,
        "break_low": over_windows.low,
        "break_high": over_windows.high,
        "sharpness": knee.sharpness,
        "bic_gain": knee.bic_gain,
        "prunable_share": emptiest.numel / sum(p.numel() for p in shared.model.parameters()),
        "least_layer_density": min(layer.density for layer in emptiest.summary()),
        **{f"error, {kind}": error for kind, (error, _) in tasks.items()},
        **{f"essential, {kind}": essential for kind, (_, essential) in tasks.items()},
        "difficulty_correlation": _rank_correlation(list(tasks.values())),
    }


def _tickets(shared: Language) -> dict[str, float]:
    """Lottery tickets of every round against the one-shot masks of the same sparsity."""
    import copy

    from rarefy.papers._essential_language import TOLERANCE, Reading, perplexity_curve
    from rarefy.weights import Masks, block_weights, iterative_magnitude, mask_similarity

    rounds: list[tuple[Masks, Reading]] = []

    def train(model: Any, masks: Masks) -> None:
        shared.progress(f"lottery ticket {len(rounds)}", len(rounds) / (len(shared.tickets) + 1))
        shared.tune(model, masks)
        rounds.append((masks, shared.read(model)))

    model = copy.deepcopy(shared.model)
    last = iterative_magnitude(
        model,
        train,
        sparsity=shared.tickets[-1],
        rounds=len(shared.tickets),
        weights=block_weights(model),
    )
    train(model, last)

    one_shot = shared.magnitude_tuned
    essential = perplexity_curve(one_shot).essential(delta=TOLERANCE, smooth=True)
    metrics: dict[str, float] = {}
    within, beyond, gaps = [], [], []
    for s, (masks, reading) in zip(shared.tickets, rounds[1:], strict=True):
        alike = mask_similarity(masks, shared.masks("magnitude", s))
        metrics |= {
            _at("perplexity", s): math.exp(reading.log_perplexity),
            _at("cosine", s): alike.cosine,
            _at("chance", s): alike.chance,
            _at("similarity", s): alike.corrected,
        }
        (within if s <= essential else beyond).append(alike.corrected)
        if s <= essential:
            gaps.append(abs(reading.log_perplexity - one_shot[s].log_perplexity))
    # Empty where the essential range holds no ticket, or all of them: nothing to compare then.
    fall = sum(within) / len(within) - sum(beyond) / len(beyond) if within and beyond else math.nan
    return metrics | {
        "similarity": min(within, default=math.nan),
        "similarity_fall": fall,
        "perplexity_gap": max(gaps, default=math.nan),
    }


def _next_line(shared: Language) -> dict[str, float]:
    """Zero-shot multiple choice under one-shot magnitude pruning."""
    from rarefy.papers._essential_text import answered
    from rarefy.weights import SparsityCurve

    accuracies = []
    for i, s in enumerate(shared.coarse):
        shared.progress(f"next line at {s:.0%}", i / len(shared.coarse))
        pruned = shared.pruned(shared.masks("magnitude", s))
        accuracies.append(float(answered(pruned, shared.questions).float().mean()))
    return _accuracy_curve(SparsityCurve(shared.coarse, [accuracies], greater_is_better=True))


def _pretraining(share: float, trial: Trial) -> dict[str, float]:
    """Train the tiny model on a share of as much text as it reads in all, and prune it."""
    from rarefy.papers import _essential_emergence as emergence
    from rarefy.papers._essential_language import TOLERANCE

    steps = trial.pick(smoke=8, default=200, full=5000)
    every = trial.pick(smoke=2, default=10, full=100)
    corpus, held_out, vocabulary = emergence.texts(
        steps, windows=trial.pick(smoke=2, default=8, full=64), trial=trial
    )
    model = emergence.tiny_model(vocabulary, seed=trial.seed).to(trial.device)
    watched = share == 1.0
    monitor = emergence.pretrain(
        model,
        corpus[: int(share * len(corpus))],
        held_out,
        steps=steps,
        every=every if watched else None,
        generator=trial.generator(),
        progress=trial.progress,
    )
    curve = emergence.one_shot(model, held_out)
    metrics = {
        "essential": curve.essential(delta=TOLERANCE, smooth=True),
        **{_at("perplexity", s): v for s, v in zip(curve.sparsities, curve.values[0], strict=True)},
    }
    if not watched:
        return metrics
    free, change = monitor.series["free"], monitor.change_point("free")
    for name, values in monitor.series.items():
        metrics |= {f"{name} @ {t}": v for t, v in zip(monitor.steps, values, strict=True)}
    return metrics | {
        "change_step": change.step,
        "jump_ratio": change.jump_ratio,
        "growth": free[-1] - free[0],
    }


def _vision(objective: str, trial: Trial) -> dict[str, float]:
    """Pre-train the digits encoder one way, then prune and fine-tune it on the other classes."""
    from rarefy.papers import _essential_digits as vision
    from rarefy.weights import block_weights, magnitude, mask_from_scores, sparsity_curve

    pretraining, task, test = vision.digits(trial.generator())
    encoder = vision.new_encoder(trial.seed)
    teach = vision.pretrain_masked if objective == "hidden patches" else vision.pretrain_labels
    steps = trial.pick(smoke=10, default=400, full=4000)
    trial.progress(f"pre-training on {objective}", 0.0)
    teach(encoder, pretraining, steps=steps, generator=trial.generator())
    curve = sparsity_curve(
        vision.Classifier(encoder),
        lambda model: vision.accuracy(model, test),
        lambda model, s, _: mask_from_scores(magnitude(block_weights(model)), sparsity=s),
        greater_is_better=True,
        grid=trial.pick(
            smoke=(0.0, 0.5, 0.9),
            default=(0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
            full=tuple(i / 20 for i in range(20)),
        ),
        finetune=lambda model, masks, _: vision.train_classifier(
            model,
            task,
            steps=trial.pick(smoke=5, default=100, full=1000),
            generator=trial.generator(),
            masks=masks,
        ),
        progress=trial.progress,
    )
    return _accuracy_curve(curve)


def _language_curve(readings: dict[float, Reading]) -> dict[str, float]:
    from rarefy.papers._essential_language import TOLERANCE, perplexity_curve

    levels = {_at("perplexity", s): math.exp(r.log_perplexity) for s, r in readings.items()}
    essential = perplexity_curve(readings).essential(delta=TOLERANCE, smooth=True)
    return levels | {"essential": essential}


def _accuracy_curve(curve: SparsityCurve) -> dict[str, float]:
    from rarefy.papers._essential_language import TOLERANCE_ACCURACY

    levels = {_at("accuracy", s): v for s, v in zip(curve.sparsities, curve.values[0], strict=True)}
    return levels | {"essential": curve.essential(delta=TOLERANCE_ACCURACY, smooth=True)}


def _rank_correlation(pairs: list[tuple[float, float]]) -> float:
    """Spearman's; NaN under four pairs, or where one side is constant."""
    from scipy.stats import rankdata, spearmanr

    first, second = (rankdata(side) for side in zip(*pairs, strict=True))
    if len(pairs) < 4 or min(first.std(), second.std()) == 0:
        return math.nan
    return float(spearmanr(first, second).statistic)


def _at(metric: str, sparsity: float) -> str:
    """Name a metric at a sparsity: ``perplexity_36``."""
    return f"{metric}_{round(100 * sparsity)}"


def figure(measurements: Measurements) -> Figure:
    """Draw the curves, the tickets and the emergence."""
    from rarefy.papers._essential_figure import draw

    return draw(measurements)
