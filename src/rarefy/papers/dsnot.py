"""Paper 33, DSnoT: swapping weights, without training, to repair a pruned language model.

Every start pruner at every sparsity, with and without DSnoT, on the same calibration text (drawn
anew for each seed) and the same held-out text; then what each part of the method contributes, and
what it costs on one large layer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rarefy.evidence.claims import Measurements
from rarefy.papers._dsnot_claims import PATTERNS, SPARSITIES, dsnot_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from torch import Tensor

    from rarefy.models import LanguageModel
    from rarefy.weights import DSnoTResult, LayerStats, Masks

LEVELS = SPARSITIES + PATTERNS
CALIBRATION_TOKENS = 128

# The best of 1e-3 to 2e-2 at seed 102: so few steps, from a correction of zero, want large ones.
LORA_RATE = 1e-2


class Variant(NamedTuple):
    """One way to prune: a start, a repair with options of DSnoT (``None``: none), its levels."""

    start: Literal["magnitude", "wanda", "sparsegpt"]
    dsnot: Mapping[str, Any] | None = None
    levels: tuple[str, ...] = LEVELS
    layers: Literal["all", "attention"] = "all"
    scope: Literal["row", "layer"] = "row"
    swaps: Literal["dsnot", "random", "gram"] = "dsnot"
    dense_sparsegpt: bool = False
    calibration: float = 1.0
    trained: Literal["all", "low rank"] | None = None


# What the authors' program runs by default: no guard, 50 cycles whatever the width, a threshold
# that does not know the length of the text, the MLP left alone.
RELEASED = {"max_cycles": 50, "same_sign": False, "threshold_mode": "released"}
ENDS = ("60", "80")

VARIANTS = {
    "magnitude": Variant("magnitude", levels=SPARSITIES, scope="layer"),
    "magnitude by row": Variant("magnitude"),
    "magnitude+dsnot": Variant("magnitude", {}),
    "wanda": Variant("wanda"),
    "wanda+dsnot": Variant("wanda", {}),
    "sparsegpt": Variant("sparsegpt", levels=SPARSITIES),
    "sparsegpt+dsnot": Variant("sparsegpt", {}, SPARSITIES),
    "sparsegpt mask+dsnot": Variant("sparsegpt", {}, ("80",), dense_sparsegpt=True),
    "magnitude+dsnot, attention only": Variant("magnitude", {}, ENDS, "attention"),
    "wanda+dsnot, attention only": Variant("wanda", {}, ENDS, "attention"),
    "magnitude+dsnot, as released": Variant("magnitude", RELEASED, ENDS, "attention"),
    "wanda+dsnot, as released": Variant("wanda", RELEASED, ENDS, "attention"),
    "sparsegpt+dsnot, as released": Variant("sparsegpt", RELEASED, ENDS, "attention"),
    "magnitude+random swaps": Variant("magnitude", {}, ("80",), swaps="random"),
    "wanda+random swaps": Variant("wanda", {}, ("80",), swaps="random"),
    "magnitude+dsnot, gamma 0": Variant("magnitude", {"var_power": 0.0}, ("80",)),
    "wanda+dsnot, gamma 0": Variant("wanda", {"var_power": 0.0}, ("80",)),
    "wanda+dsnot, grow by |C|": Variant("wanda", {"grow": "magnitude"}, ("80",)),
    "wanda+dsnot, prune by |W|": Variant("wanda", {"prune": "magnitude"}, ("80",)),
    "wanda+dsnot, 1 cycle": Variant("wanda", {"max_cycles": 1}, ("80",)),
    "wanda+dsnot, 50 cycles": Variant("wanda", {"max_cycles": 50}, ("80",)),
    "wanda+dsnot, threshold x 1000": Variant("wanda", {"threshold": 100.0}, ("80",)),
    "wanda+dsnot, if the square falls": Variant("wanda", {"accept": "if_mse_drops"}, ("80",)),
    "wanda+gram swaps": Variant("wanda", {"max_cycles": 3}, ("80",), swaps="gram"),
    "wanda+dsnot, 1/4 of the text": Variant("wanda", {}, ("80",), calibration=0.25),
    "wanda+fine-tuning": Variant("wanda", levels=("50",), trained="all"),
    "wanda+LoRA": Variant("wanda", levels=("50",), trained="low rank"),
}

# One large layer of random weights, for the clock.
LAYER_ARMS = ("layer: wanda", "layer: dsnot", "layer: row sorts", "layer: sparsegpt")

PAPER = Paper(
    number=33,
    slug="dsnot",
    title="Dynamic Sparse No Training: Training-Free Fine-tuning for Sparse LLMs",
    venue="ICLR 2024",
    authors_code="https://github.com/zyxxmu/DSnoT",
    domain="weights",
    arms=("dense", *VARIANTS, *LAYER_ARMS),
    claims=dsnot_claims(),
    summary=(
        "A pruned language model is repaired without gradients: in each row of each layer a few "
        "pruned weights come back and a few kept ones go, until the row's expected output is near "
        "the dense one. The paper finds that this lowers the perplexity of every start pruner, "
        "the more the sparser the model, in seconds."
    ),
    usage=(
        "import torch\n"
        "from rarefy.data import encode, modules, sample_windows\n"
        "from rarefy.models import open_model\n"
        "from rarefy.weights import prune_lm\n"
        "\n"
        "model, tokenizer = open_model()\n"
        "tokens = encode(tokenizer, [m.read() for m in modules('train')[:50]])\n"
        "windows = sample_windows(tokens, 128, 16, generator=torch.Generator().manual_seed(0))\n"
        "prune_lm(model, windows, method='wanda', sparsity=0.6, refine='dsnot')"
    ),
    seeds={"smoke": 1, "default": 5, "full": 10},
)


class Shared(NamedTuple):
    """A dense model, text to calibrate on and to evaluate on, and what its layers read there."""

    model: torch.nn.Module
    calibration: Tensor
    evaluation: Tensor
    stats: dict[str, LayerStats]


def setup(
    trial: Trial,
    *,
    model: str | None = None,
    calibration: Path | None = None,
    evaluation: Path | None = None,
) -> Shared:
    """Open the model, draw calibration windows, and watch the dense model on held-out text.

    Parameters
    ----------
    model : str, optional
        A causal language model: a folder, or a hub name; by default the shipped code model.
    calibration : Path, optional
        Text to calibrate on: a file or a folder. By default modules of the standard library that
        the shipped model was trained on.
    evaluation : Path, optional
        Text to measure perplexity on. By default modules that the shipped model never saw.
    """
    from rarefy.data import sample_windows, windows
    from rarefy.models import decoder_layers
    from rarefy.weights import walk_blocks

    network = _opened(model, trial.device).model
    if trial.scale == "smoke":
        # A trial of the wiring needs no depth.
        network = copy.deepcopy(network)
        del decoder_layers(network)[1:]
    tokens = partial(_tokens, model, trial.device)
    drawn = sample_windows(
        tokens(calibration, "train", every=trial.pick(smoke=60, default=10, full=1)),
        trial.pick(smoke=32, default=CALIBRATION_TOKENS, full=2048),
        trial.pick(smoke=4, default=16, full=128),
        generator=trial.generator(),
    )
    held_out = windows(
        tokens(evaluation, "heldout", every=trial.pick(smoke=10, default=1, full=1)),
        trial.pick(smoke=64, default=256, full=2048),
        limit=trial.pick(smoke=2, default=8, full=64),
    )
    stats: dict[str, LayerStats] = {}
    walk_blocks(network, held_out, lambda name, _, s: stats.update({name: s}), gram=True)
    return Shared(network, drawn, held_out, stats)


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure an arm: log-perplexity and layer errors at each of its levels, or seconds."""
    if arm == "dense":
        return {"log_ppl": _log_perplexity(shared.model, shared.evaluation)}
    if arm in LAYER_ARMS:
        return _measure_layer(arm, trial)
    from rarefy.weights import input_axes

    variant = VARIANTS[arm]
    axes = input_axes(shared.model)
    values: dict[str, float] = {}
    violations = 0
    for i, level in enumerate(variant.levels):
        trial.progress(f"{arm} at {level}", i / len(variant.levels))
        pruned = copy.deepcopy(shared.model)
        masks = _prune(pruned, variant, level, shared, trial)
        values[f"log_ppl_{level}"] = _log_perplexity(pruned, shared.evaluation)
        if level in ENDS:
            errors = _layer_errors(pruned, shared)
            values[f"expected_error_{level}"], values[f"output_error_{level}"] = errors
        if level in PATTERNS:
            n, m = map(int, level.split(":"))
            for name, mask in masks.items():
                kept = mask.movedim(axes[name], -1).reshape(-1, m).sum(1)
                violations += int((kept != n).sum())
    if set(PATTERNS) <= set(variant.levels):
        values["pattern_violations"] = violations
    # A gain grows with sparsity where the repaired model's perplexity rises less.
    for low, high in zip(SPARSITIES[:-1], SPARSITIES[1:], strict=True):
        if {low, high} <= set(variant.levels):
            values[f"rise_{low}_{high}"] = values[f"log_ppl_{high}"] - values[f"log_ppl_{low}"]
    return values


