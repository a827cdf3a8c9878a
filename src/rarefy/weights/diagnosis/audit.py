"""Fake sparsity: pruned weights that act all the same, and numbers that count something else.

A pruned weight acts if the model gives another output once it is really zero,

    model(x; w) != model(x; w m),

in evaluation mode (the mask was only for training) or in both (it is not applied at all).

Source: Liu and Wang 2023, lessons 7 and 9. Departures: the tests are ours.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from rarefy.operators import NM
from rarefy.weights.diagnosis.findings import Finding
from rarefy.weights.diagnosis.memory import training_memory
from rarefy.weights.diagnosis.reachability import evaluating, stored_parameters
from rarefy.weights.export import sparsity_metadata
from rarefy.weights.masks import Masks
from rarefy.weights.nm import nm_violation
from rarefy.weights.select import input_axis, shared_names

_POINTS = 0.02
"""Difference of densities from which two denominators are worth telling apart."""
_TOLERANCE = 1e-4
_GRADIENT = 1e-3
"""Share of a gradient's norm that may lie on pruned weights without a word: rounding."""


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """What somebody says about a sparse model; ``None`` is not said.

    Parameters
    ----------
    density : float, optional
        Share kept, of the prunable weights.
    pattern : NM, optional
    speedup : float, optional
        Of the masked layers over their dense ones, on this machine's CPU.
    """

    density: float | None = None
    pattern: NM | None = None
    speedup: float | None = None

    def __post_init__(self) -> None:
        if self.density is not None and not 0 <= self.density <= 1:
            raise ValueError(f"density must be in [0, 1], got {self.density}")
        if self.speedup is not None and not self.speedup > 0:
            raise ValueError(f"speedup must be above 0, got {self.speedup}")


def audit(
    model: nn.Module,
    masks: Masks,
    *,
    inputs: Any = None,
    optimizer: Optimizer | None = None,
    claimed: Claimed | None = None,
) -> list[Finding]:
    """Check that a model is as sparse as its masks say, and that claims count the right thing.

    Parameters
    ----------
    model : nn.Module
        Not changed. Masks may be attached.
    masks : Masks
    inputs : Tensor, tuple or dict, optional
        What the model is called with. Without it, stored weights are all that can be looked at.
    optimizer : torch optimizer, optional
        Its state is checked at the pruned positions, and what training holds is counted.
    claimed : Claimed, optional

    Returns
    -------
    list of Finding
        ``TIED``, ``NOT_FINITE``, ``MASK_LEAK``, ``DENSE_EVAL``, ``GRADIENT_LEAK``, ``SLOT_LEAK``,
        ``DENSE_MEMORY``, ``STRAY_ZEROS``, ``FROZEN_DENSE``, ``DENOMINATOR``, ``PATTERN``. Gradients
        are looked at where a backward pass has left them.
    """
    claimed = claimed or Claimed()
    parameters = stored_parameters(model, masks)
    stored = {name: parameter.detach() for name, parameter in parameters.items()}
    return [
        *_tied(model, masks),
        *_not_finite(stored),
        *_leaks(model, masks, stored, inputs),
        *_gradients(masks, parameters),
        *_slots(masks, parameters, optimizer),
        *_memory(model, masks, optimizer),
        *_stray_zeros(masks, stored),
        *_frozen(model, masks, parameters),
        *denominator_findings(densities(model, masks), claimed.density),
        *pattern_findings(masks, axes_of(model, masks), claimed.pattern),
    ]


def _tied(model: nn.Module, masks: Masks) -> list[Finding]:
    return [
        Finding(
            "TIED",
            "error",
            9,
            f"the mask is on a tensor that is also {', '.join(sorted(group - {name}))}, and acts "
            "there too or not at all",
            layer=name,
        )
        for group in shared_names(model)
        for name in sorted(group & set(masks))[:1]
    ]


def _not_finite(stored: Mapping[str, Tensor]) -> list[Finding]:
    bad = {name: int((~weight.isfinite()).sum()) for name, weight in stored.items()}
    return [
        Finding(
            "NOT_FINITE",
            "error",
            9,
            f"{count} weights are NaN or infinite",
            layer=name,
            evidence={"count": count},
        )
        for name, count in bad.items()
        if count
    ]


