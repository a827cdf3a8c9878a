"""A verifiable task: problems at five levels, an expert's way to solve them, and a verifier.

    prompt   "n3,5,2>16="          the first character tells the task, the last is "="
    hinted   "n3,5,2>16~3;+5.8="   the same with the first part of a trace
    completion   trace "#" answer  e.g. "3;+5.8;*2.16#3+5*2"

The prompt holds the whole problem, so a verifier needs nothing but the two texts. Only the answer
behind the single "#" is judged, by evaluating or simulating it: any right answer counts. Verifiers
are total (every text has a score) and take time linear in the completion.

Credit is a ladder of three rungs, each counted only where those below it are complete:

    credit = (format + legal + progress) / 3,      solved = (credit = 1)

Source: the verifiable tasks used for reinforcement learning with verifiable rewards; the forms are
rarefy's own.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from rarefy.rewards import RowReward

Split = Literal["train", "eval"]
LEVELS = (1, 2, 3, 4, 5)
LONGEST_ANSWER = 256
"""No task has a right answer of more characters, so longer ones are not looked at."""


class Draft(NamedTuple):
    """What a task's generator makes."""

    prompt: str
    trace: str
    answer: str


class Grade(NamedTuple):
    """How far an answer is right.

    Attributes
    ----------
    legal : float in [0, 1]
        How far it keeps the rules of an answer, right or wrong.
    progress : float in [0, 1]
        How near a legal answer is to a right one; 1 only for a right one.
    """

    legal: float
    progress: float


ILLEGAL = Grade(0.0, 0.0)


@dataclass(frozen=True)
class Problem:
    """A prompt, and how an expert completes it.

    Parameters
    ----------
    task : str
    level : int
    prompt, trace, answer : str
        Trace and answer may be empty where no expert is known.
    columns : mapping, default empty
        What else a reward needs to know of the problem.
    """

    task: str
    level: int
    prompt: str
    trace: str
    answer: str
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def completion(self) -> str:
        """The expert's completion: trace, "#", answer."""
        return f"{self.trace}#{self.answer}"


