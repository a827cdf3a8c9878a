"""Paper 21: the recipe runs, its claims speak of what is measured, and its arms are fair."""

import numpy as np
import pytest
import torch

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import random_search as recipe
from rarefy.papers._random_search_bench import parent, read_table, train
from rarefy.weights import subnetwork


@pytest.fixture(scope="module")
def shared(trial):
    return recipe.setup(trial, width=32, candidates=10)


@pytest.fixture(scope="module")
def smoke(shared, trial):
    """Every arm at one seed, measured once for this file."""
    before = [t.clone() for t in (*shared.table, *shared.parents[0].parameters())]
    measured = {arm: recipe.measure(arm, shared, trial) for arm in recipe.PAPER.arms}
    after = (*shared.table, *shared.parents[0].parameters())
    assert all(map(torch.equal, before, after))
    return measured


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {"c0", "c1", "c2", "c3", "c4", "speed"} <= ids


def test_equivalence_is_asked_both_ways():
    by_id = {claim.id: claim for claim in recipe.PAPER.claims}
    turned = [claim for name, claim in by_id.items() if name.endswith("-turned")]
    assert len(turned) == 3 * 4 + 1
    for claim in turned:
        other = by_id[claim.id.removesuffix("-turned")]
        assert (other.arm, other.versus, other.metric) == (claim.versus, claim.arm, claim.metric)
        assert other.margin == claim.margin < 0


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    # What a run that was stopped and goes on does: a new setup, and only the arms that are missing.
    again = recipe.measure("random", recipe.setup(trial, width=32, candidates=10), trial)
    assert again == smoke["random"]


def test_sliced_sub_networks_are_the_masked_parent(smoke):
    assert 0 < smoke["searched"]["slice_error"] < 1e-5


def test_the_search_finds_lower_losses_than_the_mean(smoke):
    found = smoke["searched"]
    for level in recipe.LEVELS:
        assert found[f"loss_best_{level}"] < found[f"loss_mean_{level}"]
        shorter = [found[f"gain_{level}_of_{share}"] for share in recipe.SHARES]
        assert shorter == sorted(shorter)
        assert shorter[-1] == pytest.approx(found[f"gain_{level}"], abs=1e-4)


def test_figure_draws_its_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    curves, differences, gains = recipe.figure(measurements).axes
    assert len(curves.containers) == 2 and len(differences.containers) == 1
    assert len(gains.lines) == len(recipe.LEVELS)


def test_the_table_is_split_as_the_card_says():
    table = read_table("digits", 0)
    assert [len(y) for y in table[1::2]] == [1005, 252, 540]
    assert table.classes == 10
    torch.testing.assert_close(table.x.mean(0), torch.zeros(64), atol=1e-5, rtol=0)
    counts = torch.bincount(table.test_y)
    assert counts.max() - counts.min() <= 3
    assert not torch.equal(table.test_y, read_table("digits", 1).test_y)


def test_networks_trained_together_are_networks_trained_alone():
    table, g = read_table("wine", 0), torch.Generator().manual_seed(0)
    model = parent(table, 16, g)
    nets = [subnetwork(model, (torch.arange(k, k + 8),) * 2) for k in (0, 4, 8)]

    def outcome(networks):
        order = torch.Generator().manual_seed(1)
        return train(networks, table, epochs=40, order=order, device="cpu")

    together = outcome(nets)
    alone = [outcome([net]) for net in nets]
    for values, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(values, torch.cat(parts))
    assert together.accuracy.min() > 0.6


def test_the_curve_gives_epochs_and_area(shared):
    net = shared.parents[0]
    order = torch.Generator().manual_seed(0)
    one = train([net], shared.table, epochs=1, order=order, device="cpu")
    assert float(one.epochs) == 1
    order = torch.Generator().manual_seed(0)
    ten = train([net], shared.table, epochs=10, order=order, device="cpu")
    assert 1 < float(ten.epochs) < 10
    assert float(one.area) < float(ten.area) < float(ten.accuracy)


def test_a_user_s_table(tmp_path, trial):
    rng = np.random.default_rng(0)
    path = tmp_path / "table.npz"
    np.savez(path, X=rng.normal(size=(60, 3, 2)), y=np.array(["a", "b", "c"] * 20))
    shared = recipe.setup(trial, data=str(path), width=8)
    assert shared.table.x.shape[1] == 6 and shared.table.classes == 3
    np.savez(path, X=np.zeros((4, 2)))
    with pytest.raises(ValueError, match="lacks the arrays y"):
        recipe.setup(trial, data=str(path))
    np.savez(path, X=np.zeros((4, 2)), y=np.zeros(3))
    with pytest.raises(ValueError, match="a row each"):
        recipe.setup(trial, data=str(path))


def test_bad_options(trial):
    with pytest.raises(ValueError, match="data must be one of digits, breast_cancer, wine"):
        recipe.setup(trial, data="mnist")
    for name in ("width", "parents", "candidates"):
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            recipe.setup(trial, **{name: 0})
