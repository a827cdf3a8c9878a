"""Paper 39: the recipe runs, its claims speak of what is measured, and its readings are right."""

import math
import re

import numpy as np
import pytest
import torch

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import essential_sparsity as recipe
from rarefy.papers._recipe import Trial


@pytest.fixture(scope="module")
def smoke():
    """Every arm at one seed, measured once for this file."""
    trial = Trial(seed=0, scale="smoke")
    shared = recipe.setup(trial)
    weights = {name: p.detach().clone() for name, p in shared.model.named_parameters()}
    measured = {arm: recipe.measure(arm, shared, trial) for arm in recipe.PAPER.arms}
    for name, parameter in shared.model.named_parameters():
        torch.testing.assert_close(parameter, weights[name], rtol=0, atol=0)
    return measured


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert ids == {f"c{i}" for i in range(1, 9)}


def test_an_arm_measured_alone_gives_the_same_numbers(smoke):
    # What a run that was stopped and goes on does: a new setup, and only the arms that are missing.
    trial = Trial(seed=0, scale="smoke")
    shared = recipe.setup(trial)
    for arm in ("IMP, tuned", "2:4, tuned", "Wanda"):
        again = recipe.measure(arm, shared, trial)
        np.testing.assert_array_equal(list(again.values()), list(smoke[arm].values()))


def test_curves_agree_where_they_must(smoke):
    dense = smoke["magnitude"]["perplexity_0"]
    for arm in ("magnitude by layer", "random", "random (ERK)", "Wanda"):
        assert smoke[arm]["perplexity_0"] == dense
    assert smoke["magnitude, tuned"]["perplexity_0"] == smoke["random, tuned"]["perplexity_0"]
    assert 0 < smoke["magnitude"]["essential"] <= 0.9


def test_figure_draws_all_three_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    drawn = recipe.figure(measurements)
    assert len(drawn.axes) == 3
    assert all(axes.lines for axes in drawn.axes)


def test_rank_correlation():
    from rarefy.papers._essential_arms import _rank_correlation

    falling = [(0.1, 0.9), (0.2, 0.5), (0.3, 0.4), (0.4, 0.1)]
    assert _rank_correlation(falling) == pytest.approx(-1)
    assert math.isnan(_rank_correlation(falling[:3]))
    assert math.isnan(_rank_correlation([(x, 0.5) for x, _ in falling]))


class _Chars:
    """A tokenizer of single characters, enough for the readings."""

    def __call__(self, text, return_offsets_mapping=False, **_):
        encoded = {"input_ids": [ord(c) for c in text]}
        if return_offsets_mapping:
            encoded["offset_mapping"] = [(i, i + 1) for i in range(len(text))]
        return encoded


def test_token_kinds():
    from rarefy.papers._labelled_text import KINDS, labelled

    text = 'x = 7  # why\ny = """a\nb"""\n'
    _, kinds = labelled(_Chars(), [text])
    named = [KINDS[kind] for kind in kinds]
    by_character = list(zip(text, named, strict=True))
    assert by_character[:5] == [
        ("x", "name"),
        (" ", "layout"),
        ("=", "punctuation"),
        (" ", "layout"),
        ("7", "number"),
    ]
    assert {kind for c, kind in by_character if c in "whab"} == {"prose"}
    assert by_character[text.index("y =")][1] == "name"
    # Text that is no Python has no prose, and breaks nothing.
    assert "prose" not in [KINDS[kind] for kind in labelled(_Chars(), ['a """b'])[1]]


def test_line_losses_are_those_of_whole_sequences(tiny_model):
    """A context that is read once must give what a forward pass for each line gives."""
    from rarefy.papers._labelled_text import answered, line_losses, next_lines

    text = "\n".join(f"    value_{i} = {'other' * (i % 4)}" for i in range(40))
    questions = next_lines(_Chars(), [text], count=6, context=16, longest=20, seed=0)
    assert len(questions.real.sum(-1).unique()) > 1  # lines of several lengths
    expected = torch.empty(questions.real.shape[:2])
    for q, context in enumerate(questions.contexts):
        for c, (line, real) in enumerate(zip(questions.lines[q], questions.real[q], strict=True)):
            ids = torch.cat([context, line[real]])
            with torch.no_grad():
                logits = tiny_model(input_ids=ids[None]).logits[0].log_softmax(-1)
            n = int(real.sum())
            expected[q, c] = -logits[-n - 1 : -1].gather(1, ids[-n:, None]).mean()
    torch.testing.assert_close(line_losses(tiny_model, questions), expected, rtol=1e-4, atol=1e-4)
    right = expected.argmin(1) == questions.answers
    assert torch.equal(answered(tiny_model, questions), right)


