"""Two tasks of arithmetic: an expression that makes 24, and sums in which letters stand for digits.

Source: the tasks of MM-HELIX (arXiv 2510.08540), with the numbers of its released generators.
Departures: none.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache
from itertools import product
from random import Random

from rarefy.policy.tasks.helix.answers import Unreadable
from rarefy.policy.tasks.helix.cells import ModelTask
from rarefy.policy.tasks.helix.csp import Different, Model, Relation, Row, mask
from rarefy.policy.tasks.helix.scenes import Board
from rarefy.policy.tasks.helix.task import Anchor, GenerationError, Solution, State, Task

_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


class TwentyFour(Task):
    """Make 24 of four numbers."""

    name = "twenty-four"
    category = "algorithms"
    rules = (
        "Make 24 of the four numbers with +, -, *, / and parentheses, using each number exactly "
        "once. Answer with the expression."
    )

    def _generate(self, level: int, rng: Random) -> State | None:
        if level < 4:
            values = [rng.randint(1, (9, 13, 20)[level - 1]) for _ in range(4)]
        else:
            values = rng.sample(range(1, 21) if level == 4 else range(3, 26), 4)
        return {"values": values} if _combine(values)[0] is not None else None

    def _search(self, state: State) -> Solution:
        expression, tried, anchors = _combine(state["values"])
        if expression is None:
            raise GenerationError(f"{self.name}: {state['values']} cannot make 24")
        return Solution(expression, tried, tuple(anchors))

    def _check(self, state: State, answer: str) -> bool:
        value, used = evaluate(answer)
        return value == 24 and sorted(used) == sorted(state["values"])

    def _scene(self, state: State) -> Board:
        return Board((tuple(map(str, state["values"])),))


def _combine(values: list[int]) -> tuple[str | None, int, list[Anchor]]:
    """Join two numbers at a time, depth first: expression, joins tried, anchors."""
    anchors: list[Anchor] = []
    # Numbers left over that were met before: they led nowhere, or the search would be over.
    seen: set[tuple[Fraction, ...]] = set()
    tried = 0

    def descend(left: list[tuple[Fraction, str]]) -> str | None:
        nonlocal tried
        if len(left) == 1:
            return left[0][1] if left[0][0] == 24 else None
        for i in range(len(left)):
            for j in range(len(left)):
                if i == j:
                    continue
                (a, x), (b, y) = left[i], left[j]
                rest = [left[k] for k in range(len(left)) if k not in (i, j)]
                for sign, value in _joins(a, b, i < j):
                    key = tuple(sorted([value, *(v for v, _ in rest)]))
                    if key in seen:
                        continue
                    seen.add(key)
                    tried += 1
                    text = f"({x} {sign} {y})"
                    anchors.append(Anchor("try", f"{text} = {value}"))
                    found = descend([*rest, (value, text)])
                    if found is not None:
                        return found
                    anchors.append(Anchor("retract", f"{text} leads nowhere"))
        return None

    found = descend([(Fraction(value), str(value)) for value in values])
    return (found[1:-1] if found else None), tried, anchors


def _joins(a: Fraction, b: Fraction, first: bool) -> list[tuple[str, Fraction]]:
    joins = [("-", a - b)]
    if first:
        joins += [("+", a + b), ("*", a * b)]
    if b:
        joins.append(("/", a / b))
    return joins


def evaluate(text: str) -> tuple[Fraction, list[int]]:
    """Value of an expression in whole numbers, + - * / and parentheses, and the numbers in it.

    At most 40 symbols are read, so that the time is bounded.

    Raises
    ------
    Unreadable
        If it is no such expression, or divides by zero.

    Examples
    --------
    >>> evaluate("8 / (3 - 8/3)")
    (Fraction(24, 1), [8, 3, 8, 3])
    """
    symbols = re.findall("[0-9]+|[^0-9\\s]", text)
    if len(symbols) > 40:
        raise Unreadable(text)
    values: list[Fraction] = []
    signs: list[str] = []
    used = []
    after_value = False
    for symbol in [*symbols, ""]:
        if symbol.isascii() and symbol.isdigit():
            if after_value or len(symbol) > 9:
                raise Unreadable(text)
            used.append(int(symbol))
            values.append(Fraction(used[-1]))
        elif symbol == "(":
            if after_value:
                raise Unreadable(text)
            signs.append(symbol)
            continue
        else:
            rank = _PRECEDENCE.get(symbol, 0)
            if not after_value or not rank and symbol not in ("", ")"):
                raise Unreadable(text)
            while signs and signs[-1] != "(" and _PRECEDENCE[signs[-1]] >= rank:
                _apply(signs.pop(), values, text)
            if rank:
                signs.append(symbol)
                after_value = False
                continue
            # An opening parenthesis is left for each closing one, and none at the end.
            if bool(signs) != (symbol == ")"):
                raise Unreadable(text)
            if symbol:
                signs.pop()
        after_value = True
    return values[0], used


def _apply(sign: str, values: list[Fraction], text: str) -> None:
    b, a = values.pop(), values.pop()
    if sign == "/" and not b:
        raise Unreadable(text)
    values.append(
        a + b if sign == "+" else a - b if sign == "-" else a * b if sign == "*" else a / b
    )


class CryptoMath(ModelTask):
    """A sum of two words."""

    name = "crypto-math"
    category = "algorithms"
    rules = (
        "Each letter stands for a digit, different letters for different digits, and no number "
        "begins with 0. Find digits that make the sum right. Answer with letter=digit for every "
        "letter, separated by spaces."
    )

    def _generate(self, level: int, rng: Random) -> State | None:
        # Digits at which the solver's work was measured to rise.
        first, second = ((1, 1), (2, 2), (3, 2), (5, 5), (6, 5))[level - 1]
        a = rng.randrange(10 ** (first - 1), 10**first)
        b = rng.randrange(10 ** (second - 1), 10**second)
        letters = rng.sample("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 10)
        words = ["".join(letters[int(digit)] for digit in str(n)) for n in (a, b, a + b)]
        return {"words": words} if a and len(set("".join(words))) > 2 else None

    def _model(self, state: State) -> Model:
        words = state["words"]
        letters = sorted(set("".join(words)))
        width = len(words[2])
        model = Model([mask(range(10))] * len(letters) + [0b11] * (width + 1))
        model.domains[len(letters)] = model.domains[-1] = 1
        for word in words:
            # A lone 0 would be a number, but one that begins with 0.
            model.domains[letters.index(word[0])] &= ~1
        model.add(range(len(letters)), Different())
        for column in range(width):
            # The letters of a column, none where a word is shorter; carry in, carry out.
            symbols = [word[-1 - column] if column < len(word) else "" for word in words]
            distinct = list(dict.fromkeys(symbol for symbol in symbols if symbol))
            scope = [letters.index(symbol) for symbol in distinct]
            pattern = tuple(distinct.index(symbol) if symbol else None for symbol in symbols)
            carries = (len(letters) + column, len(letters) + column + 1)
            model.add((*scope, *carries), _column(pattern))
        return model

    def _variable(self, state: State, index: int) -> str:
        letters = sorted(set("".join(state["words"])))
        return letters[index] if index < len(letters) else f"carry {index - len(letters)}"

    def _write(self, state: State, values: list[int]) -> str:
        letters = sorted(set("".join(state["words"])))
        return " ".join(f"{x}={v}" for x, v in zip(letters, values, strict=False))

    def _check(self, state: State, answer: str) -> bool:
        words = state["words"]
        found = re.findall(r"([A-Z])\s*=\s*([0-9])(?![0-9])", answer)
        if re.sub(r"[A-Z]\s*=\s*[0-9](?![0-9])", "", answer).strip(" \t\r\n,;"):
            raise Unreadable(answer)
        digits = dict(found)
        if set(digits) != set("".join(words)) or len(found) > len(set(digits.values())):
            return False
        if any(digits[word[0]] == "0" for word in words):
            return False
        a, b, total = (int("".join(digits[letter] for letter in word)) for word in words)
        return a + b == total

    def _scene(self, state: State) -> Board:
        words = state["words"]
        width = len(words[2]) + 1
        table = [" " * (width - len(word)) + word for word in words]
        rows = [tuple(row.replace(" ", ".")) for row in table]
        rows[1] = ("+", *rows[1][1:])
        rows[2] = ("=", *rows[2][1:])
        return Board(tuple(rows), notes=(f"{words[0]} + {words[1]} = {words[2]}",))


@cache
def _column(pattern: tuple[int | None, ...]) -> Relation:
    """Digits of a column's distinct letters, carry in and carry out; a missing letter is 0."""
    distinct = 1 + max(place for place in pattern if place is not None)
    rows: list[Row] = []
    for digits in product(range(10), repeat=distinct):
        a, b, total = (0 if place is None else digits[place] for place in pattern)
        for carry in (0, 1):
            over, rest = divmod(a + b + carry, 10)
            if rest == total:
                rows.append((*digits, carry, over))
    return Relation(rows)
