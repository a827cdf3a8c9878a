from collections import Counter

import pytest
import torch

from rarefy.policy import Staged, SuccessBand, Uniform


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(name, seed=0):
    if name == "uniform":
        return Uniform([1, 2, 3], generator=generator(seed))
    if name == "staged":
        return Staged([[1, 2], [3], [4, 5]], generator=generator(seed))
    return SuccessBand([1, 2, 3], generator=generator(seed))


def test_uniform_draws_every_level_alike():
    counts = Counter(make("uniform").sample(3000))
    assert set(counts) == {1, 2, 3}
    assert all(abs(count - 1000) < 4 * (3000 * 2 / 9) ** 0.5 for count in counts.values())


def test_stages_change_by_hand_only():
    staged = make("staged")
    staged.update([1] * 8, torch.ones(8))
    assert set(staged.sample(100)) == {1, 2}
    staged.advance()
    assert set(staged.sample(10)) == {3}
    for _ in range(5):
        staged.advance()
    assert set(staged.sample(100)) == {4, 5}


def test_levels_leave_the_band_by_mastery_and_by_failure_and_come_back():
    curriculum = make("band")
    assert curriculum.band == [1, 2, 3]
    curriculum.update([1] * 30 + [3] * 30, torch.tensor([1.0] * 30 + [0.0] * 30))
    assert curriculum.band == [2]
    share = Counter(curriculum.sample(3000))[2] / 3000
    assert share == pytest.approx(0.9 + 0.1 / 3, abs=0.02)
    curriculum.update([3] * 5, torch.ones(5))
    assert curriculum.band == [2, 3]


def test_success_is_an_exponential_mean():
    curriculum = SuccessBand([1], generator=generator(), decay=0.5)
    curriculum.update([1, 1], torch.tensor([1.0, 0.0]))
    assert curriculum.success[1] == pytest.approx(0.5 * (0.5 * 0.5 + 0.5 * 1.0))


def test_with_no_level_in_the_band_the_nearest_is_drawn():
    curriculum = make("band")
    curriculum.success = {1: 1.0, 2: 0.95, 3: 0.0}
    assert curriculum.band == [2]


@pytest.mark.parametrize("name", ["uniform", "staged", "band"])
def test_a_restarted_curriculum_draws_what_the_other_would_have(name):
    one = make(name)
    if name == "staged":
        one.advance()
    one.sample(5)
    one.update([3] * 30, torch.zeros(30))
    state = one.state_dict()
    expected = one.sample(50)
    # The state is a copy: what happens later does not change it.
    one.update([1] * 30, torch.ones(30))
    other = make(name, seed=99)
    other.load_state_dict(state)
    assert other.sample(50) == expected
    # And so is what was loaded.
    other.update([1] * 30, torch.ones(30))
    third = make(name, seed=7)
    third.load_state_dict(state)
    assert third.sample(50) == expected


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="levels is empty"):
        Uniform([], generator=generator())
    with pytest.raises(ValueError, match="stages is empty"):
        Staged([], generator=generator())
    with pytest.raises(ValueError, match="low = 0.8, high = 0.2"):
        SuccessBand([1], generator=generator(), low=0.8, high=0.2)
    with pytest.raises(ValueError, match="explore is 0"):
        SuccessBand([1], generator=generator(), explore=0)
    with pytest.raises(ValueError, match="decay is 1"):
        SuccessBand([1], generator=generator(), decay=1)
    with pytest.raises(ValueError, match="2 levels came with 1 rewards"):
        make("band").update([1, 2], torch.ones(1))
