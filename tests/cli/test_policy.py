"""`rarefy policy train`: folders that open, runs that go on, and one sentence for what is wrong."""

import json

import pytest
from typer.testing import CliRunner

from rarefy.cli import _console
from rarefy.cli._main import app
from rarefy.models import SHIPPED, open_model
from rarefy.policy import PolicyTrainer
from rarefy.policy.tasks import COUNTDOWN, rows, write_jsonl

QUICK = (
    *("--steps", "2", "--every", "2", "--prompts", "2", "--group", "2"),
    *("--minibatches", "1", "--length", "16"),
)
TASK = ("--task", "countdown", "--levels", "1")

REWARDS = """
import time

def ends(prompts, completions, completion_ids, answer, **columns):
    return [float(text.endswith("#" + right)) for text, right in zip(completions, answer)]

def raises(prompts, completions, **columns):
    raise KeyError("no such column")

def hangs(prompts, completions, **columns):
    time.sleep(60)

def short(prompts, completions, **columns):
    return []

def nan(prompts, completions, **columns):
    return [float("nan")] * len(prompts)

number = 3
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a reward and a data set, where the command is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "policy_test_rewards.py").write_text(REWARDS)
    write_jsonl(rows([COUNTDOWN], per_level=16, seed=0, levels=(1, 2)), tmp_path / "rows.jsonl")
    return tmp_path


def train(*words):
    """Exit status, standard output and standard error, its lines joined."""
    result = CliRunner().invoke(app, ["policy", "train", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, " ".join(result.stderr.replace("│", " ").split())


def dataset(reward, *words):
    return train("--dataset", "rows.jsonl", "--reward", f"policy_test_rewards:{reward}",
                 "--model", SHIPPED / "policy", *QUICK, *words)  # fmt: skip


def test_methods_side_by_side_and_one_more(here):
    status, stdout, stderr = train(*TASK, *QUICK, "--method", "grpo,ghpo", "--out", "o", "--json")
    assert status == 0, stderr
    found = json.loads(stdout)
    assert set(found["methods"]) == {"grpo", "ghpo"}
    assert found == json.loads((here / "o" / "report.json").read_text())
    for line in found["methods"].values():
        assert [mark["step"] for mark in line] == [0, 2] and set(line[0]["success"]) == {"1"}
    assert (here / "o" / "success.svg").read_text().startswith("<svg")
    open_model(here / "o" / "ghpo" / "policy")

    status, stdout, stderr = train(*TASK, *QUICK, "--method", "grpo,rloo", "--out", "o")
    assert status == 0, stderr
    assert all(word in stdout for word in ("start", "grpo", "rloo", "level 1"))
    again = json.loads((here / "o" / "report.json").read_text())["methods"]
    assert again["grpo"] == found["methods"]["grpo"]

    status, _, stderr = train(*TASK, *QUICK, "--seed", "1", "--out", "o")
    assert status == 2 and "was begun with seed 0, not 1" in stderr


def test_a_users_model_rows_and_reward(here):
    status, _, stderr = dataset("ends", "--out", "o", "--seconds", "30")
    assert status == 0, stderr
    report = json.loads((here / "o" / "report.json").read_text())
    assert report["lr"] == 1e-6
    assert set(report["methods"]["grpo"][0]["success"]) == {"1", "2"}


FAILING = {
    "raises": "fails on every completion: KeyError: 'no such column'",
    "hangs": "fails on every completion: no answer within 0.2 s",
    "short": "returned 0 values for 1 completions",
    "nan": "gave nan in row 0; a finite number",
}


@pytest.mark.parametrize("reward", list(FAILING))
def test_a_reward_that_fails_altogether(here, reward):
    seconds = "0.2" if reward == "hangs" else "30"
    status, _, stderr = dataset(reward, "--seconds", seconds, "--out", "o")
    assert status == 2 and FAILING[reward] in stderr and "no step was finished" in stderr
    assert not (here / "o").exists()


def test_finished_steps_are_kept(here, monkeypatch):
    update = PolicyTrainer._update

    def fails(self, batch):
        if self.step == 1:
            raise ValueError("the reward returned 3 values for 4 completions")
        return update(self, batch)

    whole = json.loads(train(*TASK, *QUICK, "--out", "whole", "--json")[1])["methods"]
    with monkeypatch.context() as patch:
        patch.setattr(PolicyTrainer, "_update", fails)
        status, _, stderr = train(*TASK, *QUICK, "--out", "o")
    assert status == 2
    assert "returned 3 values for 4" in stderr and "finished steps (1 of grpo) are kept" in stderr
    status, stdout, stderr = train(*TASK, *QUICK, "--out", "o", "--json")
    assert status == 0 and json.loads(stdout)["methods"] == whole


def test_ctrl_c(here, monkeypatch):
    def interrupted(self, batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(PolicyTrainer, "_update", interrupted)
    status, _, stderr = train(*TASK, *QUICK, "--out", "o")
    assert status == 130 and "stopped" in stderr


def test_completions_that_are_all_cut_off():
    words = ("--steps", "5", "--every", "5", "--length", "2", "--out", "o")
    status, _, stderr = train(*TASK, *QUICK, *words)
    assert status == 0 and "cut off at max_new_tokens = 2 in each of the last 5 steps" in stderr


BAD = {
    "either --task or --dataset": (),
    "'chess' is none of countdown": ("--task", "chess"),
    "'dlr' is none of grpo": (*TASK, "--method", "grpo,dlr"),
    "'9' is none of 1, 2, 3, 4, 5": ("--task", "countdown", "--levels", "9"),
    "group_size is 1; completions of a prompt": (*TASK, *QUICK, "--group", "1"),
    "does not fit the model's context of 512": (*TASK, *QUICK, "--length", "510"),
    "belong together": ("--dataset", "rows.jsonl"),
    "'no_such:f' cannot be imported": ("--dataset", "rows.jsonl", "--reward", "no_such:f"),
    "is no function": ("--dataset", "rows.jsonl", "--reward", "policy_test_rewards:number"),
    "line 2": ("--dataset", "policy_test_rewards.py", "--reward", "policy_test_rewards:ends"),
}


@pytest.mark.parametrize("sentence", list(BAD))
def test_bad_usage(sentence):
    status, _, stderr = train(*BAD[sentence], "--out", "o")
    assert status == 2 and sentence in stderr, stderr


def test_a_table_on_a_terminal(here, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(_console.err, "_force_terminal", True)
    monkeypatch.setattr(_console.err, "is_interactive", True)
    status, _, stderr = train(*TASK, *QUICK, "--out", "o")
    assert status == 0 and "held-out problems, by level" in stderr and "grpo" in stderr
