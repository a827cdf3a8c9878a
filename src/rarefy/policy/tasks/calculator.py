"""Calculator: work out a chain of operations by calls of a tool, one operation each.

    c7*8-9=   ->   <7*8>56;<56-9>47#47

In the trace what stands between "<" and ">" is a call and what follows is its result, so that an
environment may insert the results (:func:`call`) and keep them out of the loss. Levels: 1 to 5
calls on numbers to 9, 20, 20, 20, 20. Difficulty: calls needed.
Departures: the chain runs from left to right, without precedence, and totals stay in 0..999.
"""

from __future__ import annotations

import random
import re

from rarefy.policy.tasks._arithmetic import EXPRESSION, closeness, draw_expression, parse, totals
from rarefy.policy.tasks._task import ILLEGAL, Draft, Grade, Task

_LARGEST = (9, 20, 20, 20, 20)
_FORM = re.compile(f"c{EXPRESSION}=")
_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,5}")


def call(expression: str) -> str | None:
    """The tool itself: the result of one operation, None for a call that it cannot read.

    Examples
    --------
    >>> call("56-9")
    '47'
    >>> call("56") is None
    True
    """
    parsed = parse(expression)
    return str(totals(*parsed)[-1]) if parsed is not None and len(parsed[1]) == 1 else None


def _draw(level: int, rng: random.Random) -> Draft:
    numbers, operators, running = draw_expression(
        rng, count=level + 1, largest=_LARGEST[level - 1], limit=999
    )
    rest = list(zip(operators, numbers[1:], strict=True))
    trace = ";".join(
        f"<{running[i]}{operator}{number}>{running[i + 1]}"
        for i, (operator, number) in enumerate(rest)
    )
    expression = str(numbers[0]) + "".join(f"{operator}{number}" for operator, number in rest)
    return Draft(f"c{expression}=", trace, str(running[-1]))


def _operands(prompt: str) -> tuple[list[int], str]:
    parsed = parse(prompt[1:-1])
    assert parsed is not None  # the task's form is an expression
    return parsed


def _grade(prompt: str, answer: str) -> Grade:
    value = totals(*_operands(prompt))[-1]
    if not _NUMBER.fullmatch(answer):
        return ILLEGAL
    return Grade(1.0, closeness(int(answer), value))


def _difficulty(prompt: str) -> float:
    return len(_operands(prompt)[1])


CALCULATOR = Task("calculator", _FORM, _draw, _grade, _difficulty)
