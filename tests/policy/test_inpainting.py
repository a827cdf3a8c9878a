"""Chunks and their places: verbatim, at their own places, as many as said, never the answer."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.policy.inpainting import MAX_SHIFT, Chunk, chunk, place, stretch, without_answer
from rarefy.policy.tasks import COUNTDOWN

MASK = 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 5), st.integers(0, 5), st.integers(0, 99))
def test_chunks_lie_side_by_side_and_only_a_short_end_is_dropped(n, shortest, more, seed):
    trace = list(range(100, 100 + n))
    size = (shortest, shortest + more)
    pieces = chunk(trace, size=size, generator=generator(seed))
    end = 0
    for piece in pieces:
        assert piece.start == end
        assert list(piece.tokens) == trace[end : end + len(piece.tokens)]
        assert shortest <= len(piece.tokens) <= size[1]
        end += len(piece.tokens)
    assert 0 <= n - end < shortest


def test_all_of_the_chunks_give_the_trace_back_verbatim():
    trace = list(range(100, 117))
    pieces = chunk(trace, size=(2, 4), generator=generator())
    canvas = place(pieces, 1.0, length=24, mask_token_id=MASK, generator=generator())
    covered = sum(len(piece.tokens) for piece in pieces)
    assert canvas[:covered].tolist() == trace[:covered]
    assert (canvas[covered:] == MASK).all()


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.integers(0, 99))
def test_a_share_is_rounded_down_and_each_token_stands_where_it_stood(share, seed):
    pieces = [Chunk(start, (100 + start, 101 + start)) for start in range(0, 20, 2)]
    canvas = place(pieces, share, length=24, mask_token_id=MASK, generator=generator(seed))
    given_places = (canvas != MASK).nonzero()[:, 0]
    assert len(given_places) == 2 * int(share * 10 + 1e-9)
    assert (canvas[given_places] == 100 + given_places).all()


def test_every_chunk_is_drawn_alike():
    pieces = [Chunk(start, (7,)) for start in range(5)]
    drawn = generator(1)
    counts = sum(
        (place(pieces, 0.4, length=5, mask_token_id=MASK, generator=drawn) == 7).long()
        for _ in range(2000)
    )
    torch.testing.assert_close(counts / 2000, torch.full((5,), 0.4), atol=0.04, rtol=0)


def test_the_room_at_the_end_stays_free_and_stretching_keeps_chunks_whole():
    pieces = [Chunk(0, (10, 11)), Chunk(4, (12, 13)), Chunk(9, (14, 15))]
    common = {"length": 12, "mask_token_id": MASK, "generator": generator()}
    canvas = place(pieces, 1.0, factor=1.5, room=5, **common)
    assert canvas.tolist() == [10, 11, 3, 3, 3, 3, 12, 3, 3, 3, 3, 3]
    far = place([Chunk(1000, (9,))], 1.0, factor=1.5, **(common | {"length": 2000}))
    assert (far == 9).nonzero().item() == 1000 + MAX_SHIFT
    assert [stretch(n, length=24) for n in (48, 20, 4, 0)] == [1.0, 1.2, 1.5, 1.5]


def test_what_follows_the_mark_is_no_part_of_the_hint():
    rng = random.Random(0)
    for level in (1, 2, 3, 4, 5):
        problem = COUNTDOWN.sample(level, rng)
        assert without_answer(problem.completion) == problem.trace
    assert without_answer("no answer here") == "no answer here"
    assert without_answer("Add. The answer is 5.", mark="The answer") == "Add. "


def test_what_makes_no_sense_is_refused():
    common = {"length": 4, "mask_token_id": MASK, "generator": generator()}
    with pytest.raises(ValueError, match=r"size is \(3, 2\)"):
        chunk([1], size=(3, 2), generator=generator())
    with pytest.raises(ValueError, match="share is 1.2"):
        place([], 1.2, **common)
    with pytest.raises(ValueError, match="factor is 0.5, room 0"):
        place([], 0.5, factor=0.5, **common)
    with pytest.raises(ValueError, match="room 4 and length 4"):
        place([], 0.5, room=4, **common)
