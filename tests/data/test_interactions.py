"""Interaction matrices: read, cut to a core, split and planted."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from rarefy.data import (
    Interactions,
    docstring_words,
    function_calls,
    k_core,
    planted_interactions,
    read_interactions,
    split_interactions,
)
from rarefy.data.interactions import interactions


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_both_forms_of_file_say_the_same(tmp_path):
    one, other = tmp_path / "pairs.txt", tmp_path / "lists.txt"
    one.write_text("u1 a\nu1 b\n\nu2\tb\nu1 a\n", encoding="utf-8")
    other.write_text("u1 a b\nu2 b\n", encoding="utf-8")
    for found in map(read_interactions, (one, other)):
        assert found.users.tolist() == ["u1", "u2"] and found.items.tolist() == ["a", "b"]
        assert found.matrix.toarray().tolist() == [[1, 1], [0, 1]]


def test_files_that_hold_no_interactions(tmp_path):
    path = tmp_path / "bad.txt"
    path.write_text("u1 a\nu2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2 of .* is 'u2'; a user and at least one item"):
        read_interactions(path)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match="is empty"):
        read_interactions(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_interactions(tmp_path / "absent")


def test_a_real_file(shared_data):
    path = shared_data / "sequences" / "Video.txt"
    found = read_interactions(path)
    pairs = {tuple(line.split()) for line in path.read_text(encoding="utf-8").splitlines()}
    assert found.matrix.nnz == len(pairs)
    assert len(found.users) == len({user for user, _ in pairs})


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 3), st.integers(0, 3), st.integers(0))
def test_k_core_is_what_peeling_one_at_a_time_leaves(users, items, a, b, seed):
    x = np.random.default_rng(seed % 2**32).random((users, items)) < 0.4
    found = Interactions(
        csr_array(x.astype(np.float32)), np.arange(users).astype(str), np.arange(items).astype(str)
    )
    rows, columns = set(range(users)), set(range(items))
    while True:
        poor = [u for u in rows if sum(x[u, i] for i in columns) < a]
        rare = [i for i in columns if sum(x[u, i] for u in rows) < b]
        if poor:
            rows.remove(poor[0])
        elif rare:
            columns.remove(rare[0])
        else:
            break
    if not any(x[u, i] for u in rows for i in columns):
        with pytest.raises(ValueError, match="ask for less"):
            k_core(found, user=a, item=b)
        return
    core = k_core(found, user=a, item=b)
    assert {*core.users} == {str(u) for u in rows} and {*core.items} == {str(i) for i in columns}
    expected = x[np.ix_(core.users.astype(int), core.items.astype(int))]
    np.testing.assert_array_equal(core.matrix.toarray(), expected)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0, 0.5), st.floats(0, 0.4))
def test_parts_are_disjoint_and_of_the_right_size(seed, test, validation):
    x = csr_array((np.random.default_rng(seed).random((7, 20)) < 0.5).astype(np.float32))
    parts = split_interactions(x, test=test, validation=validation, generator=seeded(seed))
    np.testing.assert_array_equal(sum(part.toarray() for part in parts), x.toarray())
    for user, n in enumerate(np.diff(x.indptr)):
        assert parts.test[[user]].nnz == int(n * test + 1e-9)
        assert parts.validation[[user]].nnz == int(n * validation + 1e-9)


def test_a_split_is_seeded_and_uniform():
    x = csr_array(np.ones((400, 5), np.float32))
    one, again = (split_interactions(x, generator=seeded(1)) for _ in range(2))
    np.testing.assert_array_equal(one.test.toarray(), again.test.toarray())
    # 400 draws of one in five: 80 expected of each item, s.d. 8.
    assert np.abs(one.test.sum(axis=0) - 80).max() < 32
    with pytest.raises(ValueError, match="must be shares"):
        split_interactions(x, test=0.9, validation=0.1, generator=seeded())


def test_planted_interactions_are_skewed_and_of_low_rank():
    x = planted_interactions(600, 200, per_user=20, generator=seeded()).toarray()
    assert (x.sum(axis=1) == 20).all() and set(np.unique(x)) == {0, 1}
    popular = x.sum(axis=0)
    assert popular[:20].mean() > 4 * popular[100:].mean()
    # Given popularity, users are alike in 8 ways: the spectrum drops behind them.
    residual = x - np.outer(x.sum(axis=1), popular) / x.sum()
    values = np.linalg.svd(residual, compute_uv=False)
    assert values[7] > 1.15 * values[8] > 1.15 * 1.15 * 0.8 * values[9]
    with pytest.raises(ValueError, match="per_user must be from 1 to the 5 items"):
        planted_interactions(10, 5, per_user=6, generator=seeded())


def test_functions_and_what_they_call():
    found = function_calls("heldout", calls=3, functions=3)
    assert "len" in found.items and "isinstance" in found.items
    counts = np.diff(found.matrix.indptr)
    assert counts.min() >= 3 and found.matrix.sum(axis=0).min() >= 3
    row = found.users.tolist().index("heapq.nsmallest")
    assert {"min", "zip"} <= {*found.items[found.matrix[[row]].indices]}


def test_docstrings_and_their_words():
    found = docstring_words("heldout", words=5, objects=5)
    assert "the" in found.items and not {"The", "a"} & {*found.items}
    assert np.diff(found.matrix.indptr).min() >= 5


def test_a_repeated_pair_counts_once():
    assert interactions([("u", "i"), ("u", "i")]).matrix.nnz == 1
