r"""Train a sparse autoencoder on a stream of activations.

Adam with linear warm-up and a linear decay over the last fifth, clipped gradients, decoder rows
held at norm 1 (the part of the gradient along a row is taken out first, the row is renormalised
after the step), and a checkpoint from which a killed run goes on as if it had not been killed.

Under a process group of :mod:`torch.distributed` a step is as many batches of the stream as there
are processes, one for each (:mod:`rarefy.dictionaries.parallel`).

Source: the recipe that public trainers share (Gao et al. 2024, SAELens, dictionary_learning).
Learning rate: :math:`2\cdot10^{-4} \sqrt{2^{14} / f}` for f latents. Departures: none.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.dictionaries.interventions import Intervention, Run
from rarefy.dictionaries.losses import Loss, squared_error
from rarefy.dictionaries.parallel import average_gradients, follow_first, mean, processes, total
from rarefy.dictionaries.stream import Stream
from rarefy.kernels.cpu.recycled import recycling

DecoderNorm = Literal["unit", "ball", "free"]

_LOOK_EVERY = 50
"""Steps between looks at the objective on a GPU, where every look waits for it."""


def train(
    sae: SparseAutoencoder,
    stream: Stream,
    *,
    steps: int,
    losses: Sequence[Loss] = (),
    error: Loss = squared_error,
    lr: float | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    warm_up: int | None = None,
    decay: float = 0.2,
    clip: float = 1.0,
    decoder_norm: DecoderNorm = "unit",
    center: bool = True,
    interventions: Sequence[Intervention] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 500,
    progress: Callable[[str, float], None] | None = None,
) -> list[float]:
    """Train in place.

    Parameters
    ----------
    sae : SparseAutoencoder
    stream : Stream
        The same in all processes, where there are several: of each step they take a batch each.
    steps : int
        In all: a run found in ``checkpoint`` is carried on to this number.
    losses : sequence of Loss, default none
        Added to ``error``; those that are modules are saved with the checkpoint.
    error : Loss, default squared error
        The reconstruction term.
    lr : float, optional
        Peak rate, default ``2e-4 * sqrt(2**14 / n_latents)``.
    betas : (float, float), default (0.9, 0.999)
    warm_up : int, optional
        Steps, default 1,000 and at most a tenth of all.
    decay : float, default 0.2
        Share of the steps over which the rate falls to 0.
    clip : float, default 1.0
        Largest norm of the gradient.
    decoder_norm : {"unit", "ball", "free"}, default "unit"
        Rows of norm 1, of norm at most 1, or as they come.
    center : bool, default True
        Start the decoder's bias at the mean of the first batch.
    interventions : sequence of Intervention, default none
        Called before every step: :class:`~rarefy.dictionaries.KAnnealing`,
        :class:`~rarefy.dictionaries.Resample`.
    checkpoint : path, optional
        File that is written by process 0, whole or not at all every ``checkpoint_every`` steps.
    checkpoint_every : int, default 500
    progress : callable, optional
        Called with a message and the share that is done.

    Returns
    -------
    list of float
        The objective at every step since the start or the checkpoint, a mean over processes.

    Raises
    ------
    ValueError
        If the objective is not finite, naming the step, or the checkpoint is damaged, of another
        run or not the same for all processes.
    """
    lr = 2e-4 * (2**14 / sae.n_latents) ** 0.5 if lr is None else lr
    warm_up = min(1000, steps // 10) if warm_up is None else warm_up
    parameters = [p for p in sae.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=lr, betas=betas, fused=True)
    modules = nn.ModuleList([loss for loss in losses if isinstance(loss, nn.Module)])
    start = _resume(checkpoint, sae, optimizer, modules)
    rank, size = processes()
    if int(total(torch.tensor(start, device=sae.decoder.device))) != start * size:
        raise ValueError(
            f"process {rank} found a checkpoint of step {start}, another process another one: "
            "checkpoint must be a file that all of them read"
        )

    def read(step: int) -> tuple[Tensor, ...]:
        return _rows(stream.batch(step * size + rank))

    if start == 0 and center and sae.decoder_bias is not None:
        with torch.no_grad():
            sae.decoder_bias.copy_(mean(read(0)[0].mean(0)))
    follow_first((*sae.parameters(), *sae.buffers(), *modules.buffers()))
    sae.train()
    look_every = 1 if sae.decoder.is_cpu else _LOOK_EVERY
    history: list[float] = []
    unseen: list[Tensor] = []
    with recycling():
        for step in range(start, steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * _rate(step, steps, warm_up=warm_up, decay=decay)
            for intervene in interventions:
                intervene(Run(step, steps, sae, optimizer, read))
            x, *context = read(step)
            encoded = sae.encode_all(x, *context)
            reconstruction = sae.decode(encoded.codes)
            objective = error(sae, x, encoded, reconstruction)
            for loss in losses:
                objective = objective + loss(sae, x, encoded, reconstruction)
            objective.backward()
            average_gradients(parameters)
            _update(sae, optimizer, parameters, clip=clip, decoder_norm=decoder_norm)
            follow_first((*sae.buffers(), *modules.buffers()))
            unseen.append(mean(objective.detach()))
            saving = checkpoint is not None and (step + 1) % checkpoint_every == 0
            if saving or len(unseen) == look_every or step + 1 == steps:
                history += _finite(unseen, step)
                unseen.clear()
                if progress is not None and step % _LOOK_EVERY < look_every:
                    progress(f"step {step} of {steps}, loss {history[-1]:.4g}", step / steps)
            if saving and rank == 0:
                _save(checkpoint, sae, optimizer, modules, step + 1)
    sae.eval()
    return history


def _rows(batch: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return batch if isinstance(batch, tuple) else (batch,)


def _finite(objectives: list[Tensor], last: int) -> list[float]:
    """Objectives of the steps up to the last, as numbers."""
    found = torch.stack(objectives)
    if not bool(torch.isfinite(found).all()):
        place = int((~torch.isfinite(found)).nonzero()[0])
        step = last - len(found) + 1 + place
        raise ValueError(f"the objective is {float(found[place])} at step {step}")
    return found.tolist()


def _rate(step: int, steps: int, *, warm_up: int, decay: float) -> float:
    rising = (step + 1) / warm_up if warm_up else 1.0
    falling = (steps - step) / (decay * steps) if decay else 1.0
    return min(1.0, rising, falling)


def _update(
    sae: SparseAutoencoder,
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    *,
    clip: float,
    decoder_norm: DecoderNorm,
) -> None:
    decoder = sae.decoder
    with torch.no_grad():
        if decoder_norm == "unit" and decoder.grad is not None:
            along = (decoder.grad * decoder).sum(1, keepdim=True)
            decoder.grad.addcmul_(along, decoder, value=-1)
        nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad()
        if decoder_norm != "free" and decoder.requires_grad:
            norms = decoder.norm(dim=1, keepdim=True)
            decoder.div_(norms.clamp(min=1e-12 if decoder_norm == "unit" else 1.0))


def _save(
    path: str | os.PathLike[str] | None,
    sae: SparseAutoencoder,
    optimizer: torch.optim.Optimizer,
    modules: nn.ModuleList,
    step: int,
) -> None:
    path = Path(os.fspath(path or ""))
    state = {
        "sae": sae.state_dict(),
        "optimizer": optimizer.state_dict(),
        "losses": modules.state_dict(),
        "step": step,
    }
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def _resume(
    path: str | os.PathLike[str] | None,
    sae: SparseAutoencoder,
    optimizer: torch.optim.Optimizer,
    modules: nn.ModuleList,
) -> int:
    if path is None or not Path(path).exists():
        return 0
    try:
        state = torch.load(path, weights_only=True)
        sae.load_state_dict(state["sae"])
        optimizer.load_state_dict(state["optimizer"])
        modules.load_state_dict(state["losses"])
        return int(state["step"])
    except (
        *(RuntimeError, ValueError, KeyError, TypeError),
        *(EOFError, pickle.UnpicklingError),
    ) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{os.fspath(path)} is no whole checkpoint of this run ({reason}): remove it to start "
            "from the beginning"
        ) from error
