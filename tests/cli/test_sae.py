import json
import shutil
import sys

import pytest
import torch
from typer.testing import CliRunner

from rarefy.cli import _console
from rarefy.cli._main import app
from rarefy.dictionaries import load
from rarefy.models import SHIPPED

QUICK = ("--tokens", "2K", "--batch", "64", "--length", "32", "--k", "4", "--width", "4x")
SMALL = {"vocab_size": 2048, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small model, a text, and two trained autoencoders."""
    from transformers import AutoModelForCausalLM, GPT2Config

    root = tmp_path_factory.mktemp("sae")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(**SMALL, bos_token_id=0, eos_token_id=0)
        AutoModelForCausalLM.from_config(config).save_pretrained(root / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SHIPPED / "code" / name, root / "model")
    lines = [f"for word{i} in text[{i}:].split():\n    counts[{i * i}] += {i}\n" for i in range(90)]
    (root / "text.txt").write_text("".join(lines))
    for name, k in (("one", 4), ("two", 8)):
        status, _, stderr = train(root, "--k", k, "--out", root / name)
        assert status == 0, stderr
    return root


def sae(*words):
    """Exit status, standard output and the error's sentence, as the entry point gives them."""
    result = CliRunner().invoke(app, ["sae", *map(str, words)])
    if isinstance(result.exception, ValueError | OSError):
        return 1, result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def train(root, *words):
    return sae("train", root / "model", "--data", root / "text.txt", *QUICK, *words)


def test_train_writes_a_folder_that_opens_and_says_what_it_is(place, tmp_path):
    out = tmp_path / "out"
    status, stdout, stderr = train(place, "--out", out, "--layer", "0", "--json")
    assert status == 0, stderr
    found = json.loads(stdout)
    assert (found["layer"], found["latents"], found["architecture"]) == (0, 64, "topk")
    assert found["held_out"]["l0"] <= 4
    assert 0 < found["held_out"]["fvu"] < 1.5
    assert load(out).decoder.shape == (64, 16)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    "activation", ["relu", "gated", "jumprelu", "batchtopk", "matryoshka", "feature-choice"]
)
def test_every_architecture_trains_and_opens(place, tmp_path, activation):
    status, _, stderr = train(place, "--activation", activation, "--out", tmp_path / "out")
    assert status == 0, stderr
    assert load(tmp_path / "out")(torch.zeros(2, 16)).shape == (2, 16)


def test_the_folder_of_another_package_is_judged_too(place, tmp_path):
    status, _, stderr = train(place, "--format", "sparsify", "--out", tmp_path / "out")
    assert status == 0, stderr
    words = ("eval", tmp_path / "out", "--data", place / "text.txt")
    assert "give --layer" in sae(*words)[2]
    status, stdout, stderr = sae(
        *words, "--layer", "1", "--model", place / "model", "--length", 32, "--json"
    )
    assert status == 0, stderr
    assert json.loads(stdout)["l0"] <= 4


def test_after_ctrl_c_the_same_command_ends_with_the_same_autoencoder(place, tmp_path, monkeypatch):
    module = sys.modules["rarefy.dictionaries.fit"]
    words = ("--tokens", "6K", "--out")
    assert train(place, *words, tmp_path / "whole")[0] == 0
    real = module.train

    def stopping(sae, stream, **options):
        class Stops:
            def batch(self, step):
                if step == 70:
                    raise KeyboardInterrupt
                return stream.batch(step)

        return real(sae, Stops(), **options)

    monkeypatch.setattr(module, "train", stopping)
    status, _, stderr = train(place, *words, tmp_path / "out")
    assert status == 130
    assert "the same command goes on" in " ".join(stderr.split())
    status, _, message = train(place, *words, tmp_path / "out", "--k", "5")
    assert status == 1
    assert "was begun with k 4, not 5" in message
    monkeypatch.setattr(module, "train", real)
    assert train(place, *words, tmp_path / "out")[0] == 0
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "out" / "training").exists()


