r"""A small judge of reasoning: a language model of sound reasoning, read as three scorers of pairs.

With p the judge's probability and all sums over the tokens of the text that is judged,

.. math::
    \text{coherence}(q, r) &= \sum_t \log p(r_t \mid q, r_{<t}) + H_t \\
    \text{follows}(q, r) &= \tfrac{1}{|r|} \log p(r \mid q) - \tfrac{1}{|r|} \log p(r \mid q') \\
    \text{entails}(r, a) &= \tfrac{1}{|a|} \log p(a \mid r) - \tfrac{1}{|a|} \log p(a)

The first is an outcome reward model whose scalar is implicit, as in DPO: trained by Bradley and
Terry's loss on experts' traces against traces that were spoilt, and never told an answer. Its
entropy term H forgives what is a choice (nobody can foresee which number a sound solution takes
first) and leaves what is a fault. The others are pointwise mutual information; q' is another
question of the batch.

Source: own design, in place of the reranker and the outcome reward model that DRM (arXiv
2510.11457) takes ready-made; card 19's scorers (b) and (c) in one model. Departures from the card:
no scalar head, since learning one takes some ten times the data. The weights shipped know this
project's countdown and permute and no other text; for that see :mod:`rarefy.rewards.scorers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rarefy.models.opening import SHIPPED

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MARK = "#"
"""What ends reasoning and begins an answer; it is judged with the reasoning."""

CHUNK_TOKENS = 6144
Pair = tuple[str, str]


class Judged(NamedTuple):
    """Sums over the tokens of the second text of each pair, shape (pairs,)."""

    logp: Tensor
    entropy: Tensor
    length: Tensor


class TraceJudge:
    """Three scorers of pairs of texts over one model.

    Each of :meth:`coherence`, :meth:`follows` and :meth:`entails` maps pairs to floats, as
    :class:`rarefy.rewards.Coherence` and :class:`rarefy.rewards.Relevance` want it.

    Parameters
    ----------
    model : transformers model
        A causal language model.
    tokenizer : transformers tokenizer
        Of one token a character, so that where a text ends is known in tokens.

    Examples
    --------
    >>> judge = TraceJudge.shipped()
    >>> sound, unsound = judge.coherence([("n3,5>8=", "3;+5.8"), ("n3,5>8=", "3;+5.9")])
    >>> sound > unsound
    True
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._last: dict[Pair, list[float]] = {}

    @classmethod
    def shipped(cls) -> TraceJudge:
        """Open the judge in the package."""
        return cls.open(SHIPPED / "trace-judge")

    @classmethod
    def open(cls, folder: Path) -> TraceJudge:
        """Open a judge as ``rarefy.policy.train_trace_judge`` saves it."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return cls(model.requires_grad_(False), AutoTokenizer.from_pretrained(folder))

    def coherence(self, pairs: Sequence[Pair]) -> list[float]:
        """How sound a reasoning is, of pairs (question, reasoning)."""
        judged = self._read([(question, text + MARK) for question, text in pairs])
        return (judged.logp + judged.entropy).tolist()

    def follows(self, pairs: Sequence[Pair]) -> list[float]:
        """How much the question tells of the reasoning, of pairs (question, reasoning).

        In a batch of one question the second term is left out.
        """
        judged = self._read([(question, text + MARK) for question, text in pairs])
        score = judged.logp / judged.length
        questions = list(dict.fromkeys(question for question, _ in pairs))
        if len(questions) > 1:
            other = dict(zip(questions, questions[1:] + questions[:1], strict=True))
            elsewhere = self._fresh([(other[question], text + MARK) for question, text in pairs])
            score = score - elsewhere.logp / elsewhere.length
        return score.tolist()

    def entails(self, pairs: Sequence[Pair]) -> list[float]:
        """How much the reasoning tells of the answer, of pairs (reasoning, answer)."""
        end = self.tokenizer.eos_token
        given = self._fresh([(text + MARK, answer + end) for text, answer in pairs])
        alone = self._fresh([(MARK, answer + end) for _, answer in pairs])
        return ((given.logp - alone.logp) / given.length).tolist()

    def by_step(self, question: str, text: str, *, sep: str = ";") -> list[float]:
        """Coherence of the steps of a reasoning: the judge as a process reward model."""
        ids, spans = encode_pairs(self.tokenizer, [(question, text + MARK)])
        with torch.no_grad():
            logps, entropies = token_logps(self.model, ids)
        per_token = (logps + entropies)[0][spans[0, 1:]].tolist()
        scores, running = [], 0.0
        for character, value in zip(text + MARK, per_token, strict=True):
            running += value
            if character in (sep, MARK):
                scores.append(running)
                running = 0.0
        return scores

    def _read(self, pairs: list[Pair]) -> Judged:
        # Coherence and follows read the same pairs one after the other.
        if not all(pair in self._last for pair in pairs):
            columns = torch.stack(self._fresh(pairs), dim=1).tolist()
            self._last = dict(zip(pairs, columns, strict=True))
        return Judged(*torch.tensor([self._last[pair] for pair in pairs]).unbind(1))

    @torch.no_grad()
    def _fresh(self, pairs: list[Pair]) -> Judged:
        """Read each distinct pair once; those of like length go together, against padding."""
        distinct = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
        texts = list(distinct)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i][0]) + len(texts[i][1]))
        found = torch.zeros(len(texts), 3)
        while order:
            width = len(texts[order[-1]][0]) + len(texts[order[-1]][1])
            some = order[-max(1, CHUNK_TOKENS // width) :]
            del order[-len(some) :]
            ids, spans = encode_pairs(self.tokenizer, [texts[i] for i in some])
            logps, entropies = token_logps(self.model, ids)
            mask = spans[:, 1:].to(logps)
            found[some] = torch.stack(
                [(logps * mask).sum(1), (entropies * mask).sum(1), mask.sum(1)], dim=1
            ).cpu()
        return Judged(*found[[distinct[pair] for pair in pairs]].unbind(1))


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair]
) -> tuple[Tensor, Tensor]:
    """Token ids (pairs, longest), padded on the right, and where the second text stands in them.

    A begin token goes before; it is there so that the first character has a probability too.
    """
    bos, width = [tokenizer.bos_token_id], 1
    rows = tokenizer(
        [context + text for context, text in pairs], add_special_tokens=False, padding=False
    )["input_ids"]
    contexts = tokenizer(
        [context for context, _ in pairs], add_special_tokens=False, padding=False
    )["input_ids"]
    width += max(map(len, rows))
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    spans = torch.zeros(ids.shape, dtype=torch.bool)
    for i, (row, context) in enumerate(zip(rows, contexts, strict=True)):
        ids[i, : 1 + len(row)] = torch.tensor(bos + row)
        spans[i, 1 + len(context) : 1 + len(row)] = True
    return ids, spans


def token_logps(model: PreTrainedModel, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of all tokens but the first, and entropies, (pairs, longest - 1)."""
    ids = ids.to(model.device)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    all_logps = logits.log_softmax(-1)
    entropies = -(all_logps.exp() * all_logps).sum(-1)
    return all_logps.gather(-1, ids[:, 1:, None])[..., 0], entropies
