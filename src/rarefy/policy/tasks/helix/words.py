"""Two puzzles of words: ladders and searches.

Source: the tasks of MM-HELIX (arXiv 2510.08540), with the steps of its released generators.
Departures: a ladder's prompt lists the words that may be used, so that text and verifier agree on
what a word is; a search hides several words and the same word may be found in more than one place.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import product
from random import Random

from rarefy.policy.tasks.helix.answers import Cell, Unreadable, tokens
from rarefy.policy.tasks.helix.cells import AROUND, inside
from rarefy.policy.tasks.helix.scenes import Board
from rarefy.policy.tasks.helix.search import best_first
from rarefy.policy.tasks.helix.task import Anchor, Solution, State, Task
from rarefy.policy.tasks.helix.vocabulary import WORDS

_FOUND = re.compile(
    r"\s*([a-z]{1,20})\s*\(\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*\)\s*-\s*"
    r"\(\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*\)\s*"
)


class WordLadder(Task):
    """Change one letter at a time."""

    name = "word-ladder"
    category = "puzzles"
    rules = (
        "Go from the first word to the last one by changing one letter at a time, using only words "
        "of the list. Answer with all words of the ladder, the first and the last included, "
        "separated by spaces."
    )
    # Letters, fewest and most steps, words listed.
    _SIZES = ((3, 2, 3, 15), (4, 3, 4, 30), (4, 5, 6, 45), (5, 6, 7, 60), (5, 8, 10, 80))

    def _generate(self, level: int, rng: Random) -> State | None:
        length, fewest, most, listed = self._SIZES[level - 1]
        start = rng.choice(WORDS[length])
        came: dict[str, str] = {start: start}
        layers = [[start]]
        while layers[-1] and len(layers) <= most:
            layers.append([])
            for word in layers[-2]:
                for there in _ladder(length)[word]:
                    if there not in came:
                        came[there] = word
                        layers[-1].append(there)
        ends = sorted(word for layer in layers[fewest:] for word in layer)
        if not ends:
            return None
        end = word = rng.choice(ends)
        used = {start}
        while word != start:
            used.add(word)
            word = came[word]
        others = sorted(set(came) - used)
        used |= set(rng.sample(others, min(len(others), listed - len(used))))
        return {"from": start, "to": end, "words": sorted(used)}

    def _search(self, state: State) -> Solution:
        words = state["words"]
        path, expanded, anchors = best_first(
            state["from"],
            lambda word: [(there, there, 1) for there in words if _one_letter(word, there)],
            lambda word: word == state["to"],
        )
        return Solution(" ".join([state["from"], *path]), expanded, anchors)

    def _check(self, state: State, answer: str) -> bool:
        ladder = [word.lower() for word in tokens(answer)]
        if not ladder or ladder[0] != state["from"] or ladder[-1] != state["to"]:
            return False
        return set(ladder) <= set(state["words"]) and all(
            _one_letter(a, b) for a, b in zip(ladder, ladder[1:], strict=False)
        )

    def _scene(self, state: State) -> Board:
        words = state["words"]
        notes = tuple(" ".join(words[i : i + 10]) for i in range(0, len(words), 10))
        return Board(
            (tuple(state["from"]), ("?",) * len(state["from"]), tuple(state["to"])), notes=notes
        )


def _one_letter(a: str, b: str) -> bool:
    return sum(x != y for x, y in zip(a, b, strict=True)) == 1


@cache
def _ladder(length: int) -> dict[str, list[str]]:
    """Words one letter away, by the patterns they share."""
    sharing: dict[str, list[str]] = {}
    for word in WORDS[length]:
        for i in range(length):
            sharing.setdefault(f"{word[:i]}?{word[i + 1 :]}", []).append(word)
    near: dict[str, list[str]] = {word: [] for word in WORDS[length]}
    for alike in sharing.values():
        for word in alike:
            near[word] += [other for other in alike if other != word]
    return near


class WordSearch(Task):
    """Find hidden words."""

    name = "word-search"
    category = "puzzles"
    rules = (
        "Find each word of the list in the grid. Words run straight in any of the eight "
        "directions. Answer with a line for each word: word (row,column)-(row,column), the cells "
        "of its first and last letter, counted from 1."
    )

    def _generate(self, level: int, rng: Random) -> State | None:
        size = 4 + 2 * level
        everything = WORDS[3] + WORDS[4] + WORDS[5]
        table: dict[Cell, str] = {}
        words: list[str] = []
        while len(words) < level + 1:
            word = rng.choice(everything)
            row, col = rng.randrange(size), rng.randrange(size)
            dr, dc = rng.choice(AROUND)
            cells = [(row + i * dr, col + i * dc) for i in range(len(word))]
            fits = all(table.get(c, x) == x for c, x in zip(cells, word, strict=True))
            if word not in words and inside(cells[-1], size, size) and fits:
                table.update(zip(cells, word, strict=True))
                words.append(word)
        grid = [
            "".join(table.get((r, c)) or rng.choice("abcdefghiklmnoprstuwy") for c in range(size))
            for r in range(size)
        ]
        return {"size": size, "grid": grid, "words": sorted(words)}

    def _search(self, state: State) -> Solution:
        size, grid = state["size"], state["grid"]
        found, anchors, steps = [], [], 0
        for word in state["words"]:
            starts = product(product(range(size), repeat=2), AROUND)
            for (row, col), (dr, dc) in starts:
                matched = 0
                r, c = row, col
                while matched < len(word) and inside((r, c), size, size):
                    steps += 1
                    if grid[r][c] != word[matched]:
                        break
                    matched, r, c = matched + 1, r + dr, c + dc
                if matched == len(word):
                    found.append(f"{word} ({row + 1},{col + 1})-({r - dr + 1},{c - dc + 1})")
                    anchors.append(Anchor("state", found[-1]))
                    break
                if matched > 1:
                    text = f"{word} from ({row + 1},{col + 1}) by ({dr},{dc})"
                    anchors.append(Anchor("try", text))
                    anchors.append(Anchor("retract", f"only {matched} letters agree"))
        return Solution("\n".join(found), steps, tuple(anchors))

    def _check(self, state: State, answer: str) -> bool:
        size, grid = state["size"], state["grid"]
        found = []
        for line in filter(str.strip, answer.splitlines()):
            match = _FOUND.fullmatch(line.lower())
            if match is None:
                raise Unreadable(answer)
            word, (r, c, u, v) = match[1], (int(x) - 1 for x in match.groups()[1:])
            found.append(word)
            far = max(abs(u - r), abs(v - c))
            straight = u == r or v == c or abs(u - r) == abs(v - c)
            if not (straight and far == len(word) - 1 and inside((r, c), size, size)):
                return False
            if not inside((u, v), size, size):
                return False
            dr, dc = (u > r) - (u < r), (v > c) - (v < c)
            if any(grid[r + i * dr][c + i * dc] != letter for i, letter in enumerate(word)):
                return False
        return sorted(found) == state["words"]

    def _scene(self, state: State) -> Board:
        return Board(
            tuple(map(tuple, state["grid"])), notes=("words: " + " ".join(state["words"]),)
        )
