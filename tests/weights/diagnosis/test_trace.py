import pytest
import torch

from rarefy.weights import Masks, SparsityTrace, Taxonomy, random_masks

TENSORS = {"a": torch.zeros(20, 30), "b": torch.zeros(10, 20)}


def draw(density, seed, rule=None):
    generator = torch.Generator().manual_seed(seed)
    return random_masks(
        TENSORS, density=density, generator=generator, **({} if rule is None else {"rule": rule})
    )


def trace(*records, **options):
    made = SparsityTrace(**options)
    for step, masks in records:
        made.record(step, masks)
    return made


def test_each_kind_of_run_is_told():
    fixed, other, dense = draw(0.1, 0), draw(0.1, 1), Masks.ones(TENSORS)
    static = trace((0, fixed), (50, fixed), (100, fixed))
    assert static.classify() == Taxonomy("before", "sparse to sparse", "static", "uneven")
    moving = trace((0, fixed), (50, other), (100, other)).classify()
    assert (moving.path, moving.topology) == ("sparse to sparse", "dynamic")
    gradual = trace((0, dense), (30, draw(0.5, 2)), (60, fixed), (100, fixed)).classify()
    assert (gradual.when, gradual.path, gradual.topology) == ("during", "dense to sparse", "static")
    # Pruned while it trained, then still moving.
    late = trace((0, dense), (60, fixed), (80, other), (100, other)).classify()
    assert (late.path, late.topology) == ("dense to sparse", "dynamic")
    after = trace((0, fixed), (10, fixed), pretrained_steps=1000).classify()
    assert (after.when, after.path) == ("after", "post-training")
    tuned = trace((0, fixed), (500, fixed), pretrained_steps=1000).classify()
    assert tuned.path == "sparse to sparse"
    growing = trace((0, draw(0.05, 0)), (50, fixed), (100, fixed)).classify()
    assert growing.topology == "densifying"


def test_layers_are_uniform_or_not():
    from rarefy.budget import Uniform

    assert trace((0, draw(0.1, 0, Uniform()))).classify().layers == "uniform"
    assert trace((0, draw(0.1, 0))).classify().layers == "uneven"


def test_coverage_and_flips_by_hand():
    keep = lambda *bits: Masks({"w": torch.tensor([bits]) > 0})  # noqa: E731
    made = trace((0, keep(1, 0, 0, 0)), (1, keep(0, 1, 0, 0)), (2, keep(1, 0, 0, 0)))
    assert made.flips == [0, 2, 2]
    assert made.coverage == 0.5


def test_training_share_weighs_steps_and_layers():
    first = Masks({"a": torch.ones(1, 10) > 0, "b": torch.zeros(1, 10) > 0})
    made = trace((0, first), (30, ~first), (40, ~first))
    assert made.training_share() == pytest.approx(0.5)
    # 30 steps with a (cost 9 of 10), 10 steps with b (cost 1 of 10)
    assert made.training_share({"a": 9.0, "b": 1.0}) == pytest.approx((30 * 0.9 + 10 * 0.1) / 40)


def test_bad_traces_are_refused():
    with pytest.raises(ValueError, match="the trace is empty"):
        SparsityTrace().classify()
    with pytest.raises(ValueError, match="steps must rise: 3 comes after 5"):
        trace((5, draw(0.1, 0)), (3, draw(0.1, 0)))
