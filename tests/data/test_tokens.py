import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rarefy.data import encode, sample_windows, windows
from rarefy.models import SHIPPED


@given(st.integers(1, 200), st.integers(1, 50))
def test_windows_are_the_stream_without_its_remainder(n_tokens, length):
    stream = torch.arange(n_tokens)
    if n_tokens < length:
        with pytest.raises(ValueError, match=f"{n_tokens} tokens, shorter than one window"):
            windows(stream, length)
        return
    cut = windows(stream, length)
    assert torch.equal(cut.flatten(), stream[: n_tokens - n_tokens % length])


def test_limited_windows_spread_over_the_stream():
    cut = windows(torch.arange(100), 10, limit=4)
    assert cut[:, 0].tolist() == [0, 20, 50, 70]
    assert len(windows(torch.arange(100), 10, limit=40)) == 10
    with pytest.raises(ValueError, match="limit must be at least 1"):
        windows(torch.arange(100), 10, limit=0)


def test_sampled_windows_are_runs_of_the_stream_and_follow_the_seed():
    stream = torch.arange(1000)
    draw = [
        sample_windows(stream, 16, 64, generator=torch.Generator().manual_seed(s))
        for s in (3, 3, 4)
    ]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    assert torch.equal(draw[0].diff(dim=1), torch.ones(64, 15, dtype=torch.int64))


def test_every_offset_can_be_drawn():
    drawn = sample_windows(torch.arange(5), 3, 200, generator=torch.Generator().manual_seed(0))
    assert set(drawn[:, 0].tolist()) == {0, 1, 2}


def test_documents_are_joined_with_the_end_of_text_token_and_decode_back():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "code")
    documents = ["def f(x):\n\treturn x  # é\n", "\x00\x7f naïve 漢字 🙂", ""]
    ids = encode(tokenizer, documents)
    assert (ids == tokenizer.eos_token_id).sum() == 3
    assert tokenizer.decode(ids, skip_special_tokens=True) == "".join(documents)
