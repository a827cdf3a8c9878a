import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.budget import (
    GlobalBudget,
    PerHead,
    ScoreRatios,
    TopP,
    Uniform,
    lamp_scores,
    scores,
)

GROUPS = st.lists(
    st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=9), min_size=1, max_size=5
).map(lambda groups: {f"g{i}": np.array(values) for i, values in enumerate(groups)})


def slow_counts(groups, budget, floor):
    """Secure the best ``floor`` of every group, then hand out one best entry at a time."""
    ranked = {name: sorted(values, reverse=True) for name, values in groups.items()}
    counts = {name: min(floor, len(values)) for name, values in ranked.items()}
    while sum(counts.values()) < budget:
        open_ = [name for name in groups if counts[name] < len(ranked[name])]
        best = max(open_, key=lambda name: ranked[name][counts[name]])
        counts[best] += 1
    return counts


@given(GROUPS, st.floats(0, 1), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_global_budget_is_greedy(groups, density, floor):
    total = sum(map(len, groups.values()))
    budget = round(density * total)
    rule = GlobalBudget(min_per_group=floor)
    if budget < sum(min(floor, len(values)) for values in groups.values()):
        with pytest.raises(ValueError, match="min_per_group"):
            rule(groups, density=density)
        return
    assert rule(groups, density=density) == slow_counts(groups, budget, floor)


@given(GROUPS, st.floats(0.6, 1), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_per_head_is_floors_and_then_greedy(groups, density, floor):
    budget = round(density * sum(map(len, groups.values())))
    least = max(int(floor * budget / len(groups)), 1)
    if budget < sum(min(least, len(values)) for values in groups.values()):
        return
    counts = PerHead(floor)(groups, density=density)
    assert counts == slow_counts(groups, budget, least)


def test_equal_groups_of_noise_share_about_equally():
    generator = np.random.default_rng(0)
    noise = {f"g{i}": generator.normal(size=(50, 40)) for i in range(4)}
    counts = GlobalBudget()(noise, density=0.3)
    uniform = Uniform()(noise, density=0.3)
    assert sum(counts.values()) == 2400
    # binomial spread: sqrt(2000 * 0.3 * 0.7) is 20
    assert all(abs(counts[name] - uniform[name]) < 80 for name in noise)


def test_a_floor_in_several_rounds():
    # securing c takes the place of b's only winner, so b must be secured in a second round
    groups = {"a": np.array([9.0, 8, 7, 6]), "b": np.array([5.0, 0]), "c": np.array([1.0, 0])}
    assert GlobalBudget()(groups, density=5 / 8) == {"a": 3, "b": 1, "c": 1}
    assert GlobalBudget(min_per_group=0)(groups, density=5 / 8) == {"a": 4, "b": 1, "c": 0}


def test_tensors_of_half_precision_and_infinite_scores():
    groups = {
        "a": torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16, requires_grad=True),
        "b": torch.tensor([torch.inf, -torch.inf], dtype=torch.float16),
    }
    assert GlobalBudget(min_per_group=0)(groups, density=0.5) == {"a": 1, "b": 1}


def test_inputs_are_left_alone():
    values = np.array([1.0, 2.0])
    GlobalBudget()({"a": values, "b": np.array([8.0, 9.0])}, density=0.5)
    assert values.tolist() == [1.0, 2.0]


def test_ada_snapkv_numbers():
    # two heads of 1,000 tokens, capacity 400 a head: each keeps max(int(0.2 * 400), 132)
    groups = {"sharp": np.linspace(1, 2, 1000), "dull": np.linspace(0, 0.5, 1000)}
    counts = PerHead(0.2, min_per_group=132)(groups, density=0.4)
    assert counts == {"sharp": 668, "dull": 132}
    assert PerHead(1.0)(groups, density=0.4) == {"sharp": 400, "dull": 400}


@pytest.mark.parametrize("p", [0.0, 0.3, 0.65, 0.999, 1.0])
def test_top_p_is_the_smallest_set_with_more_mass_than_p(p):
    mass = np.random.default_rng(0).exponential(size=(20, 5)) ** 3
    kept = TopP(p)({"head": mass})["head"]
    ranked = np.sort(mass.ravel())[::-1] / mass.sum()
    assert kept == 100 or ranked[:kept].sum() > p
    assert kept == 1 or ranked[: kept - 1].sum() <= p


def test_top_p_edges():
    # a mass of exactly p does not exceed it
    assert TopP(0.5)({"a": np.ones(4)}) == {"a": 3}
    assert TopP(0.5)({"zero": np.zeros(4), "none": np.zeros(0)}) == {"zero": 1, "none": 0}
    assert TopP(1.0)({"a": np.ones(4)}) == {"a": 4}
    assert TopP(0.1, min_per_group=3)({"a": np.ones(4), "b": np.ones(2)}) == {"a": 3, "b": 2}


def test_lamp_by_its_definition():
    weight = np.random.default_rng(0).normal(size=(6, 5))
    got = lamp_scores({"w": weight})["w"]
    for i in np.ndindex(weight.shape):
        rest = weight[np.abs(weight) >= np.abs(weight[i])]
        assert got[i] == pytest.approx(weight[i] ** 2 / np.sum(rest**2))
    assert got.max() == pytest.approx(1.0)


def test_lamp_does_not_depend_on_a_layers_scale():
    generator = np.random.default_rng(0)
    layers = {"a": generator.normal(size=200), "b": generator.normal(size=300)}
    scaled = {"a": layers["a"] * 1000, "b": layers["b"]}
    one, other = (GlobalBudget()(lamp_scores(w), density=0.2) for w in (layers, scaled))
    assert one == other
    assert GlobalBudget()({k: abs(v) for k, v in scaled.items()}, density=0.2)["b"] == 1
    assert lamp_scores({"zero": torch.zeros(2, 2)})["zero"].tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GlobalBudget()({"a": np.array([math.nan])}, density=1.0), "'a' hold NaN"),
        (lambda: GlobalBudget()({"a": np.ones(2)}, density=-0.1), "density must be"),
        (lambda: PerHead()({"a": np.ones(2)}, density=2), "density must be"),
        (lambda: PerHead(1.5), "floor must be"),
        (lambda: PerHead(min_per_group=9)({"a": np.ones(9)}, density=0.5), "budget of 4, .* 9"),
        (lambda: TopP(-0.1), "p must be"),
        (lambda: TopP(0.5)({"a": np.array([1.0, -1.0])}), "masses must be"),
        (lambda: TopP(0.5)({"a": np.array([1.0, math.inf])}), "masses must be"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_doctests():
    failed, attempted = doctest.testmod(scores)
    assert attempted and not failed


def test_score_ratios_are_the_counts_of_one_threshold():
    rng = np.random.default_rng(0)
    scores = {"a": rng.normal(size=(4, 5)), "b": torch.randn(3, 2, 2, 2)}
    shapes = {"b": (3, 2, 2, 2), "a": (4, 5)}
    for density in (0.1, 0.5, 1.0):
        counts = ScoreRatios(scores)(shapes, density=density)
        assert list(counts) == ["b", "a"]
        assert counts == GlobalBudget()(scores, density=density)
    with pytest.raises(ValueError, match="scores and groups differ in a, c: score what is"):
        ScoreRatios(scores)({"c": (1,), "a": (5, 4), "b": (3, 2, 2, 2)}, density=0.5)
    with pytest.raises(ValueError, match="min_per_group"):
        ScoreRatios(scores, min_per_group=-1)
    with pytest.raises(ValueError, match="density must be"):
        ScoreRatios(scores)(shapes, density=2.0)
    with pytest.raises(ValueError, match="hold NaN"):
        ScoreRatios({"a": np.array([np.nan])})({"a": (1,)}, density=0.5)
