import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from rarefy.dictionaries import content_mask, harvest, resolve_site, splice

PAD, END = 1, 0


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=50,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=3,
                num_attention_heads=2,
                bos_token_id=END,
                eos_token_id=END,
                pad_token_id=PAD,
            )
        )


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"vocab_size": 50, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32}
        return GPT2LMHeadModel(
            GPT2Config(**sizes, bos_token_id=END, eos_token_id=END, pad_token_id=PAD)
        )


@pytest.fixture(params=[llama, gpt2], ids=["llama", "gpt2"])
def model(request):
    return request.param()


@pytest.fixture
def windows():
    """Three windows of 10: text only, one with the end of a text inside, one padded."""
    ids = torch.randint(2, 50, (3, 10), generator=torch.Generator().manual_seed(1))
    ids[1, 4] = END
    ids[2, 7:] = PAD
    return ids


def text(windows):
    return (windows != PAD) & (windows != END)


def test_a_layer_is_what_transformers_calls_its_hidden_state(model, windows):
    model.eval()
    with torch.no_grad():
        states = model(input_ids=windows, output_hidden_states=True).hidden_states
    for layer in (0, 1):
        found = harvest(model, windows, layer, batch=2)
        torch.testing.assert_close(found, states[layer + 1][text(windows)], rtol=1e-5, atol=1e-6)


def test_a_name_reaches_any_module_and_what_lies_behind_does_not_run(model, windows):
    name = "model.layers.1.mlp" if "Llama" in type(model).__name__ else "transformer.h.1.mlp"
    ran = []
    model.lm_head.register_forward_hook(lambda *_: ran.append("head"))
    resolve_site(model, 2).register_forward_hook(lambda *_: ran.append("layer 2"))
    found = harvest(model, windows, name)
    assert found.shape == (int(text(windows).sum()), 16)
    assert not ran
    harvest(model, windows, 2)
    assert ran == ["layer 2"]


def test_the_model_is_left_as_it_was(model, windows):
    model.train()
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    harvest(model, windows, 1, gradients="ce")
    assert model.training
    assert not frozen.requires_grad
    assert sum(p.requires_grad for p in model.parameters()) == len(list(model.parameters())) - 1
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ZeroDivisionError):
        harvest(model, windows, 1, gradients=lambda *_: 1 / 0)
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())


def test_limit_dtype_skip_and_exclude(model, windows):
    everything = harvest(model, windows, 1, exclude=())
    assert len(everything) == 30
    few = harvest(model, windows, 1, limit=7, dtype=torch.bfloat16, batch=1)
    assert few.dtype == torch.bfloat16
    kept = everything[text(windows).flatten()]
    torch.testing.assert_close(few.float(), kept[:7], rtol=1e-2, atol=1e-2)
    mask = content_mask(model, windows, exclude={5}, skip=2)
    assert torch.equal(mask, (windows != 5) & (torch.arange(10) >= 2))
    assert len(harvest(model, windows, 1, exclude={5}, skip=2)) == int(mask.sum())


def by_hand(model, windows, layer, loss):
    """Gradient of a loss at a layer of a copy of the model, without any freezing or detaching."""
    model = copy.deepcopy(model).eval()
    kept = []

    def hook(_module, _args, output):
        kept.append(output[0] if isinstance(output, tuple) else output)

    resolve_site(model, layer).register_forward_hook(hook)
    value = loss(model(input_ids=windows).logits)
    return torch.autograd.grad(value, kept[0])[0]


