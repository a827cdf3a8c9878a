"""Paper 26: the recipe runs, and its claims speak of what is measured."""

import numpy as np
import pytest
import torch

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import beyond_l1_v1 as recipe
from rarefy.papers._beyond_l1_mosaic import pack, unpack


@pytest.fixture(scope="module")
def shared(trial):
    return recipe.setup(trial, collection="scikit-learn", units=16)


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert np.isfinite(smoke[arm][claim.metric]), f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert ids == {"c1", "c1b", "c2", "c3", "c4", "c5"}


def test_methods_are_compared_at_equal_sparsity(smoke):
    for arm in recipe.METHODS:
        for level in recipe.LEVELS:
            assert abs(smoke[arm][f"l0_{level}"] / float(level) - 1) < 0.02


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    again = recipe.setup(trial, collection="scikit-learn", units=16)
    assert recipe.measure("random atoms", again, trial) == smoke["random atoms"]


def test_fields_come_back_in_greys():
    dictionary = torch.randn(24, 144, generator=torch.Generator().manual_seed(0))
    numbers = pack(dictionary, 12)
    back = unpack(Measurements(Measurement("a", 0, k, v) for k, v in numbers.items()), "a")
    largest = dictionary.abs().amax(1, keepdim=True)
    expected = ((dictionary / largest + 1) / 2).view(24, 12, 12).numpy()
    assert np.abs(back - expected).max() < 0.5 / 15 + 1e-6


def test_figure_draws_every_panel(smoke):
    measurements = Measurements(
        Measurement(arm, 0, metric, value)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    assert len(recipe.figure(measurements).axes) == 7


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"f0": 0.0}, "f0 must be between 0 and 10"),
        ({"patch": 4}, "patch must be at least 8"),
        ({"units": 1}, "units must be at least 2"),
    ],
)
def test_bad_options(trial, option, message):
    with pytest.raises(ValueError, match=message):
        recipe.setup(trial, **option)
