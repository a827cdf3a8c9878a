"""DASS: who learns from what in which phase, and what it reduces to."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rarefy.budget import Cubic
from rarefy.weights import CellSpace, LearnedMask, dass, select
from rarefy.weights.dass import _lengths, _Search

SPACE = CellSpace(("none", "skip_connect", "max_pool_3x3", "conv_1x1"), 1, 2, 2)
THIRDS = (1 / 3, 1 / 3, 1 / 3)


@pytest.fixture
def images():
    g = torch.Generator().manual_seed(0)
    return torch.randn(24, 1, 4, 4, generator=g), torch.arange(24) % 3


def search(images, seed=0, **how):
    settings = {"density": 0.3, "epochs": 3, "phases": THIRDS, "batch_size": 6} | how
    return dass(SPACE, *images, generator=torch.Generator().manual_seed(seed), **settings)


def test_a_seed_is_a_search(images):
    first, again = search(images), search(images)
    assert first.genotype == again.genotype and first.history[-1] == again.history[-1]
    assert all(map(torch.equal, first.alphas, again.alphas))
    assert not torch.equal(first.alphas[0], search(images, seed=1).alphas[0])


def test_both_ingredients_dense_is_density_one(images):
    darts = search(images, operations="dense", objective="dense")
    one = search(images, density=1.0)
    assert all(map(torch.equal, darts.alphas, one.alphas))


def test_each_ingredient_changes_the_search(images):
    kinds = ("sparse", "dense")
    found = [search(images, operations=a, objective=b).alphas[0] for a in kinds for b in kinds]
    for i, one in enumerate(found):
        assert not any(torch.equal(one, other) for other in found[:i])


@pytest.mark.parametrize("operations", ["sparse", "dense"])
def test_alpha_learns_from_b_alone(images, operations, monkeypatch):
    seen, halves = {True: set(), False: set()}, []
    loss = _Search._loss

    def watched(self, x, y, alphas, masked):
        halves[:] = [{float(self.data[0][i, 0, 0, 0]) for i in half} for half in self.halves]
        seen[alphas[0].requires_grad] |= set(x[:, 0, 0, 0].tolist())
        return loss(self, x, y, alphas, masked)

    monkeypatch.setattr(_Search, "_loss", watched)
    search(images, operations=operations)
    assert seen[False] == halves[0] and seen[True] == halves[1]
    assert len(halves[0] | halves[1]) == 24


def test_what_moves_in_which_phase(images, monkeypatch):
    nets = []
    supernet = CellSpace.supernet

    def kept(self, **how):
        nets.append(supernet(self, **how))
        return nets[-1]

    monkeypatch.setattr(CellSpace, "supernet", kept)
    after = []

    def snapshot(line):
        state = {n: p.detach().clone() for n, p in nets[-1].named_parameters()}
        scores = torch.cat(
            [p.flatten() for n, p in state.items() if n.endswith("scores")] or [torch.zeros(0)]
        )
        stored = [n for n in state if n.endswith("original")]
        weights = torch.cat([state[n].flatten() for n in stored] or [torch.zeros(0)])
        after.append((line.phase, scores, weights))

    search(images, epochs=6, on_epoch=snapshot)
    phases = [phase for phase, *_ in after]
    assert phases == ["train", "train", "prune", "prune", "fine-tune", "fine-tune"]
    (_, scores_3, weights_3), (_, scores_4, weights_4), (_, scores_5, weights_5) = after[2:5]
    assert torch.equal(weights_3, weights_4) and not torch.equal(scores_3, scores_4)
    assert torch.equal(scores_4, scores_5) and not torch.equal(weights_4, weights_5)


def test_history(images):
    told = []
    found = search(images, epochs=5, on_epoch=told.append)
    assert told == found.history
    assert [math.isnan(line.alpha_loss) for line in told] == [
        line.phase == "train" for line in told
    ]
    assert all(0 <= line.skips <= 1 for line in told)


def test_it_learns_and_prefers_what_helps():
    """Classes that differ in a pixel pattern that pooling cannot see: a convolution is chosen."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(128) % 2
    stripes = torch.tensor([1.0, -1.0]).repeat(3)
    pattern = torch.stack([stripes.expand(6, 6), stripes.expand(6, 6).T])
    x = (pattern[y] + 0.3 * torch.randn(128, 6, 6, generator=g))[:, None]
    space = CellSpace(("none", "avg_pool_3x3", "conv_3x3"), nodes=1, cells=1, channels=2)
    found = dass(
        space,
        x,
        y,
        density=0.5,
        epochs=12,
        batch_size=16,
        lr=0.05,
        score_lr=0.02,
        alpha_lr=0.03,
        generator=g,
    )
    assert found.history[-1].loss < 0.8 * found.history[0].loss
    assert all(op == "conv_3x3" for op, _ in found.genotype.normal[0])


