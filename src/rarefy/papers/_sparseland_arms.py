"""How the arms of paper 20 are measured: a dictionary of metrics each."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rarefy.budget import Cubic, ErdosRenyiKernel, ShapeRule, Uniform
from rarefy.operators import NM, TopK
from rarefy.papers._recipe import Trial
from rarefy.papers._sparseland_faults import cases, right
from rarefy.papers._sparseland_large import Large, opened
from rarefy.papers._sparseland_training import (
    Digits,
    ResNet8,
    Trained,
    Training,
    accuracy,
    batches,
    digits,
    fresh,
    loss,
    mlp,
    train,
)
from rarefy.weights import (
    SET,
    GradualMagnitude,
    Masks,
    RigL,
    Rule,
    SparsityTrace,
    Taxonomy,
    count_macs,
    effective_masks,
    global_magnitude_mask,
    layer_times,
    magnitude,
    mask_from_scores,
    mask_variant,
    matched_width,
    random_masks,
    select,
    snip,
)

_WIDTH = 256
_RESNET_WIDTH = 16
_RESNET_DENSITY = 0.05
_STRUCTURE_DENSITY = 0.125
_ABLATION_DENSITY = 0.05
_MATRIX = 2048
_COLUMNS = 64
DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.01)

# What each run is built to be; "layers" is what its allocation gives.
BUILT = {
    "post-training": Taxonomy("after", "post-training", "static", "uneven"),
    "gradual": Taxonomy("during", "dense to sparse", "static", "uneven"),
    "static": Taxonomy("before", "sparse to sparse", "static", "uneven"),
    "SET": Taxonomy("before", "sparse to sparse", "dynamic", "uneven"),
    "RigL": Taxonomy("before", "sparse to sparse", "dynamic", "uneven"),
}


@dataclass(frozen=True)
class Shared:
    """What the arms of one seed share: the data, and a dense MLP trained on them."""

    data: Digits
    dense: nn.Module
    dense_accuracy: float
    dense_steps: int
    long: Training
    short: Training
    tuning: Training
    seed: int
    large: Large


def shared(trial: Trial, model: str | None = None) -> Shared:
    """Open the large network, draw the split and train the dense MLP."""
    large = opened(model, trial)
    data = digits(trial.seed)
    short = Training(trial.pick(smoke=1, default=15, full=15))
    dense = train(fresh(mlp, _WIDTH, trial.seed), data, short, seed=trial.seed)
    return Shared(
        data=data,
        dense=dense.model,
        dense_accuracy=dense.accuracy,
        dense_steps=len(batches(data, short.epochs, trial.seed)),
        long=Training(
            trial.pick(smoke=3, default=40, full=160),
            every=trial.pick(smoke=10, default=40, full=40),
        ),
        short=short,
        tuning=Training(trial.pick(smoke=1, default=5, full=5), lr=1e-3),
        seed=trial.seed,
        large=large,
    )


def doctor(trial: Trial) -> dict[str, float]:
    """Count planted faults that were missed, and errors found in clean controls."""
    missed = blamed = 0
    for case in cases():
        found = right(case, case.examine(trial.seed))
        missed += bool(case.code) and not found
        blamed += not case.code and not found
    return {"faults_missed": missed, "controls_blamed": blamed}


def reachability(trial: Trial) -> dict[str, float]:
    """Count weights of 50 random MLPs where effective masks and boolean reachability differ."""
    generator = trial.generator()
    wrong = 0
    for _ in range(50):
        depth = int(torch.randint(2, 7, (1,), generator=generator))
        widths = torch.randint(1, 40, (depth + 1,), generator=generator).tolist()
        layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(widths)]
        model = nn.Sequential(*itertools.chain(*layers))
        density = 0.1 + 0.3 * float(torch.rand(1, generator=generator))
        rule = Uniform(min_per_group=0)
        masks = random_masks(model, density=density, rule=rule, generator=generator)
        found = effective_masks(model, masks, torch.ones(1, widths[0]))
        wrong += sum(found.difference(_reachable(masks)).values())
    return {"differences": wrong}


def _reachable(masks: Masks) -> Masks:
    """Reachability layer by layer, from the input on and from the output back."""
    matrices = list(masks.values())
    ahead = [torch.ones(matrices[0].shape[1], dtype=torch.bool)]
    for mask in matrices:
        ahead.append((mask & ahead[-1]).any(1))
    behind = [torch.ones(matrices[-1].shape[0], dtype=torch.bool)]
    for mask in reversed(matrices):
        behind.append((mask & behind[-1][:, None]).any(0))
    behind.reverse()
    return Masks(
        {
            name: mask & ahead[i] & behind[i + 1][:, None]
            for i, (name, mask) in enumerate(masks.items())
        }
    )


def effective(arm: str, trial: Trial) -> dict[str, float]:
    """Compare direct and effective density of a narrow ResNet-8 at 99 %, over several draws."""
    rule: ShapeRule = Uniform() if arm.startswith("uniform") else ErdosRenyiKernel()
    model, generator = fresh(ResNet8, 4, trial.seed), trial.generator()
    draws = trial.pick(smoke=5, default=50, full=200)
    kept = live = cut = 0
    for _ in range(draws):
        masks = random_masks(model, density=0.01, rule=rule, generator=generator)
        found = effective_masks(model, masks, torch.ones(1, 64)).nnz
        kept, live, cut = kept + masks.nnz, live + found, cut + (not found)
    return {"effective_share": live / kept, "cut": cut / draws}


def resnet(arm: str, given: Shared) -> dict[str, float]:
    """Train the sparse ResNet-8, or the widest dense one with no more weights or operations."""
    model, pixels = fresh(ResNet8, _RESNET_WIDTH, given.seed), torch.ones(1, 64)
    masks: Masks | None = _random(model, _RESNET_DENSITY, given.seed)
    if arm != "ResNet-8 at 5 %":
        if arm == "ResNet-8, small and dense":
            budget, inputs = int(_weights(model, masks)), None
        else:
            budget, inputs = sum(row.sparse for row in count_macs(model, pixels, masks)), pixels
        width = matched_width(ResNet8, budget, low=1, high=_RESNET_WIDTH, inputs=inputs)
        model, masks = fresh(ResNet8, width, given.seed), None
    trained = train(model, given.data, given.short, seed=given.seed, masks=masks)
    return {
        "accuracy": trained.accuracy,
        "weights": _weights(model, masks),
        "macs": sum(row.sparse for row in count_macs(model, pixels, masks)),
    }


def equal_weights(kind: str, weights: int, given: Shared) -> dict[str, float]:
    """Train an MLP with so many weights: static, SET, RigL, or small and dense."""
    if kind == "small and dense":
        model = fresh(mlp, matched_width(mlp, weights, low=1, high=_WIDTH), given.seed)
        trained = train(model, given.data, given.long, seed=given.seed)
        return {"accuracy": trained.accuracy, "weights": _weights(model, None)}
    model = fresh(mlp, _WIDTH, given.seed)
    masks = _random(model, weights / sum(w.numel() for w in select(model).values()), given.seed)
    rules: dict[str, Rule] = {"SET": SET(), "RigL": RigL()}
    trained = train(
        model, given.data, given.long, seed=given.seed, masks=masks, rule=rules.get(kind)
    )
    return {
        "accuracy": trained.accuracy,
        "weights": _weights(model, masks),
        "coverage_over_density": trained.trace.coverage / masks.density(),
    } | _run(kind, trained.trace)


def gradual(given: Shared) -> dict[str, float]:
    """Prune by magnitude along a cubic while the MLP trains, to 5 %."""
    model = fresh(mlp, _WIDTH, given.seed)
    trained = train(
        model,
        given.data,
        given.long,
        seed=given.seed,
        masks=Masks.ones(select(model)),
        rule=GradualMagnitude(Cubic(_ABLATION_DENSITY, end=0.75)),
    )
    return {"accuracy": trained.accuracy} | _run("gradual", trained.trace)


def post_training(given: Shared) -> dict[str, float]:
    """Prune the trained MLP at once to 5 %, without training on."""
    model = copy.deepcopy(given.dense)
    masks = global_magnitude_mask(select(model), density=_ABLATION_DENSITY)
    masks.apply_(model)
    trace = SparsityTrace(given.dense_steps)
    trace.record(0, masks)
    return {"accuracy": accuracy(model, given.data)} | _run("post-training", trace)


def _run(kind: str, trace: SparsityTrace) -> dict[str, float]:
    """How the doctor classifies a run, and what it cost."""
    found, built = trace.classify(), BUILT[kind]
    wrong = sum(
        getattr(found, part) != getattr(built, part) for part in ("when", "path", "topology")
    )
    return {
        "wrong_classes": wrong,
        "peak_density": max(trace.densities),
        "training_macs": trace.training_share(),
        "training_macs_over_density": trace.training_share() / trace.densities[-1],
    }


def structure(arm: str, given: Shared) -> dict[str, float]:
    """Prune the hidden layers of the trained MLP to an eighth, and fine-tune."""
    model = copy.deepcopy(given.dense)
    scores = {name: s for name, s in magnitude(model).items() if name != "4.weight"}
    if arm == "1:8":
        masks = mask_from_scores(scores, pattern=NM(1, 8))
    elif arm == "rows":
        masks = Masks({name: _rows(score) for name, score in scores.items()})
    else:
        masks = mask_from_scores(scores, density=_STRUCTURE_DENSITY, scope="layer")
    masks.apply_(model)
    tuned = train(model, given.data, given.tuning, seed=given.seed, masks=masks)
    return {"accuracy": tuned.accuracy, "density": masks.density()}


def _rows(score: Tensor) -> Tensor:
    kept = round(_STRUCTURE_DENSITY * len(score))
    return TopK(kept).mask(score.square().sum(1))[:, None].expand_as(score).clone()


def latency(trial: Trial) -> dict[str, float]:
    """Time a square matrix at falling densities: CSR at random positions, rows sliced off."""
    size = trial.pick(smoke=256, default=_MATRIX, full=2 * _MATRIX)
    repeats = trial.pick(smoke=2, default=5, full=15)
    weights = {"w": torch.rand(size, size, generator=trial.generator()) + 0.1}
    metrics: dict[str, float] = {}
    for density in DENSITIES:
        trial.progress(f"timing at density {density:g}", DENSITIES.index(density) / len(DENSITIES))
        masks = random_masks(weights, density=density, generator=trial.generator())
        rows = torch.zeros(size, size, dtype=torch.bool)
        rows[: max(round(density * size), 1)] = True
        (random,) = layer_times(weights, masks, columns=_COLUMNS, repeats=repeats)
        (sliced,) = layer_times(weights, Masks({"w": rows}), columns=_COLUMNS, repeats=repeats)
        metrics |= {
            f"clock_csr_speedup_{density:g}": random.dense / random.csr,
            f"clock_packed_speedup_{density:g}": random.dense / random.packed,
            f"clock_sliced_speedup_{density:g}": sliced.dense / sliced.sliced,
            f"clock_sliced_speedup_times_density_{density:g}": sliced.dense
            / sliced.sliced
            * density,
        }
    return metrics


def ablation(arm: str, given: Shared) -> dict[str, float]:
    """Train under a mask, or under what is left of it once positions or weights are drawn anew."""
    criterion, _, variant = arm.partition(", ")
    if criterion == "SNIP":
        model = fresh(mlp, _WIDTH, given.seed)
        batch = (given.data.train, given.data.train_labels)
        masks = mask_from_scores(snip(model, [batch], loss), density=_ABLATION_DENSITY)
        how = given.short
    else:
        model = copy.deepcopy(given.dense)
        # One threshold for all leaves under 1 % of the middle layer, whose weights begin smaller.
        masks = mask_from_scores(magnitude(model), density=_ABLATION_DENSITY, scope="layer")
        how = given.tuning
    masks = mask_variant(variant or "original", masks, seed=given.seed)
    if variant == "reinitialised":
        # Another initialisation, and as long as the dense network had.
        model, how = fresh(mlp, _WIDTH, given.seed + 1000), given.short
    masks.apply_(model)
    trained: Trained = train(model, given.data, how, seed=given.seed, masks=masks)
    return {"accuracy": trained.accuracy}


def _random(model: nn.Module, density: float, seed: int) -> Masks:
    return random_masks(model, density=density, generator=torch.Generator().manual_seed(seed))


def _weights(model: nn.Module, masks: Masks | None) -> float:
    return masks.nnz if masks is not None else sum(w.numel() for w in select(model).values())
