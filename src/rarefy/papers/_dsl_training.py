"""The runs of paper 31: one model, trained and ranked, its tables dense or with masks.

Every arm of a seed has the same split, the same initial model and the same batches; masks draw from
a generator of their own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from rarefy.budget import Uniform
from rarefy.data import (
    docstring_words,
    function_calls,
    k_core,
    planted_interactions,
    read_interactions,
    split_interactions,
)
from rarefy.models import (
    MF,
    ItemKNN,
    LightGCN,
    MultVAE,
    NeuMF,
    evaluate_ranking,
    hash_tables_,
)
from rarefy.models.train_recommender import train_recommender
from rarefy.papers._recipe import Trial
from rarefy.weights import (
    DynamicMasks,
    LearnedThresholds,
    Masks,
    Rule,
    SparseEmbedding,
    Static,
    magnitude,
    mask_from_scores,
    random_masks,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Data = Literal["calls", "words", "planted"]
K = 20


class Parts(NamedTuple):
    """Training and test interactions of one shape, (users, items)."""

    train: csr_array
    test: csr_array


@dataclass(frozen=True)
class Host:
    """A model and how it is trained."""

    make: Any
    settings: dict[str, Any]
    rate: float = 2e-2
    batch: int = 1024


HOSTS = {
    "LightGCN": Host(LightGCN, {"layers": 2}),
    # Without a graph to smooth over, factors of few interactions need a stronger pull to zero.
    "MF": Host(MF, {"l2": 3e-2}),
    "NeuMF": Host(NeuMF, {}, rate=5e-3),
    "MultVAE": Host(MultVAE, {"latent": 32, "hidden": 96, "anneal": 300}, rate=5e-3, batch=128),
}


class Outcome(NamedTuple):
    """A trained model, its masks (empty where dense), and what was seen on the way."""

    model: nn.Module
    start: Masks
    masks: Masks
    quality: dict[str, float]
    seconds: float
    violations: int


def read(trial: Trial, data: Data, path: Path | None) -> csr_array:
    """Read the interactions; those of a user's file are cut to their 5-core."""
    if path is not None:
        return k_core(read_interactions(path), user=5, item=5).matrix
    if data == "planted":
        users, items = trial.pick(smoke=(80, 60), default=(1000, 500), full=(2000, 1500))
        per_user = trial.pick(smoke=8, default=12, full=40)
        return planted_interactions(users, items, per_user=per_user, generator=trial.generator())
    small = trial.scale == "smoke"
    if data == "words":
        return docstring_words("heldout" if small else "all").matrix
    if small:
        return function_calls("heldout", calls=4, functions=4).matrix
    return function_calls().matrix


def split(matrix: csr_array, trial: Trial) -> Parts:
    """Hold out a fifth of each user's items; nothing is chosen on them."""
    parts = split_interactions(matrix, test=0.2, validation=0, generator=trial.generator())
    if parts.test.nnz == 0:
        raise ValueError("no user has five items or more, so none can be held out")
    return Parts(parts.train, parts.test)


def run(
    parts: Parts,
    trial: Trial,
    *,
    host: str = "LightGCN",
    density: float = 1.0,
    rule: Rule | None = None,
    masks: Masks | None = None,
    every: int | None = None,
    dim: int | None = None,
    hashed: float | None = None,
) -> Outcome:
    """Train a model and rank with it.

    Parameters
    ----------
    parts : Parts
    trial : Trial
    host : str
        One of `HOSTS`.
    density : float
        Of the random masks that a rule begins with.
    rule : Rule, optional
        ``None`` trains a dense model.
    masks : Masks, optional
        To begin with, in place of random ones.
    every : int, optional
        Steps between updates; :func:`every` steps by default.
    dim : int, optional
        Columns of the tables; the model's own by default.
    hashed : float, optional
        Share of the parameters of quotient-remainder tables, in place of the model's own.
    """
    model, of_masks, of_batches = begin(parts, trial, host=host, dim=dim)
    if hashed is not None:
        hash_tables_(model, density=hashed, generator=of_masks)
    adam = torch.optim.Adam(model.parameters(), lr=HOSTS[host].rate, fused=True)
    if rule is None:
        masks = Masks({})
    elif masks is None:
        masks = random_masks(tables(model), density=density, rule=Uniform(), generator=of_masks).to(
            trial.device
        )
    held = DynamicMasks(
        model,
        masks,
        adam,
        rule=rule or Static(),
        steps=steps(trial),
        every=every or update_every(trial),
        generator=of_masks,
    )
    violations = 0

    def watch(step: int) -> None:
        nonlocal violations
        if held.masks.nnz != masks.nnz:
            violations += 1
        if step % 10 == 0:
            violations += _traces(held, model, adam)

    start = time.perf_counter()
    train_recommender(
        model,
        parts.train,
        adam,
        steps=steps(trial),
        batch_size=_batch(trial, host),
        generator=of_batches,
        on_step=watch,
    )
    seconds = time.perf_counter() - start
    held.detach()
    quality = evaluate_ranking(model.scores, parts.train, parts.test, k=K)
    return Outcome(model, masks, held.masks, quality, seconds, violations)


