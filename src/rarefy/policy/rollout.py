r"""Sample completions from a causal language model, and score them again with a gradient.

At each step, with logits z and temperature tau,

.. math:: p = \mathrm{softmax}(z / \tau), \qquad o_t \sim p, \qquad
    \log \pi_\mathrm{old}(o_t) = \log p_{o_t}, \qquad H_t = -\sum_v p_v \log p_v

so the log-probabilities of the policy that sampled come for nothing with the sampling. The prompts
stand padded on the left, with position ids counted from their masks, and padding changes nothing.
Each prompt is read once however many completions it gets, and rows that have ended leave the batch
when they are half of it.

Source: card 00 of this project's notes; sampling as in Hugging Face's ``generate``. Departures
from that: the completions of a prompt share its key-value cache from the first token on, and
sampling takes an explicit generator.

Axes: B completions, P prompt tokens, T completion tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Rollout:
    """Prompts and sampled completions; the completions of a prompt stand side by side."""

    prompt_ids: Tensor
    """(B, P), padded on the left."""
    prompt_mask: Tensor
    """(B, P), bool."""
    completion_ids: Tensor
    """(B, T), padded on the right."""
    completion_mask: Tensor
    """(B, T), bool: up to and with the token that ends the completion."""
    logps: Tensor
    """(B, T), of the sampled tokens under the policy that sampled them; zero outside the mask."""
    entropies: Tensor
    """(B, T), of the distributions they were sampled from, in nats; zero outside the mask."""
    terminated: Tensor
    """(B,), bool: ended by itself rather than at the length limit."""

    def __len__(self) -> int:
        """Number of completions."""
        return len(self.prompt_ids)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each completion, the one that ends it included, shape (B,)."""
        return self.completion_mask.sum(1)

    def completions(self) -> list[list[int]]:
        """Token ids of each completion, without padding."""
        lengths = self.lengths.tolist()
        rows = self.completion_ids.tolist()
        return [row[:length] for row, length in zip(rows, lengths, strict=True)]

    def text(self, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """Completions as text, without special tokens."""
        return tokenizer.batch_decode(self.completions(), skip_special_tokens=True)

    def select(self, rows: Tensor) -> Rollout:
        """Some of the completions, by index or by bool."""
        return Rollout(*(getattr(self, field.name)[rows] for field in fields(self)))


def concatenate(rollouts: Sequence[Rollout]) -> Rollout:
    """Rollouts one below the other, padded to the widest.

    Parameters
    ----------
    rollouts : sequence of Rollout
        At least one.

    Returns
    -------
    Rollout
        Padding that is added has token id 0.
    """
    prompt_width = max(rollout.prompt_ids.shape[1] for rollout in rollouts)
    width = max(rollout.completion_ids.shape[1] for rollout in rollouts)

    def column(name: str) -> Tensor:
        parts = [getattr(rollout, name) for rollout in rollouts]
        if name.startswith("prompt"):
            parts = [pad(part, (prompt_width - part.shape[1], 0)) for part in parts]
        elif name != "terminated":
            parts = [pad(part, (0, width - part.shape[1])) for part in parts]
        return torch.cat(parts)

    return Rollout(*(column(field.name) for field in fields(Rollout)))


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    n_completions: int = 1,
    temperature: float = 1.0,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
    generator: torch.Generator | None = None,
) -> Rollout:
    """Sample completions of prompts.

    Parameters
    ----------
    model : transformers model
        A causal language model; it runs in evaluation mode, and its mode is put back.
    prompts : sequence of sequences of int
        Token ids without padding, special tokens included where the model needs them.
    max_new_tokens : int
        Length limit of a completion.
    n_completions : int, default 1
        Of each prompt.
    temperature : float, default 1
        0 takes the likeliest token; log-probabilities and entropies are those of temperature 1
        then.
    eos_token_id : int or sequence of int, optional
        What ends a completion; default what the model's generation config says, nothing where it
        says nothing.
    pad_token_id : int, optional
        Default what the generation config says, else the first ``eos_token_id``, else 0. It may
        well be the one that ends a completion: what counts is in the masks.
    generator : torch.Generator, optional
        On the model's device; needed unless ``temperature`` is 0.

    Returns
    -------
    Rollout
        Of ``len(prompts) * n_completions`` completions; T is the longest of them.

    Raises
    ------
    ValueError
        Where a prompt is empty or does not fit the model's context with its completion, or where
        an argument is out of range.
    """
    settings = model.generation_config
    eos = _ids(settings.eos_token_id if eos_token_id is None else eos_token_id)
    padding = settings.pad_token_id if pad_token_id is None else pad_token_id
    if padding is None:
        padding = eos[0] if eos else 0
    return sample(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        n_completions=n_completions,
        temperature=temperature,
        eos=eos,
        padding=padding,
        generator=generator,
    )[0]


