"""N:M training: what is in force when, what weights and gradients then are, and what is left."""

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, linear

from rarefy.budget import MaskDecay
from rarefy.operators import NM
from rarefy.weights import (
    MASKED,
    STRAIGHT_THROUGH,
    Backward,
    MdGf,
    NMTraining,
    SdGf,
    SparsityTrace,
    is_nm,
    masked_weight,
    nm_callback,
    select,
    sr_ste,
)

RULES = {
    "sr-ste": sr_ste(),
    "ste": STRAIGHT_THROUGH,
    "hard": MASKED,
    "mdgf": MdGf(),
    "mdgf, code": MdGf(MaskDecay("exponential"), backward="straight-through"),
    "stepwise": SdGf(),
    "geometric": SdGf("geometric", doublings=1),
    "own": SdGf((NM(1, 2), NM(2, 8)), over=0.5),
}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(1)
    return [
        (torch.randn(16, 8, 3, 3, generator=g), torch.randint(4, (16,), generator=g))
        for _ in range(3)
    ]


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)


def step(model, optimizer, batch):
    optimizer.zero_grad()
    cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()


def best_of_groups(weight, n, m):
    """The mask of an (out, in, ...) weight, one group after the other."""
    rows = weight.detach().movedim(1, -1).reshape(-1, m).tolist()
    keep = torch.zeros(len(rows), m, dtype=torch.bool)
    for i, row in enumerate(rows):
        for j in sorted(range(m), key=lambda j: (-abs(row[j]), j))[:n]:
            keep[i, j] = True
    moved = weight.movedim(1, -1)
    return keep.reshape(moved.shape).movedim(-1, 1)


@pytest.mark.parametrize(
    ("pattern", "stepwise", "geometric"),
    [
        ((1, 8), ["7:8", "4:8", "2:8", "1:8"], ["8:64", "4:32", "2:16", "1:8"]),
        ((1, 16), ["15:16", "8:16", "4:16", "2:16", "1:16"], ["8:128", "4:64", "2:32", "1:16"]),
        ((2, 8), ["7:8", "4:8", "2:8"], ["16:64", "8:32", "4:16", "2:8"]),
        ((2, 4), ["3:4", "2:4"], ["16:32", "8:16", "4:8", "2:4"]),
        ((3, 4), ["3:4"], ["24:32", "12:16", "6:8", "3:4"]),
        ((3, 8), ["7:8", "4:8", "3:8"], ["24:64", "12:32", "6:16", "3:8"]),
        ((4, 4), ["4:4"], ["32:32", "16:16", "8:8", "4:4"]),
    ],
)
def test_stages_of_the_paper(pattern, stepwise, geometric):
    for kind, wanted in (("stepwise", stepwise), ("geometric", geometric)):
        stages = SdGf(kind).patterns(NM(*pattern))
        assert [f"{stage.n}:{stage.m}" for stage in stages] == wanted


