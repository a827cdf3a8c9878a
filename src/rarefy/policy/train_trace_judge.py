"""Train the shipped judge of reasoning: experts' traces against traces that were spoilt.

    python -m rarefy.policy.train_trace_judge --out runs/judge --target-success 0.995
    loss = mean of -log p(expert's tokens) + 0.1 mean of -log sigmoid(s(sound) - s(spoilt))

with s the log-probability of a trace given its question. No completion of a policy and no verdict
of a verifier is used: experts' traces are sound, and what :func:`rarefy.rewards.corrupt` makes of
them is not. Of each step's problems a part is read without its question, and a part as the answer
alone, so that the judge can tell what reasoning adds to an answer (see ``rarefy.rewards.judge``).

Every batch is a function of seed and step, so that a killed run, started again with the same
``--out``, goes on from its last checkpoint. The finished folder holds config, safetensors,
tokenizer and a model card.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rarefy.models.characters import CONTEXT, character_tokenizer
from rarefy.policy._warm_up import PEAK_RATE, finish, main, warm_up
from rarefy.policy.tasks import LEVELS, Problem, Split, Task
from rarefy.rewards.corruption import KINDS, corrupt
from rarefy.rewards.judge import MARK, Pair, encode_pairs, token_logps

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

BATCH, WITHOUT_QUESTION, ANSWER_ALONE, SPOILT = 48, 12, 8, 12
"""Problems of a step, and how many of them are read in the further ways."""
LEVEL_SHARES = (0.10, 0.20, 0.40, 0.30, 0.0)
EVALUATE_EVERY = 100
EVALUATION_PROBLEMS = 200
CONTEST_SHARE = 0.1
"""Weight of the contests: margins are of whole traces, the other loss of one token."""
BUCKETS = 3

_log = logging.getLogger("rarefy.policy.train_trace_judge")


def problems_at(
    step: int, tasks: Sequence[Task], *, seed: int, n: int = BATCH, split: Split = "train"
) -> list[Problem]:
    """Return the problems of a step: a function of the step alone."""
    rng = random.Random(f"{seed} judge {split} {step}")
    return [
        rng.choice(tasks).sample(rng.choices(LEVELS, LEVEL_SHARES)[0], rng, split=split)
        for _ in range(n)
    ]


def spoil(trace: str, rng: random.Random) -> str | None:
    """Spoil a trace in a way drawn at random; None where no way changes it."""
    # Wrong values are what a policy errs by most.
    for kind in ("value" if rng.random() < 0.5 else rng.choice(KINDS), *KINDS):
        spoilt = corrupt(trace, kind, rng)
        if spoilt not in (None, trace):
            return spoilt
    return None


def contests(problems: Sequence[Problem], rng: random.Random) -> list[tuple[Pair, Pair]]:
    """Question and sound trace beside question and spoilt trace."""
    found = []
    for problem in problems:
        spoilt = spoil(problem.trace, rng)
        if spoilt is not None:
            found.append(((problem.prompt, problem.trace + MARK), (problem.prompt, spoilt + MARK)))
    return found


def sums(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, pairs: Sequence[Pair]
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the second texts, and their lengths, (pairs,), with a gradient."""
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    size = -(-len(order) // BUCKETS)
    places, logps, lengths = [], [], []
    for some in (order[start : start + size] for start in range(0, len(order), size)):
        ids, spans = encode_pairs(tokenizer, [pairs[i] for i in some])
        per_token, _ = token_logps(model, ids)
        mask = spans[:, 1:].to(per_token)
        places += some
        logps.append((per_token * mask).sum(1))
        lengths.append(mask.sum(1))
    back = torch.tensor(places).argsort()
    return torch.cat(logps)[back], torch.cat(lengths)[back]


def loss_at(
    step: int,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tasks: Sequence[Task],
    *,
    seed: int,
) -> Tensor:
    """Both losses of a step."""
    problems = problems_at(step, tasks, seed=seed)
    rng = random.Random(f"{seed} judge spoilt {step}")
    end = tokenizer.eos_token
    taught = [(p.prompt, p.completion + end) for p in problems]
    taught += [(p.trace + MARK, p.answer + end) for p in problems[:WITHOUT_QUESTION]]
    taught += [(MARK, p.answer + end) for p in problems[:ANSWER_ALONE]]
    against = contests(problems[-SPOILT:], rng)
    logps, lengths = sums(model, tokenizer, taught + [side for pair in against for side in pair])
    n = len(taught)
    margins = logps[n::2] - logps[n + 1 :: 2]
    return -logps[:n].sum() / lengths[:n].sum() - CONTEST_SHARE * logsigmoid(margins).mean()


@torch.no_grad()
def accuracy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tasks: Sequence[Task],
    *,
    seed: int,
) -> float:
    """Share of held-out contests decided rightly."""
    problems = problems_at(0, tasks, seed=seed, n=EVALUATION_PROBLEMS, split="eval")
    against = contests(problems, random.Random(f"{seed} judge contests"))
    logps, _ = sums(model, tokenizer, [side for pair in against for side in pair])
    return float((logps[::2] > logps[1::2]).float().mean())


