"""Where reasoning ends and the answer begins, in characters and in tokens.

    "3;+5.8#3+5"                        ->   "3;+5.8" | "3+5"
    "<think>so 8</think>3+5"            ->   "so 8"   | "3+5"

A completion without exactly one separator is not refused, since policies write such things: it is
all reasoning, has no answer, and says so in its flag.

Source: DRM (arXiv 2510.11457) scores reasoning and answer apart. Departures: none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

Separator = str | tuple[str, str]
"""What stands between the two parts, or the marks around the reasoning."""

Flag = Literal["", "missing", "repeated", "empty"]


class Parts(NamedTuple):
    """The two parts of a completion."""

    reasoning: str
    answer: str
    flag: Flag
    """Why there is no answer ("missing" or "repeated" separator) or no reasoning ("empty")."""
    start: int
    """Character at which the reasoning begins; the answer is the end of the text."""

    @property
    def has_answer(self) -> bool:
        """Whether an answer is set off; it may be of no characters."""
        return self.flag not in ("missing", "repeated")

    @property
    def has_reasoning(self) -> bool:
        """Whether there is a character of reasoning."""
        return bool(self.reasoning)


class TokenSpans(NamedTuple):
    """The same in tokens, each as first and behind the last."""

    reasoning: tuple[int, int]
    answer: tuple[int, int]


def split_reasoning(text: str, sep: Separator = "#") -> Parts:
    """Split a completion.

    Parameters
    ----------
    text : str
    sep : str or (str, str), default "#"
        A separator, or two marks such as ``("<think>", "</think>")``, of which the first may be
        missing, as where it is the end of the prompt; what stands before it is neither part.

    Returns
    -------
    Parts

    Raises
    ------
    ValueError
        If a separator is empty.

    Examples
    --------
    >>> split_reasoning("3;+5.8#3+5")[:3]
    ('3;+5.8', '3+5', '')
    >>> split_reasoning("so 8</think>3+5", ("<think>", "</think>"))[:2]
    ('so 8', '3+5')
    >>> split_reasoning("3+5")[:3]
    ('3+5', '', 'missing')
    """
    opening, closing = ("", sep) if isinstance(sep, str) else sep
    if not closing or (not isinstance(sep, str) and not opening):
        raise ValueError(f"sep is {sep!r}; a separator of at least one character is wanted")
    marks = text.count(closing)
    openings = text.count(opening) if opening else 0
    end = text.find(closing)
    start = text.find(opening) + len(opening) if openings else 0
    if marks == 0 or openings > 1 or marks > 1 or start > end:
        return Parts(text, "", "missing" if marks == 0 else "repeated", 0)
    reasoning = text[start:end]
    return Parts(reasoning, text[end + len(closing) :], "" if reasoning else "empty", start)


def token_spans(pieces: Sequence[str], parts: Parts) -> TokenSpans:
    """Which tokens are reasoning and which are answer.

    Parameters
    ----------
    pieces : sequence of str
        The text of each token of the completion; those of special tokens may be empty. A token
        belongs to where it begins.
    parts : Parts
        Of the completion.

    Returns
    -------
    TokenSpans
        The answer's has the token that ends the completion.

    Examples
    --------
    >>> pieces = ["3;", "+5", ".8", "#", "3+", "5", ""]
    >>> token_spans(pieces, split_reasoning("3;+5.8#3+5"))
    TokenSpans(reasoning=(0, 3), answer=(4, 7))
    """
    ends = list(accumulate(map(len, pieces)))
    starts = [0, *ends[:-1]] if ends else []
    total = ends[-1] if ends else 0
    first = bisect_left(starts, parts.start)
    behind = bisect_left(starts, parts.start + len(parts.reasoning))
    if not parts.has_answer:
        return TokenSpans((first, behind), (len(pieces), len(pieces)))
    answer = bisect_left(starts, total - len(parts.answer), lo=behind)
    return TokenSpans((first, behind), (answer, len(pieces)))
