import importlib
from pathlib import Path

import pytest

import rarefy.papers


@pytest.fixture
def coin(monkeypatch, tmp_path):
    """The tests' own recipe, as if it stood among the papers; its calls are logged in a file."""
    monkeypatch.setattr(
        rarefy.papers, "__path__", [str(Path(__file__).parents[1] / "papers" / "recipes")]
    )
    monkeypatch.setenv("RAREFY_TEST_CALLS", str(tmp_path / "calls"))
    monkeypatch.chdir(tmp_path)
    return importlib.import_module("rarefy.papers.coin")


@pytest.fixture
def calls(tmp_path):
    """Calls logged since this was last asked: ``["setup 0", "fair 0", ...]``."""

    def since():
        path = tmp_path / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    return since
