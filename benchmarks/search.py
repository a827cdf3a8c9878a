"""Search: candidates in one batch beside a loop over them, and beside Optuna as a generic driver.

Ratios over 1 mean ours is faster. ``goal`` is the ratio that the issue and the method card ask for.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from _timing import interleaved, row
from rarefy.weights import (
    NodeSpace,
    RandomSearch,
    StackedPerceptrons,
    Units,
    WeightSpace,
    masked_call,
    random_masks,
    subnetwork,
)

CANDIDATES, EXAMPLES, WIDTH, SPARSITY = 200, 1005, 256, 0.9


def rows() -> list[dict[str, Any]]:
    """Every comparison of this module, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [*node_rows(), weight_row(), training_row()]
        if importlib.util.find_spec("optuna"):
            found.append(optuna_row())
        return found
    finally:
        torch.set_num_threads(threads)


def node_rows() -> list[dict[str, Any]]:
    """200 sub-networks at 90 %: a batch, a loop over masks, a loop over sliced networks."""
    model, x, y, space = _task()

    def masks() -> float:
        candidates = space.sample(CANDIDATES, _generator())
        return min(_masked_loss(model, units, x, y) for units in candidates)

    @torch.no_grad()
    def sliced() -> float:
        candidates = space.sample(CANDIDATES, _generator())
        return min(float(cross_entropy(subnetwork(model, c)(x), y)) for c in candidates)

    if abs(_ours() - masks()) > 1e-5:
        raise RuntimeError("the batch and the loop over masks disagree")
    ours, by_mask, by_slice = interleaved(_ours, masks, sliced, repeats=5, warmup=1)
    return [
        row("search.units.masks", "loop over masked networks", ours, by_mask, 10.0),
        row("search.units.sliced", "loop over sliced networks", ours, by_slice, None),
    ]


def weight_row() -> dict[str, Any]:
    """64 unstructured masks at 90 %: the work is the same, only the calls are fewer."""
    model, x, y, _ = _task()
    space = WeightSpace(lambda g: random_masks(model, sparsity=0.9, generator=g))
    candidates = space.sample(64, _generator())

    @torch.no_grad()
    def ours() -> Tensor:
        return space.outputs(model, candidates, x[:128])

    @torch.no_grad()
    def loop() -> list[Tensor]:
        return [masked_call(model, masks, x[:128]) for masks in candidates]

    batch, one_by_one = interleaved(ours, loop, repeats=10, warmup=2)
    return row("search.weights.masks", "loop over masked networks", batch, one_by_one, None)


def training_row() -> dict[str, Any]:
    """20 networks of 26 units a layer: 20 steps of Adam stacked, and one after the other."""
    model, x, y, space = _task()
    nets = [subnetwork(model, units) for units in space.sample(20, _generator())]
    stacked = StackedPerceptrons(nets)
    together = torch.optim.Adam(stacked.parameters(), fused=True)
    alone = [torch.optim.Adam(net.parameters(), fused=True) for net in nets]
    batches = list(zip(x.split(64), y.split(64), strict=True))

    def ours() -> None:
        for features, labels in batches:
            together.zero_grad()
            logits = stacked(features).transpose(1, 2)
            losses = cross_entropy(logits, labels.expand(len(nets), -1), reduction="none")
            losses.mean(1).sum().backward()
            together.step()

    def theirs() -> None:
        for net, adam in zip(nets, alone, strict=True):
            for features, labels in batches:
                adam.zero_grad()
                cross_entropy(net(features), labels).backward()
                adam.step()

    batch, one_by_one = interleaved(ours, theirs, repeats=10, warmup=2)
    return row("search.training.stacked", "one network after the other", batch, one_by_one, 2.0)


def optuna_row() -> dict[str, Any]:
    """Optuna's RandomSampler draws a seed a trial; its objective is the masked network's loss."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    model, x, y, space = _task()

    def objective(trial: Any) -> float:
        seed = trial.suggest_int("seed", 0, 2**31)
        (units,) = space.sample(1, torch.Generator().manual_seed(seed))
        return _masked_loss(model, units, x, y)

    def theirs() -> None:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        study.optimize(objective, n_trials=CANDIDATES)

    ours, driven = interleaved(_ours, theirs, repeats=5, warmup=1)
    return row("search.units.optuna", "optuna RandomSampler", ours, driven, 20.0)


def _task() -> tuple[nn.Sequential, Tensor, Tensor, NodeSpace]:
    g = _generator()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(64, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, 10),
        )
    x, y = torch.randn(EXAMPLES, 64, generator=g), torch.randint(10, (EXAMPLES,), generator=g)
    return model, x, y, NodeSpace((WIDTH, WIDTH), node_sparsity=SPARSITY)


def _ours() -> float:
    model, x, y, space = _task()
    return (
        RandomSearch(space, n_samples=CANDIDATES, generator=_generator())
        .fit(model, x, y)
        .best_score_
    )


@torch.no_grad()
def _masked_loss(model: nn.Sequential, units: Units, x: Tensor, y: Tensor) -> float:
    """The paper's formula as it stands: h_l = relu(h_{l-1} W_l + b_l) * z_l."""
    masks = [torch.zeros(WIDTH).index_fill_(0, kept, 1.0) for kept in units]
    first, act, second, _, head = model
    h = act(first(x)) * masks[0]
    h = act(second(h)) * masks[1]
    return float(cross_entropy(head(h), y))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)