@given(
    repeats=st.integers(1, 4), extra=st.integers(0, 60), cut=st.tuples(*[st.floats(0.01, 1)] * 3)
)
def test_phases_share_the_epochs(repeats, extra, cut):
    epochs = 1 + 2 * repeats + extra
    phases = tuple(part / sum(cut) for part in cut)
    lengths = _lengths(epochs, phases, repeats)
    assert [phase for phase, _ in lengths] == ["train", *["prune", "fine-tune"] * repeats]
    assert sum(length for _, length in lengths) == epochs
    for kind in ("prune", "fine-tune"):
        turns = [length for phase, length in lengths if phase == kind]
        assert min(turns) >= 1 and max(turns) <= min(turns) + 1


def test_pruning_and_tuning_take_turns(images):
    found = search(images, epochs=9, repeats=2, max_skips=1.0)
    assert [line.phase for line in found.history] == [
        *["train"] * 3,
        *["prune", "fine-tune"],
        *["prune", "prune", "fine-tune", "fine-tune"],
    ]


@pytest.mark.parametrize("operations", ["sparse", "dense"])
def test_density_ramps_down_over_the_first_pruning(images, operations, monkeypatch):
    nets = []
    supernet = CellSpace.supernet

    def kept(self, **how):
        nets.append(supernet(self, **how))
        return nets[-1]

    monkeypatch.setattr(CellSpace, "supernet", kept)
    ramp, kept_then = Cubic(0.2), []

    def count(_):
        parts = [m for m in nets[-1].modules() if isinstance(m, LearnedMask)]
        kept_then.append(sum(int(part.mask.sum()) for part in parts))

    search(
        images,
        density=ramp,
        epochs=13,
        phases=(1 / 13, 4 / 13, 8 / 13),
        repeats=2,
        operations=operations,
        max_skips=1.0,
        on_epoch=count,
    )
    total = sum(
        w.numel()
        for w in select(
            supernet(SPACE, classes=3, in_channels=1, generator=torch.Generator())
        ).values()
    )
    wanted = [round(ramp(p) * total) for p in (0.5, 1.0)]
    # The second pruning, like all that comes behind the first, has the last density.
    assert kept_then == [0, *wanted, *[wanted[-1]] * 10]


def test_a_search_ends_where_skips_take_over(images, monkeypatch):
    shares = iter([0.0, 1.0, 0.0, 0.5, 0.5, 1.0, 0.0])  # the first epoch trains
    alphas = []

    def skips(self):
        alphas.append([alpha.detach().clone() for alpha in self.alphas])
        return next(shares)

    monkeypatch.setattr(_Search, "_skips", skips)
    found = search(images, epochs=7, phases=(1 / 7, 3 / 7, 3 / 7))
    # Noise at first (1.0) does not end it; what came behind a good epoch does.
    assert len(found.history) == 6 and found.history[-1].skips == 1.0
    assert all(map(torch.equal, found.alphas, alphas[4]))
    assert not torch.equal(found.alphas[0], alphas[5][0])


