"""What paper 35 is measured on: a planted mixture of Zipfian features, and its dictionaries.

Axis letters: n rows, d width, f features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rarefy.dictionaries import (
    ArrayStream,
    AuxK,
    AuxZipf,
    BatchCoupled,
    Encoded,
    FeatureChoice,
    SparseAutoencoder,
    ZipfLaw,
    evaluate,
    progressive_choice,
    squared_error,
    train,
)
from rarefy.operators import BatchTopK, FeatureTopK, Projection, TopK
from rarefy.papers._recipe import Trial

WIDTH, FEATURES = 64, 400
# Thresholds learned in hundreds of batches must forget the first ones.
_DECAY = 0.99
_UNDER_USED = 0.1


@dataclass(frozen=True)
class Planted:
    """Rows, and how many features each is made of."""

    x: Tensor
    complexity: Tensor


def planted(n: int, generator: torch.Generator, *, atoms: Tensor) -> Planted:
    """Draw rows: few features or many, the rarer the higher their rank, and a little noise."""
    features = len(atoms)
    # geometric of mean 7 by inversion
    u = torch.rand(n, generator=generator)
    complexity = (1 + (u.log() / torch.tensor(7 / 8).log()).floor()).clamp(max=30).long()
    log_weight = -(torch.arange(1, features + 1) + 5.0).log()
    x = torch.empty(n, atoms.shape[1])
    for start in range(0, n, 8192):
        part = complexity[start : start + 8192]
        # the largest of log-weights plus Gumbel noise are a draw without replacement
        noise = -torch.empty(len(part), features).exponential_(generator=generator).log()
        chosen = (log_weight + noise).topk(30).indices
        amplitude = 0.5 + torch.rand(len(part), 30, generator=generator)
        amplitude[torch.arange(30) >= part[:, None]] = 0
        z = torch.zeros(len(part), features).scatter_(1, chosen, amplitude)
        x[start : start + 8192] = z @ atoms
    return Planted(x + 0.02 * torch.randn(x.shape, generator=generator), complexity)


def planted_atoms(generator: torch.Generator) -> Tensor:
    """Draw features of norm 1, shape (f, d)."""
    atoms = torch.randn(FEATURES, WIDTH, generator=generator)
    return atoms / atoms.norm(dim=1, keepdim=True)


def relative_error(
    sae: SparseAutoencoder, x: Tensor, encoded: Encoded, reconstruction: Tensor
) -> Tensor:
    """Squared error over the variance, beside which the paper's auxiliary weights are meant."""
    spread = (x - x.mean(0)).square().sum() / len(x)
    return squared_error(sae, x, encoded, reconstruction) / spread


@dataclass(frozen=True)
class Schedule:
    """Sizes of one training."""

    latents: int
    k: int
    batch: int
    steps: int
    lr: float = 2e-3

    def __post_init__(self) -> None:
        if self.k * self.batch < self.latents:
            raise ValueError(
                f"k times the batch must be at least the {self.latents} latents, so that each can "
                f"fire in a batch, got {self.k} times {self.batch}"
            )


