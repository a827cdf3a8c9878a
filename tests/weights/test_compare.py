import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rarefy.budget import Uniform
from rarefy.operators import NM
from rarefy.weights import (
    Comparison,
    Masks,
    Method,
    Point,
    block_weights,
    compare,
    is_nm,
    prune_lm,
    select,
)

SPARSE = [0.5, 0.9]


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 4))


@pytest.fixture
def loader():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 16, generator=generator)
    y = (x @ torch.randn(16, 4, generator=generator)).argmax(1)
    return DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)


@pytest.fixture
def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=24)).eval()


def entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def accuracy(loader):
    x, y = loader.dataset.tensors
    return lambda model: float((model(x).argmax(1) == y).float().mean())


def check(net, loader, methods, sparsities=SPARSE, **options):
    options = {"evaluate": accuracy(loader), "data": loader, "loss": entropy} | options
    return compare(net, methods, sparsities, **{"finetune_steps": 24} | options)


def test_every_method_reaches_its_sparsity_exactly_and_leaves_the_model(net, loader):
    before = copy.deepcopy(net.state_dict())
    seen = []

    def evaluate(model):
        seen.append(sum(int((w == 0).sum()) for w in select(model).values()))
        return 0.0

    methods = ["magnitude", "global", "random", "magnitude+finetune", "random+finetune"]
    methods += ["set", "rigl", "gradual"]
    options = {"allocation": Uniform(), "finetune_steps": 8}
    found = check(net, loader, methods, evaluate=evaluate, **options)
    numel = sum(w.numel() for w in select(net).values())
    dense, tuned, *rest = zip(found.points, seen, strict=True)
    assert [dense[0].method, tuned[0].method] == ["dense", "dense+finetune"]
    assert dense[1] == tuned[1] == 0
    assert len(rest) == 2 * len(methods)
    for point, zeros in rest:
        assert point.sparsity == pytest.approx(float(point.target), abs=1 / numel)
        # A weight that SET or RigL grew begins at zero; nobody prunes less than was asked for.
        assert zeros >= round(point.sparsity * numel)
        assert zeros == round(point.sparsity * numel) or point.method.endswith(("set", "rigl"))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_training_helps_and_its_cost_is_in_the_table(net, loader):
    methods = ["magnitude", "magnitude+finetune", "gradual"]
    found = check(net, loader, methods, [0.5, 0.8], lr=0.02)
    for s in (0.5, 0.8):
        one_shot, tuned = found["magnitude", s], found["magnitude+finetune", s]
        assert tuned.value > one_shot.value + 0.05
        assert one_shot.train_seconds == 0 < tuned.train_seconds
        assert one_shot.training_density is None
        assert tuned.training_density == pytest.approx(1 - s, abs=0.01)
        # Gradual pruning pays for the dense beginning.
        assert 1 - s < found["dense+gradual", s].training_density < 1
    assert found["dense+finetune"].training_density == 1


def test_density_of_a_gradual_training_is_the_mean_over_its_steps(net, loader):
    from rarefy.budget import Cubic

    found = check(net, loader, ["gradual"], [0.9], finetune_steps=20)
    schedule = Cubic(0.1, end=0.75)
    # One update a step: step i trains at the density that update i - 1 left.
    by_hand = sum(schedule(step / 20) for step in range(20)) / 20
    assert found["dense+gradual", 0.9].training_density == pytest.approx(by_hand, abs=2e-3)


def test_a_stopped_comparison_goes_on_to_the_same_numbers(net, loader):
    methods = ["random", "rigl", "magnitude+finetune"]

    def numbers(found):
        return [(p.method, p.target, p.value, p.sparsity) for p in found.points]

    whole = check(net, loader, methods)
    kept = []

    def stop(point):
        kept.append(point)
        if len(kept) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(net, loader, methods, on_point=stop)
    fresh = []
    rest = check(net, loader, methods, known=kept, on_point=fresh.append)
    assert len(fresh) == len(whole.points) - 4
    assert numbers(rest) == numbers(whole)


def test_global_random_state_is_left_alone(net, loader):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    check(net, loader, ["rigl"], [0.5])
    assert torch.equal(before, torch.get_rng_state())


