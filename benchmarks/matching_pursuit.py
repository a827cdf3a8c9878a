"""Matching pursuit in training: forward and backward, and what is kept between them.

Ratios over 1 mean ours is faster or smaller. SAELens's rows are there where sae-lens is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from _timing import interleaved
from rarefy.dictionaries import MatchingPursuitSAE
from rarefy.operators import matching_pursuit

D, LATENTS, BATCH, STEPS = 256, 4096, 1024, 32


def rows() -> list[dict[str, Any]]:
    """Every comparison, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _rows()
    finally:
        torch.set_num_threads(threads)


def _rows() -> list[dict[str, Any]]:
    sae = MatchingPursuitSAE(D, LATENTS, k=STEPS)
    # Not the dictionary's seed, which draws the same numbers: every row would be an atom.
    x = torch.randn(BATCH, D, generator=torch.Generator().manual_seed(1))

    def ours() -> Tensor:
        return (x - sae.decode(sae.encode(x))).square().sum() / BATCH

    def plain() -> Tensor:
        z, atoms = matching_pursuit(x, sae.decoder, STEPS)
        codes = z.new_zeros(BATCH, LATENTS).scatter_add(1, atoms, z)
        return (x - codes @ sae.decoder).square().sum() / BATCH

    contenders = {"plain torch and autograd": plain}
    if find_spec("sae_lens") is not None:
        contenders["sae-lens"] = _sae_lens(sae, x)
    for peer, loss in contenders.items():
        if not torch.allclose(loss(), ours(), rtol=1e-4):
            raise RuntimeError(f"{peer} and ours disagree: {float(loss())}, {float(ours())}")
    seconds = interleaved(
        *(_with_backward(loss) for loss in (ours, *contenders.values())), repeats=5, warmup=1
    )
    kept = _kept_for_backward(ours)
    return [
        _row("dictionaries.matching-pursuit.forward-backward", peer, seconds[0], theirs, "s")
        for peer, theirs in zip(contenders, seconds[1:], strict=True)
    ] + [
        _row("dictionaries.matching-pursuit.kept", peer, kept, _kept_for_backward(loss), "MB")
        for peer, loss in contenders.items()
    ]


def _sae_lens(sae: MatchingPursuitSAE, x: Tensor) -> Callable[[], Tensor]:
    """Its training autoencoder with our dictionary and as many steps; the loss of a batch."""
    from sae_lens import MatchingPursuitTrainingSAE, MatchingPursuitTrainingSAEConfig

    theirs = MatchingPursuitTrainingSAE(
        MatchingPursuitTrainingSAEConfig(
            d_in=D,
            d_sae=LATENTS,
            max_iterations=STEPS,
            residual_threshold=0.0,
            stop_on_duplicate_support=False,
        )
    )
    with torch.no_grad():
        theirs.W_dec.copy_(sae.decoder)
        theirs.b_dec.zero_()

    def loss() -> Tensor:
        z, _ = theirs.encode_with_hidden_pre(x)
        return (x - theirs.decode(z)).square().sum() / BATCH

    return loss


def _with_backward(loss: Callable[[], Tensor]) -> Callable[[], None]:
    def step() -> None:
        loss().backward()

    return step


def _kept_for_backward(loss: Callable[[], Tensor]) -> float:
    """Megabytes that a forward pass keeps for its backward pass, every storage counted once."""
    storages: dict[int, int] = {}
    alive: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        # a storage that was freed could lend its address to another
        alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss()
    return sum(storages.values()) / 1e6


def _row(name: str, peer: str, ours: float, theirs: float, unit: str) -> dict[str, Any]:
    return {
        "name": name,
        "peer": peer,
        "ours": ours,
        "theirs": theirs,
        "unit": unit,
        "ratio": theirs / ours,
        "goal": 2.0,
    }
