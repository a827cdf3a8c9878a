"""Arithmetic without precedence: "3+5*2" is (3 + 5) * 2, as the totals of a trace run."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

OPERATORS = "+-*"
# At most 16 numbers of three digits, so that no text makes a long multiplication.
EXPRESSION = r"[0-9]{1,3}(?:[-+*][0-9]{1,3}){0,15}"


def apply(operator: str, left: int, right: int) -> int:
    """One operation."""
    if operator == "+":
        return left + right
    return left - right if operator == "-" else left * right


def parse(expression: str) -> tuple[list[int], str] | None:
    """Numbers and operators between them; None for anything that is no expression."""
    if not re.fullmatch(EXPRESSION, expression):
        return None
    numbers = [int(number) for number in re.split(r"[-+*]", expression)]
    return numbers, "".join(character for character in expression if character in OPERATORS)


def totals(numbers: Sequence[int], operators: str) -> list[int]:
    """Running totals, the last of which is the value."""
    running = [numbers[0]]
    for operator, number in zip(operators, numbers[1:], strict=True):
        running.append(apply(operator, running[-1], number))
    return running


def closeness(value: int, target: int) -> float:
    """1 where equal, falling with the distance to 0 at the target's own size."""
    return max(0.0, 1 - abs(value - target) / max(1, abs(target)))


def draw_expression(
    rng: random.Random, *, count: int, largest: int, limit: int
) -> tuple[list[int], str, list[int]]:
    """Draw numbers, operators and totals; every total lies in 0..limit, the last above 0."""
    while True:
        numbers = [rng.randint(1, largest) for _ in range(count)]
        operators = "".join(rng.choice(OPERATORS) for _ in numbers[1:])
        running = totals(numbers, operators)
        if all(0 <= total <= limit for total in running) and running[-1] > 0:
            return numbers, operators, running
