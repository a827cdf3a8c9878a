import numpy as np
import pytest
import torch

from rarefy.weights import SparsificationMonitor, change_point


def test_fractions_against_counting():
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, -5.0]]))  # rms sqrt(12.5)
    monitor = SparsificationMonitor(
        {"w": weight}, every=2, absolute=(3.5,), relative=(1.0,), also={"lr": lambda: 0.5}
    )
    monitor.step(0)
    monitor.step(1)
    with torch.no_grad():
        weight.mul_(0.5)
    monitor.step(2)
    assert monitor.steps == [0, 2]
    assert monitor.series == {
        "below 3.5": [0.5, 1.0],
        "below 1 rms": [0.5, 1.0],
        "lr": [0.5, 0.5],
    }


def by_brute_force(values):
    d = np.diff(values)
    loss = [
        ((d[:i] - d[:i].mean()) ** 2).sum() + ((d[i:] - d[i:].mean()) ** 2).sum()
        for i in range(1, len(d))
    ]
    return int(np.argmin(loss)) + 1


@pytest.mark.parametrize("seed", range(5))
def test_the_split_is_the_least_squares_one(seed):
    values = np.random.default_rng(seed).standard_normal(12).cumsum()
    found = change_point(range(12), values)
    assert found.step == by_brute_force(values)


def test_abrupt_and_smooth_series():
    smooth = change_point(range(20), np.linspace(0, 1, 20))
    assert not smooth.abrupt
    assert smooth.jump_ratio == pytest.approx(1)
    ramp = np.concatenate([np.linspace(0, 0.1, 10), np.linspace(0.6, 0.7, 10)])
    jump = change_point(range(0, 200, 10), ramp)
    assert jump.abrupt
    pace = change_point(range(20), np.maximum(np.arange(20) - 12, 0))
    assert pace.step == 12
    assert pace.gain > 5
    flat = change_point(range(4), [1, 1, 1, 1])
    assert (flat.jump_ratio, flat.abrupt, flat.gain) == (0, False, 0)


def test_bad_input():
    with pytest.raises(ValueError, match="four values"):
        change_point([0, 1], [0, 1])
    with pytest.raises(ValueError, match="every"):
        SparsificationMonitor({}, every=0)
    with pytest.raises(ValueError, match="no series 'x'; there are below"):
        SparsificationMonitor({"w": torch.ones(1, 1)}).change_point("x")
