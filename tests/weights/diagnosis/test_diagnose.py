"""Findings: each check fires on its fault, names numbers that are right, and rests otherwise."""

import json
import math

import pytest
import torch
from torch import nn

from rarefy.operators import NM
from rarefy.weights import (
    LESSONS,
    Claimed,
    Masks,
    RunCard,
    SparsityTrace,
    audit,
    comparable,
    diagnose,
    diagnose_tensors,
    layer_times,
    magnitude,
    mask_ablation,
    mask_from_scores,
    mask_variant,
    matched_width,
    random_masks,
    select,
    speedup,
)
from rarefy.weights.random_masks import random_mask


def codes(findings):
    return {(finding.code, finding.layer) for finding in findings}


@pytest.fixture
def sparse(mlp, generator):
    masks = random_masks(mlp, density=0.4, generator=generator, avoid_dead=True)
    masks.apply_(mlp)
    return mlp, masks


def test_a_clean_model_has_no_error_and_its_numbers_are_right(sparse):
    model, masks = sparse
    found = diagnose(model, masks, inputs=torch.ones(2, 12))
    assert found.ok
    assert found.density["prunable"] == masks.density()
    parameters = sum(p.numel() for p in model.parameters())
    assert found.density["all"] == pytest.approx(1 - (masks.numel - masks.nnz) / parameters)
    # One use a weight and row: operations are weights.
    assert found.macs_share == pytest.approx(masks.density())
    assert [row.name for row in found.layers] == list(masks)
    assert diagnose(model, inputs=torch.ones(2, 12)).density == found.density  # read off the zeros


def test_a_diagnosis_is_json_and_markdown_with_its_lessons(sparse):
    model, masks = sparse
    masks["3.weight"].fill_(False)
    masks.apply_(model)
    found = diagnose(model, masks, inputs=torch.ones(2, 12))
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["ok"] is False
    assert {lesson["number"] for lesson in plain["lessons"]} >= {2, 8}
    assert "`LAYER_COLLAPSE` `3.weight`" in found.to_markdown()
    assert LESSONS[7].question in found.to_markdown()


def test_lessons_are_ten_short_answers():
    assert [lesson.number for lesson in LESSONS] == list(range(1, 11))
    assert all(len(lesson.answer.split()) <= 60 for lesson in LESSONS)


class Residual(nn.Module):
    """A block beside a shortcut, and a head that this call does not use."""

    def __init__(self):
        super().__init__()
        self.first, self.inner = nn.Linear(6, 6), nn.Linear(6, 6)
        self.last, self.spare = nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x):
        x = self.first(x)
        return self.last(x + self.inner(torch.relu(x)))


def test_a_collapsed_branch_is_named_and_an_unused_head_is_not_blamed():
    model = Residual()
    masks = Masks.ones(select(model))
    masks["inner.weight"].fill_(False)
    masks["inner.weight"][0, 0] = True
    masks["first.weight"][0] = False  # the only unit the branch still reads
    masks.apply_(model)
    found = diagnose(model, masks, inputs=torch.ones(1, 6))
    errors = [f for f in found.findings if f.severity == "error"]
    assert codes(errors) == {("LAYER_COLLAPSE", "inner.weight")}
    assert ("UNUSED", "spare.weight") in codes(found.findings)


def test_operations_that_differ_from_weights_are_said(generator):
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 10)
    )
    masks = random_masks(model, density=0.1, generator=generator)
    masks.apply_(model)
    found = diagnose(model, masks, inputs=torch.ones(1, 1, 8, 8))
    (finding,) = [f for f in found.findings if f.code == "FLOPS_NE_PARAMS"]
    by_hand = int(masks["0.weight"].sum()) * 64 + int(masks["3.weight"].sum())
    assert finding.evidence["macs_share"] == pytest.approx(by_hand / (72 * 64 + 5120))


