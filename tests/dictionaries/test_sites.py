"""Sites of GPT-2 and Llama: what is read is what attention uses, what is written it sees."""

import math

import pytest
import torch

from rarefy.dictionaries.sites import Site, collect, patch

N, LENGTH = 7, 6


def tiny(kind):
    import transformers

    common = {"vocab_size": 11, "bos_token_id": 0, "eos_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "gpt2":
            config = transformers.GPT2Config(
                n_embd=12, n_layer=2, n_head=3, n_positions=8, initializer_range=0.3, **common
            )
            return transformers.GPT2LMHeadModel(config).eval()
        config = transformers.LlamaConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=6,
            initializer_range=0.3,
            **common,
        )
        return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request):
    return tiny(request.param)


@pytest.fixture(scope="module")
def ids():
    return torch.randint(11, (N, LENGTH), generator=torch.Generator().manual_seed(1))


def clean(model, ids):
    with torch.inference_mode():
        return model(input_ids=ids).logits[:, -1]


def test_nothing_replaced_is_the_model(model, ids):
    torch.testing.assert_close(patch(model, ids, {}, batch_size=3), clean(model, ids))


def test_writing_back_what_was_read_changes_nothing(model, ids):
    sites = [Site(i, h, k, p) for i in (0, 1) for h in (0, 1) for k in "qkvz" for p in (2, -1)]
    read = collect(model, ids, sites, batch_size=4)
    again = dict(zip(sites, read.unbind(1), strict=True))
    torch.testing.assert_close(patch(model, ids, again, batch_size=5), clean(model, ids))


def test_z_is_the_attention_weighted_sum_of_v():
    # GPT-2, first layer: no rotary embedding between the projections and the scores.
    model, head = tiny("gpt2"), 1
    ids = torch.randint(11, (N, LENGTH), generator=torch.Generator().manual_seed(2))
    q, z = collect(model, ids, [Site(0, head, "q", -1), Site(0, head, "z", -1)]).unbind(1)
    k = collect(model, ids, [Site(0, head, "k", p) for p in range(LENGTH)])
    v = collect(model, ids, [Site(0, head, "v", p) for p in range(LENGTH)])
    weights = (torch.einsum("nh,nlh->nl", q, k) / math.sqrt(4)).softmax(-1)
    torch.testing.assert_close(torch.einsum("nl,nlh->nh", weights, v), z)


def test_a_patch_reaches_only_what_depends_on_the_site(model, ids):
    # The last layer's z at an earlier token cannot move the logits of the last one; at the last
    # token it can.
    other = torch.randn(N, collect(model, ids, [Site(1, 0, "z", 0)]).shape[-1])
    assert patch(model, ids, {Site(1, 0, "z", 0): other}).equal(patch(model, ids, {}))
    moved = patch(model, ids, {Site(1, 0, "z", -1): other})
    assert (moved - clean(model, ids)).abs().amax(1).min() > 1e-3


def test_patching_every_head_s_output_takes_the_other_prompt_s_answer(model, ids):
    # With one token, attention's outputs and the embedding are all that reaches the logits.
    other = ids.flip(0).clone()
    other[:, -1] = ids[:, -1]
    heads = model.config.num_attention_heads
    sites = [Site(i, h, "z", -1) for i in (0, 1) for h in range(heads)]
    values = dict(zip(sites, collect(model, other, sites).unbind(1), strict=True))
    torch.testing.assert_close(patch(model, ids, values), clean(model, other))


def test_named_positions_differ_by_prompt(model, ids):
    at = torch.arange(N) % LENGTH
    named = collect(model, ids, [Site(1, 0, "v", "here")], positions={"here": at}, batch_size=2)
    all_ = collect(model, ids, [Site(1, 0, "v", p) for p in range(LENGTH)])
    torch.testing.assert_close(named[:, 0], all_[torch.arange(N), at])


def test_the_model_is_left_without_hooks(model, ids):
    patch(model, ids, {Site(0, 0, "q", 1): collect(model, ids, [Site(0, 0, "q", 1)])[:, 0]})
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_bad_sites(model, ids):
    for site, message in {
        Site(2, 0, "z", 0): "in layer 2, but there are 2 from 0",
        Site(0, 9, "q", 0): "is head 9, but there are",
        Site(0, 0, "w", 0): "of kind 'w', expected 'q', 'k', 'v' or 'z'",
        Site(0, 0, "z", 6): "not in all 7 prompts of 6 tokens",
        Site(0, 0, "z", "end"): "position 'end' of .* named positions: none is given",
    }.items():
        with pytest.raises(ValueError, match=message):
            collect(model, ids, [site])
    with pytest.raises(ValueError, match=r"has shape \(7, 1\), expected \(7, "):
        patch(model, ids, {Site(0, 0, "z", 0): torch.zeros(N, 1)})


def test_grouped_keys_are_counted_by_themselves():
    model = tiny("llama")
    with pytest.raises(ValueError, match="is head 2, but there are 2 from 0"):
        collect(model, torch.zeros(1, 3, dtype=torch.long), [Site(0, 2, "k", 0)])
