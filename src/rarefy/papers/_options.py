"""The options of a recipe: the keyword-only parameters of its ``setup``, nothing more to write."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

from rarefy.papers._recipe import Recipe

_SIMPLE = (str, int, float, bool, Path)


@dataclass(frozen=True)
class Option:
    """One option: its name, the type of a single value, its default, and its help.

    ``choices`` lists the values of a ``Literal``; ``many`` marks a ``tuple[T, ...]``, which is
    given by repeating the option.
    """

    name: str
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    many: bool = False


def options(recipe: Recipe) -> tuple[Option, ...]:
    """List the options of a recipe.

    Parameters
    ----------
    recipe : Recipe
        The recipe. A keyword-only parameter of its ``setup`` must have a default and be annotated
        ``str``, ``int``, ``float``, ``bool``, ``Path``, a ``Literal`` of strings, one of these or
        ``None``, or ``tuple[T, ...]``.

    Raises
    ------
    TypeError
        If a parameter breaks that rule: an error of the recipe's author.
    """
    helps = _parameter_docs(recipe.setup.__doc__ or "")
    found = []
    for parameter in inspect.signature(recipe.setup).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        name = parameter.name
        where = f"{recipe.__name__}.setup: option {name!r}"
        if parameter.default is inspect.Parameter.empty:
            raise TypeError(f"{where} has no default")
        # Only the options are resolved: other annotations may name types of libraries that are
        # imported for type checking alone.
        holder = types.SimpleNamespace(__annotations__={name: parameter.annotation})
        hint = typing.get_type_hints(holder, globalns=_globals(recipe))[name]
        found.append(_option(name, hint, parameter.default, helps.get(name, ""), where))
    return tuple(found)


def resolve(recipe: Recipe, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in defaults and give every value the type its option declares.

    Raises
    ------
    ValueError
        If an option is unknown or a value is not of its type.
    """
    known = {option.name: option for option in options(recipe)}
    for name in given:
        if name not in known:
            wanted = ", ".join(known) or "none"
            raise ValueError(
                f"{recipe.PAPER.slug} has no option {name!r}; its options are: {wanted}"
            )
    return {
        name: _typed(option, given[name]) if name in given else option.default
        for name, option in known.items()
    }


def _typed(option: Option, value: Any) -> Any:
    if value is None and option.default is None:
        return None
    if option.many:
        return tuple(_one(option, item) for item in value)
    return _one(option, value)


def _one(option: Option, value: Any) -> Any:
    if option.choices and value not in option.choices:
        raise ValueError(f"{option.name} is {value!r}, expected one of {', '.join(option.choices)}")
    if option.type is Path and isinstance(value, str):
        return Path(value)
    if option.type is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, option.type) or (option.type is int and isinstance(value, bool)):
        raise ValueError(f"{option.name} is {value!r}, expected a value of {option.type.__name__}")
    return value


def _globals(recipe: Recipe) -> dict[str, Any]:
    return inspect.unwrap(recipe.setup).__globals__


def _option(name: str, hint: Any, default: Any, text: str, where: str) -> Option:
    if typing.get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in typing.get_args(hint) if part is not type(None)]
        hint = rest[0] if len(rest) == 1 else hint
    many = typing.get_origin(hint) is tuple
    if many:
        parts = typing.get_args(hint)
        hint = parts[0] if len(parts) == 2 and parts[1] is Ellipsis else hint
    choices: tuple[str, ...] = ()
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        hint = str if all(isinstance(choice, str) for choice in choices) else hint
    if hint not in _SIMPLE:
        raise TypeError(f"{where} is annotated {hint}, which a command line cannot give")
    return Option(name, hint, default, text, choices, many)


def _parameter_docs(docstring: str) -> dict[str, str]:
    """Descriptions from the Parameters section of a numpydoc docstring, one paragraph each."""
    section = re.search(
        r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", inspect.cleandoc(docstring), re.M | re.S
    )
    found: dict[str, str] = {}
    if section:
        for names, body in re.findall(
            r"^(\w[\w, ]*?)(?: *:[^\n]*)?\n((?:[ \t]+[^\n]*\n?|\n)*)", section.group(1), re.M
        ):
            text = " ".join(body.split())
            found |= {name.strip(): text for name in names.split(",")}
    return found
