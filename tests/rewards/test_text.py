"""Scores of texts against formulas written out, nltk, and facts of them."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rarefy.rewards.text import AnswerReward, exact_match, f1, length_aware_bleu, words

sentences = st.lists(st.sampled_from(["red", "green", "blue", "dog"]), min_size=1, max_size=9)


def bleu_4(hypothesis, reference, *, eps=0.1):
    """BLEU-4 from the original paper, zero counts of order 2 and more replaced by eps."""
    product = 1.0
    for n in (1, 2, 3, 4):
        ours = [tuple(hypothesis[i : i + n]) for i in range(len(hypothesis) - n + 1)]
        theirs = [tuple(reference[i : i + n]) for i in range(len(reference) - n + 1)]
        matched = sum(min(ours.count(gram), theirs.count(gram)) for gram in set(ours))
        if n == 1 and not matched:
            return 0.0
        product *= (matched or eps) / max(len(ours), 1)
    penalty = 1.0
    if len(hypothesis) <= len(reference):
        penalty = math.exp(1 - len(reference) / len(hypothesis))
    return penalty * product**0.25


def pairs(n, *, least):
    rng = random.Random(0)
    vocabulary = ["red", "green", "blue", "dog", "cat"]
    for _ in range(n):
        yield (
            rng.choices(vocabulary, k=rng.randint(1, 10)),
            rng.choices(vocabulary, k=rng.randint(least, 10)),
        )


def test_from_four_words_on_it_is_bleu_4():
    for hypothesis, reference in pairs(500, least=4):
        ours = length_aware_bleu(" ".join(hypothesis), [" ".join(reference)])
        assert ours == pytest.approx(bleu_4(hypothesis, reference), abs=1e-6)


def test_from_four_words_on_it_is_that_of_nltk():
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    smoothing = bleu.SmoothingFunction(epsilon=0.1).method1
    for hypothesis, reference in pairs(100, least=4):
        theirs = bleu.sentence_bleu([reference], hypothesis, smoothing_function=smoothing)
        ours = length_aware_bleu(" ".join(hypothesis), [" ".join(reference)])
        assert ours == pytest.approx(theirs, abs=1e-6)


@given(sentences)
def test_an_identical_text_of_any_length_has_one(text):
    assert length_aware_bleu(" ".join(text), [" ".join(text)]) == 1


@given(sentences, sentences)
def test_it_lies_between_zero_and_one_and_is_one_for_nothing_else(hypothesis, reference):
    score = length_aware_bleu(" ".join(hypothesis), [" ".join(reference)])
    assert 0 <= score <= 1
    if len(reference) <= 4:
        assert (score == 1) == (hypothesis == reference)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7])
def test_each_further_right_word_raises_it(length):
    reference = [f"word{i}" for i in range(length)]
    scores = []
    for right in range(length + 1):
        hypothesis = reference[:right] + [f"wrong{i}" for i in range(length - right)]
        scores.append(length_aware_bleu(" ".join(hypothesis), [" ".join(reference)]))
    assert scores[0] == 0 and scores[-1] == 1
    assert all(a < b for a, b in zip(scores, scores[1:], strict=False))


def test_the_best_reference_counts_and_short_texts_pay_for_it():
    assert length_aware_bleu("blue dog", ["red", "blue dog"]) == 1
    assert length_aware_bleu("red", ["red dog"]) == pytest.approx(math.exp(-1) * math.sqrt(0.1))


def test_words_are_those_of_squad():
    assert words("  The  quick, (brown) FOX's an... ") == ["quick", "brown", "foxs"]
    assert words("１９６９ — das „Wort“") == ["1969", "das", "wort"]
    assert words("the a .") == []


def test_nothing_matches_nothing():
    for score in (length_aware_bleu, exact_match, f1):
        assert score("", ["red"]) == score("the", ["the"]) == score("red", [""]) == 0


def test_f1_is_that_of_precision_and_recall():
    precision, recall = 2 / 3, 2 / 4
    expected = 2 * precision * recall / (precision + recall)
    assert f1("red dog dog", ["dog red cat fox"]) == pytest.approx(expected)


def test_a_reward_scores_answers_against_one_or_several():
    reward = AnswerReward(f1, lambda text: text.partition("#")[2] or None)
    assert reward(["q"] * 3, ["x#red", "red", "#dog"], answer=["red", "red", ["cat", "dog"]]) == [
        1.0,
        0.0,
        1.0,
    ]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="references is 'red'; a list"):
        length_aware_bleu("red", "red")
    with pytest.raises(ValueError, match="max_order is 0"):
        length_aware_bleu("red", ["red"], max_order=0)
    with pytest.raises(ValueError, match="needs the column 'answer'"):
        AnswerReward(f1, str)(["q"], ["a"])
