"""Indirect object identification (IOI): sentences whose last word is the name said only once.

    Then, A and B went over to the PLACE. C chose to give a OBJECT to ->

C repeats one of the two names: it is S, the subject. The other is IO, the indirect object, and the
right answer. In order 0 (ABB) IO comes first, in order 1 (BAB) S does. The three templates have
their parts at the same positions, and every word is one token, of a word-level tokenizer as well
as of GPT-2's.

Source: Wang et al., "Interpretability in the Wild" (2022), as used by "Towards Principled
Evaluations of Sparse Autoencoders" (2024). Departures: templates and word lists are rarefy's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Attribute = Literal["io", "s", "pos"]

# Women, then men: a name's gender is which half of the list it stands in.
# fmt: off
NAMES = (
    "Alice", "Amy", "Anna", "Carol", "Claire", "Emily", "Emma", "Grace", "Jane", "Jennifer",
    "Julia", "Karen", "Kate", "Laura", "Lisa", "Mary", "Rachel", "Rose", "Ruth", "Sarah",
    "Adam", "Alan", "Ben", "Bill", "Brian", "Carl", "Daniel", "David", "Eric", "Frank",
    "George", "Henry", "Jack", "James", "John", "Kevin", "Mark", "Paul", "Peter", "Simon",
)
OBJECTS = (
    "bag", "ball", "basket", "book", "bottle", "box", "camera", "card", "coin", "cup",
    "drink", "flower", "gift", "hat", "key", "letter", "phone", "ring", "shirt", "watch",
)
PLACES = (
    "beach", "church", "garden", "hotel", "library", "museum", "office", "park", "school",
    "station",
)
# fmt: on
TEMPLATES = tuple(
    f"Then , {{first}} and {{second}} {meet} the {{place}} . {{s}} {give} a {{object}} to"
    for meet, give in (
        ("went over to", "chose to give"),
        ("sat down in", "tried to hand"),
        ("met up at", "wanted to offer"),
    )
)
_SLOTS = TEMPLATES[0].split()
LENGTH = len(_SLOTS)
"""Tokens of a prompt; the answer is the next."""


@dataclass(frozen=True)
class IOIPrompts:
    """Prompts by what they say; each field has shape (n,) and numbers of the word lists.

    Parameters
    ----------
    io, s : Tensor of int64
        Names: the answer, and the repeated one.
    pos : Tensor of int64
        0 where IO is named first, 1 where S is.
    template, object, place : Tensor of int64
    """

    io: Tensor
    s: Tensor
    pos: Tensor
    template: Tensor
    object: Tensor
    place: Tensor

    def __len__(self) -> int:
        return len(self.io)

    @property
    def attributes(self) -> dict[str, Tensor]:
        """What the task depends on: ``io``, ``s`` and ``pos``."""
        return {"io": self.io, "s": self.s, "pos": self.pos}

    @property
    def positions(self) -> dict[str, Tensor]:
        """Token positions (n,) of ``io``, ``s1``, ``s1+1``, ``s2`` and ``end``."""
        first, second = _SLOTS.index("{first}"), _SLOTS.index("{second}")
        s1 = torch.where(self.pos == 0, second, first)
        return {
            "io": torch.where(self.pos == 0, first, second),
            "s1": s1,
            "s1+1": s1 + 1,
            "s2": torch.full_like(s1, _SLOTS.index("{s}")),
            "end": torch.full_like(s1, LENGTH - 1),
        }

    def __getitem__(self, rows: Tensor | slice) -> IOIPrompts:
        return IOIPrompts(**{name: value[rows] for name, value in vars(self).items()})

    def texts(self) -> list[str]:
        """The prompts as sentences.

        >>> ioi_prompts(1, generator=torch.Generator().manual_seed(5)).texts()
        ['Then, Alice and Karen met up at the garden. Alice wanted to offer a drink to']
        """
        sentences = []
        for row in range(len(self)):
            names = NAMES[self.io[row]], NAMES[self.s[row]]
            first, second = names if self.pos[row] == 0 else names[::-1]
            words = TEMPLATES[self.template[row]].format(
                first=first,
                second=second,
                s=names[1],
                object=OBJECTS[self.object[row]],
                place=PLACES[self.place[row]],
            )
            sentences.append(words.replace(" ,", ",").replace(" .", "."))
        return sentences


def ioi_prompts(
    n: int,
    *,
    templates: tuple[int, ...] = (0, 1, 2),
    objects: tuple[int, ...] | None = None,
    places: tuple[int, ...] | None = None,
    generator: torch.Generator,
) -> IOIPrompts:
    """Draw prompts: all attributes uniform and independent, but that IO is never S.

    Parameters
    ----------
    n : int
    templates : tuple of int, default all
    objects, places : tuple of int, optional
        Which words of the lists to use, for prompts that others never saw; all by default.
    generator : torch.Generator

    Returns
    -------
    IOIPrompts

    Raises
    ------
    ValueError
        If ``n`` is not positive or a tuple is empty or out of range.
    """
    if n < 1:
        raise ValueError(f"n is {n}, expected at least 1")

    def draw(name: str, among: tuple[int, ...] | None, size: int) -> Tensor:
        among = tuple(range(size)) if among is None else among
        if not among or not all(0 <= i < size for i in among):
            raise ValueError(f"{name} is {among}, expected at least one of 0 to {size - 1}")
        return torch.tensor(among)[torch.randint(len(among), (n,), generator=generator)]

    io = draw("names", None, len(NAMES))
    return IOIPrompts(
        io=io,
        s=_another_name(io, io, generator),
        pos=draw("pos", None, 2),
        template=draw("templates", templates, len(TEMPLATES)),
        object=draw("objects", objects, len(OBJECTS)),
        place=draw("places", places, len(PLACES)),
    )


def counterfactual(
    prompts: IOIPrompts, attribute: Attribute, *, generator: torch.Generator
) -> IOIPrompts:
    """Change one attribute of each prompt: another name than IO and S, or the other order.

    Parameters
    ----------
    prompts : IOIPrompts
    attribute : {"io", "s", "pos"}
    generator : torch.Generator

    Raises
    ------
    ValueError
        If the attribute is not one of the three.
    """
    if attribute == "io":
        return replace(prompts, io=_another_name(prompts.io, prompts.s, generator))
    if attribute == "s":
        return replace(prompts, s=_another_name(prompts.io, prompts.s, generator))
    if attribute == "pos":
        return replace(prompts, pos=1 - prompts.pos)
    raise ValueError(f"attribute is {attribute!r}, expected 'io', 's' or 'pos'")


def _another_name(one: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a name that is neither, uniformly."""
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    taken = 1 + (low != high).long()
    # A uniform number below what is left, then stepped over the one or two that are taken.
    rest = torch.rand(one.shape, generator=generator, dtype=torch.float64)
    name = (rest * (len(NAMES) - taken)).long()
    name += name >= low
    return name + ((name >= high) & (low != high))


