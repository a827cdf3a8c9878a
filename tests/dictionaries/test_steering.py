"""Steering: a linear model in which shifts and costs are known."""

import pytest
import torch

from rarefy.dictionaries import (
    SparseAutoencoder,
    at_equal_kl,
    difference_in_means,
    latent_direction,
    steered_predictions,
    steering_effect,
)
from rarefy.models import open_model
from rarefy.operators import TopK

TOWARDS, AWAY = torch.tensor([0, 1]), torch.tensor([2])


@pytest.fixture
def run():
    """Log probabilities of 8 tokens at 30 places of a linear model."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(30, 6, generator=generator)
    readout = torch.randn(8, 6, generator=generator)
    return lambda vector: ((hidden + vector) @ readout.t()).log_softmax(1)


def test_no_vector_changes_nothing(run):
    clean = run(torch.zeros(6))
    assert steering_effect(clean, run(torch.zeros(6)), TOWARDS, AWAY) == (0.0, 0.0)


def test_effect_is_shift_and_kl(run):
    clean, steered = run(torch.zeros(6)), run(torch.ones(6))
    found = steering_effect(clean, steered, TOWARDS, AWAY)
    kl = torch.nn.functional.kl_div(steered, clean, reduction="batchmean", log_target=True)
    assert found.kl == pytest.approx(float(kl), rel=1e-5)
    p, q = clean.exp(), steered.exp()
    shift = (q[:, :2].sum(1) / q[:, 2]).log() - (p[:, :2].sum(1) / p[:, 2]).log()
    assert found.shift == pytest.approx(float(shift.mean()), rel=1e-4)


def test_directions_are_compared_at_equal_cost_whatever_their_length(run):
    direction = torch.tensor([1.0, 0.5, 0, 0, -1.0, 0])
    short = at_equal_kl(run, 0.01 * direction, TOWARDS, AWAY, kl=0.2)
    long = at_equal_kl(run, 50 * direction, TOWARDS, AWAY, kl=0.2)
    assert short.effect.kl == pytest.approx(0.2, rel=0.01)
    assert short.alpha == pytest.approx(long.alpha, rel=0.02)
    back = at_equal_kl(run, -direction, TOWARDS, AWAY, kl=0.2)
    assert back.effect.shift * short.effect.shift < 0
    weak = at_equal_kl(run, direction, TOWARDS, AWAY, kl=0.2, largest=1e-3)
    assert weak.alpha == 1e-3 and weak.effect.kl < 0.2


def test_the_latent_is_the_one_that_separates_and_points_the_right_way():
    generator = torch.Generator().manual_seed(1)
    sae = SparseAutoencoder(6, 12, TopK(2))
    axis = sae.decoder.detach()[5]
    noise = 0.1 * torch.randn(80, 6, generator=generator)
    a, b = noise[:40] - 2 * axis, noise[40:] + 2 * axis
    found = latent_direction(sae, a, b)
    assert found.latent == 5
    torch.testing.assert_close(found.direction, -axis)
    dim = difference_in_means(a, b)
    assert torch.cosine_similarity(dim, found.direction, dim=0) > 0.99
    # Without signs there is one latent for either direction.
    unsigned = SparseAutoencoder(6, 12, TopK(2, by="positive"))
    with torch.no_grad():
        for parameter in (unsigned.encoder, unsigned.decoder):
            parameter[6] = -parameter[5]
    towards = latent_direction(unsigned, a, b, one_sided=True)
    assert towards.latent == 6
    torch.testing.assert_close(towards.direction, -axis)
    assert latent_direction(unsigned, a, b).latent in (5, 6)


def test_predictions_of_a_model_with_a_vector_at_a_site():
    model, _ = open_model()
    windows = torch.arange(2, 34).view(2, 16)
    run = steered_predictions(model, windows, 1)
    with torch.no_grad():
        clean = model(input_ids=windows).logits.flatten(0, 1).log_softmax(-1)
        vector = torch.full((256,), 0.1)
        states = model(input_ids=windows, output_hidden_states=True).hidden_states
        later = {}
        hook = model.model.layers[2].register_forward_pre_hook(
            lambda module, args: later.update(x=args[0])
        )
        steered = run(vector)
        hook.remove()
    torch.testing.assert_close(run(torch.zeros(256)), clean)
    torch.testing.assert_close(later["x"], states[2] + vector)
    assert steering_effect(clean, steered, TOWARDS, AWAY).kl > 0


def test_bad_input(run):
    with pytest.raises(ValueError, match="direction must not be zero"):
        at_equal_kl(run, torch.zeros(6), TOWARDS, AWAY)
    with pytest.raises(ValueError, match="kl must be positive, got 0"):
        at_equal_kl(run, torch.ones(6), TOWARDS, AWAY, kl=0.0)
