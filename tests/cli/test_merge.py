"""`rarefy merge`: the folder opens, and what is wrong is one sentence."""

import json

import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from rarefy.cli._main import app


def folder(path, value):
    path.mkdir()
    save_file({"w": torch.arange(8.0) * value}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"model_type": path.name}))
    return path


def merge(*words):
    return CliRunner().invoke(app, ["merge", *map(str, words)])


def test_the_largest_updates_are_added(tmp_path):
    base, tuned, out = folder(tmp_path / "base", 0), folder(tmp_path / "tuned", 1), tmp_path / "out"
    result = merge(base, tuned, out, "--keep", "0.25", "--scale", "0.5")
    assert result.exit_code == 0, result.stderr
    assert load_file(out / "model.safetensors")["w"].tolist() == [0] * 6 + [3.0, 3.5]
    assert str(out) in result.stdout.replace("\n", "")
    again = merge(base, tuned, out)
    assert again.exit_code == 2 and "already there" in again.stderr


def test_bad_words_are_refused(tmp_path):
    base = folder(tmp_path / "base", 0)
    assert merge(base, tmp_path / "none", tmp_path / "out").exit_code == 2
    assert merge(base, base, tmp_path / "out", "--keep", "2").exit_code == 2
    assert merge(base, base, tmp_path / "out", "--scope", "layer").exit_code == 2
    assert not (tmp_path / "out").exists()