@dataclass(frozen=True)
class Task:
    """A task, made of functions of texts.

    Parameters
    ----------
    name : str
    form : re.Pattern
        What its prompts look like, without a hint; no prompt has the form of two tasks.
    draw : callable
        ``draw(level, rng) -> Draft``.
    grade : callable
        ``grade(prompt, answer) -> Grade`` of a prompt without hint and the text behind "#".
    difficulty : callable
        ``difficulty(prompt) -> float``, in the unit that the task's module states.

    Examples
    --------
    >>> from rarefy.policy.tasks import COUNTDOWN
    >>> problem = COUNTDOWN.sample(3, random.Random(0))
    >>> COUNTDOWN.verify(problem.prompt, problem.completion)
    1.0
    >>> COUNTDOWN.partial("n3,5,2>16=", "#5+2*3")
    {'format': 1.0, 'legal': 1.0, 'progress': 0.6875, 'solved': 0.0}
    """

    name: str
    form: re.Pattern[str]
    draw: Callable[[int, random.Random], Draft]
    grade: Callable[[str, str], Grade]
    difficulty: Callable[[str], float]

    def sample(self, level: int, rng: random.Random, *, split: Split = "train") -> Problem:
        """Draw a problem.

        Parameters
        ----------
        level : int
            1 (easiest) to 5.
        rng : random.Random
            Where all randomness comes from.
        split : {"train", "eval"}, default "train"
            A prompt belongs to one of the two for good: see :func:`split_of`.

        Raises
        ------
        ValueError
            If the level is not one of the five.
        """
        if level not in LEVELS:
            raise ValueError(f"level is {level}; 1, 2, 3, 4 or 5 is wanted")
        while True:
            draft = self.draw(level, rng)
            if split_of(draft.prompt) == split:
                return Problem(self.name, level, *draft)

    def owns(self, prompt: str) -> bool:
        """Whether a prompt, hinted or not, is of this task."""
        return self.form.fullmatch(without_hint(prompt)) is not None

    def verify(self, prompt: str, completion: str) -> float:
        """1 for a right completion, else 0.

        Raises
        ------
        ValueError
            If the prompt is not of this task.
        """
        return self.partial(prompt, completion)["solved"]

    def credit(self, prompt: str, completion: str) -> float:
        """Partial credit: the mean of the three rungs, 1 exactly where :meth:`verify` gives 1."""
        stages = self.partial(prompt, completion)
        return (stages["format"] + stages["legal"] + stages["progress"]) / 3

    def partial(self, prompt: str, completion: str) -> dict[str, float]:
        """The rungs ``format``, ``legal`` and ``progress``, each in [0, 1], and ``solved``.

        Raises
        ------
        ValueError
            If the prompt is not of this task.
        """
        if not self.owns(prompt):
            raise ValueError(f"prompt {prompt!r} is not one of the task {self.name!r}")
        parts = spans(completion)
        if parts is None or not 0 < len(parts.answer) <= LONGEST_ANSWER:
            return {"format": 0.0, "legal": 0.0, "progress": 0.0, "solved": 0.0}
        legal, progress = self.grade(without_hint(prompt), parts.answer)
        progress = progress if legal == 1 else 0.0
        return {
            "format": 1.0,
            "legal": legal,
            "progress": progress,
            "solved": float(progress == 1),
        }

    @property
    def reward(self) -> RowReward:
        """:meth:`verify` as a reward function; None for prompts of other tasks."""
        return RowReward(self._verify_own, name=self.name)

    @property
    def credit_reward(self) -> RowReward:
        """:meth:`credit` as a reward function; None for prompts of other tasks."""
        return RowReward(self._credit_own, name=f"{self.name}_credit")

    def _verify_own(self, prompt: str, completion: str) -> float | None:
        return self.verify(prompt, completion) if self.owns(prompt) else None

    def _credit_own(self, prompt: str, completion: str) -> float | None:
        return self.credit(prompt, completion) if self.owns(prompt) else None


class Spans(NamedTuple):
    """The two parts of a completion."""

    trace: str
    answer: str


def spans(completion: str) -> Spans | None:
    """Split a completion at its single "#"; None where there is none, or more than one.

    Examples
    --------
    >>> spans("3;+5.8#3+5")
    Spans(trace='3;+5.8', answer='3+5')
    >>> spans("#3#5") is None
    True
    """
    parts = completion.split("#", 2)
    return Spans(*parts) if len(parts) == 2 else None


def hinted(problem: Problem, ratio: float) -> str:
    """The prompt with the first part of the expert's trace, never of the answer behind "#".

    Parameters
    ----------
    problem : Problem
    ratio : float in [0, 1]
        Share of the trace's characters, rounded; where that is none, the prompt itself.

    Raises
    ------
    ValueError
        If the ratio is not in [0, 1].

    Examples
    --------
    >>> hinted(Problem("countdown", 2, "n3,5,2>16=", "3;+5.8;*2.16", "3+5*2"), 0.5)
    'n3,5,2>16~3;+5.8='
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio is {ratio}; a share of the trace, from 0 to 1, is wanted")
    prefix = problem.trace[: round(ratio * len(problem.trace))]
    return f"{problem.prompt[:-1]}~{prefix}=" if prefix else problem.prompt


def without_hint(prompt: str) -> str:
    """The prompt without what :func:`hinted` put into it.

    Examples
    --------
    >>> without_hint("n3,5,2>16~3;+5.8=")
    'n3,5,2>16='
    """
    head, mark, hint = prompt.partition("~")
    return head + "=" if mark and hint.endswith("=") else prompt


def split_of(prompt: str) -> Split:
    """Which split a prompt belongs to, by its hash: one in eight is for evaluation."""
    return "eval" if hashlib.blake2b(prompt.encode(), digest_size=1).digest()[0] < 32 else "train"
