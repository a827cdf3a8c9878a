"""The IOI language: prompts say what their fields say, counterfactuals differ in one of them."""

import pytest
import torch

from rarefy.data.ioi import (
    LENGTH,
    NAMES,
    TEMPLATES,
    IOIEncoder,
    counterfactual,
    ioi_prompts,
)
from rarefy.models.train_ioi import new_tokenizer


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def prompts():
    return ioi_prompts(400, generator=seeded())


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer()


def test_ids_are_the_tokenizer_s_of_the_sentence(prompts, tokenizer):
    ids = IOIEncoder(tokenizer)(prompts)
    assert ids.shape == (400, LENGTH)
    assert ids.tolist() == tokenizer(prompts.texts())["input_ids"]


def test_positions_hold_what_they_are_named_for(prompts, tokenizer):
    encoder = IOIEncoder(tokenizer)
    ids, at = encoder(prompts), prompts.positions
    rows = torch.arange(len(prompts))
    for place, names in (("io", prompts.io), ("s1", prompts.s), ("s2", prompts.s)):
        assert ids[rows, at[place]].equal(encoder.names[names])
    assert ((at["io"] < at["s1"]) == (prompts.pos == 0)).all()
    assert at["end"].eq(LENGTH - 1).all() and at["s1+1"].equal(at["s1"] + 1)


def test_names_are_uniform_over_pairs_that_differ():
    many = ioi_prompts(40_000, generator=seeded(1))
    assert (many.io != many.s).all()
    counts = torch.bincount(len(NAMES) * many.io + many.s, minlength=len(NAMES) ** 2)
    counts = counts.view(len(NAMES), -1)[~torch.eye(len(NAMES)).bool()].double()
    expected = 40_000 / len(counts)
    # Chi-squared with 1,559 degrees of freedom: five standard deviations.
    assert ((counts - expected) ** 2 / expected).sum() < len(counts) + 5 * (2 * len(counts)) ** 0.5


@pytest.mark.parametrize("attribute", ["io", "s", "pos"])
def test_counterfactuals_differ_in_one_attribute(prompts, attribute):
    other = counterfactual(prompts, attribute, generator=seeded(2))
    assert (getattr(other, attribute) != getattr(prompts, attribute)).all()
    assert (other.io != other.s).all()
    for name, values in vars(prompts).items():
        assert name == attribute or getattr(other, name).equal(values)
    # Neither name of the prompt is the new one.
    if attribute != "pos":
        new = getattr(other, attribute)
        assert ((new != prompts.io) & (new != prompts.s)).all()


def test_words_can_be_held_out():
    some = ioi_prompts(50, templates=(2,), objects=(3, 4), places=(0,), generator=seeded())
    assert some.template.eq(2).all() and some.place.eq(0).all()
    assert set(some.object.tolist()) == {3, 4}
    assert all(len(template.split()) == LENGTH for template in TEMPLATES)


def test_rows_are_taken_together(prompts):
    assert prompts[3:5].texts() == prompts.texts()[3:5]


def test_bad_input(prompts, tokenizer):
    with pytest.raises(ValueError, match="n is 0, expected at least 1"):
        ioi_prompts(0, generator=seeded())
    with pytest.raises(ValueError, match=r"templates is \(3,\), expected at least one of 0 to 2"):
        ioi_prompts(1, templates=(3,), generator=seeded())
    with pytest.raises(ValueError, match="attribute is 'object'"):
        counterfactual(prompts, "object", generator=seeded())

    def letters(text, add_special_tokens):
        return {"input_ids": [ord(c) for c in text]}

    letters.unk_token_id = letters.bos_token_id = None
    with pytest.raises(ValueError, match="makes 6 tokens of ' Alice'; one known token is wanted"):
        IOIEncoder(letters)
