import json
import subprocess
import sys

import pytest
import torch

from rarefy.dictionaries import (
    ActivationStream,
    ShardStream,
    SparseAutoencoder,
    harvest,
    train,
)
from rarefy.dictionaries.buffer import BufferedStream
from rarefy.operators import TopK


@pytest.fixture(scope="module")
def model():
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
        return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


@pytest.fixture
def windows():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 50, (20, 9), generator=generator)
    for position in (0, 1):  # windows differ from their start, so that no two rows are equal
        ids[:, position] = 1 + torch.randperm(49, generator=generator)[:20]
    ids[torch.arange(20), torch.arange(20) % 9] = 0  # one special token in each
    return ids


def numbered(counts, **options):
    """A stream of rows that say where they are from, and the list of what was read."""
    starts = torch.tensor([0, *counts]).cumsum(0)
    reads = []

    def read(items, _round):
        reads.append(len(items))
        for item in items.tolist():
            rows = torch.arange(starts[item], starts[item + 1], dtype=torch.float32)
            yield rows[:, None], -rows[:, None]

    return BufferedStream(torch.tensor(counts), read, **options), reads


def rows_of(batches):
    return torch.cat([x[:, 0] for x, _ in batches]).long().tolist()


@pytest.mark.parametrize("counts", [[5] * 20, [0, 7, 1, 0, 31, 2, 2, 0, 40, 17], [100], [1] * 100])
@pytest.mark.parametrize("buffer", [12, 17, 50, 99, 100, 1000])
def test_every_epoch_serves_every_row_once_and_pairs_stay_pairs(counts, buffer):
    stream, _ = numbered(counts, batch_size=4, buffer_tokens=buffer, seed=3)
    batches = [stream.batch(step) for step in range(50)]
    assert all(torch.equal(x, -g) and len(x) == 4 for x, g in batches)
    if buffer >= 100:
        assert sorted(rows_of(batches[:25])) == list(range(100))
        assert sorted(rows_of(batches[25:])) == list(range(100))
        return
    # A round may span two epochs, so it is the rounds together that serve an epoch.
    per_round = buffer // 4
    size = 4 * per_round
    seen = rows_of(batches)
    for start in range(0, len(seen) - size + 1, size):
        assert len(set(seen[start : start + size])) >= size // 2
    whole = [seen.count(row) for row in range(sum(counts))]
    assert max(whole) - min(whole) <= 2
    if 100 % size == 0:
        assert sorted(seen[:100]) == list(range(100))


def test_a_batch_is_a_function_of_its_step_alone():
    options = {"batch_size": 4, "buffer_tokens": 24, "seed": 5}
    forward, _ = numbered([7] * 20, **options)
    wanted = [forward.batch(step)[0] for step in range(60)]
    for order in (range(59, -1, -1), torch.randperm(60).tolist()):
        other, _ = numbered([7] * 20, **options)
        for step in order:
            assert torch.equal(other.batch(step)[0], wanted[step])
    reseeded, _ = numbered([7] * 20, **(options | {"seed": 6}))
    assert not torch.equal(reseeded.batch(0)[0], wanted[0])


def test_a_run_that_goes_on_reads_its_current_round_and_no_other():
    stream, reads = numbered([5] * 200, batch_size=5, buffer_tokens=50)
    for step in range(33, 40):
        stream.batch(step)
    assert sum(reads) <= 11


def test_what_fits_is_read_once():
    stream, reads = numbered([5] * 20, batch_size=5, buffer_tokens=100)
    for step in range(60):
        stream.batch(step)
    assert reads == [20]


def test_a_fill_that_was_interrupted_is_done_again():
    stream, _ = numbered([5] * 20, batch_size=5, buffer_tokens=100)
    whole = stream._read

    def broken(items, round_):
        yield next(whole(items, round_))
        raise KeyboardInterrupt

    stream._read = broken
    with pytest.raises(KeyboardInterrupt):
        stream.batch(0)
    stream._read = whole
    assert sorted(rows_of([stream.batch(step) for step in range(20)])) == list(range(100))


def test_one_epoch_is_what_harvest_gathers(model, windows):
    stream = ActivationStream(model, windows, 1, batch_size=16, buffer_tokens=32, seed=2)
    assert stream.rows == 160
    served = torch.cat([stream.batch(step) for step in range(10)])
    wanted = harvest(model, windows, 1)
    nearest = torch.cdist(served, wanted).min(1)
    assert float(nearest.values.max()) < 1e-3
    assert sorted(nearest.indices.tolist()) == list(range(160))
    assert not torch.equal(nearest.indices, torch.arange(160))


def test_gradients_ride_along(model, windows):
    options = {"gradients": "ce", "skip": 1}
    stream = ActivationStream(model, windows, 1, batch_size=8, buffer_tokens=24, **options)
    x, g = harvest(model, windows, 1, **options)
    for step in range(6):
        rows, gradients = stream.batch(step)
        nearest = torch.cdist(rows, x).min(1)
        torch.testing.assert_close(gradients, g[nearest.indices], rtol=1e-4, atol=1e-6)


