"""Reward functions: one number for each completion, None where a reward does not apply.

    reward(prompts, completions, completion_ids=None, **columns) -> [r_1, ..., r_n]

This is the signature of TRL's ``GRPOTrainer``, so that whatever is written to it runs there and
here. ``columns`` are the data set's other columns, one entry a row, and what a trainer adds.

Source: TRL's documentation of custom reward functions. Departures: none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class RewardFunction(Protocol):
    """Scores a batch: as many values as prompts, None where the reward does not apply."""

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Score each row of the batch."""


@dataclass(frozen=True)
class RowReward:
    """A reward function out of a score of one row.

    Parameters
    ----------
    score : callable
        ``score(prompt, completion, *values) -> float | None`` of two texts and the row's values of
        ``columns``.
    columns : tuple of str
        Columns of the data set that the score needs, in the order of its arguments.
    name : str, optional
        What logs call it; the score's own name by default.

    Examples
    --------
    >>> def same(prompt, completion, answer):
    ...     return float(completion == answer)
    >>> reward = RowReward(same, columns=("answer",))
    >>> reward(["1+1=", "2+2="], ["2", "5"], answer=["2", "4"])
    [1.0, 0.0]
    """

    score: Callable[..., float | None]
    columns: tuple[str, ...] = ()
    name: str = ""

    @property
    def __name__(self) -> str:
        """The name that trainers log the reward under."""
        return self.name or self.score.__name__

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
            If a column the score needs is missing, or a list has another length than the prompts.
        """
        for column in self.columns:
            if column not in columns:
                raise ValueError(
                    f"reward {self.__name__!r} needs the column {column!r}; "
                    f"the batch has {sorted(columns)}"
                )
        values = [columns[column] for column in self.columns]
        for name, rows in zip(("completions", *self.columns), (completions, *values), strict=True):
            if len(rows) != len(prompts):
                raise ValueError(f"{name} has {len(rows)} rows; there are {len(prompts)} prompts")
        return [
            self.score(completion_text(prompt), completion_text(completion), *row)
            for prompt, completion, *row in zip(prompts, completions, *values, strict=True)
        ]


def completion_text(completion: Any) -> str:
    r"""Return the text of a completion or prompt: a string, bytes, or a chat's last message.

    Bytes that are no UTF-8 become replacement characters, so that every byte string has a text.

    Examples
    --------
    >>> completion_text([{"role": "assistant", "content": "42"}])
    '42'
    >>> completion_text(b"4\xff")
    '4\ufffd'
    """
    if isinstance(completion, list):
        completion = completion[-1]["content"] if completion else ""
    if isinstance(completion, bytes):
        return completion.decode(errors="replace")
    return str(completion)


def check_rewards(values: Any, *, rows: int, name: str) -> list[float | None]:
    """Return what a reward function gave as floats and Nones, or say what is wrong with it.

    Parameters
    ----------
    values : sequence
        What the reward function returned.
    rows : int
        Number of completions that it was asked about.
    name : str
        The reward's name, for the message.

    Raises
    ------
    ValueError
        If there are not ``rows`` values, or one is neither None nor a finite number.

    Examples
    --------
    >>> check_rewards([1, None], rows=2, name="exact")
    [1.0, None]
    """
    try:
        given = list(values)
    except TypeError:
        raise ValueError(f"reward {name!r} returned {values!r}; a list is wanted") from None
    if len(given) != rows:
        raise ValueError(f"reward {name!r} returned {len(given)} values for {rows} completions")
    checked: list[float | None] = []
    for row, value in enumerate(given):
        try:
            number = None if value is None else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if number is not None and not math.isfinite(number):
            raise ValueError(
                f"reward {name!r} gave {value!r} in row {row}; a finite number, or None where it "
                "does not apply, is wanted"
            )
        checked.append(number)
    return checked
