"""How a training comes to its N:M pattern: what is in force at each moment of it.

    softness and leak of the weights outside the pattern, progress p from 0 to 1:
    MdGf   beta(p), falling from 1 to 0, of both; the final pattern throughout
    SdGf   0 and 1; the pattern tightens in stages of equal length
           stepwise   (m - 1):m, m/2:m, m/4:m, ..., n:m
           geometric  8n:8m, 4n:4m, 2n:2m, n:m

Plain objects without state, as schedules are: the same progress gives the same answer after every
restart.

Source: Bambhaniya et al. 2024, "Progressive Gradient Flow" (arXiv 2402.04744) and the authors'
code. Departures: decays are stated as shares of the training, not per step; MdGf's gradient decays
with the mask as the paper writes it, where the authors' code passes it unchanged
(``backward="straight-through"``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from rarefy.budget import MaskDecay
from rarefy.operators import NM
from rarefy.weights.attach import STRAIGHT_THROUGH, Backward


class Flow(NamedTuple):
    """What is in force at one moment of a training.

    Attributes
    ----------
    pattern : NM
    softness : float
        Factor of the weights outside the pattern in the forward pass: 1 is dense, 0 is hard.
    backward : Backward
        What the gradient of those weights is.
    """

    pattern: NM
    softness: float
    backward: Backward


class FlowRule(Protocol):
    """How a training comes to its pattern; a function of progress without state."""

    def patterns(self, final: NM) -> tuple[NM, ...]:
        """List every pattern on the way, ``final`` the last."""

    def __call__(self, final: NM, progress: float) -> Flow:
        """Say what is in force when a share ``progress`` of the training is done."""


@dataclass(frozen=True)
class MdGf:
    """Mask decay gradient flow: weights outside the pattern fade.

    Parameters
    ----------
    decay : callable ``progress -> softness``, default ``MaskDecay()``
        Linear over the first 30 %; ``MaskDecay("exponential")`` is the other one of the paper.
    backward : {"decayed", "straight-through"}, default "decayed"
        Whether gradients of those weights fade too, or pass whole as in the authors' code.
    """

    decay: Callable[[float], float] = MaskDecay()
    backward: Literal["decayed", "straight-through"] = "decayed"

    def __post_init__(self) -> None:
        if self.backward not in ("decayed", "straight-through"):
            raise ValueError(
                f"backward must be 'decayed' or 'straight-through', got {self.backward!r}"
            )

    def patterns(self, final: NM) -> tuple[NM, ...]:
        """List the final pattern alone."""
        return (final,)

    def __call__(self, final: NM, progress: float) -> Flow:
        """Say what is in force."""
        softness = self.decay(progress)
        leak = softness if self.backward == "decayed" else 1.0
        return Flow(final, softness, Backward(leak))


@dataclass(frozen=True)
class SdGf:
    """Structure decay gradient flow: hard masks whose pattern tightens in equal intervals.

    Parameters
    ----------
    kind : {"stepwise", "geometric"} or tuple of NM, default "stepwise"
        The stages at the head of this module, or one's own, before the final pattern.
    over : float, default 1.0
        Share of the training that the stages divide; the rest belongs to the final pattern.
    doublings : int, default 3
        How often geometric stages double n and m at the start; ``m * 2**doublings`` must divide
        the inputs of every layer.
    backward : Backward, default STRAIGHT_THROUGH

    Examples
    --------
    >>> [(stage.n, stage.m) for stage in SdGf().patterns(NM(1, 8))]
    [(7, 8), (4, 8), (2, 8), (1, 8)]
    """

    kind: Literal["stepwise", "geometric"] | tuple[NM, ...] = "stepwise"
    over: float = 1.0
    doublings: int = 3
    backward: Backward = STRAIGHT_THROUGH

    def __post_init__(self) -> None:
        if not isinstance(self.kind, tuple) and self.kind not in ("stepwise", "geometric"):
            raise ValueError(
                f"kind must be 'stepwise', 'geometric' or a tuple of NM, got {self.kind!r}"
            )
        if not 0 < self.over <= 1:
            raise ValueError(f"over must be in (0, 1], got {self.over}")
        if self.doublings < 0:
            raise ValueError(f"doublings must be at least 0, got {self.doublings}")

    def patterns(self, final: NM) -> tuple[NM, ...]:
        """List the stages."""
        n, m = final.n, final.m
        if isinstance(self.kind, tuple):
            return (*self.kind, final)
        if self.kind == "geometric":
            return tuple(NM(n << k, m << k) for k in range(self.doublings, -1, -1))
        halves = (m >> k for k in range(1, m.bit_length()))
        return tuple(NM(kept, m) for kept in (m - 1, *halves) if n < kept < m) + (final,)

    def __call__(self, final: NM, progress: float) -> Flow:
        """Say what is in force."""
        stages = self.patterns(final)
        # A whole interval must not look unfinished for the rounding of its quotient.
        passed = int(progress / self.over * len(stages) + 1e-9)
        return Flow(stages[min(passed, len(stages) - 1)], 0.0, self.backward)


@dataclass(frozen=True)
class FromTheStart:
    """The final pattern, hard, in every step; what a :class:`Backward` means as a rule."""

    backward: Backward

    def patterns(self, final: NM) -> tuple[NM, ...]:
        """List the final pattern alone."""
        return (final,)

    def __call__(self, final: NM, progress: float) -> Flow:  # noqa: ARG002 - a rule's signature
        """Say what is in force."""
        return Flow(final, 0.0, self.backward)
