"""The 42 long-chain reflective tasks of MM-HELIX: generate, solve, verify, draw.

``task``        what a task is: sample, solve, verify, skeleton, render;
``answers``     reading and writing answers;
``scenes``      boards, networks and bars, as text and as images;
``csp``         finite-domain search, the solver of every puzzle;
``cells``       tasks solved by a model, and boards of cells;
``cycles``      cycles made of edges;
``search``      best-first search, the solver of every game of moves;
``lists``       seven algorithms on a list of numbers;
``arithmetic``  twenty-four and crypto-math;
``networks``    shortest paths, flows, orders, Eulerian walks, isomorphism;
``routes``      Hamiltonian paths and cycles, numbrix;
``latin``       sudoku, futoshiki, calcudoku, skyscrapers;
``digits``      eulero, kakuro;
``shading``     binairo, kukurasu, nonogram, aquarium, campsite, minesweeper;
``walls``       hitori and tapa, whose cells hang together;
``loops``       bridges and shingoki;
``snake``       the snake puzzle;
``words``       word ladders and word searches, over ``vocabulary``;
``games``       hanoi, maze, nibbles;  ``pushing``  the sliding puzzle and sokoban;
``catalogue``   the tasks by name;
``publish``     JSON lines, images and the sample page.

Source: MM-HELIX (arXiv 2510.08540), section 3.
"""

from rarefy.policy.tasks.helix.catalogue import get_task, list_tasks
from rarefy.policy.tasks.helix.publish import draw, export, sample_page
from rarefy.policy.tasks.helix.task import Anchor, GenerationError, Problem, Solution, Task

__all__ = [
    "Anchor",
    "GenerationError",
    "Problem",
    "Solution",
    "Task",
    "draw",
    "export",
    "get_task",
    "list_tasks",
    "sample_page",
]
