import dataclasses
import types
from pathlib import Path
from typing import Literal

import pytest

import rarefy.papers
from rarefy.evidence import Claim, Report
from rarefy.papers import Paper, Trial, discover, find, markdown, options
from rarefy.papers._options import resolve


def paper(**changes):
    fields = {
        "number": 1, "slug": "a-paper", "title": "", "venue": "", "authors_code": "",
        "domain": "weights", "arms": ("a", "b"), "summary": "", "usage": "",
        "claims": (Claim(id="c1", text="", metric="m", arm="a", versus="b"),),
    }  # fmt: skip
    return Paper(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slug": "A Paper"}, "slug is 'A Paper'"),
        ({"slug": "33"}, "slug is '33'"),
        ({"domain": "weight"}, "domain is 'weight'"),
        ({"arms": ("a", "b", "a")}, "arms must be"),
        ({"arms": ("a",)}, "claim c1 speaks of 'b'"),
        ({"claims": ()}, "claims must be"),
        ({"claims": (Claim(id="c", text="", metric="m", arm="a"),) * 2}, "claims must be"),
        ({"seeds": {"smoke": 1}}, "at least one seed"),
        ({"tour_seeds": -1}, "at least one seed"),
    ],
)
def test_a_paper_whose_parts_do_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        paper(**changes)


def test_a_trial_is_frozen_and_its_random_numbers_are_its_seed():
    import torch

    trial = Trial(seed=3, scale="full")
    with pytest.raises(dataclasses.FrozenInstanceError):
        trial.seed = 4
    assert trial.pick(smoke=1, default=2, full=3) == 3
    draw = torch.rand(4, generator=trial.generator())
    assert torch.equal(draw, torch.rand(4, generator=trial.generator()))
    assert not torch.equal(draw, torch.rand(4, generator=Trial(seed=4).generator()))


def test_options_are_the_keyword_parameters_of_setup(coin):
    found = {option.name: option for option in options(coin)}
    assert list(found) == ["bias", "model", "side", "steps", "pause", "loud"]
    assert found["bias"].help == "How often the biased coin shows heads, between 0 and 1."
    assert found["side"].help == found["steps"].help == "Two that share a line."
    assert found["loud"].help == ""
    assert found["model"].type is Path
    assert found["side"].choices == ("heads", "tails")
    assert (found["steps"].type, found["steps"].many) == (int, True)


def test_options_are_resolved_to_their_types(coin):
    assert resolve(coin, {}) == {
        "bias": 0.9, "model": None, "side": "heads", "steps": (1, 2), "pause": 0.0, "loud": False,
    }  # fmt: skip
    found = resolve(coin, {"bias": 1, "model": "here", "steps": [3]})
    assert (found["bias"], found["model"], found["steps"]) == (1.0, Path("here"), (3,))
    assert isinstance(found["bias"], float)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bies": 1}, "no option 'bies'; its options are: bias, model"),
        ({"bias": "much"}, "bias is 'much', expected a value of float"),
        ({"bias": None}, "bias is None"),
        ({"side": "edge"}, "side is 'edge', expected one of heads, tails"),
        ({"steps": [1.5]}, "steps is 1.5"),
        ({"steps": [True]}, "steps is True"),
    ],
)
def test_a_wrong_option_is_refused(coin, given, message):
    with pytest.raises(ValueError, match=message):
        resolve(coin, given)


def no_default(trial, *, x: int): ...
def no_type(trial, *, x: dict = None): ...
def two_types(trial, *, x: int | str = 1): ...
def numbers(trial, *, x: Literal[1, 2] = 1): ...


@pytest.mark.parametrize("setup", [no_default, no_type, two_types, numbers])
def test_an_option_that_no_command_line_can_give_is_the_authors_error(setup):
    with pytest.raises(TypeError, match="option 'x'"):
        options(types.SimpleNamespace(__name__="recipe", setup=setup))


def test_recipes_are_found_by_slug_and_number(coin):
    assert discover() == [coin]
    assert find("fair-coin") is find("901") is coin


@pytest.mark.parametrize(
    ("name", "hint"), [("fair-coins", "did you mean fair-coin?"), ("7", "`rarefy papers`")]
)
def test_an_unknown_paper_is_refused_with_the_nearest(coin, name, hint):
    with pytest.raises(ValueError, match=f"no paper '{name}'") as error:
        find(name)
    assert hint in str(error.value)


def test_two_recipes_of_one_number_are_refused(coin, tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    folder.mkdir()
    for name in ("twin_a", "twin_b", "_helper"):
        (folder / f"{name}.py").write_text(f"from rarefy.papers.coin import PAPER\nNAME='{name}'")
    monkeypatch.setattr(rarefy.papers, "__path__", [str(folder)])
    with pytest.raises(ValueError, match="twin_a and .*twin_b have the same paper number"):
        discover()


def test_the_shipped_recipes_keep_the_contract():
    for recipe in discover():
        assert recipe.__name__ == f"rarefy.papers.{recipe.PAPER.slug.replace('-', '_')}"
        assert recipe.PAPER.summary
        assert all(option.help for option in options(recipe)), f"{recipe.__name__}: no help"
        compile(recipe.PAPER.usage, recipe.PAPER.slug, "exec")
        assert callable(recipe.measure)
        assert callable(recipe.figure)


def test_the_documentation_page_says_what_was_found(coin):
    before = markdown(coin)
    assert "| c1 | The biased coin shows heads more often. |" in before
    assert "| `--bias` | `0.9` | How often" in before
    rarefy.papers.run(coin, scale="smoke", out=Path("report"))
    after = markdown(coin, Report.read(Path("report")))
    assert "| **contradicted** |" in after
    assert "rarefy run fair-coin --scale smoke --seeds 2" in after
