"""AbsTopK beside TopK and SAELens, and the selection by norm beside full sorts.

Ratios over 1 mean ours is faster. ``goal`` is the ratio that the method cards ask for. All use one
thread.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from _timing import interleaved, row
from rarefy.dictionaries import ArrayStream, NormLoss, SparseAutoencoder, TopAFA, train
from rarefy.kernels.cpu.norm_matched import norm_matched, norm_matched_reference
from rarefy.operators import TopK

D, LATENTS, K, BATCH = 256, 4096, 32, 1024


def rows() -> list[dict[str, Any]]:
    """Every comparison of the two papers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [selection_row(), signed_row(), top_afa_row()]
        if importlib.util.find_spec("sae_lens"):
            found.append(sae_lens_row())
        return found
    finally:
        torch.set_num_threads(threads)


def selection_row() -> dict[str, Any]:
    """A batch's entries whose norm is nearest to its rows'."""
    g = torch.Generator().manual_seed(0)
    u = torch.randn(BATCH, LATENTS, generator=g)
    target = u.clamp(min=0).norm(dim=1) * torch.rand(BATCH, generator=g)
    ours, theirs = norm_matched(u, target), norm_matched_reference(u, target)
    if not all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)):
        raise RuntimeError("the selection by norm and its sorting twin disagree")
    quick, slow = interleaved(
        lambda: norm_matched(u, target),
        lambda: norm_matched_reference(u, target),
        repeats=5,
        warmup=1,
    )
    return row("dictionaries.norm-matched", "full sorts, as released", quick, slow, goal=5.0)


def signed_row() -> dict[str, Any]:
    """Training steps of AbsTopK beside TopK's."""
    signed, positive = (_steps(SparseAutoencoder(D, LATENTS, TopK(K, by=by))) for by in _BY)
    ours, theirs = interleaved(signed, positive, repeats=5, warmup=1)
    return row("dictionaries.abstopk.step", "rarefy TopK", ours, theirs, goal=0.95)


def top_afa_row() -> dict[str, Any]:
    """Training steps of top-AFA beside TopK's at its mean L0."""
    x = _data()
    sae = TopAFA(D, LATENTS)
    k = round(float(sae.encode(x[:BATCH]).l0.float().mean()))
    afa = _steps(sae, NormLoss(8.0))
    top = _steps(SparseAutoencoder(D, LATENTS, TopK(k, by="positive")))
    ours, theirs = interleaved(afa, top, repeats=3, warmup=1)
    return row("dictionaries.top-afa.step", f"rarefy TopK, k = {k}", ours, theirs, goal=2 / 3)


def sae_lens_row() -> dict[str, Any]:
    """Training steps of AbsTopK beside SAELens's, on the same rows."""
    from sae_lens import AbsTopKTrainingSAE, AbsTopKTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput

    theirs = AbsTopKTrainingSAE(AbsTopKTrainingSAEConfig(d_in=D, d_sae=LATENTS, k=K))
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    x = _data()

    def peer() -> None:
        for start in (0, BATCH):
            step = TrainStepInput(
                sae_in=x[start : start + BATCH],
                coefficients={},
                dead_neuron_mask=None,
                n_training_steps=0,
                is_logging_step=False,
            )
            theirs.training_forward_pass(step).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    quick, slow = interleaved(
        _steps(SparseAutoencoder(D, LATENTS, TopK(K))), peer, repeats=3, warmup=1
    )
    return row("dictionaries.abstopk.sae-lens", "SAELens AbsTopK", quick, slow, goal=4.0)


_BY = ("magnitude", "positive")


def _data() -> Tensor:
    # Not the dictionaries' seed, which draws the same numbers: every row would be an atom.
    return torch.randn(2 * BATCH, D, generator=torch.Generator().manual_seed(1))


def _steps(sae: SparseAutoencoder, *losses: Any) -> Any:
    stream = ArrayStream(_data(), batch_size=BATCH)
    return lambda: train(sae, stream, steps=2, losses=losses, lr=1e-4, warm_up=0, decay=0)