def test_gradients_are_those_of_autograd_on_the_whole_model(model, windows):
    def loss(logits):
        flat = logits[:, :-1].transpose(1, 2)
        return cross_entropy(flat, windows[:, 1:], reduction="sum", ignore_index=PAD)

    # A position is kept where it is text and the next token is there to be predicted.
    keep = text(windows)
    keep[:, :-1] &= windows[:, 1:] != PAD
    keep[:, -1] = False
    wanted = by_hand(model, windows, 1, loss)[keep]
    for batch in (1, 8):
        x, g = harvest(model, windows, 1, gradients="ce", batch=batch)
        torch.testing.assert_close(g, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(x, harvest(model, windows, 1, exclude=())[keep.flatten()])
    assert wanted.abs().max() > 1e-3


def test_gradients_of_a_function_of_the_output(model, windows):
    x, g = harvest(model, windows, 1, gradients=lambda out, _: out.logits[:, -1, 7].sum())
    wanted = by_hand(model, windows, 1, lambda logits: logits[:, -1, 7].sum())
    torch.testing.assert_close(g, wanted[text(windows)], rtol=1e-4, atol=1e-6)
    assert len(x) == int(text(windows).sum())


def test_sampled_gradients_repeat_with_their_seed_and_average_to_nothing(model):
    windows = torch.full((1, 6), 9)
    draws = [
        harvest(model, windows.repeat(64, 1), 1, gradients="ce_sampled", seed=seed)[1]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    # The score of a model under its own predictions has mean zero.
    at_end = draws[0].view(64, 5, 16)[:, -1]
    error = at_end.std(0) / 8
    assert bool((at_end.mean(0).abs() < 5 * error).all())


def test_gradients_are_taken_within_no_grad_and_inference_mode(model, windows):
    _, wanted = harvest(model, windows, 1, gradients="ce")
    with torch.no_grad():
        assert torch.equal(harvest(model, windows, 1, gradients="ce")[1], wanted)
    with torch.inference_mode():
        assert torch.equal(harvest(model, windows, 1, gradients="ce")[1], wanted)


@pytest.mark.parametrize(
    ("site", "sentence"),
    [
        (3, "there is no layer 3: the model has layers 0 to 2"),
        (-1, "there is no layer -1"),
        ("", "no module ''"),
        ("model.layer.1.mlp", "no module 'model.layer.1.mlp': model.layers.1.mlp"),
        ("model.layers.9", "model.layers.2"),
    ],
)
def test_an_unknown_site_is_named_with_what_there_is(site, sentence):
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        resolve_site(llama(), site)


def test_bad_input_is_one_sentence(windows):
    model = llama()
    for bad, sentence in (
        (windows[0], "windows must be int64 of shape"),
        (windows.float(), "windows must be int64"),
        (torch.zeros(2, 4, dtype=torch.int64), "no token of text"),
    ):
        with pytest.raises(ValueError, match=sentence):
            harvest(model, bad, 1)
    with pytest.raises(ValueError, match="gradients must be 'ce', 'ce_sampled' or a callable"):
        harvest(model, windows, 1, gradients="kl")
    with pytest.raises(ValueError, match="must be .windows, tokens, width."):
        harvest(model, windows, "model.rotary_emb")
    model.spare = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="spare does not run"):
        harvest(model, windows, "spare")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="activations at layer 1 are not finite in windows 0 to 1"):
        harvest(model, windows, 1, batch=2)


def test_splicing_the_identity_leaves_logits_bitwise_unchanged(model, windows):
    model.eval()
    clean = model(input_ids=windows).logits
    for options in ({}, {"mask": text(windows)}):
        with splice(model, 1, lambda x: x, **options):
            assert torch.equal(model(input_ids=windows).logits, clean)
    with splice(model, 1, torch.zeros_like):
        assert not torch.allclose(model(input_ids=windows).logits, clean)
    assert torch.equal(model(input_ids=windows).logits, clean)


def test_a_splice_replaces_what_the_mask_says_in_the_models_type(model, windows):
    model = model.to(torch.bfloat16).eval()
    seen = []
    resolve_site(model, 2).register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    mask = text(windows)
    with splice(model, 1, lambda x: torch.ones_like(x, dtype=torch.float32), mask=mask):
        model(input_ids=windows)
    assert seen[0].dtype == torch.bfloat16
    assert bool((seen[0][mask] == 1).all())
    assert not bool((seen[0][~mask] == 1).any())


def test_with_the_error_kept_logits_stay_and_gradients_flow(model, windows):
    model.eval()
    clean = model(input_ids=windows).logits
    scale = torch.tensor(0.3, requires_grad=True)
    with splice(model, 1, lambda x: scale * x, keep_error=True):
        logits = model(input_ids=windows).logits
    torch.testing.assert_close(logits, clean, rtol=1e-4, atol=1e-5)
    logits.square().sum().backward()
    assert float(scale.grad.abs()) > 1e-3


def test_a_splice_that_fails_leaves_no_hook(windows):
    model = llama().eval()
    with (
        pytest.raises(ValueError, match="fn must keep the shape"),
        splice(model, 1, lambda x: x[0]),
    ):
        model(input_ids=windows)
    bad = torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="mask must be"), splice(model, 1, lambda x: x, mask=bad):
        model(input_ids=windows)
    assert not any(m._forward_hooks for m in model.modules())
