"""The standard library as interactions: which functions call what, which docstrings say what.

    calls  user = a function definition,      item = a name it calls
    words  user = a documented object,        item = a word of its docstring

Real choices with a long tail, wherever Python is: to complete a function's calls is a
recommendation. Sources are parsed, never run. A function nested in another is a user of its own,
and its calls are not counted for the outer one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

from rarefy.data.interactions import Interactions, interactions, k_core
from rarefy.data.stdlib import Split, modules, passages

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def function_calls(split: Split = "all", *, calls: int = 6, functions: int = 8) -> Interactions:
    """Read which names the standard library's functions call.

    Parameters
    ----------
    split : {"all", "train", "heldout"}
        Which modules; their tests are left out.
    calls : int, default 6
        Distinct names a function must call to be a user (after the k-core).
    functions : int, default 8
        Functions that must call a name for it to be an item.

    Returns
    -------
    Interactions
        About 900 functions, 240 names and 7,500 calls by default. Read once per process.
    """
    return k_core(interactions(_calls(split)), user=calls, item=functions)


@cache
def docstring_words(split: Split = "all", *, words: int = 10, objects: int = 20) -> Interactions:
    """Read which words the standard library's docstrings use.

    Parameters
    ----------
    split : {"all", "train", "heldout"}
    words : int, default 10
        Distinct words a docstring must have.
    objects : int, default 20
        Docstrings that must use a word.

    Returns
    -------
    Interactions
        Words in lower case, of three letters or more. Read once per process.
    """
    pairs = (
        (passage.name, word)
        for passage in passages(split)
        for word in re.findall(r"[a-z]{3,}", passage.docstring.lower())
    )
    return k_core(interactions(pairs), user=words, item=objects)


def _calls(split: Split) -> Iterator[tuple[str, str]]:
    for module in modules(split, tests=False):
        try:
            tree = ast.parse(module.read())
        except SyntaxError:
            continue
        yield from called_names(tree, module.name)


def called_names(tree: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
    r"""Yield (qualified function, called name) for every call inside a function.

    Examples
    --------
    >>> source = "def f(x):\n    print(x.strip())\n    def g(): return len(x)"
    >>> sorted(called_names(ast.parse(source), "m"))
    [('m.f', 'print'), ('m.f', 'strip'), ('m.f.g', 'len')]
    """
    # Definitions of one name (properties, branches) are numbered apart.
    stack = [(child, prefix, False) for child in ast.iter_child_nodes(tree)]
    seen: dict[str, int] = {}
    while stack:
        node, owner, inside = stack.pop()
        if isinstance(node, (*_Function, ast.ClassDef)):
            owner, inside = f"{owner}.{node.name}", isinstance(node, _Function)
            times = seen[owner] = seen.get(owner, 0) + 1
            owner = owner if times == 1 else f"{owner}#{times}"
        elif isinstance(node, ast.Call) and inside:
            if isinstance(node.func, ast.Name):
                yield owner, node.func.id
            elif isinstance(node.func, ast.Attribute):
                yield owner, node.func.attr
        stack += [(child, owner, inside) for child in ast.iter_child_nodes(node)]
