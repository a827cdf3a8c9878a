"""What every one of the 42 tasks is: a generator, a solver, a verifier and a scene.

A subclass writes four methods on a plain ``state`` (a dictionary that JSON can hold); the base
class makes of them what users call:

==========  ====================  =========================================================
a subclass  the base class        is
==========  ====================  =========================================================
_generate   sample(level, rng)    a state of the level asked for, with its prompt
_search     solve, skeleton       an answer, the work it took, the steps on the way to it
_check      verify                whether a text is a valid answer, judged by the rules alone
_scene      the prompt, render    what is to be seen, once, for both text and image
==========  ====================  =========================================================

Generators plant a solution and publish its clues; a puzzle may therefore have several, and a
verifier never compares with the planted one.

Source: MM-HELIX (arXiv 2510.08540), section 3. Departures: states are planted rather than proved
unique, and a verifier reads the answer alone, not a chat message around it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from rarefy.policy.tasks.helix.answers import Unreadable
from rarefy.policy.tasks.helix.scenes import Scene, describe, paint

if TYPE_CHECKING:
    from PIL.Image import Image

Category = Literal["algorithms", "games", "graphs", "puzzles"]
State = dict[str, Any]

LEVELS = (1, 2, 3, 4, 5)
_ATTEMPTS = 1000
# Four times the longest answer any solver writes; it bounds every verifier's time.
_LONGEST_ANSWER = 4096


class GenerationError(RuntimeError):
    """No acceptable problem came up, or no solution within the node limit."""


class Anchor(NamedTuple):
    """One step of a solver: a state reached, a choice tried, or a choice taken back."""

    kind: Literal["state", "try", "retract"]
    text: str


@dataclass(frozen=True)
class Solution:
    """What a solver found.

    Attributes
    ----------
    answer : str
        In the format that the prompt asks for.
    steps : int
        Elementary steps of the solver: constraint revisions, nodes expanded or passes of its
        loop. Comparable within a task, not between tasks.
    anchors : tuple of Anchor
        The way to the answer.
    """

    answer: str
    steps: int
    anchors: tuple[Anchor, ...]


@dataclass(frozen=True)
class Problem:
    """One instance of a task.

    Attributes
    ----------
    task : str
    level : int
    prompt : str
        Rules, answer format and the whole initial state.
    state : dict
        The initial state, as JSON can hold it. It holds no answer.
    """

    task: str
    level: int
    prompt: str
    state: State


class Task(ABC):
    """A task of the platform; subclasses set the three attributes and write the four methods.

    Attributes
    ----------
    name : str
    category : {"algorithms", "games", "graphs", "puzzles"}
    rules : str
        Rules and answer format, the first part of every prompt.
    """

    name: ClassVar[str]
    category: ClassVar[Category]
    rules: ClassVar[str]

    @abstractmethod
    def _generate(self, level: int, rng: Random) -> State | None:
        """Draw a state; None where the draw must be repeated."""

    @abstractmethod
    def _search(self, state: State) -> Solution:
        """Solve a state."""

    @abstractmethod
    def _check(self, state: State, answer: str) -> bool:
        """Judge an answer by the rules; :class:`Unreadable` counts as wrong."""

    @abstractmethod
    def _scene(self, state: State) -> Scene:
        """Lay out what the solver is given."""

    def sample(self, level: int, rng: Random) -> Problem:
        """Draw a problem.

        Parameters
        ----------
        level : int
            1 (easiest) to 5.
        rng : random.Random
            The only source of randomness.

        Returns
        -------
        Problem

        Raises
        ------
        ValueError
            If there is no such level.
        GenerationError
            If none of a thousand draws is acceptable.
        """
        if level not in LEVELS:
            raise ValueError(f"level must be one of 1 to 5, got {level!r}")
        for _ in range(_ATTEMPTS):
            state = self._generate(level, rng)
            if state is not None:
                prompt = f"{self.rules}\n\n{describe(self._scene(state))}"
                return Problem(self.name, level, prompt, state)
        raise GenerationError(f"{self.name}: no problem of level {level} in {_ATTEMPTS} draws")

    def solve(self, problem: Problem) -> Solution:
        """Find an answer by search, from the published state alone.

        Raises
        ------
        GenerationError
            If the search passes its node limit.
        """
        return self._search(problem.state)

    def verify(self, problem: Problem, answer: str | bytes) -> bool:
        """Judge an answer; total on any text or bytes, and bounded in time.

        Parameters
        ----------
        problem : Problem
        answer : str or bytes
            The answer alone. White space is forgiven, anything else beside the format is not.

        Returns
        -------
        bool
        """
        if len(answer) > _LONGEST_ANSWER:
            return False
        text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
        try:
            return self._check(problem.state, text)
        except Unreadable:
            return False

    def skeleton(self, problem: Problem) -> tuple[Anchor, ...]:
        """Steps of the solver in order, with the branches it took back, for SERG."""
        return self._search(problem.state).anchors

    def render(self, problem: Problem) -> Image:
        """Draw the initial state (needs Pillow)."""
        return paint(self._scene(problem.state))


def states(texts: Iterable[str]) -> tuple[Anchor, ...]:
    """Anchors of a way without choices."""
    return tuple(Anchor("state", text) for text in texts)
