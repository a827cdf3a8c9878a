"""Rewards of policies that call tools: shares of calls, tags, and a judge that may fail or hang."""

import threading
import time

import pytest

from rarefy.rewards.staged import Stage, StagedReward
from rarefy.rewards.text import exact_match
from rarefy.rewards.tool import AnswerTag, Judge, ParseRate


def closed(text):
    return [part.endswith(">") for part in text.split("<")[1:]]


def test_many_calls_earn_no_more_than_one():
    assert ParseRate(closed)(["q"] * 4, ["<a>", "<a>" * 50, "<a><b", ""]) == [1.0, 1.0, 0.5, 0.0]
    assert ParseRate(closed, needed=False)(["q"], [""]) == [None]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<ans>x</ans>", "x"),
        ("so <ans> x </ans>.", "x"),
        ("<ans>x", None),
        ("x</ans>", None),
        ("<ans></ans>", None),
        ("<ans>x</ans><ans>x</ans>", None),
        ("<ans>x</ans></ans>", None),
    ],
)
def test_an_answer_stands_once_between_its_tags(text, answer):
    tag = AnswerTag("<ans>", "</ans>")
    assert tag.answer(text) == answer
    assert tag(["q"], [text]) == [float(answer is not None)]


def test_without_a_closing_tag_the_answer_is_the_rest():
    tag = AnswerTag("#")
    assert [tag.answer(t) for t in ("a#b c", "#a#b", "ab")] == ["b c", None, None]
    assert tag.reward(exact_match)(["q"] * 2, ["a#b", "b"], answer=["b", "b"]) == [1.0, 0.0]
    with pytest.raises(ValueError, match="open is empty"):
        AnswerTag("")


def test_a_judge_that_fails_or_hangs_gives_no_score_and_holds_up_nobody():
    never = threading.Event()

    def ask(prompt, completion, answer):
        if completion == "hang":
            never.wait(30)
        if completion == "raise":
            raise ConnectionError("gone")
        return {"seven": 7.0, "abstain": None}.get(completion, 0.5)

    judge = Judge(ask, seconds=0.3, workers=4)
    asked = ["fine", "hang", "raise", "seven", "abstain", "fine"]
    start = time.perf_counter()
    with pytest.warns(RuntimeWarning, match="no score for 3 of 6 .* no answer within 0.3 s"):
        scores = judge(["q"] * 6, asked, answer=["a"] * 6)
    never.set()
    assert scores == [0.5, None, None, None, None, 0.5]
    assert judge.missing == {"timed out": 1, "raised": 2}
    assert time.perf_counter() - start < 1.5


def test_what_the_judge_does_not_score_is_skipped_and_never_zero():
    judge = Judge(lambda prompt, completion: {"a": 1.0, "b": None}[completion], columns=())
    reward = StagedReward([Stage(ParseRate(lambda _: [True]), 1.0), Stage(judge, 1.0)])
    assert reward(["q"] * 2, ["a", "b"]) == [1.0, 1.0]


def test_rows_are_asked_about_at_the_same_time():
    together = threading.Barrier(4, timeout=5)
    judge = Judge(lambda prompt, completion: float(together.wait() >= 0), workers=4, columns=())
    assert judge(["q"] * 4, ["a"] * 4) == [1.0] * 4


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="seconds is 0"):
        Judge(lambda: 1.0, seconds=0)
    with pytest.raises(ValueError, match="needs the column 'answer'"):
        Judge(lambda *_: 1.0)(["q"], ["a"])
