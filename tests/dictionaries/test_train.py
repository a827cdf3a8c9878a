"""Training: what it finds, what it keeps, and that a killed run goes on as if it had not been."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rarefy.budget import Linear
from rarefy.dictionaries import (
    ArrayStream,
    AuxK,
    BatchCoupled,
    KAnnealing,
    L1Loss,
    Resample,
    SparseAutoencoder,
    architecture,
    evaluate,
    train,
)
from rarefy.operators import L1, BatchTopK, TopK

STEPS, LATENTS = 60, 32


class _Killed(ArrayStream):
    """Kills the process when a step's batch is asked for."""

    def __init__(self, *arrays, kill_at, **options):
        super().__init__(*arrays, **options)
        self.kill_at = kill_at

    def batch(self, step):
        if step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(step)


def run(kind, folder, kill_at=None):
    """Train from the checkpoint in the folder on; what is known at the end."""
    torch.set_num_threads(1)
    between = []
    if kind == "topk":
        # k is on its way from 10 to 3 at the checkpoint, and latents are resampled after it
        sae = SparseAutoencoder(8, LATENTS, TopK(3, by="positive"))
        losses = [AuxK(LATENTS, dead_after=200)]
        ramp = Linear(3 / LATENTS, initial=10 / LATENTS, end=0.8)
        between = [KAnnealing(ramp), Resample([20, 33], rows=128)]
    else:
        sae, losses, _ = architecture(kind, 8, LATENTS, k=3, rows=STEPS * 64)
    x = torch.randn(600, 8, generator=torch.Generator().manual_seed(1))
    stream = _Killed(x, batch_size=64, kill_at=kill_at)
    options = {"checkpoint": f"{folder}/run.pt", "checkpoint_every": 10}
    train(sae, stream, steps=STEPS, lr=1e-2, losses=losses, interventions=between, **options)
    state = sae.state_dict()
    for number, loss in enumerate(losses):
        if isinstance(loss, torch.nn.Module):
            state |= {f"losses.{number}.{name}": t for name, t in loss.state_dict().items()}
    return state


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "gated", "feature-choice"])
def test_killed_and_started_again_it_ends_with_the_same_numbers(kind, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from test_train import run; run({kind!r}, {str(cut)!r}, 37)"
    )
    ended = subprocess.run([sys.executable, "-c", script], timeout=100)
    assert ended.returncode == -signal.SIGKILL
    assert torch.load(cut / "run.pt", weights_only=True)["step"] == 30
    one, other = run(kind, whole), run(kind, cut)
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
