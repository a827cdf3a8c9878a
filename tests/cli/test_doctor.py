import json

import pytest
import torch
from typer.testing import CliRunner

from rarefy.cli import _console
from rarefy.cli._main import app
from rarefy.operators import NM
from rarefy.weights import (
    SparsityTrace,
    block_weights,
    magnitude,
    mask_from_scores,
    random_masks,
    save_dense,
    save_pruned,
    save_sparse,
    select,
)

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture
def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**SMALL, intermediate_size=48)).eval()


def doctor(*words):
    """Exit status, standard output and the error's sentence, as the entry point gives them."""
    result = CliRunner().invoke(app, ["doctor", *map(str, words)])
    if isinstance(result.exception, ValueError | OSError):
        return 1, result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def pruned(model, sparsity=0.5):
    masks = mask_from_scores(magnitude(block_weights(model)), sparsity=sparsity)
    masks.apply_(model)
    return masks


def test_a_pruned_folder_without_a_tokenizer(llama, tmp_path):
    masks = pruned(llama)
    llama.save_pretrained(tmp_path / "model")
    status, stdout, stderr = doctor(tmp_path / "model", "--json")
    assert status == 0, stderr
    found = json.loads(stdout)
    assert found["ok"]
    everything = sum(w.numel() for w in select(llama).values())  # the head as well
    assert found["density"]["prunable"] == pytest.approx(1 - masks.nnz / everything)
    assert 0 < found["effective_density"] <= found["density"]["prunable"]
    assert 0 < found["macs_share"] < 1
    assert {row["granularity"] for row in found["layers"]} == {"unstructured", "dense"}


def test_what_rarefy_wrote_beside_the_weights_is_checked(llama, tmp_path):
    masks = mask_from_scores(magnitude(block_weights(llama)), pattern=NM(2, 4))
    masks.apply_(llama)
    save_pruned(llama, masks, tmp_path / "model", pattern="2:4")
    status, stdout, stderr = doctor(tmp_path / "model", "--json")
    assert status == 0, stderr
    assert set(row["granularity"] for row in json.loads(stdout)["layers"]) == {"2:4"}
    record = json.loads((tmp_path / "model" / "rarefy.json").read_text())
    (tmp_path / "model" / "rarefy.json").write_text(json.dumps(record | {"density": 0.25}))
    status, stdout, _ = doctor(tmp_path / "model", "--json")
    assert status == 1
    assert [f["code"] for f in json.loads(stdout)["findings"]][0] == "DENOMINATOR"


def test_a_collapsed_layer_is_told_in_words_and_by_the_exit_status(llama, tmp_path, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(_console, "out", Console(width=80, highlight=False))
    pruned(llama)
    with torch.no_grad():
        llama.model.layers[1].mlp.up_proj.weight.zero_()
    llama.save_pretrained(tmp_path / "model")
    status, stdout, _ = doctor(tmp_path / "model")
    assert status == 1
    assert "LAYER_COLLAPSE" in stdout
    assert "layers.1.mlp.up_proj" in stdout
    assert "Lesson 8" in stdout
    assert max(map(len, stdout.splitlines())) <= 80


def test_bare_files_dense_and_packed_say_the_same(mlp_files):
    found = []
    for path in mlp_files:
        status, stdout, stderr = doctor(path, "--json")
        assert status == 0, stderr
        found.append(json.loads(stdout))
    dense, packed = found
    assert dense["layers"] == packed["layers"]
    assert dense["density"] == packed["density"]
    assert dense["effective_density"] is None


@pytest.fixture
def mlp_files(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(32, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8))
    generator = torch.Generator().manual_seed(0)
    masks = random_masks(model, density=0.3, generator=generator, avoid_dead=True)
    masks.apply_(model)
    save_dense(model, tmp_path / "dense.safetensors", masks)
    save_sparse(model, tmp_path / "packed.safetensors", masks)
    return tmp_path / "dense.safetensors", tmp_path / "packed.safetensors"


def test_other_kinds_of_models_open_too(tmp_path):
    from transformers import BertConfig, BertModel, ResNetConfig, ResNetForImageClassification

    for model in (
        BertModel(BertConfig(**SMALL, intermediate_size=48)),
        ResNetForImageClassification(
            ResNetConfig(embedding_size=8, hidden_sizes=[16, 16], depths=[1, 1])
        ),
    ):
        folder = tmp_path / type(model).__name__
        model.save_pretrained(folder)
        status, stdout, stderr = doctor(folder, "--json")
        assert status == 0, stderr
        assert json.loads(stdout)["effective_density"] == 1.0


def test_what_is_no_model_is_one_sentence(tmp_path):
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"not a safetensors file at all")
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    for path, sentence in (
        (junk, "is no readable safetensors file"),
        (tmp_path / "empty", "it has no config.json"),
        (tmp_path / "nowhere", "no such model folder"),
        (broken, "the config of"),
    ):
        status, stdout, message = doctor(path)
        assert status == 1
        assert sentence in message
        assert not stdout


