"""The journal of a run: every finished (arm, seed), written at once, so that a run can go on.

A journal is a JSON-lines file. Its first line says what is being measured (paper, version, scale,
device, options); each further line is one finished (arm, seed); the last says that the run is
complete. A run that was stopped finds its lines again. A journal of a complete run is started
afresh, because measuring again means measuring; so is one of other settings, whose numbers must not
mix (it is moved aside, not lost). A line torn by a kill is dropped before anything is appended.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_COMPLETE = {"complete": True}


@dataclass(frozen=True)
class Entry:
    """One finished (arm, seed): its metrics, what it took in seconds and in peak memory."""

    arm: str
    seed: int
    values: dict[str, float]
    seconds: float
    peak_rss_mb: float


class Journal:
    """Finished entries of one run, kept in a file.

    Parameters
    ----------
    path : Path
        The file; it and its folder are made when missing.
    header : dict
        What is being measured, in JSON types.

    Attributes
    ----------
    entries : dict
        Finished entries by (arm, seed).
    started : str
        Where the entries come from, as a sentence for the user; empty for a new file.

    Raises
    ------
    FileExistsError
        If the file at ``path`` is something else than a journal.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.entries: dict[tuple[str, int], Entry] = {}
        self.started = ""
        lines, kept_bytes = _read(path)
        complete = bool(lines) and lines[-1] == _COMPLETE
        if lines and lines[0] == header and not complete:
            self.entries = {(e.arm, e.seed): e for e in map(_entry, lines[1:])}
            if self.entries:
                self.started = f"going on after {len(self.entries)} measurements in {path}"
            os.truncate(path, kept_bytes)
            return
        if len(lines) > 1 and not complete:
            aside = path.with_suffix(".old.jsonl")
            path.replace(aside)
            self.started = f"starting afresh: a stopped run with other settings is kept in {aside}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        self._write(header)

    def append(self, entry: Entry) -> None:
        """Keep a finished entry; it is on the disk when this returns."""
        self._write(asdict(entry))
        self.entries[entry.arm, entry.seed] = entry

    def finish(self) -> None:
        """Mark the run as complete: the next one starts afresh."""
        self._write(_COMPLETE)

    def _write(self, record: dict[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _entry(record: dict[str, Any]) -> Entry:
    return Entry(**record)


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines of a journal and how many bytes they take; nothing where there is none."""
    if not path.exists():
        return [], 0
    lines: list[dict[str, Any]] = []
    kept = 0
    for raw in path.read_bytes().splitlines(keepends=True):
        try:
            record = json.loads(raw)
        except ValueError:
            record = None
        if not raw.endswith(b"\n") or not isinstance(record, dict):
            break
        lines.append(record)
        kept += len(raw)
    if not lines and path.stat().st_size and b"\n" in path.read_bytes():
        raise FileExistsError(f"{path} is not a journal of measurements; move it away")
    return lines, kept
