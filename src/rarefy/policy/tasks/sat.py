"""Satisfiability: bits for the variables a, b, ... that make every clause true.

    kabc,a-b-c,ab-c,-ab-c,a-bc,-a-b-c=   ->   ?a1;?b0;c0#100

A clause is three literals, "-" before a variable that is to be false. The trace is unit propagation
towards a solution: "?" marks a choice, other assignments are forced by a clause. Levels: 3, 5, 8,
9, 10 variables. Difficulty: bits a guess must get right, -log2 of the share of assignments that
solve.
Departures: rather than at a fixed ratio, clauses are drawn, around a planted solution, until at
most one assignment in 4, 16, 128, 200, 400 is left, the best of eight each time; a ratio of 4
leaves so many solutions on this few variables that one guess in thirty is right.
"""

from __future__ import annotations

import math
import random
import re
from functools import cache

from rarefy.policy.tasks._task import ILLEGAL, Draft, Grade, Task

_VARIABLES = (3, 5, 8, 9, 10)
_ONE_IN = (4, 16, 128, 200, 400)
_CANDIDATES = 8
_FORM = re.compile(r"k(?:-?[a-j]){3}(?:,(?:-?[a-j]){3})*=")
_LITERAL = re.compile("-?[a-j]")

# A literal is (variable, value that makes it true); assignments are numbers, whose bit v is the
# value of variable v; a set of assignments is a number too, with a bit for each of its members.
Literal = tuple[int, bool]
Clause = tuple[Literal, ...]


@cache
def _assignments(variables: int, literal: Literal) -> int:
    """The set of assignments that make a literal true."""
    variable, value = literal
    members = (a for a in range(2**variables) if bool(a >> variable & 1) == value)
    return sum(1 << a for a in members)


@cache
def _satisfying(variables: int, clause: Clause) -> int:
    solutions = 0
    for literal in clause:
        solutions |= _assignments(variables, literal)
    return solutions


def _draw(level: int, rng: random.Random) -> Draft:
    variables = _VARIABLES[level - 1]
    planted = [rng.random() < 0.5 for _ in range(variables)]
    solutions = (1 << 2**variables) - 1
    clauses: list[Clause] = []
    while solutions.bit_count() > max(1, 2**variables // _ONE_IN[level - 1]):
        drawn = [_clause(planted, rng) for _ in range(_CANDIDATES)]
        best = min(drawn, key=lambda c: (solutions & _satisfying(variables, c)).bit_count())
        remaining = solutions & _satisfying(variables, best)
        if remaining != solutions:
            clauses.append(best)
            solutions = remaining
    if max(variable for clause in clauses for variable, _ in clause) < variables - 1:
        # The last variable is free, and the prompt would not show that there is one.
        return _draw(level, rng)
    shown = ",".join("".join(map(_show, clause)) for clause in clauses)
    answer = "".join("01"[value] for value in planted)
    return Draft(f"k{shown}=", _propagation(clauses, planted), answer)


def _clause(planted: list[bool], rng: random.Random) -> Clause:
    """A clause of three variables that the planted solution makes true."""
    chosen = sorted(rng.sample(range(len(planted)), 3))
    values = [rng.random() < 0.5 for _ in chosen]
    if all(planted[v] != value for v, value in zip(chosen, values, strict=True)):
        lucky = rng.randrange(3)
        values[lucky] = not values[lucky]
    return tuple(zip(chosen, values, strict=True))


def _show(literal: Literal) -> str:
    variable, value = literal
    return ("" if value else "-") + chr(ord("a") + variable)


def _propagation(clauses: list[Clause], planted: list[bool]) -> str:
    assigned: dict[int, bool] = {}
    steps = []
    while len(assigned) < len(planted):
        forced = _forced(clauses, assigned)
        if forced is None:
            variable = min(set(range(len(planted))) - set(assigned))
            forced, mark = (variable, planted[variable]), "?"
        else:
            mark = ""
        assigned[forced[0]] = forced[1]
        steps.append(f"{mark}{chr(ord('a') + forced[0])}{'01'[forced[1]]}")
    return ";".join(steps)


def _forced(clauses: list[Clause], assigned: dict[int, bool]) -> Literal | None:
    """The last literal left of the first clause that nothing makes true yet."""
    for clause in clauses:
        if not any(assigned.get(variable) == value for variable, value in clause):
            free = [literal for literal in clause if literal[0] not in assigned]
            if len(free) == 1:
                return free[0]
    return None


def _read(prompt: str) -> tuple[int, list[Clause]]:
    clauses = [
        tuple((ord(text[-1]) - ord("a"), len(text) == 1) for text in _LITERAL.findall(clause))
        for clause in prompt[1:-1].split(",")
    ]
    return 1 + max(variable for clause in clauses for variable, _ in clause), clauses


def _grade(prompt: str, answer: str) -> Grade:
    variables, clauses = _read(prompt)
    if len(answer) != variables or not set(answer) <= {"0", "1"}:
        return ILLEGAL
    true = sum(any((answer[v] == "1") == value for v, value in clause) for clause in clauses)
    return Grade(1.0, true / len(clauses))


def _difficulty(prompt: str) -> float:
    variables, clauses = _read(prompt)
    solutions = (1 << 2**variables) - 1
    for clause in clauses:
        solutions &= _satisfying(variables, clause)
    return variables - math.log2(solutions.bit_count())


SAT = Task("sat", _FORM, _draw, _grade, _difficulty)
