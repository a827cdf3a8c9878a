"""Verifiers on small positions whose right and wrong answers are known by hand."""

import pytest

from rarefy.policy.tasks.helix import get_task, list_tasks
from rarefy.policy.tasks.helix.task import Problem

CASES = {
    # A loop round one square of a 3 by 3 grid: both its corner circles turn, 1 + 1.
    "shingoki": (
        {"size": 3, "circles": [[0, 0, "b", 4], [0, 1, "w", 2]]},
        [
            "(1,1) (1,2) (1,3) (2,3) (3,3) (3,2) (3,1) (2,1)",
            "(1,1)(2,1)(3,1)(3,2)(3,3)(2,3)(1,3)(1,2)",
        ],
        [
            "(1,1) (1,2) (2,2) (2,1)",
            "(1,1) (1,2) (1,3)",
            "(1,1) (1,2) (1,3) (2,3) (3,3) (3,2) (3,1)",
        ],
    ),
    "snake": (
        {"size": 3, "ends": [[0, 0], [2, 2]], "rows": [1, 1, 3], "cols": [3, 1, 1]},
        ["(1,1) (2,1) (3,1) (3,2) (3,3)"],
        [
            "(3,3) (3,2) (3,1) (2,1) (1,1)",
            "(1,1) (2,1) (2,2) (3,2) (3,3)",
            "(1,1) (3,1) (3,2) (3,3)",
        ],
    ),
    "snake-beside-itself": (
        {"size": 3, "ends": [[0, 0], [1, 0]], "rows": [2, 2, 0], "cols": [2, 2, 0]},
        [],
        ["(1,1) (1,2) (2,2) (2,1)"],
    ),
    "snake-by-a-corner": (
        {"size": 3, "ends": [[1, 0], [2, 1]], "rows": [3, 2, 2], "cols": [2, 2, 3]},
        [],
        ["(2,1) (1,1) (1,2) (1,3) (2,3) (3,3) (3,2)"],
    ),
    "bridges": (
        {"size": 3, "islands": [[0, 0, 3], [0, 2, 2], [2, 0, 2], [2, 2, 1]]},
        [
            "(1,1)-(1,3):2\n(3,1)-(1,1):1\n(3,1)-(3,3):1",
            "(1,1)-(1,3):1 (1,3)-(3,3):1 (1,1)-(3,1):2",
        ],
        [
            "(1,1)-(1,3):2 (1,1)-(3,1):1",
            "(1,1)-(3,3):1 (1,1)-(1,3):2 (3,1)-(3,3):1",
            "(1,1)-(1,3):3",
            "(1,1)-(1,3):1 (1,3)-(1,1):1 (3,1)-(1,1):1 (3,1)-(3,3):1",
        ],
    ),
    # All is joined and counted, but two bridges cross in the middle.
    "bridges-crossing": (
        {"size": 5, "islands": [[0, 0, 2], [0, 2, 2], [2, 0, 2], [2, 4, 1], [4, 2, 1]]},
        [],
        ["(1,1)-(1,3):1 (1,1)-(3,1):1 (1,3)-(5,3):1 (3,1)-(3,5):1"],
    ),
    "tapa": (
        {"size": 3, "clues": [[1, 1, [8]]]},
        ["111\n101\n111"],
        ["111\n111\n111", "111\n101\n110", "111 101 111"],
    ),
    "tapa-squares": (
        {"size": 3, "clues": [[0, 2, [1]]]},
        ["000\n110\n000", "010\n000\n000"],
        ["000\n110\n110", "010\n010\n000", "000\n010\n001"],
    ),
    "hitori": (
        {"size": 3, "numbers": [[1, 1, 2], [2, 3, 1], [3, 2, 1]]},
        ["100\n000\n001", "0 1 0\n0 0 0\n0 0 1"],
        ["100\n000\n000", "010\n000\n000", "110\n000\n001", "100\n002\n000"],
    ),
    # Nothing repeats, so nothing need be shaded, but two shaded cells would cut off a corner.
    "hitori-connected": (
        {"size": 3, "numbers": [[1, 2, 3], [2, 3, 1], [3, 1, 2]]},
        ["000\n000\n000", "010\n000\n000"],
        ["010\n100\n000"],
    ),
    "hanoi": (
        {"disks": 2, "pegs": [1, 1]},
        ["1-2 1-3 2-3", "1-3 3-2 1-3, 2-3"],
        ["1-3 1-3", "1-2 1-2", "1-2 1-3", "1-1", "1-2 1-3 2-4"],
    ),
    "maze": (
        {"size": 5, "rows": ["#####", "#S..#", "###.#", "###E#", "#####"]},
        ["R R D D", "rrdd", "RLRRDD"],
        ["D", "R R D", "U", "R R R", "RRDX"],
    ),
    # The snake's tail makes room; on an apple it does not.
    "nibbles": (
        {"size": 3, "body": [[0, 0], [0, 1], [1, 1], [1, 0]], "apples": [[2, 0]]},
        ["D D"],
        ["R", "U", "D", "D D D"],
    ),
    "nibbles-grows": (
        {"size": 3, "body": [[0, 0], [0, 1], [0, 2]], "apples": [[1, 0], [1, 1]]},
        ["D R", "D R R"],
        ["D R U", "D", ""],
    ),
    "sokoban": (
        {"rows": ["######", "#@$.o#", "######"]},
        ["R R", "rr"],
        ["R", "R R R", "L", "D"],
    ),
    "sliding-puzzle": (
        {"tiles": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0, 14, 15]},
        ["R R", "L R R R"],
        ["R", "L L", "R L", "D"],
    ),
    "minesweeper": (
        {"size": 2, "mines": 1, "numbers": [[0, 0, 1]]},
        ["(1,2)", "(2,1)", "(2,2)"],
        ["(1,1)", "(1,2) (2,1)", "(3,3)", ""],
    ),
    "word-search": (
        {"size": 3, "grid": ["cat", "aaa", "tat"], "words": ["cat", "tat"]},
        ["cat (1,1)-(1,3)\ntat (3,1)-(3,3)", "CAT (1,1)-(3,1)\ntat (1,3) - (3,1)"],
        ["cat (1,1)-(1,3)", "cat (1,1)-(1,3)\ntat (1,1)-(1,3)", "cat (1,1)-(2,3)\ntat (3,1)-(3,3)"],
    ),
    "shortest-path": (
        {
            "nodes": 4,
            "edges": [[0, 1, 1], [1, 3, 1], [0, 2, 1], [2, 3, 1], [0, 3, 3]],
            "from": 0,
            "to": 3,
        },
        ["0 1 3", "0,2,3"],
        ["0 3", "0 1 2 3", "1 3", "0 1"],
    ),
    "eulerian-path": (
        {"nodes": 3, "edges": [[0, 1], [1, 2]]},
        ["0 1 2", "2 1 0"],
        ["0 1", "0 1 2 1", "0 2 1"],
    ),
    "twenty-four": (
        {"values": [3, 3, 8, 8]},
        ["8/(3-8/3)", "(8) / (3 - (8/3))"],
        ["8*3", "24", "8/(3-8/3)+0", "8+8+3+3"],
    ),
    "crypto-math": (
        {"words": ["AB", "AB", "CD"]},
        ["A=1 B=3 C=2 D=6", "A = 3, B=1, C=6, D=2"],
        [
            "A=1 B=2 C=2 D=4",
            "A=0 B=3 C=2 D=6",
            "A=1 B=3 C=2",
            "A=1 B=3 C=2 D=6 E=7",
            "A=1 B=3 C=2 D=60",
        ],
    ),
    "kakuro": (
        {"size": 3, "plan": [[0, 0, 0], [0, 1, 1], [0, 1, 1]], "sums": [3, 3, 3, 3]},
        ["# # #\n# 1 2\n# 2 1", "###\n#21\n#12"],
        ["# # #\n# 1 2\n# 1 2", "# # #\n# 3 0\n# 0 3", "1 # #\n# 1 2\n# 2 1"],
    ),
    "campsite": (
        {"size": 4, "trees": [[0, 0], [2, 2]], "rows": [1, 0, 1, 0], "cols": [0, 2, 0, 0]},
        ["(1,2) (3,2)", "(3,2),(1,2)"],
        ["(1,2)", "(1,2) (1,2)", "(1,2) (2,2)", "(9,9) (1,2)"],
    ),
    "campsite-apart": (
        {"size": 4, "trees": [[0, 0], [1, 3]], "rows": [1, 1, 0, 0], "cols": [0, 1, 1, 0]},
        [],
        ["(1,2) (2,3)"],
    ),
    "aquarium": (
        {
            "size": 2,
            "regions": [[[0, 0], [1, 0]], [[0, 1], [1, 1]]],
            "rows": [1, 1],
            "cols": [1, 1],
        },
        [],
        ["10\n01", "01\n10", "11\n00"],
    ),
    "aquarium-wide": (
        {
            "size": 2,
            "regions": [[[0, 0], [0, 1]], [[1, 0], [1, 1]]],
            "rows": [2, 0],
            "cols": [1, 1],
        },
        ["11\n00"],
        ["00\n11", "10\n01"],
    ),
    "topological-sort": (
        {"nodes": 3, "edges": [[0, 2]]},
        ["0 1 2", "1 0 2", "0 2 1"],
        ["2 0 1", "0 2", "0 1 2 2", "0 1 3"],
    ),
    "word-ladder": (
        {"from": "cat", "to": "cog", "words": ["cat", "cog", "cot", "dog", "cut"]},
        ["cat cot cog", "CAT cut cot cog"],
        ["cat cog", "cat cot dot dog cog", "cat cot", "cot cog", "cat cats cot cog"],
    ),
    "eulerian-cycle": (
        {"nodes": 3, "edges": [[0, 1], [0, 2], [1, 2]]},
        ["0 1 2 0", "1 0 2 1"],
        ["0 1 2", "0 1 0 2 0", "0"],
    ),
    "hamiltonian-path": (
        {"nodes": 4, "edges": [[0, 1], [1, 2], [1, 3], [2, 3]]},
        ["0 1 2 3", "0 1 3 2", "2 3 1 0"],
        ["1 0 2 3", "0 1 2", "0 1 2 3 1"],
    ),
    "hamiltonian-cycle": (
        {"nodes": 4, "edges": [[0, 1], [0, 3], [1, 2], [1, 3], [2, 3]]},
        ["0 1 2 3 0", "2 1 0 3 2"],
        ["0 1 2 3", "0 1 3 2 0", "0 1 0 3 0"],
    ),
    "max-flow": (
        {"nodes": 4, "edges": [[0, 1, 3], [0, 2, 2], [1, 2, 2], [1, 3, 1], [2, 3, 3]]},
        ["4", " 4\n"],
        ["5", "3", "4.0", "four", "04 4"],
    ),
    # The first path found must be taken back in part.
    "max-flow-residual": (
        {
            "nodes": 6,
            "edges": [[0, 1, 1], [0, 2, 1], [1, 3, 1], [1, 4, 1], [2, 3, 1], [3, 5, 1], [4, 5, 1]],
        },
        ["2"],
        ["1", "3"],
    ),
    "graph-isomorphism": (
        {"nodes": 3, "first": [[0, 1], [1, 2]], "second": [[0, 1], [0, 2]]},
        ["b a c", "c a b"],
        ["a b c", "b a", "b a a", "b a d"],
    ),
    "numbrix": (
        {"size": 2, "givens": [[1, 0], [0, 0]]},
        ["1 2\n4 3", "1 4\n2 3"],
        ["1 2\n3 4", "2 1\n3 4", "1 2\n4 4"],
    ),
    "futoshiki": (
        {"size": 2, "givens": [[0, 0], [0, 0]], "less": [[0, 0, 0, 1]]},
        ["1 2\n2 1", "12\n21"],
        ["2 1\n1 2", "1 2\n1 2", "1 2"],
    ),
    "calcudoku": (
        {
            "size": 2,
            "givens": [[0, 0], [0, 0]],
            "cages": [
                {"cells": [[0, 0], [0, 1]], "operation": "/", "target": 2},
                {"cells": [[1, 0], [1, 1]], "operation": "-", "target": 1},
            ],
        },
        ["1 2\n2 1", "2 1\n1 2"],
        ["1 2\n1 2", "1 1\n2 2"],
    ),
    "skyscrapers": (
        {
            "size": 2,
            "givens": [[0, 0], [0, 0]],
            "above": [2, 1],
            "below": [1, 2],
            "left": [2, 1],
            "right": [1, 2],
        },
        ["1 2\n2 1"],
        ["2 1\n1 2", "1 2\n1 2"],
    ),
    "binairo": (
        {"size": 4, "givens": [[0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]},
        ["0011\n1100\n0101\n1010", "0101\n0011\n1100\n1010"],
        # Two equal rows; a given changed; three alike in a column; unbalanced.
        [
            "0011\n1100\n0011\n1100",
            "1100\n0011\n1010\n0101",
            "0011\n0101\n0110\n1010",
            "1111\n" * 4,
        ],
    ),
    "kukurasu": (
        {"size": 2, "rows": [2, 1], "cols": [2, 1]},
        ["0 1\n1 0"],
        ["1 0\n0 1", "1 1\n1 0"],
    ),
    "nonogram": (
        {"size": 3, "rows": [[1, 1], [], [1]], "cols": [[1], [1], [1]]},
        ["101\n000\n010"],
        ["101\n010\n000", "110\n000\n001", "111\n000\n010"],
    ),
    "eulero": (
        {"size": 3, "givens": [[1, 0, 0], [0, 0, 0], [0, 0, 0]]},
        ["A1 B2 C3\nB3 C1 A2\nC2 A3 B1"],
        [
            "A1 B2 C3\nB3 C1 A2\nC2 A3 B2",
            "A1 B2 C3\nB2 C3 A1\nC3 A1 B2",
            "B2 A1 C3\nC1 B3 A2\nA3 C2 B1",
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_right_and_wrong_answers(name):
    state, right, wrong = CASES[name]
    # Further cases of a task are named after it.
    name = max((task for task in list_tasks() if name.startswith(task)), key=len)
    task, problem = get_task(name), Problem(name, 1, "", state)
    for answer in right:
        assert task.verify(problem, answer), answer
    for answer in wrong:
        assert not task.verify(problem, answer), answer
    if right:
        assert task.verify(problem, task.solve(problem).answer)


def test_sudoku_asks_for_boxes_too():
    blank = {"size": 9, "givens": [[0] * 9 for _ in range(9)]}
    problem = Problem("sudoku", 1, "", blank)
    right = [[(3 * (r % 3) + r // 3 + c) % 9 + 1 for c in range(9)] for r in range(9)]
    cyclic = [[(r + c) % 9 + 1 for c in range(9)] for r in range(9)]
    task = get_task("sudoku")
    text, wrong = ("\n".join("".join(map(str, row)) for row in grid) for grid in (right, cyclic))
    assert task.verify(problem, text)
    assert not task.verify(problem, wrong)
    blank["givens"][0][0] = right[0][0] % 9 + 1
    assert not task.verify(problem, text)


def test_every_task_but_the_lists_has_a_case():
    known = {name for case in CASES for name in list_tasks() if case.startswith(name)}
    lists = set(list_tasks("algorithms")) - {"crypto-math", "twenty-four"}
    assert known | lists | {"sudoku"} == set(list_tasks())
