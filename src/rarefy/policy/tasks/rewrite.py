"""Rewrite: apply rules to a string until none applies.

    wab>c,cc>a:abcb=   ->   ccb;ab;c#c

A step replaces the leftmost place of the first rule, in the order given, that has one. Every rule
turns two letters into one, so rewriting ends. The trace is the string after each step. Levels: 1,
2, 3, 4, 6 steps to a string of 3, 3, 5, 5, 6 letters. Difficulty: steps.
Departures: the two sides of a rule are made of ``a`` to ``d``; the order of steps is fixed, so the
normal form is one whether or not the rules are confluent.
"""

from __future__ import annotations

import random
import re

from rarefy.policy.tasks._task import ILLEGAL, Draft, Grade, Task

_LETTERS = "abcd"
_STEPS = (1, 2, 3, 4, 6)
_FINAL = (3, 3, 5, 5, 6)
_RULES = (2, 2, 2, 3, 3)
_FORM = re.compile(r"w[a-d]{2}>[a-d](?:,[a-d]{2}>[a-d])*:[a-d]+=")

Rules = list[tuple[str, str]]


def _draw(level: int, rng: random.Random) -> Draft:
    steps = _STEPS[level - 1]
    while True:
        lefts = rng.sample([a + b for a in _LETTERS for b in _LETTERS], _RULES[level - 1])
        rules = [(left, rng.choice(_LETTERS)) for left in lefts]
        start = "".join(rng.choices(_LETTERS, k=_FINAL[level - 1] + steps))
        strings = _derivation(rules, start)
        if len(strings) == steps:
            shown = ",".join(f"{left}>{right}" for left, right in rules)
            return Draft(f"w{shown}:{start}=", ";".join(strings), strings[-1])


def _derivation(rules: Rules, string: str) -> list[str]:
    strings = []
    while (following := _step(rules, string)) is not None:
        string = following
        strings.append(string)
    return strings


def _step(rules: Rules, string: str) -> str | None:
    for left, right in rules:
        if left in string:
            return string.replace(left, right, 1)
    return None


def _read(prompt: str) -> tuple[Rules, str]:
    shown, _, start = prompt[1:-1].partition(":")
    return [(rule[:2], rule[3:]) for rule in shown.split(",")], start


def _grade(prompt: str, answer: str) -> Grade:
    rules, start = _read(prompt)
    if not set(answer) <= set(_LETTERS) or _step(rules, answer) is not None:
        return ILLEGAL
    final = [start, *_derivation(rules, start)][-1]
    right = sum(a == b for a, b in zip(answer, final, strict=False))
    return Grade(1.0, right / max(len(answer), len(final)))


def _difficulty(prompt: str) -> float:
    return len(_derivation(*_read(prompt)))


REWRITE = Task("rewrite", _FORM, _draw, _grade, _difficulty)
