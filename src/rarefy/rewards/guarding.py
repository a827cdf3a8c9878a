"""A reward function that can neither stop a run nor hang it: what fails scores 0 and is counted.

The guarded reward runs in a process of its own, one row at a time, within limits of time and
memory. A row whose reward raises, hangs, kills its process or gives no finite number scores 0; a
process that hangs is killed and a new one goes on with the next row. Nothing that a model writes
can therefore take the training run with it.
"""

from __future__ import annotations

import multiprocessing
import pickle
import warnings
import weakref
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rarefy.rewards.functions import RewardFunction, check_rewards

_START_SECONDS = 120.0


class Guarded:
    """A reward function in a process of its own.

    Parameters
    ----------
    reward : RewardFunction
        Must be picklable: a function of a module, not one defined inside another.
    seconds : float, default 1.0
        Time limit of one row.
    megabytes : float, default 2048
        How much the process may take beyond what it has when it is ready; more raises MemoryError
        in the reward. Held to where the system can limit address space (not on Windows).

    Attributes
    ----------
    failures : Counter
        Rows that scored 0 for want of an answer, by kind: ``"raised"`` (which includes values that
        are no finite numbers), ``"timed out"``, ``"died"``.

    Notes
    -----
    Each row is scored in a call of its own, so rewards that compare the rows of a batch do not
    belong here. The process starts at the first call (a second or so) and stays until
    :meth:`close` or the end of the program. Only columns with one entry a row reach the reward;
    what a trainer adds (``trainer_state``, logging functions) does not.
    """

    def __init__(
        self, reward: RewardFunction, *, seconds: float = 1.0, megabytes: float = 2048
    ) -> None:
        if not seconds > 0:
            raise ValueError(f"seconds is {seconds}; a positive time limit is wanted")
        if not megabytes > 0:
            raise ValueError(f"megabytes is {megabytes}; a positive memory limit is wanted")
        self.reward = reward
        self.seconds = seconds
        self.megabytes = megabytes
        self.failures: Counter[str] = Counter()
        self._worker: _Worker | None = None

    @property
    def __name__(self) -> str:
        """The name that trainers log the reward under."""
        return str(getattr(self.reward, "__name__", type(self.reward).__name__))

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Score each row of the batch.

        Raises
        ------
        ValueError
            If the reward cannot be pickled.
        RuntimeError
            If its process does not start, which is a fault of the reward and not of a completion.

        Warns
        -----
        RuntimeWarning
            Once for a batch in which rows failed.
        """
        given: dict[str, Any] = {"prompts": prompts, "completions": completions}
        given |= {"completion_ids": completion_ids} | columns
        per_row = {
            name: values
            for name, values in given.items()
            if isinstance(values, (list, tuple)) and len(values) == len(prompts)
        }
        scores: list[float | None] = []
        failed: list[str] = []
        for row in range(len(prompts)):
            try:
                scores.append(self._score({name: [per_row[name][row]] for name in per_row}))
            except _RowFailed as failure:
                scores.append(0.0)
                failed.append(str(failure))
                self.failures[failure.kind] += 1
        if failed:
            warnings.warn(
                f"reward {self.__name__!r} failed on {len(failed)} of {len(prompts)} completions, "
                f"which score 0; the first: {failed[0]}",
                RuntimeWarning,
                stacklevel=2,
            )
        return scores

    def close(self) -> None:
        """End the process; the next call would start another."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _score(self, row: dict[str, Any]) -> float | None:
        if self._worker is None:
            self._worker = _Worker(self.reward, self.megabytes)
        try:
            value, error = self._worker.ask(row, seconds=self.seconds)
        except TimeoutError:
            self.close()
            raise _RowFailed("timed out", f"no answer within {self.seconds} s") from None
        except (EOFError, OSError):
            self.close()
            raise _RowFailed("died", "it ended its process") from None
        if error is not None:
            raise _RowFailed("raised", error)
        try:
            return check_rewards(value, rows=1, name=self.__name__)[0]
        except ValueError as invalid:
            raise _RowFailed("raised", str(invalid)) from None


class _RowFailed(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Worker:
    """One process that scores rows, and the pipe to it."""

    def __init__(self, reward: RewardFunction, megabytes: float) -> None:
        # Not forked: a copy of a process with torch's threads in it may never come to run.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, reward, megabytes), daemon=True)
        try:
            process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"reward {reward!r} cannot be sent to a process of its own ({error}); "
                "a function defined at the top of a module is wanted"
            ) from error
        theirs.close()
        self.stop = weakref.finalize(self, _stop, process, self._connection)
        try:
            ready = self._connection.poll(_START_SECONDS) and self._connection.recv()
        except EOFError:
            ready = False
        if not ready:
            self.stop()
            raise RuntimeError(
                f"the process of reward {reward!r} did not start; can its module be imported "
                "from a fresh Python?"
            )

    def ask(self, row: dict[str, Any], *, seconds: float) -> tuple[Any, str | None]:
        """Return the reward's value and None, or None and what it raised."""
        self._connection.send(row)
        if not self._connection.poll(seconds):
            raise TimeoutError
        return self._connection.recv()


def _serve(connection: Connection, reward: RewardFunction, megabytes: float) -> None:
    _limit_memory(megabytes)
    connection.send(True)
    while True:
        try:
            row = connection.recv()
        except EOFError:
            return
        try:
            connection.send((reward(**row), None))
        # Anything at all may come out of a user's reward, and all of it means "no score".
        except Exception as error:
            connection.send((None, f"{type(error).__name__}: {error}"))


def _limit_memory(megabytes: float) -> None:
    """Let this process take so much more address space than it has; nothing where it cannot be."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + int(megabytes * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, OSError, ValueError):
        return


def _stop(process: BaseProcess, connection: Connection) -> None:
    connection.close()
    process.kill()
    process.join()
    process.close()
