"""Paper 33, DSnoT: swapping weights, without training, to repair a pruned language model.

Every start pruner at every sparsity, with and without DSnoT, on the same calibration text (drawn
anew for each seed) and the same held-out text; then what each part of the method contributes, and
what it costs on one large layer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
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
    swaps: Literal["dsnot", "in proportion", "random", "gram"] = "dsnot"
    dense_sparsegpt: bool = False
    calibration: float = 1.0
    trained: Literal["all", "low rank"] | None = None

    @property
    def gram(self) -> bool:
        """Whether it works on Gram matrices."""
        return self.start == "sparsegpt" or self.swaps == "gram" or "accept" in (self.dsnot or {})


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
    "sparsegpt": Variant("sparsegpt"),
    "sparsegpt+dsnot": Variant("sparsegpt", {}),
    "sparsegpt mask+dsnot": Variant("sparsegpt", {}, ("80",), dense_sparsegpt=True),
    "magnitude+dsnot, attention only": Variant("magnitude", {}, ENDS, "attention"),
    "wanda+dsnot, attention only": Variant("wanda", {}, ENDS, "attention"),
    "magnitude+dsnot, as released": Variant("magnitude", RELEASED, ENDS, "attention"),
    "wanda+dsnot, as released": Variant("wanda", RELEASED, ENDS, "attention"),
    "sparsegpt+dsnot, as released": Variant("sparsegpt", RELEASED, ENDS, "attention"),
    "magnitude+random swaps": Variant("magnitude", {}, swaps="random"),
    "wanda+random swaps": Variant("wanda", {}, swaps="random"),
    "sparsegpt+random swaps": Variant("sparsegpt", {}, ("80",), swaps="random"),
    "magnitude+dsnot, gamma 0": Variant("magnitude", {"var_power": 0.0}),
    "wanda+dsnot, gamma 0": Variant("wanda", {"var_power": 0.0}),
    "sparsegpt+dsnot, gamma 0": Variant("sparsegpt", {"var_power": 0.0}, ("80",)),
    "wanda+dsnot, grow by |C|": Variant("wanda", {"grow": "magnitude"}, ("80",)),
    "wanda+dsnot, prune by |W|": Variant("wanda", {"prune": "magnitude"}, ("80",)),
    "wanda+dsnot, 1 cycle": Variant("wanda", {"max_cycles": 1}, ("80",)),
    "wanda+dsnot, half the cycles": Variant(
        "wanda", {"cycles": 25}, ("80",), swaps="in proportion"
    ),
    "wanda+dsnot, twice the cycles": Variant(
        "wanda", {"cycles": 100}, ("80",), swaps="in proportion"
    ),
    "wanda+dsnot, 50 cycles": Variant("wanda", {"max_cycles": 50}, ("80",)),
    "wanda+dsnot, threshold x 1000": Variant("wanda", {"threshold": 100.0}, ("80",)),
    "wanda+dsnot, if the square falls": Variant("wanda", {"accept": "if_mse_drops"}, ("80",)),
    "wanda+gram swaps": Variant("wanda", {"max_cycles": 3}, ("80",), swaps="gram"),
    "wanda+dsnot, 1/4 of the text": Variant("wanda", {}, ("80",), calibration=0.25),
    "wanda+dsnot, twice the text": Variant("wanda", {}, ("80",), calibration=2.0),
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
    seeds={"smoke": 1, "default": 4, "full": 10},
)


class Shared(NamedTuple):
    """A dense model, text to calibrate on and to evaluate on, and what its layers read there.

    ``further`` is as much calibration text again, for the arm that takes twice of it.
    """

    model: torch.nn.Module
    calibration: Tensor
    further: Tensor
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
    from rarefy.weights import walk_blocks

    network = _opened(model, trial.device).model
    if trial.scale == "smoke":
        network = _small(network)
    tokens = partial(_tokens, model, trial.device)
    count = trial.pick(smoke=4, default=16, full=128)
    drawn = sample_windows(
        tokens(calibration, "train", every=trial.pick(smoke=60, default=10, full=1)),
        trial.pick(smoke=24, default=CALIBRATION_TOKENS, full=2048),
        2 * count,
        generator=trial.generator(),
    )
    held_out = windows(
        tokens(evaluation, "heldout", every=trial.pick(smoke=10, default=1, full=1)),
        trial.pick(smoke=32, default=160, full=2048),
        limit=trial.pick(smoke=2, default=7, full=64),
    )
    stats: dict[str, LayerStats] = {}
    walk_blocks(network, held_out, lambda name, _, s: stats.update({name: s}), gram=True)
    return Shared(network, drawn[:count], drawn[count:], held_out, stats)


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure an arm: log-perplexity and layer errors at each of its levels, or seconds."""
    if arm == "dense":
        return {"log_ppl": _log_perplexity(shared.model, shared.evaluation)}
    if arm in LAYER_ARMS:
        from rarefy.papers._dsnot_cost import measure_layer

        return measure_layer(arm, trial)
    from rarefy.papers._threads import one_thread, side_by_side

    variant = VARIANTS[arm]
    trial.progress(f"{arm} at {', '.join(variant.levels)}")
    # Smoke's products are too small for two threads.
    with one_thread() if trial.scale == "smoke" else nullcontext():
        found = side_by_side(
            [partial(_at_level, level, variant, shared, trial) for level in variant.levels]
        )
    values = {metric: value for metrics in found for metric, value in metrics.items()}
    if set(PATTERNS) <= set(variant.levels):
        values["pattern_violations"] = sum(values.pop(f"violations_{p}") for p in PATTERNS)
    # A gain grows with sparsity where the repaired model's perplexity rises less.
    for low, high in zip(SPARSITIES[:-1], SPARSITIES[1:], strict=True):
        if {low, high} <= set(variant.levels):
            values[f"rise_{low}_{high}"] = values[f"log_ppl_{high}"] - values[f"log_ppl_{low}"]
    return values


