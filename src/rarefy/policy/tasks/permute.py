"""Permute: follow symbols through a sequence of moves, that is, track a state.

    pbcda:xzy=   ->   x.acdb;z.bdca;y.dcab#dcab

Moves: ``u`` swaps the first two, ``v`` the last two, ``x`` the two ends; ``y`` turns left by one,
``w`` right by one; ``z`` reverses. The trace gives the state after each move. Levels: 2, 3, 4, 6, 8
moves of 4, 4, 5, 5, 5 symbols (of five symbols a guess is right one time in 120). Difficulty:
moves.
"""

from __future__ import annotations

import random
import re

from rarefy.policy.tasks._task import ILLEGAL, Draft, Grade, Task

_MOVES = (2, 3, 4, 6, 8)
_SYMBOLS = ("abcd", "abcd", "abcde", "abcde", "abcde")
_MOVE_LETTERS = "uvwxyz"
_FORM = re.compile(r"p[a-e]{4,5}:[u-z]+=")


def _move(state: str, letter: str) -> str:
    match letter:
        case "u":
            return state[1] + state[0] + state[2:]
        case "v":
            return state[:-2] + state[-1] + state[-2]
        case "w":
            return state[-1] + state[:-1]
        case "x":
            return state[-1] + state[1:-1] + state[0]
        case "y":
            return state[1:] + state[0]
        case _:
            return state[::-1]


def _states(start: str, moves: str) -> list[str]:
    states = []
    for letter in moves:
        start = _move(start, letter)
        states.append(start)
    return states


def _draw(level: int, rng: random.Random) -> Draft:
    symbols = _SYMBOLS[level - 1]
    start = "".join(rng.sample(symbols, len(symbols)))
    moves = "".join(rng.choice(_MOVE_LETTERS) for _ in range(_MOVES[level - 1]))
    states = _states(start, moves)
    trace = ";".join(f"{letter}.{state}" for letter, state in zip(moves, states, strict=True))
    return Draft(f"p{start}:{moves}=", trace, states[-1])


def _grade(prompt: str, answer: str) -> Grade:
    start, _, moves = prompt[1:-1].partition(":")
    if sorted(answer) != sorted(start):
        return ILLEGAL
    final = _states(start, moves)[-1]
    return Grade(1.0, sum(map(str.__eq__, answer, final)) / len(final))


def _difficulty(prompt: str) -> float:
    return len(prompt[1:-1].partition(":")[2])


PERMUTE = Task("permute", _FORM, _draw, _grade, _difficulty)
