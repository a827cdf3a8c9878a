"""Problems come in the same order from wherever one goes on, from one source or several."""

import json

import pytest

from rarefy.policy.problems import RowProblems, StagedProblems, TaskProblems, read_jsonl
from rarefy.policy.tasks import COUNTDOWN, SORT

SHARES = {(COUNTDOWN, 2): 1.0, (SORT, 4): 3.0}


def source(level):
    return TaskProblems({(COUNTDOWN, level): 1.0}, seed=level)


def staged():
    return StagedProblems([source(1), source(2), source(4)], [3, 4])


def test_each_source_gives_its_problems_in_turn():
    alone = [*source(1).draw(3), *source(2).draw(4), *source(4).draw(5)]
    for size in (1, 2, 3, 4, 6, 12):
        problems = staged()
        drawn = [p for _ in range(12 // size) for p in problems.draw(size)]
        assert drawn == alone
    assert problems.stage == 2


def test_the_stage_is_that_of_the_next_problem():
    problems = staged()
    stages = []
    for _ in range(9):
        stages.append(problems.stage)
        problems.draw(1)
    assert stages == [0] * 3 + [1] * 4 + [2] * 2


@pytest.mark.parametrize("done", range(10))
def test_a_source_that_was_stopped_goes_on(done):
    whole, stopped, resumed = staged(), staged(), staged()
    whole.draw(done)
    stopped.draw(done)
    resumed.load_state_dict(stopped.state_dict())
    assert resumed.draw(6) == whole.draw(6)


@pytest.mark.parametrize("counts", [[], [3], [3, 4, 5], [3, 0]])
def test_stages_without_their_counts_are_refused(counts):
    with pytest.raises(ValueError, match="3 stages"):
        StagedProblems([source(1), source(2), source(4)], counts)


def test_tasks_problems_are_a_function_of_seed_and_place():
    whole = TaskProblems(SHARES, seed=1).draw(20)
    parts = TaskProblems(SHARES, seed=1)
    assert parts.draw(3) + parts.draw(17) == whole
    resumed = TaskProblems(SHARES, seed=1)
    resumed.load_state_dict({"drawn": 5})
    assert resumed.draw(15) == whole[5:]
    assert TaskProblems(SHARES, seed=2).draw(20) != whole
    many = TaskProblems(SHARES, seed=0).draw(400)
    assert sum(p.task == "sort" for p in many) / 400 == pytest.approx(0.75, abs=0.07)


def test_train_and_eval_problems_do_not_meet():
    seen = {p.prompt for p in TaskProblems(SHARES, seed=0).draw(300)}
    held_out = {p.prompt for p in TaskProblems(SHARES, seed=0, split="eval").draw(300)}
    assert not seen & held_out


@pytest.mark.parametrize("shares", [{}, {(SORT, 1): 0.0}, {(SORT, 1): -1.0, (SORT, 2): 2.0}])
def test_shares_that_are_none(shares):
    with pytest.raises(ValueError, match="at least one positive share"):
        TaskProblems(shares, seed=0)


def test_rows_come_once_an_epoch_in_an_order_that_resumes():
    rows = [{"prompt": f"p{i}", "answer": i, "hard": i > 3} for i in range(7)]
    problems = RowProblems(rows, seed=0)
    epochs = [[p.prompt for p in problems.draw(7)] for _ in range(3)]
    assert all(sorted(epoch) == [row["prompt"] for row in rows] for epoch in epochs)
    assert epochs[0] != epochs[1]
    resumed = RowProblems(rows, seed=0)
    resumed.load_state_dict({"drawn": 10})
    assert [p.prompt for p in resumed.draw(4)] == epochs[1][3:]
    first = RowProblems(rows[:1], seed=0).draw(1)[0]
    assert (first.answer, first.columns, first.level) == ("0", {"hard": False}, 1)


@pytest.mark.parametrize("rows", [[], [{"prompt": ""}], [{"question": "q"}], [{"prompt": ["q"]}]])
def test_rows_without_a_prompt(rows):
    with pytest.raises(ValueError, match="prompt"):
        RowProblems(rows, seed=0)


def test_json_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p"}\n\n{"prompt": "q", "level": 2}\n', encoding="utf-8")
    assert read_jsonl(path) == [{"prompt": "p"}, {"prompt": "q", "level": 2}]
    for bad in ("{", json.dumps(["p"])):
        path.write_text('{"prompt": "p"}\n' + bad, encoding="utf-8")
        with pytest.raises(ValueError, match="line 2: .* a JSON object is wanted"):
            read_jsonl(path)