def _leaks(
    model: nn.Module, masks: Masks, stored: Mapping[str, Tensor], inputs: Any
) -> list[Finding]:
    leaked = {n: int((stored[n].ne(0) & ~mask).count_nonzero()) for n, mask in masks.items()}
    leaked = {name: count for name, count in leaked.items() if count}
    if not leaked:
        return []
    if inputs is not None:
        # A stored weight is not yet one that acts: masks are often applied as the weight is read.
        if not _acts(model, masks, inputs, training=False):
            return []
        if not _acts(model, masks, inputs, training=True):
            return [
                Finding(
                    "DENSE_EVAL",
                    "error",
                    9,
                    "the masks act in training only: evaluation runs with the pruned weights, so "
                    "its figures are those of a dense network",
                    layer=name,
                    evidence={"nonzero_pruned": count},
                )
                for name, count in leaked.items()
            ]
    return [
        Finding(
            "MASK_LEAK",
            "error",
            9,
            f"{count} pruned weights are not zero",
            layer=name,
            evidence={"nonzero_pruned": count, "pruned": int((~masks[name]).sum())},
        )
        for name, count in leaked.items()
    ]


@torch.no_grad()
def _acts(model: nn.Module, masks: Masks, inputs: Any, *, training: bool) -> bool:
    """Whether zeroing the pruned weights changes the output."""
    # A copy, for the statistics that a training pass leaves behind.
    twin = copy.deepcopy(model)
    stored = {id(p): masks[name] for name, p in stored_parameters(twin, masks).items()}
    zeroed = {
        name: parameter.masked_fill(~stored[id(parameter)], 0)
        for name, parameter in twin.named_parameters()
        if id(parameter) in stored
    }
    args = () if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple) else (inputs,)
    options = inputs if isinstance(inputs, dict) else {}
    outputs = []
    for weights in ({}, zeroed):
        # The same dropout twice.
        with torch.random.fork_rng(devices=[]), evaluating(twin):
            torch.manual_seed(0)
            twin.train(training)
            outputs.append(_flat(functional_call(twin, weights, args, options)))
    before, after = outputs
    return bool((before - after).norm() > _TOLERANCE * after.norm())


def _flat(output: Any) -> Tensor:
    values = output.values() if isinstance(output, Mapping) else output
    tensors = [output] if isinstance(output, Tensor) else [t for t in values if torch.is_tensor(t)]
    return torch.cat([t.flatten().double() for t in tensors if t.is_floating_point()])


def _gradients(masks: Masks, parameters: Mapping[str, Tensor]) -> list[Finding]:
    found = []
    for name, mask in masks.items():
        gradient = parameters[name].grad
        if gradient is None:
            continue
        gradient = gradient.to_dense()  # an embedding's may hold the rows it read only
        norm, pruned = float(gradient.norm()), float(gradient[~mask].norm())
        if pruned > _GRADIENT * norm:
            found.append(
                Finding(
                    "GRADIENT_LEAK",
                    "warn",
                    9,
                    f"{pruned / norm:.1%} of the gradient's norm is at pruned weights: a step "
                    "moves them unless masks are applied after it; only regrowth by gradient and "
                    "straight-through masks want that",
                    layer=name,
                    evidence={"norm": norm, "pruned": pruned},
                )
            )
    return found


def _slots(
    masks: Masks, parameters: Mapping[str, Tensor], optimizer: Optimizer | None
) -> list[Finding]:
    found = []
    for name, mask in masks.items():
        state = optimizer.state.get(parameters[name], {}) if optimizer is not None else {}
        slots = [s for s in state.values() if torch.is_tensor(s) and s.shape == mask.shape]
        count = sum(int(slot[~mask].count_nonzero()) for slot in slots)
        if count:
            found.append(
                Finding(
                    "SLOT_LEAK",
                    "warn",
                    9,
                    f"the optimizer holds {count} non-zero entries for pruned weights: they would "
                    "move a weight as soon as it comes back",
                    layer=name,
                    evidence={"count": count},
                )
            )
    return found


