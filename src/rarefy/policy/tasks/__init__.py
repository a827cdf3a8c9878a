"""Verifiable tasks: short problems as text, whose answers are checked by working them out.

``countdown``   reach a number with the given ones;
``calculator``  a chain of operations by calls of a tool;
``permute``     follow symbols through moves;
``sort``        digits in a rule's order;
``rewrite``     a string's normal form under rules;
``path``        a shortest way in a graph;
``sat``         bits that make every clause true;
``sudoku4``     sudoku of four by four;
``suite``       all of them, as rows for a trainer and as one reward;
``helix``       42 long-chain tasks with solvers of their own, a package beside these.

Each is a :class:`Task` of five levels, with verifier, partial credit and expert traces.
:data:`TASKS` has them all by name.
"""

from rarefy.policy.tasks._task import (
    LEVELS,
    Draft,
    Grade,
    Problem,
    Spans,
    Split,
    Task,
    hinted,
    spans,
    split_of,
    without_hint,
)
from rarefy.policy.tasks.calculator import CALCULATOR
from rarefy.policy.tasks.countdown import COUNTDOWN
from rarefy.policy.tasks.path import PATH
from rarefy.policy.tasks.permute import PERMUTE
from rarefy.policy.tasks.rewrite import REWRITE
from rarefy.policy.tasks.sat import SAT
from rarefy.policy.tasks.sort import SORT
from rarefy.policy.tasks.sudoku4 import SUDOKU4
from rarefy.policy.tasks.suite import (
    TASKS,
    as_dataset,
    credited,
    rows,
    task_of,
    verified,
    write_jsonl,
)

__all__ = [
    "CALCULATOR",
    "COUNTDOWN",
    "LEVELS",
    "PATH",
    "PERMUTE",
    "REWRITE",
    "SAT",
    "SORT",
    "SUDOKU4",
    "TASKS",
    "Draft",
    "Grade",
    "Problem",
    "Spans",
    "Split",
    "Task",
    "as_dataset",
    "credited",
    "hinted",
    "rows",
    "spans",
    "split_of",
    "task_of",
    "verified",
    "without_hint",
    "write_jsonl",
]
