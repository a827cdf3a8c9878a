"""Sparse autoencoders against SAELens and EleutherAI's sparsify: whole training runs, and top-k.

Everybody trains the same architecture from the same weights on the same batches, as many steps,
with the same learning rates, fused Adam and clipped gradients. Steps alternate: one of ours, one of
each peer. Ours are those of :func:`rarefy.dictionaries.train`, with all that it does beside them;
a peer's are forward, backward, clipping, the update and, for sparsify, the decoder's norm, without
its trainer's bookkeeping. Throughput is rows a second over the whole run but the first steps. FVU
and L0 are those of rows that nobody was trained on. Peers that are not installed are left out.

SAELens trains Gated with a gradient from the auxiliary error to the decoder, which the paper stops,
as :class:`rarefy.dictionaries.GateLoss` does; here both sides train on SAELens's loss.

ReLU, Gated and JumpReLU run twice: from thresholds at or near 0 as the peers' defaults have it,
where half of all latents are active, and from the thresholds of
:func:`rarefy.dictionaries.architecture`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from _timing import interleaved
from rarefy.dictionaries import (
    BatchCoupled,
    Gated,
    JumpReLU,
    L0Loss,
    L1Loss,
    SparseAutoencoder,
    architecture,
    train,
)
from rarefy.dictionaries.codes import magnitudes
from rarefy.dictionaries.scale import norm_scale
from rarefy.dictionaries.train import _rate
from rarefy.kernels.cpu import jump as kernels
from rarefy.kernels.cpu.recycled import recycling
from rarefy.kernels.cpu.topk import top_k
from rarefy.operators import L1, BatchTopK, TopK

ROWS, D, F, K = 2048, 256, 4096, 32
STEPS, WARM_UP, DECAY, LR = 60, 6, 0.2, 3e-3
L1_WEIGHT, L0_WEIGHT = 5.0, 1.0
_UNTIMED = 2
"""First steps, in which kernels compile and memory is first touched."""

Peer = Callable[[Tensor, float], None]
"""A peer's training step: rows and learning rate."""


@dataclass
class _Contest:
    """An autoencoder of ours, its losses, and how the peers make the same one."""

    sae: SparseAutoencoder
    losses: tuple[Any, ...] = ()
    decoder_norm: Any = "unit"
    peers: dict[str, Any] = field(default_factory=dict)


def rows() -> list[dict[str, Any]]:
    """Every comparison; a ratio above 1 means ours is better."""
    for name in ("sae_lens", "sparsify"):
        if not find_spec(name):
            print(f"{name} is not installed: its rows are left out", file=sys.stderr)
    return [
        *_topk_rows(),
        *_jump_rows(),
        *(row for name in _contests() for row in training_rows(name)),
    ]


def _topk_rows() -> Iterator[dict[str, Any]]:
    u = torch.randn(4096, F, generator=torch.Generator().manual_seed(0))
    for name, magnitude in (("value", False), ("magnitude", True)):
        ours, theirs = interleaved(
            lambda magnitude=magnitude: top_k(u, K, magnitude=magnitude),
            lambda magnitude=magnitude: (u.abs() if magnitude else u).topk(K, sorted=False),
            repeats=7,
            warmup=1,
        )
        yield {
            "name": f"dictionaries.topk.{name}",
            "peer": "torch.topk",
            "ours": ours * 1e3,
            "theirs": theirs * 1e3,
            "unit": "ms",
            "ratio": theirs / ours,
            "goal": 2.0,
        }


def _jump_rows() -> Iterator[dict[str, Any]]:
    """A threshold's jump and its gradients at every entry, against the same in torch."""
    generator = torch.Generator().manual_seed(0)
    v, g = (torch.randn(ROWS * F, generator=generator) for _ in range(2))
    theta = torch.full((F,), 0.01)

    def ours() -> None:
        kernels.jump(v, theta, None)
        kernels.jump_backward(v, theta, None, g, bandwidth=0.05)

    def theirs() -> None:
        kernels.jump_reference(v, theta, None)
        kernels.jump_backward_reference(v, theta, None, g, bandwidth=0.05)

    with recycling():
        one, other = interleaved(ours, theirs, repeats=7, warmup=1)
    yield {
        "name": "dictionaries.jump",
        "peer": "torch",
        "ours": one * 1e3,
        "theirs": other * 1e3,
        "unit": "ms",
        "ratio": other / one,
        "goal": 2.0,
    }


