r"""What changes a run between two of its steps: k-annealing, and resampling of dead latents.

An intervention is called before every step with the :class:`Run`. It keeps no memory of its own,
so a run that goes on from a checkpoint goes on alike.

Sources: k from about the width of the inputs down to k over the first tenth of a run, as public
trainers offer it; resampling: Bricken et al. 2023, "Towards Monosemanticity", appendix on neuron
resampling. Departures: a latent is dead if it does not fire on the rows drawn (8,192 by default),
instead of in the last 12,500 steps; inputs are taken as the encoder sees them, less the decoder's
bias.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rarefy.dictionaries.activations import BatchCoupled
from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.dictionaries.parallel import follow_first, processes, total
from rarefy.operators import BatchTopK, TopK


class Run(NamedTuple):
    """Where a run stands.

    Attributes
    ----------
    step, steps : int
        The step that comes, and how many there are in all.
    sae : SparseAutoencoder
    optimizer : torch.optim.Optimizer
    read : callable
        Batch of a step: the rows, and what goes with them.
    """

    step: int
    steps: int
    sae: SparseAutoencoder
    optimizer: torch.optim.Optimizer
    read: Callable[[int], tuple[Tensor, ...]]


class Intervention(Protocol):
    """What :func:`~rarefy.dictionaries.train` calls before every step."""

    def __call__(self, run: Run) -> None:
        """Change the autoencoder or the optimizer, or nothing."""


@dataclass(frozen=True)
class KAnnealing:
    """Begin with many active latents and end with k, so that few are dead when k is small.

    For ``TopK`` and ``BatchTopK``, the latter also batch-coupled.

    Parameters
    ----------
    schedule : callable
        Share of active latents by progress in [0, 1]: one of :mod:`rarefy.budget`.

    Raises
    ------
    ValueError
        When called: if the activation has no k to anneal, or a share is not in (0, 1].

    Examples
    --------
    >>> from rarefy.budget import Linear
    >>> KAnnealing(Linear(32 / 4096, initial=256 / 4096, end=0.1)).k(0.05, 4096)
    144
    """

    schedule: Callable[[float], float]

    def k(self, progress: float, n_latents: int) -> int:
        """Active latents a row."""
        share = self.schedule(progress)
        if not 0 < share <= 1:
            raise ValueError(f"the share of active latents must be in (0, 1], got {share}")
        return max(1, round(share * n_latents))

    def __call__(self, run: Run) -> None:
        """Set k for the step that comes."""
        k = self.k(run.step / run.steps, run.sae.n_latents)
        activation = run.sae.activation
        projection = activation.projection if isinstance(activation, BatchCoupled) else activation
        if not isinstance(projection, TopK | BatchTopK):
            raise ValueError(
                f"k-annealing is for TopK and BatchTopK, got {type(projection).__name__}"
            )
        if projection.k == k:
            return
        if isinstance(activation, BatchCoupled):
            activation.projection = replace(projection, k=k)
        else:
            run.sae.activation = replace(projection, k=k)


@dataclass(frozen=True)
class Resample:
    r"""Point dead latents at inputs that are reconstructed badly.

    A dead latent j draws an input x with probability proportional to its squared loss, and gets

    .. math:: D_j = \frac{x}{\|x\|}, \qquad
        E_j = 0.2\,\frac{\overline{\|E_{\text{alive}}\|}}{\|x\|}\, x, \qquad b_{e,j} = 0

    and no memory of gradients.

    Parameters
    ----------
    at : collection of int
        Steps before which it happens; Bricken et al. take 25,000, 50,000 and 75,000.
    rows : int, default 8192
        To draw from and to tell who is dead, at least; they are batches that come next.
    scale : float, default 0.2
        Of the encoder's row.
    seed : int, default 0
    """

    at: Collection[int]
    rows: int = 8192
    scale: float = 0.2
    seed: int = 0

    @torch.no_grad()
    def __call__(self, run: Run) -> None:
        """Resample if it is time."""
        if run.step not in self.at:
            return
        sae = run.sae
        inputs, losses, fired = self._look(run)
        dead = (fired == 0).nonzero()[:, 0]
        if not len(dead) or not bool((losses > 0).any()):
            return
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + run.step)
        weights = (losses / losses.max()).square().cpu()
        drawn = torch.multinomial(weights, len(dead), replacement=True, generator=generator)
        directions = torch.nn.functional.normalize(inputs[drawn.to(inputs.device)])
        norms = sae.encoder.norm(dim=1)
        alive = norms[fired > 0] if len(dead) < len(norms) else norms
        sae.decoder[dead] = directions
        sae.encoder[dead] = self.scale * alive.mean() * directions
        if sae.encoder_bias is not None:
            sae.encoder_bias[dead] = 0
        follow_first(sae.parameters())
        for parameter, state in run.optimizer.state.items():
            if len(parameter) == sae.n_latents:
                for name in ("exp_avg", "exp_avg_sq"):
                    state[name][dead] = 0

    def _look(self, run: Run) -> tuple[Tensor, Tensor, Tensor]:
        """Rows as the encoder sees them, their losses, and how often each latent fires on them."""
        sae = run.sae
        inputs: list[Tensor] = []
        losses: list[Tensor] = []
        fired = torch.zeros(sae.n_latents, dtype=torch.int64, device=sae.decoder.device)
        training = sae.training
        sae.eval()
        while sum(map(len, inputs)) * processes()[1] < self.rows:
            x, *context = run.read(run.step + len(inputs))
            codes = sae.encode(x, *context)
            losses.append((x - sae.decode(codes)).square().sum(1))
            inputs.append(sae.centered(x))
            fired += codes.active
        sae.train(training)
        return torch.cat(inputs), torch.cat(losses), total(fired)
