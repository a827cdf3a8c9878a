import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

from rarefy.cli import _console
from rarefy.cli._main import app
from rarefy.models import SHIPPED

SMALL = {"vocab_size": 2048, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
QUICK = ("--windows", "2", "--length", "32", "--steps", "3", "--batch", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    from transformers import AutoModelForCausalLM, GPT2Config

    root = tmp_path_factory.mktemp("compare")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(**SMALL, bos_token_id=0, eos_token_id=0)
        AutoModelForCausalLM.from_config(config).save_pretrained(root / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SHIPPED / "code" / name, root / "model")
    (root / "text.txt").write_text("for word in text.split():\n    counts[word] += 1\n" * 30)
    return root


def weights(place, *words):
    """Exit status, standard output and the error's sentence, as the entry point gives them."""
    given = ["compare", "weights", place / "model", "--data", place / "text.txt", *QUICK, *words]
    result = CliRunner().invoke(app, [str(word) for word in given])
    if isinstance(result.exception, ValueError | OSError):
        return 1, result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def test_points_costs_and_picture_on_a_users_folder(place, tmp_path):
    methods = "magnitude,wanda+dsnot,random+finetune,gradual"
    status, stdout, stderr = weights(
        place, "--methods", methods, "--sparsity", "0.5,0.9", "--out", tmp_path, "--json"
    )
    assert status == 0, stderr
    found = json.loads(stdout)
    named = [(point["method"], point["target"]) for point in found["points"]]
    assert named[:3] == [("dense", "0"), ("dense+finetune", "0"), ("magnitude", "0.5")]
    assert len(named) == 2 + 4 * 2
    for point in found["points"]:
        # Rows of 16 inputs keep 2 of them where a tenth is asked for.
        assert point["sparsity"] == pytest.approx(float(point["target"]), abs=0.03)
        assert point["value"] > 1
        assert (point["train_seconds"] > 0) == ("finetune" in point["method"]) or (
            "gradual" in point["method"]
        )
    assert json.loads((tmp_path / "compare.json").read_text()) == found
    assert (tmp_path / "compare.svg").read_text().startswith("<svg")


def test_after_ctrl_c_the_same_command_goes_on(place, tmp_path, monkeypatch):
    import rarefy.weights

    words = ("--methods", "magnitude,global+finetune", "--sparsity", "0.5,0.9", "--out", tmp_path)
    real = rarefy.weights.compare

    def stopping(*args, on_point, **options):
        def keep(point):
            on_point(point)
            if point.method == "magnitude":
                raise KeyboardInterrupt

        return real(*args, on_point=keep, **options)

    monkeypatch.setattr(rarefy.weights, "compare", stopping)
    status, _, stderr = weights(place, *words)
    assert status == 130
    assert "3 points are kept" in stderr
    monkeypatch.setattr(rarefy.weights, "compare", real)
    kept = [json.loads(line) for line in (tmp_path / "points.jsonl").read_text().splitlines()[1:]]
    status, stdout, stderr = weights(place, *words, "--json")
    assert status == 0
    assert "going on after 3 measurements" in stderr
    points = {(p["method"], p["target"]): p for p in json.loads(stdout)["points"]}
    for entry in kept:
        method, target = entry["arm"].split(" at ")
        assert points[method, target]["mask_seconds"] == entry["values"]["mask_seconds"]


def test_the_table_fits_a_terminal(place, tmp_path, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(_console, "out", Console(width=80, highlight=False))
    status, stdout, _ = weights(
        place, "--methods", "magnitude+finetune", "--sparsity", "0.5,2:4", "--out", tmp_path
    )
    assert status == 0
    table = [line for line in stdout.splitlines() if "│" in line]
    assert any("magnitude+finetune" in line for line in table)
    assert max(map(len, table)) <= 80


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("--sparsity", "1.2"), 2, "sparsity is 1.2, a share between 0 and 1"),
        (("--sparsity", "half"), 2, "sparsity is half"),
        (("--sparsity", "3:2"), 2, "3"),
        (("--sparsity", ""), 1, "at least one method and one sparsity"),
        (("--methods", "guess"), 2, "'guess' is no method"),
        (("--methods", "rigl", "--sparsity", "2:4"), 1, "cannot hold the pattern"),
        (("--methods", "magnitude", "--sparsity", "2:5"), 1, "no multiple of 5"),
        (("--lr", "0"), 2, "lr is 0, above 0 is wanted"),
        (("--length", "1000"), 1, "longer than the model's context of 64"),
    ],
)
def test_bad_requests_are_one_sentence_and_leave_nothing(place, tmp_path, words, status, sentence):
    found, _, stderr = weights(place, "--out", tmp_path / "out", *words)
    assert found == status
    assert sentence in " ".join(stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()
