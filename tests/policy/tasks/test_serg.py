"""SERG: walks that are true, branches that were really taken, and traces that verify."""

import random

import pytest

from rarefy.policy.tasks import COUNTDOWN, TASKS, Problem, helix, serg
from rarefy.policy.tasks.helix import Anchor
from rarefy.policy.tasks.serg import (
    CHARACTERS,
    MARK,
    Reflect,
    Skeleton,
    build,
    reflecting,
    search,
    skeleton,
    wrong_branches,
)

HELIX = [
    helix.draw(helix.get_task(name), level, 0) for name in helix.list_tasks() for level in (1, 2)
]


def some(task, n=40):
    rng = random.Random(0)
    return [task.sample(1 + i % 4, rng) for i in range(n)]


def test_every_trace_of_every_task_verifies():
    suite = [problem for task in TASKS.values() for problem in some(task, 8)]
    rows = build([*suite, *HELIX], verified_only=False)
    assert all(row["accepted"] for row in rows) and len(rows) == len(suite) + len(HELIX)
    for row, problem in zip(rows, [*suite, *HELIX], strict=True):
        assert row["prompt"] == problem.prompt and row["completion"].endswith(row["answer"])


def test_what_a_polisher_gets_wrong_is_left_out():
    problems = [*some(COUNTDOWN, 4), *HELIX[:4]]

    def careless(question, skeleton):
        mark = "#" if question.endswith("=") else MARK
        wrong = len(question) % 2 == 0
        return "hm" + mark + ("?" if wrong else skeleton.answer)

    kept = build(problems, polish=careless)
    assert [row["prompt"] for row in kept] == [p.prompt for p in problems if len(p.prompt) % 2]
    assert 0 < len(kept) < len(problems)
    assert build(problems, polish=careless, workers=3) == kept
    assert len(build(problems, polish=lambda *_: "no answer", verified_only=False)) == 8
    assert not build(problems, polish=lambda *_: "no answer")


def totals_of(branch):
    """Work a branch out by another road: eval, step by step."""
    first, *rest = branch.split(";")
    value = int(first)
    for step in rest:
        shown, _, total = step.partition(".")
        value = eval(f"{value}{shown}", {})
        assert value == int(total), branch
    return value


def test_wrong_branches_of_countdown_are_worked_out_and_miss_the_target():
    seen = 0
    for problem in some(COUNTDOWN):
        target = int(problem.prompt[1:-1].partition(">")[2])
        told = reflecting(problem, branches=3, seed=5)
        assert COUNTDOWN.verify(told.prompt, told.completion)
        *wrong, right = told.trace.split(";!;")
        assert totals_of(right) == target and target not in map(totals_of, wrong)
        assert len(wrong) <= 3
        seen += len(wrong)
    assert seen > 20


def test_the_search_finds_what_there_is_and_says_where_there_is_nothing():
    for problem in some(COUNTDOWN):
        found = search(problem.prompt, seed=1)
        assert COUNTDOWN.verify(problem.prompt, f"#{found.answer}")
        tries = sum(a.kind == "try" for a in found.anchors)
        assert tries == sum(a.kind == "retract" for a in found.anchors)
    assert search("n2,3>6=", seed=1) == search("n2,3>6=", seed=1)
    with pytest.raises(ValueError, match="has no solution"):
        search("n1,1>9=")


def test_outermost_branches():
    kinds = ["try", "state", "try", "retract", "retract", "try", "try", "retract", "state"]
    anchors = [Anchor(kind, str(i)) for i, kind in enumerate(kinds)]
    assert wrong_branches(anchors) == [(0, 4), (6, 7)]
    text = Reflect(0, CHARACTERS)("q", Skeleton(tuple(anchors), "x"))
    assert text == "5;8#x"


def test_traces_of_prose_take_back_what_the_solver_took_back():
    problem = helix.draw(helix.get_task("word-ladder"), 2, 0)
    walked = skeleton(problem)
    text = Reflect(branches=2, seed=2)(problem.prompt, walked)
    assert text == Reflect(branches=2, seed=2)(problem.prompt, walked)
    assert text != Reflect(branches=2, seed=3)(problem.prompt, walked)
    assert len(wrong_branches(walked.anchors)) > 2
    taken_back = [a.text for a in walked.anchors if a.kind == "retract" and a.text in text]
    assert len(taken_back) <= 2


def test_bad_input():
    with pytest.raises(ValueError, match="branches is -1"):
        Reflect(branches=-1)
    with pytest.raises(ValueError, match="workers is 0"):
        build([], workers=0)
    with pytest.raises(ValueError, match="task is 'chess'"):
        skeleton(Problem("chess", 1, "p=", "", ""))
    assert not serg.verify(HELIX[0], "no mark")
