import copy
import json

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.ao.pruning import WeightNormSparsifier
from torch.nn.utils import prune

from rarefy.operators import NM
from rarefy.weights import (
    Masks,
    attach,
    from_ao,
    from_torch_prune,
    input_axes,
    load_sparse,
    load_sparse_masks,
    magnitude,
    mask_from_scores,
    random_masks,
    save_dense,
    save_pruned,
    save_sparse,
    select,
    sparsity_metadata,
)


def bits(tensor):
    return tensor.contiguous().view(torch.uint8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pattern", [None, NM(2, 4), NM(1, 8)], ids=str)
def test_packed_files_come_back_bit_for_bit(tiny_llama, tmp_path, dtype, pattern):
    model = tiny_llama.to(dtype)
    budget = {"pattern": pattern} if pattern else {"density": 0.3}
    masks = mask_from_scores(magnitude(model), **budget)
    masks.apply_(model)
    path = tmp_path / "model.safetensors"
    save_sparse(model, path, masks, pattern=pattern)
    loaded, state = load_sparse(path), model.state_dict()
    assert set(loaded) == set(state)  # the tied head too
    assert all(torch.equal(bits(loaded[name]), bits(state[name])) for name in state)
    assert sum(load_sparse_masks(path).difference(masks).values()) == 0


def test_packed_size_is_what_the_formula_says(tmp_path):
    model = nn.Linear(512, 512, bias=False).bfloat16()
    for pattern, expected in ((None, 0.25 + 1 / 16), (NM(2, 4), 9 / 16)):
        budget = {"pattern": pattern} if pattern else {"density": 0.25}
        twin = copy.deepcopy(model)
        masks = mask_from_scores(magnitude(twin), **budget)
        masks.apply_(twin)
        save_sparse(twin, tmp_path / "w.safetensors", masks, pattern=pattern)
        size = (tmp_path / "w.safetensors").stat().st_size
        assert size / (2 * 512 * 512) == pytest.approx(expected, abs=0.005)


def test_conv1d_patterns_follow_its_orientation(tmp_path):
    from transformers.pytorch_utils import Conv1D

    model = nn.Sequential(Conv1D(6, 8))
    axes = input_axes(model)
    masks = mask_from_scores(magnitude(model), pattern=NM(2, 4), input_axes=axes)
    masks.apply_(model)
    path = tmp_path / "w.safetensors"
    save_sparse(model, path, masks, pattern=NM(2, 4), input_axes=axes)
    assert torch.equal(load_sparse(path)["0.weight"], model[0].weight)


def test_weights_that_would_be_lost_are_refused(mlp, tmp_path, generator):
    masks = random_masks(mlp, density=0.5, generator=generator)
    with pytest.raises(ValueError, match=r"0\.weight has pruned weights that are not zero"):
        save_sparse(mlp, tmp_path / "w.safetensors", masks)
    assert not list(tmp_path.iterdir())


def test_dense_files_are_plain_and_tell_their_sparsity(mlp, tmp_path, generator):
    masks = random_masks(mlp, density=0.5, generator=generator)
    path = tmp_path / "w.safetensors"
    plain = copy.deepcopy(mlp)
    with attach(mlp, masks):
        save_dense(mlp, path, masks, method="random", seed=0)
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["rarefy"])
        plain.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    assert facts["method"] == "random"
    assert facts["density"] == masks.density()
    assert (Masks.from_zeros(plain) & ~masks).nnz == 0


def test_denominators_by_hand():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 5))  # 40 + 20 + 5 parameters
    masks = Masks({"1.weight": torch.zeros(5, 4) > 0})
    facts = sparsity_metadata(model, masks)
    assert facts["density"] == 0
    assert facts["density_all"] == pytest.approx(45 / 65)
    assert facts["density_no_embedding"] == pytest.approx(5 / 25)


def test_zeros_of_embedding_tables_count_where_tables_do():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
    masks = Masks({"0.weight": torch.zeros(5, 4) > 0, "1.weight": torch.eye(5, 4) > 0})
    facts = sparsity_metadata(model, masks)
    assert facts["density_all"] == pytest.approx(4 / 40)
    assert facts["density_no_embedding"] == pytest.approx(4 / 20)
    table = Masks({"weight": torch.zeros(5, 4) > 0})
    assert sparsity_metadata(model[0], table)["density_no_embedding"] == 1.0  # of nothing, as Masks


def test_a_saved_folder_opens_with_from_pretrained(tiny_llama, tmp_path):
    from transformers import AutoModelForCausalLM

    masks = mask_from_scores(magnitude(tiny_llama), sparsity=0.5)
    masks.apply_(tiny_llama)
    folder = tmp_path / "out" / "pruned"
    save_pruned(tiny_llama, masks, folder, method="magnitude")
    again = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(again(ids).logits, tiny_llama(ids).logits)
    assert json.loads((folder / "rarefy.json").read_text())["density"] == 0.5
    assert [p.name for p in folder.parent.iterdir()] == ["pruned"]
    with pytest.raises(FileExistsError, match="already there"):
        save_pruned(tiny_llama, masks, folder)


def test_a_full_disk_leaves_nothing_behind(tiny_llama, tmp_path, monkeypatch):
    def out_of_space(self, folder, **_):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tiny_llama), "save_pretrained", out_of_space)
    with pytest.raises(OSError, match="No space left"):
        save_pruned(tiny_llama, Masks.from_zeros(tiny_llama), tmp_path / "pruned")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_keeps_the_file_that_was_there(mlp, tmp_path, monkeypatch, generator):
    import safetensors.torch

    path = tmp_path / "masks.safetensors"
    masks = random_masks(mlp, density=0.5, generator=generator)
    masks.save(path)
    before = path.read_bytes()

    def half(tensors, target, metadata):
        target.write_bytes(b"half")
        raise safetensors.SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", half)
    with pytest.raises(OSError, match=r"masks\.safetensors cannot be written: No space"):
        masks.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_unreadable_files_are_named(mlp, tmp_path, generator):
    masks = random_masks(mlp, density=0.5, generator=generator)
    masks.apply_(mlp)
    path = tmp_path / "w.safetensors"
    save_sparse(mlp, path, masks)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="no readable safetensors file"):
        load_sparse(path)
    masks.save(path)
    for read in (load_sparse, load_sparse_masks):
        with pytest.raises(ValueError, match="is not packed"):
            read(path)


def test_masks_of_torch_prune_and_ao_are_read(mlp):
    ours = mask_from_scores(magnitude(mlp), sparsity=0.5, scope="layer")
    theirs = copy.deepcopy(mlp)
    for index in (0, 3):
        prune.l1_unstructured(theirs[index], "weight", amount=0.5)
    assert sum(from_torch_prune(theirs).difference(ours).values()) == 0

    blocked = copy.deepcopy(mlp)
    sparsifier = WeightNormSparsifier(
        sparsity_level=1.0, sparse_block_shape=(1, 4), zeros_per_block=2
    )
    sparsifier.prepare(blocked, [{"tensor_fqn": "0.weight"}, {"tensor_fqn": "3.weight"}])
    sparsifier.step()
    wanted = mask_from_scores(magnitude(mlp), pattern=NM(2, 4))
    assert sum(from_ao(blocked).difference(wanted).values()) == 0
    for read in (from_torch_prune, from_ao):
        with pytest.raises(ValueError, match="no mask"):
            read(mlp)
    assert set(select(mlp)) == set(ours)
