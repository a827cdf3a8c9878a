"""Several ways to a sparse network side by side: what each keeps of the metric, at what cost.

    method = start [+ dsnot] [+ training],   run on a copy of the model at each sparsity

    start     dense | random | magnitude | global | wanda | sparsegpt, or one's own
    training  finetune (masks stay) | set | rigl (masks move) | gradual (dense to sparse)

The dense model stands beside them, and where anything trains, the dense model trained as long: a
sparse network that trained must be compared with that one.

Source: the comparison that Liu and Wang 2023 ask for ("Ten lessons in the new Sparseland", 3 to
6): methods within one class, or the costs of both stated. Departures: none.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from rarefy.budget import Cubic, ErdosRenyiKernel
from rarefy.operators import NM
from rarefy.weights.calibrate import block_linears
from rarefy.weights.comparison import Comparison, Point, target_name
from rarefy.weights.dynamic import SET, DynamicMasks, GradualMagnitude, RigL, Rule, Static
from rarefy.weights.finetune import descend
from rarefy.weights.from_scores import check_pattern, global_magnitude_mask, mask_from_scores
from rarefy.weights.macs import count_macs
from rarefy.weights.masks import Masks
from rarefy.weights.prune_lm import prune_lm
from rarefy.weights.random_masks import random_masks
from rarefy.weights.scores import Loss, magnitude
from rarefy.weights.select import input_axes, select

Target = float | NM
"""A sparsity, or a pattern."""

Start = Callable[[nn.Module, Target], Masks]
"""Makes masks for a model, and may change the weights they keep."""

Training = Literal["finetune", "set", "rigl", "gradual"]

_STARTS = ("dense", "random", "magnitude", "global", "wanda", "sparsegpt")
_TRAININGS = ("finetune", "set", "rigl", "gradual")
_ALONE = {"gradual": "dense", "set": "random", "rigl": "random"}
"""Where a way of training begins that is named without a start."""
_CALIBRATED = ("wanda", "sparsegpt")
_REFINABLE = ("magnitude", *_CALIBRATED)
_UPDATES = 20
"""Updates of moving masks in one training."""


@dataclass(frozen=True)
class Method:
    """One way to a sparse network.

    Parameters
    ----------
    start : str or callable
        ``"random"`` spreads its budget by an allocation rule, ``"magnitude"`` drops the smallest
        of each tensor, ``"global"`` the smallest of all, ``"wanda"`` and ``"sparsegpt"`` need a
        language model; ``"dense"`` drops nothing. A callable ``(model, target) -> Masks`` is
        one's own, and gives the method its name.
    dsnot : bool, default False
        Repair the start's masks.
    training : {"finetune", "set", "rigl", "gradual"}, optional
        What follows. ``"gradual"`` begins dense.

    Raises
    ------
    ValueError
        If there is no such part, or the parts do not go together.

    Examples
    --------
    >>> Method.parse("wanda+dsnot+finetune")
    Method(start='wanda', dsnot=True, training='finetune')
    >>> Method.parse("rigl").name
    'random+rigl'
    """

    start: str | Start
    dsnot: bool = False
    training: Training | None = None

    def __post_init__(self) -> None:
        if isinstance(self.start, str) and self.start not in _STARTS:
            raise ValueError(f"{self.start!r} is no start: {', '.join(_STARTS)} are")
        if self.training is not None and self.training not in _TRAININGS:
            raise ValueError(f"{self.training!r} is no training: {', '.join(_TRAININGS)} are")
        if self.dsnot and self.start not in _REFINABLE:
            raise ValueError(f"dsnot repairs masks of {', '.join(_REFINABLE)}, not of {self.name}")
        moving = self.training in ("set", "rigl", "gradual")
        if moving and (self.training == "gradual") != (self.start == "dense"):
            raise ValueError(f"{self.name}: gradual begins dense, set and rigl begin sparse")

    @classmethod
    def parse(cls, text: str) -> Method:
        """Read ``"START"``, ``"START+dsnot"``, ``"START+TRAINING"`` or all three parts.

        Raises
        ------
        ValueError
            If the text is no method.
        """
        first, *rest = text.split("+")
        if first in _ALONE:
            first, rest = _ALONE[first], [first, *rest]
        dsnot = rest[:1] == ["dsnot"]
        training = rest[dsnot:]
        if (
            first not in _STARTS
            or len(training) > 1
            or any(part not in _TRAININGS for part in training)
        ):
            raise ValueError(
                f"{text!r} is no method: one of {', '.join(_STARTS[1:])}, then where wanted "
                "+dsnot, then where wanted +finetune, +set or +rigl; or gradual"
            )
        return cls(first, dsnot, cast(Training, training[0]) if training else None)

    @property
    def name(self) -> str:
        """As :meth:`parse` reads it."""
        start = self.start if isinstance(self.start, str) else self.start.__name__
        parts = (start, "dsnot" if self.dsnot else None, self.training)
        return "+".join(part for part in parts if part)

    @property
    def calibrated(self) -> bool:
        """Whether calibration text is needed."""
        return self.dsnot or self.start in _CALIBRATED

    @property
    def patterned(self) -> bool:
        """Whether an N:M pattern can be had and held."""
        fixed = self.training in (None, "finetune")
        return fixed and (callable(self.start) or self.start in _REFINABLE)


_DENSE = Method("dense")


def compare(
    model: nn.Module,
    methods: Sequence[str | Method],
    sparsities: Sequence[Target],
    *,
    evaluate: Callable[[nn.Module], float],
    weights: Callable[[nn.Module], Mapping[str, Tensor]] = select,
    allocation: Callable[..., dict[str, int]] = ErdosRenyiKernel(),  # noqa: B008 - a frozen constant
    calibration: Tensor | None = None,
    data: Iterable[Any] | None = None,
    loss: Loss | None = None,
    finetune_steps: int = 100,
    lr: float = 5e-4,
    inputs: Any = None,
    seed: int = 0,
    known: Sequence[Point] = (),
    on_point: Callable[[Point], object] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Comparison:
    """Make a copy of the model sparse by each method at each sparsity, and measure it.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    methods : sequence of str or Method
        As :meth:`Method.parse` reads them: ``"magnitude"``, ``"wanda+dsnot"``,
        ``"magnitude+finetune"``, ``"rigl"``, ``"gradual"``.
    sparsities : sequence of float or NM
        Shares of the weights to remove, strictly between 0 and 1, or patterns.
    evaluate : callable ``model -> float``
        The metric; the model comes in evaluation mode, and gradients are off.
    weights : callable ``model -> mapping of str to Tensor``, default ``select``
        What is pruned; :func:`block_weights` on a language model. Wanda, SparseGPT and DSnoT
        always take these.
    allocation : allocation rule, default ``ErdosRenyiKernel()``
        How random masks spread their budget.
    calibration : int64 Tensor, shape (sequences, tokens), optional
        For Wanda, SparseGPT and DSnoT.
    data : iterable of batches, optional
        For methods that train: a list or a ``DataLoader``, gone through again as often as needed.
    loss : callable ``(model, batch) -> scalar Tensor``, optional
        For methods that train.
    finetune_steps : int, default 100
        Steps of every training, with AdamW; moving masks are updated 20 times in it.
    lr : float, default 5e-4
        At the first step; falls linearly to 0.
    inputs : Tensor, tuple or dict, optional
        An example for counting multiply-accumulates; without it they are not counted.
    seed : int, default 0
        Of random masks and of training.
    known : sequence of Point, default ()
        Points of a comparison that was stopped, which are not measured again.
    on_point : callable ``(Point)``, optional
        Told each point as soon as it is measured, to keep it.
    progress : callable ``(what, fraction)``, optional

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        If something is missing that a method needs, a sparsity or pattern cannot be had, or a
        training diverges. All but the last is checked before any work.

    Examples
    --------
    >>> from torch import nn
    >>> layer = nn.Linear(8, 4, bias=False)
    >>> norm = lambda m: float(m.weight.norm())
    >>> found = compare(layer, ["magnitude", "random"], [0.5], evaluate=norm)
    >>> [point.method for point in found.points]
    ['dense', 'magnitude', 'random']
    >>> found["dense"].value > found["magnitude", 0.5].value > found["random", 0.5].value
    True
    """
    wanted = list(dict.fromkeys(Method.parse(m) if isinstance(m, str) else m for m in methods))
    targets = list(dict.fromkeys(sparsities))
    work = _Work(
        evaluate, weights, allocation, calibration, data, loss, finetune_steps, lr, inputs, seed
    )
    work.check(model, wanted, targets)
    references = [_DENSE, *([Method("dense", training="finetune")] * work.trains(wanted))]
    # A method that is its own reference has no sparsity to be run at.
    wanted = [method for method in wanted if method not in references]
    grid: list[tuple[Method, Target]] = [(reference, 0.0) for reference in references]
    grid += [(method, target) for target in targets for method in wanted]
    found = {(point.method, point.target): point for point in known}
    for done, (method, target) in enumerate(grid):
        key = method.name, target_name(target)
        if key in found:
            continue
        if progress is not None:
            progress(_label(method, target), done / len(grid))
        found[key] = work.point(copy.deepcopy(model), method, target)
        if on_point is not None:
            on_point(found[key])
    return Comparison(tuple(found[m.name, target_name(t)] for m, t in grid))


@dataclass(frozen=True)
class _Work:
    """What all points share."""

    evaluate: Callable[[nn.Module], float]
    weights: Callable[[nn.Module], Mapping[str, Tensor]]
    allocation: Callable[..., dict[str, int]]
    calibration: Tensor | None
    data: Iterable[Any] | None
    loss: Loss | None
    steps: int
    lr: float
    inputs: Any
    seed: int

    @staticmethod
    def trains(methods: Sequence[Method]) -> bool:
        return any(method.training for method in methods)

    def check(self, model: nn.Module, methods: Sequence[Method], targets: Sequence[Target]) -> None:
        """Refuse what cannot be done, before anything is."""
        if not methods or not targets:
            raise ValueError("at least one method and one sparsity are wanted")
        names = [method.name for method in methods]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two methods are called {', '.join(twice)}: name their starts apart")
        chosen = self.weights(model)
        axes = input_axes(model)
        shapes = {name: tuple(w.shape) for name, w in chosen.items()}
        for target in targets:
            if isinstance(target, NM):
                for name, shape in shapes.items():
                    check_pattern(target, shape[axes.get(name, 1)], name)
                if unfit := [method.name for method in methods if not method.patterned]:
                    raise ValueError(
                        f"{', '.join(unfit)} cannot hold the pattern {target_name(target)}: "
                        "compare patterns apart"
                    )
            elif not 0 < target < 1:
                raise ValueError(f"sparsities must lie between 0 and 1, got {target}")
            elif any(method.start == "random" for method in methods):
                self.allocation(shapes, density=1 - target)
        if calibrated := [method.name for method in methods if method.calibrated]:
            if self.calibration is None:
                raise TypeError(f"{', '.join(calibrated)}: calibration is wanted, windows of text")
            block_linears(model)
        if training := [method.name for method in methods if method.training]:
            self._check_training(chosen, ", ".join(training))

    def _check_training(self, chosen: Mapping[str, Tensor], names: str) -> None:
        if self.data is None or self.loss is None:
            raise TypeError(f"{names}: data and loss are wanted, to train with")
        if isinstance(self.data, Iterator):
            raise TypeError(
                "data is an iterator, which ends after one pass: a list or a DataLoader is wanted"
            )
        if self.steps < 1:
            raise ValueError(f"finetune_steps must be at least 1, got {self.steps}")
        if frozen := [name for name, weight in chosen.items() if not weight.requires_grad]:
            raise ValueError(f"{', '.join(frozen)} cannot train: requires_grad is off")

    def point(self, model: nn.Module, method: Method, target: Target) -> Point:
        """Run one method on a model that is its own."""
        # A point's numbers must not depend on the points before it: a stopped comparison goes on.
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            began = time.perf_counter()
            masks = self._start(model, method, target)
            chosen = time.perf_counter()
            density = None
            if method.training is not None:
                try:
                    masks, density = self._train(model, method, masks, target)
                except ValueError as error:
                    raise ValueError(f"{_label(method, target)}: {error}") from error
            trained = time.perf_counter()
            with torch.no_grad():
                value = float(self.evaluate(model.eval()))
        macs = None
        if self.inputs is not None:
            rows = count_macs(model, self.inputs, masks)
            macs = sum(row.sparse for row in rows) / sum(row.dense for row in rows)
        return Point(
            method=method.name,
            target=target_name(target),
            sparsity=1 - masks.density(),
            value=value,
            mask_seconds=chosen - began,
            train_seconds=trained - chosen if method.training else 0.0,
            training_density=density,
            macs=macs,
        )

    def _start(self, model: nn.Module, method: Method, target: Target) -> Masks:
        """Make the masks a method starts with, and zero what they prune."""
        pattern = target if isinstance(target, NM) else None
        sparsity = None if isinstance(target, NM) else target
        if method.calibrated:
            assert self.calibration is not None  # checked at the door
            return prune_lm(
                model,
                self.calibration,
                method=cast(Any, method.start),
                sparsity=sparsity,
                pattern=pattern,
                refine="dsnot" if method.dsnot else None,
                gram=method.start == "sparsegpt",
            ).masks
        weights = self.weights(model)
        if callable(method.start):
            masks = method.start(model, target)
        elif method.start == "dense":
            return Masks.ones(weights)
        elif method.start == "random":
            masks = random_masks(
                weights, sparsity=sparsity, rule=self.allocation, generator=self._generator()
            )
        elif method.start == "global":
            masks = global_magnitude_mask(weights, sparsity=sparsity)
        else:
            masks = mask_from_scores(
                magnitude(weights),
                sparsity=sparsity,
                scope="layer",
                pattern=pattern,
                input_axes=input_axes(model),
            )
        masks.apply_(model)
        return masks

    def _train(
        self, model: nn.Module, method: Method, masks: Masks, target: Target
    ) -> tuple[Masks, float]:
        """Train, and return the last masks and the mean density over the steps."""
        assert self.data is not None and self.loss is not None  # checked at the door
        optimizer = AdamW(model.parameters(), lr=self.lr, weight_decay=0.0)
        rules: dict[str, Callable[[], Rule]] = {
            "finetune": Static,
            "set": SET,
            "rigl": RigL,
            "gradual": lambda: GradualMagnitude(Cubic(1 - cast(float, target), end=0.75)),
        }
        with DynamicMasks(
            model,
            masks,
            optimizer,
            rule=rules[cast(str, method.training)](),
            steps=self.steps,
            every=max(1, self.steps // _UPDATES),
            generator=self._generator(),
        ) as held:
            descend(
                model,
                optimizer,
                islice(_again(self.data), self.steps),
                self.loss,
                steps=self.steps,
                clip=1.0,
            )
        in_force = [(0, masks.density()), *((u.step, u.density) for u in held.history)]
        ends = [step for step, _ in in_force[1:]] + [self.steps]
        spent = sum(d * (end - step) for (step, d), end in zip(in_force, ends, strict=True))
        return held.masks, spent / self.steps

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)


def _label(method: Method, target: Target) -> str:
    return f"{method.name} at {target_name(target)}" if target else method.name


def _again(data: Iterable[Any]) -> Iterator[Any]:
    """Go through the data without end."""
    while True:
        empty = True
        for batch in data:
            empty = False
            yield batch
        if empty:
            raise ValueError("data is empty: at least one batch is wanted")
