"""How the arms of paper 39 are measured: a dictionary of metrics each.

``perplexity_S`` and ``accuracy_S`` are at S per cent sparsity; ``essential`` is the free range.
"""

from __future__ import annotations

import copy
import math

from scipy.stats import rankdata, spearmanr
from torch import nn

from rarefy.papers import _essential_digits as digits
from rarefy.papers import _essential_emergence as emergence
from rarefy.papers._essential_language import (
    TOLERANCE,
    TOLERANCE_ACCURACY,
    Language,
    Reading,
    perplexity_curve,
    task_ranges,
    window_curves,
)
from rarefy.papers._essential_lines import head_accuracy, line_features
from rarefy.papers._labelled_text import CHANCE, answered
from rarefy.papers._recipe import Trial
from rarefy.papers._threads import one_thread
from rarefy.weights import (
    Masks,
    SparsityCurve,
    block_weights,
    global_magnitude_mask,
    iterative_magnitude,
    mask_similarity,
    sparsity_curve,
)


def magnitude(shared: Language) -> dict[str, float]:
    """The one-shot curve: its essential range, where and how it turns, and c8's tasks."""
    readings = shared.one_shot("magnitude", shared.size.grid)
    knee = perplexity_curve(readings).knee()
    over_windows = window_curves(readings).knee(seed=shared.seed)
    emptiest = shared.masks("magnitude", shared.size.grid[-1])
    tasks = task_ranges(readings)
    return {
        **language_curve(readings),
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


def tickets(shared: Language) -> dict[str, float]:
    """Lottery tickets of every round against the one-shot masks of the same sparsity."""
    rounds: list[tuple[Masks, Reading]] = []

    def train(model: nn.Module, masks: Masks) -> None:
        shared.progress(
            f"lottery ticket {len(rounds)}", len(rounds) / (len(shared.size.tickets) + 1)
        )
        shared.tune(model, masks)
        rounds.append((masks, shared.read(model)))

    model = copy.deepcopy(shared.model)
    last = iterative_magnitude(
        model,
        train,
        sparsity=shared.size.tickets[-1],
        rounds=len(shared.size.tickets),
        weights=block_weights(model),
    )
    train(model, last)

    one_shot = shared.magnitude_tuned
    essential = perplexity_curve(one_shot).essential(delta=TOLERANCE, smooth=True)
    metrics: dict[str, float] = {}
    within: list[float] = []
    beyond: list[float] = []
    gaps: list[float] = []
    for s, (masks, reading) in zip(shared.size.tickets, rounds[1:], strict=True):
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


def next_line(shared: Language) -> dict[str, float]:
    """Zero-shot multiple choice under one-shot magnitude pruning."""
    accuracies = []
    for i, s in enumerate(shared.size.coarse):
        shared.progress(f"next line at {s:.0%}", i / len(shared.size.coarse))
        pruned = shared.pruned(shared.masks("magnitude", s))
        accuracies.append(float(answered(pruned, shared.questions).float().mean()))
    return _resolved(shared, accuracies, n=len(shared.questions.answers), chance=CHANCE)


def file_of_a_line(shared: Language) -> dict[str, float]:
    """Name the file that a line is from, with a linear head on the pruned model's features."""
    accuracies = []
    for i, s in enumerate(shared.size.coarse):
        shared.progress(f"file of a line at {s:.0%}", i / len(shared.size.coarse))
        pruned = shared.pruned(shared.masks("magnitude", s))
        accuracies.append(head_accuracy(line_features(pruned, shared.lines), shared.lines))
    tested = int((~shared.lines.taught).sum())
    return _resolved(shared, accuracies, n=tested, chance=1 / len(shared.lines.files.unique()))


def pretraining(share: float, trial: Trial) -> dict[str, float]:
    """Train the tiny model on a share of as much text as it reads in all, and prune it."""
    with one_thread():
        return _pretraining(share, trial)


def _pretraining(share: float, trial: Trial) -> dict[str, float]:
    steps = trial.pick(smoke=4, default=120, full=5000)
    every = trial.pick(smoke=1, default=10, full=100)
    corpus, held_out, vocabulary = emergence.texts(
        steps, windows=trial.pick(smoke=2, default=6, full=64), trial=trial
    )
    model = emergence.tiny_model(vocabulary, seed=trial.seed).to(trial.device)
    watched = share == 1.0
    grid = trial.pick(smoke=emergence.GRID[::3], default=emergence.GRID, full=emergence.GRID)
    monitor = emergence.pretrain(
        model,
        corpus[: int(share * len(corpus))],
        held_out,
        steps=steps,
        every=every if watched else None,
        grid=grid,
        generator=trial.generator(),
        progress=trial.progress,
    )
    curve = emergence.one_shot(model, held_out, grid)
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


def vision(objective: str, trial: Trial) -> dict[str, float]:
    """Pre-train the digits encoder one way, then prune and fine-tune it on the other classes."""
    with one_thread():
        return _vision(objective, trial)


def _vision(objective: str, trial: Trial) -> dict[str, float]:
    pretraining, task, test = digits.digits(trial.generator())
    encoder = digits.new_encoder(trial.seed)
    teach = digits.pretrain_masked if objective == "hidden patches" else digits.pretrain_labels
    steps = trial.pick(smoke=5, default=300, full=4000)
    trial.progress(f"pre-training on {objective}", 0.0)
    teach(encoder, pretraining, steps=steps, generator=trial.generator())
    curve = sparsity_curve(
        digits.Classifier(encoder),
        lambda model: digits.accuracy(model, test),
        lambda model, s, _: global_magnitude_mask(block_weights(model), sparsity=s),
        greater_is_better=True,
        grid=trial.pick(
            smoke=(0.0, 0.5, 0.9),
            default=(0.0, 0.3, 0.5, 0.7, 0.9),
            full=tuple(i / 20 for i in range(20)),
        ),
        finetune=lambda model, masks, _: digits.train_classifier(
            model,
            task,
            steps=trial.pick(smoke=3, default=100, full=1000),
            generator=trial.generator(),
            masks=masks,
        ),
        progress=trial.progress,
    )
    return _accuracy_curve(curve)


def language_curve(readings: dict[float, Reading]) -> dict[str, float]:
    """Perplexity at each sparsity, and the range within the tolerance."""
    levels = {_at("perplexity", s): math.exp(r.log_perplexity) for s, r in readings.items()}
    essential = perplexity_curve(readings).essential(delta=TOLERANCE, smooth=True)
    return levels | {"essential": essential}


def _accuracy_curve(curve: SparsityCurve) -> dict[str, float]:
    levels = {_at("accuracy", s): v for s, v in zip(curve.sparsities, curve.values[0], strict=True)}
    return levels | {"essential": curve.essential(delta=TOLERANCE_ACCURACY, smooth=True)}


def _resolved(
    shared: Language, accuracies: list[float], *, n: int, chance: float
) -> dict[str, float]:
    """Accuracies over the coarse grid, and the range that ``n`` questions can resolve.

    One question more or less is a larger step than 1 % of the accuracy: the second range allows a
    standard error. A model that only guesses has nothing to lose.
    """
    curve = SparsityCurve(shared.size.coarse, [accuracies], greater_is_better=True)
    dense = accuracies[0]
    error = math.sqrt(dense * (1 - dense) / n)
    knows = dense - chance > 2 * error
    resolved = curve.essential(delta=error / dense, smooth=True) if knows else math.nan
    return _accuracy_curve(curve) | {"essential_resolved": resolved}


def _rank_correlation(pairs: list[tuple[float, float]]) -> float:
    """Spearman's; NaN under four pairs, or where one side is constant."""
    first, second = (rankdata(side) for side in zip(*pairs, strict=True))
    if len(pairs) < 4 or min(first.std(), second.std()) == 0:
        return math.nan
    return float(spearmanr(first, second).statistic)


def _at(metric: str, sparsity: float) -> str:
    """Name a metric at a sparsity: ``perplexity_36``."""
    return f"{metric}_{round(100 * sparsity)}"
