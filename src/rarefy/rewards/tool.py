"""Rewards of policies that call tools: do the calls parse, is there one answer, what says a judge.

    ParseRate   parsed calls / attempted calls       a share, so that many calls earn no more
    AnswerTag   1 where the answer stands once between its tags
    Judge       a model's score of the answer, None when it fails or is late

Each is a stage of :class:`rarefy.rewards.staged.StagedReward`.

Source: PRS (arXiv 2512.07478). Departures: none.
"""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rarefy.rewards.functions import completion_text
from rarefy.rewards.text import AnswerReward


@dataclass(frozen=True)
class ParseRate:
    """Share of a completion's calls that can be read.

    Parameters
    ----------
    attempts : callable
        ``attempts(completion) -> sequence of bool``, one for each call that was begun: can it be
        read? Such as :meth:`rarefy.policy.tools.ToolEnv.attempts`.
    needed : bool, default True
        Whether a completion without a call scores 0; otherwise the reward does not apply to it.

    Examples
    --------
    >>> rate = ParseRate(lambda text: [part.endswith(">") for part in text.split("<")[1:]])
    >>> rate(["q"] * 3, ["<a><b", "<a>", "none"])
    [0.5, 1.0, 0.0]
    """

    attempts: Callable[[str], Sequence[bool]]
    needed: bool = True

    @property
    def __name__(self) -> str:
        """The name that trainers log the reward under."""
        return "parse_rate"

    def __call__(
        self,
        prompts: Sequence[Any],  # noqa: ARG002
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,  # noqa: ARG002
        **columns: Any,  # noqa: ARG002
    ) -> list[float | None]:
        """Score each row of the batch."""
        return [self._rate(completion_text(completion)) for completion in completions]

    def _rate(self, text: str) -> float | None:
        verdicts = self.attempts(text)
        if not verdicts:
            return 0.0 if self.needed else None
        return sum(verdicts) / len(verdicts)


@dataclass(frozen=True)
class AnswerTag:
    """1 for a completion with exactly one answer in its tags.

    Parameters
    ----------
    open, close : str
        What the answer stands between; an empty ``close`` is the end of the text.

    Examples
    --------
    >>> tag = AnswerTag("<answer>", "</answer>")
    >>> tag(["q"] * 2, ["<answer>42</answer>", "42"])
    [1.0, 0.0]
    >>> tag.answer("so <answer> 42 </answer>")
    '42'
    """

    open: str
    close: str = ""

    def __post_init__(self) -> None:
        if not self.open:
            raise ValueError("open is empty; what begins an answer is wanted")

    @property
    def __name__(self) -> str:
        """The name that trainers log the reward under."""
        return "answer_tag"

    def answer(self, completion: str) -> str | None:
        """The answer; None where there is none or an empty one, or more than one."""
        _, *behind = completion.split(self.open)
        if len(behind) != 1:
            return None
        answer = behind[0]
        if self.close:
            parts = answer.split(self.close)
            if len(parts) != 2:
                return None
            answer = parts[0]
        return answer.strip() or None

    def __call__(
        self,
        prompts: Sequence[Any],  # noqa: ARG002
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,  # noqa: ARG002
        **columns: Any,  # noqa: ARG002
    ) -> list[float | None]:
        """Score each row of the batch."""
        return [float(self.answer(completion_text(text)) is not None) for text in completions]

    def reward(
        self, score: Callable[[str, Sequence[str]], float | None], *, column: str = "answer"
    ) -> AnswerReward:
        """A score of texts as a reward of what stands between the tags."""
        return AnswerReward(score, self.answer, column)


class Judge:
    """A score by a judge that may fail or be late: None then, and counted, never 0.

    Parameters
    ----------
    ask : callable
        ``ask(prompt, completion, *values) -> float | None`` of two texts and the row's values of
        ``columns``, such as a call of a language model; several at a time, in threads.
    seconds : float, default 30
        Time limit of one row.
    workers : int, default 8
        Rows asked about at a time.
    columns : tuple of str, default ("answer",)

    Attributes
    ----------
    missing : Counter
        Rows without a score, by reason: ``"raised"``, ``"timed out"``.

    Notes
    -----
    A thread that hangs cannot be ended: it is left behind and does not keep the program from
    ending. Code that may hang for good belongs into :class:`rarefy.rewards.Guarded`.

    Examples
    --------
    >>> judge = Judge(lambda prompt, completion, answer: float(answer in completion))
    >>> judge(["q"] * 2, ["it is 42", "who knows"], answer=["42", "7"])
    [1.0, 0.0]
    """

    def __init__(
        self,
        ask: Callable[..., float | None],
        *,
        seconds: float = 30.0,
        workers: int = 8,
        columns: tuple[str, ...] = ("answer",),
    ) -> None:
        if not seconds > 0 or workers < 1:
            raise ValueError(
                f"seconds is {seconds} and workers {workers}; a positive time limit and at least "
                "one worker are wanted"
            )
        self.ask = ask
        self.seconds, self.workers, self.columns = seconds, workers, columns
        self.missing: Counter[str] = Counter()

    @property
    def __name__(self) -> str:
        """The name that trainers log the reward under."""
        return "judge"

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
            If a column that the judge needs is missing.

        Warns
        -----
        RuntimeWarning
            Once for a batch with rows that have no score.
        """
        absent = [column for column in self.columns if column not in columns]
        if absent:
            raise ValueError(f"the judge needs the column {absent[0]!r}; the batch has none")
        rows = [
            (completion_text(prompt), completion_text(completion), *values)
            for prompt, completion, *values in zip(
                prompts, completions, *(columns[column] for column in self.columns), strict=True
            )
        ]
        scores: list[float | None] = []
        failed: list[str] = []
        for start in range(0, len(rows), self.workers):
            for score, reason in self._wave(rows[start : start + self.workers]):
                scores.append(score)
                if reason:
                    failed.append(reason)
        if failed:
            warnings.warn(
                f"the judge gave no score for {len(failed)} of {len(rows)} completions, whose "
                f"stage is skipped; the first: {failed[0]}",
                RuntimeWarning,
                stacklevel=2,
            )
        return scores

    def _wave(self, rows: list[tuple[Any, ...]]) -> list[tuple[float | None, str]]:
        """Scores, and why there is none, of rows asked about at the same time."""
        answers: list[Any] = [None] * len(rows)
        errors: list[str] = [""] * len(rows)

        def ask(place: int) -> None:
            try:
                answers[place] = _checked(self.ask(*rows[place]))
            # Anything may come out of a judge, and all of it means "no score".
            except Exception as error:
                errors[place] = f"{type(error).__name__}: {error}"

        threads = [
            threading.Thread(target=ask, args=(place,), daemon=True) for place in range(len(rows))
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + self.seconds
        outcomes: list[tuple[float | None, str]] = []
        for place, thread in enumerate(threads):
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.missing["timed out"] += 1
                outcomes.append((None, f"no answer within {self.seconds} s"))
            else:
                self.missing["raised"] += bool(errors[place])
                outcomes.append((answers[place], errors[place]))
        return outcomes


def _checked(score: float | None) -> float | None:
    if score is None:
        return None
    number = float(score)
    if not math.isfinite(number) or not 0 <= number <= 1:
        raise ValueError(f"the judge gave {score!r}; a score in [0, 1] is wanted")
    return number
