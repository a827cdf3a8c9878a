"""Bad input to the public functions: one clear sentence each, whatever road a user takes."""

import math

import pytest
import torch
from torch import nn

from rarefy import weights as w
from rarefy.budget import Cubic, ErdosRenyiKernelPlus, UniformPlus
from rarefy.operators import NM

SHARES = (-0.1, 1.5, math.nan)
TWO_OF_FOUR = NM(2, 4)


def generator():
    return torch.Generator().manual_seed(0)


def net(first=8, *, nan=False):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(first, 16), nn.ReLU(), nn.Linear(16, 4))
    if nan:
        model[0].weight.data[0, 0] = math.nan
    return model


def broken():
    return net(nan=True)


def conv(*, nan=False):
    layer = nn.Conv2d(4, 8, 1)
    layer.weight.data.fill_(math.nan if nan else 1.0)
    return nn.Sequential(layer, nn.ReLU())


def loss(model, x):
    return model(x).square().mean()


def score(model):
    return float(loss(model, X).detach())


def cut(model, sparsity, _):
    return w.mask_from_scores(w.magnitude(model), sparsity=sparsity)


X = torch.randn(12, 8, generator=generator())
Y = torch.arange(12) % 4
BAD_X = X.clone().fill_(math.nan)
ODD_X = torch.randn(4, 3, generator=generator())
IMAGE = torch.zeros(1, 4, 4, 4)


def train(model, rule, x=X, masks=None):
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    masks = w.random_masks(net(), density=0.5, generator=generator()) if masks is None else masks
    with w.DynamicMasks(model, masks, sgd, rule=rule, steps=3, every=1, generator=generator()):
        loss(model, x).backward()
        sgd.step()


def train_nm(model, x=X, pattern=TWO_OF_FOUR, **how):
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with w.NMTraining(model, pattern, sgd, rule=w.MdGf(), steps=3, **how):
        for _ in range(2):
            loss(model, x).backward()
            sgd.step()


def full():
    return w.Masks.ones(w.select(net()))


def stats(gram=False):
    gathered = w.LayerStats(8, gram=gram)
    gathered.update(X)
    return gathered


def searched(model, x=X, y=Y, **how):
    space = w.NodeSpace((16,), node_sparsity=0.5)
    return w.RandomSearch(space, n_samples=3, generator=generator(), **how).fit(model, x, y)


HALF = torch.arange(32).view(4, 8) % 2 == 0
CELLS = w.CellSpace(nodes=1, cells=1, channels=2)

OUT_OF_RANGE = {
    "random_masks": lambda d: w.random_masks(net(), density=d, generator=generator()),
    "random_masks, sparsity": lambda d: w.random_masks(net(), sparsity=d, generator=generator()),
    "mask_from_scores": lambda d: w.mask_from_scores(w.magnitude(net()), density=d),
    "global_magnitude_mask": lambda d: w.global_magnitude_mask(w.select(net()), density=d),
    "block_mask": lambda d: w.block_mask(w.magnitude(net()), block=2, density=d),
    "synflow_masks": lambda d: w.synflow_masks(net(), X[:1], density=d),
    "iterative_magnitude": lambda d: w.iterative_magnitude(net(), print, density=d),
    "LearnedMasks": lambda d: w.LearnedMasks(net(), density=d),
    "prune_by_scores": lambda d: w.prune_by_scores(net(), [X], loss, density=d),
    "GradualMagnitude": lambda d: train(net(), w.GradualMagnitude(lambda _: d), masks=full()),
    "NMTraining": lambda d: train_nm(net(), dense=d),
    "sparsegpt": lambda d: w.sparsegpt(X, torch.eye(8), sparsity=d),
    "prune_lm": lambda d: w.prune_lm(net(), X, sparsity=d),
    "iso_flop": lambda d: w.iso_flop(
        net(), X[:1], family="wide", sparsity=d, generator=generator()
    ),
    "SparseParallel": lambda d: w.SparseParallel(nn.Linear(8, 8), sparsity=d),
    "SparseFactorized": lambda d: w.SparseFactorized(nn.Linear(8, 8), sparsity=d),
    "SparseDoped": lambda d: w.SparseDoped(nn.Linear(8, 8), sparsity=d),
    "allocation_space": lambda d: w.allocation_space(net(), density=d),
    "channel_space": lambda d: w.channel_space(conv(), channel_sparsity=d),
    "NodeSpace": lambda d: w.NodeSpace((8,), node_sparsity=d),
    "dass": lambda d: w.dass(
        CELLS, torch.zeros(8, 1, 4, 4), Y[:8], density=d, generator=generator()
    ),
    "DSL": lambda d: w.DSL(drop=d),
    "SET": lambda d: w.SET(drop=d),
    "RigL": lambda d: w.RigL(drop=d),
    "SparseRecommender": lambda d: w.SparseRecommender("mf", density=d),
    "sparsify_for_inference": lambda d: w.sparsify_for_inference(conv(), IMAGE, min_sparsity=d),
    "compare": lambda d: w.compare(net(), ["magnitude"], [d], evaluate=score),
    "sparsity_curve": lambda d: w.sparsity_curve(
        net(), score, cut, greater_is_better=False, grid=[0, 0.1, d]
    ),
    "convert": lambda d: w.convert(density=d),
    "Claimed": lambda d: w.Claimed(density=d),
}


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_a_share_out_of_range(name, share):
    with pytest.raises(ValueError, match="densit|sparsit|share|drop|dense") as caught:
        OUT_OF_RANGE[name](share)
    assert str(share) in str(caught.value)
    assert_one_sentence(caught.value)


