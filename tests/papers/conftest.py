import importlib
from pathlib import Path

import pytest

import rarefy.papers
from rarefy.papers._recipe import Trial


@pytest.fixture
def coin(monkeypatch, tmp_path):
    """The tests' own recipe, as if it stood among the papers; its calls are logged in a file."""
    monkeypatch.setattr(rarefy.papers, "__path__", [str(Path(__file__).parent / "recipes")])
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


@pytest.fixture(scope="module")
def trial():
    """One seed at smoke scale."""
    return Trial(seed=0, scale="smoke")


@pytest.fixture(scope="module")
def shared(request, trial):
    """What the recipe that the test file imports as ``recipe`` sets up, once for the file."""
    return request.module.recipe.setup(trial)


@pytest.fixture(scope="module")
def smoke(request, shared, trial):
    """Every arm of the test file's ``recipe`` at one seed, measured once for the file."""
    recipe = request.module.recipe
    return {arm: recipe.measure(arm, shared, trial) for arm in recipe.PAPER.arms}
