"""A TRL trainer on the shipped policy, for the benchmarks that set it beside ours."""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

import torch

from rarefy.models import SHIPPED, open_model
from rarefy.policy.tasks import COUNTDOWN, as_dataset, rows

PROMPTS, COMPLETIONS, NEW_TOKENS, STEPS = 8, 8, 24, 4


def trl_trainer(kind: Any, **options: Any) -> Any:
    """Of this class: steps of 8 x 8 completions at learning rate 0, so that none gets longer."""
    from transformers.trainer_callback import PrinterCallback
    from trl import GRPOConfig

    model, tokenizer = open_model(SHIPPED / "policy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = kind(
            model=model,
            reward_funcs=COUNTDOWN.reward,
            args=GRPOConfig(
                output_dir=tempfile.mkdtemp(),
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                report_to=[],
                disable_tqdm=True,
                save_strategy="no",
                per_device_train_batch_size=PROMPTS * COMPLETIONS,
                num_generations=COMPLETIONS,
                max_completion_length=NEW_TOKENS,
                learning_rate=0.0,
                max_steps=STEPS,
                loss_type="grpo",
            ),
            train_dataset=as_dataset(rows([COUNTDOWN], per_level=16, seed=0, levels=(2, 3))),
            processing_class=tokenizer,
            **options,
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def train(trainer: Any) -> None:
    """A few steps from the same random numbers each time."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
