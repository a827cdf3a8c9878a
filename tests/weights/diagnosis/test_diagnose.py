"""Findings: each check fires on its fault, names numbers that are right, and rests otherwise."""

import json
import math
from contextlib import nullcontext

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
    attach,
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
    training_memory,
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


@pytest.mark.parametrize("attached", [False, True])
def test_a_gradient_at_pruned_weights_is_found(sparse, attached):
    model, masks = sparse
    with attach(model, masks) if attached else nullcontext():
        model(torch.randn(8, 12)).square().sum().backward()
        found = [f for f in audit(model, masks) if f.code == "GRADIENT_LEAK"]
    # Masks that are part of the model let no gradient through; masks applied after a step do.
    assert [(f.layer, f.severity) for f in found] == (
        [] if attached else [(name, "warn") for name in masks]
    )
    for finding in found:
        by_hand = model.get_parameter(finding.layer).grad[~masks[finding.layer]].norm()
        assert finding.evidence["pruned"] == pytest.approx(float(by_hand))


def test_a_gradient_of_some_rows_is_read_as_well(generator):
    table = nn.Embedding(6, 4, sparse=True)
    masks = Masks({"weight": random_mask((6, 4), 12, generator=generator)})
    masks["weight"][2] = torch.tensor([True, False, False, False])
    masks.apply_(table)
    table(torch.tensor([2])).sum().backward()
    (found,) = [f for f in audit(table, masks) if f.code == "GRADIENT_LEAK"]
    # Ones in a row of four, three of them pruned.
    assert found.evidence == pytest.approx({"norm": 2.0, "pruned": math.sqrt(3)})


def test_memory_is_that_of_dense_tensors_beside_the_kept_ones(sparse):
    model, masks = sparse
    optimizer = torch.optim.Adam(model.parameters())
    before = training_memory(model, masks, optimizer)
    assert before.slots == 0
    model(torch.randn(8, 12)).square().sum().backward()
    optimizer.step()
    memory = training_memory(model, masks, optimizer)
    floats = sum(p.numel() for p in model.parameters())
    assert memory.weights == memory.gradients == memory.slots // 2 == 4 * floats
    assert memory.masks == masks.numel
    assert memory.held == 16 * floats + masks.numel
    assert memory.ideal == pytest.approx(
        16 * (floats - masks.numel + masks.nnz) + masks.numel / 8, abs=1
    )
    (finding,) = [f for f in audit(model, masks, optimizer=optimizer) if f.code == "DENSE_MEMORY"]
    assert (finding.severity, finding.lesson) == ("info", 4)
    assert finding.evidence["ideal"] == memory.ideal
    model[1].requires_grad_(False)
    assert training_memory(model, masks).gradients == 4 * (floats - 32)
    with pytest.raises(ValueError, match="no parameter of that shape for nowhere"):
        training_memory(model, {"nowhere": torch.ones(2, 2) > 0})


def test_frozen_layers_outside_the_masks_are_said(sparse):
    model, masks = sparse
    first = Masks({"0.weight": masks["0.weight"]})
    assert "FROZEN_DENSE" not in {f.code for f in audit(model, first)}
    model[3].requires_grad_(False)
    (found,) = [f for f in audit(model, first) if f.code == "FROZEN_DENSE"]
    assert found.evidence == {"3.weight": 64}
    assert f"{(first.nnz + 64) / (first.numel + 64):.3f} are kept" in found.message
    assert "FROZEN_DENSE" not in {f.code for f in audit(model, masks)}


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
        ({"value": 0.9}, "NO_INTERVAL", "warn"),
    ],
)
def test_each_difference_between_runs_is_the_only_finding(change, code, severity):
    first = RunCard(name="a", density=0.1, **CARD)
    other = RunCard(name="b", density=0.1, **(CARD | change))
    assert not comparable([first, RunCard(name="b", density=0.1, **CARD)])
    assert [(f.code, f.severity) for f in comparable([first, other])] == [(code, severity)]


def test_values_within_their_intervals_are_level():
    def card(name, value, interval):
        return RunCard(name=name, value=value, interval=interval, **CARD)

    first = card("a", 0.90, 0.03)
    # 3 and 4 make 5: intervals add up as standard errors do.
    assert not comparable([first, card("b", 0.951, 0.04)])
    (level,) = comparable([first, card("b", 0.849, 0.04), card("c", 0.949, 0.04)])
    assert (level.code, level.severity, level.lesson) == ("WITHIN_NOISE", "warn", 10)
    assert level.evidence["noise"] == pytest.approx(0.05)
    assert "a and c differ by 0.049" in level.message
    for wrong in ({"value": math.nan}, {"interval": -0.1}, {"interval": "wide"}):
        with pytest.raises(ValueError, match="must be a finite number"):
            RunCard(name="a", **CARD | wrong)


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


def test_width_matched_by_operations_counts_pixels():
    def build(width):
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.Flatten(), nn.Linear(16 * width, 2)
        )

    # 9 w weights on 16 pixels, and 32 w once.
    for macs in (176, 351, 352, 5000):
        fitting = max(w for w in range(1, 40) if (9 * 16 + 32) * w <= macs)
        assert matched_width(build, macs, low=1, high=39, inputs=torch.ones(1, 1, 4, 4)) == fitting
    with pytest.raises(ValueError, match="176 multiply-accumulates already, more than 175"):
        matched_width(build, 175, low=1, high=39, inputs=torch.ones(1, 1, 4, 4))


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


def test_inverted_masks_keep_the_least_of_each_layer(mlp):
    scores = magnitude(mlp)
    masks = mask_from_scores(scores, density=0.3)
    inverted = mask_variant("inverted", masks, seed=0, scores=scores)
    for name, mask in inverted.items():
        kept = int(masks[name].sum())
        assert int(mask.sum()) == kept
        assert scores[name][mask].max() <= scores[name].flatten().sort().values[kept - 1]
    with pytest.raises(ValueError, match="inverted masks need the scores of 0.weight, 3.weight"):
        mask_variant("inverted", masks, seed=0)

    def kept_score(given, _seed, _fresh):
        return sum(float(scores[name][mask].sum()) for name, mask in given.items())

    found = mask_ablation(kept_score, masks, scores=lambda _seed: scores)
    assert found.losses["inverted"].mean > found.losses["shuffled"].mean > 0
    assert set(mask_ablation(kept_score, masks).values) == set(found.values) - {"inverted"}


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
