"""Masks that move in training: exact counts, the right weights, no trace of what was dropped."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from rarefy.budget import Cubic, Uniform
from rarefy.weights import (
    SET,
    DynamicMasks,
    GradualMagnitude,
    Masks,
    RigL,
    Static,
    attach,
    drop_and_grow,
    dynamic_callback,
    random_masks,
    select,
)

RULES = {
    "static": Static(),
    "SET": SET(),
    "RigL": RigL(),
    "gradual": GradualMagnitude(Cubic(final=0.2, begin=0.1, end=0.8)),
}


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(16, 12, generator=g), torch.randint(4, (16,), generator=g))] * 3


def sgd(model):
    return torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01
    )


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)


def step(model, optimizer, batch):
    optimizer.zero_grad()
    cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()


def sparse(model, rule, optimizer, *, steps=20, every=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    if isinstance(rule, GradualMagnitude):
        masks = Masks.ones(select(model))
    else:
        masks = random_masks(model, density=0.3, rule=Uniform(), generator=g)
    return DynamicMasks(model, masks, optimizer, rule=rule, steps=steps, every=every, generator=g)


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("name", ["static", "SET", "RigL"])
def test_every_layer_keeps_its_count_and_pruned_weights_leave_no_trace(mlp, data, name, make):
    optimizer = make(mlp)
    dynamic = sparse(mlp, RULES[name], optimizer)
    start = dynamic.masks
    counts = {n: int(m.sum()) for n, m in start.items()}
    for t in range(1, 21):
        step(mlp, optimizer, data[t % 3])
        assert {n: int(m.sum()) for n, m in dynamic.masks.items()} == counts
        for n, weight in select(mlp).items():
            pruned = ~dynamic.masks[n]
            assert not weight[pruned].any()
            for slot in optimizer.state[weight].values():
                if slot.shape == weight.shape:
                    assert not slot[pruned].any()
    moved = sum(start.difference(dynamic.masks).values())
    assert moved == 0 if name == "static" else moved > 10


@pytest.mark.parametrize("make", [sgd, adamw])
def test_rigl_grows_where_the_dense_gradient_is_largest(mlp, data, make):
    optimizer = make(mlp)
    dynamic = sparse(mlp, RigL(drop=0.4), optimizer, steps=100, every=3)
    for batch in data[:2]:
        step(mlp, optimizer, batch)
    masks = dynamic.masks
    # torch.autograd.grad never sees the hooks: the dense gradient at the masked weights.
    loss = cross_entropy(mlp(data[2][0]), data[2][1])
    dense = dict(zip(masks, torch.autograd.grad(loss, list(select(mlp).values())), strict=True))
    step(mlp, optimizer, data[2])
    share = 0.4 / 2 * (1 + math.cos(math.pi * 3 / 75))
    for name, weight in select(mlp).items():
        before, after = masks[name], dynamic.masks[name]
        grown, dropped = after & ~before, before & ~after
        k = math.floor(share * int(before.sum()))
        assert int(grown.sum()) == int(dropped.sum()) == k
        outside = dense[name].abs()[~before].sort(descending=True).values
        assert dense[name].abs()[grown].sort(descending=True).values.equal(outside[:k])
        assert not weight[grown].any()
        for slot in optimizer.state[weight].values():
            if slot.shape == weight.shape:
                assert not slot[grown | dropped].any()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 10**6))
def test_drop_and_grow_by_sorting(numel, kept, k, seed):
    g = torch.Generator().manual_seed(seed)
    mask = torch.zeros(numel, dtype=torch.bool)
    mask[torch.randperm(numel, generator=g)[:kept]] = True
    # Whole numbers, so that there are ties.
    weight = torch.randint(-3, 4, (numel,), generator=g).float() * mask
    growth = torch.randint(0, 4, (numel,), generator=g).float()
    after = drop_and_grow(weight, mask, growth, k)
    inside = sorted((i for i in range(numel) if mask[i]), key=lambda i: (-abs(float(weight[i])), i))
    outside = sorted((i for i in range(numel) if not mask[i]), key=lambda i: (-float(growth[i]), i))
    k = min(k, len(inside), len(outside))
    expected = {*inside[: len(inside) - k], *outside[:k]}
    assert set(after.nonzero().flatten().tolist()) == expected


def test_set_grows_anywhere_and_rigl_does_not(mlp, data):
    grown = {}
    for name in ("SET", "RigL"):
        masks = []
        for seed in (0, 1):
            model = copy.deepcopy(mlp)
            optimizer = sgd(model)
            dynamic = sparse(model, RULES[name], optimizer, every=1)
            dynamic._generator.manual_seed(seed)
            step(model, optimizer, data[0])
            masks.append(dynamic.masks)
        grown[name] = sum(masks[0].difference(masks[1]).values())
    assert grown["SET"] > 0 == grown["RigL"]


def test_the_share_that_moves_falls_to_nothing(mlp, data):
    optimizer = sgd(mlp)
    dynamic = sparse(mlp, SET(drop=0.3, stop=0.75), optimizer, steps=40, every=4)
    counts = [int(m.sum()) for m in dynamic.masks.values()]
    for t in range(40):
        step(mlp, optimizer, data[t % 3])
    expected = {}
    for t in range(4, 30, 4):
        share = 0.15 * (1 + math.cos(math.pi * t / 30))
        if moved := sum(math.floor(share * n) for n in counts):
            expected[t] = moved
    assert {update.step: update.moved for update in dynamic.history} == expected


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_gradual_pruning_follows_the_cubic_schedule(mlp, data, scope):
    optimizer = sgd(mlp)
    rule = GradualMagnitude(Cubic(final=0.2, begin=0.1, end=0.8), scope=scope)
    dynamic = sparse(mlp, rule, optimizer, steps=20, every=2)
    numel = dynamic.masks.numel
    before = dynamic.masks
    for t in range(1, 21):
        step(mlp, optimizer, data[t % 3])
        if t % 2 == 0:
            u = min(max((t / 20 - 0.1) / 0.7, 0), 1)
            density = 0.2 + 0.8 * (1 - u) ** 3
            assert dynamic.masks.nnz == round(density * numel)
        assert (dynamic.masks & ~before).nnz == 0
        before = dynamic.masks
    if scope == "layer":
        for mask in dynamic.masks.values():
            assert int(mask.sum()) == pytest.approx(0.2 * mask.numel(), abs=1)


def test_a_schedule_that_ends_between_updates_is_met_on_the_last_step(mlp, data):
    optimizer = sgd(mlp)
    dynamic = sparse(mlp, GradualMagnitude(Cubic(final=0.25)), optimizer, steps=11, every=4)
    for _ in range(11):
        step(mlp, optimizer, data[0])
    assert dynamic.masks.nnz == round(0.25 * dynamic.masks.numel)


def test_accumulated_batches_are_one_batch(mlp, data):
    x, y = data[0]
    models = [mlp, copy.deepcopy(mlp)]
    runs = []
    for model, parts in zip(models, (1, 2), strict=True):
        optimizer = sgd(model)
        dynamic = sparse(model, RigL(), optimizer, every=1)
        for _ in range(3):
            optimizer.zero_grad()
            for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
                (cross_entropy(model(a), b) / parts).backward()
            optimizer.step()
        runs.append(dynamic)
    assert len(runs[0].history) == 3
    assert sum(runs[0].masks.difference(runs[1].masks).values()) == 0


def test_clipping_sees_the_sparse_gradient(mlp, data):
    optimizer = sgd(mlp)
    dynamic = sparse(mlp, RigL(), optimizer, every=1)
    masks = dynamic.masks
    loss = cross_entropy(mlp(data[0][0]), data[0][1])
    dense = dict(zip(masks, torch.autograd.grad(loss, list(select(mlp).values())), strict=True))
    cross_entropy(mlp(data[0][0]), data[0][1]).backward()
    for name, weight in select(mlp).items():
        assert weight.grad.equal(dense[name] * masks[name])


def test_static_masks_train_as_attached_ones(mlp, data):
    twin = copy.deepcopy(mlp)
    optimizer = sgd(mlp)
    dynamic = sparse(mlp, Static(), optimizer)
    other = sgd(twin)
    attach(twin, dynamic.masks, mode="project", optimizer=other)
    for batch in data:
        step(mlp, optimizer, batch)
        step(twin, other, batch)
    for a, b in zip(mlp.parameters(), twin.parameters(), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize("name", RULES)
def test_a_resumed_run_is_bit_identical(mlp, data, name):
    twin = copy.deepcopy(mlp)
    optimizer = adamw(mlp)
    dynamic = sparse(mlp, RULES[name], optimizer)
    for t in range(20):
        if t == 9:
            saved = copy.deepcopy([mlp.state_dict(), optimizer.state_dict(), dynamic.state_dict()])
        step(mlp, optimizer, data[t % 3])
    resumed = adamw(twin)
    again = sparse(twin, RULES[name], resumed, seed=5)
    for part, state in zip((twin, resumed, again), saved, strict=True):
        part.load_state_dict(state)
    for t in range(9, 20):
        step(twin, resumed, data[t % 3])
    for a, b in zip(mlp.parameters(), twin.parameters(), strict=True):
        assert a.equal(b)
    assert again.history == dynamic.history


def test_taken_off_it_leaves_an_ordinary_model(mlp, data):
    optimizer = sgd(mlp)
    with sparse(mlp, RigL(), optimizer) as dynamic:
        step(mlp, optimizer, data[0])
    assert (Masks.from_zeros(mlp) & ~dynamic.masks).nnz == 0
    step(mlp, optimizer, data[0])
    assert Masks.from_zeros(mlp).density() > 0.9


def test_a_trainer_s_callback(mlp, data, generator):
    masks = random_masks(mlp, density=0.3, generator=generator)
    callback = dynamic_callback(masks, rule=RigL(), every=1, generator=generator)
    optimizer = adamw(mlp)
    state = SimpleNamespace(max_steps=6, global_step=0)
    callback.on_train_begin(None, state, None, model=mlp, optimizer=optimizer, extra=1)
    for t in range(6):
        step(mlp, optimizer, data[t % 3])
    args = SimpleNamespace(load_best_model_at_end=False)
    callback.on_train_end(args, state, None, model=mlp)
    assert callback.dynamic.taken == 6 and len(callback.dynamic.history) == 3
    assert (Masks.from_zeros(mlp) & ~callback.dynamic.masks).nnz == 0


def test_bad_requests(mlp, data, generator):
    masks = random_masks(mlp, density=0.3, generator=generator)
    ask = {"rule": RigL(), "steps": 10, "generator": generator}
    with pytest.raises(ValueError, match="does not hold 3.weight"):
        DynamicMasks(mlp, masks, torch.optim.SGD(mlp[0].parameters(), lr=0.1), **ask)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        DynamicMasks(mlp, masks, sgd(mlp), **ask | {"steps": 0})
    with pytest.raises(ValueError, match="absent.weight is missing"):
        DynamicMasks(mlp, Masks({"absent.weight": masks["0.weight"]}), sgd(mlp), **ask)
    with pytest.raises(ValueError, match="drop must be in"):
        RigL(drop=1.5)
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="tied"):
        DynamicMasks(tied, Masks.ones({"0.weight": tied[0].weight}), sgd(tied), **ask)
    optimizer = sgd(mlp)
    DynamicMasks(mlp, masks, optimizer, **ask, every=1)
    with pytest.raises(ValueError, match="0.weight hold NaN at step 1"):
        step(mlp, optimizer, (data[0][0] * float("nan"), data[0][1]))