CARD = {
    "name": "RigL",
    "data": "d",
    "split": "s",
    "metric": "accuracy",
    "steps": 100,
    "batch": 8,
    "seeds": 3,
}


@pytest.fixture
def made(tmp_path):
    """A pruned file, the trace that led to it, and the cards of its run and of a dense one."""
    model = torch.nn.Sequential(torch.nn.Linear(32, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8))
    generator = torch.Generator().manual_seed(0)
    masks = random_masks(model, density=0.3, generator=generator, avoid_dead=True)
    masks.apply_(model)
    save_dense(model, tmp_path / "model.safetensors", masks)
    trace = SparsityTrace()
    for step in (0, 100):
        trace.record(step, masks)
    trace.save(tmp_path / "trace.jsonl")
    runs = [CARD | {"density": 0.3}, CARD | {"name": "dense"}]
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    return tmp_path


def test_a_trace_and_a_configuration_are_checked_with_the_model(made):
    words = made / "model.safetensors", "--trace", made / "trace.jsonl", "--config"
    status, stdout, stderr = doctor(*words, made / "runs.json", "--json")
    assert status == 0, stderr
    assert json.loads(stdout)["taxonomy"]["path"] == "sparse to sparse"
    # Planted: the card says that the run took half the steps, and the dense one had one seed.
    runs = [CARD | {"density": 0.3, "steps": 50}, CARD | {"name": "dense", "seeds": 1}]
    (made / "wrong.json").write_text(json.dumps(runs))
    status, stdout, _ = doctor(*words, made / "wrong.json", "--json")
    assert status == 1
    found = {f["code"] for f in json.loads(stdout)["findings"] if f["severity"] == "error"}
    assert found == {"STEPS_ON_RECORD", "UNEQUAL_STEPS", "ONE_SEED"}


def test_a_run_is_looked_at_without_its_model(made):
    status, stdout, stderr = doctor("--trace", made / "trace.jsonl")
    assert status == 0, stderr
    assert "sparse to sparse, static masks" in stdout and "Lesson 3" in stdout
    status, stdout, stderr = doctor("--config", made / "runs.json", "--json")
    assert status == 0, stderr
    assert json.loads(stdout)["model"] == "RigL"


def test_a_trace_of_another_model_is_told(made, llama):
    llama.save_pretrained(made / "llama")
    status, stdout, _ = doctor(made / "llama", "--trace", made / "trace.jsonl", "--json")
    assert status == 1
    assert json.loads(stdout)["findings"][0]["code"] == "OTHER_MODEL"


def test_what_is_no_trace_or_configuration_is_one_sentence(made):
    for option in ("--trace", "--config"):
        for path, sentence in (
            (made / "nowhere", "nowhere"),
            (made / "model.safetensors", "model.safetensors"),
        ):
            status, stdout, message = doctor(option, path)
            assert status == 1 and sentence in message and not stdout
