import pytest
import torch
from torch import nn

from rarefy.weights import LayerStats, walk_blocks
from rarefy.weights.calibrate import block_linears


def families():
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        OPTConfig,
        OPTForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    small = {
        "vocab_size": 48,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    return {
        "llama": (LlamaForCausalLM, LlamaConfig(**small)),
        "mistral": (MistralForCausalLM, MistralConfig(**small, sliding_window=8)),
        "qwen": (
            Qwen2ForCausalLM,
            # One block attends to everything and one to a window: their masks differ.
            Qwen2Config(
                **small,
                use_sliding_window=True,
                sliding_window=4,
                max_window_layers=1,
                layer_types=["full_attention", "sliding_attention"],
            ),
        ),
        "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=48, n_embd=16, n_layer=2, n_head=2)),
        "opt": (
            OPTForCausalLM,
            OPTConfig(
                vocab_size=48,
                hidden_size=16,
                ffn_dim=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                word_embed_proj_dim=16,
            ),
        ),
    }


@pytest.fixture(params=["llama", "mistral", "qwen", "gpt2", "opt"])
def model(request):
    torch.manual_seed(0)
    kind, config = families()[request.param]
    return kind(config).eval()


@pytest.fixture
def windows():
    return torch.randint(48, (5, 12), generator=torch.Generator().manual_seed(0))


def inputs_of(model, windows):
    """What every linear layer reads in one ordinary forward pass of the whole model."""
    seen = {}

    def keep(name):
        def hook(_module, x):
            seen[name] = x[0].reshape(-1, x[0].shape[-1])

        return hook

    hooks = [
        linear.register_forward_pre_hook(keep(name))
        for linears in block_linears(model)
        for name, linear in linears.items()
    ]
    with torch.no_grad():
        model(windows)
    for hook in hooks:
        hook.remove()
    return seen


def test_statistics_are_those_of_an_ordinary_forward_pass(model, windows):
    seen, found = inputs_of(model, windows), {}
    walk_blocks(
        model, windows, lambda name, _, stats: found.update({name: stats}), gram=True, batch=2
    )
    assert set(found) == set(seen)
    for name, x in seen.items():
        stats = found[name]
        assert (stats.sequences, stats.tokens) == (5, 60)
        assert torch.allclose(stats.mean, x.mean(0), atol=1e-5)
        assert torch.allclose(stats.gram, x.T @ x, atol=1e-4)


def test_later_blocks_read_from_pruned_earlier_ones(model, windows):
    blocks = block_linears(model)
    found = {}

    def zero_the_first_block(name, linear, stats):
        found[name] = stats
        if name in blocks[0]:
            linear.weight.data.zero_()

    walk_blocks(model, windows, zero_the_first_block)
    seen = inputs_of(model, windows)  # of the model as it is now
    for name in blocks[1]:
        assert torch.allclose(found[name].mean, seen[name].mean(0), atol=1e-5)


@pytest.mark.parametrize("sizes", [[7], [1, 4, 2], [3, 3, 1]])
def test_streaming_equals_all_at_once(sizes):
    g = torch.Generator().manual_seed(0)
    x = 100 + torch.randn(sum(sizes), 5, 3, generator=g, dtype=torch.float64)
    stats = LayerStats(3, gram=True)
    for part in x.float().split(sizes):
        stats.update(part)
    rows = x.flatten(0, 1)
    assert torch.allclose(stats.mean.double(), rows.mean(0), rtol=1e-6)
    assert torch.allclose(stats.variance.double(), rows.var(0, correction=0), rtol=1e-3)
    assert torch.allclose(stats.mean_sum.double(), rows.sum(0) / 7, rtol=1e-6)
    assert torch.allclose(stats.norm.double(), (rows.square().sum(0) / 7).sqrt(), rtol=1e-6)
    assert torch.allclose(stats.gram.double(), rows.T @ rows, rtol=1e-5)


def test_batch_mean_variance_misses_what_lies_between_batches():
    exact, released = LayerStats(1), LayerStats(1, variance="batch_mean")
    for value in (0.0, 2.0):
        for stats in (exact, released):
            stats.update(torch.full((1, 3, 1), value))
    assert float(exact.variance) == 1.0
    assert float(released.variance) == 0.0


def test_bad_input(model):
    with pytest.raises(ValueError, match="shorter than one window"):
        walk_blocks(model, torch.zeros(0, 8, dtype=torch.int64), lambda *_: None)
    with pytest.raises(ValueError, match="no calibration token"):
        _ = LayerStats(2).mean
    with pytest.raises(ValueError, match="not finite"):
        LayerStats(1).update(torch.tensor([[float("inf")]]))
    with pytest.raises(ValueError, match=r"\(sequences, tokens, 2\), got \(3, 4\)"):
        LayerStats(2).update(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="gram=True"):
        _ = LayerStats(2).gram
    with pytest.raises(ValueError, match="batch_mean"):
        LayerStats(2, variance="none")


def test_overflowing_activations_name_the_layer(windows):
    kind, config = families()["llama"]
    model = kind(config)
    model.model.embed_tokens.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"model\.layers\.0\..*not finite"):
        walk_blocks(model, windows, lambda *_: None)


def test_a_model_without_linear_blocks_is_refused(windows):
    convolutions = nn.ModuleList([nn.Conv1d(2, 2, 1)])
    with pytest.raises(ValueError, match="no linear layer"):
        walk_blocks(nn.Sequential(convolutions), windows, lambda *_: None)
    with pytest.raises(ValueError, match="no list of transformer blocks"):
        walk_blocks(nn.Linear(2, 2), windows, lambda *_: None)


def test_training_mode_is_put_back(windows):
    kind, config = families()["llama"]
    model = kind(config).train()
    walk_blocks(model, windows, lambda *_: None)
    assert model.training