class IOIEncoder:
    """Turns prompts into token ids, through any tokenizer to which each word is one token.

    Parameters
    ----------
    tokenizer : transformers tokenizer

    Attributes
    ----------
    names : Tensor of int64, shape (40,)
        Token of each name, as it would follow the prompt.

    Raises
    ------
    ValueError
        If a word of the language is more or less than one token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        def token(word: str, before: str = " ") -> int:
            text = word if word in ",." else before + word
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(ids) != 1 or ids[0] == tokenizer.unk_token_id != tokenizer.bos_token_id:
                raise ValueError(
                    f"the tokenizer makes {len(ids)} tokens of {text!r}; one known token is wanted "
                    "of each word of the IOI language"
                )
            return ids[0]

        def tokens(words: tuple[str, ...]) -> Tensor:
            return torch.tensor([token(word) for word in words])

        self.names, self._objects, self._places = tokens(NAMES), tokens(OBJECTS), tokens(PLACES)
        self._templates = torch.tensor(
            [
                [0 if w.startswith("{") else token(w, " " if at else "") for at, w in enumerate(t)]
                for t in map(str.split, TEMPLATES)
            ]
        )

    def __call__(self, prompts: IOIPrompts) -> Tensor:
        """Encode prompts as ids of shape (n, LENGTH)."""
        ids = self._templates[prompts.template]
        io, s, first = self.names[prompts.io], self.names[prompts.s], prompts.pos == 0
        for slot, values in {
            "{first}": torch.where(first, io, s),
            "{second}": torch.where(first, s, io),
            "{s}": s,
            "{object}": self._objects[prompts.object],
            "{place}": self._places[prompts.place],
        }.items():
            ids[:, _SLOTS.index(slot)] = values
        return ids