@cache
def _opened(model: str | None, device: str) -> LanguageModel:
    """Open a model once for all seeds; nobody prunes it but on copies."""
    from rarefy.models import open_model

    return open_model(model, device=device)


@cache
def _tokens(
    model: str | None,
    device: str,
    text: Path | None,
    split: Literal["train", "heldout"],
    *,
    every: int,
) -> Tensor:
    """The user's text, or one in ``every`` modules: plenty, and quicker to read than all."""
    from rarefy.data import encode, modules, read_documents

    tokenizer = _opened(model, device).tokenizer
    if text is not None:
        return encode(tokenizer, read_documents(text))
    return encode(tokenizer, (m.read() for m in modules(split, tests=False)[::every]))


def _log_perplexity(model: torch.nn.Module, windows: Tensor) -> float:
    from rarefy.models import token_losses

    return float(token_losses(model, windows).double().mean())


def _prune(
    model: torch.nn.Module, variant: Variant, level: str, shared: Shared, trial: Trial
) -> Masks:
    from rarefy.operators import NM
    from rarefy.weights import (
        block_weights,
        dsnot,
        finetune,
        gram_swaps,
        input_axes,
        low_rank,
        magnitude,
        mask_from_scores,
        prune_lm,
        random_swaps,
    )

    budget: dict[str, Any] = (
        {"pattern": NM(*map(int, level.split(":")))}
        if level in PATTERNS
        else {"sparsity": int(level) / 100}
    )
    if variant.start == "magnitude" and variant.dsnot is None:
        masks = mask_from_scores(
            magnitude(block_weights(model)),
            scope=variant.scope,
            input_axes=input_axes(model),
            **budget,
        )
        masks.apply_(model)
        return masks
    refine: Callable[..., DSnoTResult] | None = None
    if variant.dsnot is not None:
        repairs: dict[str, Callable[..., DSnoTResult]] = {
            "dsnot": dsnot,
            "random": partial(random_swaps, generator=trial.generator()),
            "gram": gram_swaps,
        }
        refine = partial(repairs[variant.swaps], **variant.dsnot)
    windows = shared.calibration[: math.ceil(len(shared.calibration) * variant.calibration)]
    masks = prune_lm(
        model,
        windows,
        method=variant.start,
        refine=refine,
        layers=variant.layers,
        sparsegpt_weights="dense" if variant.dense_sparsegpt else "updated",
        batch=16,
        **budget,
    ).masks
    if variant.trained is None:
        return masks
    epochs = trial.pick(smoke=1, default=2, full=10)
    batches = [batch for _ in range(epochs) for batch in windows.to(trial.device).split(4)]

    def loss(model: torch.nn.Module, ids: Tensor) -> Tensor:
        return model(input_ids=ids, labels=ids).loss

    if variant.trained == "all":
        finetune(model, batches, loss, masks=masks)
    else:
        with low_rank(model, masks=masks, generator=trial.generator()):
            finetune(model, batches, loss, lr=LORA_RATE)
    return masks


