"""Folders: what the other packages compute from the tensors, written from their documentation."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from rarefy.dictionaries import BatchCoupled, Gated, JumpReLU, SparseAutoencoder, load, save
from rarefy.dictionaries.formats import read_metadata
from rarefy.operators import L0, L1, MCP, BatchTopK, FeatureTopK, Threshold, TopK

D, F = 6, 20


def _perturbed(activation, **options):
    sae = SparseAutoencoder(D, F, activation, **options)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=g)
    if isinstance(sae.activation, BatchCoupled):
        sae.train()(torch.randn(50, D, generator=g))
    return sae.eval()


ACTIVATIONS = {
    "topk": lambda: TopK(3, by="positive"),
    "abstopk": lambda: TopK(3),
    "relu": lambda: L1(0.0, positive=True),
    "shifted relu": lambda: L1(0.1, positive=True),
    "jumprelu": lambda: JumpReLU(F, threshold=0.2),
    "fixed jumprelu": lambda: L0(0.08, positive=True),
    "threshold": lambda: Threshold(0.3, by="value"),
    "gated": lambda: Gated(F),
    "batchtopk": lambda: BatchCoupled(BatchTopK(3, by="positive"), F),
    "feature choice": lambda: BatchCoupled(FeatureTopK(7, by="positive"), F),
}
SIGNED = {
    "soft": lambda: L1(0.2),
    "mcp": lambda: MCP(0.2, 3.0),
    "batchabstopk": lambda: BatchCoupled(BatchTopK(3), F),
}


def _saelens(folder, x):
    """What SAELens computes from such a folder."""
    config = json.loads((folder / "cfg.json").read_text())
    w = load_file(folder / "sae_weights.safetensors")
    centered = x - w["b_dec"] if config["apply_b_dec_to_input"] else x
    product = centered @ w["W_enc"]
    match config["architecture"]:
        case "gated":
            magnitude = (product * w["r_mag"].exp() + w["b_mag"]).relu()
            z = magnitude * (product + w["b_gate"] > 0)
        case "jumprelu":
            u = product + w["b_enc"]
            z = u.relu() * (u > w["threshold"])
        case "standard":
            z = (product + w["b_enc"]).relu()
        case "topk" | "abstopk" as kind:
            u = product + w["b_enc"]
            best = (u if kind == "topk" else u.abs()).topk(config["k"], dim=-1).indices
            kept = u.gather(1, best)
            z = torch.zeros_like(u).scatter(1, best, kept.relu() if kind == "topk" else kept)
    return z @ w["W_dec"] + w["b_dec"]


@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_saelens_folder_means_the_same_to_saelens_and_opens_again(tmp_path, name, subtract):
    bias = name != "gated"
    sae = _perturbed(ACTIVATIONS[name](), encoder_bias=bias, subtract_decoder_bias=subtract)
    x = torch.randn(40, D, generator=torch.Generator().manual_seed(2))
    save(sae, tmp_path / "sae", format="saelens", metadata={"model_name": "tiny"})
    torch.testing.assert_close(_saelens(tmp_path / "sae", x), sae(x).detach())
    torch.testing.assert_close(load(tmp_path / "sae")(x), sae(x))
    assert read_metadata(tmp_path / "sae")["model_name"] == "tiny"


@pytest.mark.parametrize("name", [*ACTIVATIONS, *SIGNED])
def test_a_rarefy_folder_gives_back_what_was_saved(tmp_path, name):
    sae = _perturbed((ACTIVATIONS | SIGNED)[name](), encoder_bias=name != "gated")
    save(sae, tmp_path / "sae", metadata={"site": "layers.2"})
    again = load(tmp_path / "sae")
    assert type(again.activation) is type(sae.activation)
    x = torch.randn(40, D)
    assert torch.equal(again(x), sae(x))
    # in training too: the projection behind a threshold is kept
    assert torch.equal(again.train()(x), sae.train()(x))
    assert read_metadata(tmp_path / "sae") == {"site": "layers.2"}


def test_decoder_norms_of_a_saelens_folder_are_folded_in(tmp_path):
    sae = _perturbed(TopK(3, by="positive"))
    save(sae, tmp_path, format="saelens")
    config = json.loads((tmp_path / "cfg.json").read_text())
    config["rescale_acts_by_decoder_norm"] = True
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    w = load_file(tmp_path / "sae_weights.safetensors")
    x = torch.randn(40, D)
    norms = w["W_dec"].norm(dim=1)
    u = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * norms
    best = u.topk(3, dim=-1)
    z = torch.zeros_like(u).scatter(1, best.indices, best.values.relu())
    expected = (z / norms) @ w["W_dec"] + w["b_dec"]
    torch.testing.assert_close(load(tmp_path)(x).detach(), expected)


def test_sparsify_folders_come_and_go(tmp_path):
    sae = _perturbed(TopK(3, by="positive"))
    save(sae, tmp_path / "sae", format="sparsify")
    w = load_file(tmp_path / "sae" / "sae.safetensors")
    x = torch.randn(40, D)
    u = torch.nn.functional.linear(x - w["b_dec"], w["encoder.weight"], w["encoder.bias"]).relu()
    best = u.topk(3, dim=-1)
    z = torch.zeros_like(u).scatter(1, best.indices, best.values)
    expected = z @ w["W_dec"] + w["b_dec"]
    torch.testing.assert_close(sae(x).detach(), expected)
    torch.testing.assert_close(load(tmp_path / "sae")(x).detach(), expected)


def test_dictionary_learning_folders_open(tmp_path):
    g = torch.Generator().manual_seed(0)
    w = {
        "encoder.weight": torch.randn(F, D, generator=g),
        "encoder.bias": torch.randn(F, generator=g),
        "decoder.weight": torch.randn(D, F, generator=g),
        "b_dec": torch.randn(D, generator=g),
        "k": torch.tensor(3),
        "threshold": torch.tensor(0.4),
    }
    torch.save(w, tmp_path / "ae.pt")
    x = torch.randn(30, D, generator=g)
    u = ((x - w["b_dec"]) @ w["encoder.weight"].t() + w["encoder.bias"]).relu()
    config = {"trainer": {"dict_class": "AutoEncoderTopK"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    best = u.topk(3, dim=-1)
    z = torch.zeros_like(u).scatter(1, best.indices, best.values)
    torch.testing.assert_close(
        load(tmp_path)(x).detach(), z @ w["decoder.weight"].t() + w["b_dec"]
    )
    config = {"trainer": {"dict_class": "BatchTopKSAE"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    z = u * (u > 0.4)
    torch.testing.assert_close(
        load(tmp_path)(x).detach(), z @ w["decoder.weight"].t() + w["b_dec"]
    )


@pytest.mark.parametrize("package", ["saelens", "sparsify"])
def test_the_packages_themselves_agree(tmp_path, package):
    sae = _perturbed(TopK(3, by="positive"))
    save(sae, tmp_path / "sae", format=package)
    x = torch.randn(40, D)
    if package == "saelens":
        theirs = pytest.importorskip("sae_lens").SAE.load_from_disk(str(tmp_path / "sae"))
        theirs.save_model(str(tmp_path / "back"))
    else:
        theirs = pytest.importorskip("sparsify").SparseCoder.load_from_disk(tmp_path / "sae")
        theirs.save_to_disk(tmp_path / "back")
    out = theirs(x)
    reconstruction = out if isinstance(out, torch.Tensor) else out.sae_out
    torch.testing.assert_close(reconstruction.detach(), sae(x).detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(load(tmp_path / "back")(x), sae(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SIGNED)
def test_what_the_others_cannot_hold_is_refused(tmp_path, name):
    sae = _perturbed(SIGNED[name]())
    for package in ("saelens", "sparsify"):
        with pytest.raises(ValueError, match="save (it )?as"):
            save(sae, tmp_path / "sae", format=package)
    assert not list(tmp_path.iterdir())


def test_damaged_folders_are_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load(tmp_path / "none")
    with pytest.raises(ValueError, match="no autoencoder's folder"):
        load(tmp_path)
    folder = tmp_path / "sae"
    sae = _perturbed(TopK(3, by="positive"))
    save(sae, folder)
    with pytest.raises(FileExistsError):
        save(sae, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-50])
    with pytest.raises(ValueError, match="no readable safetensors"):
        load(folder)
    save_file({"decoder": torch.zeros(F, D)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="damaged"):
        load(folder)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text('{"rarefy_autoencoder": "os.system"}')
    with pytest.raises(ValueError, match=r"names 'os\.system'"):
        load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="no JSON"):
        load(folder)


def test_a_saelens_folder_of_another_architecture_is_named(tmp_path):
    save(_perturbed(TopK(3, by="positive")), tmp_path / "sae", format="saelens")
    path = tmp_path / "sae" / "cfg.json"
    for change, message in (
        ({"architecture": "temporal"}, "temporal"),
        ({"normalize_activations": "layer_norm"}, "layer_norm"),
    ):
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "sae")
        path.write_text(json.dumps(config))


def test_a_pickle_that_runs_code_is_not_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("boom",))

    torch.save({"encoder.weight": Bomb()}, tmp_path / "ae.pt")
    (tmp_path / "config.json").write_text('{"trainer": {"dict_class": "AutoEncoderTopK"}}')
    with pytest.raises(ValueError, match="cannot be read safely"):
        load(tmp_path)
