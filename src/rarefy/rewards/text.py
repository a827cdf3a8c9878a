r"""How near a text is to a reference: exact match, F1, and a BLEU that fits short answers.

Plain BLEU-4 is zero for every answer under four words. The length-aware one takes as many orders
as the reference has words:

.. math:: N = \max(1, \min(4, |r|)), \qquad
    \mathrm{BLEU}_N = \min(1, e^{1 - |r| / |h|}) \Bigl(\prod_{n \le N} p_n\Bigr)^{1 / N}

with p_n the clipped n-gram precision, a zero for n > 1 being replaced by epsilon over the number of
n-grams. Words are those that remain after lower-casing and after punctuation and articles are
dropped, as for SQuAD. Of several references the best counts.

Sources: PRS (arXiv 2512.07478), BLEU (Papineni et al. 2002), smoothing 1 of Chen and Cherry 2014,
normalisation and F1 of SQuAD (Rajpurkar et al. 2016). Departures: the paper does not print its
length-aware BLEU; this is a reconstruction. For references of four words or more it is BLEU-4.
"""

from __future__ import annotations

import math
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rarefy.rewards.functions import completion_text

ARTICLES = frozenset({"a", "an", "the"})

_DROP_PUNCTUATION = str.maketrans("", "", string.punctuation)


def words(text: str) -> list[str]:
    """Words of a text, lower-cased, without punctuation and articles.

    Examples
    --------
    >>> words("The U.S. of A, 1969!")
    ['us', 'of', '1969']
    """
    bare = text.lower()
    if bare.isascii():
        bare = bare.translate(_DROP_PUNCTUATION)
    else:
        # NFKC makes the digits of other widths, such as fullwidth ones, the same digits.
        bare = "".join(
            letter
            for letter in unicodedata.normalize("NFKC", bare)
            if unicodedata.category(letter)[0] not in "PS"
        )
    return [word for word in bare.split() if word not in ARTICLES]


def length_aware_bleu(
    hypothesis: str, references: Sequence[str], *, max_order: int = 4, eps: float = 0.1
) -> float:
    """BLEU of as many orders as the reference has words.

    Parameters
    ----------
    hypothesis : str
    references : sequence of str
        Right answers; the best match counts. A reference without words is matched by none.
    max_order : int, default 4
        Of the n-grams, for references of so many words or more.
    eps : float, default 0.1
        In place of a count of zero, for n-grams of order 2 and more.

    Returns
    -------
    float in [0, 1]
        1 for an identical text of any length; 0 where no word matches.

    Raises
    ------
    ValueError
        If there is no reference, or a number is out of range.

    Examples
    --------
    >>> length_aware_bleu("Paris", ["paris", "the city of Paris"])
    1.0
    >>> round(length_aware_bleu("red green blue", ["red green yellow"]), 3)
    0.322
    """
    _check_references(references)
    if max_order < 1 or not 0 < eps <= 1:
        raise ValueError(
            f"max_order is {max_order} and eps {eps}; an order of at least 1, and an eps above 0 "
            "and at most 1, are wanted"
        )
    given = words(hypothesis)
    return max(_bleu(given, words(reference), max_order, eps) for reference in references)


def exact_match(hypothesis: str, references: Sequence[str]) -> float:
    """1 where the words are those of a reference, else 0.

    Examples
    --------
    >>> exact_match("The Seine.", ["seine", "la Seine"])
    1.0
    """
    _check_references(references)
    given = words(hypothesis)
    return float(bool(given) and any(given == words(reference) for reference in references))


def f1(hypothesis: str, references: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the words, whatever their order.

    Examples
    --------
    >>> f1("blue green", ["green"])
    0.6666666666666666
    """
    _check_references(references)
    given = words(hypothesis)
    return max(_f1(given, words(reference)) for reference in references)


@dataclass(frozen=True)
class AnswerReward:
    """A score of texts as a reward function of completions.

    Parameters
    ----------
    score : callable
        ``score(answer, references) -> float | None``, such as :func:`length_aware_bleu`.
    extract : callable
        ``extract(completion) -> answer``, None where there is no answer, which scores 0; such as
        :meth:`AnswerTag.answer`.
    column : str, default "answer"
        The data set's column of right answers: a text, or a list of them, in each row.

    Examples
    --------
    >>> reward = AnswerReward(exact_match, lambda completion: completion.partition("#")[2])
    >>> reward(["q"], ["so it is #the sun"], answer=["Sun"])
    [1.0]
    """

    score: Callable[[str, Sequence[str]], float | None]
    extract: Callable[[str], str | None]
    column: str = "answer"

    @property
    def __name__(self) -> str:
        """The name that trainers log the reward under."""
        return getattr(self.score, "__name__", type(self.score).__name__)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,  # noqa: ARG002
        **columns: Any,
    ) -> list[float | None]:
        """Score each row of the batch.

        Raises
        ------
        ValueError
            If the column of answers is missing or of another length than the prompts.
        """
        if self.column not in columns or len(columns[self.column]) != len(prompts):
            raise ValueError(
                f"reward {self.__name__!r} needs the column {self.column!r} with one entry for "
                f"each of {len(prompts)} prompts; the batch has {sorted(columns)}"
            )
        scores: list[float | None] = []
        for completion, gold in zip(completions, columns[self.column], strict=True):
            answer = self.extract(completion_text(completion))
            references = [gold] if isinstance(gold, str) else list(gold)
            scores.append(0.0 if answer is None else self.score(answer, references))
        return scores


def _bleu(given: list[str], wanted: list[str], max_order: int, eps: float) -> float:
    if given == wanted:
        return float(bool(given))
    order = max(1, min(max_order, len(wanted)))
    log_precision = 0.0
    for n in range(1, order + 1):
        ours, theirs = _ngrams(given, n), _ngrams(wanted, n)
        matched: float = sum(min(count, theirs[gram]) for gram, count in ours.items())
        if not matched:
            if n == 1:
                return 0.0
            matched = eps
        log_precision += math.log(matched / max(1, len(given) - n + 1))
    brevity = min(0.0, 1 - len(wanted) / len(given))
    return math.exp(brevity + log_precision / order)


def _ngrams(tokens: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def _f1(given: list[str], wanted: list[str]) -> float:
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted)) if shared else 0.0


def _check_references(references: Sequence[str]) -> None:
    if isinstance(references, str) or not len(references):
        raise ValueError(
            f"references is {references!r}; a list of at least one right answer is wanted"
        )