def untrained(tokenizer: PreTrainedTokenizerFast, *, seed: int) -> LlamaForCausalLM:
    """A Llama of 0.22 M parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def train(
    out: Path,
    *,
    steps: int,
    tasks: Sequence[Task],
    target_success: float = 0.995,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Train, checkpoint and finish the judge in ``out``; goes on from a checkpoint found there.

    Parameters
    ----------
    out : Path
    steps : int
        Optimizer steps at most.
    tasks : sequence of Task
    target_success : float, default 0.995
        Training stops when the share of held-out contests decided rightly is above this.
    seed : int, default 0
    device : str, default "cpu"
    """
    tokenizer = character_tokenizer()
    model = untrained(tokenizer, seed=seed).to(device)
    step, seconds = warm_up(
        out,
        model,
        steps=steps,
        loss_at=lambda step: loss_at(step + 1, model, tokenizer, tasks, seed=seed),
        success=lambda: accuracy(model, tokenizer, tasks, seed=seed),
        target_success=target_success,
        evaluate_every=EVALUATE_EVERY,
        log=_log,
    )
    facts = {
        "steps": step,
        "seed": seed,
        "accuracy": {
            task.name: round(accuracy(model, tokenizer, [task], seed=seed), 4) for task in tasks
        },
        "training_seconds": round(seconds),
    }
    finish(out, model, tokenizer, facts, _card)
    _log.info("%s", facts)


def _card(facts: dict[str, Any], parameters: int) -> str:
    table = "\n".join(f"| {name} | {value:.3f} |" for name, value in facts["accuracy"].items())
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# rarefy trace judge

A Llama-architecture causal language model, {parameters:,} parameters, one token a character, that
scores the reasoning of completions on tasks of `rarefy.policy.tasks`; see `rarefy.rewards.judge`.
It has seen experts' traces and traces spoilt on purpose, and no completion of a policy; it knows
nothing of other text.

Share of held-out contests between a sound and a spoilt trace that it decides rightly:

| task | decided rightly |
|---|---|
{table}

| | |
|---|---|
| data | expert traces of `rarefy.policy.tasks`, drawn anew each step; levels 1 to 5 in shares \
{", ".join(map(str, LEVEL_SHARES))} |
| steps | {facts["steps"]} of {BATCH} problems, seed {facts["seed"]} |
| optimizer | AdamW, peak rate {PEAK_RATE}, betas 0.9 and 0.98, clipped at 1 |
| hardware | {facts["hardware"]} |
| training time | {facts["training_seconds"]:,} s |

Trained by `python -m rarefy.policy.train_trace_judge`.
"""


if __name__ == "__main__":
    main(
        __doc__.splitlines()[0], train, steps=1600, tasks="countdown,permute", target_success=0.995
    )
