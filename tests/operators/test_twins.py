"""The tuples that compiled loops take do what the penalties do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numba import njit

from rarefy.operators import CEL0, L0, L1, MCP, SCAD, CappedL1, ElasticNet, LogSum, Lq, Penalty
from rarefy.operators._twins import prox, twin, value

PENALTIES = [
    L1(0.7),
    L0(0.7),
    Lq(0.7, q=0.4),
    ElasticNet(0.7, l1_ratio=0.3),
    MCP(0.7, gamma=2.5),
    SCAD(0.7, a=3.1),
    CEL0(0.7, a=1.3),
    CappedL1(0.7, theta=0.9),
    LogSum(0.7, epsilon=0.4),
]


@njit
def _run(x, step, twin):  # type: ignore[no-untyped-def]
    return value(x, twin), prox(x, step, twin)


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("positive", [False, True])
def test_compiled_and_plain_agree_with_the_penalty(penalty: Penalty, positive: bool) -> None:
    kind = type(penalty)
    parameters = {k: v for k, v in vars(penalty).items() if k != "positive"}
    of = twin(kind(**parameters, positive=positive))
    penalty = kind(**parameters, positive=positive)
    for x in np.linspace(-4, 4, 41):
        array = np.array([x])
        expected = float(penalty.value(array)), float(penalty.prox(array, 0.8)[0])
        assert _run(x, 0.8, of) == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert (value(x, of), prox(x, 0.8, of)) == pytest.approx(expected, rel=1e-12, abs=1e-12)
        if positive and x < 0:
            assert expected[0] == math.inf


def test_an_unknown_penalty_is_named() -> None:
    class Mine(L1):
        pass

    with pytest.raises(TypeError, match="penalty must be one of CEL0, .*, got Mine"):
        twin(Mine(1.0))