def _at_level(level: str, variant: Variant, shared: Shared, trial: Trial) -> dict[str, float]:
    """Prune a copy of the model to one level and measure it there."""
    from rarefy.weights import input_axes

    pruned = copy.deepcopy(shared.model)
    masks = _prune(pruned, variant, level, shared, trial)
    values = {f"log_ppl_{level}": _log_perplexity(pruned, shared.evaluation)}
    if level in ENDS:
        errors = _layer_errors(pruned, shared)
        values[f"expected_error_{level}"], values[f"output_error_{level}"] = errors
    if level in PATTERNS:
        n, m = map(int, level.split(":"))
        axes = input_axes(shared.model)
        groups = (mask.movedim(axes[name], -1).reshape(-1, m) for name, mask in masks.items())
        values[f"violations_{level}"] = sum(int((kept.sum(1) != n).sum()) for kept in groups)
    return values


@cache
def _opened(model: str | None, device: str) -> LanguageModel:
    """Open a model once for all seeds; nobody prunes it but on copies."""
    from rarefy.models import open_model

    return open_model(model, device=device)


def _small(model: torch.nn.Module) -> torch.nn.Module:
    """One block of a copy, and a few units of its MLP where it has Llama's: the wiring's trial."""
    from rarefy.models import decoder_layers

    small = copy.deepcopy(model)
    del decoder_layers(small)[1:]
    for name, module in decoder_layers(small)[0].named_modules():
        if name.endswith(("gate_proj", "up_proj")):
            module.weight.data = module.weight.data[:64].clone()
        elif name.endswith("down_proj"):
            module.weight.data = module.weight.data[:, :64].clone()
    return small


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
    import torch

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
            "in proportion": _in_proportion,
            "random": partial(random_swaps, generator=trial.generator()),
            "gram": gram_swaps,
        }
        refine = partial(repairs[variant.swaps], **variant.dsnot)
    text = torch.cat([shared.calibration, shared.further])
    windows = text[: math.ceil(len(shared.calibration) * variant.calibration)]
    masks = prune_lm(
        model,
        windows,
        method=variant.start,
        refine=refine,
        layers=variant.layers,
        sparsegpt_weights="dense" if variant.dense_sparsegpt else "updated",
        gram=variant.gram,
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


def _in_proportion(
    weight: Tensor, mask: Tensor, stats: LayerStats, *, cycles: int, **options: Any
) -> DSnoTResult:
    """DSnoT with so many cycles at 4,096 inputs, and in proportion at any other width."""
    from rarefy.weights import dsnot

    scaled = max(1, round(cycles * weight.shape[1] / 4096))
    return dsnot(weight, mask, stats, max_cycles=scaled, **options)


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


def figure(measurements: Measurements) -> Figure:
    """Perplexity against sparsity with and without DSnoT; and what each part of it does."""
    from rarefy.papers._dsnot_figure import draw

    return draw(
        measurements, [a for a, v in VARIANTS.items() if v.start == "wanda" and "80" in v.levels]
    )
