import re
from typing import get_args

import pytest
import torch
from torch.nn.functional import kl_div

from rarefy.dictionaries import (
    ArrayStream,
    Gated,
    SparseAutoencoder,
    architecture,
    describe_features,
    evaluate,
    evaluate_spliced,
    features_page,
    fit,
    harvest,
    logit_effects,
    site_width,
    top_examples,
    train,
)
from rarefy.dictionaries.architectures import Name
from rarefy.dictionaries.scale import ScaledStream, norm_scale, unscale
from rarefy.models import open_model, token_losses
from rarefy.operators import L0, TopK

NAMES = get_args(Name)


@pytest.fixture(scope="module")
def model():
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"vocab_size": 2048, "hidden_size": 16, "intermediate_size": 24}
        heads = {"num_hidden_layers": 2, "num_attention_heads": 2}
        return LlamaForCausalLM(LlamaConfig(**sizes, **heads, bos_token_id=0, eos_token_id=0))


@pytest.fixture
def windows():
    return torch.randint(1, 2048, (24, 12), generator=torch.Generator().manual_seed(0))


def planted(rows=4000, width=16, atoms=32, active=3, seed=0):
    """Rows that are sparse non-negative combinations of random directions, of norm sqrt(width)."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(atoms, width, generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    chosen = torch.rand(rows, atoms, generator=generator).topk(active, dim=1).indices
    sizes = torch.rand(rows, active, generator=generator) + 0.5
    x = torch.zeros(rows, atoms).scatter_(1, chosen, sizes) @ directions
    return x * norm_scale(x)


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_learns_at_about_the_sparsity_it_is_aimed_at(name):
    x, steps = planted(), 250
    sae, losses, error = architecture(name, 16, 64, k=4, rows=steps * 128)
    stream = ArrayStream(x[:3000], batch_size=128)
    train(sae, stream, steps=steps, losses=losses, error=error, lr=5e-3)
    found = evaluate(sae, x[3000:])
    # top-AFA takes what norms ask for, whatever k
    assert found.l0 > 2.4 and (found.l0 < 6.7 or name == "afa")
    assert found.fvu < 0.4


def test_abstopk_uses_both_signs():
    x = planted()
    x[::2] *= -1
    sae, losses, _ = architecture("abstopk", 16, 64, k=4, rows=30_000)
    train(sae, ArrayStream(x, batch_size=128), steps=150, losses=losses, lr=3e-3)
    values = sae.encode(x).values
    assert 0.2 < float((values < 0).float().mean()) < 0.8


@pytest.mark.parametrize("name", NAMES)
def test_an_autoencoder_taken_back_to_scale_does_to_x_what_it_did_to_scaled_x(name):
    x = planted(500)
    sae, losses, error = architecture(name, 16, 64, k=4, rows=3000)
    train(sae, ArrayStream(x, batch_size=100), steps=30, losses=losses, error=error, lr=3e-3)
    before, norms = sae(x), sae.decoder.norm(dim=1)
    unscale(sae, 7.0)
    torch.testing.assert_close(sae(x / 7) * 7, before, rtol=1e-4, atol=1e-5)
    assert torch.equal(sae.decoder.norm(dim=1), norms)


def test_scale_is_that_of_rows_and_refuses_what_has_a_size_of_its_own():
    x = torch.randn(50, 16) * 9
    assert (x * norm_scale(x)).norm(dim=1).mean() == pytest.approx(4.0)
    with pytest.raises(ValueError, match="all zero"):
        norm_scale(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="size of its own"):
        unscale(SparseAutoencoder(16, 32, L0(0.1, positive=True)), 2.0)
    pairs = ScaledStream(ArrayStream(x, x, batch_size=10), 2.0).batch(0)
    assert torch.equal(pairs[0], 2 * pairs[1])


def test_bad_architectures_are_one_sentence():
    for k in (0, 65):
        with pytest.raises(ValueError, match=f"k must be from 1 to the 64 latents, got {k}"):
            architecture("topk", 16, 64, k=k, rows=100)
    with pytest.raises(ValueError, match="no architecture is called 'topp'"):
        architecture("topp", 16, 64, rows=100)


def test_fit_reconstructs_a_models_activations_as_they_are(model, windows):
    sae = fit(
        *(model, windows, 1),
        **{"k": 4, "n_latents": 64, "tokens": 12_800, "batch_size": 64, "lr": 5e-3},
    )
    x = harvest(model, windows, 1, skip=1)
    assert x.norm(dim=1).mean() < 2  # far from sqrt(d) = 4
    assert evaluate(sae, x).fvu < 0.5
    assert not sae.training
    assert site_width(model, 1) == 16


def test_fit_refuses_before_any_work(model, windows):
    options = {"tokens": 640, "batch_size": 64}
    for bad, sentence in (
        ({"k": 129}, "k must be from 1 to the 128 latents"),
        ({"tokens": 63}, "tokens must be at least one batch of 64"),
    ):
        with pytest.raises(ValueError, match=sentence):
            fit(model, windows, 1, **(options | bad))
    with pytest.raises(ValueError, match="fewer than one batch"):
        fit(model, windows[:2], 1, **options)


def test_losses_inside_the_model_are_those_of_the_model(model, windows):
    perfect = evaluate_spliced(model, windows, 1, lambda x: x, batch=5)
    clean = token_losses(model, windows).mean().item()
    assert perfect.clean == pytest.approx(clean, rel=1e-5)
    assert perfect.recovered == pytest.approx(1)
    assert perfect.recovered_from_mean == pytest.approx(1)
    assert perfect.kl == pytest.approx(0, abs=1e-6)
    nothing = evaluate_spliced(model, windows, 1, torch.zeros_like)
    assert nothing.recovered == pytest.approx(0, abs=1e-4)
    # Zero activations at the last layer: every token is predicted alike.
    assert nothing.zero == pytest.approx(torch.tensor(2048.0).log().item(), rel=1e-4)


def test_divergence_is_torchs(model, windows):
    from rarefy.dictionaries import splice

    def fn(x):
        return 0.5 * x + 0.1 * x.flip(-1)

    found = evaluate_spliced(model, windows, 0, fn, batch=7)
    with torch.no_grad():
        clean = model(input_ids=windows).logits[:, :-1].log_softmax(-1).flatten(0, 1)
        with splice(model, 0, fn):
            changed = model(input_ids=windows).logits[:, :-1].log_softmax(-1).flatten(0, 1)
    wanted = kl_div(changed, clean, log_target=True, reduction="batchmean")
    assert found.kl == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("activation", [TopK(4, by="positive"), TopK(4), Gated(64)], ids=str)
def test_top_examples_are_those_of_a_search_through_everything(model, windows, activation):
    sae = SparseAutoencoder(16, 64, activation).eval()
    windows = windows.clone()
    windows[3, 5] = windows[7, 0] = 0  # special
    found = top_examples(sae, model, windows, 1, n_examples=3, batch=5, skip=1)
    z = torch.zeros(24, 12, 64)
    mask = (windows != 0) & (torch.arange(12) > 0)
    z[mask] = sae.encode(harvest(model, windows, 1, skip=1)).dense().detach()
    strongest = z.abs().amax(1).T  # (f, n)
    wanted = strongest.topk(3, dim=1).values
    torch.testing.assert_close(found.values.abs(), wanted)
    there = z[found.windows, found.positions, torch.arange(64)[:, None]]
    torch.testing.assert_close(there, found.values)
    torch.testing.assert_close(found.density, (z[mask] != 0).float().mean(0))
    distinct = [len(set(w.tolist())) for w in found.windows[(wanted > 0).all(1)]]
    assert set(distinct) == {3}


def test_effects_on_logits_are_the_direct_path(model):
    sae = SparseAutoencoder(16, 64, TopK(4))
    effects = logit_effects(sae, model, torch.tensor([5, 9]))
    x = torch.zeros(1, 16)
    moved = model.lm_head(x + sae.decoder[9]) - model.lm_head(x)
    torch.testing.assert_close(effects[1], (moved - moved.mean())[0], rtol=1e-4, atol=1e-6)
    assert logit_effects(SparseAutoencoder(24, 64, TopK(4)), model, torch.tensor([1])) is None


def test_a_page_shows_features_as_text_and_nothing_can_be_smuggled_in(model, windows):
    _, tokenizer = open_model()
    markup = tokenizer("</code><script>alert(1)</script>")["input_ids"]
    windows = windows.clone()
    windows[:, : len(markup)] = torch.tensor(markup)[:12]
    sae = SparseAutoencoder(16, 64, TopK(4)).eval()
    found = describe_features(sae, model, tokenizer, windows, 1, n_features=6, n_examples=3)
    assert len(found.features) == 6
    densities = [feature.density for feature in found.features]
    assert densities == sorted(densities, reverse=True)
    feature = found.features[0]
    for example in feature.examples:
        codes = [abs(code) for _, code in example.tokens]
        assert codes[example.peak] == max(codes) == pytest.approx(abs(example.value))
    assert feature.promotes[0][1] >= feature.promotes[-1][1] > feature.suppresses[0][1]
    page = features_page(found, title="<Features>", facts={"model": "a & b"})
    assert "<script" not in page
    assert "&lt;Features&gt;" in page and "a &amp; b" in page
    assert page.count('class="feature"') == 6
    # Nothing is fetched; the picture's namespaces are names, not addresses.
    assert not re.search(r'(src|href)="(?!#)|url\((?!#)|@import', page)


def test_features_that_are_asked_for(model, windows):
    _, tokenizer = open_model()
    sae = SparseAutoencoder(16, 64, TopK(4)).eval()
    found = describe_features(sae, model, tokenizer, windows, 1, latents=[7, 3])
    assert [feature.latent for feature in found.features] == [7, 3]
    with pytest.raises(ValueError, match="there is no latent 64: there are 0 to 63"):
        describe_features(sae, model, tokenizer, windows, 1, latents=[64])
