"""The Python standard library as a corpus: about 1,800 modules, 31 MB of source and docstrings.

Every Python has it, so every default of rarefy runs offline on real text. Modules are read as
text and parsed with :mod:`ast`; nothing is ever imported or executed. The split is fixed by
module *name* (:data:`HELD_OUT`), so figures are always on text the shipped models never saw.

The corpus follows the running interpreter: its size differs a little between Python versions,
and some distributions leave out the test suite. Reports therefore state the Python version.
"""

from __future__ import annotations

import ast
import io
import sysconfig
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

HELD_OUT: tuple[str, ...] = (
    "argparse",
    "calendar",
    "configparser",
    "difflib",
    "fractions",
    "graphlib",
    "heapq",
    "http",
    "json",
    "mailbox",
    "pprint",
    "shelve",
    "sqlite3",
    "statistics",
    "tarfile",
    "textwrap",
    "wsgiref",
    "zipfile",
)
"""Top-level modules (with their tests) that no shipped model was trained on."""

# Generated tables and the documentation blob: bytes, but not text that a language model learns
# from or a reader would look for.
_ELSEWHERE = ("encodings", "pydoc_data", "site-packages", "dist-packages")

Split = Literal["train", "heldout", "all"]


@dataclass(frozen=True, order=True)
class Module:
    """One source file of the standard library.

    Attributes
    ----------
    name : str
        Dotted name, ``"json.decoder"``; a package's own file is the package's name.
    path : Path
        Where the source lies.
    """

    name: str
    path: Path

    @property
    def held_out(self) -> bool:
        """Whether the module, or the module it tests, is in :data:`HELD_OUT`."""
        parts = self.name.split(".")
        if parts[0] == "test" and len(parts) > 1:
            return parts[1].startswith(tuple(f"test_{name}" for name in HELD_OUT))
        return parts[0] in HELD_OUT

    def read(self) -> str:
        """Return the source as text, decoded as its own coding line says."""
        with tokenize.open(self.path) as file:
            return file.read()


@dataclass(frozen=True)
class Passage:
    """A documented object: its summary line asks, its source answers.

    Attributes
    ----------
    name : str
        Qualified name, ``"json.decoder.JSONDecoder.decode"``.
    summary : str
        First line of the docstring.
    docstring : str
        The whole docstring, cleaned of indentation.
    source : str
        The object's source text, docstring included.
    """

    name: str
    summary: str
    docstring: str
    source: str


def modules(split: Split = "all", *, tests: bool = True) -> list[Module]:
    """List the standard library's modules, in name order.

    Parameters
    ----------
    split : {"all", "train", "heldout"}
        ``"heldout"`` are the modules of :data:`HELD_OUT` and their tests, ``"train"`` the rest.
    tests : bool, default True
        Whether to include the standard library's test suite.

    Returns
    -------
    list of Module
        Generated tables (``encodings``, ``pydoc_data``) and files that do not decode as Python
        source (deliberately broken test inputs) are left out.

    Raises
    ------
    ValueError
        If ``split`` is none of the three.
    """
    if split not in ("all", "train", "heldout"):
        raise ValueError(f"split must be 'all', 'train' or 'heldout', got {split!r}")
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    # Installed packages are not even walked: there may be a hundred thousand files.
    tops = [top for top in root.iterdir() if top.name not in _ELSEWHERE]
    sources = (path for top in tops for path in ([top] if top.is_file() else top.rglob("*.py")))
    for path in sources:
        if path.suffix != ".py":
            continue
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if not tests and any(part in ("test", "tests", "idle_test") for part in parts):
            continue
        module = Module(".".join(parts), path)
        if (split == "all" or module.held_out == (split == "heldout")) and _decodes(path):
            found.append(module)
    return sorted(found)


def passages(split: Split = "all", *, tests: bool = False) -> Iterator[Passage]:
    """Yield every documented class and function of the standard library.

    Parameters
    ----------
    split, tests
        As for :func:`modules`; the test suite is left out by default.

    Yields
    ------
    Passage
        In module order, then in source order. Modules that do not parse with the running
        interpreter's grammar are skipped.
    """
    for module in modules(split, tests=tests):
        source = module.read()
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue
        yield from _documented(tree, module.name, source.splitlines())


def _documented(node: ast.AST, prefix: str, lines: list[str]) -> Iterator[Passage]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}.{child.name}"
            docstring = ast.get_docstring(child)
            if docstring and docstring.strip():
                text = textwrap.dedent("\n".join(lines[child.lineno - 1 : child.end_lineno]))
                yield Passage(name, docstring.strip().splitlines()[0], docstring, text)
            yield from _documented(child, name, lines)


@cache
def _decodes(path: Path) -> bool:
    data = path.read_bytes()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError):
        return False
    return True
