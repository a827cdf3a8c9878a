"""Questions to a knowledge base that only a tool can read: follow relations from an entity.

    ?ab,mox=   ->   <a,mox>[lir]<b,lir>[tuk]#tuk

"The b of the a of mox." What stands between "<" and ">" is a call, and the environment writes what
stands in brackets (:data:`TOOLS`); it is no token of the policy's. There are 200 entities, words of
three letters; relations a to d lead to an entity, e and f to a description of two to four words,
and so stand last. Levels: 1 to 5 relations. Difficulty: calls needed.

Source: multi-hop question answering with retrieval (HotpotQA, arXiv 1809.09600; MuSiQue, arXiv
2108.00573), in rarefy's own form. The facts are random, so that none can be guessed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from rarefy.policy.tasks._task import ILLEGAL, Draft, Grade, Task
from rarefy.rewards.text import length_aware_bleu

ENTITIES = 200
LEADING, DESCRIBING = "abcd", "ef"
UNKNOWN = "!"
"""What a tool answers where it knows no answer."""

_FORM = re.compile(r"\?[a-d]{0,9}[a-f],[a-z]{3}=")
_ANSWER = re.compile(r"[a-z]{3}(?: [a-z]{3}){0,3}")


@dataclass(frozen=True)
class KnowledgeBase:
    """Entities, and for each relation and entity one fact."""

    entities: tuple[str, ...]
    facts: dict[tuple[str, str], str]

    def look_up(self, relation: str, entity: str) -> str:
        """The fact, :data:`UNKNOWN` where there is none."""
        return self.facts.get((relation, entity), UNKNOWN)

    def follow(self, relations: str, entity: str) -> list[str]:
        """What each relation in turn leads to."""
        found = []
        for relation in relations:
            entity = self.look_up(relation, entity)
            found.append(entity)
        return found


@cache
def knowledge_base(seed: int = 0) -> KnowledgeBase:
    """Draw a knowledge base, the same for the same seed.

    Examples
    --------
    >>> base = knowledge_base()
    >>> len(base.entities), len(base.facts)
    (200, 1200)
    """
    rng = random.Random(f"knowledge base {seed}")
    consonants, vowels = "bdfgklmnprstvz", "aeiou"
    syllables = [a + v + b for a in consonants for v in vowels for b in consonants]
    names = tuple(rng.sample(syllables, ENTITIES))
    facts = {(relation, name): rng.choice(names) for name in names for relation in LEADING}
    for name in names:
        for relation in DESCRIBING:
            facts[relation, name] = " ".join(rng.sample(syllables, rng.choice((2, 3, 4))))
    return KnowledgeBase(names, facts)


TOOLS: dict[str, Callable[[str], str]] = {
    relation: partial(lambda relation, entity: knowledge_base().look_up(relation, entity), relation)
    for relation in LEADING + DESCRIBING
}
"""A tool for each relation: entity in, fact out."""


def asked(prompt: str) -> tuple[str, str]:
    """Relations and entity of a prompt."""
    relations, _, entity = prompt[1:-1].partition(",")
    return relations, entity


def _draw(level: int, rng: random.Random) -> Draft:
    base = knowledge_base()
    relations = "".join(rng.choice(LEADING) for _ in range(level - 1))
    relations += rng.choice(LEADING + DESCRIBING)
    entity = rng.choice(base.entities)
    found = base.follow(relations, entity)
    subjects = [entity, *found[:-1]]
    trace = "".join(
        f"<{relation},{subject}>[{fact}]"
        for relation, subject, fact in zip(relations, subjects, found, strict=True)
    )
    return Draft(f"?{relations},{entity}=", trace, found[-1])


def _grade(prompt: str, answer: str) -> Grade:
    found = knowledge_base().follow(*asked(prompt))[-1]
    if not _ANSWER.fullmatch(answer) or found == UNKNOWN:
        return ILLEGAL
    return Grade(1.0, length_aware_bleu(answer, [found]))


def _difficulty(prompt: str) -> float:
    return len(asked(prompt)[0])


KB_QA = Task("kb-qa", _FORM, _draw, _grade, _difficulty)
