"""Make a sound piece of reasoning unsound: negatives for a judge that needs no labels.

    "3;+5.8;*2.16"   swap    "*2.16;+5.8;3"      two steps change places
                     value   "3;+5.9;*2.16"      one step comes out otherwise
                     delete  "3;*2.16"           one step is missing
                     repeat  "3;+5.8;+5.8;*2.16" one step stands twice

Source: DRM (arXiv 2510.11457) takes its judge of coherence ready-made; corrupted expert traces are
this project's way to train one, after the synthetic negatives of process reward models.
"""

from __future__ import annotations

import random
from typing import Literal, get_args

Kind = Literal["swap", "value", "delete", "repeat"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def corrupt(trace: str, kind: Kind, rng: random.Random, *, sep: str = ";") -> str | None:
    r"""Spoil one place of a trace.

    Parameters
    ----------
    trace : str
        Steps with ``sep`` between them.
    kind : {"swap", "value", "delete", "repeat"}
        "value" changes the last digit or letter run of a step: a digit becomes another one, two
        letters that differ change places, a lone letter becomes another letter.
    rng : random.Random
    sep : str, default ";"
        ``"\n"`` for reasoning in lines.

    Returns
    -------
    str or None
        Never the trace itself; None where this kind cannot change it.

    Raises
    ------
    ValueError
        If the kind is none of the four.

    Examples
    --------
    >>> corrupt("3;+5.8;*2.16", "delete", random.Random(0))
    '3;*2.16'
    >>> corrupt("3", "swap", random.Random(0)) is None
    True
    """
    steps = trace.split(sep)
    places = list(range(len(steps)))
    if kind == "swap":
        pairs = [(i, j) for i in places for j in places[i + 1 :] if steps[i] != steps[j]]
        if not pairs:
            return None
        i, j = rng.choice(pairs)
        steps[i], steps[j] = steps[j], steps[i]
    elif kind == "value":
        changeable = [i for i in places if any(map(str.isalnum, steps[i]))]
        if not changeable:
            return None
        i = rng.choice(changeable)
        steps[i] = _other_value(steps[i], rng)
    elif kind == "delete":
        if len(steps) < 2:
            return None
        del steps[rng.choice(places)]
    elif kind == "repeat":
        filled = [i for i in places if steps[i]]
        if not filled:
            return None
        i = rng.choice(filled)
        steps.insert(i, steps[i])
    else:
        raise ValueError(f"kind is {kind!r}; one of {', '.join(KINDS)} is wanted")
    return sep.join(steps)


def _other_value(step: str, rng: random.Random) -> str:
    end = max(i for i, character in enumerate(step) if character.isalnum()) + 1
    start = end
    while start and step[start - 1].isalnum():
        start -= 1
    value = list(step[start:end])
    differing = [
        (i, j) for i in range(len(value)) for j in range(i + 1, len(value)) if value[i] != value[j]
    ]
    if differing and not step[end - 1].isdigit():
        i, j = rng.choice(differing)
        value[i], value[j] = value[j], value[i]
    else:
        i = rng.randrange(len(value))
        alphabet = "0123456789" if value[i].isdigit() else "abcdefghijklmnopqrstuvwxyz"
        value[i] = rng.choice([other for other in alphabet if other != value[i].lower()])
    return step[:start] + "".join(value) + step[end:]