NOTHING_LEFT = ("random_masks", "synflow_masks", "iterative_magnitude", "LearnedMasks", "dass")


@pytest.mark.parametrize("name", NOTHING_LEFT)
def test_a_density_of_zero_where_something_must_be_left(name):
    with pytest.raises(ValueError, match="density") as caught:
        OUT_OF_RANGE[name](0.0)
    assert_one_sentence(caught.value)


CASES = {
    # Budgets that cannot be reached.
    "a weight for each layer": (
        lambda: w.random_masks(net(), density=0.001, generator=generator()),
        "density 0.001 is a budget of 0, but the groups need at least 2",
    ),
    "learned masks": (
        lambda: w.LearnedMasks(net(), density=0.001),
        "density 0.001 is a budget of 0, but the groups need at least 2",
    ),
    "a dense classifier": (
        lambda: w.random_masks(
            net(), density=0.05, rule=ErdosRenyiKernelPlus(), generator=generator()
        ),
        "is a budget of 10, but the groups need at least 65",
    ),
    "a dense first convolution": (
        lambda: w.random_masks(conv(), density=0.05, rule=UniformPlus(), generator=generator()),
        "is a budget of 2, but the groups need at least 32",
    ),
    "a smaller dense network": (
        lambda: w.matched_width(lambda width: nn.Linear(width, width), 0, low=1, high=4),
        "no dense network is as small",
    ),
    "doped layers": (
        lambda: w.SparseDoped(nn.Linear(8, 8), sparsity=0.1),
        "leaves no rank for a layer of 8 inputs",
    ),
    # Layers too narrow for N:M.
    "N:M training": (
        lambda: train_nm(net(3), ODD_X),
        r"m does not divide the inputs of 0.weight \(3 inputs, 2:4\)",
    ),
    "N:M masks": (
        lambda: w.mask_from_scores(w.magnitude(net(3)), pattern=TWO_OF_FOUR),
        "pattern 2:4 does not fit 0.weight: its 3 inputs are no multiple of 4",
    ),
    "N:M in a comparison": (
        lambda: w.compare(net(3), ["magnitude"], [TWO_OF_FOUR], evaluate=lambda _: 0.0),
        "pattern 2:4 does not fit 0.weight",
    ),
    "N:M with SparseGPT": (
        lambda: w.sparsegpt(X[:, :6], torch.eye(6), pattern=TWO_OF_FOUR),
        "pattern 2:4 does not fit the layer: its 6 inputs",
    ),
    "is_nm": (lambda: w.is_nm(torch.ones(2, 3), TWO_OF_FOUR), "2:4 does not fit the weight"),
    "nm_compress": (
        lambda: w.nm_compress(torch.ones(2, 3), TWO_OF_FOUR),
        "2:4 does not fit the weight",
    ),
    "nm_violation": (
        lambda: w.nm_violation(torch.ones(2, 3), TWO_OF_FOUR),
        "2:4 does not fit the weight",
    ),
    # Models without what is asked for.
    "no convolution to convert": (
        lambda: w.sparsify_for_inference(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), IMAGE),
        "Sequential has no convolution to make sparse",
    ),
    "no convolution to search": (
        lambda: w.channel_space(net(), channel_sparsity=0.5),
        "the model has no two-dimensional convolution without groups",
    ),
    "no perceptron to search": (
        lambda: w.NodeSpace((8,), node_sparsity=0.5).outputs(conv(), [()], IMAGE),
        "perceptron|Linear",
    ),
    "no weights": (
        lambda: w.random_masks(nn.ReLU(), density=0.5, generator=generator()),
        "no parameter of ReLU is selected",
    ),
    "no weights to learn masks of": (
        lambda: w.LearnedMasks(nn.ReLU(), density=0.5),
        "no parameter of ReLU is selected",
    ),
    "no weights to diagnose": (
        lambda: w.diagnose_tensors({}),
        "no weight matrix among the tensors",
    ),
    "no transformer": (
        lambda: w.prune_lm(net(), X, sparsity=0.5),
        "Sequential has no list of transformer blocks",
    ),
    # NaN weights, gradients and data.
    "masks of NaN": (
        lambda: w.mask_from_scores(w.magnitude(broken()), density=0.5),
        "the scores of 0.weight hold NaN",
    ),
    "global masks of NaN": (
        lambda: w.global_magnitude_mask(w.select(broken()), density=0.5),
        "the weights of 0.weight hold NaN",
    ),
    "block masks of NaN": (
        lambda: w.block_mask(w.magnitude(broken()), block=2, density=0.5),
        "the scores of 0.weight hold NaN",
    ),
    "learned masks of NaN": (
        lambda: w.LearnedMasks(broken(), density=0.5),
        "the weights of 0.weight hold NaN",
    ),
    "SynFlow of NaN": (
        lambda: w.synflow_masks(broken(), X[:1], density=0.5),
        "the scores of 0.weight hold NaN",
    ),
    "SNIP of NaN data": (
        lambda: w.mask_from_scores(w.snip(net(), [BAD_X], loss), density=0.5),
        "the scores of 0.weight hold NaN",
    ),
    "GraSP of NaN data": (
        lambda: w.mask_from_scores(w.grasp(net(), [BAD_X], loss), density=0.5),
        "the scores of 0.weight hold NaN",
    ),
    "ratios of NaN data": (
        lambda: w.random_masks(
            net(),
            density=0.5,
            rule=w.score_ratios(w.snip, net(), [BAD_X], loss, generator=generator()),
            generator=generator(),
        ),
        "scores of '0.weight' hold NaN",
    ),
    "SparseGPT of NaN": (
        lambda: w.sparsegpt(BAD_X, torch.eye(8), sparsity=0.5),
        "the weights of the layer hold NaN",
    ),
    "DSnoT of NaN": (lambda: w.dsnot(BAD_X[:4], HALF, stats()), "weight holds NaN"),
    "swaps of NaN": (lambda: w.gram_swaps(BAD_X[:4], HALF, stats(gram=True)), "weight holds NaN"),
    "SET of NaN": (lambda: train(broken(), w.SET()), "the weights of 0.weight hold NaN at step 1"),
    "DSL of NaN": (lambda: train(broken(), w.DSL()), "the weights of 0.weight hold NaN at step 1"),
    "RigL of NaN data": (
        lambda: train(net(), w.RigL(), BAD_X),
        "the weights of 0.weight hold NaN at step 1",
    ),
    "gradual of NaN": (
        lambda: train(broken(), w.GradualMagnitude(Cubic(0.3)), masks=full()),
        "the weights of 0.weight hold NaN at step 1",
    ),
    "N:M of NaN": (lambda: train_nm(broken()), "no 2:4 mask for 0.weight after 0 steps"),
    "N:M of NaN data": (
        lambda: train_nm(net(), BAD_X),
        "no 2:4 mask for 0.weight after 1 steps",
    ),
    "fine-tuning on NaN": (
        lambda: w.finetune(net(), [BAD_X], loss),
        "the loss is nan after 0 steps: weights or data hold NaN",
    ),
    "scores on NaN": (
        lambda: w.prune_by_scores(net(), [X, BAD_X], loss, density=0.5),
        "the loss is nan after 1 steps",
    ),
    "a search among NaN": (lambda: searched(broken()), "the objective gave NaN"),
    "a search for cells on NaN": (
        lambda: w.dass(CELLS, torch.full((8, 1, 4, 4), math.nan), Y[:8], generator=generator()),
        "x holds NaN or infinite pixels",
    ),
    "a comparison of NaN": (
        lambda: w.compare(broken(), ["magnitude"], [0.5], evaluate=lambda _: 0.0),
        "the scores of 0.weight hold NaN",
    ),
    "a curve of NaN": (
        lambda: w.sparsity_curve(
            net(), lambda _: math.nan, cut, greater_is_better=False, grid=[0, 0.5]
        ),
        "values must be finite",
    ),
    "a series of NaN": (
        lambda: w.change_point(range(5), [0, 1, math.nan, 2, 3]),
        "values must be finite",
    ),
    "an ablation of NaN": (
        lambda: w.mask_ablation(lambda *_: math.nan, full()),
        "train must give finite metrics, got",
    ),
    "an evaluation of NaN": (
        lambda: w.evaluate_suite(broken(), X, Y, generator=generator()),
        "the model gives NaN on x",
    ),
    "an attack of NaN": (
        lambda: w.fast_gradient_sign(net(), X, Y, epsilon=math.nan),
        "epsilon must be finite and not negative, got nan",
    ),
    "a convolution of NaN": (
        lambda: w.sparsify_for_inference(conv(nan=True), IMAGE),
        "the weights of 0 hold NaN",
    ),
    "calibration inputs of NaN": (lambda: w.LayerStats(8).update(BAD_X), "an input is not finite"),
    "a wider model by NaN": (
        lambda: w.widened(net(), X[:1], factor=math.nan, layers=["0"]),
        "factor must be positive and finite, got nan",
    ),
    # Nothing to work on.
    "SNIP without data": (lambda: w.snip(net(), [], loss), "batches is empty"),
    "GraSP without data": (lambda: w.grasp(net(), [], loss), "batches is empty"),
    "Fisher without data": (lambda: w.fisher(net(), [], loss), "batches is empty"),
    "ratios without data": (
        lambda: w.score_ratios(w.snip, net(), [], loss, generator=generator()),
        "batches is empty",
    ),
    "DSnoT without data": (
        lambda: w.dsnot(X[:4], HALF, w.LayerStats(8)),
        "no calibration token has passed",
    ),
    "a search without data": (
        lambda: searched(net(), X[:0], Y[:0]),
        "X and y must hold as many examples, one or more, got 0 and 0",
    ),
    "a search for cells without data": (
        lambda: w.dass(CELLS, torch.zeros(0, 1, 4, 4), Y[:0], generator=generator()),
        "x holds 0 images; at least 4 are wanted",
    ),
    "a search for cells of one class": (
        lambda: w.dass(
            CELLS, torch.zeros(8, 1, 4, 4), torch.zeros(8, dtype=int), generator=generator()
        ),
        "labels from 0 of at least two classes",
    ),
    "a recommender without data": (
        lambda: w.SparseRecommender("mf").fit(torch.zeros(3, 4).numpy()),
        "interactions is empty",
    ),
    "a conversion without data": (
        lambda: w.sparsify_for_inference(conv(), IMAGE[:0]),
        r"sample must be images .*, at least one, got shape \(0, 4, 4, 4\)",
    ),
    "an evaluation without data": (
        lambda: w.evaluate_suite(net(), X[:0], Y[:0], generator=generator()),
        "x and y must hold as many examples, one or more",
    ),
    "calibration without data": (
        lambda: w.calibration_error(torch.zeros(0), torch.zeros(0, dtype=bool)),
        "confidence must hold probabilities, one or more, got none",
    ),
    "a comparison of no methods": (
        lambda: w.compare(net(), [], [0.5], evaluate=score),
        "at least one method and one sparsity are wanted",
    ),
    "a curve without sparsities": (
        lambda: w.sparsity_curve(net(), score, cut, greater_is_better=False, grid=[]),
        r"sparsities must rise from 0, got \[\]",
    ),
    "masks of no scores": (lambda: w.mask_from_scores({}, density=0.5), "scores is empty"),
    "no perceptrons to stack": (lambda: w.StackedPerceptrons([]), "models is empty"),
    "the storage of no masks": (lambda: w.storage({}), "masks is empty"),
    "the speed-up of no layers": (lambda: w.speedup([]), "times is empty"),
    "Wanda of the wrong norms": (
        lambda: w.wanda(X, torch.ones(4)),
        r"norms hold one value for each of its inputs, got \(12, 8\) and \(4,\)",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name):
    call, match = CASES[name]
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert_one_sentence(caught.value)


def assert_one_sentence(error):
    text = str(error)
    assert "\n" not in text and 10 < len(text) < 260
