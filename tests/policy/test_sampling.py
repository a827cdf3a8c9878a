import pytest
import torch

from rarefy.policy import (
    Draw,
    DynamicSampler,
    MeanBetween,
    NotEnoughGroups,
    has_variance,
)


def source(success, group_size=4, seed=0):
    """Numbered groups whose completions succeed with a probability."""
    generator = torch.Generator().manual_seed(seed)
    seen = []

    def draw(n):
        rewards = (torch.rand(n, group_size, generator=generator) < success).float()
        numbers = list(range(len(seen), len(seen) + n))
        seen.extend(rewards)
        return Draw(numbers, rewards)

    return draw, seen


def test_only_mixed_groups_are_kept_in_the_order_of_drawing():
    draw, seen = source(0.1)
    filled = DynamicSampler().fill(draw, 6)
    mixed = [i for i, rewards in enumerate(seen) if 0 < rewards.sum() < 4]
    assert filled.groups == mixed[:6]
    assert torch.equal(filled.rewards, torch.stack([seen[i] for i in mixed[:6]]))
    assert filled.n_drawn == len(seen) == 6 * filled.rounds
    assert filled.rounds > 1
    assert filled.n_kept == len(mixed)


def test_a_first_draw_that_suffices_is_the_last():
    draw, seen = source(0.5, group_size=64)
    assert DynamicSampler().fill(draw, 5).rounds == 1
    assert len(seen) == 5


def test_when_nothing_passes_it_ends_after_its_rounds():
    draw, seen = source(0.0)
    filled = DynamicSampler(max_rounds=3).fill(draw, 5)
    assert filled.groups == []
    assert filled.rewards.shape == (0, 4)
    assert (filled.n_drawn, len(seen)) == (15, 15)
    with pytest.raises(NotEnoughGroups, match=r"0 of 5 groups .* 2 rounds \(10 groups drawn\)"):
        DynamicSampler(max_rounds=2, on_exhausted="error").fill(draw, 5)


def test_filters_agree_on_right_or_wrong_and_differ_on_partial_credit():
    binary = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    assert has_variance(binary).tolist() == MeanBetween()(binary).tolist() == [False, False, True]
    # A constant group of partial credit teaches nothing, but its mean lies in between.
    partial = torch.tensor([[0.5, 0.5]])
    assert not has_variance(partial).any()
    assert MeanBetween()(partial).all()
    assert MeanBetween(0.2, 0.8)(torch.tensor([[0.1, 0.2], [0.5, 0.6]])).tolist() == [False, True]


def test_bad_settings_and_draws_are_refused():
    with pytest.raises(ValueError, match="max_rounds is 0"):
        DynamicSampler(max_rounds=0)
    with pytest.raises(ValueError, match="on_exhausted must be"):
        DynamicSampler(on_exhausted="stop")
    with pytest.raises(ValueError, match="n_groups is 0"):
        DynamicSampler().fill(source(0.5)[0], 0)
    with pytest.raises(ValueError, match="2 groups but 3 rows"):
        DynamicSampler().fill(lambda n: Draw(["a", "b"], torch.zeros(3, 4)), 2)