def test_momentum_of_pruned_weights_and_stray_zeros(sparse):
    model, masks = sparse
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    model(torch.randn(8, 12)).square().sum().backward()
    optimizer.step()
    assert ("SLOT_LEAK", "0.weight") in codes(audit(model, masks, optimizer=optimizer))
    masks.apply_(model, optimizer=optimizer)
    assert "SLOT_LEAK" not in {f.code for f in audit(model, masks, optimizer=optimizer)}
    with torch.no_grad():
        model[0].weight[:8] = 0
    (stray,) = [f for f in audit(model, masks) if f.code == "STRAY_ZEROS"]
    assert stray.evidence == {"0.weight": int(masks["0.weight"][:8].sum())}


def test_dropout_and_running_statistics_are_no_leak_and_stay(generator):
    model = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3))
    masks = random_masks(model, density=0.4, generator=generator, avoid_dead=True)
    masks.apply_(model)
    with torch.no_grad():
        model[0].weight[~masks["0.weight"]] = 0.01
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    found = audit(model, masks, inputs=torch.randn(8, 12, generator=generator))
    assert ("MASK_LEAK", "0.weight") in codes(found)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_nan_weights_are_an_error(sparse):
    model, masks = sparse
    with torch.no_grad():
        model[0].weight[0, masks["0.weight"][0].nonzero()[0]] = math.nan
    assert ("NOT_FINITE", "0.weight") in codes(audit(model, masks))


def test_a_trace_is_classified_with_the_model(sparse):
    model, masks = sparse
    trace = SparsityTrace()
    trace.record(0, masks)
    trace.record(10, masks)
    assert diagnose(model, masks, trace=trace).taxonomy.path == "sparse to sparse"


def test_tensors_alone_are_looked_at(generator):
    empty, thin = torch.zeros(8, 8), random_mask((8, 8), 16, generator=generator).float()
    tensors = {
        "a.weight": empty,
        "b.weight": thin,
        "model.embed_tokens.weight": torch.zeros(50, 8),
        "norm.weight": torch.ones(8),
    }
    found = diagnose_tensors(tensors)
    assert codes(f for f in found.findings if f.severity == "error") == {
        ("LAYER_COLLAPSE", "a.weight")
    }
    assert found.density["prunable"] == 16 / 128
    claimed = Claimed(density=0.125, pattern=NM(2, 4))
    named = diagnose_tensors(tensors, names=["b.weight"], claimed=claimed)
    assert {"DENOMINATOR", "PATTERN"} <= {f.code for f in named.findings}
    with pytest.raises(ValueError, match="no weight matrix"):
        diagnose_tensors({"norm.weight": torch.ones(3)})


CARD = {"data": "d", "split": "s", "metric": "accuracy", "steps": 100, "batch": 64, "seeds": 3}


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        ({"data": "e"}, "UNEQUAL_DATA", "error"),
        ({"split": "t"}, "UNEQUAL_DATA", "error"),
        ({"metric": "loss"}, "UNEQUAL_METRIC", "error"),
        ({"steps": 101}, "UNEQUAL_STEPS", "error"),
        ({"batch": 32}, "UNEQUAL_STEPS", "error"),
        ({"denominator": "all"}, "DENOMINATOR", "error"),
        ({"pretrained_steps": 5}, "PRETRAINED", "error"),
        ({"seeds": 1}, "ONE_SEED", "error"),
        ({"selected_on": "test"}, "TEST_SELECTION", "error"),
        ({"seeds": 2}, "FEW_SEEDS", "warn"),
        ({"tuned": 9}, "UNEQUAL_TUNING", "warn"),
        ({"augmentation": "flips"}, "UNEQUAL_DATA", "warn"),
        ({"peak_density": 1.0}, "PEAK_DENSITY", "warn"),
    ],
)
def test_each_difference_between_runs_is_the_only_finding(change, code, severity):
    first = RunCard(name="a", density=0.1, **CARD)
    other = RunCard(name="b", density=0.1, **(CARD | change))
    assert not comparable([first, RunCard(name="b", density=0.1, **CARD)])
    assert [(f.code, f.severity) for f in comparable([first, other])] == [(code, severity)]


