"""Finding the recipes: every module of `rarefy.papers` without a leading underscore."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import cast

import rarefy.papers
from rarefy.papers._recipe import Recipe


def discover() -> list[Recipe]:
    """Import every recipe and return them by paper number.

    Raises
    ------
    ValueError
        If two recipes have the same number or slug.
    """
    names = (module.name for module in pkgutil.iter_modules(rarefy.papers.__path__))
    recipes = [
        cast(Recipe, importlib.import_module(f"rarefy.papers.{name}"))
        for name in names
        if not name.startswith("_")
    ]
    recipes.sort(key=lambda recipe: recipe.PAPER.number)
    for one, other in zip(recipes, recipes[1:], strict=False):
        if one.PAPER.number == other.PAPER.number:
            raise ValueError(f"{one.__name__} and {other.__name__} have the same paper number")
    if len({recipe.PAPER.slug for recipe in recipes}) < len(recipes):
        raise ValueError("two recipes in rarefy.papers have the same slug")
    return recipes


def find(name: str) -> Recipe:
    """Find a recipe by slug or number.

    Raises
    ------
    ValueError
        If there is none; the message names the nearest slugs.
    """
    recipes = discover()
    for recipe in recipes:
        if name == recipe.PAPER.slug or (name.isdecimal() and int(name) == recipe.PAPER.number):
            return recipe
    slugs = [recipe.PAPER.slug for recipe in recipes]
    near = difflib.get_close_matches(name.lower(), slugs, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`rarefy papers` lists them"
    raise ValueError(f"no paper {name!r}; {hint}")
