"""Models small enough to be built for every test, with predictions that are far from uniform."""

import pytest
import torch


def spread_out(model):
    """Weights large enough that what a token is conditioned on shows."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(0, 0.4, generator=generator)
    return model.double()


@pytest.fixture
def tiny_llama():
    """Random Llama over 12 tokens, rotary positions: 0 pads, 1 begins, 2 ends."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=12,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return spread_out(LlamaForCausalLM(config))


@pytest.fixture
def tiny_gpt2():
    """Random GPT-2 over 12 tokens, learned absolute positions and dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=12,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return spread_out(GPT2LMHeadModel(config))


@pytest.fixture(params=["tiny_llama", "tiny_gpt2"])
def tiny_model(request):
    """Both of them."""
    return request.getfixturevalue(request.param)
