"""Rows for trainers, and the tasks as reward functions under TRL's contract."""

import json
import pickle

import pytest

from rarefy.policy.tasks import LEVELS, TASKS, as_dataset, credited, rows, verified, write_jsonl
from rarefy.rewards import WeightedSum

COLUMNS = ["prompt", "completion", "task", "level", "trace", "answer"]


def test_rows_of_a_task_do_not_depend_on_the_others():
    alone = rows([TASKS["path"]], per_level=5, seed=3)
    among = rows(TASKS.values(), per_level=5, seed=3)
    assert alone == [row for row in among if row["task"] == "path"]
    assert [row["level"] for row in alone] == sorted([*LEVELS] * 5)


def test_train_and_eval_rows_share_no_prompt():
    train = rows(TASKS.values(), per_level=40, seed=0, levels=(1, 2))
    held_out = rows(TASKS.values(), per_level=40, seed=0, levels=(1, 2), split="eval")
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in held_out}


def test_json_lines_and_datasets_keep_every_column(tmp_path):
    drawn = rows(TASKS.values(), per_level=2, seed=0)
    write_jsonl(drawn, tmp_path / "tasks.jsonl")
    lines = (tmp_path / "tasks.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == drawn
    pytest.importorskip("datasets")
    dataset = as_dataset(drawn)
    assert dataset.column_names == COLUMNS
    assert dataset.to_list() == drawn


@pytest.mark.parametrize("of_task", [False, True])
def test_rewards_keep_the_contract_of_trl(of_task):
    drawn = rows(TASKS.values(), per_level=1, seed=0)
    columns = {name: [row[name] for row in drawn] for name in COLUMNS}
    prompts, completions = columns.pop("prompt"), columns.pop("completion")
    prompts, completions = [*prompts, "What is 1 + 1?"], [*completions, "#2"]
    columns = {name: [*values, None] for name, values in columns.items()}
    ids = [[1, 2]] * len(prompts)
    for reward in (
        (TASKS["sat"].reward, TASKS["sat"].credit_reward) if of_task else (verified, credited)
    ):
        values = reward(
            prompts=prompts, completions=completions, completion_ids=ids, **columns,
            trainer_state=object(), log_extra=print, log_metric=print,
        )  # fmt: skip
        applies = [task is not None and task in (["sat"] if of_task else TASKS)
                   for task in columns["task"]]  # fmt: skip
        assert values == [1.0 if own else None for own in applies]
        assert all(type(value) is float for value in values if value is not None)
        assert reward.__name__ in ("sat", "sat_credit", "verified", "credited")
        assert pickle.loads(pickle.dumps(reward))(prompts, completions) == values


def test_rewards_take_chats_and_bytes():
    prompts = [[{"role": "user", "content": "n3,5,2>16="}], "n3,5,2>16=", "n3,5,2>16="]
    completions = [[{"role": "assistant", "content": "#3+5*2"}], b"#3+5*2", b"\xff#3+5"]
    assert verified(prompts, completions) == [1.0, 1.0, 0.0]


def test_a_mixture_weighs_verdict_and_partial_credit():
    mixed = WeightedSum([verified, credited], weights=[1.0, 0.3])
    values = mixed(["n3,5,2>16="] * 3 + ["?"], ["#3+5*2", "#", "#5", ""])
    assert values == [pytest.approx(1.3), 0.0, pytest.approx(0.1), None]
