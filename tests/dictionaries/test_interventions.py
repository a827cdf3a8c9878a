"""k-annealing and resampling, each against its definition."""

import pytest
import torch

from rarefy.budget import Cosine, Linear, OneShot
from rarefy.dictionaries import (
    ArrayStream,
    BatchCoupled,
    KAnnealing,
    L1Loss,
    Resample,
    Run,
    SparseAutoencoder,
    train,
)
from rarefy.operators import L1, BatchTopK, TopK

WIDTH, LATENTS = 8, 40


def rows(n=400, seed=0):
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed))


def watched(seen):
    """A loss that notes the number of entries a row that a step kept."""

    def loss(_sae, x, encoded, _reconstruction):
        seen.append(len(encoded.codes.values) / len(x))
        return x.new_zeros(())

    return loss


@pytest.mark.parametrize("coupled", [False, True])
def test_k_follows_the_schedule_and_ends_where_it_does(coupled):
    schedule = Linear(2 / LATENTS, initial=10 / LATENTS, end=0.5)
    activation = TopK(2, by="positive")
    if coupled:
        activation = BatchCoupled(BatchTopK(2, by="positive"), LATENTS)
    sae = SparseAutoencoder(WIDTH, LATENTS, activation)
    seen = []
    options = {"losses": [watched(seen)], "interventions": [KAnnealing(schedule)]}
    train(sae, ArrayStream(rows(), batch_size=50), steps=16, **options)
    assert seen == [max(2, 10 - step) for step in range(9)] + [2] * 7
    last = sae.activation.projection if coupled else sae.activation
    assert (last.k, last.by) == (2, "positive")


def test_k_annealing_takes_any_schedule_and_nothing_that_has_no_k():
    annealing = KAnnealing(Cosine(4 / LATENTS, initial=12 / LATENTS))
    assert [annealing.k(p, LATENTS) for p in (0.0, 0.5, 1.0)] == [12, 8, 4]
    stream = ArrayStream(rows(), batch_size=50)
    relu = SparseAutoencoder(WIDTH, LATENTS, L1(0.0, positive=True))
    with pytest.raises(ValueError, match="for TopK and BatchTopK, got L1"):
        train(relu, stream, steps=3, interventions=[annealing])
    topk = SparseAutoencoder(WIDTH, LATENTS, TopK(2))
    with pytest.raises(ValueError, match=r"must be in \(0, 1\], got 0"):
        train(topk, stream, steps=3, interventions=[KAnnealing(OneShot(0.0))])


def run_with_dead(x, dead, *, steps=3):
    """A run of some steps in which these latents cannot fire."""
    sae = SparseAutoencoder(WIDTH, LATENTS, L1(0.0, positive=True))
    sae.encoder_bias.data[dead] = -1e4
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3)
    for _ in range(steps):
        (x - sae(x)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return Run(7, 100, sae, optimizer, lambda step: (x[50 * (step - 7) :][:50],))


def test_dead_latents_point_at_inputs_and_nobody_else_changes():
    x, dead = rows(), torch.tensor([3, 17, 30])
    run = run_with_dead(x, dead)
    before = {name: p.clone() for name, p in run.sae.named_parameters()}
    Resample([6, 8], rows=100)(run)
    for name, p in run.sae.named_parameters():
        assert torch.equal(p, before[name])
    Resample([7], rows=100)(run)
    others = torch.ones(LATENTS, dtype=torch.bool)
    others[dead] = False
    for name in ("encoder", "decoder", "encoder_bias"):
        after = getattr(run.sae, name)
        assert torch.equal(after[others], before[name][others])
    assert torch.equal(run.sae.encoder_bias[dead], torch.zeros(3))
    # each points at one of the hundred rows that were read, as the encoder sees it
    inputs = torch.nn.functional.normalize(x[:100] - run.sae.decoder_bias)
    nearest = torch.cdist(run.sae.decoder[dead], inputs).amin(1)
    assert nearest.max() < 1e-3
    alive = before["encoder"][others].norm(dim=1).mean()
    torch.testing.assert_close(run.sae.encoder[dead], 0.2 * alive * run.sae.decoder[dead])
    for p in (run.sae.encoder, run.sae.decoder, run.sae.encoder_bias):
        moments = run.optimizer.state[p]
        for name in ("exp_avg", "exp_avg_sq"):
            assert (moments[name][dead] == 0).all()
            assert (moments[name][others] != 0).any()
    assert (run.optimizer.state[run.sae.decoder_bias]["exp_avg"] != 0).all()
    assert run.sae.training


def test_inputs_are_drawn_by_their_squared_loss():
    x = rows() / 100
    x[20:30] *= 2000
    run = run_with_dead(x, torch.arange(20), steps=0)
    Resample([7], rows=50)(run)
    inputs = torch.nn.functional.normalize(x[:50])
    drawn = torch.cdist(run.sae.decoder[:20], inputs).argmin(1)
    losses = (x[:50] - run_with_dead(x, torch.arange(20), steps=0).sae(x[:50])).square().sum(1)
    assert losses[20:30].square().sum() > 0.99 * losses.square().sum()
    assert ((drawn >= 20) & (drawn < 30)).all()
    again = run_with_dead(x, torch.arange(20), steps=0)
    Resample([7], rows=50)(again)
    assert torch.equal(again.sae.decoder, run.sae.decoder)
    other = run_with_dead(x, torch.arange(20), steps=0)
    Resample([7], rows=50, seed=1)(other)
    assert not torch.equal(other.sae.decoder, run.sae.decoder)


def test_resampled_latents_come_alive():
    x = rows(2000)
    dead = torch.arange(10)
    fired = {}
    for name, between in (("with", [Resample([40], rows=500)]), ("without", [])):
        sae = SparseAutoencoder(WIDTH, LATENTS, L1(0.0, positive=True))
        sae.encoder_bias.data[dead] = -100
        options = {"losses": [L1Loss(0.1)], "interventions": between}
        train(sae, ArrayStream(x, batch_size=100), steps=60, lr=5e-3, **options)
        fired[name] = int((sae.encode(x).active[dead] > 0).sum())
    assert fired["without"] == 0
    assert fired["with"] >= 8
