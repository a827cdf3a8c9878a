"""Countdown: reach a number with the given ones, each used once, from left to right.

    n3,5,2>16=   ->   3;+5.8;*2.16#3+5*2

The trace is the running totals. Levels: 2, 2, 3, 3, 4 numbers of at most 5, 9, 6, 9, 9.
Difficulty: bits in the answer; a number x has log2(1 + x), an operator log2(3).
Departures: operators are ``+``, ``-`` and ``*``, without precedence, and totals stay in 0..99.
"""

from __future__ import annotations

import math
import random
import re

from rarefy.policy.tasks._arithmetic import OPERATORS, closeness, draw_expression, parse, totals
from rarefy.policy.tasks._task import ILLEGAL, Draft, Grade, Task

_NUMBERS = (2, 2, 3, 3, 4)
_LARGEST = (5, 9, 6, 9, 9)
_FORM = re.compile(r"n[0-9]{1,3}(?:,[0-9]{1,3})*>[0-9]{1,4}=")


def _draw(level: int, rng: random.Random) -> Draft:
    numbers, operators, running = draw_expression(
        rng, count=_NUMBERS[level - 1], largest=_LARGEST[level - 1], limit=99
    )
    steps = [f"{o}{n}" for o, n in zip(operators, numbers[1:], strict=True)]
    trace = ";".join(
        [str(numbers[0]), *(f"{s}.{t}" for s, t in zip(steps, running[1:], strict=True))]
    )
    shown = ",".join(map(str, rng.sample(numbers, len(numbers))))
    return Draft(f"n{shown}>{running[-1]}=", trace, str(numbers[0]) + "".join(steps))


def _read(prompt: str) -> tuple[list[int], int]:
    numbers, _, target = prompt[1:-1].partition(">")
    return [int(number) for number in numbers.split(",")], int(target)


def _grade(prompt: str, answer: str) -> Grade:
    given, target = _read(prompt)
    parsed = parse(answer)
    if parsed is None or sorted(parsed[0]) != sorted(given):
        return ILLEGAL
    return Grade(1.0, closeness(totals(*parsed)[-1], target))


def _difficulty(prompt: str) -> float:
    numbers, _ = _read(prompt)
    operators = (len(numbers) - 1) * math.log2(len(OPERATORS))
    return sum(math.log2(1 + number) for number in numbers) + operators


COUNTDOWN = Task("countdown", _FORM, _draw, _grade, _difficulty)
