"""SERG: traces that reflect, made from a solver's log, and kept only if their answer verifies.

    1. skeleton    a rule-based walk of the solver: states, choices tried, choices taken back
    2. polish      question and skeleton to a natural trace that ends in an answer
    3. verify      keep the trace only if that answer is right

A polisher is any callable, such as a language model's. :class:`Reflect`, which needs none, tells
some of the wrong branches that the solver really took, each with its retraction, before the right
one: backtracking that is true by construction. Countdown's solver is here (:func:`search`), those
of the 42 tasks are in ``helix``; the other tasks of the suite have an expert's steps without wrong
turns.

Source: MM-HELIX (arXiv 2510.08540, section 4.1), step-elicited response generation. Departures: the
offline polisher; the paper's is Qwen3-235B.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Any, NamedTuple

from rarefy.policy.tasks import helix
from rarefy.policy.tasks._arithmetic import OPERATORS, totals
from rarefy.policy.tasks._task import Problem
from rarefy.policy.tasks.helix import Anchor
from rarefy.policy.tasks.suite import TASKS

AnyProblem = Problem | helix.Problem


class Skeleton(NamedTuple):
    """What a solver did, and its answer."""

    anchors: tuple[Anchor, ...]
    answer: str


Polish = Callable[[str, Skeleton], str]
"""``polish(question, skeleton)`` is a text whose answer stands behind the last :data:`MARK`, or
behind its single "#" for the tasks of the suite."""

MARK = "Answer:\n"


def skeleton(problem: AnyProblem, *, seed: int = 0) -> Skeleton:
    """Walk the solver.

    Parameters
    ----------
    problem : Problem
        Of the suite or of helix.
    seed : int, default 0
        Of the order in which countdown's solver tries.

    Raises
    ------
    ValueError
        If the problem's task is unknown.
    """
    if isinstance(problem, helix.Problem):
        solution = helix.get_task(problem.task).solve(problem)
        return Skeleton(solution.anchors, solution.answer)
    if problem.task not in TASKS:
        raise ValueError(f"task is {problem.task!r}; one of {', '.join(TASKS)} is wanted")
    if problem.task == "countdown":
        return search(problem.prompt, seed=seed)
    steps = tuple(Anchor("state", step) for step in problem.trace.split(";"))
    return Skeleton(steps, problem.answer)


def search(prompt: str, *, seed: int = 0) -> Skeleton:
    """Solve countdown by trying every order of numbers and operators, in a seeded order.

    Each wrong try is worked out to its end and taken back; totals stay in 0 to 99, as the task's.

    Raises
    ------
    ValueError
        If no such expression reaches the target.

    Examples
    --------
    >>> for anchor in search("n2,3>6=").anchors:
    ...     print(*anchor)
    try 3;+2.5
    retract 5
    state 3
    state *2.6
    """
    shown, _, target = prompt[1:-1].partition(">")
    given = [int(number) for number in shown.split(",")]
    ways = [
        (order, "".join(operators))
        for order in sorted(set(permutations(given)))
        for operators in product(OPERATORS, repeat=len(given) - 1)
    ]
    random.Random(f"{seed} {prompt}").shuffle(ways)
    anchors: list[Anchor] = []
    for order, operators in ways:
        running = totals(order, operators)
        if not all(0 <= total <= 99 for total in running):
            continue
        steps = [str(order[0])]
        steps += [f"{o}{n}.{t}" for o, n, t in zip(operators, order[1:], running[1:], strict=True)]
        if running[-1] == int(target):
            told = (*anchors, *(Anchor("state", step) for step in steps))
            answer = str(order[0]) + "".join(
                f"{o}{n}" for o, n in zip(operators, order[1:], strict=True)
            )
            return Skeleton(told, answer)
        anchors += [Anchor("try", ";".join(steps)), Anchor("retract", str(running[-1]))]
    raise ValueError(f"prompt {prompt!r} has no solution with totals from 0 to 99")


@dataclass(frozen=True)
class Style:
    """How anchors are put into words: templates with one ``{}`` each, and what joins them."""

    state: tuple[str, ...]
    attempt: tuple[str, ...]
    retract: tuple[str, ...]
    join: str
    answer: str


PROSE = Style(
    state=("{}.", "So {}.", "This gives {}.", "Next, {}.", "It follows that {}."),
    attempt=("Suppose: {}.", "Let me see: {}.", "One way on: {}.", "What of this: {}?"),
    retract=("No: {}. Back.", "That fails: {}. I take it back.", "Wait, {}. Another way, then."),
    join="\n",
    answer=f"\n\n{MARK}",
)
CHARACTERS = Style(("{}",), ("{}",), ("!",), ";", "#")
"""For character policies; "!" takes a branch back."""


@dataclass(frozen=True)
class Reflect:
    """The offline polisher: tell up to so many wrong branches before the right one.

    Parameters
    ----------
    branches : int, default 2
        At most; how many is drawn evenly from 0 to that for each problem, and which are, by chance.
    style : Style, default :data:`PROSE`
    seed : int, default 0

    Examples
    --------
    >>> Reflect(style=CHARACTERS, seed=1)("n2,3>6=", search("n2,3>6="))
    '3;+2.5;!;3;*2.6#3*2'
    """

    branches: int = 2
    style: Style = PROSE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.branches < 0:
            raise ValueError(f"branches is {self.branches}; at least 0 is wanted")

    def __call__(self, question: str, skeleton: Skeleton) -> str:
        """Write the trace and, behind it, the answer."""
        rng = random.Random(f"{self.seed} {question}")
        wrong = wrong_branches(skeleton.anchors)
        told = rng.sample(wrong, min(len(wrong), rng.randint(0, self.branches)))
        left_out = [span for span in wrong if span not in told]
        dropped = {place for start, end in left_out for place in range(start, end + 1)}
        templates = {
            "state": self.style.state,
            "try": self.style.attempt,
            "retract": self.style.retract,
        }
        lines = [
            rng.choice(templates[anchor.kind]).format(anchor.text)
            for place, anchor in enumerate(skeleton.anchors)
            if place not in dropped
        ]
        return self.style.join.join(lines) + self.style.answer + skeleton.answer


def wrong_branches(anchors: Sequence[Anchor]) -> list[tuple[int, int]]:
    """Where each branch that was taken back begins and ends; of nested ones the outermost.

    Examples
    --------
    >>> wrong_branches([Anchor("try", "a"), Anchor("try", "b"), Anchor("retract", "b")])
    [(1, 2)]
    """
    open_: list[int] = []
    closed: list[tuple[int, int]] = []
    for place, anchor in enumerate(anchors):
        if anchor.kind == "try":
            open_.append(place)
        elif anchor.kind == "retract" and open_:
            start = open_.pop()
            closed = [span for span in closed if span[0] < start]
            closed.append((start, place))
    return closed


def verify(problem: AnyProblem, text: str) -> bool:
    """Whether a polished text ends in a right answer; its trace is not judged."""
    if isinstance(problem, helix.Problem):
        _, mark, answer = text.rpartition(MARK)
        return bool(mark) and helix.get_task(problem.task).verify(problem, answer)
    return TASKS[problem.task].verify(problem.prompt, text) == 1


def build(
    problems: Iterable[AnyProblem],
    *,
    polish: Polish | None = None,
    seed: int = 0,
    workers: int = 1,
    verified_only: bool = True,
) -> list[dict[str, Any]]:
    """Traces for problems, as rows for a trainer.

    Parameters
    ----------
    problems : iterable of Problem
        Of the suite or of helix, or both.
    polish : callable, optional
        See :data:`Polish`. :class:`Reflect` by default, in the style of the task. One that raises
        stops the work.
    seed : int, default 0
    workers : int, default 1
        Threads that polish at a time, for polishers that wait for a server.
    verified_only : bool, default True
        Leave out traces whose answer is wrong.

    Returns
    -------
    list of dict
        In the problems' order, with ``prompt``, ``completion``, ``trace``, ``answer``, ``task``,
        ``level`` and ``accepted``.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least 1 is wanted")

    def row(problem: AnyProblem) -> dict[str, Any]:
        chars = isinstance(problem, Problem)
        write = Reflect(style=CHARACTERS if chars else PROSE, seed=seed)
        text = (polish or write)(problem.prompt, skeleton(problem, seed=seed))
        trace, _, answer = text.rpartition("#" if chars else MARK)
        return {
            "prompt": problem.prompt,
            "completion": text,
            "trace": trace.rstrip("\n"),
            "answer": answer,
            "task": problem.task,
            "level": problem.level,
            "accepted": verify(problem, text),
        }

    if workers == 1:
        rows = [row(problem) for problem in problems]
    else:
        with ThreadPoolExecutor(workers) as pool:
            rows = list(pool.map(row, problems))
    return [row for row in rows if row["accepted"] or not verified_only]


def reflecting(problem: Problem, *, branches: int = 2, seed: int = 0) -> Problem:
    """The same problem of the suite with a polished trace, and the answer that it leads to."""
    walked = skeleton(problem, seed=seed)
    text = Reflect(branches, CHARACTERS, seed)(problem.prompt, walked)
    trace, _, answer = text.rpartition("#")
    return replace(problem, trace=trace, answer=answer)
