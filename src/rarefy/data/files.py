"""Writing safetensors whole or not at all, and reading them with one clear sentence on failure.

A file appears under its name only when every byte is on disk: it is written to a temporary
sibling and moved, so an interrupted run or a full disk leaves what was there before.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor


@contextmanager
def written_whole(path: str | os.PathLike[str], *, folder: bool = False) -> Iterator[Path]:
    """Give a temporary sibling to write a file or folder to; move it to ``path`` at the end.

    If the body raises, the sibling is removed and ``path`` stays as it was.

    Raises
    ------
    FileExistsError
        If ``folder`` and there is something at ``path`` already; files are replaced.
    """
    target = Path(path)
    if folder and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{target} is already there: give another folder, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    nursery = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        sibling = nursery / target.name
        yield sibling
        os.replace(sibling, target)
    finally:
        shutil.rmtree(nursery, ignore_errors=True)


def save_tensors(
    tensors: Mapping[str, Tensor], path: str | os.PathLike[str], *, metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file, whole or not at all.

    Raises
    ------
    OSError
        If the disk is full or the place not writable; nothing is left behind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with written_whole(path) as sibling:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(plain, sibling, metadata=dict(metadata))
        except SafetensorError as error:
            raise OSError(f"{os.fspath(path)} cannot be written: {error}") from error


def load_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read every tensor and the metadata of a safetensors file.

    Raises
    ------
    ValueError
        If the file is no safetensors file or is cut short.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{os.fspath(path)} is no readable safetensors file: {error}") from error
