"""A penalty as a compiled inner loop sees it: a named tuple whose type picks value and prox.

``twin(penalty)`` gives the tuple. Compiled code calls ``value(x, twin)`` and ``prox(x, step,
twin)``; which formula of ``_scalar`` that is, Numba settles from the tuple's type while compiling,
so that a loop holds one penalty's arithmetic and no dispatch, and its machine code can be cached
on disk, which that of a closure over compiled functions cannot. Importing this module imports
Numba.

Departures: none.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from numba.extending import overload

from rarefy.operators import _scalar as scalar
from rarefy.operators import penalties


class L1Twin(NamedTuple):
    """Of :class:`rarefy.operators.L1`."""

    lam: float
    positive: bool


class L0Twin(NamedTuple):
    """Of :class:`rarefy.operators.L0`."""

    lam: float
    positive: bool


class LqTwin(NamedTuple):
    """Of :class:`rarefy.operators.Lq`."""

    lam: float
    q: float
    positive: bool


class ElasticNetTwin(NamedTuple):
    """Of :class:`rarefy.operators.ElasticNet`."""

    lam: float
    l1_ratio: float
    positive: bool


class MCPTwin(NamedTuple):
    """Of :class:`rarefy.operators.MCP`."""

    lam: float
    gamma: float
    positive: bool


class SCADTwin(NamedTuple):
    """Of :class:`rarefy.operators.SCAD`."""

    lam: float
    a: float
    positive: bool


class CEL0Twin(NamedTuple):
    """Of :class:`rarefy.operators.CEL0`."""

    lam: float
    a: float
    positive: bool


class CappedL1Twin(NamedTuple):
    """Of :class:`rarefy.operators.CappedL1`."""

    lam: float
    theta: float
    positive: bool


class LogSumTwin(NamedTuple):
    """Of :class:`rarefy.operators.LogSum`."""

    lam: float
    epsilon: float
    positive: bool


Twin = NamedTuple

_TWINS: dict[type[penalties.Penalty], Any] = {
    penalties.L1: L1Twin,
    penalties.L0: L0Twin,
    penalties.Lq: LqTwin,
    penalties.ElasticNet: ElasticNetTwin,
    penalties.MCP: MCPTwin,
    penalties.SCAD: SCADTwin,
    penalties.CEL0: CEL0Twin,
    penalties.CappedL1: CappedL1Twin,
    penalties.LogSum: LogSumTwin,
}
_VALUE: dict[type, Any] = {
    L1Twin: scalar.l1_value,
    L0Twin: scalar.l0_value,
    LqTwin: scalar.lq_value,
    ElasticNetTwin: scalar.elastic_net_value,
    MCPTwin: scalar.mcp_value,
    SCADTwin: scalar.scad_value,
    CEL0Twin: scalar.cel0_value,
    CappedL1Twin: scalar.capped_l1_value,
    LogSumTwin: scalar.log_sum_value,
}
_PROX: dict[type, Any] = {
    L1Twin: scalar.l1_prox,
    L0Twin: scalar.l0_prox,
    LqTwin: scalar.lq_prox,
    ElasticNetTwin: scalar.elastic_net_prox,
    MCPTwin: scalar.mcp_prox,
    SCADTwin: scalar.scad_prox,
    CEL0Twin: scalar.cel0_prox,
    CappedL1Twin: scalar.capped_l1_prox,
    LogSumTwin: scalar.log_sum_prox,
}


def twin(penalty: penalties.Penalty) -> Any:
    """The penalty's parameters as the named tuple that compiled loops take.

    Raises
    ------
    TypeError
        If it is no penalty of :mod:`rarefy.operators`.
    """
    kind = _TWINS.get(type(penalty))
    if kind is None:
        known = ", ".join(sorted(cls.__name__ for cls in _TWINS))
        raise TypeError(f"penalty must be one of {known}, got {type(penalty).__name__}")
    parameters = {f.name: getattr(penalty, f.name) for f in dataclasses.fields(penalty)}
    positive = bool(parameters.pop("positive"))
    return kind(**{name: float(value) for name, value in parameters.items()}, positive=positive)


def value(x: float, twin: Any) -> float:
    """Penalty of one number; infinite where it must be positive and is not."""
    if twin.positive and x < 0.0:
        return math.inf
    return _VALUE[type(twin)](x, *twin[:-1])


def prox(x: float, step: float, twin: Any) -> float:
    """Proximal map of one number."""
    return _PROX[type(twin)](max(x, 0.0) if twin.positive else x, step, *twin[:-1])


# Numba unpacks no slice of a named tuple, hence the two lengths by hand.
@overload(value)
def _value(x: Any, twin: Any) -> Callable[..., float]:  # noqa: ARG001
    of_kind = _VALUE[twin.instance_class]
    if len(twin) == 2:

        def compiled(x: Any, twin: Any) -> Any:
            return math.inf if twin.positive and x < 0.0 else of_kind(x, twin[0])
    else:

        def compiled(x: Any, twin: Any) -> Any:
            return math.inf if twin.positive and x < 0.0 else of_kind(x, twin[0], twin[1])

    return compiled


@overload(prox)
def _prox(x: Any, step: Any, twin: Any) -> Callable[..., float]:  # noqa: ARG001
    of_kind = _PROX[twin.instance_class]
    if len(twin) == 2:

        def compiled(x: Any, step: Any, twin: Any) -> Any:
            return of_kind(max(x, 0.0) if twin.positive else x, step, twin[0])
    else:

        def compiled(x: Any, step: Any, twin: Any) -> Any:
            return of_kind(max(x, 0.0) if twin.positive else x, step, twin[0], twin[1])

    return compiled
