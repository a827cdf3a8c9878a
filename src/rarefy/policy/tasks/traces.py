"""Whether a trace holds, step by step: reasoning simulated, where verifiers look at answers alone.

    n3,5,2>16=   3;+5.8;*2.16   valid         3;+5.9;*2.16   its second step does not hold

A trace is valid if each step follows from the one before it and the last one is where the prompt
asks to get. A verifier that judges the answer alone accepts "3;+5.9;*2.16#3+5*2": right answer,
flawed reasoning, which is what DRM (arXiv 2510.11457) sets out to tell apart.
Departures: countdown, permute and rewrite have traces that can be checked so; other tasks do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from rarefy.policy.tasks._arithmetic import apply
from rarefy.policy.tasks._task import Task, without_hint
from rarefy.policy.tasks.countdown import COUNTDOWN
from rarefy.policy.tasks.countdown import _read as _read_countdown
from rarefy.policy.tasks.permute import PERMUTE, _move
from rarefy.policy.tasks.rewrite import REWRITE
from rarefy.policy.tasks.rewrite import _read as _read_rewrite
from rarefy.policy.tasks.rewrite import _step as _rewrite_step

LONGEST_TRACE = 2048
_COUNTDOWN_STEP = re.compile(r"([-+*])([0-9]{1,3})\.(-?[0-9]{1,9})")


def first_fault(prompt: str, trace: str) -> int | None:
    """Number of the first step that does not hold, from 0 on.

    A trace that stops too early, or is too long to look at, has its fault behind its last step.

    Parameters
    ----------
    prompt : str
        Of countdown, permute or rewrite, hinted or not.
    trace : str
        The part of a completion before "#".

    Returns
    -------
    int or None
        None for a valid trace.

    Raises
    ------
    ValueError
        If the prompt is of no task whose traces can be checked.

    Examples
    --------
    >>> first_fault("n3,5,2>16=", "3;+5.9;*2.16")
    1
    >>> first_fault("n3,5,2>16=", "3;+5.8;*2.16") is None
    True
    """
    plain = without_hint(prompt)
    checkers = [checker for task, checker in _CHECKERS if task.owns(plain)]
    if not checkers:
        raise ValueError(
            f"prompt {prompt!r} is of no task with traces that can be checked; those are "
            f"{', '.join(task.name for task, _ in _CHECKERS)}"
        )
    steps = trace.split(";")
    if len(trace) > LONGEST_TRACE:
        return len(steps)
    follows = checkers[0](plain, steps)
    for i in range(len(steps)):
        if not next(follows, False):
            return i
    return None if next(follows, False) else len(steps)


def trace_valid(prompt: str, trace: str) -> bool:
    """Whether every step holds and the last is the end: :func:`first_fault` finds none."""
    return first_fault(prompt, trace) is None


# Each checker yields, for one step after the other, whether it holds, and then whether what was
# reached is what the prompt asks for.


def _countdown_steps(prompt: str, steps: list[str]) -> Iterator[bool]:
    given, target = _read_countdown(prompt)
    if not re.fullmatch("[0-9]{1,3}", steps[0]) or int(steps[0]) not in given:
        yield False
        return
    total = int(steps[0])
    given.remove(total)
    yield True
    for step in steps[1:]:
        matched = _COUNTDOWN_STEP.fullmatch(step)
        if not matched or int(matched[2]) not in given:
            break
        given.remove(int(matched[2]))
        total = apply(matched[1], total, int(matched[2]))
        if total != int(matched[3]):
            break
        yield True
    else:
        yield not given and total == target


def _permute_steps(prompt: str, steps: list[str]) -> Iterator[bool]:
    state, _, moves = prompt[1:-1].partition(":")
    for move, step in zip(moves, steps, strict=False):
        state = _move(state, move)
        if step != f"{move}.{state}":
            return
        yield True
    yield len(steps) == len(moves)


def _rewrite_steps(prompt: str, steps: list[str]) -> Iterator[bool]:
    rules, string = _read_rewrite(prompt)
    for step in steps:
        following = _rewrite_step(rules, string)
        if following is None or step != following:
            return
        string = following
        yield True
    yield _rewrite_step(rules, string) is None


_Checker = Callable[[str, list[str]], Iterator[bool]]
_CHECKERS: list[tuple[Task, _Checker]] = [
    (COUNTDOWN, _countdown_steps),
    (PERMUTE, _permute_steps),
    (REWRITE, _rewrite_steps),
]
