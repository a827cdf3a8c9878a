"""Tables: what is read, and one clear sentence for each thing that cannot be."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from rarefy.data import read_table


def write(folder, text, name="table.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_numbers_truth_and_words(tmp_path):
    text = '\ufeffx,ok,town,y\n1,true,hay,0.5\n-2e1,False,rye,1\n\n3,TRUE,"a,b",2\n'
    table = read_table(write(tmp_path, text), "y")
    assert table.names == ["x", "ok", "town=a,b", "town=hay", "town=rye"]
    np.testing.assert_array_equal(table.X, [[1, 1, 0, 1, 0], [-20, 0, 0, 0, 1], [3, 1, 1, 0, 0]])
    assert table.X.flags.f_contiguous
    assert table.y.tolist() == [0.5, 1, 2]


def test_a_target_of_words_stays_words(tmp_path):
    table = read_table(write(tmp_path, "x,town,y\n1,a,no\n2,b,yes\n"), "y")
    assert table.y.tolist() == ["no", "yes"]
    assert table.names == ["x", "town=b"]  # two words are one column


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x,y\n1,2\nNA,3\n,4\n", "column 'x' misses 2 of 3 values, the first in row 2"),
        ("x,y\n1,2\n3\n", "row 2 of .* has 1 values, the line of names has 2"),
        ("x,x,y\n1,2,3\n", "names the column 'x' twice"),
        ("x,y\n1,inf\n", "column 'y' must be finite, row 1 is inf"),
        ("x,z\n1,2\n", "target must be a column of .*, got 'y'; there are x, z"),
        ("y\n1\n", "holds no column besides the target 'y'"),
        ("x,y\n", "holds no rows"),
        ("", "is empty"),
        ("x,y\n" + "".join(f"w{i},1\n" for i in range(101)), "column 'x' holds 101 different wor"),
    ],
)
def test_what_cannot_be_read(tmp_path, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_table(write(tmp_path, text), "y")


def test_no_file_and_another_kind_of_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such table"):
        read_table(tmp_path / "none.csv", "y")
    with pytest.raises(ValueError, match="must be a .csv or a .parquet file, got .xls"):
        read_table(write(tmp_path, "", "table.xls"), "y")


def test_parquet_says_what_csv_says(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    columns = {
        "x": pa.array([1, 2, 3]),
        "ok": pa.array([True, False, True]),
        "town": pa.array(["a", "b", "c"]).dictionary_encode(),
        "y": pa.array([0.5, 1, 2], pa.float32()),
    }
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    table = read_table(tmp_path / "table.parquet", "y")
    other = read_table(write(tmp_path, "x,ok,town,y\n1,true,a,0.5\n2,false,b,1\n3,true,c,2\n"), "y")
    assert table.names == other.names
    np.testing.assert_array_equal(table.X, other.X)
    np.testing.assert_array_equal(table.y, other.y)

    for column, sentence in [
        (pa.array([1, None, 3]), "column 'x' misses 1 of 3 values, the first in row 2"),
        (pa.array([1.0, 2.0, np.nan]), "column 'x' misses 1 of 3 values, the first in row 3"),
        (pa.array([[1], [2], [3]]), "column 'x' of .* must hold numbers or words"),
    ]:
        pq.write_table(pa.table(columns | {"x": column}), tmp_path / "bad.parquet")
        with pytest.raises(ValueError, match=sentence):
            read_table(tmp_path / "bad.parquet", "y")
    with pytest.raises(ValueError, match="is no readable Parquet file"):
        read_table(write(tmp_path, "x,y\n", "cut.parquet"), "y")


def test_parquet_without_pyarrow_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        ImportError, match=r"needs pyarrow: pip install 'rarefy\[regression\]', or give a .csv"
    ):
        read_table(write(tmp_path, "", "table.parquet"), "y")
