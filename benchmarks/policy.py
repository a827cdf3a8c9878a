"""Rollouts beside Hugging Face's ``generate``, and steps beside TRL's, on the same small policies.

Ratios over 1 mean ours is faster; our rollouts record log-probabilities and entropies besides. With
an end token drawn by chance, both run until the last completion has ended. Steps are four of GRPO
on the shipped policy, 8 prompts x 8 completions of at most 24 tokens. All use one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

import _trl_trainers
from _timing import interleaved, row
from rarefy.models import SHIPPED, open_model
from rarefy.policy import GRPO, PolicyTrainer, TaskProblems, generate, left_pad
from rarefy.policy.tasks import COUNTDOWN

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

PROMPTS, COMPLETIONS, NEW_TOKENS, EOS = 16, 8, 24, 2


def rows() -> list[dict[str, Any]]:
    """Completions of equal length, completions that end by themselves, and steps of training."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [rollout_row(ends=False), rollout_row(ends=True), step_row()]
    finally:
        torch.set_num_threads(threads)


def rollout_row(*, ends: bool) -> dict[str, Any]:
    """128 completions of up to 24 tokens."""
    model = _policy(ends=ends)
    g = torch.Generator().manual_seed(0)
    lengths = torch.randint(8, 15, (PROMPTS,), generator=g).tolist()
    prompts = [torch.randint(4, 64, (n,), generator=g).tolist() for n in lengths]

    def ours() -> None:
        generate(model, prompts, max_new_tokens=NEW_TOKENS, n_completions=COMPLETIONS, generator=g)

    def theirs() -> None:
        ids, mask = left_pad(prompts, pad_token_id=0)
        model.generate(
            ids,
            attention_mask=mask.long(),
            max_new_tokens=NEW_TOKENS,
            num_return_sequences=COMPLETIONS,
            do_sample=True,
            top_k=0,
        )

    quick, slow = interleaved(ours, theirs, repeats=7, warmup=1)
    name = "policy.rollout.ending" if ends else "policy.rollout"
    return row(name, "transformers generate", quick, slow, goal=1.0)


def step_row() -> dict[str, Any]:
    """Four steps of GRPO on countdown at learning rate 0."""
    from trl import GRPOTrainer

    model, tokenizer = open_model(SHIPPED / "policy")
    trainer = PolicyTrainer(
        model,
        tokenizer,
        TaskProblems({(COUNTDOWN, 2): 1.0, (COUNTDOWN, 3): 1.0}, seed=0),
        reward=COUNTDOWN.reward,
        objective=GRPO(),
        max_new_tokens=_trl_trainers.NEW_TOKENS,
        n_prompts=_trl_trainers.PROMPTS,
        group_size=_trl_trainers.COMPLETIONS,
        learning_rate=0.0,
    )
    theirs = _trl_trainers.trl_trainer(GRPOTrainer)
    quick, slow = interleaved(
        lambda: trainer.train(trainer.step + _trl_trainers.STEPS),
        lambda: _trl_trainers.train(theirs),
        repeats=7,
        warmup=1,
    )
    return row("policy.step", "trl GRPOTrainer", quick, slow, goal=1.3)


def _policy(*, ends: bool) -> LlamaForCausalLM:
    """The 0.65 M-parameter policy's shape with random weights: every token is about as likely."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=EOS if ends else None,
    )
    model = LlamaForCausalLM(config).eval()
    if ends:
        # A fifth of the vocabulary ends a completion, so that lengths spread as on the tasks.
        model.generation_config.eos_token_id = list(range(EOS, EOS + 12))
    return model
