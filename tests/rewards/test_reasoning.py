"""Splitting at separators, in characters and in tokens; corruption that is always one."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarefy.rewards.corruption import KINDS, corrupt
from rarefy.rewards.reasoning import split_reasoning, token_spans

THINK = ("<think>", "</think>")


@pytest.mark.parametrize(
    "text, sep, wanted",
    [
        ("3;+5.8#3+5", "#", ("3;+5.8", "3+5", "", 0)),
        ("3;+5.8", "#", ("3;+5.8", "", "missing", 0)),
        ("a#b#c", "#", ("a#b#c", "", "repeated", 0)),
        ("#3+5", "#", ("", "3+5", "empty", 0)),
        ("", "#", ("", "", "missing", 0)),
        ("so<think>8</think>\n8", THINK, ("8", "\n8", "", 9)),
        ("8</think>8", THINK, ("8", "8", "", 0)),
        ("<think>8", THINK, ("<think>8", "", "missing", 0)),
        ("<think>1</think>2</think>3", THINK, ("<think>1</think>2</think>3", "", "repeated", 0)),
        ("<think>1<think>2</think>3", THINK, ("<think>1<think>2</think>3", "", "repeated", 0)),
        ("1</think>2<think>3", THINK, ("1</think>2<think>3", "", "repeated", 0)),
    ],
)
def test_a_completion_is_split(text, sep, wanted):
    assert tuple(split_reasoning(text, sep)) == wanted


@pytest.mark.parametrize("sep", ["", ("", "</think>"), ("<think>", "")])
def test_an_empty_separator_is_refused(sep):
    with pytest.raises(ValueError, match="a separator of at least one character"):
        split_reasoning("a", sep)


@given(st.text("ab#", max_size=12), st.data())
def test_characters_as_tokens_give_the_parts_back(text, data):
    parts = split_reasoning(text)
    spans = token_spans([*text, ""], parts)
    pieces = [*text, ""]
    assert "".join(pieces[slice(*spans.reasoning)]) == parts.reasoning
    assert "".join(pieces[slice(*spans.answer)]) == parts.answer
    assert spans.answer == (
        (len(text) - len(parts.answer), len(pieces))
        if parts.has_answer
        else (len(pieces), len(pieces))
    )


def test_a_token_over_a_border_belongs_to_where_it_begins():
    parts = split_reasoning("<think>so 8</think>8", THINK)
    pieces = ["<thi", "nk>so", " 8</", "think>", "8", ""]
    # "nk>so" begins before the reasoning, " 8</" within it.
    assert token_spans(pieces, parts) == ((2, 3), (4, 6))


@given(
    st.lists(st.text("0123abc.+", min_size=1, max_size=5), min_size=1, max_size=5).map(";".join),
    st.sampled_from(KINDS),
    st.integers(0, 99),
)
def test_a_corrupted_trace_is_another(trace, kind, seed):
    spoilt = corrupt(trace, kind, random.Random(seed))
    assert spoilt != trace
    steps = trace.split(";")
    if spoilt is None:
        return
    after = spoilt.split(";")
    if kind == "swap":
        assert sorted(after) == sorted(steps)
    elif kind == "value":
        assert len(after) == len(steps) and sum(map(str.__ne__, after, steps)) == 1
        assert len(spoilt) == len(trace)
    elif kind == "delete":
        assert len(after) == len(steps) - 1
    else:
        assert len(after) == len(steps) + 1 and set(after) == set(steps)


def test_what_cannot_be_corrupted_gives_none():
    rng = random.Random(0)
    assert [corrupt("3", kind, rng) for kind in ("swap", "delete")] == [None, None]
    assert corrupt("a;a", "swap", rng) is None
    assert corrupt(";", "value", rng) is None and corrupt("", "repeat", rng) is None


def test_corruption_is_a_function_of_its_generator():
    spoilt = {corrupt("3;+5.8;*2.16", "value", random.Random(4)) for _ in range(3)}
    assert len(spoilt) == 1


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="one of swap, value, delete, repeat"):
        corrupt("3;+5.8", "shuffle", random.Random(0))
