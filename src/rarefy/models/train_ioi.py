"""Train the shipped IOI model: a small GPT-2 that answers "who was given the thing?".

    python -m rarefy.models.train_ioi --out runs/ioi
    loss = cross-entropy of the answer + 0.1 x that of all other words

Word-level tokenizer, width 64, 3 layers, 4 heads of 16, learned absolute positions, no dropout.
AdamW, linear warm-up, constant rate, linear decay over the last fifth. For several hundred steps
the model guesses between the two names (accuracy 0.5); then it learns which of them is repeated.

A killed run goes on from its last checkpoint when started again with the same ``--out``. A model
below :data:`ACCEPTED` is not saved: everything the IOI task measures would be measured of a guess.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from rarefy.data.ioi import (
    LENGTH,
    NAMES,
    OBJECTS,
    PLACES,
    TEMPLATES,
    IOIEncoder,
    IOIPrompts,
    ioi_prompts,
)
from rarefy.models._checkpoint import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

BATCH = 64
PEAK_RATE = 2e-3
WARM_UP = 50
DECAY = 0.2
LANGUAGE_WEIGHT = 0.1
ACCEPTED = 0.95
TEST_PROMPTS = 4096
CHECKPOINT_EVERY = 100

_log = logging.getLogger("rarefy.models.train_ioi")


def new_tokenizer() -> PreTrainedTokenizerFast:
    """Make the word-level tokenizer of the IOI language; spaces are of no account."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word for template in TEMPLATES for word in template.split() if word[0] != "{"}
    vocabulary = ["<|endoftext|>", *sorted(words), *NAMES, *OBJECTS, *PLACES]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<|endoftext|>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=32,
        clean_up_tokenization_spaces=False,
    )


def new_model(vocabulary: int, *, seed: int) -> GPT2LMHeadModel:
    """Build the untrained model; the seed is scoped, the global random state is left as it was."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=32,
        n_embd=64,
        n_layer=3,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=0.06,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def learning_rate(step: int, steps: int) -> float:
    """Warm-up, constant, linear decay to zero over the last :data:`DECAY` of the steps."""
    return PEAK_RATE * min(1.0, (step + 1) / WARM_UP, (steps - step) / (DECAY * steps))


@torch.inference_mode()
def accuracy(model: GPT2LMHeadModel, encoder: IOIEncoder, prompts: IOIPrompts) -> float:
    """How often the next word is IO, among all words."""
    logits = model(input_ids=encoder(prompts), use_cache=False, logits_to_keep=1).logits[:, -1]
    return float((logits.argmax(-1) == encoder.names[prompts.io]).float().mean())


def train(out: Path, *, steps: int, seed: int = 0) -> None:
    """Train, checkpoint and finish the model in ``out``; goes on from a checkpoint found there."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = new_tokenizer()
    encoder = IOIEncoder(tokenizer)
    model = new_model(len(tokenizer), seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, fused=True)
    done, seconds = load_checkpoint(out / "checkpoint.pt", model, optimizer)
    # Never the generator of a training step, whose seeds are larger.
    test = ioi_prompts(TEST_PROMPTS, generator=torch.Generator().manual_seed(seed))
    for step in range(done, steps):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + step)
        prompts = ioi_prompts(BATCH, templates=(step % len(TEMPLATES),), generator=generator)
        loss = _loss(model, encoder, prompts)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds += time.perf_counter() - began
        if (step + 1) % CHECKPOINT_EVERY == 0:
            right = accuracy(model, encoder, test)
            _log.info("step %d loss %.3f accuracy %.3f", step + 1, loss.item(), right)
            save_checkpoint(out / "checkpoint.pt", model, optimizer, step + 1, seconds)
    right = accuracy(model, encoder, test)
    facts = {
        "steps": steps,
        "seed": seed,
        "accuracy": right,
        "training_seconds": round(seconds),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, cpu",
        "torch": torch.__version__,
    }
    _log.info("%s", facts)
    if right < ACCEPTED:
        raise RuntimeError(
            f"the model is right on {right:.3f} of the prompts, and is not saved: at "
            f"least {ACCEPTED} is wanted; train longer or with another seed"
        )
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    (out / "model" / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    (out / "model" / "README.md").write_text(_card(facts, model.num_parameters()))


def _loss(model: GPT2LMHeadModel, encoder: IOIEncoder, prompts: IOIPrompts) -> torch.Tensor:
    ids = torch.cat([encoder(prompts), encoder.names[prompts.io, None]], dim=1)
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    losses = nn.functional.cross_entropy(logits.mT, ids[:, 1:], reduction="none")
    return losses[:, -1].mean() + LANGUAGE_WEIGHT * losses[:, :-1].mean()


def _card(facts: dict[str, object], parameters: int) -> str:
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# rarefy IOI model

A GPT-2-shaped causal language model of one kind of sentence, {parameters:,} parameters, 3 layers
of width 64 with 4 heads, absolute positions, one token a word. It answers prompts such as "Then,
Carol and Eric met up at the hotel. Eric wanted to offer a letter to" with the name that is said
once (indirect object identification), and it is good for nothing else: rarefy ships it so that
dictionaries can be judged on a task whose answer is known.

| | |
|---|---|
| data | `rarefy.data.ioi`: {len(TEMPLATES)} templates of {LENGTH} words, {len(NAMES)} names, \
{len(OBJECTS)} objects, {len(PLACES)} places, drawn anew each step |
| steps | {facts["steps"]:,} of {BATCH} prompts, seed {facts["seed"]} |
| optimizer | AdamW, peak rate {PEAK_RATE}, clipped at 1 |
| loss | cross-entropy of the answer, and {LANGUAGE_WEIGHT} of that of the other words |
| accuracy | {facts["accuracy"]:.4f} of {TEST_PROMPTS:,} prompts drawn with another seed |
| hardware | {facts["hardware"]} |
| training time | {facts["training_seconds"]:,} s |

Trained by `python -m rarefy.models.train_ioi`.
"""


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    train(args.out, steps=args.steps, seed=args.seed)


if __name__ == "__main__":
    _main()