class Writer(Protocol):
    """Something beside the policy that writes into completions, such as tools that answer."""

    def write(self, token: Tensor, rows: Tensor) -> Tensor:
        """Put tokens in place of sampled ones, in place.

        Parameters
        ----------
        token : int64 Tensor, shape (b,)
            What was sampled, for the rows still in the batch.
        rows : int64 Tensor, shape (b,)
            Which completions those are.

        Returns
        -------
        bool Tensor, shape (b,)
            Which of them are the policy's own.
        """

    def read(self, ids: Tensor, rows: Tensor, t: int, own: Tensor) -> None:
        """See what is written, (B, T), up to and with place t; ``own`` is of the running rows."""


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    n_completions: int,
    temperature: float,
    eos: Sequence[int],
    padding: int,
    generator: torch.Generator | None,
    writer: Writer | None = None,
) -> tuple[Rollout, Tensor]:
    """What :func:`generate` and rollouts with tools have in common, with its errors.

    Returns
    -------
    rollout : Rollout
    own : bool Tensor, shape (B, T)
        Tokens that the policy sampled; all that count, without a writer. Only these end a
        completion, and only these have entropies.
    """
    _check(model, prompts, max_new_tokens, n_completions, temperature, generator)
    prompt_ids, prompt_mask = left_pad(prompts, pad_token_id=padding, device=model.device)
    training = model.training
    model.eval()
    try:
        *sampled, own = _sample(
            model,
            prompt_ids,
            prompt_mask,
            n_completions=n_completions,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            eos=torch.tensor(eos, dtype=torch.long, device=model.device),
            padding=padding,
            generator=generator,
            writer=writer,
        )
    finally:
        model.train(training)
    rollout = Rollout(
        prompt_ids.repeat_interleave(n_completions, dim=0),
        prompt_mask.repeat_interleave(n_completions, dim=0),
        *sampled,
    )
    return rollout, own


class Scores(NamedTuple):
    """Of each token of a rollout's completions, shape (B, T); zero outside the mask."""

    logps: Tensor
    entropies: Tensor


def score(model: PreTrainedModel, rollout: Rollout, *, temperature: float = 1.0) -> Scores:
    """Log-probabilities and entropies of completions under a model, in one pass with a gradient.

    Parameters
    ----------
    model : transformers model
    rollout : Rollout
    temperature : float, default 1
        That of the sampling, so that old and new log-probabilities are of the same distribution.

    Returns
    -------
    Scores
    """
    width = rollout.completion_ids.shape[1]
    mask = torch.cat([rollout.prompt_mask, rollout.completion_mask], dim=1)
    logits = model(
        input_ids=torch.cat([rollout.prompt_ids, rollout.completion_ids], dim=1),
        attention_mask=mask,
        position_ids=_positions(mask),
        use_cache=False,
        logits_to_keep=width + 1,
    ).logits[:, :-1]
    logps = _log_softmax(logits, temperature)
    outside = ~rollout.completion_mask
    chosen = logps.gather(-1, rollout.completion_ids[..., None])[..., 0]
    return Scores(
        chosen.masked_fill(outside, 0.0), _entropy(logps.exp(), logps).masked_fill(outside, 0.0)
    )