def test_an_autoencoder_trains_on_it_and_goes_on_after_a_kill(model, windows, tmp_path):
    def run(steps, checkpoint=None):
        stream = ActivationStream(model, windows, 1, batch_size=8, buffer_tokens=40)
        sae = SparseAutoencoder(16, 32, TopK(4, by="positive"))
        options = {"warm_up": 0, "decay": 0.0, "checkpoint": checkpoint, "checkpoint_every": 10}
        return sae, train(sae, stream, steps=steps, **options)

    whole, losses = run(40)
    assert losses[-1] < losses[0]
    run(13, tmp_path / "run.pt")
    resumed, _ = run(40, tmp_path / "run.pt")
    assert all(map(torch.equal, whole.state_dict().values(), resumed.state_dict().values()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shards_read_back_bit_equal(model, windows, tmp_path, dtype):
    from safetensors.torch import load_file

    stream = ActivationStream(model, windows, 1, batch_size=8, gradients="ce", dtype=dtype)
    stream.to_disk(tmp_path / "shards", shard_rows=50)
    shards = [load_file(path) for path in sorted((tmp_path / "shards").glob("*.safetensors"))]
    wanted = harvest(model, windows[stream.order(0)], 1, gradients="ce", dtype=dtype)
    for name, rows in zip("xg", wanted, strict=True):
        assert torch.equal(torch.cat([shard[name] for shard in shards]), rows)
    assert {len(shard["x"]) for shard in shards[:-1]} == {50}
    again = ActivationStream.from_disk(tmp_path / "shards", batch_size=8, seed=1)
    assert again.rows == stream.rows
    assert again.metadata == {"site": 1, "windows": 20, "length": 9}
    served = [again.batch(step) for step in range(again.rows // 8)]
    assert served[0][0].dtype == torch.float32
    nearest = torch.cdist(torch.cat([x for x, _ in served]), wanted[0].float()).min(1)
    assert float(nearest.values.max()) < 1e-3
    assert len(set(nearest.indices.tolist())) == len(nearest.indices)


def test_a_limit_and_a_small_buffer_over_shards(model, windows, tmp_path):
    stream = ActivationStream(model, windows, 1, batch_size=8)
    stream.to_disk(tmp_path, limit=130, shard_rows=60)
    assert json.loads((tmp_path / "activations.json").read_text())["rows"] == [60, 60, 10]
    small = ShardStream(tmp_path, batch_size=8, buffer_tokens=16)
    assert small.rows == 130
    assert small.batch(40).shape == (8, 16)


def test_shards_are_written_whole_or_not_at_all(model, windows, tmp_path):
    bad = windows.clone()
    stream = ActivationStream(model, bad, 1, batch_size=8, windows_per_pass=1)
    bad[stream.order(0)[15]] = 99  # no such token: the model fails on the fifteenth window
    with pytest.raises(IndexError):
        stream.to_disk(tmp_path / "shards", shard_rows=20)
    assert not list(tmp_path.iterdir())
    (tmp_path / "kept").write_text("precious")
    with pytest.raises(FileExistsError, match="already there"):
        ActivationStream(model, windows, 1, batch_size=8).to_disk(tmp_path)


def test_damaged_shards_are_one_sentence(model, windows, tmp_path):
    folder = tmp_path / "shards"
    with pytest.raises(FileNotFoundError, match="holds no activations"):
        ShardStream(tmp_path, batch_size=8)
    ActivationStream(model, windows, 1, batch_size=8).to_disk(folder, shard_rows=100)
    last = folder / "activations-00001.safetensors"
    whole = last.read_bytes()
    last.write_bytes(whole[:-40])
    with pytest.raises(ValueError, match="activations-00001.safetensors is no readable"):
        ShardStream(folder, batch_size=8)
    last.unlink()
    with pytest.raises(FileNotFoundError, match="activations-00001"):
        ShardStream(folder, batch_size=8)
    last.write_bytes((folder / "activations-00000.safetensors").read_bytes())
    with pytest.raises(ValueError, match="does not hold the 60 rows"):
        ShardStream(folder, batch_size=8)
    (folder / "activations.json").write_text("{}")
    with pytest.raises(ValueError, match="no readable index"):
        ShardStream(folder, batch_size=8)


def test_too_little_text_and_bad_sizes(model, windows):
    with pytest.raises(ValueError, match="160 tokens of text, fewer than one batch of 161"):
        ActivationStream(model, windows, 1, batch_size=161)
    for batch_size in (0, 33):
        with pytest.raises(ValueError, match="batch_size must be from 1 to the buffer's 32"):
            ActivationStream(model, windows, 1, batch_size=batch_size, buffer_tokens=32)
    with pytest.raises(ValueError, match="no layer 7"):
        ActivationStream(model, windows, 7, batch_size=8)


def test_memory_is_bounded_by_the_buffer_on_a_corpus_ten_times_as_large():
    """Peak resident memory of reading ten buffers is within two buffers of that before."""
    script = """
import resource, torch
from rarefy.dictionaries.buffer import BufferedStream
rows, width, piece = 20_000, 256, 500
def read(items, _round):
    for item in items.tolist():
        yield (torch.full((piece, width), float(item)),)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
counts = torch.full((10 * rows // piece,), piece)
stream = BufferedStream(counts, read, batch_size=1000, buffer_tokens=rows)
torch.randperm(10), torch.zeros(1000, width)[torch.arange(1000)].float()
before = peak()
total = 0.0
for step in range(10 * rows // 1000):
    total += float(stream.batch(step).mean())
assert abs(total / (step + 1) - 199.5) < 1e-3, total / (step + 1)
print(before, peak(), rows * width * 4 / 2**20)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, after, buffer = map(float, run.stdout.split())
    assert after - before < 2 * buffer
