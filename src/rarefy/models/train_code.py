"""Train the shipped code model: a small Llama on the standard library's training modules.

    python -m rarefy.models.train_code --out runs/code --steps 4000

Byte-level BPE of 2,048 tokens, width 256, 4 layers, 8 heads of 32, SwiGLU width 448, RoPE, tied
embeddings, context 1,024: 2.95 M parameters. AdamW (betas 0.9 and 0.95, weight decay 0.1 on
matrices), linear warm-up, constant rate, then linear decay to zero over the last fifth, so that a
run can be lengthened before its decay begins. Each epoch visits every 1,024-token window of the
shuffled stream once, at a fresh offset, so the data order is a function of the step alone.

A killed run goes on from its last checkpoint when started again with the same ``--out``. The
finished folder holds config, safetensors, tokenizer and a model card (README.md).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import platform
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rarefy.data import HELD_OUT, encode, modules, windows
from rarefy.models._checkpoint import load_checkpoint, save_checkpoint
from rarefy.models.evaluate import bits_per_byte

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 1024
VOCABULARY = 2048
BATCH = 8
PEAK_RATE = 3e-3
WARM_UP = 200
DECAY = 0.2
CHECKPOINT_EVERY = 100
EVALUATE_EVERY = 500

_log = logging.getLogger("rarefy.models.train_code")


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE: every byte string encodes, and decodes to itself.

    The pre-tokenizer keeps words with one leading space, digits one by one, runs of punctuation,
    and a newline with the indentation behind it together, which is what Python is made of.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    pattern = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*\n[ \t]*|\s+"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<|endoftext|>", "<|pad|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def new_model(*, seed: int) -> LlamaForCausalLM:
    """Build the untrained model; the seed is scoped, the global random state is left as it was."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def learning_rate(step: int, steps: int) -> float:
    """Warm-up, constant, linear decay to zero over the last :data:`DECAY` of the steps."""
    return PEAK_RATE * min(1.0, (step + 1) / WARM_UP, (steps - step) / (DECAY * steps))


def batch_at(tokens: Tensor, step: int, *, seed: int) -> Tensor:
    """Return the windows of one step, shape (BATCH, CONTEXT): a function of the step alone."""
    per_epoch = (len(tokens) // CONTEXT - 1) // BATCH
    epoch, position = divmod(step, per_epoch)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    shift = int(torch.randint(CONTEXT, (1,), generator=generator))
    order = torch.randperm(per_epoch * BATCH, generator=generator)
    starts = shift + CONTEXT * order[position * BATCH : (position + 1) * BATCH, None]
    return tokens[starts + torch.arange(CONTEXT)]


def train(out: Path, *, steps: int, seed: int = 0, device: str = "cpu") -> None:
    """Train, checkpoint and finish the model in ``out``; goes on from a checkpoint found there."""
    out.mkdir(parents=True, exist_ok=True)
    texts = [module.read() for module in modules("train")]
    random.Random(seed).shuffle(texts)
    tokenizer = _cached_tokenizer(out, texts)
    tokens = _cached_tokens(out, tokenizer, texts)
    held_out_text = [module.read() for module in modules("heldout", tests=False)]
    held_out = windows(encode(tokenizer, held_out_text), CONTEXT)
    probe = held_out[:: max(1, len(held_out) // 48)]
    model = new_model(seed=seed).to(device)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=PEAK_RATE,
        betas=(0.9, 0.95),
        fused=True,
    )
    done, seconds = load_checkpoint(out / "checkpoint.pt", model, optimizer)
    _log.info("%d tokens, %d parameters, from step %d", len(tokens), model.num_parameters(), done)
    for step in range(done, steps):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        batch = batch_at(tokens, step, seed=seed).to(device)
        with torch.autocast(device, torch.bfloat16):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds += time.perf_counter() - began
        if (step + 1) % 20 == 0:
            _log.info("step %d loss %.4f seconds %.0f", step + 1, loss.item(), seconds)
        if (step + 1) % EVALUATE_EVERY == 0:
            _log.info("step %d held-out %.4f", step + 1, bits_per_byte(model, tokenizer, probe))
        if (step + 1) % CHECKPOINT_EVERY == 0:
            save_checkpoint(out / "checkpoint.pt", model, optimizer, step + 1, seconds)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    facts = {
        "steps": steps,
        "tokens": steps * BATCH * CONTEXT,
        "epochs": steps * BATCH * CONTEXT / len(tokens),
        "held_out_bits_per_byte": bits_per_byte(model, tokenizer, held_out),
        "held_out_tokens": held_out.numel(),
        "training_seconds": round(seconds),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, {device}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    (out / "model" / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    (out / "model" / "README.md").write_text(_card(facts, model.num_parameters()))
    _log.info("%s", facts)


def _cached_tokenizer(out: Path, texts: list[str]) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    folder = out / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        train_tokenizer(texts).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def _cached_tokens(out: Path, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    from safetensors.torch import load_file, save_file

    path = out / "tokens.safetensors"
    if not path.exists():
        save_file({"tokens": encode(tokenizer, texts)}, path)
    return load_file(path)["tokens"]


def _card(facts: dict[str, object], parameters: int) -> str:
    bits = facts["held_out_bits_per_byte"]
    assert isinstance(bits, float)
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# rarefy code model

A Llama-architecture causal language model of Python source, {parameters:,} parameters, context
{CONTEXT:,}, byte-level BPE of {VOCABULARY:,} tokens. rarefy ships it so that every recipe runs
offline on a real, trained model; it is far too small to write useful code.

| | |
|---|---|
| data | the standard library of Python {facts["python"]}, tests included, without its tables |
| held out | {", ".join(HELD_OUT)}, with their tests |
| steps | {facts["steps"]:,} of {BATCH * CONTEXT:,} tokens ({facts["epochs"]:.2f} epochs) |
| optimizer | AdamW, peak rate {PEAK_RATE}, betas 0.9 and 0.95, weight decay 0.1, bf16 autocast |
| held-out loss | {bits:.4f} bits per byte ({bits * math.log(2):.4f} nats) |
| hardware | {facts["hardware"]} |
| training time | {facts["training_seconds"]:,} s |

Held-out loss is over {facts["held_out_tokens"]:,} tokens of the held-out modules' source, without
their tests, in windows of {CONTEXT:,} tokens that do not overlap. Trained by
`python -m rarefy.models.train_code`.
"""


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=4000, help="optimizer steps in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    train(args.out, steps=args.steps, seed=args.seed, device=args.device)


if __name__ == "__main__":
    _main()