def test_runs_need_names_of_their_own():
    with pytest.raises(ValueError, match="name of its own"):
        comparable([RunCard(name="a", **CARD), RunCard(name="a", **CARD)])


def test_matched_width_by_trying_all():
    def build(width):
        return nn.Sequential(nn.Linear(5, width), nn.Linear(width, width), nn.Linear(width, 3))

    for weights in (9, 10, 57, 100, 1000):
        fitting = [w for w in range(1, 40) if 8 * w + w * w <= weights]
        assert matched_width(build, weights, low=1, high=39) == max(fitting)
    with pytest.raises(ValueError, match="no dense network is as small"):
        matched_width(build, 8, low=1, high=39)


def test_variants_keep_what_they_promise(mlp, generator):
    masks = mask_from_scores(magnitude(mlp), density=0.2)
    counts = {row.name: row.nnz for row in masks.summary()}
    shuffled = mask_variant("shuffled", masks, seed=0)
    assert {row.name: row.nnz for row in shuffled.summary()} == counts
    assert sum(masks.difference(shuffled).values()) > 0
    drawn = mask_variant("random", masks, seed=0)
    assert drawn.nnz == masks.nnz
    assert {row.name: row.nnz for row in drawn.summary()} != counts
    with pytest.raises(ValueError, match="variant must be one of"):
        mask_variant("upside down", masks, seed=0)


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        ({"shuffled": 0.1, "random": 0.2}, "mask matters"),
        ({"shuffled": 0.0, "random": 0.2}, "allocation suffices"),
        ({"shuffled": 0.0, "random": 0.0}, "nothing matters"),
    ],
)
def test_the_ablation_reads_its_table(mlp, loss, verdict, generator):
    masks = mask_from_scores(magnitude(mlp), density=0.2)
    counts = {row.name: row.nnz for row in masks.summary()}

    def train(given, seed, fresh):
        # The metric depends on what the masks have in common with the original, and on chance.
        same = sum(given.difference(masks).values()) == 0
        alike = {row.name: row.nnz for row in given.summary()} == counts
        lost = 0.0 if same else loss["shuffled"] if alike else loss["random"]
        return 0.9 - lost + 0.001 * seed * (1 if same else 1.01)

    found = mask_ablation(train, masks, seeds=(0, 1, 2))
    assert found.verdict == verdict
    assert found.losses["shuffled"].mean == pytest.approx(loss["shuffled"], abs=1e-3)


def test_the_ablation_of_noise_is_undecided_and_of_nothing_refused(mlp, generator):
    masks = mask_from_scores(magnitude(mlp), density=0.2)
    noise = iter(torch.rand(100, generator=generator).tolist())
    assert mask_ablation(lambda *_: next(noise), masks).verdict == "undecided"
    with pytest.raises(ValueError, match="at least 3 seeds, got 2"):
        mask_ablation(lambda *_: 1.0, masks, seeds=(0, 1))
    with pytest.raises(ValueError, match="hardly above chance"):
        mask_ablation(lambda *_: 1.0, masks, dense=0.12, chance=0.1)


def test_times_are_of_every_backend_and_the_best_counts(generator):
    weights = {"w": torch.randn(96, 64, generator=generator)}
    (row,) = layer_times(weights, Masks({"w": weights["w"] > 1}), columns=8, repeats=2)
    assert min(row.dense, row.csr, row.packed, row.sliced) == row.best > 0
    assert speedup([row]) == row.dense / row.best


def test_bad_arguments_are_one_sentence(mlp):
    with pytest.raises(ValueError, match="masks is empty"):
        diagnose(mlp, Masks({}))
    with pytest.raises(ValueError, match="no parameter of that shape for nowhere"):
        diagnose(mlp, Masks({"nowhere": torch.ones(2, 2) > 0}))
    with pytest.raises(ValueError, match=r"density must be in \[0, 1\], got 1.5"):
        Claimed(density=1.5)
    with pytest.raises(ValueError, match="speedup must be above 0, got nan"):
        Claimed(speedup=math.nan)
    with pytest.raises(ValueError, match="none: it has no linear"):
        diagnose(nn.LayerNorm(3))
