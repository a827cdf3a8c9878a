import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

from rarefy.cli import _console
from rarefy.cli._main import app
from rarefy.models import SHIPPED, open_model
from rarefy.operators import NM
from rarefy.weights import block_weights, is_nm

SMALL = {"vocab_size": 2048, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
QUICK = ("--windows", "4", "--length", "32")


@pytest.fixture
def folder(tmp_path):
    return save_model(tmp_path / "model", intermediate_size=48)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("for word in text.split():\n    counts[word] += 1\n" * 60)
    return path


def save_model(path, **sizes):
    from transformers import AutoModelForCausalLM, LlamaConfig

    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(LlamaConfig(**SMALL, **sizes)).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SHIPPED / "code" / name, path)
    return path


def prune(*words):
    """Exit status, standard output and the error's sentence, as the entry point gives them."""
    result = CliRunner().invoke(app, ["prune", *map(str, words)])
    if isinstance(result.exception, ValueError | OSError):
        return 1, result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def test_methods_are_compared_and_each_writes_a_folder_that_opens(folder, text, tmp_path):
    out = tmp_path / "out"
    status, stdout, stderr = prune(
        *(folder, "--data", text, "--method", "wanda", "--method", "magnitude", "--json"),
        *("--sparsity", "0.75", "--out", out, *QUICK),
    )
    assert status == 0, stderr
    found = json.loads(stdout)
    assert [row["method"] for row in found["pruned"]] == ["wanda", "magnitude"]
    for row in found["pruned"]:
        model, _ = open_model(out / row["method"])
        weights = block_weights(model)
        zeros = sum(int((w == 0).sum()) for w in weights.values())
        assert zeros / sum(w.numel() for w in weights.values()) == pytest.approx(
            row["sparsity"], abs=1e-6
        )
        assert row["sparsity"] == pytest.approx(0.75, abs=0.01)
        assert row["perplexity"] > 1


def test_a_pattern_with_refinement_holds_in_every_layer(folder, text, tmp_path):
    out = tmp_path / "out"
    words = ("--pattern", "2:4", "--refine", "dsnot", "--out", out, *QUICK)
    status, _, stderr = prune(folder, "--data", text, *words)
    assert status == 0, stderr
    for weight in block_weights(open_model(out).model).values():
        assert is_nm(weight, NM(2, 4))
    assert json.loads((out / "rarefy.json").read_text())["method"] == "wanda+dsnot"


def test_the_table_names_every_method_and_fits_a_terminal(folder, text, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(_console, "out", Console(width=80, highlight=False))
    status, stdout, _ = prune(folder, "--data", text, *QUICK)
    assert status == 0
    assert "wanda" in stdout
    assert "dense" in stdout
    assert max(map(len, stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("--sparsity", "1.2"), 2, "sparsity is 1.2, a share between 0 and 1"),
        (("--sparsity", "nan"), 2, "a share between 0 and 1"),
        (("--pattern", "3:2"), 2, "3"),
        (("--pattern", "half"), 2, "'half' is no pattern"),
        (("--pattern", "2:5"), 1, "5"),
        (("--pattern", "2:4", "--sparsity", "0.5"), 2, "not both"),
        (("--method", "guess"), 2, "guess"),
        (("--windows", "0"), 2, "windows"),
        (("--length", "100000"), 1, "longer than the model's context"),
        (("--data", "nowhere.txt"), 1, "no such text file or folder"),
        (("--device", "abacus"), 1, "device 'abacus' cannot be used here"),
    ],
)
def test_bad_requests_are_one_sentence_and_leave_nothing(
    folder, text, tmp_path, words, status, sentence
):
    out = tmp_path / "out"
    data = () if "--data" in words else ("--data", text)
    found, _, stderr = prune(folder, *data, "--out", out, *QUICK, *words)
    assert found == status
    assert sentence in " ".join(stderr.replace("│", " ").split())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "text.txt"]


def test_text_that_is_too_short_empty_or_binary_is_refused(folder, tmp_path):
    path = tmp_path / "x.txt"
    for content, sentence in (
        (b"a few words only", "two windows of 32"),
        (b"", "is empty"),
        (b"\0\1\2", "binary file"),
    ):
        path.write_bytes(content)
        status, _, message = prune(folder, "--data", path, *QUICK)
        assert status == 1
        assert sentence in message


def test_a_folder_that_is_there_is_not_overwritten(folder, text, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("precious")
    status, _, stderr = prune(folder, "--data", text, "--out", kept, *QUICK)
    assert status == 2
    assert "already there" in stderr
    assert (kept / "file").read_text() == "precious"


def test_a_file_in_the_place_of_a_folder_is_refused_before_any_work(folder, text):
    status, _, stderr = prune(folder, "--data", text, "--out", text / "out", *QUICK)
    assert status == 2
    assert "is a file, a folder is wanted" in " ".join(stderr.replace("│", " ").split())


def test_a_full_disk_leaves_nothing_behind(folder, text, tmp_path, monkeypatch):
    from transformers import PreTrainedModel

    def full(self, path, **_):
        path.mkdir()
        (path / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    status, _, message = prune(folder, "--data", text, "--out", tmp_path / "out", *QUICK)
    assert status == 1
    assert "No space left on device" in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "text.txt"]
