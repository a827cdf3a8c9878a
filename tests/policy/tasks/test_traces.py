"""Traces checked step by step: every expert's holds, no corrupted one does."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarefy.policy.tasks import COUNTDOWN, LEVELS, PERMUTE, REWRITE, SORT, hinted
from rarefy.policy.tasks.traces import first_fault, trace_valid
from rarefy.rewards.corruption import KINDS, corrupt

CHECKED = [COUNTDOWN, PERMUTE, REWRITE]


@pytest.mark.parametrize("task", CHECKED, ids=lambda task: task.name)
def test_experts_traces_hold_and_corrupted_ones_do_not(task):
    rng = random.Random(f"traces {task.name}")
    for level in LEVELS:
        for _ in range(60):
            problem = task.sample(level, rng)
            assert trace_valid(problem.prompt, problem.trace), problem
            assert trace_valid(hinted(problem, 0.5), problem.trace)
            for kind in KINDS:
                spoilt = corrupt(problem.trace, kind, rng)
                if spoilt is not None:
                    assert not trace_valid(problem.prompt, spoilt), (problem, kind, spoilt)


@pytest.mark.parametrize(
    "prompt, trace, fault",
    [
        ("n3,5,2>16=", "3;+5.8;*2.16", None),
        ("n3,5,2>16=", "5;+3.8;*2.16", None),
        ("n3,5,2>16=", "4;+5.9", 0),
        ("n3,5,2>16=", "3;+5.9;*2.18", 1),
        ("n3,5,2>16=", "3;+5.8;*5.40", 2),
        ("n3,5,2>16=", "3;+5.8", 2),
        ("n3,5,2>16=", "3;+5.8;+2.10", 3),
        ("n3,5,2>16=", "", 0),
        ("n3,5,2>16=", "3;+5.8;*2.16;+0.16", 3),
        ("n5,3>2=", "3;-5.-2", 2),
        ("pbcda:xzy=", "x.acdb;z.bdca;y.dcab", None),
        ("pbcda:xzy=", "x.acdb;z.bdca", 2),
        ("pbcda:xzy=", "x.acdb;z.bdac;y.dacb", 1),
        ("pbcda:xzy=", "x.acdb;z.bdca;y.dcab;", 3),
        ("wab>c,cc>a:abcb=", "ccb;ab;c", None),
        ("wab>c,cc>a:abcb=", "ccb;ab", 2),
        ("wab>c,cc>a:abcb=", "ccb;cb;c", 1),
    ],
)
def test_the_first_fault_is_found(prompt, trace, fault):
    assert first_fault(prompt, trace) == fault


@given(st.text(max_size=40), st.sampled_from(["n3,5,2>16=", "pbcda:xzy=", "wab>c,cc>a:abcb="]))
def test_every_text_has_a_verdict(trace, prompt):
    fault = first_fault(prompt, trace)
    assert fault is None or 0 <= fault <= trace.count(";") + 1


def test_an_endless_trace_is_not_looked_at():
    assert first_fault("n3,5>8=", "3" + ";+5.8" * 10_000) == 10_001


def test_other_tasks_are_refused():
    prompt = SORT.sample(1, random.Random(0)).prompt
    with pytest.raises(ValueError, match="countdown, permute, rewrite"):
        trace_valid(prompt, "1")
