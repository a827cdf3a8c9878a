"""Files that the platform writes."""

import json
from pathlib import Path

import pytest

from rarefy.policy.tasks.helix import Problem, draw, export, get_task, list_tasks, sample_page

PAGE = Path(__file__).parents[4] / "docs" / "helix.md"


def test_exported_lines_are_whole_problems(tmp_path):
    names = ["h-index", "sudoku", "maze"]
    path = export(tmp_path / "new", tasks=names, per_level=2, seed=3, images=True)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["id"] for line in lines[:3]] == ["h-index-1-0", "h-index-1-1", "h-index-2-0"]
    assert len(lines) == 3 * 5 * 2
    for line in lines:
        task = get_task(line["task"])
        problem = Problem(line["task"], line["level"], line["prompt"], line["state"])
        assert task.verify(problem, line["answer"])
        assert task.category == line["category"]
        assert (path.parent / line["image"]).read_bytes().startswith(b"\x89PNG")


def test_a_problem_does_not_depend_on_what_else_is_exported(tmp_path):
    alone = export(tmp_path / "a", tasks=["maze"], per_level=1).read_text()
    together = export(tmp_path / "b", tasks=["h-index", "maze"], per_level=2).read_text()
    assert set(alone.splitlines()) < set(together.splitlines())
    assert json.loads(alone.splitlines()[0])["prompt"] == draw(get_task("maze"), 1, 0).prompt
    assert not list((tmp_path / "a").glob("*.png"))


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="per_level must be at least 1, got 0"):
        export(tmp_path / "x", per_level=0)
    with pytest.raises(ValueError, match="got 'chess'"):
        export(tmp_path / "x", tasks=["chess"])
    assert not (tmp_path / "x").exists()


def test_the_page_in_the_docs_is_the_one_made_today():
    page = sample_page()
    assert PAGE.read_text(encoding="utf-8") == page
    assert all(f"### {name}\n" in page for name in list_tasks())
