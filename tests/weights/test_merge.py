"""Update-selective merging: against sorting all updates, at its ends, and what it refuses."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rarefy.weights import merge
from rarefy.weights.merge import merge_folders, selective_update_merge


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    """Several pieces for each tensor."""
    monkeypatch.setattr(merge, "CHUNK", 64)


def states(dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = {"a": (13, 17), "b": (200,), "c": (5, 4, 3)}
    base = {name: torch.randn(shape, generator=g).to(dtype) for name, shape in shapes.items()}
    tuned = {
        name: (t + 0.1 * torch.randn(t.shape, generator=g)).to(dtype) for name, t in base.items()
    }
    return base, tuned


def sorted_merge(base, tuned, keep, scale):
    """All updates in one list, sorted."""
    deltas = torch.cat([(tuned[n].double() - base[n].double()).reshape(-1) for n in base])
    kept = torch.zeros_like(deltas)
    order = deltas.abs().argsort(descending=True, stable=True)
    chosen = order[: int(round(keep * len(deltas), 6))]
    kept[chosen] = scale * deltas[chosen]
    out, at = {}, 0
    for name, tensor in base.items():
        out[name] = tensor.double() + kept[at : at + tensor.numel()].view(tensor.shape)
        at += tensor.numel()
    return out


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.25, 0.9, 1.0])
@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_it_equals_sorting_all_updates(keep, scope):
    base, tuned = states()
    ours = selective_update_merge(base, tuned, keep=keep, scale=0.7, scope=scope)
    theirs = (
        sorted_merge(base, tuned, keep, 0.7)
        if scope == "global"
        else {n: sorted_merge({n: base[n]}, {n: tuned[n]}, keep, 0.7)[n] for n in base}
    )
    for name in base:
        torch.testing.assert_close(ours[name].double(), theirs[name], rtol=0, atol=1e-6)
        assert ours[name].dtype == base[name].dtype


@pytest.mark.parametrize("keep", [0.1, 0.25, 0.5])
def test_exactly_the_floor_of_the_share_is_kept_also_among_equals(keep):
    base = {"a": torch.zeros(101), "b": torch.zeros(100)}
    tuned = {"a": torch.ones(101), "b": -torch.ones(100)}
    merged = selective_update_merge(base, tuned, keep=keep, scale=1.0)
    assert sum(int((t != 0).sum()) for t in merged.values()) == int(keep * 201)
    n_kept = int(keep * 201)
    assert (merged["a"][:n_kept] != 0).all(), "of equals, the first"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_ends_are_the_models_themselves(dtype):
    base, tuned = states(dtype)
    for keep, scale, end in ((1.0, 1.0, tuned), (1.0, 0.0, base), (0.0, 1.0, base)):
        merged = selective_update_merge(base, tuned, keep=keep, scale=scale)
        assert all(torch.equal(merged[name], end[name]) for name in base), (keep, scale)


def test_it_changes_neither_model():
    base, tuned = states()
    before = {
        name: t.clone() for name, t in (base | {f"t{n}": t for n, t in tuned.items()}).items()
    }
    merged = selective_update_merge(base, tuned)
    for t in merged.values():
        t.zero_()
    assert all(torch.equal(before[n], base[n]) for n in base)
    assert all(torch.equal(before[f"t{n}"], tuned[n]) for n in tuned)


def test_tied_tensors_count_once_and_whole_numbers_are_the_bases():
    def model(seed):
        torch.manual_seed(seed)
        net = nn.ModuleDict({"embed": nn.Embedding(10, 4), "head": nn.Linear(4, 10, bias=False)})
        net["head"].weight = net["embed"].weight
        net.register_buffer("steps", torch.tensor(seed))
        return net.state_dict()

    with torch.random.fork_rng():
        base, tuned = model(1), model(2)
    merged = selective_update_merge(base, tuned, keep=0.5, scale=1.0)
    changed = (merged["embed.weight"] != base["embed.weight"]).sum()
    assert changed == 20
    assert torch.equal(merged["embed.weight"], merged["head.weight"])
    assert merged["steps"] == 1


def test_what_does_not_fit_is_named():
    base, tuned = states()
    with pytest.raises(ValueError, match="b is not in the tuned model"):
        selective_update_merge(base, {n: t for n, t in tuned.items() if n != "b"})
    with pytest.raises(ValueError, match=r"c is torch.float32 .* torch.float16"):
        selective_update_merge(base, tuned | {"c": tuned["c"].half()})
    with pytest.raises(ValueError, match=r"a .* shape \(13, 17\) .* shape \(17, 13\)"):
        selective_update_merge(base, tuned | {"a": tuned["a"].T})
    tuned["b"][3] = float("nan")
    with pytest.raises(ValueError, match="the update of b is not finite"):
        selective_update_merge(base, tuned)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"keep": 1.5}, "keep is 1.5; a share from 0 to 1"),
        ({"scale": float("inf")}, "scale is inf"),
        ({"scope": "layer"}, "scope must be"),
    ],
)
def test_arguments_out_of_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        selective_update_merge(*states(), **wrong)


def folder(path, tensors, n_files=1):
    path.mkdir()
    names = list(tensors)
    for i in range(n_files):
        save_file({n: tensors[n] for n in names[i::n_files]}, path / f"model-{i}.safetensors")
    (path / "config.json").write_text(json.dumps({"of": path.name}))
    return path


def test_folders_in_one_file_or_in_shards(tmp_path):
    base, tuned = states()
    ours, theirs = folder(tmp_path / "base", base), folder(tmp_path / "tuned", tuned, n_files=2)
    merge_folders(ours, theirs, tmp_path / "out", keep=0.5)
    merged = load_file(tmp_path / "out" / "model.safetensors")
    expected = selective_update_merge(base, tuned, keep=0.5)
    assert all(torch.equal(merged[name], expected[name]) for name in base)
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {"of": "tuned"}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_a_failed_merge_leaves_nothing(tmp_path):
    base, tuned = states()
    ours = folder(tmp_path / "base", base)
    theirs = folder(tmp_path / "tuned", tuned | {"c": tuned["c"].half()})
    with pytest.raises(ValueError, match="c is"):
        merge_folders(ours, theirs, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="has no .safetensors"):
        merge_folders(ours, tmp_path, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "tuned"]