def learn(
    how: str, x: Tensor, schedule: Schedule, trial: Trial
) -> tuple[SparseAutoencoder, ZipfLaw | None]:
    """Train one kind of dictionary: ``"TopK"``, ``"MC, aux-zipf 4"``, ``"FC"``, ...

    Feature Choice after Mutual Choice trains half as long again; all others the same steps.
    """
    kind, _, extra = how.partition(", ")
    f, steps = schedule.latents, schedule.steps
    sae = SparseAutoencoder(x.shape[1], f, _activation(kind, extra, schedule), seed=trial.seed)
    stream = ArrayStream(x, batch_size=schedule.batch, seed=trial.seed)
    common: dict[str, Any] = {"lr": schedule.lr, "warm_up": min(50, steps // 10)}
    common |= {"error": relative_error, "progress": trial.progress}
    with torch.no_grad():
        # few rows of large norm would otherwise take the whole budget of the first batches
        sae.encoder.mul_(0.3)
    if how == "FC":
        longer = steps + steps // 2
        return sae, progressive_choice(sae, stream, steps=longer, mutual=2 / 3, **common)
    train(sae, stream, steps=steps, losses=_losses(extra, f, schedule), **common)
    if isinstance(sae.activation, FeatureChoice):
        sae.activation = sae.activation.finish(schedule.batch)
    return sae, None


def _activation(kind: str, extra: str, schedule: Schedule) -> Projection | BatchCoupled:
    f, k = schedule.latents, schedule.k
    if kind == "TopK":
        return TopK(k, by="positive")
    if kind == "MC" or not extra:
        return BatchCoupled(BatchTopK(k, by="positive"), f, decay=_DECAY)
    if extra == "uniform":
        each = FeatureTopK(max(1, k * schedule.batch // f), by="positive")
        return BatchCoupled(each, f, decay=_DECAY)
    law = ZipfLaw()
    return FeatureChoice(law.expected(range(1, f + 1)), k=k, law=law, decay=_DECAY)


def _losses(extra: str, latents: int, schedule: Schedule) -> list[AuxK | AuxZipf]:
    loss, _, weight = extra.partition(" ")
    if loss == "aux-zipf":
        return [AuxZipf(latents, weight=float(weight), refit_every=50)]
    if loss == "aux-k":
        dead_after = 50 * schedule.batch
        return [AuxK(latents, weight=float(weight), dead_after=dead_after)]
    return []


def figures(
    sae: SparseAutoencoder, law: ZipfLaw | None, held: Planted, schedule: Schedule
) -> dict[str, float]:
    """Measure a dictionary on held-out rows, with thresholds and coupled in batches."""
    from scipy.stats import spearmanr

    seen = evaluate(sae, held.x)
    coupled = _coupled(sae, held.x, schedule.batch)
    l0 = torch.cat([sae.encode(rows).l0 for rows in held.x.split(8192)])
    values = {
        "fvu": seen.fvu,
        "l0": seen.l0,
        "l0_off": abs(seen.l0 / coupled.l0 - 1),
        "l0_spread": float(l0.float().std()),
        "empty": float((l0 == 0).float().mean()),
        "dead": seen.dead,
        "fvu_batch": coupled.fvu,
        "l0_batch": coupled.l0,
        "dead_batch": coupled.dead,
        "under_used": float(
            (coupled.density < _UNDER_USED * coupled.density.mean()).float().mean()
        ),
        "spearman": 0.0
        if float(l0.float().std()) == 0
        else float(spearmanr(l0.numpy(), held.complexity.numpy()).statistic),
    }
    if law is not None:
        values |= {"s": law.s, "q": law.q}
    return values | law_fit(seen.density)


def law_fit(density: Tensor) -> dict[str, float]:
    """How well a Zipf law describes densities, and where the lowest quarter lies beside it."""
    import numpy as np

    descending = np.sort(density.numpy())[::-1]
    law = ZipfLaw.fit(descending)
    start = round(0.75 * len(descending))
    expected = law.expected(np.arange(start + 1, len(descending) + 1))
    return {
        "ks": law.ks_distance(descending),
        "tail_share": float(descending[start:].sum() / expected.sum()),
        "law_s": law.s,
        "law_q": law.q,
        "law_c": law.c,
        **{
            f"density_{rank}": float(descending[rank - 1])
            for rank in sampled_ranks(len(descending))
        },
    }


def sampled_ranks(features: int) -> list[int]:
    """Ranks at which the figure shows densities, evenly on a logarithmic axis."""
    import numpy as np

    return sorted({int(r) for r in np.geomspace(1, features, 24).round()})


def _coupled(sae: SparseAutoencoder, x: Tensor, batch: int) -> Any:
    """Evaluate with whole batches coupled, as in training; thresholds stay as they were."""
    activation = sae.activation
    if isinstance(activation, BatchCoupled):
        weights = {k: v for k, v in sae.state_dict().items() if not k.startswith("activation.")}
        sae = SparseAutoencoder(sae.d_in, sae.n_latents, activation.projection)
        sae.load_state_dict(weights)
    return evaluate(sae, x[: len(x) // batch * batch], batch_size=batch)