def begin(
    parts: Parts, trial: Trial, *, host: str = "LightGCN", dim: int | None = None
) -> tuple[Any, torch.Generator, torch.Generator]:
    """Draw the model, and give the generators of its masks and of its batches."""
    seeds = torch.randint(2**62, (3,), generator=trial.generator()).tolist()
    of_model, of_masks, of_batches = (torch.Generator().manual_seed(seed) for seed in seeds)
    settings = HOSTS[host].settings | ({} if dim is None else {"dim": dim})
    model = HOSTS[host].make(parts.train, generator=of_model, **settings).to(trial.device)
    return model, of_masks, of_batches


def prune_and_retrain(parts: Parts, trial: Trial, densities: Sequence[float]) -> list[Outcome]:
    """Train dense, keep the largest, train again from the initial values: lottery tickets."""
    dense = run(parts, trial)
    tickets = []
    for density in densities:
        masks = mask_from_scores(magnitude(tables(dense.model)), density=density, scope="layer")
        again = run(parts, trial, rule=Static(), masks=masks)
        tickets.append(again._replace(seconds=dense.seconds + again.seconds))
    return tickets


def pep(parts: Parts, trial: Trial, density: float) -> Outcome:
    """Learn thresholds until the budget is met, then train again from the initial values."""
    model, _, of_batches = begin(parts, trial)
    budget = round(density * sum(table.numel() for table in tables(model).values()))
    names = list(tables(model))
    # At the paper's -15 and its small pull a run of a few hundred steps would end before the
    # threshold bites.
    learned = LearnedThresholds(model, names, start=-5.0)
    others = [p for p in model.parameters() if all(p is not s for s in learned.thresholds)]
    adam = torch.optim.Adam(
        [
            {"params": others, "lr": HOSTS["LightGCN"].rate},
            {"params": learned.thresholds, "lr": 0.1, "weight_decay": 0.1},
        ]
    )
    start = time.perf_counter()
    train_recommender(
        model,
        parts.train,
        adam,
        steps=steps(trial),
        batch_size=_batch(trial, "LightGCN"),
        generator=of_batches,
        on_step=lambda _: learned.nnz() <= budget,
    )
    searching = time.perf_counter() - start
    found = learned.masks()
    if found.nnz > budget:
        # The loss held the threshold before the budget was met: the rest of the cut is by size.
        found = mask_from_scores(magnitude(learned.shrunk()), density=density)
    again = run(parts, trial, rule=Static(), masks=found)
    return again._replace(seconds=searching + again.seconds)


def popularity(parts: Parts) -> dict[str, float]:
    """Rank by how many users of the training part chose an item."""
    counts = torch.from_numpy(parts.train.sum(axis=0))
    return evaluate_ranking(
        lambda users: counts.expand(len(users), -1), parts.train, parts.test, k=K
    )


def item_knn(parts: Parts) -> dict[str, float]:
    """Rank by the neighbourhoods of a user's items, without training."""
    return evaluate_ranking(ItemKNN(parts.train).scores, parts.train, parts.test, k=K)


def tables(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that masks are on."""
    parameters = dict(model.named_parameters())
    return {name: parameters[name] for name in model.embeddings}  # type: ignore[union-attr]


def budget_shifts(outcome: Outcome, train: csr_array) -> dict[str, float]:
    """Where kept entries went: between rare and popular items, between users and items.

    Returns
    -------
    dict of str to float
        ``popular_gain``: by how much the mean count of kept columns of the tenth of items that are
        most popular rose against the tenth least popular; ``item_gain``: of all items against all
        users.
    """
    users, items = train.shape
    order = np.argsort(train.sum(axis=0), kind="stable")
    tenth = max(items // 10, 1)

    def gaps(masks: Masks) -> tuple[float, float]:
        kept = torch.cat([mask.sum(1) for mask in masks.values()]).cpu().numpy()
        of_items = kept[users:]
        popular = of_items[order[-tenth:]].mean() - of_items[order[:tenth]].mean()
        return float(popular), float(of_items.mean() - kept[:users].mean())

    before, after = gaps(outcome.start), gaps(outcome.masks)
    return {"popular_gain": after[0] - before[0], "item_gain": after[1] - before[1]}


def stored_share(outcome: Outcome) -> float:
    """Bytes of the tables as :class:`SparseEmbedding`, over those of dense float32."""
    stored = sum(
        SparseEmbedding.from_masked(table, outcome.masks[name]).nbytes
        for name, table in tables(outcome.model).items()
    )
    return stored / sum(4 * table.numel() for table in tables(outcome.model).values())


def steps(trial: Trial) -> int:
    """Steps of every training."""
    return trial.pick(smoke=20, default=300, full=3000)


def update_every(trial: Trial) -> int:
    """Steps between updates of the masks."""
    return trial.pick(smoke=4, default=20, full=100)


def _batch(trial: Trial, host: str) -> int:
    return 256 if trial.scale == "smoke" else HOSTS[host].batch


def _traces(held: DynamicMasks, model: nn.Module, adam: torch.optim.Adam) -> int:
    """Count the pruned entries of which a weight or a moment is left."""
    parameters = dict(model.named_parameters())
    return sum(
        int(tensor.detach()[~mask].count_nonzero())
        for name, mask in held.masks.items()
        for tensor in (
            parameters[name],
            *(adam.state[parameters[name]][slot] for slot in ("exp_avg", "exp_avg_sq")),
        )
    )
