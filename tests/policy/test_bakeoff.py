"""Methods side by side: every one runs, and a run that stops goes on with the same numbers."""

import json

import pytest

from rarefy.models import SHIPPED, open_model
from rarefy.policy import TaskProblems
from rarefy.policy.bakeoff import METHODS, Mark, Setting, read_marks, run_method, svg
from rarefy.policy.hints import marked
from rarefy.policy.tasks import COUNTDOWN, verified

SHARES = {(COUNTDOWN, 1): 1.0, (COUNTDOWN, 3): 1.0}


def setting(**options):
    small = {"steps": 2, "every": 2, "n_prompts": 2, "group_size": 2, "minibatches": 1}
    return Setting(
        lambda: open_model(SHIPPED / "policy"),
        lambda: TaskProblems(SHARES, seed=0),
        TaskProblems(SHARES, seed=1, split="eval").draw(4),
        verified,
        max_new_tokens=16,
        **small | options,
    )


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_leaves_marks_and_a_policy(tmp_path, name):
    found = run_method(METHODS[name](marked), setting(), tmp_path)
    assert [mark.step for mark in found] == [0, 2] and found == read_marks(tmp_path)
    assert found[0].n_rollouts == 0 < 4 * 2 <= found[1].n_rollouts
    assert set(found[0].success) == {"1", "3"} and all(
        0 <= v <= 1 for v in found[0].success.values()
    )
    model, tokenizer = open_model(tmp_path / "policy")
    assert tokenizer.eos_token_id == model.config.eos_token_id


def test_all_begin_at_the_same_mark(tmp_path):
    first = [
        run_method(METHODS[name](marked), setting(steps=1), tmp_path / name)[0]
        for name in ("grpo", "rloo")
    ]
    assert first[0] == first[1]


def test_goes_on_with_the_same_numbers(tmp_path):
    method = METHODS["grpo"](marked)
    whole = run_method(method, setting(steps=4), tmp_path / "whole")

    def stop(row):
        if row["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_method(method, setting(steps=4), tmp_path / "parts", on_step=stop)
    assert read_marks(tmp_path / "parts") == whole[:2]
    told = []
    assert run_method(method, setting(steps=4), tmp_path / "parts", on_mark=told.append) == whole
    assert told == whole
    steps = []
    assert run_method(method, setting(steps=4), tmp_path / "parts", on_step=steps.append) == whole
    assert not steps  # what is finished is not trained again


def test_the_picture_has_a_panel_for_each_level():
    marks = [Mark(step, 8 * step, 100 * step, {"1": 0.5, "4": 0.1 * step}, {}) for step in (0, 1)]
    drawn = svg({"grpo": marks, "pacs": marks})
    assert drawn.startswith("<svg") and drawn == svg({"grpo": marks, "pacs": marks})
    assert json.dumps(drawn) != json.dumps(svg({"grpo": marks}))
