"""Sort: digits in the order that a rule letter names.

    sd3172=   ->   7.312;3.12;2.1;1.#7321

Rules: ``a`` ascending, ``d`` descending, ``e`` even digits before odd ones, ``o`` odd before even,
both ascending within. The trace is a selection sort: the digit chosen and those left. Levels: 3, 4,
6, 8, 10 digits. Difficulty: digits.
"""

from __future__ import annotations

import random
import re

from rarefy.policy.tasks._task import ILLEGAL, Draft, Grade, Task

_DIGITS = (3, 4, 6, 8, 10)
_FORM = re.compile(r"s[adeo][0-9]+=")
# The digits in each rule's order.
_ORDERS = {"a": "0123456789", "d": "9876543210", "e": "0246813579", "o": "1357902468"}


def _draw(level: int, rng: random.Random) -> Draft:
    rule = rng.choice(list(_ORDERS))
    digits = "".join(rng.choice("0123456789") for _ in range(_DIGITS[level - 1]))
    answer = _sorted(rule, digits)
    steps, left = [], digits
    for digit in answer:
        left = left.replace(digit, "", 1)
        steps.append(f"{digit}.{left}")
    return Draft(f"s{rule}{digits}=", ";".join(steps), answer)


def _sorted(rule: str, digits: str) -> str:
    return "".join(sorted(digits, key=_ORDERS[rule].index))


def _grade(prompt: str, answer: str) -> Grade:
    rule, digits = prompt[1], prompt[2:-1]
    if sorted(answer) != sorted(digits):
        return ILLEGAL
    right = sum(map(str.__eq__, answer, _sorted(rule, digits)))
    return Grade(1.0, right / len(digits))


def _difficulty(prompt: str) -> float:
    return len(prompt[2:-1])


SORT = Task("sort", _FORM, _draw, _grade, _difficulty)