def test_skips_are_those_of_the_cell_with_more(images):
    for cells, wanted in ((2, 1.0), (1, 0.5)):  # a network of one cell has no reduction
        space = CellSpace(SPACE.ops, 1, cells, 2)
        of_a = _Search(space, None, images, 6, 0.1, torch.Generator())
        with torch.no_grad():
            of_a.alphas[0][:] = torch.tensor([[0.0, 9, 0, 0], [0, 0, 0, 9]])
            of_a.alphas[1][:] = torch.tensor([[0.0, 9, 0, 0]] * 2)
        assert of_a._skips() == wanted


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"density": 0.0}, "density must be above 0 and at most 1, got 0.0"),
        ({"density": math.nan}, "density must be above 0"),
        ({"density": Cubic(0.0)}, "density must be above 0 and at most 1, got 0.0"),
        ({"epochs": 2}, "epochs must be at least 3"),
        ({"epochs": 6, "repeats": 3}, "epochs must be at least 7, one for each phase, got 6"),
        ({"repeats": 0}, "repeats must be at least 1, got 0"),
        ({"max_skips": 1.5}, "max_skips must be a share from 0 to 1, got 1.5"),
        ({"phases": (0.5, 0.5, 0.0)}, "phases must be three shares"),
        ({"operations": "masked"}, "operations must be 'sparse' or 'dense', got 'masked'"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"lr": 1e30}, "diverged in epoch"),
    ],
)
def test_bad_settings(images, how, match):
    with pytest.raises(ValueError, match=match):
        search(images, **how)


def test_bad_images(images):
    x, y = images
    with pytest.raises(ValueError, match="with a label each in y"):
        search((x, y[:5]))
    with pytest.raises(ValueError, match="at least two classes"):
        search((x, torch.zeros_like(y)))
    with pytest.raises(ValueError, match="NaN"):
        search((x * math.nan, y))
    with pytest.raises(ValueError, match="at least 4"):
        search((x[:3], y[:3]))
    with pytest.raises(ValueError, match="are too small for a supernet of 2 cells"):
        search((x[:, :, :1, :1], y))


class Bilinear:
    """A supernet small enough for its second-order gradient to be written out."""

    def __init__(self):
        g = torch.Generator().manual_seed(0)
        self.w = torch.randn(3, generator=g, dtype=torch.float64, requires_grad=True)
        self.alphas = [torch.randn(3, generator=g, dtype=torch.float64, requires_grad=True)]
        self.on_a = self.on_b = False

    def _loss(self, x, y, alphas, _):
        return ((x * (self.w * alphas[0]).sin()).sum() - y).square()


def test_looking_ahead_is_the_gradient_through_the_step():
    net, rate = Bilinear(), 0.05
    of_a = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), torch.tensor(0.3)
    of_b = torch.tensor([0.4, 1.0, -1.0], dtype=torch.float64), torch.tensor(-0.2)
    before = net.w.detach().clone()
    loss, (found,) = _Search._look_ahead(net, of_a, of_b, [net.w], rate)
    # Autograd through the unrolled step, without differences.
    (inner,) = torch.autograd.grad(net._loss(*of_a, net.alphas, False), net.w, create_graph=True)
    moved = net.w - rate * inner
    ahead = ((of_b[0] * (moved * net.alphas[0]).sin()).sum() - of_b[1]).square()
    (exact,) = torch.autograd.grad(ahead, net.alphas[0])
    (first_order,) = torch.autograd.grad(net._loss(*of_b, net.alphas, False), net.alphas[0])
    assert loss.item() == pytest.approx(ahead.item())
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-5)
    assert (first_order - exact).abs().max() > 100 * (found - exact).abs().max()
    assert torch.equal(net.w, before)


def test_unrolled_search_differs_from_first_order_and_repeats(images):
    for how in ({}, {"operations": "dense", "objective": "dense"}):
        first, second, again = (search(images, unrolled=u, **how) for u in (False, True, True))
        assert not torch.equal(first.alphas[0], second.alphas[0])
        assert all(map(torch.equal, second.alphas, again.alphas))
        assert first.history[0] == second.history[0]  # no alpha step in training
