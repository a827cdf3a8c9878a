import ast
import sys

import pytest

from rarefy.data import HELD_OUT, modules, passages


def test_the_two_splits_are_disjoint_and_make_up_the_whole():
    train, held_out, everything = (set(modules(s)) for s in ("train", "heldout", "all"))
    assert train | held_out == everything
    assert not train & held_out
    assert len(train) > 500


def test_held_out_modules_and_their_tests_are_never_trained_on():
    for module in modules("train"):
        top, *rest = module.name.split(".")
        assert top not in HELD_OUT
        assert not (top == "test" and rest and rest[0].removeprefix("test_") in HELD_OUT)
    assert {m.name.split(".")[0] for m in modules("heldout", tests=False)} == set(HELD_OUT)


def test_reading_imports_nothing():
    before = set(sys.modules)
    text = {m.name: m.read() for m in modules("heldout", tests=False)}
    assert "Fraction" in text["fractions"]
    new = {name.split(".")[0] for name in set(sys.modules) - before}
    assert not new & set(HELD_OUT)


def test_passages_are_documented_objects_with_their_own_source():
    by_name = {p.name: p for p in passages("heldout")}
    push = by_name["heapq.nlargest"]
    assert push.summary == "Find the n largest elements in a dataset."
    function = ast.parse(push.source).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert function.name == "nlargest"
    assert ast.get_docstring(function) == push.docstring
    assert "statistics.NormalDist.overlap" in by_name


def test_a_wrong_split_is_named():
    with pytest.raises(ValueError, match="split must be 'all', 'train' or 'heldout', got 'dev'"):
        modules("dev")