def test_a_truncated_checkpoint_is_one_sentence(place, tmp_path):
    out = tmp_path / "out"
    settings = {"model": str(place / "model"), "layer": None, "architecture": "topk", "k": 4}
    settings |= {"width": "4x", "tokens": 2000, "data": str(place / "text.txt"), "length": 32}
    settings |= {"batch": 64, "buffer": 65536, "lr": None, "seed": 0}
    (out / "training").mkdir(parents=True)
    (out / "training" / "settings.json").write_text(json.dumps(settings))
    torch.save({"sae": torch.zeros(100)}, out / "training" / "checkpoint.pt")
    whole = (out / "training" / "checkpoint.pt").read_bytes()
    for content in (whole[: len(whole) // 2], b"", whole):
        (out / "training" / "checkpoint.pt").write_bytes(content)
        status, _, message = train(place, "--out", out)
        assert status == 1
        assert "checkpoint.pt is no whole checkpoint of this run" in message
        assert (out / "training" / "checkpoint.pt").read_bytes() == content


def test_eval_prints_what_a_dictionary_is_judged_by(place, monkeypatch):
    from rich.console import Console

    status, stdout, _ = sae("eval", place / "one", "--json")
    found = json.loads(stdout)
    assert status == 0
    assert 0 <= found["dead"] <= 1 and 0 <= found["dense"] <= 1
    assert found["kl"] > 0
    recorded = json.loads((place / "one" / "config.json").read_text())["metadata"]["held_out"]
    assert recorded == {name: pytest.approx(found[name], rel=1e-4) for name in recorded}
    monkeypatch.setattr(_console, "out", Console(width=80, highlight=False))
    status, stdout, _ = sae("eval", place / "one")
    for word in ("L0", "FVU", "dead", "dense", "recovered", "KL", "clean", "spliced", "mean"):
        assert word in stdout
    assert max(map(len, stdout.splitlines())) <= 80


def test_compare_has_a_row_and_a_point_for_each(place, tmp_path):
    out = tmp_path / "out"
    status, stdout, stderr = sae("compare", place / "one", place / "two", "--out", out, "--json")
    assert status == 0, stderr
    found = json.loads(stdout)
    one, two = found["autoencoders"]
    assert one["l0"] < two["l0"] and one["fvu"] > two["fvu"]
    assert json.loads((out / "compare.json").read_text()) == found
    assert (out / "compare.svg").read_text().startswith("<svg")
    assert train(place, "--layer", "0", "--out", tmp_path / "other")[0] == 0
    status, _, message = sae("compare", place / "one", tmp_path / "other", "--out", out)
    assert status == 1
    assert "autoencoders of one layer can be compared" in message


def test_features_writes_a_page(place, tmp_path):
    words = ("features", place / "one", "--count", "3", "--examples", "2")
    status, stdout, stderr = sae(*words, "--out", tmp_path / "page.html", "--json")
    assert status == 0, stderr
    found = json.loads(stdout)
    assert 0 < len(found["features"]) <= 3
    page = (tmp_path / "page.html").read_text()
    assert page.count('class="feature"') == len(found["features"])
    status, stdout, _ = sae(*words, "--feature", "64")
    assert status == 1


def test_values_that_are_not_finite_are_one_sentence_and_leave_nothing(place, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(place / "model")
    with torch.no_grad():
        model.transformer.h[0].mlp.c_proj.bias[3] = torch.nan
    shutil.copytree(place / "model", tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    status, _, message = sae(
        *("train", tmp_path / "model", "--data", place / "text.txt", *QUICK),
        *("--out", tmp_path / "out"),
    )
    assert status == 1
    assert "activations at layer 1 are not finite" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("--layer", "2"), 1, "there is no layer 2: the model has layers 0 to 1"),
        (("--layer", "transformer.g.1"), 1, "has no module 'transformer.g.1'"),
        (("--k", "65"), 1, "k is 65, more than the 64 latents"),
        (("--k", "0"), 2, "greater than or equal to 1"),
        (("--width", "wide"), 2, "'wide' is no width"),
        (("--width", "0x"), 2, "'0x' is no width"),
        (("--tokens", "many"), 2, "'many' is no number of tokens"),
        (("--tokens", "10"), 1, "tokens must be at least one batch of 64, got 10"),
        (("--length", "60000"), 1, "longer than the model's context of 64"),
        (("--batch", "100000", "--tokens", "1M"), 1, "fewer than one batch of 100000"),
        (("--activation", "guess"), 2, "guess"),
        (("--lr", "0"), 2, "lr is 0"),
    ],
)
def test_bad_requests_are_one_sentence_and_leave_nothing(place, tmp_path, words, status, sentence):
    found, _, stderr = train(place, "--out", tmp_path / "out", *words)
    assert found == status
    assert sentence in " ".join(stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_a_text_shorter_than_a_window_and_folders_that_are_none(place, tmp_path):
    (tmp_path / "short.txt").write_text("a few words only")
    words = ("--data", tmp_path / "short.txt", *QUICK, "--out", tmp_path / "out")
    status, _, message = sae("train", place / "model", *words)
    assert status == 1
    assert "two windows of 32" in message
    status, _, stderr = train(place, "--out", place / "one")
    assert status == 2
    assert "already there" in " ".join(stderr.replace("│", " ").split())
    assert sae("eval", tmp_path / "nowhere")[2] == f"no such folder: {tmp_path / 'nowhere'}"
    status, _, message = sae("eval", tmp_path)
    assert status == 1
    assert "no autoencoder's folder" in message
