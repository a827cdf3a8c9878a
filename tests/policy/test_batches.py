"""Problems come in the same order from wherever one goes on, and batches keep groups together."""

import json

import pytest
import torch

from rarefy.policy import Batch, Rollout, RowProblems, TaskProblems, join, read_jsonl
from rarefy.policy.tasks import COUNTDOWN, SORT, Problem

SHARES = {(COUNTDOWN, 2): 1.0, (SORT, 4): 3.0}


def batch_of(n, width=3, group=2, start=0):
    rows = torch.arange(start, start + n * group)
    ids = rows[:, None].expand(-1, width)
    mask = torch.ones(len(rows), width, dtype=torch.bool)
    rollout = Rollout(
        ids, mask, ids, mask, -ids.float(), ids.float(), torch.ones(len(rows), dtype=torch.bool)
    )
    problems = [Problem("rows", 1, f"p{start + i}", "", "") for i in range(n)]
    rewards = rows.float()
    return Batch(problems, [p.prompt for p in problems], rollout, rewards, rows % 2 == 0, group)


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


def test_select_keeps_groups_whole():
    batch = batch_of(3).with_extra(weight=torch.arange(6.0))
    for picked in (torch.tensor([2, 0]), [2, 0]):
        some = batch.select(picked)
        assert some.rewards.tolist() == some.extra["weight"].tolist() == [4, 5, 0, 1]
        assert some.rollout.completion_ids[:, 0].tolist() == [4, 5, 0, 1]
        assert some.prompts == ["p2", "p0"]
        assert some.groups.tolist() == [[4, 5], [0, 1]] and some.n_solved.tolist() == [1, 1]
    assert batch.select(torch.tensor([False, True, False])).prompts == ["p1"]
    assert len(batch.select([])) == 0


def test_join_pads_to_the_widest():
    narrow, wide = batch_of(1), batch_of(2, width=5, start=2)
    both = join([
        narrow.with_extra(own=torch.ones(2, 3), only_here=torch.ones(2)),
        wide.with_extra(own=torch.ones(4, 5)),
    ])  # fmt: skip
    assert both.prompts == ["p0", "p2", "p3"] and set(both.extra) == {"own"}
    assert both.extra["own"].sum(1).tolist() == [3, 3, 5, 5, 5, 5]
    assert both.rollout.lengths.tolist() == [3, 3, 5, 5, 5, 5]
    assert both.rollout.prompt_mask[0].tolist() == [False, False, True, True, True]
    back = join([both.select([0]), both.select([1, 2])])
    assert back.rewards.equal(both.rewards)
