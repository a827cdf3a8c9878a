"""Batches keep groups together."""

import torch

from rarefy.policy import Batch, Rollout, join
from rarefy.policy.tasks import Problem


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
