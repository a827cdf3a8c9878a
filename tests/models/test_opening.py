import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from rarefy.models import SHIPPED, decoder_layers, open_model, perplexity

SMALL = {"vocab_size": 2048, "bos_token_id": 0, "eos_token_id": 0}
WIDE = {**SMALL, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
FAMILIES = {
    "Llama": {**WIDE, "intermediate_size": 64},
    "Mistral": {**WIDE, "intermediate_size": 64, "num_key_value_heads": 2},
    "Qwen2": {**WIDE, "intermediate_size": 64, "num_key_value_heads": 2},
    "Qwen3": {**WIDE, "intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8},
    "GPT2": {**SMALL, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "OPT": {**WIDE, "ffn_dim": 64, "word_embed_proj_dim": 32},
}


@pytest.fixture
def folder(tmp_path):
    """A small Llama folder to break."""
    return save_model(tmp_path / "model", "Llama")


def save_model(path, family):
    import transformers

    config = getattr(transformers, f"{family}Config")(**FAMILIES[family])
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SHIPPED / "code" / name, path)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_opens_and_its_blocks_are_found(tmp_path, family):
    model, tokenizer = open_model(save_model(tmp_path, family))
    assert not model.training
    layers = decoder_layers(model)
    assert [type(layer).__name__.startswith(family) for layer in layers] == [True, True]
    # An untrained model knows nothing: its perplexity is about the vocabulary's size.
    windows = torch.randint(2048, (2, 16), generator=torch.Generator().manual_seed(0))
    assert 1500 < perplexity(model, windows) < 3000
    assert tokenizer.decode(tokenizer("x = 1")["input_ids"]) == "x = 1"


def test_the_stored_dtype_is_kept_and_another_can_be_asked_for(tmp_path):
    open_model(save_model(tmp_path, "Llama"))[0].bfloat16().save_pretrained(tmp_path)
    assert open_model(tmp_path).model.dtype == torch.bfloat16
    assert open_model(tmp_path, dtype=torch.float32).model.dtype == torch.float32


def test_missing_folders_files_and_foreign_folders_are_named(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="no such model folder: nowhere"):
        open_model("nowhere")
    with pytest.raises(ValueError, match="has no config.json"):
        open_model(tmp_path)
    with pytest.raises(ValueError, match="is a file: a model folder"):
        open_model(folder / "config.json")
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match="does not open as a causal language model"):
        open_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not a valid JSON file"):
        open_model(folder)


def test_corrupt_truncated_incomplete_and_misshapen_weights_are_named(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for broken in (whole[:100], whole[:-7], b"\0" * 64, b""):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="weights of .* cannot be read"):
            open_model(folder)
    path.write_bytes(whole)
    tensors = load_file(path)
    name = "model.layers.1.mlp.up_proj.weight"
    without = {k: v for k, v in tensors.items() if k != name}
    save_file(without, path, {"format": "pt"})
    with pytest.raises(ValueError, match=f"lack 1 of the model's tensors, {name}"):
        open_model(folder)
    save_file(tensors | {name: torch.zeros(3, 3)}, path, {"format": "pt"})
    with pytest.raises(ValueError, match=r"up_proj.weight has shape \(3, 3\), the config wants"):
        open_model(folder)


def test_a_malicious_pickle_is_refused_and_never_runs(folder, tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    (folder / "model.safetensors").unlink()
    torch.save({"x": Malicious()}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="not opened because it could run code"):
        open_model(folder)
    assert not (tmp_path / "executed").exists()


def test_a_pickle_of_tensors_alone_opens(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert open_model(folder).model.num_parameters() > 0


def test_a_missing_or_foreign_tokenizer_is_named(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match="has no usable tokenizer"):
        open_model(folder)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="Sequential has no list of transformer blocks"):
        decoder_layers(torch.nn.Sequential(torch.nn.Linear(2, 2)))
