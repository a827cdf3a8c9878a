import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rarefy.budget import (
    ErdosRenyi,
    ErdosRenyiKernel,
    ErdosRenyiKernelPlus,
    Fixed,
    Uniform,
    UniformPlus,
    rules,
)

SHAPES = st.lists(
    st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple), min_size=1, max_size=12
).map(lambda shapes: {f"layer{i}": shape for i, shape in enumerate(shapes)})
RULES = [
    Uniform(min_per_group=0),
    Uniform(),
    ErdosRenyi(),
    ErdosRenyiKernel(),
    ErdosRenyiKernel(power=0.5),
    ErdosRenyiKernel(power=3.0, min_per_group=4),
]
RESNET = {
    "conv1": (16, 3, 3, 3),
    "block.conv1": (16, 16, 3, 3),
    "block.conv2": (32, 16, 3, 3),
    "shortcut": (32, 16, 1, 1),
    "fc": (10, 32),
}


def sizes(shapes):
    return {name: math.prod(shape) for name, shape in shapes.items()}


def loop_densities(shapes, density, raw):
    """The loop of the public codes: make the largest dense, rescale the rest, repeat."""
    size = sizes(shapes)
    dense = set()
    while True:
        rest = [name for name in shapes if name not in dense]
        if not rest:
            return dict.fromkeys(shapes, 1.0)
        left = density * sum(size.values()) - sum(size[name] for name in dense)
        epsilon = left / sum(raw[name] * size[name] for name in rest)
        largest = max(raw[name] for name in rest)
        if epsilon * largest <= 1:
            return {name: 1.0 if name in dense else epsilon * raw[name] for name in shapes}
        dense |= {name for name in rest if raw[name] == largest}


