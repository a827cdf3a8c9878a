"""Questions about Python's standard library, answered by look-ups: kb-qa with facts that are real.

    !bmd,counter=   ->   <b,counter>[dict]...

Relations: b, the base of a class; m, the module of a class or function; d, the first words of a
module's docstring. The facts are read from the sources of the running Python, in lower case, so
they differ a little between its versions; names that stand for two things are left out. Levels: 1
to 5 relations. Difficulty: calls needed.

Source: rarefy's own, the twin of :mod:`rarefy.policy.tasks.kbqa` on real data.
"""

from __future__ import annotations

import ast
import random
import re
import sysconfig
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from rarefy.policy.tasks._task import ILLEGAL, Draft, Grade, Task
from rarefy.policy.tasks.kbqa import UNKNOWN, KnowledgeBase, asked
from rarefy.rewards.text import length_aware_bleu

_FILES = (
    "argparse ast bdb calendar cmd code codecs collections/__init__ configparser contextlib "
    "csv dataclasses datetime difflib email/message enum fractions ftplib functools gettext "
    "http/client http/cookies imaplib ipaddress json/decoder json/encoder logging/__init__ "
    "mailbox optparse os pathlib pdb pickle queue random selectors shelve shlex shutil "
    "smtplib socketserver ssl statistics string subprocess tarfile tempfile textwrap "
    "threading tokenize traceback types typing unittest/case unittest/mock urllib/error "
    "urllib/parse urllib/request weakref xml/sax/handler xmlrpc/client zipfile"
)
RELATIONS = "bmd"
DOC_WORDS = 4

_FORM = re.compile(r"![bmd]{1,10},[a-z0-9_.]{1,40}=")
_ANSWER = re.compile(r"[a-z0-9_.]+(?: [a-z0-9_.]+){0,3}")


@cache
def standard_library() -> KnowledgeBase:
    """The facts; modules that this Python lacks are left out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found: dict[tuple[str, str], set[str]] = {}
    for name in _FILES.split():
        path = root / f"{name}.py"
        if path.exists():
            module = name.removesuffix("/__init__").replace("/", ".")
            for relation, entity, fact in _facts(module, ast.parse(path.read_bytes())):
                found.setdefault((relation, entity.lower()), set()).add(fact.lower())
    facts = {key: min(values) for key, values in found.items() if len(values) == 1}
    return KnowledgeBase(tuple(sorted({entity for _, entity in facts})), facts)


def _facts(module: str, tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    doc = re.findall(r"[a-z0-9_]+", (ast.get_docstring(tree) or "").lower())
    if doc:
        yield "d", module, " ".join(doc[:DOC_WORDS])
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            if node.name.lower() != module:
                yield "m", node.name, module
            if isinstance(node, ast.ClassDef) and node.bases:
                base = ast.unparse(node.bases[0]).rpartition(".")[2]
                if base.isidentifier() and base.lower() != node.name.lower():
                    yield "b", node.name, base


TOOLS: dict[str, Callable[[str], str]] = {
    relation: partial(lambda relation, name: standard_library().look_up(relation, name), relation)
    for relation in RELATIONS
}
"""A tool for each relation: name in, fact out."""


@cache
def _questions() -> dict[int, list[tuple[str, str]]]:
    """By number of relations, all that can be asked: relations and entity."""
    base = standard_library()
    paths: dict[int, list[tuple[str, str]]] = {1: sorted(base.facts)}
    for length in (2, 3, 4, 5):
        # What one more relation in front leads to is the beginning of a shorter question.
        shorter: dict[str, list[str]] = {}
        for relations, entity in paths[length - 1]:
            shorter.setdefault(entity, []).append(relations)
        paths[length] = [
            (relation + relations, entity)
            for (relation, entity), fact in sorted(base.facts.items())
            for relations in shorter.get(fact, ())
        ]
    return paths


def _draw(level: int, rng: random.Random) -> Draft:
    relations, entity = rng.choice(_questions()[level])
    found = standard_library().follow(relations, entity)
    trace = "".join(
        f"<{relation},{subject}>[{fact}]"
        for relation, subject, fact in zip(relations, [entity, *found[:-1]], found, strict=True)
    )
    return Draft(f"!{relations},{entity}=", trace, found[-1])


def _grade(prompt: str, answer: str) -> Grade:
    found = standard_library().follow(*asked(prompt))[-1]
    if not _ANSWER.fullmatch(answer) or found == UNKNOWN:
        return ILLEGAL
    if answer == found:
        return Grade(1.0, 1.0)
    # Words are compared without punctuation, so that a wrong name may have all of them right.
    return Grade(1.0, min(0.99, length_aware_bleu(answer, [found])))


def _difficulty(prompt: str) -> float:
    return len(asked(prompt)[0])


STDLIB_QA = Task("stdlib-qa", _FORM, _draw, _grade, _difficulty)
