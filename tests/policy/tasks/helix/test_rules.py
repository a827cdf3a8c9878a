"""Verifiers on small positions whose right and wrong answers are known by hand."""

import pytest

from rarefy.policy.tasks.helix import get_task
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
    # Bridges of a plus sign cross.
    "bridges-crossing": (
        {"size": 3, "islands": [[0, 1, 1], [1, 0, 1], [1, 2, 1], [2, 1, 1]]},
        [],
        ["(1,2)-(3,2):1 (2,1)-(2,3):1"],
    ),
    "tapa": (
        {"size": 3, "clues": [[1, 1, [8]]]},
        ["111\n101\n111"],
        ["111\n111\n111", "111\n101\n110", "111 101 111"],
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
    "aquarium": (
        {
            "size": 2,
            "regions": [[[0, 0], [1, 0]], [[0, 1], [1, 1]]],
            "rows": [1, 1],
            "cols": [1, 1],
        },
        [],
        ["10\n01", "01\n10"],
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
    for suffix in ("-crossing", "-connected", "-grows"):
        name = name.removesuffix(suffix)
    task, problem = get_task(name), Problem(name, 1, "", state)
    for answer in right:
        assert task.verify(problem, answer), answer
    for answer in wrong:
        assert not task.verify(problem, answer), answer
    if right:
        assert task.verify(problem, task.solve(problem).answer)
