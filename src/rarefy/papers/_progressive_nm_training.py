"""How every arm of paper 23 is trained: AdamW with one cycle of the rate, clipped gradients.

No arm has a setting of its own but those that its name states.
"""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple

import torch
from torch import nn

from rarefy.operators import NM
from rarefy.papers._progressive_nm_data import Task
from rarefy.papers._recipe import Trial
from rarefy.weights import (
    Backward,
    GradientFlow,
    MdGf,
    NMTraining,
    SdGf,
    count_macs,
    is_nm,
    select,
)

_TARGETS = ("*.up.weight", "*.down.weight")
_WARM_UP = 0.1
_BATCHES = 32


class Way(NamedTuple):
    """How an arm comes to its pattern."""

    pattern: NM
    rule: MdGf | SdGf | Backward


def train(
    task: Task, trial: Trial, way: Way | None, *, steps: int | None = None
) -> dict[str, float]:
    """Train a network, dense or to N:M in its feed-forward layers, and measure it.

    Parameters
    ----------
    task : Task
    trial : Trial
    way : Way, optional
        ``None`` trains the dense network.
    steps : int, optional
        The task's own by default.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        model = task.model().to(trial.device).train()
    steps = task.steps if steps is None else steps
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, fused=True)
    training, flow = None, None
    values = {}
    if way is not None:
        targets = dict.fromkeys(select(model, include=_TARGETS), way.pattern)
        training = NMTraining(model, targets, optimizer, rule=way.rule, steps=steps)
        flow = GradientFlow(
            training.weights,
            lambda: training.masks,
            optimizer,
            every=trial.pick(smoke=1, default=10, full=50),
        )
    draw = trial.generator()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = task.rate * _cycle(step / steps)
        optimizer.zero_grad()
        task.loss(model, draw).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if training is not None and step == steps // 2:
            values["batch_noise"] = _batch_noise(task, model, training, trial)
        if step % 20 == 0:
            trial.progress(f"step {step}", step / steps)
    model.eval()
    values |= task.evaluate(model)
    if training is None or flow is None:
        return values
    return values | _variances(flow, steps) | _finished(task, model, training)


def cost(task: Task, way: Way | None) -> float:
    """Multiply-accumulates of the whole training, in dense forward passes of one input.

    A backward pass costs twice a forward one, for every arm, and is left out of the ratio.
    """
    if way is None:
        return float(task.steps)
    with torch.random.fork_rng(devices=[]):
        model = task.model()
    targets = select(model, include=_TARGETS)
    layers = count_macs(model, task.inputs())
    each = {row.name: row.dense for row in layers}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    pattern = dict.fromkeys(targets, way.pattern)
    with NMTraining(model, pattern, optimizer, rule=way.rule, steps=task.steps) as training:
        training.load_state_dict({"taken": task.steps})
        share = training.training_share()
    sparse = sum(each[name] for name in targets)
    return task.steps * (1 - (1 - share) * sparse / sum(each.values()))


def _cycle(progress: float) -> float:
    """One cycle: up from a 25th of the rate over the first tenth, and down to nothing."""
    if progress < _WARM_UP:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / _WARM_UP)) / 2
    return (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP))) / 2


def _batch_noise(task: Task, model: nn.Module, training: NMTraining, trial: Trial) -> float:
    """Noise of a batch's gradient over its signal, on the weights that are kept.

    The variance from batch to batch, summed over the weights, over the squared mean, both without
    bias: what the paper means by noise, free of how large gradients are.
    """
    draw = torch.Generator().manual_seed(trial.seed + 1_000_000)
    sums = {name: torch.zeros_like(weight) for name, weight in training.weights.items()}
    squares = 0.0
    for _ in range(_BATCHES):
        model.zero_grad()
        task.loss(model, draw).backward()
        for name, weight in training.weights.items():
            grad = weight.grad
            assert grad is not None  # every layer lies between the inputs and the loss
            kept = grad.masked_fill(~training.masks[name], 0)
            sums[name] += kept
            squares += float(kept.square().sum())
    model.zero_grad()
    mean = sum(float((total / _BATCHES).square().sum()) for total in sums.values())
    noise = (squares - _BATCHES * mean) / (_BATCHES - 1)
    return noise / (mean - noise / _BATCHES)


def _variances(flow: GradientFlow, steps: int) -> dict[str, float]:
    """Medians over the last fifth of the steps, of means over the layers."""
    values = {}
    for field in ("variance", "variance_kept", "square_kept", "moment", "flips", "change"):
        at, series = flow.series(field)
        late = [value for step, value in zip(at, series, strict=True) if step >= 0.8 * steps]
        values[field] = statistics.median(late)
    values["relative_variance"] = values["variance"] / values["square_kept"]
    return values


def _finished(task: Task, model: nn.Module, training: NMTraining) -> dict[str, float]:
    """What baking the masks in changed, and what breaks the pattern; the share of dense cost."""
    x = task.inputs().to(next(model.parameters()).device)
    with torch.no_grad():
        before = model(x)
        patterns = {name: training.flow(name).pattern for name in training.masks}
        share = training.training_share()
        masks = training.finish()
        shift = float((model(x) - before).abs().max())
    weights = dict(model.named_parameters())
    broken = sum(
        int(not is_nm(weights[name], NM(p.n, p.m, axis=1)))
        + int(weights[name].detach()[~masks[name]].view(torch.int32).count_nonzero())
        for name, p in patterns.items()
    )
    return {"violations": float(broken), "bake_shift": shift, "training_share": share}
