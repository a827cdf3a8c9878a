"""Sparse autoencoders against SAELens and EleutherAI's sparsify: one training step, and its top-k.

The same batch, width, k, optimiser (Adam) and gradient clipping for everybody; a step is forward,
backward, update and the decoder's normalisation. Peers that are not installed are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from _timing import interleaved
from rarefy.dictionaries import (
    BatchCoupled,
    JumpReLU,
    L0Loss,
    SparseAutoencoder,
    squared_error,
)
from rarefy.dictionaries.train import _update
from rarefy.kernels.cpu.topk import top_k
from rarefy.operators import BatchTopK, TopK

ROWS, D, F, K = 4096, 256, 4096, 32


def rows() -> list[dict[str, Any]]:
    """Every comparison; a ratio above 1 means ours is better."""
    return [*_topk_rows(), *_step_rows()]


def _row(name: str, peer: str, ours: float, theirs: float, goal: float) -> dict[str, Any]:
    return {
        "name": f"dictionaries.{name}",
        "peer": peer,
        "ours": ours * 1e3,
        "theirs": theirs * 1e3,
        "unit": "ms",
        "ratio": theirs / ours,
        "goal": goal,
    }


def _topk_rows() -> Iterator[dict[str, Any]]:
    u = torch.randn(ROWS, F, generator=torch.Generator().manual_seed(0))
    for name, magnitude in (("value", False), ("magnitude", True)):
        ours, theirs = interleaved(
            lambda magnitude=magnitude: top_k(u, K, magnitude=magnitude),
            lambda magnitude=magnitude: (u.abs() if magnitude else u).topk(K, sorted=False),
            repeats=7,
            warmup=1,
        )
        yield _row(f"topk.{name}", "torch.topk", ours, theirs, 2.0)


def _batch() -> Tensor:
    """Rows that are sparse combinations of 2 D directions, so that there is something to learn."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.rand(ROWS, 2 * D, generator=generator)
    codes *= torch.rand(ROWS, 2 * D, generator=generator) < 0.03
    return codes @ torch.randn(2 * D, D, generator=generator)


def _step_rows() -> Iterator[dict[str, Any]]:
    x = _batch()
    for name, (ours, peers) in _contenders(x).items():
        seconds: dict[str, list[float]] = {peer: [] for peer in ("ours", *peers)}
        steps = {"ours": ours, **peers}
        for round_ in range(5):
            for peer, step in steps.items():
                start = perf_counter()
                step()
                if round_:
                    seconds[peer].append(perf_counter() - start)
        for peer in peers:
            goal = 1.5 if peer == "eai-sparsify" else 4.0
            yield _row(f"step.{name}", peer, median(seconds["ours"]), median(seconds[peer]), goal)


def _contenders(x: Tensor) -> dict[str, tuple[Callable[[], Any], dict[str, Callable[[], Any]]]]:
    peers: dict[str, dict[str, Callable[[], Any]]] = {"topk": {}, "batchtopk": {}, "jumprelu": {}}
    if find_spec("sae_lens"):
        for name, step in _saelens_steps(x).items():
            peers[name]["sae-lens"] = step
    if find_spec("sparsify"):
        peers["topk"]["eai-sparsify"] = _sparsify_step(x)
    for name in ("sae_lens", "sparsify"):
        if not find_spec(name):
            print(f"{name} is not installed: its rows are left out", file=sys.stderr)
    jump = L0Loss(1e-3)
    return {
        "topk": (_our_step(x, TopK(K, by="positive")), peers["topk"]),
        "batchtopk": (
            _our_step(x, BatchCoupled(BatchTopK(K, by="positive"), F)),
            peers["batchtopk"],
        ),
        "jumprelu": (_our_step(x, JumpReLU(F), jump), peers["jumprelu"]),
    }


def _our_step(x: Tensor, activation: Any, *losses: Any) -> Callable[[], None]:
    sae = SparseAutoencoder(D, F, activation).train()
    parameters = list(sae.parameters())
    optimizer = torch.optim.Adam(parameters, lr=3e-4, fused=True)

    def step() -> None:
        encoded = sae.encode_all(x)
        reconstruction = sae.decode(encoded.codes)
        objective = squared_error(sae, x, encoded, reconstruction)
        for loss in losses:
            objective = objective + loss(sae, x, encoded, reconstruction)
        objective.backward()
        _update(sae, optimizer, parameters, clip=1.0, decoder_norm="unit")

    return step


def _saelens_steps(x: Tensor) -> dict[str, Callable[[], None]]:
    import sae_lens
    from sae_lens.saes.sae import TrainStepInput

    shape = {"d_in": D, "d_sae": F}
    saes = {
        "topk": sae_lens.TopKTrainingSAE(
            sae_lens.TopKTrainingSAEConfig(**shape, k=K, use_sparse_activations=False)
        ),
        "batchtopk": sae_lens.BatchTopKTrainingSAE(
            sae_lens.BatchTopKTrainingSAEConfig(**shape, k=K)
        ),
        "jumprelu": sae_lens.JumpReLUTrainingSAE(sae_lens.JumpReLUTrainingSAEConfig(**shape)),
    }

    def stepper(sae: Any) -> Callable[[], None]:
        optimizer = torch.optim.Adam(sae.parameters(), lr=3e-4)
        inputs = TrainStepInput(
            sae_in=x,
            coefficients=sae.get_coefficients(),
            dead_neuron_mask=None,
            n_training_steps=0,
            is_logging_step=False,
        )
        inputs.coefficients = {
            name: getattr(value, "value", value) for name, value in inputs.coefficients.items()
        }

        def step() -> None:
            sae.training_forward_pass(inputs).loss.backward()
            torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        return step

    return {name: stepper(sae) for name, sae in saes.items()}


def _sparsify_step(x: Tensor) -> Callable[[], None]:
    from sparsify import SparseCoder, SparseCoderConfig

    sae = SparseCoder(D, SparseCoderConfig(num_latents=F, k=K))
    optimizer = torch.optim.Adam(sae.parameters(), lr=3e-4)

    def step() -> None:
        sae(x).fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        sae.set_decoder_norm_to_unit_norm()

    return step
