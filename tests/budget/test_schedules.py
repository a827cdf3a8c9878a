import doctest
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarefy.budget import (
    Cosine,
    Cubic,
    Exponential,
    Linear,
    MaskDecay,
    OneShot,
    Step,
    schedules,
)

RAMPS = [
    kind(0.1, initial=0.9, begin=0.2, end=0.7) for kind in (Linear, Cubic, Cosine, Exponential)
]
EVERY = [
    *RAMPS,
    OneShot(0.1, at=0.4),
    Step(((0.2, 0.5), (0.6, 0.1))),
    *(MaskDecay(kind) for kind in ("linear", "exponential", "cosine")),
]


@pytest.mark.parametrize("ramp", RAMPS, ids=str)
def test_ramps_meet_their_ends_exactly_and_hold_them(ramp):
    for progress in (-1.0, 0.0, 0.1, 0.2):
        assert ramp(progress) == 0.9
    for progress in (0.7, 0.9, 1.0, 5.0, math.inf):
        assert ramp(progress) == 0.1


@pytest.mark.parametrize("schedule", EVERY, ids=str)
@given(one=st.floats(-0.5, 1.5), other=st.floats(-0.5, 1.5))
def test_schedules_fall_and_stay_within_bounds(schedule, one, other):
    early, late = sorted([one, other])
    assert 1 >= schedule(early) >= schedule(late) - 1e-15 >= -1e-15


@pytest.mark.parametrize("schedule", EVERY, ids=str)
def test_schedules_survive_pickling(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_quarter_points():
    assert Linear(0.2)(0.25) == pytest.approx(0.8)
    assert Cosine(0.0)(0.25) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert Exponential(0.0625)(0.25) == pytest.approx(0.5)
    # Zhu and Gupta state it in sparsity: s_f + (s_0 - s_f)(1 - u)^3
    assert 1 - Cubic(0.1)(0.25) == pytest.approx(0.9 + (0 - 0.9) * 0.75**3)


def test_one_shot_and_step_switch_at_their_points():
    assert [OneShot(0.3, at=0.5)(p) for p in (0.49, 0.5, 1.0)] == [1.0, 0.3, 0.3]
    assert OneShot(0.3)(0.0) == 0.3
    step = Step([(0.25, 0.5), (0.75, 0.1)], initial=0.8)
    assert [step(p) for p in (0, 0.25, 0.5, 0.75, 1)] == [0.8, 0.5, 0.5, 0.1, 0.1]
    assert Step(())(0.5) == 1.0


def test_mask_decay():
    for kind in ("linear", "exponential", "cosine"):
        decay = MaskDecay(kind, over=0.4)
        assert decay(0.0) == 1.0
        assert decay(0.9) == decay(1.0) == 0.0
    assert MaskDecay("linear", over=0.4)(0.1) == pytest.approx(0.75)
    assert MaskDecay("linear", over=0.4)(0.5) == 0.0
    assert MaskDecay("cosine", over=0.4)(0.2) == pytest.approx(0.5)
    assert MaskDecay("exponential", over=0.4)(0.4) == pytest.approx(0.02)
    # the published form exp(-c t) with c = 2e-4 per step: 0.02 after 19,560 steps
    assert MaskDecay("exponential", over=0.5)(0.2) == pytest.approx(
        math.exp(-2e-4 * 0.4 * -math.log(0.02) / 2e-4)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(1.2), r"final must be in \[0, 1\], got 1.2"),
        (lambda: Cubic(0.1, begin=0.5, end=0.5), "begin must come before end"),
        (lambda: Exponential(0.0), "must be above 0"),
        (lambda: OneShot(0.5, at=-1), "at must be"),
        (lambda: Step(((0.5, 0.2), (0.5, 0.1))), "in order of progress"),
        (lambda: Step(((0.5, 2.0),)), "density must be"),
        (lambda: MaskDecay("sudden"), "kind must be"),
        (lambda: MaskDecay(over=0.0), "over must be above 0"),
        (lambda: Linear(0.5)(math.nan), "progress must be a number"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_doctests():
    failed, attempted = doctest.testmod(schedules)
    assert attempted and not failed