def training_rows(name: str) -> list[dict[str, Any]]:
    """Throughput, FVU and L0 of one architecture, a row for each peer."""
    contest = _contests()[name]()
    peers = {peer: make(contest.sae) for peer, make in contest.peers.items()}
    if not peers:
        return []
    race = _Race({peer: step for peer, (step, _) in peers.items()})
    train(
        contest.sae,
        race,
        steps=STEPS,
        losses=contest.losses,
        lr=LR,
        warm_up=WARM_UP,
        decay=DECAY,
        decoder_norm=contest.decoder_norm,
        center=False,
    )
    race.stop()
    x = _rows_of(STEPS)
    sae = contest.sae.train()
    fvu, l0 = _judged(x, sae(x), sae.encode(x).l0)
    found = []
    for peer, (_, forward) in peers.items():
        rate, their_rate = (ROWS / _mean(race.seconds[who]) for who in ("ours", peer))
        their_fvu, their_l0 = _judged(x, *forward(x))
        goal = 1.5 if peer == "eai-sparsify" else 4.0
        for what, ours, theirs, unit, ratio, wanted in (
            ("throughput", rate, their_rate, "tokens/s", rate / their_rate, goal),
            # no worse, within one in a hundred
            ("fvu", fvu, their_fvu, "FVU", their_fvu / fvu, 0.99),
            ("l0", l0, their_l0, "L0", their_l0 / l0, None),
        ):
            found.append(
                {
                    "name": f"dictionaries.train.{name}.{what}",
                    "peer": peer,
                    "ours": ours,
                    "theirs": theirs,
                    "unit": unit,
                    "ratio": ratio,
                    "goal": wanted,
                }
            )
    return found


class _Race:
    """A stream that lets every peer take its step before it hands a batch to ours."""

    def __init__(self, peers: dict[str, Peer]) -> None:
        self.peers = peers
        self.seconds: dict[str, list[float]] = {who: [] for who in ("ours", *peers)}
        self._since: float | None = None

    def batch(self, step: int) -> Tensor:
        """Rows of a step."""
        self.stop()
        x = _rows_of(step)
        for peer, take in self.peers.items():
            start = perf_counter()
            take(x, LR * _rate(step, STEPS, warm_up=WARM_UP, decay=DECAY))
            self.seconds[peer].append(perf_counter() - start)
        self._since = perf_counter()
        return x

    def stop(self) -> None:
        """Our last step has ended."""
        if self._since is not None:
            self.seconds["ours"].append(perf_counter() - self._since)


def _gate_loss(sae: SparseAutoencoder, x: Tensor, encoded: Any, _reconstruction: Tensor) -> Tensor:
    """SAELens's auxiliary loss of Gated."""
    codes = encoded.codes._replace(values=sae.activation.gate(encoded.v, encoded.codes.support))
    l1 = magnitudes(codes) @ sae.decoder.norm(dim=1)
    return (L1_WEIGHT * l1 + (x - sae.decode(codes)).square().sum()) / len(x)


def _mean(seconds: list[float]) -> float:
    timed = seconds[_UNTIMED:]
    return sum(timed) / len(timed)


def _judged(x: Tensor, reconstruction: Tensor, l0: Tensor) -> tuple[float, float]:
    spread = (x - x.mean(0)).square().sum()
    return float((x - reconstruction).square().sum() / spread), float(l0.float().mean())


_DIRECTIONS = torch.randn(2 * D, D, generator=torch.Generator().manual_seed(0))


def _rows_of(step: int) -> Tensor:
    """Sparse combinations of 2 D directions, so that there is something to learn; norm sqrt(D)."""
    generator = torch.Generator().manual_seed(1000 + step)
    codes = torch.rand(ROWS, 2 * D, generator=generator)
    codes *= torch.rand(ROWS, 2 * D, generator=generator) < 0.03
    x = codes @ _DIRECTIONS
    return x * norm_scale(x)