@settings(deadline=None)
@given(st.integers(1, 40), st.floats(0.1, 1.0), st.sampled_from([(1, 16), (2, 8), (2, 4), (1, 2)]))
def test_stages_last_equally_long_and_end_in_the_pattern(scale, over, pattern):
    rule = SdGf(over=over)
    stages = rule.patterns(NM(*pattern))
    steps = scale * len(stages)
    for t in range(steps):
        # Step t of as many as ``over`` holds.
        assert rule(NM(*pattern), t / steps * over).pattern == stages[t // scale]
    assert rule(NM(*pattern), 1.0) == (NM(*pattern), 0.0, STRAIGHT_THROUGH)


def test_mask_decay_softens_forward_and_backward():
    rule = MdGf(MaskDecay("linear", over=0.5))
    assert rule(NM(1, 8), 0.0) == (NM(1, 8), 1.0, Backward(leak=1.0))
    assert rule(NM(1, 8), 0.125) == (NM(1, 8), 0.75, Backward(leak=0.75))
    assert rule(NM(1, 8), 0.5) == (NM(1, 8), 0.0, MASKED)
    code = MdGf(MaskDecay("exponential", over=0.5), backward="straight-through")
    assert code(NM(1, 8), 0.25).softness == pytest.approx(0.02**0.5)
    assert code(NM(1, 8), 0.25).backward == STRAIGHT_THROUGH
    assert code(NM(1, 8), 0.95).softness == 0


@pytest.mark.parametrize(
    ("backward", "softness", "formula"),
    [
        (MASKED, 0.0, lambda g, m, w: g * m),
        (STRAIGHT_THROUGH, 0.0, lambda g, m, w: g),
        (sr_ste(2e-4), 0.0, lambda g, m, w: g + 2e-4 * (1 - m) * w),
        (Backward(leak=0.25), 0.25, lambda g, m, w: g * (m + 0.25 * (1 - m))),
        (STRAIGHT_THROUGH, 1.0, lambda g, m, w: g),
    ],
)
def test_forward_and_backward_by_hand(generator, backward, softness, formula):
    w = torch.randn(6, 16, dtype=torch.float64, generator=generator, requires_grad=True)
    x = torch.randn(5, 16, dtype=torch.float64, generator=generator)
    keep = NM(2, 8).mask(w)
    m = keep.double()
    soft = masked_weight(w, keep, backward, softness=softness)
    torch.testing.assert_close(soft, w * (m + softness * (1 - m)), rtol=0, atol=0)
    out = linear(x, soft)
    out.square().sum().backward()
    grad = 2 * out.detach().t() @ x  # of the loss by the weight the layer saw
    torch.testing.assert_close(w.grad, formula(grad, m, w.detach()))


def test_decayed_is_the_gradient_of_the_forward_pass(generator):
    w = torch.randn(4, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    keep = NM(1, 4).mask(w)
    assert torch.autograd.gradcheck(
        lambda w: masked_weight(w, keep, Backward(leak=0.3), softness=0.3), w
    )


def test_a_hard_mask_does_not_let_infinity_through():
    w = torch.tensor([[1.0, torch.inf]], requires_grad=True)
    keep = torch.tensor([[True, False]])
    sparse = masked_weight(w, keep, STRAIGHT_THROUGH)
    assert sparse.tolist() == [[1.0, 0.0]] and not torch.signbit(sparse).any()


@pytest.mark.parametrize("name", RULES)
def test_masks_are_those_of_the_weights_at_every_step(net, data, name):
    training = NMTraining(net, NM(1, 4), adamw(net), rule=RULES[name], steps=12)
    rule = training._rule
    for t in range(12):
        for key, weight in training.weights.items():
            flow = rule(NM(1, 4), t / 12)
            keep = best_of_groups(weight, flow.pattern.n, flow.pattern.m)
            assert training.masks[key].equal(keep)
            owner = net[int(key[0])]
            seen = weight * torch.where(keep, 1.0, flow.softness)
            torch.testing.assert_close(owner.weight, seen, rtol=0, atol=0)
        step(net, training._optimizer, data[t % 3])


@pytest.mark.parametrize("name", RULES)
def test_the_end_is_an_ordinary_model_with_exactly_n_of_every_m(net, data, name):
    optimizer = adamw(net)
    weights = [net[0].weight, net[3].weight]
    training = NMTraining(net, NM(1, 4), optimizer, rule=RULES[name], steps=12)
    for t in range(12):
        step(net, optimizer, data[t % 3])
    before = net(data[0][0])
    masks = training.finish()
    assert net(data[0][0]).equal(before)
    assert type(net[0]) is nn.Conv2d and type(net[3]) is nn.Linear
    assert net[0].weight is weights[0] and net[3].weight is weights[1]
    for key, weight in select(net).items():
        assert masks[key].movedim(1, -1).reshape(-1, 4).sum(1).eq(1).all()
        assert is_nm(weight, NM(1, 4, axis=1))
        assert not weight.detach().view(torch.int32)[~masks[key]].any()
        assert not optimizer.state[weight]["exp_avg"][~masks[key]].any()
    assert training.finish() is masks
    step(net, optimizer, data[0])  # and it trains on, as if nothing had been there
    assert training.taken == 12


def test_cut_short_it_still_ends_in_the_pattern(net, data):
    optimizer = adamw(net)
    with NMTraining(net, NM(1, 8), optimizer, rule=MdGf(), steps=1000) as training:
        step(net, optimizer, data[0])
        assert bool(net[0].weight.all())  # almost dense
    assert is_nm(net[0].weight, NM(1, 8, axis=1)) and training.taken == 1


def test_eval_mode_is_hard(net, data):
    training = NMTraining(net, NM(1, 8), adamw(net), rule=MdGf(), steps=100)
    assert bool(net[3].weight.all())
    net.eval()
    assert is_nm(net[3].weight, NM(1, 8, axis=1))
    training.finish()


def test_a_dense_phase_trains_like_the_dense_network(net, data):
    twin = copy.deepcopy(net)
    optimizer, plain = adamw(net), adamw(twin)
    training = NMTraining(net, NM(1, 8), optimizer, rule=SdGf(), steps=8, dense=0.5)
    for t in range(4):
        for key, weight in select(twin).items():
            assert training.weights[key].equal(weight)
        step(net, optimizer, data[t % 3])
        step(twin, plain, data[t % 3])
    # Four stages in the four steps that are left.
    stages = [training.flow("0.weight", taken=t).pattern.n for t in range(4, 8)]
    assert stages == [7, 4, 2, 1]


def test_a_layer_for_each_pattern(net, data):
    patterns = {"0.weight": NM(2, 4), "3.weight": NM(1, 16)}
    optimizer = adamw(net)
    with NMTraining(net, patterns, optimizer, rule=SdGf(), steps=5) as training:
        stages = [training.flow(key, taken=2).pattern for key in patterns]
        assert [(stage.n, stage.m) for stage in stages] == [(3, 4), (4, 16)]
        for t in range(5):
            step(net, optimizer, data[t % 3])
    assert training.masks.density("0.weight") == 0.5
    assert training.masks.density("3.weight") == 1 / 16


@pytest.mark.parametrize("name", ["mdgf", "stepwise", "sr-ste"])
def test_resumed_training_ends_in_the_same_bits(net, data, name, tmp_path):
    twin = copy.deepcopy(net)

    def start(model):
        optimizer = adamw(model)
        return optimizer, NMTraining(model, NM(1, 8), optimizer, rule=RULES[name], steps=12)

    optimizer, training = start(net)
    for t in range(12):
        if t == 5:
            parts = {"model": net, "optimizer": optimizer, "training": training}
            torch.save({k: v.state_dict() for k, v in parts.items()}, tmp_path / "checkpoint.pt")
        step(net, optimizer, data[t % 3])
    training.finish()

    saved = torch.load(tmp_path / "checkpoint.pt")
    assert list(saved["model"]) and set(saved["model"]) == set(twin.state_dict())
    assert bool(saved["model"]["3.weight"].all())  # dense
    optimizer, training = start(twin)
    twin.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    training.load_state_dict(saved["training"])
    for t in range(5, 12):
        step(twin, optimizer, data[t % 3])
    training.finish()
    for mine, other in zip(twin.parameters(), net.parameters(), strict=True):
        assert mine.equal(other)


def test_a_state_dict_that_lacks_a_weight_is_reported(net):
    state = net.state_dict()
    NMTraining(net, NM(1, 8), adamw(net), rule=MdGf(), steps=10)
    net.load_state_dict(state)
    del state["3.weight"]
    with pytest.raises(RuntimeError, match="Missing key.*3.parametrizations.weight.original"):
        net.load_state_dict(state)


def test_gradient_accumulation_sees_one_mask(net, data):
    optimizer = adamw(net)
    training = NMTraining(net, NM(1, 8), optimizer, rule=MdGf(), steps=100)
    before = training.masks["3.weight"].clone()
    for batch in data:
        cross_entropy(net(batch[0]), batch[1]).backward()
        assert training.masks["3.weight"].equal(before) and training.taken == 0
    optimizer.step()
    assert training.taken == 1


def test_share_of_the_dense_cost():
    layer = nn.Linear(16, 4)
    sgd = torch.optim.SGD(layer.parameters(), lr=0.0)
    for rule, wanted in (
        (sr_ste(), 1 / 8),
        (MdGf(MaskDecay("linear", over=0.5)), 0.5 + 0.5 / 8),
        (SdGf(), (7 + 4 + 2 + 1) / 4 / 8),
    ):
        training = NMTraining(layer, NM(1, 8), sgd, rule=rule, steps=8)
        assert training.training_share() == 1.0
        for _ in range(8):
            sgd.step()
        assert training.training_share() == pytest.approx(wanted)
        training.finish()


def test_the_trace_knows_what_kind_of_run_it_was(net, data):
    trace = SparsityTrace()
    optimizer = adamw(net)
    with NMTraining(
        net, NM(1, 8), optimizer, rule=SdGf(), steps=12, on_step=trace.record
    ) as training:
        trace.record(0, training.masks)
        for t in range(12):
            step(net, optimizer, data[t % 3])
    assert trace.densities[0] == 7 / 8 and trace.densities[-1] == 1 / 8
    assert trace.classify().path == "dense to sparse"
    assert sum(trace.flips) > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    torch.manual_seed(0)
    layer = nn.Linear(16, 4, dtype=dtype)
    optimizer = adamw(layer)
    with NMTraining(layer, NM(2, 8), optimizer, rule=MdGf(), steps=5):
        for _ in range(5):
            optimizer.zero_grad()
            layer(torch.ones(2, 16, dtype=dtype)).square().sum().backward()
            optimizer.step()
    assert layer.weight.dtype == dtype and int(layer.weight.count_nonzero()) == 16


def test_a_trainer_s_callback(net, data):
    callback = nm_callback(NM(1, 8), rule=SdGf())
    optimizer = adamw(net)
    state = SimpleNamespace(max_steps=8, global_step=4)  # resumed at half time
    callback.on_train_begin(None, state, None, model=net, optimizer=optimizer, extra=1)
    assert callback.training.flow("0.weight").pattern.n == 2
    for t in range(4):
        step(net, optimizer, data[t % 3])
    args = SimpleNamespace(load_best_model_at_end=False)
    callback.on_train_end(args, state, None, model=net)
    assert callback.training.taken == 8 and is_nm(net[3].weight, NM(1, 8, axis=1))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiled_model_follows_the_decay_without_compiling_anew():
    from torch._dynamo.testing import CompileCounter

    torch.manual_seed(0)
    layer = nn.Linear(16, 4)
    sgd = torch.optim.SGD(layer.parameters(), lr=0.1)
    count = CompileCounter()
    compiled = torch.compile(layer, backend=count)
    x = torch.randn(8, 16)
    NMTraining(layer, NM(1, 8), sgd, rule=MdGf(MaskDecay(over=0.9)), steps=20)
    for _ in range(20):
        sgd.zero_grad()
        out = compiled(x)
        torch.testing.assert_close(out, layer(x))
        out.square().mean().backward()
        sgd.step()
    assert count.frame_count <= 3


def test_conv1d_groups_run_over_the_inputs():
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    layer = Conv1D(6, 16)  # 16 inputs, stored first
    with NMTraining(layer, NM(1, 8), adamw(layer), rule=sr_ste(), steps=1):
        pass
    assert is_nm(layer.weight, NM(1, 8, axis=0)) and int(layer.weight.count_nonzero()) == 12


def test_bad_input(net):
    optimizer = adamw(net)

    def start(pattern=NM(1, 8), rule=MdGf(), optimizer=optimizer, **how):  # noqa: B008
        return NMTraining(net, pattern, optimizer, rule=rule, **({"steps": 10} | how))

    for bad, message in (
        (lambda: start(NM(1, 16)), r"m does not divide the inputs of 0.weight \(8 inputs, 1:16\)"),
        (lambda: start(rule=SdGf("geometric")), r"0.weight \(8 inputs, 8:64\), 3.weight \(144"),
        (lambda: start({}), "pattern names no weight"),
        (lambda: start({"0.bias": NM(1, 8)}), "0.bias cannot be pruned; the prunable weights are"),
        (lambda: start(steps=0), "steps must be at least 1, got 0"),
        (lambda: start(dense=1.0), r"dense must be in \[0, 1\), got 1.0"),
        (
            lambda: start(optimizer=torch.optim.SGD([net[0].weight], lr=0.1)),
            "the optimizer does not hold 3.weight",
        ),
        (lambda: MdGf(backward="ste"), "backward must be 'decayed' or 'straight-through'"),
        (lambda: SdGf("halving"), "kind must be 'stepwise', 'geometric' or a tuple of NM"),
        (lambda: SdGf(over=0.0), r"over must be in \(0, 1\], got 0.0"),
        (lambda: SdGf(doublings=-1), "doublings must be at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()
    # Nothing was put on by what was refused.
    assert type(net[0]) is nn.Conv2d and type(net[3]) is nn.Linear


def test_a_diverged_run_says_so(net):
    optimizer = adamw(net)
    NMTraining(net, NM(1, 8), optimizer, rule=MdGf(), steps=10)
    net(torch.full((1, 8, 3, 3), torch.nan)).sum().backward()
    with pytest.raises(ValueError, match="no 1:8 mask for 0.weight after 1 steps: x .* holds NaN"):
        optimizer.step()


def test_tied_weights_are_refused(tiny_llama):
    optimizer = adamw(tiny_llama)
    with pytest.raises(ValueError, match=r"lm_head.weight cannot be pruned"):
        NMTraining(tiny_llama, {"lm_head.weight": NM(1, 8)}, optimizer, rule=MdGf(), steps=10)


def test_a_language_model_keeps_its_names(tiny_llama, tmp_path):
    from transformers import LlamaForCausalLM

    optimizer = adamw(tiny_llama)
    targets = dict.fromkeys(select(tiny_llama, include="*.mlp.*"), NM(1, 16))
    training = NMTraining(tiny_llama, targets, optimizer, rule=MdGf(), steps=3)
    tiny_llama.save_pretrained(tmp_path)  # half-way: what a trainer's checkpoint does
    again = LlamaForCausalLM.from_pretrained(tmp_path)
    for name, weight in training.weights.items():
        assert again.get_parameter(name).equal(weight)
    training.finish()
    assert len(training.masks) == 6 and training.masks.density() == 1 / 16
