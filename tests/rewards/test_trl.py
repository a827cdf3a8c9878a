"""Every reward callable works unchanged in TRL's ``GRPOTrainer``."""

from importlib.util import find_spec

import pytest

from rarefy.models.characters import character_model, character_tokenizer
from rarefy.policy.tasks import COUNTDOWN, as_dataset, credited, rows, verified
from rarefy.rewards import (
    AnswerReward,
    AnswerTag,
    Coherence,
    Cosine,
    DifficultyAwareTruncation,
    DimensionReward,
    L1Max,
    Laser,
    LexicalScorer,
    ParseRate,
    Relevance,
    Stage,
    StagedReward,
    Truncation,
    WeightedSum,
    exact_match,
)

pytestmark = [
    pytest.mark.skipif(find_spec("trl") is None, reason="needs the policy extra (trl)"),
    pytest.mark.filterwarnings("ignore"),  # theirs and their dependencies'
]


def test_all_rewards_train_a_step_together(tmp_path):
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = character_tokenizer()
    eos = tokenizer.eos_token_id
    parsed = ParseRate(lambda text: [part.endswith(">") for part in text.split("<")[1:]])
    rewards = [
        verified,
        credited,
        WeightedSum([verified, credited], weights=[1.0, 0.5]),
        Truncation(verified, 6, eos_token_id=eos),
        DifficultyAwareTruncation(verified, (6, 4), (0.5,), eos_token_id=eos),
        Laser(verified, 6),
        L1Max(verified, 6),
        Cosine(verified, 6),
        parsed,
        AnswerTag("#"),
        AnswerReward(exact_match, lambda text: text.partition("#")[2]),
        StagedReward([Stage(parsed, 0.2), Stage(AnswerTag("#"), 0.2), Stage(verified, 0.6)]),
        DimensionReward(
            [
                Relevance(LexicalScorer()),
                Coherence(lambda pairs: [float(len(text)) for _, text in pairs]),
            ],
            group_size=4,
        ),
    ]
    trainer = GRPOTrainer(
        model=character_model(tokenizer, seed=0, hidden=32, layers=1),
        reward_funcs=rewards,
        args=GRPOConfig(
            output_dir=str(tmp_path),
            num_generations=4,
            per_device_train_batch_size=8,
            max_completion_length=6,
            max_steps=1,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            logging_steps=1,
        ),
        train_dataset=as_dataset(rows([COUNTDOWN], per_level=8, seed=0, levels=(1,))),
        processing_class=tokenizer,
    )
    trainer.train()
    logged = {name for entry in trainer.state.log_history for name in entry}
    means = [name for name in logged if name.startswith("rewards/") and name.endswith("/mean")]
    assert len(means) == len(rewards)