def _layer_errors(pruned: torch.nn.Module, shared: Shared) -> tuple[float, float]:
    """Errors of the layers on held-out tokens, each alone: E|eps| per token, relative output."""
    from rarefy.weights import output_error
    from rarefy.weights.calibrate import out_in

    expected, output = [], []
    for name, stats in shared.stats.items():
        dense = out_in(shared.model.get_submodule(name)).float()
        sparse = out_in(pruned.get_submodule(name)).float()
        expected.append(float(((dense - sparse) @ stats.mean).abs().mean()))
        output.append(output_error(dense, sparse, stats))
    return math.fsum(expected) / len(expected), math.fsum(output) / len(output)


def _measure_layer(arm: str, trial: Trial) -> dict[str, float]:
    """Time one pass over a large layer of random weights; medians of a few."""
    import statistics
    import time

    import torch

    from rarefy.weights import LayerStats, dsnot, sparsegpt, wanda
    from rarefy.weights.from_scores import row_mask

    width = trial.pick(smoke=256, default=2048, full=4096)
    draw = trial.generator()
    spread = torch.rand(width, generator=draw) + 0.1
    inputs = torch.randn(32, 128, width, generator=draw) * spread + 0.1
    stats = LayerStats(width, gram=arm == "layer: sparsegpt")
    stats.update(inputs)
    weight = torch.randn(width, width, generator=draw)
    mask = row_mask(wanda(weight, stats.norm), density=0.4)
    contribution = weight * stats.mean_sum

    def sort_rows() -> None:
        # Two rankings of the pruned and two of the kept, as the released code orders them.
        for ranking in (contribution, -contribution, weight.abs(), -weight.abs()):
            ranking.sort(dim=1)

    work, repeats = {
        "layer: wanda": (lambda: row_mask(wanda(weight, stats.norm), density=0.4), 5),
        "layer: dsnot": (lambda: dsnot(weight, mask, stats), 5),
        "layer: row sorts": (sort_rows, 1),
        "layer: sparsegpt": (lambda: sparsegpt(weight, stats.gram, density=0.4), 1),
    }[arm]
    if repeats > 1:
        work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    values = {"clock_layer_seconds": statistics.median(seconds)}
    if arm == "layer: dsnot":
        values["differences_from_full_sort"] = _differences(weight, mask, stats)
    return values