def test_the_true_line_is_among_the_options_and_nothing_gives_it_away():
    from rarefy.papers._labelled_text import next_lines

    lines = [f"{' ' * (i % 5)}statement_{i:02d}" for i in range(30)]
    questions = next_lines(_Chars(), ["\n".join(lines)], count=20, context=12, longest=12, seed=1)
    for context, options, answer in zip(
        questions.contexts, questions.lines, questions.answers, strict=True
    ):
        words = ["".join(map(chr, option.tolist())) for option in options]
        assert len(set(words)) == 4
        seen = "".join(map(chr, context.tolist()))
        before = re.search(r"_(\d\d)\n *$", seen)
        assert before and words[answer] == f"statement_{int(before[1]) + 1:02d}"
        assert not any(word.startswith(" ") for word in words)


@pytest.fixture(scope="module")
def tiny_model():
    from rarefy.papers._essential_emergence import tiny_model

    model = tiny_model(128, seed=0).eval()
    with torch.no_grad():  # far from uniform, so that answers differ
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def test_digits_split_by_class():
    from rarefy.papers._essential_digits import digits

    pretraining, task, test = digits(torch.Generator().manual_seed(0))
    assert len(pretraining.labels) + len(task.labels) + len(test.labels) == 1797
    for part in (pretraining, task, test):
        assert set(part.labels.tolist()) == set(range(5))
    # Patches are 2 x 2 blocks in reading order: put together, they are the image again.
    from sklearn.datasets import load_digits

    images = torch.tensor(load_digits().images, dtype=torch.float32) / 16
    first = pretraining.patches[0].view(4, 4, 2, 2).transpose(1, 2).reshape(8, 8)
    assert (images == first).all(dim=(1, 2)).any()


def test_pretraining_learns_and_watches():
    from rarefy.papers._essential_emergence import pretrain, tiny_model

    corpus = torch.arange(4000) % 50
    held_out = corpus[: 4 * 128].view(4, 128)
    model = tiny_model(64, seed=1)
    watched = pretrain(
        model,
        corpus,
        held_out,
        steps=12,
        every=4,
        generator=torch.Generator().manual_seed(0),
        progress=Trial(seed=0).progress,
    )
    from rarefy.models import perplexity

    assert watched.steps == [4, 8, 12]
    assert len(watched.series["free"]) == 3
    assert perplexity(model, held_out) < 40


def test_lines_are_of_one_file_only_and_padding_changes_nothing(tiny_model):
    from rarefy.papers._essential_lines import file_lines, line_features

    texts = ["\n".join(f"{name}_value_{i:02d}" for i in range(9)) for name in ("ab", "cd")]
    texts = [text + "\nshared_by_both" for text in texts]
    lines = file_lines(_Chars(), texts, count=6, seed=0)
    assert len(lines.ids) == 12
    words = ["".join(map(chr, ids[real].tolist())) for ids, real in zip(*lines[:2], strict=True)]
    assert all(
        word[:2] == ("ab", "cd")[file] for word, file in zip(words, lines.files, strict=True)
    )
    features = line_features(tiny_model, lines)
    for word, found in zip(words, features, strict=True):
        alone = tiny_model.model(input_ids=torch.tensor([list(map(ord, word))])).last_hidden_state
        torch.testing.assert_close(found, alone[0].mean(0).detach(), rtol=1e-3, atol=1e-3)


def test_a_linear_head_tells_files_apart_only_by_what_the_features_hold():
    from rarefy.papers._essential_lines import Lines, head_accuracy

    files = torch.arange(200) % 4
    taught = torch.arange(200) < 100
    lines = Lines(files, files, files, taught)
    noise = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    assert head_accuracy(noise, lines) < 0.5
    noise[:, :4] += 5 * torch.nn.functional.one_hot(files, 4)
    assert head_accuracy(noise, lines) > 0.95
