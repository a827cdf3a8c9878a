"""One token a character, special tokens apart, left padding that changes no probability."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from rarefy.models import character_model, character_tokenizer
from rarefy.models.characters import ALPHABET, SPECIAL

TOKENIZER = character_tokenizer()


@given(st.text(ALPHABET.replace("<", ""), max_size=40))
def test_a_text_is_its_characters(text):
    ids = TOKENIZER(text)["input_ids"]
    assert len(ids) == len(text)
    assert TOKENIZER.decode(ids) == text


def test_special_tokens_differ_and_unknown_characters_have_one():
    t = TOKENIZER
    special = [t.pad_token_id, t.bos_token_id, t.eos_token_id, t.mask_token_id, t.unk_token_id]
    assert special == list(range(len(SPECIAL)))
    assert t("aéb")["input_ids"] == [t.convert_tokens_to_ids("a"), t.unk_token_id,
                                     t.convert_tokens_to_ids("b")]  # fmt: skip
    assert t.decode(t("ab")["input_ids"] + [t.eos_token_id], skip_special_tokens=True) == "ab"


def test_saved_and_opened_again_they_are_the_same(tmp_path):
    model = character_model(TOKENIZER, seed=0, hidden=32, layers=1)
    TOKENIZER.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert tokenizer.get_vocab() == TOKENIZER.get_vocab()
    assert tokenizer.padding_side == "left"
    batch = tokenizer(["n3>3=", "sa21="], return_tensors="pt", padding=True)
    assert batch.keys() == {"input_ids", "attention_mask"}
    assert batch["input_ids"].equal(
        TOKENIZER(["n3>3=", "sa21="], return_tensors="pt", padding=True)["input_ids"]
    )
    torch.testing.assert_close(opened(**batch).logits, model(**batch).logits)


def test_left_padding_changes_no_log_probability():
    model = character_model(TOKENIZER, seed=0)
    texts = ["n3,5,2>16=3;+5.8", "sa21=1"]
    batch = TOKENIZER(texts, return_tensors="pt", padding=True)
    assert (batch["input_ids"][1, :-6] == TOKENIZER.pad_token_id).all()
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        padded = model(**batch, position_ids=positions).logits.log_softmax(-1)
        for row, text in enumerate(texts):
            alone = model(**TOKENIZER(text, return_tensors="pt")).logits.log_softmax(-1)
            torch.testing.assert_close(padded[row, -len(text) :], alone[0], atol=1e-5, rtol=0)


def test_the_seed_decides_the_weights_and_leaves_the_global_state():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (character_model(TOKENIZER, seed=s).lm_head.weight for s in (0, 0, 1))
    assert torch.rand(3).equal(expected)
    assert first.equal(again) and not first.equal(other)
    assert 0.3e6 < character_model(TOKENIZER, seed=0).num_parameters() < 1e6


def test_repeated_characters_and_odd_widths_are_refused():
    with pytest.raises(ValueError, match="alphabet is 'aba'; characters that differ are wanted"):
        character_tokenizer("aba")
    with pytest.raises(ValueError, match="hidden is 100; a multiple of 32"):
        character_model(TOKENIZER, seed=0, hidden=100)