def _contests() -> dict[str, Callable[[], _Contest]]:
    def ours(activation: Any, **options: Any) -> SparseAutoencoder:
        return SparseAutoencoder(D, F, activation, **options)

    def aimed(name: Any) -> SparseAutoencoder:
        return architecture(name, D, F, k=K, rows=STEPS * ROWS).sae

    l1, l0, gate = (L1Loss(L1_WEIGHT),), (L0Loss(L0_WEIGHT),), (_gate_loss,)
    relu, gated = L1(0.0, positive=True), lambda: ours(Gated(F), encoder_bias=False)
    batchtopk = lambda: BatchCoupled(BatchTopK(K, by="positive"), F)  # noqa: E731
    # The norms of the decoder's rows are free beside SAELens, and 1 beside sparsify, which holds
    # them there: the same model on both sides.
    unscaled = {"k": K, "rescale_acts_by_decoder_norm": False}
    l1_peers, l0_peers = {"l1_coefficient": L1_WEIGHT}, {"l0_coefficient": L0_WEIGHT}
    gated_peers, relu_peers = _lens("gated", **l1_peers), _lens("standard", **l1_peers)
    return {
        "topk": lambda: _Contest(
            ours(TopK(K, by="positive")), (), "free", _lens("topk", **unscaled)
        ),
        "topk-unit": lambda: _Contest(ours(TopK(K, by="positive")), peers=_sparsify()),
        "batchtopk": lambda: _Contest(
            ours(batchtopk()), (), "free", _lens("batchtopk", **unscaled)
        ),
        "jumprelu": lambda: _Contest(ours(JumpReLU(F)), l0, "free", _lens("jumprelu", **l0_peers)),
        "jumprelu-aimed": lambda: _Contest(
            aimed("jumprelu"), l0, "free", _lens("jumprelu", **l0_peers, jumprelu_bandwidth=0.2)
        ),
        "relu": lambda: _Contest(ours(relu), l1, "free", relu_peers),
        "relu-aimed": lambda: _Contest(aimed("relu"), l1, "free", relu_peers),
        "gated": lambda: _Contest(gated(), gate, "free", gated_peers),
        "gated-aimed": lambda: _Contest(aimed("gated"), gate, "free", gated_peers),
    }


def _lens(name: str, **options: Any) -> dict[str, Any]:
    """How SAELens makes the autoencoder, where it is installed."""
    return {"sae-lens": lambda sae: _saelens(name, sae, options)} if find_spec("sae_lens") else {}


def _sparsify() -> dict[str, Any]:
    return {"eai-sparsify": _sparsify_of} if find_spec("sparsify") else {}


def _saelens(
    name: str, ours: SparseAutoencoder, options: dict[str, Any]
) -> tuple[Peer, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    import sae_lens
    from sae_lens.saes.sae import TrainStepInput

    kinds = {
        "topk": "TopK",
        "batchtopk": "BatchTopK",
        "jumprelu": "JumpReLU",
        "standard": "Standard",
        "gated": "Gated",
    }
    make, config = (getattr(sae_lens, f"{kinds[name]}TrainingSAE{part}") for part in ("", "Config"))
    sae = make(config(d_in=D, d_sae=F, apply_b_dec_to_input=True, **options))
    activation = ours.activation
    same = {"W_dec": ours.decoder, "W_enc": ours.encoder.t(), "b_dec": ours.decoder_bias}
    if isinstance(activation, Gated):
        same |= {"b_gate": activation.gate_bias, "b_mag": activation.magnitude_bias}
        same |= {"r_mag": activation.log_scale}
    else:
        same |= {"b_enc": ours.encoder_bias}
    if isinstance(activation, JumpReLU):
        same |= {"threshold": activation.threshold}
    with torch.no_grad():
        for parameter, tensor in same.items():
            getattr(sae, parameter).copy_(tensor)
    optimizer = torch.optim.Adam(sae.parameters(), fused=True)
    coefficients = {
        what: getattr(value, "value", value) for what, value in sae.get_coefficients().items()
    }

    def forward(x: Tensor) -> Any:
        return sae.training_forward_pass(
            TrainStepInput(
                sae_in=x,
                coefficients=coefficients,
                dead_neuron_mask=None,
                n_training_steps=0,
                is_logging_step=False,
            )
        )

    def step(x: Tensor, lr: float) -> None:
        forward(x).loss.backward()
        _step(optimizer, lr)

    def judged(x: Tensor) -> tuple[Tensor, Tensor]:
        output = forward(x)
        return output.sae_out, (output.feature_acts != 0).sum(1)

    return step, judged


def _sparsify_of(
    ours: SparseAutoencoder,
) -> tuple[Peer, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    from sparsify import SparseCoder, SparseCoderConfig

    sae = SparseCoder(D, SparseCoderConfig(num_latents=F, k=K))
    with torch.no_grad():
        sae.encoder.weight.copy_(ours.encoder)
        sae.encoder.bias.zero_()
        sae.W_dec.copy_(ours.decoder)
        sae.b_dec.zero_()
    optimizer = torch.optim.Adam(sae.parameters(), fused=True)

    def step(x: Tensor, lr: float) -> None:
        sae(x).fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        _step(optimizer, lr)
        sae.set_decoder_norm_to_unit_norm()

    def judged(x: Tensor) -> tuple[Tensor, Tensor]:
        output = sae(x)
        return output.sae_out, (output.latent_acts > 0).sum(1)

    return step, judged


def _step(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
        torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()
    optimizer.zero_grad()
