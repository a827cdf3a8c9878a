"""A run killed with SIGKILL ends with the numbers of one that was not."""

import os
import signal
import subprocess
import sys
import time

import torch

RUN = """
import sys, time, torch
from rarefy.dictionaries import ArrayStream, AuxK, BatchCoupled, SparseAutoencoder, train
from rarefy.operators import BatchTopK
torch.set_num_threads(1)
path, pause = sys.argv[1], float(sys.argv[2])
x = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
sae = SparseAutoencoder(8, 32, BatchCoupled(BatchTopK(3, by="positive"), 32))
class Slow(ArrayStream):
    def batch(self, step):
        time.sleep(pause)
        return super().batch(step)
train(sae, Slow(x, batch_size=50), steps=60, losses=[AuxK(32, dead_after=200)],
      checkpoint=path, checkpoint_every=7)
torch.save(sae.state_dict(), path + ".end")
"""


def _start(path, pause):
    return subprocess.Popen([sys.executable, "-c", RUN, str(path), str(pause)])


def test_a_killed_run_ends_as_an_unbroken_one(tmp_path):
    killed, whole = tmp_path / "killed.pt", tmp_path / "whole.pt"
    process = _start(killed, 0.05)
    deadline = time.monotonic() + 60
    while not killed.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert torch.load(killed, weights_only=True)["step"] < 60
    for path in (killed, whole):
        assert _start(path, 0).wait() == 0
    ends = [torch.load(f"{path}.end", weights_only=True) for path in (killed, whole)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
