import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from rarefy.cli._main import app
from rarefy.regression import linfoot, mutual_info_screen

pq = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")


def screen(*words):
    """Exit status, standard output and the error's sentence, as the entry point gives them."""
    result = CliRunner().invoke(app, ["screen", *map(str, words)])
    if isinstance(result.exception, ValueError | OSError | ImportError):
        return 1, result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 30))
    return x, x[:, 4] ** 2 + 0.3 * rng.standard_normal(200)


@pytest.fixture
def tables(tmp_path, data):
    """The same table as CSV and Parquet, target in the middle."""
    x, y = data
    names = [f"g{j}" for j in range(30)]
    columns = {name: x[:, j] for j, name in enumerate(names)}
    columns = dict(list(columns.items())[:10]) | {"y": y} | columns
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with (tmp_path / "t.csv").open("w") as file:
        file.write(",".join(columns) + "\n")
        for row in zip(*columns.values(), strict=True):
            file.write(",".join(repr(float(v)) for v in row) + "\n")
    return tmp_path / "t.csv", tmp_path / "t.parquet"


@pytest.mark.parametrize("which", [0, 1])
def test_tables_are_screened_and_all_scores_written(tables, data, which, tmp_path):
    out = tmp_path / "scores.csv"
    status, stdout, stderr = screen(
        tables[which], "--target", "y", "--top", 3, "--json", "--out", out
    )
    assert status == 0, stderr
    found = json.loads(stdout)
    scores = mutual_info_screen(*data)
    assert (found["rows"], found["columns"], found["target"]) == (200, 30, "y")
    assert found["top"][0] == {
        "rank": 1, "column": 4, "name": "g4", "score": pytest.approx(scores[4], rel=1e-12),
        "linfoot": pytest.approx(linfoot(scores[4])),
    }  # fmt: skip
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["column"]) for row in rows] == np.argsort(-scores, kind="stable").tolist()
    assert [float(row["score"]) for row in rows] == pytest.approx(sorted(scores)[::-1], rel=1e-7)


def test_the_table_names_the_best(tables):
    status, stdout, stderr = screen(tables[0], "--target", "y", "--top", 5)
    assert status == 0, stderr
    lines = [line for line in stdout.splitlines() if "│" in line]
    assert len(lines) == 5 and "g4" in lines[0]


def test_npy_and_plink_take_their_target_from_a_file_or_the_phenotype(tmp_path, data):
    x, y = data
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    status, stdout, stderr = screen(tmp_path / "x.npy", "--target", tmp_path / "y.npy", "--json")
    assert status == 0, stderr
    assert json.loads(stdout)["top"][0]["name"] == "4"

    samples = 40
    body = b"\x6c\x1b\x01" + bytes([0b11100100] * 10) + bytes([0b11111111] * 5 + [0b00000000] * 5)
    (tmp_path / "g.bed").write_bytes(body)
    (tmp_path / "g.bim").write_text("1 rs0 0 1 A G\n1 rs1 0 2 A G\n")
    (tmp_path / "g.fam").write_text("".join(f"F I{i} 0 0 1 {1 + (i < 20)}\n" for i in range(40)))
    assert len(body) == 3 + 2 * samples // 4
    status, stdout, stderr = screen(tmp_path / "g.bed", "--json")
    assert status == 0, stderr
    found = json.loads(stdout)
    assert found["target"] == "phenotype" and found["top"][0]["name"] == "rs1"
    assert found["top"][0]["score"] == pytest.approx(np.log(2))


def test_clumping_and_leaving_out(tmp_path, data):
    x, y = data
    x = np.column_stack([x, x[:, 4] + 1e-3])
    header = [*(f"g{j}" for j in range(31)), "y"]
    rows = "\n".join(",".join(map(str, row)) for row in np.column_stack([x, y]))
    (tmp_path / "t.csv").write_text(",".join(header) + "\n" + rows + "\n")

    def best(*words):
        status, stdout, stderr = screen(tmp_path / "t.csv", "--target", "y", "--json", *words)
        assert status == 0, stderr
        return [row["name"] for row in json.loads(stdout)["top"]]

    assert set(best()[:2]) == {"g4", "g30"}
    assert best("--clump", 0.1)[0] == "g4" and "g30" not in best("--clump", 0.1)
    assert "g4" not in best("--exclude", "g4", "--exclude", "g30")


def test_bad_input_is_one_clear_sentence(tables, tmp_path):
    table = tables[0]

    def refused(code, sentence, *words):
        status, stdout, said = screen(*words)
        flat = " ".join(said.replace("│", " ").split())
        assert (status, stdout) == (code, "") and sentence in flat, flat

    refused(1, "has no column 'yy'; there is 'y'", table, "--target", "yy")
    refused(2, "name the column to predict", table)
    refused(2, "there is no", tmp_path / "none.csv", "--target", "y")
    refused(2, "is no bandwidth", table, "--target", "y", "--bandwidth", "wide")
    refused(2, "already there", table, "--target", "y", "--out", table)
    (tmp_path / "t.txt").write_text("x")
    refused(1, "does not end in", tmp_path / "t.txt", "--target", tmp_path / "y.npy")
    np.save(tmp_path / "y.npy", np.ones(200))
    refused(1, "y is constant", table, "--target", tmp_path / "y.npy")
    np.save(tmp_path / "y.npy", np.ones(7))
    refused(1, "y has shape (7,), X has 200 rows", table, "--target", tmp_path / "y.npy")
    np.save(tmp_path / "x.npy", np.ones((7, 2)))
    refused(2, "give a .npy file", tmp_path / "x.npy", "--target", "y")
    (tmp_path / "n.csv").write_text("a,y\n" + "nan,1\n2,2.5\n" * 20)
    refused(1, "column a of X holds NaN", tmp_path / "n.csv", "--target", "y")
    (tmp_path / "bad.npy").write_text("")
    refused(1, "no readable .npy", table, "--target", tmp_path / "bad.npy")
    refused(1, "n_jobs", table, "--target", "y", "--jobs", 0)
