"""Twelve planted faults and twelve clean controls for the doctor of paper 20.

Each control is its fault's nearest honest neighbour: weights that leak in storage but not in the
output, a speed-up that is true, runs that are equal in the point at issue.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from rarefy.operators import NM
from rarefy.weights import (
    Claimed,
    Diagnosis,
    Masks,
    RunCard,
    attach,
    comparable,
    diagnose,
    magnitude,
    mask_from_scores,
    random_masks,
)

_SPARSE = 0.3
_RUN = RunCard(
    name="sparse",
    data="digits",
    split="1257/540",
    metric="accuracy",
    steps=800,
    batch=64,
    density=0.1,
    seeds=3,
)
_DENSE = dataclasses.replace(_RUN, name="dense", density=1.0)


class Case(NamedTuple):
    """A fault, or a control where ``code`` is empty."""

    name: str
    examine: Callable[[int], Diagnosis]
    code: str = ""
    layer: str = ""


class _Tied(nn.Module):
    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 16)
        self.inner = nn.Linear(16, 16)
        self.head = nn.Linear(16, 40, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.relu(self.inner(self.table(tokens))))


class _MaskedLinear(nn.Linear):
    """A layer as hand-written sparse training has it; ``always`` is what it forgets."""

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, *, always: bool) -> None:
        super().__init__(inputs, outputs)
        self.always = always
        self.register_buffer("mask", torch.ones(outputs, inputs, dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        shut = self.training or self.always
        return F.linear(x, self.weight * self.mask if shut else self.weight, self.bias)


def cases() -> tuple[Case, ...]:
    """List them all, each fault followed by its control."""
    return (
        Case("a layer without weights", _collapsed, "LAYER_COLLAPSE", "2.weight"),
        Case("thin layers", _thin),
        Case("weights that read dead units", _idle, "INEFFECTIVE", "2.weight"),
        Case("dead units that nothing reads", _unread),
        Case("pruned weights that moved", _leaking, "MASK_LEAK", "2.weight"),
        Case("pruned weights that live behind the mask", _attached),
        Case("a mask on a tied head", _tied, "TIED", "head.weight"),
        Case("a mask on a head of its own", _untied),
        Case("a density of all parameters", _said(0.0), "DENOMINATOR"),
        Case("a density of the pruned weights", _said(1.0)),
        Case("a broken 2:4", _pattern(broken=True), "PATTERN", "0.weight"),
        Case("a true 2:4", _pattern(broken=False)),
        Case("masks in training only", _forgets(always=False), "DENSE_EVAL", "0.weight"),
        Case("masks in both modes", _forgets(always=True)),
        Case("a speed-up read off the weights", _fast(structured=False), "SPEEDUP"),
        Case("a speed-up of removed rows", _fast(structured=True)),
        Case("trained for longer", _runs({"steps": 2400}), "UNEQUAL_STEPS"),
        Case("trained for as long", _runs({})),
        Case("a trained start against none", _runs({"pretrained_steps": 800}), "PRETRAINED"),
        Case("the same start", _runs({"pretrained_steps": 800}, {"pretrained_steps": 800})),
        Case("one seed", _runs({"seeds": 1}), "ONE_SEED"),
        Case("five seeds", _runs({"seeds": 5})),
        Case("chosen on the test set", _runs({"selected_on": "test"}), "TEST_SELECTION"),
        Case("chosen on validation", _runs({"selected_on": "validation"})),
    )


def right(case: Case, found: Diagnosis) -> bool:
    """Whether the fault was found with its code and layer, or the control left in peace."""
    if not case.code:
        return found.ok
    named = {(finding.code, finding.layer) for finding in found.findings}
    return (case.code, case.layer) in named


def _mlp(seed: int) -> tuple[nn.Sequential, Masks]:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 12)
        )
    return model, random_masks(model, density=_SPARSE, generator=generator, avoid_dead=True)


def _looked_over(model: nn.Module, masks: Masks, claimed: Claimed | None = None) -> Diagnosis:
    masks.apply_(model)
    return diagnose(model, masks, inputs=torch.ones(2, 64), claimed=claimed)


def _collapsed(seed: int) -> Diagnosis:
    model, masks = _mlp(seed)
    masks["2.weight"].fill_(False)
    return _looked_over(model, masks)


def _thin(seed: int) -> Diagnosis:
    return _looked_over(*_mlp(seed))


def _idle(seed: int) -> Diagnosis:
    model, masks = _mlp(seed)
    masks["0.weight"][:8] = False
    return _looked_over(model, masks)


def _unread(seed: int) -> Diagnosis:
    model, masks = _mlp(seed)
    masks["0.weight"][:8] = False
    masks["2.weight"][:, :8] = False
    return _looked_over(model, masks)


def _leaking(seed: int) -> Diagnosis:
    model, masks = _mlp(seed)
    masks.apply_(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # A step without the mask: every weight of the layer moves.
        moved = torch.randn(32, 32, generator=generator)
        model[2].weight.add_(0.01 * moved)  # type: ignore[operator]
    return diagnose(model, masks, inputs=torch.ones(2, 64))


def _attached(seed: int) -> Diagnosis:
    model, masks = _mlp(seed)
    with attach(model, masks):
        return diagnose(model, masks, inputs=torch.ones(2, 64))


def _tied(seed: int) -> Diagnosis:
    return _heads(_Tied(tied=True), seed)


def _untied(seed: int) -> Diagnosis:
    return _heads(_Tied(tied=False), seed)


def _heads(model: _Tied, seed: int) -> Diagnosis:
    generator = torch.Generator().manual_seed(seed)
    weights = {"inner.weight": model.inner.weight, "head.weight": model.head.weight}
    masks = random_masks(weights, density=_SPARSE, generator=generator, avoid_dead=True)
    masks.apply_(model)
    return diagnose(model, masks, inputs=torch.zeros(1, 3, dtype=torch.long))


def _said(prunable: float) -> Callable[[int], Diagnosis]:
    """Claim the density of the masked weights (1), or that of all parameters (0)."""

    def examine(seed: int) -> Diagnosis:
        model, masks = _mlp(seed)
        kept = masks["0.weight"]
        masks = Masks({"0.weight": kept})
        everything = sum(parameter.numel() for parameter in model.parameters())
        of_all = 1 - (masks.numel - masks.nnz) / everything
        said = masks.density() if prunable else of_all
        return _looked_over(model, masks, Claimed(density=said))

    return examine


def _pattern(*, broken: bool) -> Callable[[int], Diagnosis]:
    def examine(seed: int) -> Diagnosis:
        model, _ = _mlp(seed)
        masks = mask_from_scores(magnitude(model), pattern=NM(2, 4))
        if broken:
            masks["0.weight"][3, 8:12] = torch.tensor([True, True, True, False])
        return _looked_over(model, masks, Claimed(pattern=NM(2, 4)))

    return examine


def _forgets(*, always: bool) -> Callable[[int], Diagnosis]:
    def examine(seed: int) -> Diagnosis:
        plain, masks = _mlp(seed)
        first = _MaskedLinear(64, 32, always=always)
        first.mask.copy_(masks["0.weight"])
        model = copy.deepcopy(plain)
        model[0] = first
        masks = Masks({"0.weight": masks["0.weight"]})
        return diagnose(model, masks, inputs=torch.ones(2, 64))

    return examine


def _fast(*, structured: bool) -> Callable[[int], Diagnosis]:
    """Half of a large layer at random, or an eighth of its rows; said to be 2 times as fast."""

    def examine(seed: int) -> Diagnosis:
        first = nn.Linear(512, 1024)
        model = nn.Sequential(first, nn.ReLU(), nn.Linear(1024, 10))
        weights = {"0.weight": first.weight}
        if structured:
            masks = Masks.ones(weights)
            masks["0.weight"][128:] = False
        else:
            generator = torch.Generator().manual_seed(seed)
            masks = random_masks(weights, density=0.5, generator=generator)
        masks.apply_(model)
        return diagnose(model, masks, inputs=torch.ones(1, 512), claimed=Claimed(speedup=2.0))

    return examine


def _runs(sparse: dict, dense: dict | None = None) -> Callable[[int], Diagnosis]:
    pair = (dataclasses.replace(_RUN, **sparse), dataclasses.replace(_DENSE, **(dense or {})))
    return lambda _seed: Diagnosis(findings=tuple(comparable(pair)))
