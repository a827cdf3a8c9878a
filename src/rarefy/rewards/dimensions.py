r"""A reward for the reasoning itself, in dimensions: confidence, relevance, coherence.

With R the tokens of the reasoning, A those of the answer, Q the question and D documents,

.. math::
    s_\text{conf} &= \tfrac{1}{|R|} \sum_{t \in R} \log p_t + \sum_{t \in A} \log p_t \\
    s_\text{rel} &= \mathrm{mean}\{f(Q, R),\ f(R, A),\ \max_d f(d, R)\} \\
    s_\text{coh} &= \mathrm{ORM}(Q, D, R) \\
    R_\text{DRM} &= \sum_d \lambda_d z_d, \qquad z_d = (s_d - \bar s_d) / (\sigma_d + 10^{-6})

No verdict on the answer and no splitting into steps is needed.

Source: DRM (arXiv 2510.11457, sections on the three dimensions and their combination), by its
review: the standardisation within groups is a reconstruction. Departures: where a dimension is not
defined (no answer is set off, or there is no reasoning) it is the least of the group; where it is
constant, z = 0; of the standard deviation, over n - 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rarefy.rewards.functions import completion_text
from rarefy.rewards.reasoning import Parts, Separator, TokenSpans, split_reasoning, token_spans
from rarefy.rewards.scorers import Scorer, scored

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Normalize = Literal["group", "running", "none"]
Relation = Literal["QR", "RA", "DR"]
Floats = NDArray[np.float64]
EPS = 1e-6


@dataclass(frozen=True)
class Reasoned:
    """Completions as dimensions see them, a row each."""

    prompts: list[str]
    parts: list[Parts]
    documents: list[list[str]]
    """Passages for each row, none where there are none."""
    logps: list[Floats] | None = None
    """Of the completion's tokens under the policy that sampled them."""
    spans: list[TokenSpans] | None = None


class Dimension(Protocol):
    """One way to score reasoning."""

    @property
    def name(self) -> str:
        """What scores and logs call it."""

    def __call__(self, rows: Reasoned) -> Floats:
        """Score each row; NaN where the dimension is not defined."""


@dataclass(frozen=True)
class Confidence:
    """How sure the policy was of what it wrote: mean over the reasoning plus sum over the answer.

    Parameters
    ----------
    reasoning : {"mean", "sum"}, default "mean"
    answer : {"sum", "mean"}, default "sum"
        The paper's sum makes long answers cost more; take the mean where answers that are equally
        right differ in length.
    """

    reasoning: Literal["mean", "sum"] = "mean"
    answer: Literal["mean", "sum"] = "sum"
    name: str = "confidence"

    def __post_init__(self) -> None:
        for part in (self.reasoning, self.answer):
            if part not in ("mean", "sum"):
                raise ValueError(
                    f'Confidence adds log-probabilities by "mean" or "sum", not {part!r}'
                )

    def __call__(self, rows: Reasoned) -> Floats:
        """Score each row.

        Raises
        ------
        ValueError
            Without the log-probabilities, or where their number is not that of the tokens.
        """
        if rows.logps is None or rows.spans is None:
            raise ValueError(
                "Confidence needs the log-probabilities of the sampled tokens: pass logps=, and "
                "with it spans= or a tokenizer for the reward"
            )
        scores = np.full(len(rows.parts), np.nan)
        for i, (logps, (reasoning, answer)) in enumerate(zip(rows.logps, rows.spans, strict=True)):
            if len(logps) != answer[1]:
                raise ValueError(
                    f"row {i} has {len(logps)} log-probabilities for the {answer[1]} tokens of its "
                    "completion"
                )
            thought, told = logps[slice(*reasoning)], logps[slice(*answer)]
            if len(thought) and len(told):
                scores[i] = _added(thought, self.reasoning) + _added(told, self.answer)
        return scores