def test_a_method_of_ones_own_and_a_pattern(net, loader):
    def first_half(model, target):
        assert target == NM(2, 4)
        masks = {n: torch.zeros_like(w, dtype=torch.bool) for n, w in select(model).items()}
        for mask in masks.values():
            mask[:, ::2] = True
        return Masks(masks)

    held = []

    def evaluate(model):
        held.append(all(is_nm(w, NM(2, 4)) for w in select(model).values()))
        return 1.0

    methods = [Method(first_half, training="finetune"), "magnitude", "magnitude+finetune"]
    found = check(net, loader, methods, [NM(2, 4)], evaluate=evaluate)
    assert held == [False, False, True, True, True]
    assert found["first_half+finetune", NM(2, 4)].sparsity == 0.5


def test_language_methods_are_those_of_prune_lm(llama):
    windows = torch.randint(64, (4, 16), generator=torch.Generator().manual_seed(0))

    def fingerprint(model):
        return float(sum(w.detach().double().square().sum() for w in block_weights(model).values()))

    found = compare(
        llama,
        ["wanda", "sparsegpt", "wanda+dsnot"],
        [0.5],
        evaluate=fingerprint,
        weights=block_weights,
        calibration=windows,
        inputs={"input_ids": windows[:1]},
    )
    for name, refine in (("wanda", None), ("sparsegpt", None), ("wanda", "dsnot")):
        twin = copy.deepcopy(llama)
        prune_lm(twin, windows, method=name, sparsity=0.5, refine=refine)
        point = found[name if refine is None else f"{name}+{refine}", 0.5]
        assert point.value == pytest.approx(fingerprint(twin), rel=1e-12)
        # The head is not pruned, and counts.
        assert 0.5 < point.macs < 1
    assert found["dense"].macs == 1


@pytest.mark.parametrize(
    ("methods", "sparsities", "options", "sentence"),
    [
        ([], SPARSE, {}, "at least one method"),
        (["magnitude"], [1.0], {}, "between 0 and 1, got 1.0"),
        (["magnitude"], [float("nan")], {}, "between 0 and 1, got nan"),
        (["guess"], SPARSE, {}, "'guess' is no method"),
        (["magnitude+gradual"], SPARSE, {}, "gradual begins dense"),
        (["global+dsnot"], SPARSE, {}, "dsnot repairs masks of"),
        (["random"], [NM(2, 4)], {}, "random cannot hold the pattern 2:4"),
        (["magnitude"], [NM(2, 5)], {}, "16 inputs are no multiple of 5"),
        (["random"], [0.999], {}, "0.001"),
        (["wanda"], SPARSE, {}, "calibration is wanted"),
        (["wanda"], SPARSE, {"calibration": torch.zeros(1, 4).long()}, "no list of transformer"),
        (["rigl"], SPARSE, {"data": None}, "data and loss are wanted"),
        (["rigl"], SPARSE, {"data": iter([1])}, "ends after one pass"),
        (["rigl"], SPARSE, {"data": []}, "data is empty"),
        (["rigl"], SPARSE, {"finetune_steps": 0}, "at least 1, got 0"),
        (["rigl"], SPARSE, {"lr": 1e30}, "dense\\+finetune: the loss is (nan|inf) after"),
        ([Method(max), Method(max, training="finetune"), Method(max)], [2.0], {}, "got 2.0"),
    ],
)
def test_bad_requests_are_one_sentence(net, loader, methods, sparsities, options, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        check(net, loader, methods, sparsities, **options)


def test_layers_that_cannot_train_are_named(net, loader):
    net[0].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="0.weight cannot train"):
        check(net, loader, ["rigl"])


def test_the_picture_holds_every_method_and_no_infinity():
    points = [
        Point("dense", "0", 0.0, 2.0, 0.0, 0.0, None, 1.0),
        Point("wanda", "0.5", 0.5, 3.0, 0.0, 0.0, None, 0.5),
        Point("wanda", "2:4", 0.5, 4.0, 0.0, 0.0, None, 0.5),
        Point("wanda", "0.9", 0.9, float("inf"), 0.0, 0.0, None, 0.1),
    ]
    found = Comparison(tuple(points))
    assert found.targets == ["0.5", "2:4", "0.9"]
    assert found.to_json()[-1]["value"] is None
    assert "| wanda | 2:4 | 4 | 0 | 0 | 50.0% |" in found.to_markdown().splitlines()
    assert found.svg(metric="perplexity", log=True).startswith("<svg")
    with pytest.raises(KeyError, match="wanda at 0.7"):
        found["wanda", 0.7]
