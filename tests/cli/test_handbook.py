import json

import pytest
from typer.testing import CliRunner

from rarefy.cli._main import app
from rarefy.weights import LESSONS


def handbook(*words):
    return CliRunner().invoke(app, ["handbook", *words])


def test_all_lessons_or_one():
    everything = handbook().stdout
    assert all(lesson.question in everything for lesson in LESSONS)
    one = json.loads(handbook("8", "--json").stdout)
    assert [lesson["title"] for lesson in one] == ["effective sparsity"]


@pytest.mark.parametrize("word", ["0", "11", "eight"])
def test_other_lessons_are_bad_usage(word):
    assert handbook(word).exit_code == 2
