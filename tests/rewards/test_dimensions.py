"""Dimensions against loops, their standardisation and composition, and what is undefined."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rarefy.rewards.dimensions import (
    Coherence,
    Confidence,
    DimensionReward,
    Relevance,
    fill_undefined,
    standardise,
)
from rarefy.rewards.reasoning import TokenSpans
from rarefy.rewards.scorers import CrossEncoderScorer, LexicalScorer, RewardModelScorer
from rarefy.rewards.weighting import grid_search_weights, pair_accuracy

CHARACTERS = SimpleNamespace(
    decode=lambda ids, skip_special_tokens: "" if ids == [2] else "".join(map(chr, ids))
)


def ids(text):
    """A token a character, and 2 to end with."""
    return [*map(ord, text), 2]


def lengths(pairs):
    return [len(text) for _, text in pairs]


def confidence(texts, logps, **settings):
    reward = DimensionReward([Confidence(**settings)], normalize="none", tokenizer=CHARACTERS)
    return reward(["q"] * len(texts), texts, [ids(text) for text in texts], logps=logps)


@pytest.mark.parametrize("reasoning", ["mean", "sum"])
@pytest.mark.parametrize("answer", ["mean", "sum"])
def test_confidence_is_what_a_loop_over_tokens_gives(reasoning, answer):
    texts = ["3;+5.8#3+5", "ab#c", "x#"]
    rng = np.random.default_rng(0)
    logps = [(-rng.random(len(text) + 1)).tolist() for text in texts]
    wanted = []
    for text, row in zip(texts, logps, strict=True):
        total = {"r": 0.0, "a": 0.0}
        count = {"r": 0, "a": 0}
        part = "r"
        for character, logp in zip([*text, ""], row, strict=True):
            if character == "#":
                part = "a"
                continue
            total[part] += logp
            count[part] += 1
        thought = total["r"] / count["r"] if reasoning == "mean" else total["r"]
        told = total["a"] / count["a"] if answer == "mean" else total["a"]
        wanted.append(thought + told)
    got = confidence(texts, logps, reasoning=reasoning, answer=answer)
    assert got == pytest.approx(wanted, abs=1e-12)


def test_given_spans_are_taken():
    reward = DimensionReward([Confidence()], normalize="none")
    spans = [TokenSpans((1, 3), (3, 4))]
    assert reward(["q"], ["?"], logps=[[-9.0, -1.0, -2.0, -4.0]], spans=spans) == [-5.5]


def test_what_is_undefined_is_the_least_of_its_group():
    texts = ["a#b", "ab", "#b", "abc#b"]
    logps = [[-float(i + 1)] * (len(text) + 1) for i, text in enumerate(texts)]
    got = confidence(texts, logps)
    assert got == [-3.0, -12.0, -12.0, -12.0]
    reward = DimensionReward([Relevance(lengths), Coherence(lengths)], normalize="none")
    reward(["q"] * 4, texts)
    assert reward.flags == ["", "missing", "empty", ""]
    assert reward.scores["relevance"].tolist() == [1.0, 1.0, 1.0, 2.0]
    # All there is counts as reasoning where no answer is set off.
    assert reward.scores["coherence"].tolist() == [1.0, 2.0, 1.0, 3.0]


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(-5, 5, width=16)), min_size=1, max_size=20))
def test_standardising_is_a_loop_over_groups(rows):
    _, groups = np.unique([group for group, _ in rows], return_inverse=True)
    scores = np.array([score for _, score in rows])
    wanted = np.zeros(len(rows))
    for group in set(groups.tolist()):
        some = scores[groups == group]
        if len(set(some.tolist())) > 1:
            wanted[groups == group] = (some - some.mean()) / (some.std(ddof=1) + 1e-6)
    np.testing.assert_allclose(standardise(scores, groups), wanted, rtol=1e-6, atol=1e-9)


def test_a_constant_dimension_says_nothing_at_all():
    reward = DimensionReward([Coherence(lambda pairs: [0.1] * len(pairs))])
    assert reward(["q"] * 3, ["a", "b", "c"]) == [0.0, 0.0, 0.0]


def test_groups_are_rows_of_one_prompt_or_stand_side_by_side():
    reward = DimensionReward([Coherence(lengths)])
    by_prompt = reward(["p", "q", "p", "q"], ["a", "aaa", "aa", "a"])
    assert by_prompt == pytest.approx([-0.7071, 0.7071, 0.7071, -0.7071], abs=1e-4)
    side_by_side = DimensionReward([Coherence(lengths)], group_size=2)
    assert side_by_side(["p"] * 4, ["a", "aaa", "a", "a"])[2:] == [0.0, 0.0]


def test_running_standardisation_goes_on_over_calls():
    reward = DimensionReward([Coherence(lengths)], normalize="running")
    reward(["q"] * 3, ["a", "aa", "aaaa"])
    seen = np.array([1, 2, 4, 3, 7], dtype=float)
    kept = reward.state_dict()
    wanted = (seen[3:] - seen.mean()) / (seen.std(ddof=1) + 1e-6)
    assert reward(["p"] * 2, ["a" * 3, "a" * 7]) == pytest.approx(wanted.tolist())
    again = DimensionReward([Coherence(lengths)], normalize="running")
    again.load_state_dict(kept)
    assert again(["p"] * 2, ["a" * 3, "a" * 7]) == pytest.approx(wanted.tolist())


def test_the_reward_is_the_weighted_sum_and_weights_are_scaled():
    dimensions = [Coherence(lengths), Coherence(lambda p: [-x for x in lengths(p)], name="brief")]
    reward = DimensionReward(dimensions, weights={"coherence": 3.0, "brief": 1.0})
    got = reward(["q"] * 3, ["a", "aa", "aaaa"])
    z = reward.standardised
    assert got == pytest.approx((0.75 * z["coherence"] + 0.25 * z["brief"]).tolist())


def test_relevance_averages_its_relations_and_takes_the_best_passage():
    def scorer(pairs):
        return [{"q": 1.0, "r": 4.0, "good": 10.0, "bad": 2.0}[context] for context, _ in pairs]

    reward = DimensionReward([Relevance(scorer)], normalize="none")
    got = reward(["q", "q", "q"], ["r#a"] * 3, documents=[["bad", "good"], None, "bad"])
    assert got == pytest.approx([5.0, 2.5, 7 / 3])


def test_coherence_is_shown_documents_and_if_asked_the_answer():
    seen = []

    def scorer(pairs):
        seen.extend(pairs)
        return [0.0] * len(pairs)

    DimensionReward([Coherence(scorer, with_answer=True)])(["q"], ["r#a"], documents=["d"])
    DimensionReward([Coherence(scorer)])(["q"], ["r#a"])
    assert seen == [("d\nq", "r\na"), ("q", "r")]


def test_it_is_called_as_trl_calls_a_reward():
    logged = {}
    reward = DimensionReward([Coherence(lengths)], group_size=2)
    chats = [[{"role": "assistant", "content": text}] for text in ("a", "aa")]
    asked = [[{"role": "user", "content": "q"}]] * 2
    values = reward(
        asked,
        chats,
        [[1], [1, 1]],
        answer=["x", "x"],
        trainer_state=None,
        log_metric=logged.__setitem__,
    )
    assert values[0] < 0 < values[1] and logged == {"drm/coherence": 1.5}
    assert reward([], [], []) == [] and reward.__name__ == "coherence"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: DimensionReward([]), "at least one, each named once"),
        (lambda: DimensionReward([Coherence(lengths)] * 2), "each named once"),
        (lambda: DimensionReward([Confidence()], weights={"other": 1}), "for each of confidence"),
        (lambda: DimensionReward([Confidence()], weights={"confidence": 0}), "one above 0"),
        (lambda: DimensionReward([Confidence()], normalize="batch"), "'group', 'running' or"),
        (lambda: DimensionReward([Confidence()])(["q"], ["a#b"]), "needs the log-probabilities"),
        (lambda: DimensionReward([Confidence()])(["q"], []), "completions has 0 rows"),
        (lambda: DimensionReward([Coherence(lengths)], group_size=2)(["q"], ["a"]), "multiple of"),
        (lambda: DimensionReward([Coherence(lambda p: [])])(["q"], ["a"]), "for 1 pairs"),
        (lambda: DimensionReward([Coherence(lambda p: [np.nan])])(["q"], ["a"]), "finite number"),
        (lambda: Confidence(answer="max"), '"mean" or "sum"'),
        (lambda: Relevance(lengths, pairs=()), "some of 'QR'"),
        (lambda: Relevance({"QR": lengths}), "one for each of QR, RA"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_confidence_notices_another_number_of_tokens():
    with pytest.raises(ValueError, match=r"2 log-probabilities for the 4 tokens"):
        confidence(["a#b"], [[-1.0, -1.0]])


def test_all_undefined_is_zero():
    filled = fill_undefined(np.array([np.nan, np.nan, 2.0, np.nan]), np.array([0, 0, 1, 1]))
    assert filled.tolist() == [0.0, 0.0, 2.0, 2.0]


def test_the_grid_finds_what_a_brute_force_over_weights_finds():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(10), 6)
    labels = rng.integers(0, 2, 60)
    scores = {
        name: labels * pull + rng.normal(size=60)
        for name, pull in {"strong": 1.5, "weak": 0.3, "none": 0.0}.items()
    }
    found = grid_search_weights(scores, labels, groups, step=0.25)
    z = {name: standardise(values, groups) for name, values in scores.items()}
    best = max(
        pair_accuracy(
            a / 4 * z["strong"] + b / 4 * z["weak"] + (4 - a - b) / 4 * z["none"], labels, groups
        )
        for a in range(5)
        for b in range(5 - a)
    )
    assert found.accuracy == pytest.approx(best) and found.accuracy >= found.uniform
    mixed = sum(found.weights[name] * z[name] for name in z)
    assert pair_accuracy(mixed, labels, groups) == pytest.approx(found.accuracy)
    assert max(found.weights, key=found.weights.get) == "strong"
    assert sum(found.weights.values()) == pytest.approx(1)


def test_pair_accuracy_is_the_area_under_the_curve_in_one_group():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 50)
    scores = rng.normal(size=50).round(1)
    got = pair_accuracy(scores, labels, np.zeros(50, dtype=int))
    assert got == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize(
    "labels, groups, step, message",
    [
        ([1, 1], [0, 0], 0.1, "nothing is ordered"),
        ([1, 0], [0, 0], 0.3, "divides 1"),
        ([1], [0], 0.1, "equal numbers"),
    ],
)
def test_the_grid_refuses(labels, groups, step, message):
    with pytest.raises(ValueError, match=message):
        grid_search_weights({"a": [1.0, 0.0]}, labels, groups, step=step)


def test_lexical_cosine_is_bounded_and_total():
    scorer = LexicalScorer(analyzer="char")
    same, near, far = scorer([("n3,5>8=", "n3,5>8="), ("n3,5>8=", "3;+5.8"), ("abc", "xyz")])
    assert same == pytest.approx(1) and 0 < near < 1 and far == 0
    assert (
        LexicalScorer()([("", "")]) == [0.0] and LexicalScorer()([("?", "!"), ("a", "a")])[0] == 0
    )
    with pytest.raises(ValueError, match="'word' or 'char'"):
        LexicalScorer(analyzer="byte")


def test_a_cross_encoder_of_several_labels_needs_to_know_which_counts():
    class Model:
        def predict(self, pairs, batch_size, show_progress_bar):
            return np.array([[0.1, 0.9]] * len(pairs))

    assert CrossEncoderScorer(Model(), label=1)([("a", "b")]) == [0.9]
    with pytest.raises(ValueError, match="say which counts"):
        CrossEncoderScorer(Model())([("a", "b")])


def test_a_reward_model_scores_as_its_own_forward_pass():
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from rarefy.models.characters import character_tokenizer

    tokenizer = character_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForSequenceClassification(config)
    pairs = [("n3,5>8=", "3;+5.8"), ("q", "a"), ("n3,5>8=", "3;+5.9")]
    scorer = RewardModelScorer(model, tokenizer, batch_size=2)
    with torch.no_grad():
        wanted = [
            float(model(torch.tensor([tokenizer(a + b)["input_ids"]])).logits) for a, b in pairs
        ]
    assert scorer(pairs) == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(ValueError, match="tokenizer is missing"):
        RewardModelScorer(model)
