"""Two processes train as one with twice the batch."""

import subprocess
import sys
import textwrap

import pytest
import torch

from rarefy.dictionaries import ArrayStream, SparseAutoencoder, train
from rarefy.dictionaries.parallel import Dealt, mean, processes, total
from rarefy.operators import TopK

ROWS, WIDTH, LATENTS, BATCH, STEPS = 1200, 8, 32, 60, 45

SCRIPT = textwrap.dedent(
    """
    import sys, torch
    from torch import distributed
    from transformers import LlamaConfig, LlamaForCausalLM
    from rarefy.dictionaries import (
        ArrayStream, AuxK, BatchCoupled, KAnnealing, Resample, SparseAutoencoder, fit, train,
    )
    from rarefy.budget import Linear
    from rarefy.operators import BatchTopK, TopK

    torch.set_num_threads(1)
    rank, folder = int(sys.argv[1]), sys.argv[2]
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    x = torch.randn(1200, 8, generator=torch.Generator().manual_seed(1))

    # what was drawn with another seed becomes that of process 0
    sae = SparseAutoencoder(8, 32, TopK(3, by="positive"), seed=rank)
    history = train(sae, ArrayStream(x, batch_size=30), steps=45, lr=1e-2,
                    checkpoint=f"{folder}/run.pt", checkpoint_every=20)
    state = {"plain": sae.state_dict(), "history": torch.tensor(history)}

    aux = AuxK(32, dead_after=200)
    sae = SparseAutoencoder(8, 32, BatchCoupled(BatchTopK(2, by="positive"), 32))
    train(sae, ArrayStream(x, batch_size=30), steps=45, lr=1e-2, losses=[aux],
          interventions=[KAnnealing(Linear(2 / 32, initial=8 / 32, end=0.5)),
                         Resample([30], rows=100)])
    state |= {"coupled": sae.state_dict(), "aux": aux.state_dict()}

    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2,
    ))
    windows = torch.randint(3, 64, (40, 12), generator=torch.Generator().manual_seed(0))
    sae = fit(model, windows, 0, activation="jumprelu", k=4, n_latents=32, tokens=1600,
              batch_size=64, buffer_tokens=128)
    state |= {"fitted": sae.state_dict()}
    torch.save(state, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
    """
)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What each of two processes ended with, and their folder."""
    folder = tmp_path_factory.mktemp("parallel")
    started = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(rank), str(folder)])
        for rank in range(2)
    ]
    assert [process.wait(timeout=100) for process in started] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)], folder


@pytest.mark.parametrize("which", ["plain", "coupled", "aux", "fitted"])
def test_both_processes_end_with_the_same(outcome, which):
    (one, other), _ = outcome
    for name, tensor in one[which].items():
        assert torch.equal(tensor, other[which][name]), name
        assert tensor.isfinite().all()


def test_they_end_where_one_process_with_twice_the_batch_does(outcome):
    (one, _), folder = outcome
    x = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1))
    sae = SparseAutoencoder(WIDTH, LATENTS, TopK(3, by="positive"), seed=0)
    start = sae.decoder.detach().clone()
    history = train(sae, ArrayStream(x, batch_size=BATCH), steps=STEPS, lr=1e-2)
    assert (sae.decoder - start).abs().max() > 0.1
    torch.testing.assert_close(one["history"], torch.tensor(history), rtol=1e-3, atol=1e-4)
    for name, tensor in sae.state_dict().items():
        torch.testing.assert_close(one["plain"][name], tensor, rtol=1e-3, atol=1e-4)
    assert torch.load(folder / "run.pt", weights_only=True)["step"] == 40


def test_rows_of_both_count_for_the_dead(outcome):
    (one, _), _ = outcome
    since = one["aux"]["rows_since_fired"]
    assert (since % BATCH == 0).all() and since.max() <= STEPS * BATCH
    assert one["coupled"]["activation.threshold"] > 0
    assert one["coupled"]["activation.batches"] == STEPS


def test_alone_there_is_nothing_to_share():
    assert processes() == (0, 1)
    tensor = torch.ones(3)
    assert total(tensor) is tensor and mean(tensor) is tensor
    x = torch.arange(10.0)[:, None]
    stream = ArrayStream(x, batch_size=2)
    assert torch.equal(Dealt(stream).batch(3), stream.batch(3))