@dataclass(frozen=True)
class Relevance:
    """How the reasoning goes with the question, the answer, and documents.

    Parameters
    ----------
    scorer : Scorer, or mapping of relation to Scorer
        Of pairs (question, reasoning), (reasoning, answer), (document, reasoning). The scores of
        different relations are averaged, so they are to be of one scale.
    pairs : tuple of {"QR", "RA", "DR"}, default all three
        Relations that count. "DR" is left out in rows without documents, and is the best of them in
        rows with several.
    """

    scorer: Scorer | Mapping[Relation, Scorer]
    pairs: tuple[Relation, ...] = ("QR", "RA", "DR")
    name: str = "relevance"

    def __post_init__(self) -> None:
        if not self.pairs or not set(self.pairs) <= {"QR", "RA", "DR"}:
            raise ValueError(f"pairs is {self.pairs!r}; some of 'QR', 'RA' and 'DR' are wanted")
        if isinstance(self.scorer, Mapping) and not set(self.pairs) - {"DR"} <= set(self.scorer):
            raise ValueError(
                f"scorer has {sorted(self.scorer)}; one for each of {', '.join(self.pairs)} is "
                "wanted"
            )

    def __call__(self, rows: Reasoned) -> Floats:
        """Score each row."""
        scores = np.full((len(self.pairs), len(rows.parts)), np.nan)
        for column, relation in zip(scores, self.pairs, strict=True):
            places, pairs = self._pairs(relation, rows)
            if pairs:
                column[:] = -np.inf
                found = scored(self._scorer(relation), pairs, name=f"{self.name} {relation}")
                np.maximum.at(column, places, found)
                column[np.isneginf(column)] = np.nan
        known = ~np.isnan(scores)
        mean = np.where(known, scores, 0.0).sum(0) / np.maximum(known.sum(0), 1)
        undefined = [
            not part.has_reasoning or ("RA" in self.pairs and not part.has_answer)
            for part in rows.parts
        ]
        return np.where(undefined | ~known.any(0), np.nan, mean)

    def _pairs(self, relation: Relation, rows: Reasoned) -> tuple[list[int], list[tuple[str, str]]]:
        """Rows and their pairs of texts; with several documents a row comes several times."""
        found = []
        for i, (prompt, part) in enumerate(zip(rows.prompts, rows.parts, strict=True)):
            if not part.has_reasoning or (relation == "RA" and not part.has_answer):
                continue
            if relation == "QR":
                found.append((i, (prompt, part.reasoning)))
            elif relation == "RA":
                found.append((i, (part.reasoning, part.answer)))
            else:
                found += [(i, (document, part.reasoning)) for document in rows.documents[i]]
        return [i for i, _ in found], [pair for _, pair in found]

    def _scorer(self, relation: Relation) -> Scorer:
        if not isinstance(self.scorer, Mapping):
            return self.scorer
        if relation not in self.scorer:
            raise ValueError(f"there are documents, but scorer has none for {relation!r}")
        return self.scorer[relation]


@dataclass(frozen=True)
class Coherence:
    """What an outcome reward model thinks of the reasoning as text.

    Parameters
    ----------
    scorer : Scorer
        Of pairs (documents and question, reasoning).
    with_answer : bool, default False
        Show it the answer too, behind a line break.
    """

    scorer: Scorer
    with_answer: bool = False
    name: str = "coherence"

    def __call__(self, rows: Reasoned) -> Floats:
        """Score each row."""
        there = [i for i, part in enumerate(rows.parts) if part.has_reasoning]
        pairs = []
        for i in there:
            part = rows.parts[i]
            text = f"{part.reasoning}\n{part.answer}" if self.with_answer else part.reasoning
            pairs.append(("\n".join([*rows.documents[i], rows.prompts[i]]), text))
        scores = np.full(len(rows.parts), np.nan)
        if pairs:
            scores[there] = scored(self.scorer, pairs, name=self.name)
        return scores