@given(SHAPES, st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_total_is_exact_and_counts_are_within_the_groups(shapes, density):
    size = sizes(shapes)
    budget = round(density * sum(size.values()))
    for rule in RULES:
        floor = {name: min(rule.min_per_group, n) for name, n in size.items()}
        if budget < sum(floor.values()):
            with pytest.raises(ValueError, match="min_per_group"):
                rule(shapes, density=density)
            continue
        counts = rule(shapes, density=density)
        assert list(counts) == list(shapes)
        assert sum(counts.values()) == budget
        assert all(type(count) is int for count in counts.values())
        assert all(floor[name] <= counts[name] <= size[name] for name in shapes)


@given(SHAPES, st.floats(0.01, 1))
@settings(max_examples=150, deadline=None)
def test_water_filling_ends_where_the_public_loop_ends(shapes, density):
    raw = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    expected = loop_densities(shapes, density, raw)
    counts = ErdosRenyiKernel(min_per_group=0)(shapes, density=density)
    for name, size in sizes(shapes).items():
        # round(density * N) itself differs from density * N by a half
        assert abs(counts[name] - expected[name] * size) < 2


@given(SHAPES, st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_counts_grow_with_density_to_one_element(shapes, one, other):
    # largest remainders may move a single element the other way (Alabama paradox), never two
    low, high = sorted([one, other])
    rule = ErdosRenyiKernel(min_per_group=0)
    fewer, more = rule(shapes, density=low), rule(shapes, density=high)
    assert all(more[name] >= fewer[name] - 1 for name in shapes)


@given(SHAPES, st.floats(0.05, 1), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_order_of_groups_matters_for_ties_alone(shapes, density, random):
    shuffled = dict(random.sample(list(shapes.items()), len(shapes)))
    rule = ErdosRenyiKernel(min_per_group=0)
    here, there = rule(shapes, density=density), rule(shuffled, density=density)
    assert all(abs(here[name] - there[name]) <= 1 for name in shapes)


def test_erdos_renyi_by_hand():
    # 0.1 of 5,000: raw counts 100+100 and 50+20, so 200/270 and 70/270 of 500
    counts = ErdosRenyi()({"a": (100, 40), "b": (50, 20)}, density=0.1)
    share = 140 / (140 + 70)
    assert counts == {"a": round(500 * share), "b": 500 - round(500 * share)}
    assert ErdosRenyi()(RESNET, density=0.2) != ErdosRenyiKernel()(RESNET, density=0.2)
    linear = {name: shape[:2] for name, shape in RESNET.items()}
    assert ErdosRenyi()(linear, density=0.2) == ErdosRenyiKernel()(linear, density=0.2)


def test_erdos_renyi_ignores_the_kernel():
    shapes = {"a": (8, 8, 3, 3), "b": (16, 16, 3, 3)}
    counts = ErdosRenyi()(shapes, density=0.1)
    # densities in the ratio (16 / 64) : (32 / 256), counts in that ratio times 576 : 2304
    assert counts["a"] / counts["b"] == pytest.approx(0.5, rel=0.02)


def test_power_zero_is_uniform_and_one_group_is_too():
    assert ErdosRenyiKernel(power=0.0)(RESNET, density=0.3) == Uniform()(RESNET, density=0.3)
    assert ErdosRenyiKernel()({"w": (9, 7)}, density=0.5) == {"w": 32}


def test_uniform_plus_keeps_the_first_convolution_and_a_fifth_of_the_last_linear():
    size = sizes(RESNET)
    budget = round(0.1 * sum(size.values()))
    counts = UniformPlus()(RESNET, density=0.1)
    assert counts["conv1"] == size["conv1"]
    assert counts["fc"] == 64
    rest = ["block.conv1", "block.conv2", "shortcut"]
    common = (budget - size["conv1"] - 64) / sum(size[name] for name in rest)
    assert all(abs(counts[name] - common * size[name]) < 1 for name in rest)
    # above a fifth the last layer is like the others
    counts = UniformPlus()(RESNET, density=0.5)
    assert counts["fc"] / size["fc"] == pytest.approx(counts["shortcut"] / 512, abs=0.01)


@given(SHAPES, st.floats(0.02, 1))
@settings(max_examples=100, deadline=None)
def test_uniform_plus_is_the_papers_rule_worked_out_layer_by_layer(shapes, density):
    """First convolution dense, last linear layer a fifth at least, an even share for the rest."""
    size = sizes(shapes)
    convolutions = [name for name, shape in shapes.items() if len(shape) > 2]
    linears = [name for name, shape in shapes.items() if len(shape) == 2]
    budget = round(density * sum(size.values()))
    fixed = {name: size[name] for name in convolutions[:1]}
    left = budget - sum(fixed.values())
    rest = [name for name in size if name not in fixed]
    even = left / max(sum(size[name] for name in rest), 1)
    if linears and even < 0.2:
        fixed[linears[-1]] = 0.2 * size[linears[-1]]
        rest.remove(linears[-1])
        even = (budget - sum(fixed.values())) / max(sum(size[name] for name in rest), 1)
    assume(even * min([size[name] for name in rest], default=1) >= 1)
    counts = UniformPlus()(shapes, density=density)
    assert sum(counts.values()) == budget
    for name in size:
        wanted = fixed[name] if name in fixed else even * size[name]
        assert abs(counts[name] - wanted) <= 1


def test_kernel_plus_gives_the_classifier_its_own_density():
    counts = ErdosRenyiKernelPlus()(RESNET, density=0.2)
    assert counts["fc"] == 320
    assert sum(counts.values()) == round(0.2 * sum(sizes(RESNET).values()))
    rest = {name: shape for name, shape in RESNET.items() if name != "fc"}
    left = (round(0.2 * sum(sizes(RESNET).values())) - 320) / sum(sizes(rest).values())
    alone = ErdosRenyiKernel()(rest, density=left)
    assert all(abs(counts[name] - alone[name]) <= 1 for name in rest)
    assert ErdosRenyiKernelPlus(last=0.5)(RESNET, density=0.2)["fc"] == 160


def test_fixed_groups_keep_theirs_and_the_others_share():
    counts = Fixed({"fc": 0.5, "shortcut": 0.0}, min_per_group=0)(RESNET, density=0.3)
    assert (counts["fc"], counts["shortcut"]) == (160, 0)
    assert sum(counts.values()) == round(0.3 * sum(sizes(RESNET).values()))
    assert Fixed({"shortcut": 0.0})(RESNET, density=0.3)["shortcut"] == 1


@given(SHAPES, st.floats(0.1, 1), st.data())
@settings(max_examples=100, deadline=None)
def test_costs_are_met_to_less_than_one_entry(shapes, density, data):
    cost = {name: data.draw(st.floats(0.1, 50)) for name in shapes}
    size = sizes(shapes)
    budget = density * sum(cost[name] * size[name] for name in shapes)
    assume(budget >= sum(cost.values()))
    counts = ErdosRenyiKernel()(shapes, density=density, cost=cost)
    spent = sum(cost[name] * counts[name] for name in shapes)
    assert budget - max(cost.values()) <= spent * (1 + 1e-9)
    assert spent <= budget * (1 + 1e-9)
    assert ErdosRenyiKernel()(shapes, density=1.0, cost=cost) == size


def test_a_whole_budget_buys_every_entry_in_spite_of_rounding():
    shapes = {"layer0": (13, 17, 39, 39), "layer1": (8, 17, 29, 36)}
    cost = {"layer0": 0.3464013118397044, "layer1": 14.36943729901284}
    assert ErdosRenyiKernel()(shapes, density=1.0, cost=cost) == sizes(shapes)


def test_equal_costs_change_nothing():
    shapes = {"a": (30, 20), "b": (10, 60), "c": (7, 11)}
    cost = dict.fromkeys(shapes, 4.0)
    for rule in RULES:
        plain = rule(shapes, density=0.5)
        priced = rule(shapes, density=0.5, cost=cost)
        assert all(abs(plain[name] - priced[name]) <= 1 for name in shapes)


def test_arrays_stand_for_their_shapes():
    tensors = {"a": torch.zeros(4, 6), "b": np.zeros((3, 5))}
    assert Uniform()(tensors, density=0.5) == Uniform()({"a": (4, 6), "b": (3, 5)}, density=0.5)


def test_edges():
    for rule in RULES:
        assert rule(RESNET, density=1.0) == sizes(RESNET)
    none = dict.fromkeys(RESNET, 0)
    assert Uniform(min_per_group=0)(RESNET, density=0.0) == none
    assert Uniform()({}, density=0.5) == {}
    assert Uniform()({"a": (0, 4), "b": (2, 2), "c": ()}, density=1.0) == {"a": 0, "b": 4, "c": 1}
    huge = {f"layer{i}": (10**5, 10**5) for i in range(3)}
    assert sum(ErdosRenyiKernel()(huge, density=0.1).values()) == 3 * 10**9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Uniform()(RESNET, density=1.2), r"density must be in \[0, 1\], got 1.2"),
        (lambda: Uniform()(RESNET, density=math.nan), "density must be"),
        (lambda: Uniform()({"a": (9,), "b": (9,)}, density=0.05), "is a budget of 1, but .* 2"),
        (lambda: UniformPlus()(RESNET, density=0.04), "budget of 327, but .* at least 499"),
        (
            lambda: Fixed({"a": 0.5})({"a": (10,)}, density=0.9),
            "budget of 9, but .* can take at most 5",
        ),
        (lambda: Fixed({"x": 0.5})({"a": (10,)}, density=0.5), "not there: x"),
        (lambda: Fixed({"x": 1.5}), "densities"),
        (lambda: Uniform(min_per_group=-1), "min_per_group"),
        (lambda: UniformPlus(last=2.0), "last must be"),
        (lambda: ErdosRenyiKernelPlus(last=-1.0), "last must be"),
        (lambda: ErdosRenyiKernel(power=math.inf), "power must be finite"),
        (lambda: Uniform()({"a": (9,)}, density=0.5, cost={"b": 1.0}), "cost lacks the groups a"),
        (lambda: Uniform()({"a": (9,)}, density=0.5, cost={"a": 0.0}), "cost must be positive"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_doctests():
    failed, attempted = doctest.testmod(rules)
    assert attempted and not failed
