r"""Finite-domain search: the one solver behind every puzzle that asks for values in cells.

A variable's domain is a bit mask of small whole numbers. A constraint is a tuple of variables and a
relation, of which there are two kinds:

* :class:`Relation` lists the allowed rows of values and keeps, for each position and value, the
  set of rows that hold it as one long integer. Revision is

  .. math:: R' = R \cap \bigcap_p \bigcup_{v \in D_p} S_{p,v}, \qquad
            D_p' = \{v \in D_p : R' \cap S_{p,v} \ne \emptyset\}

  which is arc consistency exactly, a few machine words at a time.
* :class:`Different` forbids equal values; where there are as many values as variables it also
  places a value that fits only one of them.

What no small relation can say (one loop, one island) is a test on the domains after each
propagation, which may say no early.

Source: Demeulenaere et al. 2016, *Compact-Table* (CP 2016), for the bit sets. Departures: nothing
is kept between revisions; a row may leave a position free (None), after smart tables.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Protocol

Domains = list[int]
Row = tuple[int | None, ...]
Event = tuple[str, int, int]


class Constraint(Protocol):
    """A relation between variables."""

    def revise(self, scope: Sequence[int], domains: Domains) -> list[int] | None:
        """Narrow the domains in place; the variables narrowed, or None on a contradiction."""


class Relation:
    """Allowed rows of values; None in a row stands for any value."""

    def __init__(self, rows: Iterable[Row]) -> None:
        allowed = list(dict.fromkeys(rows))
        self._all = (1 << len(allowed)) - 1
        width = len(allowed[0]) if allowed else 0
        self._free = [0] * width
        self._supports: list[dict[int, int]] = [{} for _ in range(width)]
        for index, row in enumerate(allowed):
            for position, value in enumerate(row):
                if value is None:
                    self._free[position] |= 1 << index
                else:
                    support = self._supports[position]
                    support[1 << value] = support.get(1 << value, 0) | 1 << index

    def revise(self, scope: Sequence[int], domains: Domains) -> list[int] | None:
        """Keep the values that an allowed row still holds."""
        left = self._all
        for variable, free, support in zip(scope, self._free, self._supports, strict=False):
            domain = domains[variable]
            held = free
            for bit, rows in support.items():
                if domain & bit:
                    held |= rows
            left &= held
        if not left:
            return None
        narrowed = []
        for variable, free, support in zip(scope, self._free, self._supports, strict=True):
            domain = domains[variable]
            if left & free or not domain & (domain - 1):
                continue
            kept = sum(bit for bit, rows in support.items() if domain & bit and left & rows)
            if kept != domain:
                domains[variable] = kept
                narrowed.append(variable)
        return narrowed


class Different:
    """No two variables are equal; ``values`` is how many there are in all, if all are used."""

    def __init__(self, values: int | None = None) -> None:
        self._values = values

    def revise(self, scope: Sequence[int], domains: Domains) -> list[int] | None:
        """Take placed values from the others; place values that fit one variable only."""
        before = [domains[variable] for variable in scope]
        while True:
            placed = once = twice = 0
            for variable in scope:
                domain = domains[variable]
                if not domain & (domain - 1):
                    if placed & domain:
                        return None
                    placed |= domain
                twice |= once & domain
                once |= domain
            alone = 0
            if self._values == len(scope):
                if once.bit_count() < self._values:
                    return None
                alone = once & ~twice
            changed = False
            for variable in scope:
                domain = domains[variable]
                if not domain & (domain - 1):
                    continue
                kept = domain & alone or domain & ~placed
                if not kept or kept & (kept - 1) and domain & alone:
                    return None
                if kept != domain:
                    domains[variable] = kept
                    changed = True
            if not changed:
                break
        return [v for v, old in zip(scope, before, strict=True) if domains[v] != old]


@cache
def exactly(count: int, of: int) -> Relation:
    """Of so many binary variables exactly ``count`` are 1."""
    return Relation(row for row in product((0, 1), repeat=of) if sum(row) == count)


def _anything(domains: Domains) -> bool:  # noqa: ARG001
    return True


@dataclass
class Model:
    """Variables, constraints and a test of what relations cannot say.

    Attributes
    ----------
    domains : list of int
        Bit masks: bit v is set where the variable may have the value v.
    constraints : list of (scope, Constraint)
    possible : Callable
        False if no assignment within the domains can be valid; must be exact once every domain
        has one value.
    """

    domains: Domains
    constraints: list[tuple[tuple[int, ...], Constraint]] = field(default_factory=list)
    possible: Callable[[Domains], bool] = _anything

    def add(self, scope: Iterable[int], constraint: Constraint) -> None:
        """Add a constraint."""
        self.constraints.append((tuple(scope), constraint))


@dataclass
class Log:
    """What a search did: constraints revised, and values tried, taken back and deduced."""

    revisions: int = 0
    events: list[Event] = field(default_factory=list)


class TooLong(RuntimeError):
    """The search passed its limit."""


def values_of(domain: int) -> Iterator[int]:
    """Values of a bit mask, rising.

    >>> list(values_of(0b1010))
    [1, 3]
    """
    while domain:
        yield (domain & -domain).bit_length() - 1
        domain &= domain - 1


def mask(values: Iterable[int]) -> int:
    """Bit mask of values."""
    found = 0
    for value in values:
        found |= 1 << value
    return found


def solutions(model: Model, log: Log, *, limit: int = 1_000_000) -> Iterator[list[int]]:
    """Yield every assignment that satisfies the model.

    Depth first; the variable with fewest values first (of equals, the one in most constraints),
    its values rising.

    Parameters
    ----------
    model : Model
    log : Log
        Filled in place.
    limit : int, default 1,000,000
        Most revisions.

    Yields
    ------
    list of int
        A value for each variable.

    Raises
    ------
    TooLong
        If the search passes the limit.
    """
    touching: list[list[int]] = [[] for _ in model.domains]
    for index, (scope, _) in enumerate(model.constraints):
        for variable in scope:
            touching[variable].append(index)

    def propagate(domains: Domains, waiting: Iterable[int]) -> bool:
        queue = deque(waiting)
        queued = set(queue)
        while queue:
            index = queue.popleft()
            queued.discard(index)
            scope, constraint = model.constraints[index]
            log.revisions += 1
            if log.revisions > limit:
                raise TooLong
            narrowed = constraint.revise(scope, domains)
            if narrowed is None:
                return False
            for variable in narrowed:
                for other in touching[variable]:
                    if other != index and other not in queued:
                        queued.add(other)
                        queue.append(other)
        return model.possible(domains)

    def descend(domains: Domains, before: Domains) -> Iterator[list[int]]:
        for variable, (now, then) in enumerate(zip(domains, before, strict=True)):
            if now != then and not now & (now - 1):
                log.events.append(("fix", variable, now.bit_length() - 1))
        open_ = [v for v, domain in enumerate(domains) if domain & (domain - 1)]
        if not open_:
            yield [domain.bit_length() - 1 for domain in domains]
            return
        chosen = min(open_, key=lambda v: (domains[v].bit_count(), -len(touching[v])))
        for value in values_of(domains[chosen]):
            log.events.append(("try", chosen, value))
            tried = domains.copy()
            tried[chosen] = 1 << value
            start = tried.copy()
            if propagate(tried, touching[chosen]):
                yield from descend(tried, start)
            log.events.append(("retract", chosen, value))

    root = model.domains.copy()
    if all(root) and propagate(root, range(len(model.constraints))):
        yield from descend(root, [0] * len(root))
