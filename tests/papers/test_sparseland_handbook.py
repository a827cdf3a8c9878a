"""Paper 20: every fault is found and no control blamed; claims speak of what is measured."""

import sys
import types

import pytest
import torch
from torch import nn

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import _sparseland_arms as arms
from rarefy.papers import _sparseland_large as network
from rarefy.papers import sparseland_handbook as recipe
from rarefy.papers._recipe import Trial
from rarefy.papers._sparseland_faults import cases, right
from rarefy.papers._sparseland_training import ResNet8, digits, mlp
from rarefy.weights import Diagnosis, Masks, select

CASES = cases()


def test_there_are_twelve_of_each():
    assert sum(bool(case.code) for case in CASES) == len(CASES) // 2 == 12


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_faults_are_found_and_controls_left_in_peace(case):
    found = case.examine(0)
    assert right(case, found), found.findings
    # Neither is so because nothing was looked at, or because everything is blamed.
    assert right(case, Diagnosis(findings=())) == (not case.code)
    blamed = {f.layer for f in found.findings if f.severity == "error"}
    assert blamed <= {case.layer, ""}


@pytest.fixture(scope="module")
def smoke():
    trial = Trial(seed=0, scale="smoke")
    shared = recipe.setup(trial)
    dense = {name: p.detach().clone() for name, p in shared.dense.named_parameters()}
    measured = {
        arm: recipe.measure(arm, shared, trial) for arm in recipe.PAPER.arms if arm != "doctor"
    }
    for name, parameter in shared.dense.named_parameters():
        assert torch.equal(parameter, dense[name])
    return measured


def test_every_claim_speaks_of_a_measured_metric(smoke):
    measured = smoke | {"doctor": {"faults_missed": 0.0, "controls_blamed": 0.0}}
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in measured[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_equal_weights_are_equal(smoke):
    for n in recipe.WEIGHTS:
        for kind in recipe.KINDS[:-1]:
            assert smoke[f"MLP, {n} weights, {kind}"]["weights"] == n
        assert 0.9 * n < smoke[f"MLP, {n} weights, small and dense"]["weights"] <= n


def test_equal_operations_are_equal(smoke):
    sparse, small, equal = (smoke[arm] for arm in recipe.PAPER.arms if arm.startswith("ResNet-8"))
    assert small["weights"] <= sparse["weights"] < equal["weights"]
    assert small["macs"] < 0.8 * sparse["macs"] < equal["macs"] <= sparse["macs"]


def test_the_large_network_may_be_the_users_own(tmp_path, smoke):
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = ViTConfig(num_hidden_layers=1, image_size=16, patch_size=8, num_labels=4, **sizes)
    model = ViTForImageClassification(config)
    for weight in select(model).values():
        weight.data[::2] = 0
    model.save_pretrained(tmp_path)
    trial = Trial(seed=0, scale="smoke")
    found = network.large(network.opened(str(tmp_path), trial), trial)
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["density"] == pytest.approx(0.5)  # its own zeros are its masks
    assert smoke["ResNet-50"]["density"] == pytest.approx(0.1, abs=1e-3)  # a dense one is pruned


def test_a_network_of_torchvision_wants_torchvision(monkeypatch):
    trial = Trial(seed=0, scale="smoke")
    monkeypatch.setattr(network, "find_spec", lambda _name: None)
    with pytest.raises(ValueError, match="got 'resnet18'.*install torchvision"):
        recipe.setup(trial, model="resnet18")
    models = types.ModuleType("torchvision.models")
    models.list_models = lambda: ["tiny"]
    models.get_model = lambda name, weights: nn.Sequential(
        nn.Conv2d(3, 4, 8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    monkeypatch.setattr(network, "find_spec", lambda _name: True)
    assert (
        network.large(network.opened("tiny", trial), trial)["parameters"]
        == 3 * 4 * 64 + 4 + 4 * 2 + 2
    )


def test_runs_are_told_as_they_were_built(smoke):
    told = [values["wrong_classes"] for values in smoke.values() if "wrong_classes" in values]
    assert len(told) == 11
    assert not any(told)


def test_an_arm_measured_alone_gives_the_same_numbers(smoke):
    trial = Trial(seed=0, scale="smoke")
    shared = recipe.setup(trial)
    for arm in ("MLP, 1200 weights, SET", "SNIP, random", "rows", "gradual"):
        assert recipe.measure(arm, shared, trial) == smoke[arm]


def test_figure_draws_all_three_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    drawn = recipe.figure(measurements)
    assert len(drawn.axes) == 3
    assert all(axes.lines for axes in drawn.axes)


def test_the_oracle_of_reachability_by_hand():
    # 2 -> 2 -> 1; unit 1 of the middle is read but has no input, unit 0 the other way round.
    masks = Masks({"0": torch.tensor([[1, 1], [0, 0]]) > 0, "1": torch.tensor([[0, 1]]) > 0})
    assert arms._reachable(masks).nnz == 0
    masks["1"][0, 0] = True
    assert {name: mask.tolist() for name, mask in arms._reachable(masks).items()} == {
        "0": [[True, True], [False, False]],
        "1": [[True, False]],
    }


def test_rows_are_whole_and_the_strongest():
    score = torch.rand(64, 20, generator=torch.Generator().manual_seed(0))
    mask = arms._rows(score)
    kept = mask.all(1)
    assert torch.equal(kept, mask.any(1)) and int(kept.sum()) == 8
    norms = score.norm(dim=1)
    assert norms[kept].min() >= norms[~kept].max()


def test_data_and_networks():
    data = digits(0)
    assert (len(data.train), len(data.test)) == (1257, 540)
    assert set(data.test_labels.tolist()) == set(range(10))
    assert float(data.train.mean().abs()) < 0.05
    # Weights as on the card: 64 w + w^2 + 10 w.
    assert sum(w.numel() for w in select(mlp(13)).values()) == 64 * 13 + 13**2 + 130
    model = ResNet8(4)
    assert model(data.test[:3]).shape == (3, 10)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == 8 + 2
