"""A trace survives its file; planted contradictions between trace, model and card are found."""

import dataclasses
import json

import pytest
import torch

from rarefy.weights import (
    Masks,
    RunCard,
    SparsityTrace,
    diagnose,
    diagnose_run,
    diagnose_tensors,
    random_masks,
    read_runs,
    trace_findings,
)

TENSORS = {"a": torch.zeros(20, 30), "b": torch.zeros(10, 20)}
STEPS = 100
CARD = RunCard(
    name="sparse",
    data="d",
    split="s",
    metric="accuracy",
    steps=STEPS,
    batch=64,
    density=0.1,
    seeds=3,
)


def draw(density, seed):
    return random_masks(TENSORS, density=density, generator=torch.Generator().manual_seed(seed))


def trace(*records, **options):
    made = SparsityTrace(**options)
    for step, masks in records:
        made.record(step, masks)
    return made


@pytest.fixture
def moving():
    return trace((0, draw(0.1, 0)), (50, draw(0.1, 1)), (STEPS, draw(0.1, 1)))


def errors(findings):
    return {(f.code, f.layer) for f in findings if f.severity == "error"}


def test_a_trace_comes_back_from_its_file(moving, tmp_path):
    moving.pretrained_steps = 7
    moving.save(tmp_path / "trace.jsonl")
    again = SparsityTrace.load(tmp_path / "trace.jsonl")
    for field in ("pretrained_steps", "steps", "densities", "flips", "kept", "ever", "numel"):
        assert getattr(again, field) == getattr(moving, field)
    assert again.coverage == moving.coverage == (draw(0.1, 0) | draw(0.1, 1)).density()
    assert again.classify() == moving.classify()
    assert again.training_share({"a": 3.0}) == moving.training_share({"a": 3.0})
    with pytest.raises(ValueError, match="read from a file cannot go on"):
        again.record(STEPS, draw(0.1, 1))


def test_a_trace_written_by_hand_is_read(tmp_path):
    lines = [
        {"step": 0, "layers": {"w": [10, 10]}, "flips": 0, "ever": 10},
        {"step": 30, "layers": {"w": [4, 10]}, "flips": 6, "ever": 10},
        {"step": 40, "layers": {"w": [4, 10]}, "flips": 0, "ever": 10},
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    read = SparsityTrace.load(path)
    assert read.classify().path == "dense to sparse"
    assert read.training_share() == pytest.approx((30 * 1.0 + 10 * 0.4) / 40)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"step": -5}, "steps must rise: -5 comes after 0"),
        ({"layers": {"w": [11, 10]}}, "a layer keeps from 0 to all"),
        ({"layers": {"v": [4, 10]}}, "are not those of the lines before"),
        ({"layers": {"w": 4}}, "cannot unpack"),
        ({"ever": 3}, "ever 3 cannot be"),
        ({"flips": None}, "int"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, change, why):
    good = {"step": 0, "layers": {"w": [10, 10]}, "flips": 0, "ever": 10}
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | change))
    with pytest.raises(ValueError, match=f"line 2 of .* is no record of a trace.*{why}"):
        SparsityTrace.load(path)
    del good["flips"]
    path.write_text(json.dumps(good))
    with pytest.raises(ValueError, match="line 1 .*it lacks 'flips'"):
        SparsityTrace.load(path)
    for text in ("", '{"pretrained_steps": 3}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="the trace is empty"):
            SparsityTrace.load(path)


def test_an_honest_run_has_no_error(moving):
    masks = draw(0.1, 1)
    assert not errors(trace_findings(moving, masks=masks, card=CARD))
    weights = {name: mask.float() for name, mask in masks.items()}
    found = diagnose_tensors(weights, trace=moving, runs=[CARD])
    assert found.ok and found.taxonomy == moving.classify()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"density": 0.2}, "DENSITY_ON_RECORD"),
        ({"steps": STEPS // 2}, "STEPS_ON_RECORD"),
        ({"pretrained_steps": 50}, "START_ON_RECORD"),
    ],
)
def test_a_card_that_the_trace_contradicts(moving, change, code):
    card = dataclasses.replace(CARD, **change)
    assert errors(trace_findings(moving, card=card)) == {(code, "")}


def test_a_peak_that_was_kept_quiet():
    gradual = trace((0, Masks.ones(TENSORS)), (50, draw(0.1, 0)), (STEPS, draw(0.1, 0)))
    assert errors(trace_findings(gradual, card=CARD)) == {("PEAK_ON_RECORD", "")}
    told = dataclasses.replace(CARD, peak_density=1.0)
    assert not errors(trace_findings(gradual, card=told))


def test_a_model_that_the_trace_does_not_lead_to(moving, mlp):
    masks = draw(0.1, 1)
    denser = Masks({"a": masks["a"], "b": torch.ones(10, 20) > 0})
    assert errors(trace_findings(moving, masks=denser)) == {("OTHER_MODEL", "b")}
    assert errors(trace_findings(moving, masks=Masks({"c": masks["a"]}))) == {("OTHER_MODEL", "")}
    # The whole doctor says so too.
    assert ("OTHER_MODEL", "") in errors(diagnose(mlp, trace=moving).findings)


def test_what_a_run_cost_by_hand():
    half = Masks({"w": torch.tensor([[True, False]])})
    made = trace((0, ~half | half), (10, half), (40, half))
    (cost,) = trace_findings(made)
    assert cost.evidence["training_share"] == pytest.approx((10 + 30 * 0.5) / 40)
    assert "1.6 times the steps" in cost.message


def test_runs_from_a_file(tmp_path):
    path = tmp_path / "runs.json"
    dense = dataclasses.replace(CARD, name="dense", density=1.0, schedule="cosine")
    path.write_text(json.dumps([dataclasses.asdict(card) for card in (CARD, dense)]))
    assert read_runs(path) == [CARD, dense]
    assert {f.code for f in diagnose_run(runs=read_runs(path)).findings} == {"UNEQUAL_SCHEDULE"}
    path.write_text(json.dumps(dataclasses.asdict(CARD)))
    assert read_runs(path) == [CARD]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is no readable JSON"),
        ("[]", "describes no run"),
        ("[3]", "run 1 of .* must be an object with name, data"),
        ('{"name": "a", "data": "d"}', "run 1 of .* lacks split, metric, steps, batch"),
    ],
)
def test_what_is_no_configuration(tmp_path, text, match):
    (tmp_path / "runs.json").write_text(text)
    with pytest.raises(ValueError, match=match):
        read_runs(tmp_path / "runs.json")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"epochs": 3}, "run 1 of .* has epochs, which is none of name"),
        ({"steps": "many"}, "steps must be a whole number from 0, got 'many'"),
        ({"seeds": -1}, "seeds must be a whole number"),
        ({"density": 90}, r"density must be a number in \[0, 1\], got 90"),
        ({"peak_density": "all"}, "peak_density must be a number"),
        ({"selected_on": "luck"}, "selected_on must be one of nothing, train"),
        ({"data": 3}, "data must be a string, got 3"),
    ],
)
def test_a_field_that_cannot_be(tmp_path, change, match):
    (tmp_path / "runs.json").write_text(json.dumps(dataclasses.asdict(CARD) | change))
    with pytest.raises(ValueError, match=match):
        read_runs(tmp_path / "runs.json")
