import json

import pytest
from typer.testing import CliRunner

from rarefy.cli._main import app
from rarefy.policy.tasks.helix import Problem, get_task


def export(*words):
    return CliRunner().invoke(app, ["tasks", "export", *map(str, words)])


def test_export_writes_problems_and_images(tmp_path):
    pytest.importorskip("PIL")
    result = export("--out", tmp_path, "--tasks", "maze,h-index", "--per-level", 2, "--json")
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    lines = [json.loads(line) for line in (tmp_path / "helix.jsonl").read_text().splitlines()]
    assert said["problems"] == len(lines) == 2 * 5 * 2
    for line in lines:
        problem = Problem(line["task"], line["level"], line["prompt"], line["state"])
        assert get_task(line["task"]).verify(problem, line["answer"])
        assert (tmp_path / line["image"]).exists()


def test_export_without_images(tmp_path):
    result = export("--out", tmp_path, "--tasks", "maze", "--per-level", 1, "--no-images")
    assert result.exit_code == 0 and "5 problems written to" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["helix.jsonl"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--tasks", "maze,chess"), "chess: no such task"),
        (("--per-level", "0"), "greater than or equal to 1"),
        (("--out", "{file}"), "is a file"),
    ],
)
def test_bad_usage(tmp_path, words, sentence):
    file = tmp_path / "file"
    file.write_text("")
    words = ["--out", tmp_path / "new", *(word.format(file=file) for word in words)]
    result = export(*words)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "new").exists()
