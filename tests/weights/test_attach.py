import copy

import pytest
import torch
from torch import nn

from rarefy.weights import (
    MASKED,
    STRAIGHT_THROUGH,
    Backward,
    Masks,
    attach,
    masked_call,
    masked_weight,
    random_masks,
    select,
    sr_ste,
    strip_state_dict,
)


@pytest.fixture
def masks(mlp, generator):
    return random_masks(mlp, density=0.3, generator=generator)


def bits(tensor):
    return tensor.detach().contiguous().view(torch.int32)


def train(model, optimizer, steps):
    g = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 12, generator=g)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("mode", ["parametrize", "project"])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1),
    ],
    ids=["AdamW", "SGD"],
)
def test_masked_weights_stay_bit_zero_through_100_steps(mlp, masks, mode, make):
    optimizer = make(mlp.parameters())
    train(mlp, optimizer, 3)  # momentum from before the masks must not leak through
    before = {name: weight.detach().clone() for name, weight in select(mlp).items()}
    attachment = attach(mlp, masks, mode=mode, optimizer=optimizer)
    train(mlp, optimizer, 100)
    attachment.detach()
    for name, weight in select(mlp).items():
        assert not bits(weight)[~masks[name]].any()
        assert not torch.equal(weight[masks[name]], before[name][masks[name]])
        for slot in optimizer.state[weight].values():
            if slot.shape == weight.shape:
                assert not bits(slot)[~masks[name]].any()


def test_without_the_hook_decay_would_move_masked_weights(mlp, masks):
    optimizer = torch.optim.AdamW(mlp.parameters(), lr=1e-2)
    train(mlp, optimizer, 3)
    with attach(mlp, masks):
        stored = mlp[0].parametrizations.weight.original
        before = stored.detach().clone()
        train(mlp, optimizer, 3)
        assert not torch.equal(stored[~masks["0.weight"]], before[~masks["0.weight"]])
        assert not bits(mlp[0].weight)[~masks["0.weight"]].any()


def test_the_parameter_object_survives_attaching_and_detaching(mlp, masks):
    weight = mlp[0].weight
    attachment = attach(mlp, masks)
    assert mlp[0].parametrizations.weight.original is weight
    attachment.detach()
    assert mlp[0].weight is weight
    assert type(mlp[0]) is nn.Linear
    assert not weight[~masks["0.weight"]].any()


def test_detaching_without_baking_gives_the_stored_weights_back(mlp, masks):
    dense = mlp[0].weight.detach().clone()
    attach(mlp, masks).detach(bake=False)
    assert torch.equal(mlp[0].weight, dense)


def test_masked_infinities_do_not_become_nan():
    weight = torch.tensor([float("inf"), float("nan"), -1.0, 2.0])
    mask = torch.tensor([False, False, False, True])
    assert bits(masked_weight(weight, mask)).tolist() == bits(torch.tensor([0.0, 0, 0, 2])).tolist()


@pytest.mark.parametrize(
    "rule", [MASKED, STRAIGHT_THROUGH, sr_ste(0.3), Backward(leak=0.25)], ids=str
)
def test_gradients_follow_the_written_rules(rule):
    w = torch.tensor([1.0, -2.0, 3.0, -4.0], dtype=torch.float64, requires_grad=True)
    m = torch.tensor([True, False, True, False])
    upstream = torch.tensor([0.5, 0.25, -1.0, 2.0], dtype=torch.float64)
    (masked_weight(w, m, rule) * upstream).sum().backward()
    keep = m.double()
    by_hand = {
        MASKED: upstream * keep,
        STRAIGHT_THROUGH: upstream,
        sr_ste(0.3): upstream + 0.3 * (1 - keep) * w.detach(),
        Backward(leak=0.25): upstream * (keep + (1 - keep) * 0.25),
    }[rule]
    assert torch.allclose(w.grad, by_hand, rtol=0, atol=1e-15)


def test_the_masked_rule_is_the_true_gradient():
    mask = torch.tensor([[True, False], [False, True]])
    weight = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: masked_weight(w, mask).square().sum(), weight)


def test_tied_weights_are_refused(tiny_llama):
    masks = Masks({"lm_head.weight": torch.ones(64, 32) > 0})
    with pytest.raises(ValueError, match=r"lm_head\.weight is tied.*model\.embed_tokens\.weight"):
        attach(tiny_llama, masks)


def test_options_that_exclude_each_other_are_refused(mlp, masks):
    with pytest.raises(ValueError, match="mode must be"):
        attach(mlp, masks, mode="magic")
    with pytest.raises(ValueError, match="keeps pruned weights alive"):
        attach(mlp, masks, mode="project", backward=STRAIGHT_THROUGH)
    attach(mlp, masks)
    with pytest.raises(ValueError, match=r"0\.weight is missing"):
        attach(mlp, masks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtype_and_non_contiguous_weights(dtype):
    layer = nn.Linear(4, 4).to(dtype)
    layer.weight.data = layer.weight.data.t()
    mask = torch.eye(4) > 0
    with attach(layer, Masks({"weight": mask})):
        assert layer.weight.dtype == dtype
        assert torch.equal(layer.weight != 0, mask)


def test_deepcopy_while_attached(mlp, masks):
    x = torch.randn(2, 12)
    with attach(mlp, masks):
        assert torch.equal(copy.deepcopy(mlp)(x), mlp(x))


def test_functional_masks_and_vmap(mlp, masks):
    x = torch.randn(2, 12)
    untouched = copy.deepcopy(mlp.state_dict())
    out = masked_call(mlp, masks, x)
    assert all(torch.equal(v, untouched[k]) for k, v in mlp.state_dict().items())
    many = torch.stack([masks["0.weight"], torch.zeros_like(masks["0.weight"])])
    batched = torch.vmap(
        lambda mask: masked_call(mlp, {**masks, "0.weight": mask}, x)  # a mapping will do
    )(many)
    assert torch.allclose(batched[0], out, atol=1e-6)
    with attach(mlp, masks):
        assert torch.equal(mlp(x), out)


def test_a_stripped_state_dict_loads_into_a_plain_model(mlp, masks):
    plain = copy.deepcopy(mlp)
    x = torch.randn(2, 12)
    attach(mlp, masks)
    plain.load_state_dict(strip_state_dict(mlp.state_dict()))
    assert torch.equal(plain(x), mlp(x))


# torch's own compiler does what its warning forbids.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_compiler_sees_one_graph_and_the_same_numbers(mlp, masks):
    x = torch.randn(2, 12)
    for rule in (MASKED, sr_ste()):
        with attach(copy.deepcopy(mlp), masks, backward=rule) as held:
            compiled = torch.compile(held.model, backend="eager", fullgraph=True)
            assert torch.equal(compiled(x), held.model(x))