def _memory(model: nn.Module, masks: Masks, optimizer: Optimizer | None) -> list[Finding]:
    if optimizer is None or masks.density() == 1:
        return []
    memory = training_memory(model, masks, optimizer)
    words = (
        f"training holds {memory.held / 1e6:.3g} MB of weights, gradients, optimizer state and "
        f"masks; the kept weights alone would need {memory.ideal / 1e6:.3g} MB"
    )
    return [Finding("DENSE_MEMORY", "info", 4, words, evidence=asdict(memory))]


def _stray_zeros(masks: Masks, stored: Mapping[str, Tensor]) -> list[Finding]:
    strays = {n: int((stored[n].eq(0) & mask).count_nonzero()) for n, mask in masks.items()}
    total = sum(strays.values())
    if total <= 0.01 * masks.nnz:
        return []
    return [
        Finding(
            "STRAY_ZEROS",
            "warn",
            7,
            f"{total} of {masks.nnz} kept weights are zero: the model is sparser than its masks",
            evidence={name: count for name, count in strays.items() if count},
        )
    ]


def _frozen(model: nn.Module, masks: Masks, parameters: Mapping[str, Tensor]) -> list[Finding]:
    """Find frozen layers outside the masks: zeros are a smaller share once they count."""
    masked = {id(parameter) for parameter in parameters.values()}
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    frozen = {
        name: parameter.numel()
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad
        and parameter.ndim > 1
        and id(parameter) not in masked | tables
    }
    count = sum(frozen.values())
    together = (masks.nnz + count) / max(masks.numel + count, 1)
    if together - masks.density() <= _POINTS:
        return []
    words = (
        f"{count} weights of frozen layers are dense and outside the masks: of these and the "
        f"masked ones {together:.3f} are kept, not {masks.density():.3f}"
    )
    return [Finding("FROZEN_DENSE", "warn", 7, words, evidence=frozen)]


def denominator_findings(shares: Mapping[str, float], claimed: float | None) -> list[Finding]:
    """Find a density that is not the one claimed, or that could be mistaken for another."""
    spread = max(shares.values()) - min(shares.values())
    words = ", ".join(f"{share:.3f} of {_WORDS[name]}" for name, share in shares.items())
    if claimed is not None and abs(claimed - shares["prunable"]) > _POINTS:
        others = [name for name, share in shares.items() if abs(claimed - share) <= _POINTS]
        guess = f", which is a share of {_WORDS[others[0]]}" if others else ""
        return [
            Finding(
                "DENOMINATOR",
                "error",
                7,
                f"the density is said to be {claimed:.3f}{guess}; measured: {words}",
                evidence={**shares, "claimed": claimed},
            )
        ]
    if spread <= _POINTS:
        return []
    return [
        Finding("DENOMINATOR", "warn", 7, f"say which density is meant: {words}", evidence=shares)
    ]


_WORDS = {
    "prunable": "the masked weights",
    "all": "all parameters",
    "no_embedding": "all but embeddings",
}


def densities(model: nn.Module, masks: Masks) -> dict[str, float]:
    """Compute the density under each denominator: prunable, all, all but embeddings."""
    facts = sparsity_metadata(model, masks)
    return {
        "prunable": facts["density"],
        "all": facts["density_all"],
        "no_embedding": facts["density_no_embedding"],
    }


def axes_of(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, int]:
    """Find the axis over the inputs of every masked weight."""
    return {name: input_axis(model.get_submodule(name.rpartition(".")[0])) for name in masks}


def pattern_findings(masks: Masks, axes: Mapping[str, int], pattern: NM | None) -> list[Finding]:
    """Find layers that break the N:M pattern they are said to obey."""
    if pattern is None:
        return []
    found = []
    for name, mask in masks.items():
        axis = axes.get(name, 1)
        if mask.shape[axis] % pattern.m:
            broken, why = 1.0, f"{mask.shape[axis]} inputs are no multiple of {pattern.m}"
        else:
            broken = nm_violation(mask, NM(pattern.n, pattern.m, axis=axis))
            why = f"{broken:.2%} of the groups of {pattern.m} keep more than {pattern.n}"
        if broken:
            found.append(
                Finding(
                    "PATTERN",
                    "error",
                    2,
                    f"said to be {pattern.n}:{pattern.m}, but {why}",
                    layer=name,
                    evidence={"broken_groups": broken},
                )
            )
    return found
