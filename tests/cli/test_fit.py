"""`rarefy fit`: coefficients in the table's units, files, and usage errors."""

import json
import os

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from typer.testing import CliRunner

from rarefy.cli._main import app


def fit(*words):
    """Exit status, standard output and the error's sentence, as the entry point gives them."""
    result = CliRunner().invoke(app, ["fit", *map(str, words)])
    if isinstance(result.exception, ValueError | OSError | ImportError):
        return 1, result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def design():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 12)) * np.geomspace(1e-3, 1e3, 12) + 5
    y = 400 * X[:, 1] + 0.002 * X[:, 10] + 0.1 * rng.normal(size=80)
    return X, y


@pytest.fixture
def table(design, tmp_path):
    X, y = design
    return write(tmp_path / "table.csv", X, y)


def write(path, X, y):
    lines = [",".join([*(f"c{j}" for j in range(X.shape[1])), "flat", "y"])]
    lines += [
        ",".join([*map(repr, map(float, row)), "1", str(value)])
        for row, value in zip(X, y, strict=True)
    ]
    path.write_text("\n".join(lines))
    return path


def test_the_table_s_own_units(design, table):
    X, y = design
    status, stdout, stderr = fit(table, "--target", "y", "--penalty", "mcp", "--json")
    assert status == 0, stderr
    found = json.loads(stdout)
    assert found["loss"] == "linear" and found["constant"] == ["flat"]
    assert found["rows"] == 80 and found["columns"] == 13
    assert [row["name"] for row in found["kept"][:2]] == ["c1", "c10"]
    # MCP leaves large coefficients unshrunk: those of least squares on what was kept
    kept = [int(row["name"][1:]) for row in found["kept"]]
    solved = LinearRegression().fit(X[:, kept], y)
    np.testing.assert_allclose(
        [row["coefficient"] for row in found["kept"]][:2], solved.coef_[:2], rtol=1e-2
    )
    names = {row["name"]: row["coefficient"] for row in found["kept"]}
    predicted = found["intercept"] + sum(X[:, int(n[1:])] * b for n, b in names.items())
    assert 1 - np.var(y - predicted) / np.var(y) == pytest.approx(found["score"])
    assert np.mean(y - predicted) == pytest.approx(0, abs=1e-9)
    assert found["score"] > 0.98


def test_classes_a_path_and_a_folder(design, tmp_path):
    X, y = design
    table = write(tmp_path / "classes.csv", X, np.where(y > np.median(y), "high", "low"))
    out = tmp_path / "out"
    status, stdout, stderr = fit(
        *(table, "--target", "y", "--strength", "0.05", "--path", "--out", out)
    )
    assert status == 0, stderr
    assert "c1" in stdout and "accuracy" in stdout and "constant, left out: flat" in stdout
    assert sorted(os.listdir(out)) == ["fit.json", "path.svg"]
    found = json.loads((out / "fit.json").read_text())
    assert found["loss"] == "logistic" and found["held_out_loss"] is None
    # "low" is the second class, and c1 speaks for "high"
    assert found["kept"][0]["name"] == "c1" and found["kept"][0]["coefficient"] < 0
    assert (out / "path.svg").read_text().startswith("<svg")


def test_usage_and_errors(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fit(table, "--target", "z")[0] == 1
    assert "target must be a column" in fit(table, "--target", "z")[2]
    assert fit(table, "--target", "y", "--strength", "-1")[0] == 2
    assert fit(table, "--target", "y", "--out", tmp_path)[0] == 2
    words = tmp_path / "words.csv"
    words.write_text("x,y\n1,a\n2,b\n3,c\n")
    assert "must hold numbers or two classes, got 3" in fit(words, "--target", "y")[2]
    assert fit(table, "--target", "y", "--strength", "1", "--path")[0] == 0
    assert (tmp_path / "path.svg").exists()