def _differences(weight: Tensor, mask: Tensor, stats: LayerStats) -> int:
    """Mask entries in which DSnoT differs from the same swaps by full sorts, on some rows."""
    import torch

    from rarefy.kernels.cpu.swaps import swap_rows_reference
    from rarefy.weights import dsnot, wanda

    rows = slice(0, 256)
    contribution = weight[rows] * stats.mean_sum
    plain = swap_rows_reference(
        contribution.numpy(),
        (contribution * stats.variance.pow(-1.0)).numpy(),
        wanda(weight[rows], stats.norm).numpy(),
        mask[rows].numpy(),
        torch.full((256,), 0.1, dtype=torch.float64).numpy(),
        cycles=50,
        same_sign=False,
    )
    swapped = dsnot(
        weight[rows],
        mask[rows],
        stats,
        max_cycles=50,
        same_sign=False,
        threshold_mode="released",
    )
    return int((swapped.mask != torch.from_numpy(plain.mask)).sum())


def figure(measurements: Measurements) -> Figure:
    """Perplexity against sparsity with and without DSnoT; and what each part of it does."""
    from rarefy.papers._dsnot_figure import draw

    return draw(
        measurements, [a for a, v in VARIANTS.items() if v.start == "wanda" and "80" in v.levels]
    )
