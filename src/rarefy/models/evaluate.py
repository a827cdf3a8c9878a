"""How well a causal language model predicts token windows: loss, perplexity, bits per byte.

Every window's first token is given; the other l - 1 are predicted, each from those before it.

    NLL = - (1 / (n (l - 1))) sum_{i, t >= 2} log p(x_{i,t} | x_{i,<t}),   perplexity = exp(NLL)

Axis letters: n windows, l tokens a window, v vocabulary.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@torch.no_grad()
def token_losses(model: nn.Module, windows: Tensor, *, batch: int = 8) -> Tensor:
    """Compute the negative log-likelihood of every predicted token, in nats.

    Parameters
    ----------
    model : nn.Module
        A transformers causal language model, or any module whose call on ``input_ids`` returns
        an object with ``logits`` of shape (n, l, v). Its training mode is put back afterwards.
    windows : Tensor of int64, shape (n, l), l >= 2
    batch : int, default 8
        Windows per forward pass; changes memory, not the result.

    Returns
    -------
    Tensor of float32 on CPU, shape (n, l - 1)

    Raises
    ------
    ValueError
        If ``windows`` is not of that shape or holds no window.
    """
    if windows.ndim != 2 or windows.shape[0] < 1 or windows.shape[1] < 2:
        raise ValueError(
            f"windows must have shape (n >= 1, l >= 2), got {tuple(windows.shape)}: "
            "at least one window of two tokens is needed"
        )
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    losses = []
    try:
        for ids in windows.split(batch):
            ids = ids.to(device)
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none"
            )
            losses.append(loss.view(len(ids), -1).cpu())
    finally:
        model.train(training)
    return torch.cat(losses)


def perplexity(model: nn.Module, windows: Tensor, *, batch: int = 8) -> float:
    """Compute the exponential of the mean loss over all predicted tokens.

    Parameters and errors are those of :func:`token_losses`; ``inf`` where the mean loss overflows.
    """
    loss = token_losses(model, windows, batch=batch).double().mean().item()
    return math.exp(loss) if loss < 700 else math.inf


def bits_per_byte(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, windows: Tensor, *, batch: int = 8
) -> float:
    """Compute the loss in bits per UTF-8 byte of the predicted text.

    Comparable across tokenizers, unlike perplexity.

    Parameters
    ----------
    model, windows, batch
        As for :func:`token_losses`.
    tokenizer : transformers tokenizer
        A byte-level one: each token's length in its byte alphabet is its number of bytes. Special
        tokens count no bytes, though predicting them costs bits.
    """
    sizes = torch.tensor([len(t) for t in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))])
    sizes[tokenizer.all_special_ids] = 0
    losses = token_losses(model, windows, batch=batch).double()
    return losses.sum().item() / math.log(2) / sizes[windows[:, 1:]].sum().item()
