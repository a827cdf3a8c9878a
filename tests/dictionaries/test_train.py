"""Training: what it finds, what it keeps, and that a killed run goes on as if it had not been."""

import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from rarefy.dictionaries import (
    ArrayStream,
    AuxK,
    BatchCoupled,
    L1Loss,
    SparseAutoencoder,
    evaluate,
    train,
)
from rarefy.operators import L1, BatchTopK, TopK

SCRIPT = textwrap.dedent(
    """
    import os, sys, signal, torch
    from rarefy.dictionaries import ArrayStream, AuxK, BatchCoupled, SparseAutoencoder, train
    from rarefy.operators import BatchTopK

    torch.set_num_threads(1)
    folder, kill_at = sys.argv[1], int(sys.argv[2])

    class Killer(ArrayStream):
        def batch(self, step):
            if step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().batch(step)

    x = torch.randn(600, 8, generator=torch.Generator().manual_seed(1))
    sae = SparseAutoencoder(8, 32, BatchCoupled(BatchTopK(3, by="positive"), 32))
    train(sae, Killer(x, batch_size=64), steps=60, lr=1e-2, losses=[AuxK(32, dead_after=200)],
          checkpoint=folder + "/run.pt", checkpoint_every=10)
    torch.save(sae.state_dict(), folder + "/done.pt")
    """
)


def _run(folder, kill_at):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(kill_at)], timeout=60
    ).returncode


def test_killed_and_started_again_it_ends_with_the_same_numbers(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    assert _run(whole, -1) == 0
    assert _run(cut, 37) == -signal.SIGKILL
    assert not (cut / "done.pt").exists()
    assert _run(cut, -1) == 0
    one, other = (torch.load(f / "done.pt", weights_only=True) for f in (whole, cut))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def _planted(rows=4000, atoms=16, d=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    atoms_ = torch.randn(atoms, d, generator=g)
    atoms_ /= atoms_.norm(dim=1, keepdim=True)
    z = (torch.rand(rows, atoms, generator=g) < 0.1) * (1 + torch.rand(rows, atoms, generator=g))
    return z @ atoms_, atoms_


def test_it_finds_the_planted_features_and_holds_rows_at_norm_one():
    x, atoms = _planted()
    sae = SparseAutoencoder(12, 32, TopK(3, by="positive"), seed=3)
    train(
        sae,
        ArrayStream(x[:3500], batch_size=256),
        steps=500,
        lr=5e-3,
        losses=[AuxK(32, dead_after=2000)],
    )
    found = evaluate(sae, x[3500:])
    assert found.fvu < 0.15 and found.l0 <= 3
    cosines = (sae.decoder @ atoms.t()).amax(0)
    assert (cosines > 0.9).sum() >= 12
    torch.testing.assert_close(sae.decoder.norm(dim=1), torch.ones(32))


def test_norms_may_shrink_inside_the_ball_or_be_free():
    x, _ = _planted(rows=600)
    norms = {}
    for rule in ("ball", "free"):
        sae = SparseAutoencoder(12, 32, L1(0.0, positive=True))
        train(
            sae,
            ArrayStream(x, batch_size=128),
            steps=60,
            lr=2e-2,
            losses=[L1Loss(0.3)],
            decoder_norm=rule,
        )
        norms[rule] = sae.decoder.norm(dim=1)
    assert norms["ball"].max() <= 1 + 1e-5 and norms["ball"].min() < 0.99
    assert norms["free"].max() > 1.001


def test_batches_are_a_function_of_the_step_and_every_row_is_seen_once_an_epoch():
    x = torch.arange(50.0)[:, None]
    stream, other = ArrayStream(x, batch_size=10, seed=4), ArrayStream(x, batch_size=10, seed=4)
    forward = [stream.batch(step) for step in range(10)]
    for step in (7, 0, 9, 3):
        assert torch.equal(other.batch(step), forward[step])
    assert sorted(torch.cat(forward[:5]).flatten().tolist()) == list(range(50))
    assert not torch.equal(torch.cat(forward[:5]), torch.cat(forward[5:]))
    pair = ArrayStream(x, -x, batch_size=10).batch(3)
    assert torch.equal(pair[0], -pair[1])


def test_evaluation_counts_what_dense_code_counts():
    x, _ = _planted(rows=500)
    sae = SparseAutoencoder(12, 32, BatchCoupled(BatchTopK(3, by="positive"), 32))
    train(sae, ArrayStream(x, batch_size=100), steps=40, lr=1e-2)
    found = evaluate(sae, x, batch_size=64)
    z = sae.encode(x).dense().detach()
    error = (x - (z @ sae.decoder + sae.decoder_bias)).detach().square().sum()
    assert found.l0 == pytest.approx(float((z != 0).sum(1).float().mean()))
    assert found.fvu == pytest.approx(float(error / (x - x.mean(0)).square().sum()), rel=1e-4)
    assert found.dead == pytest.approx(float((z == 0).all(0).float().mean()))
    torch.testing.assert_close(found.density, (z != 0).float().mean(0))


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match="batch_size must be from 1 to the 5 rows, got 8"):
        ArrayStream(torch.zeros(5, 3), batch_size=8)
    with pytest.raises(ValueError, match=r"same number of rows, got \[4, 5\]"):
        ArrayStream(torch.zeros(5, 3), torch.zeros(4, 3), batch_size=2)
    sae = SparseAutoencoder(3, 8, TopK(2, by="positive"))
    with pytest.raises(ValueError, match="no variance"):
        evaluate(sae, torch.ones(5, 3))
    with pytest.raises(ValueError, match="the objective is (inf|nan) at step 0"):
        train(sae, ArrayStream(torch.full((20, 3), 1e25), batch_size=5), steps=5, center=False)
