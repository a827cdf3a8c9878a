"""Documents from a user's text file or folder, checked before any work is done."""

from __future__ import annotations

import os
from pathlib import Path

_SUFFIXES = (
    *(".txt", ".md", ".rst", ".tex", ".html", ".json", ".jsonl", ".yaml", ".yml", ".toml"),
    *(".py", ".pyi", ".js", ".ts", ".java", ".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".go"),
    *(".rs", ".rb", ".sh", ".sql", ".css", ".csv", ".tsv"),
)


def read_documents(path: str | os.PathLike[str]) -> list[str]:
    """Read text documents: a file is one document, a folder one document per text file.

    Parameters
    ----------
    path : path
        A UTF-8 text file of any name, or a folder, searched recursively for files with a usual
        text or source suffix (hidden files and folders are passed over).

    Returns
    -------
    list of str
        Documents in path order, none of them blank.

    Raises
    ------
    FileNotFoundError
        If ``path`` does not exist.
    ValueError
        If a file is empty or not UTF-8 text, or a folder holds no text file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such text file or folder: {path}")
    if path.is_file():
        text = _read(path)
        if not text.strip():
            raise ValueError(f"text file {path} is empty: some text is wanted")
        return [text]
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in _SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    documents = [text for text in map(_read, files) if text.strip()]
    if not documents:
        raise ValueError(f"folder {path} holds no text: at least one non-empty text file is wanted")
    return documents


def _read(path: Path) -> str:
    data = path.read_bytes()
    # A NUL is valid UTF-8 but no text file has one: UTF-16 and most binary formats do.
    if b"\0" in data:
        raise ValueError(f"{path} is a binary file: UTF-8 text is wanted")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start} does not decode): UTF-8 is wanted"
        ) from error
