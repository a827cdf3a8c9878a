"""Rewards: callables with TRL's signature, and what makes anyone's safe to train with.

``functions``  :class:`RewardFunction`, the signature; :class:`RowReward` lifts a score of one row;
``mixing``     :class:`WeightedSum` of several;
``guarding``   :class:`Guarded`: a reward that raises or hangs becomes 0, a count and a warning.
"""

from rarefy.rewards.functions import RewardFunction, RowReward, check_rewards, completion_text
from rarefy.rewards.guarding import Guarded
from rarefy.rewards.mixing import WeightedSum

__all__ = [
    "Guarded",
    "RewardFunction",
    "RowReward",
    "WeightedSum",
    "check_rewards",
    "completion_text",
]
