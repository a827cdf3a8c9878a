"""Rewards: callables with TRL's signature, and what makes anyone's safe to train with.

``functions``  :class:`RewardFunction`, the signature; :class:`RowReward` lifts a score of one row;
``mixing``     :class:`WeightedSum` of several;
``guarding``   :class:`Guarded`: a reward that raises or hangs becomes 0, a count and a warning;
``staged``     :class:`StagedReward`: later stages count once the earlier ones are met;
``length``     :class:`Truncation` and its rivals: rewards that know how long a completion is;
``text``       exact match, F1, and a BLEU for short answers;
``tool``       calls that parse, one answer, a judge;
``dimensions`` :class:`DimensionReward`: confidence, relevance and coherence of the reasoning;
``reasoning``, ``scorers``, ``judge``, ``corruption``, ``weighting``
               where reasoning ends, who scores it, and with what weights.
"""

from rarefy.rewards.corruption import corrupt
from rarefy.rewards.dimensions import Coherence, Confidence, DimensionReward, Relevance
from rarefy.rewards.functions import RewardFunction, RowReward, check_rewards, completion_text
from rarefy.rewards.guarding import Guarded
from rarefy.rewards.judge import TraceJudge
from rarefy.rewards.length import Cosine, DifficultyAwareTruncation, L1Max, Laser, Truncation
from rarefy.rewards.mixing import WeightedSum
from rarefy.rewards.reasoning import split_reasoning
from rarefy.rewards.scorers import CrossEncoderScorer, LexicalScorer, RewardModelScorer
from rarefy.rewards.staged import Stage, StagedReward
from rarefy.rewards.text import AnswerReward, exact_match, f1, length_aware_bleu
from rarefy.rewards.tool import AnswerTag, Judge, ParseRate
from rarefy.rewards.weighting import grid_search_weights

__all__ = [
    "AnswerReward",
    "AnswerTag",
    "Coherence",
    "Confidence",
    "Cosine",
    "CrossEncoderScorer",
    "DifficultyAwareTruncation",
    "DimensionReward",
    "Guarded",
    "Judge",
    "L1Max",
    "Laser",
    "LexicalScorer",
    "ParseRate",
    "Relevance",
    "RewardFunction",
    "RewardModelScorer",
    "RowReward",
    "Stage",
    "StagedReward",
    "TraceJudge",
    "Truncation",
    "WeightedSum",
    "check_rewards",
    "completion_text",
    "corrupt",
    "exact_match",
    "f1",
    "grid_search_weights",
    "length_aware_bleu",
    "split_reasoning",
]
