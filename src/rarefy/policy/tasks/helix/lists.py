"""Seven tasks on one list of numbers, each an algorithm that a reader can walk by hand.

Each algorithm is a generator: it yields a sentence a step and returns the value, so that the
solver's work, its trace and its answer are one text.

Source: the tasks of MM-HELIX (arXiv 2510.08540), with the list lengths and values of its released
generators. Departures: none.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Generator
from random import Random

from rarefy.policy.tasks.helix.answers import number
from rarefy.policy.tasks.helix.scenes import Bars
from rarefy.policy.tasks.helix.task import Solution, State, Task, states

Walk = Generator[str, None, int]

_LENGTHS = ((5, 10), (11, 20), (21, 30), (31, 40), (50, 70))
_LARGEST = (20, 40, 60, 80, 100)


class ListTask(Task):
    """One number computed from a list."""

    category = "algorithms"

    @abstractmethod
    def _walk(self, values: list[int]) -> Walk:
        """Compute the number step by step."""

    def _generate(self, level: int, rng: Random) -> State:
        """Draw a list of the level's length and range."""
        length = rng.randint(*_LENGTHS[level - 1])
        return {"values": [rng.randint(0, _LARGEST[level - 1]) for _ in range(length)]}

    def _search(self, state: State) -> Solution:
        """Walk the algorithm."""
        value, said = self._run(state["values"])
        return Solution(str(value), len(said), states(said))

    def _check(self, state: State, answer: str) -> bool:
        """Compare with the number."""
        return number(answer) == self._run(state["values"])[0]

    def _scene(self, state: State) -> Bars:
        """Lay out the list."""
        return Bars(tuple(state["values"]))

    def _run(self, values: list[int]) -> tuple[int, list[str]]:
        said = []
        walk = self._walk(values)
        while True:
            try:
                said.append(next(walk))
            except StopIteration as end:
                return end.value, said


class BuySellStock(ListTask):
    """Best profit of one purchase and one later sale."""

    name = "buy-sell-stock"
    rules = (
        "The numbers are the prices of a stock on successive days. Buy on one day and sell on a "
        "later one. What is the largest profit (0 if there is none)? Answer with one number."
    )

    def _walk(self, values: list[int]) -> Walk:
        """Keep the lowest price so far."""
        lowest, best = values[0], 0
        for day, price in enumerate(values[1:], start=2):
            best = max(best, price - lowest)
            lowest = min(lowest, price)
            yield f"day {day}: price {price}, lowest so far {lowest}, best profit {best}"
        return best


class ContainerWithMostWater(ListTask):
    """Largest area between two lines."""

    name = "container-with-most-water"
    rules = (
        "The numbers are the heights of vertical lines one unit apart. Two lines and the ground "
        "hold water up to the lower of the two. What is the largest area that two lines hold? "
        "Answer with one number."
    )

    def _walk(self, values: list[int]) -> Walk:
        """Move the lower of two pointers inwards: no wider pair with it can hold more."""
        left, right, best = 0, len(values) - 1, 0
        while left < right:
            area = (right - left) * min(values[left], values[right])
            best = max(best, area)
            yield f"lines {left + 1} and {right + 1} hold {area}, best {best}"
            if values[left] < values[right]:
                left += 1
            else:
                right -= 1
        return best


class HillsAndValleys(ListTask):
    """Number of local extrema, plateaus counted once."""

    name = "count-hills-and-valleys"
    rules = (
        "In the list, equal neighbours form one plateau. A plateau with a neighbour on either side "
        "is a hill if both are lower and a valley if both are higher. How many hills and valleys "
        "are there together? Answer with one number."
    )

    def _walk(self, values: list[int]) -> Walk:
        """Count the changes of direction."""
        count = direction = 0
        for before, after in zip(values, values[1:], strict=False):
            step = (after > before) - (after < before)
            if step and step == -direction:
                count += 1
            direction = step or direction
            yield f"{before} to {after}: {count} so far"
        return count


class HIndex(ListTask):
    """Largest h with h numbers of at least h."""

    name = "h-index"
    rules = (
        "The numbers are the citations of a researcher's papers. What is the h-index: the largest "
        "h such that h papers have at least h citations each? Answer with one number."
    )

    def _walk(self, values: list[int]) -> Walk:
        """Go down the sorted list until a paper has fewer citations than its rank."""
        h = 0
        for rank, citations in enumerate(sorted(values, reverse=True), start=1):
            yield f"rank {rank} has {citations} citations"
            if citations < rank:
                break
            h = rank
        return h


class LongestIncreasingSubsequence(ListTask):
    """Length of the longest strictly increasing subsequence."""

    name = "longest-increasing-subsequence"
    rules = (
        "How long is the longest strictly increasing subsequence of the list (not necessarily of "
        "neighbours)? Answer with one number."
    )

    def _walk(self, values: list[int]) -> Walk:
        """Keep the smallest last element of a subsequence of each length."""
        tails: list[int] = []
        for value in values:
            place = bisect_left(tails, value)
            tails[place : place + 1] = [value]
            yield f"{value} ends a subsequence of length {place + 1}: {tails}"
        return len(tails)


class LargestRectangle(ListTask):
    """Largest rectangle under a histogram."""

    name = "largest-rectangle-in-histogram"
    rules = (
        "The numbers are the heights of bars of width 1, side by side. What is the area of the "
        "largest rectangle inside the histogram? Answer with one number."
    )

    def _walk(self, values: list[int]) -> Walk:
        """Keep rising bars on a stack; a lower bar closes the rectangles of higher ones."""
        stack: list[int] = []
        best = 0
        for right, height in enumerate([*values, 0]):
            while stack and values[stack[-1]] >= height:
                top = values[stack.pop()]
                left = stack[-1] + 1 if stack else 0
                best = max(best, top * (right - left))
                yield f"height {top} spans bars {left + 1} to {right}: best area {best}"
            if right < len(values):
                stack.append(right)
        return best


class TrappingRainWater(ListTask):
    """Water held between bars."""

    name = "trapping-rain-water"
    rules = (
        "The numbers are the heights of bars of width 1, side by side. How many units of rain stay "
        "between the bars? Answer with one number."
    )

    def _walk(self, values: list[int]) -> Walk:
        """Water over a bar rises to the lower of the highest bars on its two sides."""
        total = highest = 0
        ahead = [0] * len(values)
        for i in range(len(values) - 2, -1, -1):
            ahead[i] = max(ahead[i + 1], values[i + 1])
        for i, value in enumerate(values):
            water = max(0, min(highest, ahead[i]) - value)
            total += water
            highest = max(highest, value)
            yield f"bar {i + 1} of height {value} holds {water}: {total} so far"
        return total