class DimensionReward:
    """A reward function out of dimensions, with TRL's signature.

    Parameters
    ----------
    dimensions : sequence of Dimension
    weights : mapping of name to float, optional
        Scaled to add up to 1; equal by default. See :func:`rarefy.rewards.grid_search_weights`.
    normalize : {"group", "running", "none"}, default "group"
        Standardise each dimension over the completions of a prompt, over all that it has seen so
        far, or not at all.
    group_size : int, optional
        Completions of a prompt, side by side; rows of equal prompts are a group by default.
    sep : str or (str, str), default "#"
        See :func:`rarefy.rewards.split_reasoning`.
    tokenizer : transformers tokenizer, optional
        Finds out which tokens are reasoning and which are answer; needed for :class:`Confidence`
        unless ``spans`` come with each call.

    Attributes
    ----------
    scores, standardised : dict of str to array, shape (B,)
        Of each dimension at the last call, before and after standardisation.
    flags : list of str
        Of the completions of the last call, see :class:`rarefy.rewards.Parts`.

    Examples
    --------
    >>> def longer_is_better(pairs):
    ...     return [len(text) for _, text in pairs]
    >>> reward = DimensionReward([Coherence(longer_is_better)])
    >>> reward(["1+2=", "1+2="], ["1;+2.3#3", "?#3"])  # doctest: +ELLIPSIS
    [0.707..., -0.707...]
    """

    def __init__(
        self,
        dimensions: Sequence[Dimension],
        *,
        weights: Mapping[str, float] | None = None,
        normalize: Normalize = "group",
        group_size: int | None = None,
        sep: Separator = "#",
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        names = [dimension.name for dimension in dimensions]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"dimensions are {names}; at least one, each named once, is wanted")
        if normalize not in ("group", "running", "none"):
            raise ValueError(f"normalize is {normalize!r}; 'group', 'running' or 'none' is wanted")
        if group_size is not None and group_size < 1:
            raise ValueError(f"group_size is {group_size}; at least 1 is wanted")
        self.dimensions = list(dimensions)
        self.weights = _simplex(weights, names)
        self.normalize = normalize
        self.group_size = group_size
        self.sep: Separator = sep
        self.tokenizer = tokenizer
        self.scores: dict[str, Floats] = {}
        self.standardised: dict[str, Floats] = {}
        self.flags: list[str] = []
        self._seen = {name: (0, 0.0, 0.0) for name in names}
        self._pieces: dict[int, str] = {}

    @property
    def __name__(self) -> str:
        """The name that trainers log the reward under."""
        return "+".join(dimension.name for dimension in self.dimensions)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        *,
        logps: Sequence[Sequence[float]] | None = None,
        spans: Sequence[TokenSpans] | None = None,
        documents: Sequence[str | Sequence[str] | None] | None = None,
        **columns: Any,
    ) -> list[float]:
        """Score each row of the batch.

        Parameters
        ----------
        prompts, completions, completion_ids
            As TRL hands them.
        logps : sequence of sequences of float, optional
            Log-probabilities of each completion's tokens, under the policy that sampled them.
        spans : sequence of TokenSpans, optional
            Which tokens are reasoning and which answer.
        documents : sequence, optional
            A passage, several or None for each row.

        Raises
        ------
        ValueError
            If lists differ in length, or a scorer returns what is no number for each pair.
        """
        given = {"completions": completions, "completion_ids": completion_ids, "logps": logps}
        for name, values in (given | {"spans": spans, "documents": documents}).items():
            if values is not None and len(values) != len(prompts):
                raise ValueError(f"{name} has {len(values)} rows; there are {len(prompts)} prompts")
        parts = [split_reasoning(completion_text(text), self.sep) for text in completions]
        if logps is not None and spans is None:
            spans = self._spans(completion_ids, parts)
        rows = Reasoned(
            [completion_text(prompt) for prompt in prompts],
            parts,
            [_passages(row) for row in documents or [None] * len(parts)],
            None if logps is None else [np.asarray(row, dtype=np.float64) for row in logps],
            None if spans is None else list(spans),
        )
        self.flags = [part.flag for part in parts]
        groups = self._groups(rows.prompts)
        total = np.zeros(len(parts))
        for dimension in self.dimensions:
            name = dimension.name
            raw = fill_undefined(dimension(rows), groups)
            self.scores[name] = raw
            self.standardised[name] = self._standardised(name, raw, groups)
            total += self.weights[name] * self.standardised[name]
        if callable(log := columns.get("log_metric")):
            for name, raw in self.scores.items():
                log(f"drm/{name}", float(raw.mean()) if len(raw) else 0.0)
        return total.tolist()

    def state_dict(self) -> dict[str, Any]:
        """What running standardisation has seen."""
        return {"seen": {name: list(seen) for name, seen in self._seen.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""
        self._seen = {name: tuple(seen) for name, seen in state["seen"].items()}

    def _standardised(self, name: str, raw: Floats, groups: NDArray[np.int64]) -> Floats:
        if self.normalize == "none":
            return raw
        if self.normalize == "group":
            return standardise(raw, groups)
        n, mean, squares = self._seen[name]
        for value in raw.tolist():
            n += 1
            off = value - mean
            mean += off / n
            squares += off * (value - mean)
        self._seen[name] = n, mean, squares
        return (raw - mean) / (np.sqrt(squares / max(n - 1, 1)) + EPS)

    def _groups(self, prompts: list[str]) -> NDArray[np.int64]:
        if self.group_size is None:
            numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
            return np.array([numbers[prompt] for prompt in prompts], dtype=np.int64)
        if len(prompts) % self.group_size:
            raise ValueError(
                f"there are {len(prompts)} rows; a multiple of group_size = {self.group_size} is "
                "wanted"
            )
        return np.arange(len(prompts)) // self.group_size

    def _spans(
        self, completion_ids: Sequence[Sequence[int]] | None, parts: list[Parts]
    ) -> list[TokenSpans] | None:
        if completion_ids is None or self.tokenizer is None:
            return None
        for token in {token for row in completion_ids for token in row} - set(self._pieces):
            self._pieces[token] = self.tokenizer.decode([token], skip_special_tokens=True)
        return [
            token_spans([self._pieces[token] for token in row], part)
            for row, part in zip(completion_ids, parts, strict=True)
        ]


def standardise(scores: Floats, groups: NDArray[np.int64]) -> Floats:
    """Scores less their group's mean, over its standard deviation; 0 in groups that are constant.

    Parameters
    ----------
    scores : array, shape (B,)
    groups : array of int, shape (B,)
        Which group each belongs to, from 0 on.

    Examples
    --------
    >>> standardise(np.array([1.0, 3.0, 5.0, 5.0]), np.array([0, 0, 1, 1])).round(3).tolist()
    [-0.707, 0.707, 0.0, 0.0]
    """
    if not len(scores):
        return scores
    count = np.bincount(groups)
    centred = scores - (np.bincount(groups, scores) / np.maximum(count, 1))[groups]
    variance = np.bincount(groups, centred**2) / np.maximum(count - 1, 1)
    least, most = np.full(len(count), np.inf), np.full(len(count), -np.inf)
    np.minimum.at(least, groups, scores)
    np.maximum.at(most, groups, scores)
    # Rounding moves a mean of equal numbers; such groups are to say nothing at all.
    return np.where((least == most)[groups], 0.0, centred / (np.sqrt(variance)[groups] + EPS))


def fill_undefined(scores: Floats, groups: NDArray[np.int64]) -> Floats:
    """Scores with the least of the group in place of NaN, 0 where a group has none."""
    undefined = np.isnan(scores)
    if not undefined.any():
        return scores
    least = np.full(int(groups.max()) + 1, np.inf)
    np.minimum.at(least, groups[~undefined], scores[~undefined])
    least[np.isinf(least)] = 0.0
    return np.where(undefined, least[groups], scores)


def _added(logps: Floats, how: str) -> float:
    return float(logps.mean() if how == "mean" else logps.sum())


def _passages(documents: str | Sequence[str] | None) -> list[str]:
    if documents is None:
        return []
    return [documents] if isinstance(documents, str) else list(documents)


def _simplex(weights: Mapping[str, float] | None, names: list[str]) -> dict[str, float]:
    if weights is None:
        return dict.fromkeys(names, 1 / len(names))
    if set(weights) != set(names) or min(weights.values()) < 0 or not sum(weights.values()) > 0:
        raise ValueError(
            f"weights is {dict(weights)!r}; a number of at least 0 for each of "
            f"{', '.join(names)}, and one above 0, are wanted"
        )
    total = sum(weights.values())
    return {name: weights[name] / total for name in names}
