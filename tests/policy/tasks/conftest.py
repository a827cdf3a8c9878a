"""Verdicts on answers, worked out another way than the tasks' own verifiers do."""

import itertools
import re

import numpy as np
import pytest


def countdown(prompt, answer):
    numbers, target = re.fullmatch(r"n(.*)>(\d+)=", prompt).groups()
    tokens = re.findall(r"\d+|\D", answer)
    if "".join(tokens) != answer or len(tokens) % 2 == 0:
        return False
    if not all(t.isdigit() for t in tokens[::2]) or not set(tokens[1::2]) <= set("+-*"):
        return False
    nested = "(" * (len(tokens) // 2) + str(int(tokens[0]))
    for operator, number in zip(tokens[1::2], tokens[2::2], strict=True):
        nested += f"{operator}{int(number)})"
    used = sorted(map(int, tokens[::2])) == sorted(map(int, numbers.split(",")))
    return used and eval(nested) == int(target)


def calculator(prompt, answer):
    tokens = re.findall(r"\d+|\D", prompt[1:-1])
    nested = "(" * (len(tokens) // 2) + tokens[0]
    for operator, number in zip(tokens[1::2], tokens[2::2], strict=True):
        nested += f"{operator}{number})"
    return answer == str(eval(nested))


def permute(prompt, answer):
    start, moves = prompt[1:-1].split(":")
    n = len(start)
    identity = np.eye(n, dtype=int)
    matrices = {
        "u": identity[[1, 0, *range(2, n)]],
        "v": identity[[*range(n - 2), n - 1, n - 2]],
        "w": identity[[n - 1, *range(n - 1)]],
        "x": identity[[n - 1, *range(1, n - 1), 0]],
        "y": identity[[*range(1, n), 0]],
        "z": identity[::-1],
    }
    state = np.array([ord(symbol) for symbol in start])
    for move in moves:
        state = matrices[move] @ state
    return answer == "".join(map(chr, state))


def sort(prompt, answer):
    keys = {
        "a": lambda d: d,
        "d": lambda d: -d,
        "e": lambda d: (d % 2, d),
        "o": lambda d: (1 - d % 2, d),
    }
    digits = sorted(map(int, prompt[2:-1]), key=keys[prompt[1]])
    return answer == "".join(map(str, digits))


def rewrite(prompt, answer):
    rules, string = prompt[1:-1].split(":")
    # The first rule that matches goes first; re.sub with count 1 takes the leftmost place.
    while True:
        for rule in rules.split(","):
            left, right = rule.split(">")
            following, changed = re.subn(left, right, string, count=1)
            if changed:
                string = following
                break
        else:
            return answer == string


def path(prompt, answer):
    edges, ends = prompt[1:-1].split(">")
    nodes = sorted(set(edges) - {","})
    distance = np.full((len(nodes), len(nodes)), np.inf)
    for edge in edges.split(","):
        a, b = map(nodes.index, edge)
        distance[a, b] = distance[b, a] = 1
    adjacent = distance == 1
    np.fill_diagonal(distance, 0)
    for k in range(len(nodes)):
        distance = np.minimum(distance, distance[:, k, None] + distance[k])
    if not set(answer) <= set(nodes) or not answer or answer[0] + answer[-1] != ends:
        return False
    steps = [tuple(map(nodes.index, step)) for step in itertools.pairwise(answer)]
    a, b = map(nodes.index, ends)
    return all(adjacent[step] for step in steps) and len(steps) == distance[a, b]


def sat(prompt, answer):
    if not re.fullmatch("[01]+", answer) or len(answer) != ord(max(prompt[1:])) - ord("a") + 1:
        return False
    true = {chr(ord("a") + i) if bit == "1" else "-" + chr(ord("a") + i)
            for i, bit in enumerate(answer)}  # fmt: skip
    return all(true & set(re.findall("-?[a-z]", c)) for c in prompt[1:-1].split(","))


def sudoku4(prompt, answer):
    if not re.fullmatch("[1-4]{16}", answer):
        return False
    given = all(shown in (".", cell) for shown, cell in zip(prompt[1:-1], answer, strict=True))
    grid = np.array(list(answer)).reshape(4, 4)
    boxes = [grid[r : r + 2, c : c + 2].ravel() for r in (0, 2) for c in (0, 2)]
    return given and all(len(set(unit)) == 4 for unit in [*grid, *grid.T, *boxes])


REFERENCE = {
    "countdown": countdown,
    "calculator": calculator,
    "permute": permute,
    "sort": sort,
    "rewrite": rewrite,
    "path": path,
    "sat": sat,
    "sudoku4": sudoku4,
}


@pytest.fixture(scope="session")
def reference():
    """By task, ``(prompt, answer) -> bool``."""
    return REFERENCE