def left_pad(
    prompts: Sequence[Sequence[int]], *, pad_token_id: int, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """Token ids as one tensor, with the padding on the left, and the mask of what is no padding.

    Parameters
    ----------
    prompts : sequence of sequences of int
    pad_token_id : int
    device : torch.device, optional

    Returns
    -------
    ids : int64 Tensor, shape (len(prompts), P)
    mask : bool Tensor, the same shape

    Examples
    --------
    >>> left_pad([[5], [6, 7]], pad_token_id=0)[0]
    tensor([[0, 5],
            [6, 7]])
    """
    width = max(len(prompt) for prompt in prompts)
    ids = [[pad_token_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[False] * (width - len(prompt)) + [True] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _sample(
    model: PreTrainedModel,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    *,
    n_completions: int,
    max_new_tokens: int,
    temperature: float,
    eos: Tensor,
    padding: int,
    generator: torch.Generator | None,
    writer: Writer | None,
) -> tuple[Tensor, ...]:
    """Completion ids, their mask, logps, entropies, which ended by themselves, own tokens."""
    n_rows, device = len(prompt_ids) * n_completions, prompt_ids.device
    out = model(
        input_ids=prompt_ids,
        attention_mask=prompt_mask,
        position_ids=_positions(prompt_mask),
        use_cache=True,
        logits_to_keep=1,
    )
    cache = out.past_key_values
    cache.batch_repeat_interleave(n_completions)
    logits = out.logits[:, -1].repeat_interleave(n_completions, dim=0)
    attend = prompt_mask.repeat_interleave(n_completions, dim=0)
    attend = pad(attend, (0, max_new_tokens), value=True)
    position = prompt_mask.sum(1).repeat_interleave(n_completions)
    ids = torch.full((n_rows, max_new_tokens), padding, device=device)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    own = torch.zeros_like(mask)
    logps = torch.zeros_like(ids, dtype=torch.promote_types(logits.dtype, torch.float32))
    entropies = torch.zeros_like(logps)
    rows = torch.arange(n_rows, device=device)  # of the output, for those still in the batch
    running = torch.ones(n_rows, dtype=torch.bool, device=device)

    for t in range(max_new_tokens):
        log_p = _log_softmax(logits, temperature)
        p = log_p.exp()
        if temperature == 0:
            token = p.argmax(-1)
        else:
            token = torch.multinomial(p, 1, generator=generator)[:, 0]
        sampled = torch.ones_like(running) if writer is None else writer.write(token, rows)
        ids[rows, t] = token
        mask[rows, t] = running
        own[rows, t] = running & sampled
        logps[rows, t] = log_p.gather(-1, token[:, None])[:, 0]
        entropies[rows, t] = _entropy(p, log_p) * sampled
        if writer is not None:
            writer.read(ids, rows, t, running & sampled)
        running = running & ~(sampled & torch.isin(token, eos))
        n_running = int(running.sum())
        if not n_running or t + 1 == max_new_tokens:
            break
        # Copying the cache costs about a step, so rows leave by halves and not one by one.
        if 2 * n_running <= len(rows):
            kept = running.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            rows, token, attend, position = rows[kept], token[kept], attend[kept], position[kept]
            running = running[kept]
        logits = model(
            input_ids=token[:, None],
            attention_mask=attend[:, : prompt_ids.shape[1] + t + 1],
            position_ids=(position + t)[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]

    terminated = mask.new_ones(n_rows)
    terminated[rows[running]] = False
    ids.masked_fill_(~mask, padding)
    logps.masked_fill_(~mask, 0.0)
    entropies.masked_fill_(~mask, 0.0)
    width = int(mask.sum(1).max())
    columns = (tensor[:, :width] for tensor in (ids, mask, logps, entropies))
    return *columns, terminated, own[:, :width]


def _positions(mask: Tensor) -> Tensor:
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    """In float32 at least; greedy sampling has the log-probabilities of temperature 1."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (wide / (temperature or 1.0)).log_softmax(-1)


def _entropy(p: Tensor, log_p: Tensor) -> Tensor:
    # A log-probability of minus infinity (a forbidden token) adds nothing.
    return -(p * log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum(-1)


def _ids(eos: int | Sequence[int] | None) -> list[int]:
    if eos is None:
        return []
    return [eos] if isinstance(eos, int) else list(eos)


def _check(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    n_completions: int,
    temperature: float,
    generator: torch.Generator | None,
) -> None:
    if not len(prompts):
        raise ValueError("prompts is empty: there is nothing to complete")
    empty = [row for row, prompt in enumerate(prompts) if not len(prompt)]
    if empty:
        raise ValueError(
            f"prompt {empty[0]} has no tokens; start it with the tokenizer's bos token"
        )
    if max_new_tokens < 1 or n_completions < 1:
        raise ValueError(
            "max_new_tokens and n_completions must be at least 1, got "
            f"{max_new_tokens} and {n_completions}"
        )
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}, expected 0 (the likeliest token) or more")
    if temperature > 0 and generator is None:
        raise ValueError(
            "sampling needs a generator: pass torch.Generator(device).manual_seed(seed), or "
            "temperature=0 for the likeliest tokens"
        )
    context = getattr(model.config, "max_position_embeddings", None)
    longest = max(range(len(prompts)), key=lambda row: len(prompts[row]))
    if context is not None and len(prompts[longest]) + max_new_tokens > context:
        raise ValueError(
            f"prompt {longest} has {len(prompts[longest])} tokens, which with max_new_tokens = "
            f"{max_new_tokens} does not fit the model's context of {context}; shorten the prompt "
            "or the completions"
        )
