"""Character-level policies: a tokenizer of one token a character, and a small Llama for it.

The vocabulary is :data:`ALPHABET` and five special tokens, each its own: padding, beginning, end,
mask (for masked diffusion) and unknown. Padding is on the left, as generation wants it. Nothing is
added to a text, so prompts mean the same whether or not a trainer asks for special tokens; a
completion is ended with the end token by whoever trains on it.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

ALPHABET = string.digits + string.ascii_lowercase + "+-*/=<>.,;:#?~|_()[]! \n"
SPECIAL = ("<pad>", "<bos>", "<eos>", "<mask>", "<unk>")
CONTEXT = 512


def character_tokenizer(alphabet: str = ALPHABET) -> PreTrainedTokenizerFast:
    r"""Make a tokenizer of one token a character.

    Parameters
    ----------
    alphabet : str
        Its characters; any other becomes the unknown token.

    Raises
    ------
    ValueError
        If a character stands in the alphabet twice, or there is none.

    Examples
    --------
    >>> tokenizer = character_tokenizer()
    >>> ids = tokenizer("n3,5>8=")["input_ids"]
    >>> len(ids), tokenizer.decode(ids)
    (7, 'n3,5>8=')
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if not alphabet or len(set(alphabet)) < len(alphabet):
        raise ValueError(f"alphabet is {alphabet!r}; characters that differ are wanted")
    tokens = [*SPECIAL, *alphabet]
    tokenizer = Tokenizer(
        models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        mask_token="<mask>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def character_model(
    tokenizer: PreTrainedTokenizerFast, *, seed: int, hidden: int = 128, layers: int = 3
) -> LlamaForCausalLM:
    """Build an untrained Llama with heads of 32; 0.65 M parameters at the default size.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        Of :func:`character_tokenizer`.
    seed : int
        Of the initial weights; the global random state is left as it was.
    hidden : int, default 128
        Width, a multiple of 32.
    layers : int, default 3

    Raises
    ------
    ValueError
        If the width is no multiple of 32.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if hidden <= 0 or hidden % 32:
        raise ValueError(f"hidden is {hidden}; a multiple of 32, the width of a head, is wanted")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
