"""Solvers and models against brute force; shared searches against their definitions."""

import itertools
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.policy.tasks.helix import GenerationError, draw, get_task, list_tasks
from rarefy.policy.tasks.helix.arithmetic import evaluate
from rarefy.policy.tasks.helix.csp import Different, Log, Model, Relation, TooLong, solutions
from rarefy.policy.tasks.helix.search import best_first
from rarefy.policy.tasks.helix.task import Problem


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    domains=st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=2, max_size=4),
    rows=st.lists(st.tuples(*[st.none() | st.integers(0, 3)] * 2), min_size=1, max_size=8),
    different=st.booleans(),
)
def test_search_finds_exactly_the_satisfying_assignments(domains, rows, different):
    model = Model([sum(1 << value for value in domain) for domain in domains])
    n = len(domains)
    for i in range(n - 1):
        model.add((i, i + 1), Relation(rows))
    if different:
        model.add(range(n), Different(4))
    expected = {
        values
        for values in itertools.product(*map(sorted, domains))
        if all(
            any(a in (None, values[i]) and b in (None, values[i + 1]) for a, b in rows)
            for i in range(n - 1)
        )
        and (not different or len(set(values)) == n)
    }
    found = [tuple(values) for values in solutions(model, Log())]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_every_try_is_retracted_or_part_of_the_solution():
    model = Model([0b11] * 4)
    model.add(range(4), Relation([(0, 1, 1, 0), (1, 0, 0, 1), (1, 1, 0, 0)]))
    model.possible = lambda domains: domains[2] != 2
    log = Log()
    values = next(solutions(model, log))
    open_tries = []
    for event, variable, value in log.events:
        if event == "try":
            open_tries.append((variable, value))
        elif event == "retract":
            assert open_tries.pop() == (variable, value)
    assert open_tries
    assert all(values[variable] == value for variable, value in open_tries)
    assert "retract" in {event for event, *_ in log.events}


def test_searches_stop_at_their_limits():
    pigeons = Model([0b1111111] * 8)
    for pair in itertools.combinations(range(8), 2):
        pigeons.add(pair, Different())
    with pytest.raises(TooLong):
        list(solutions(pigeons, Log(), limit=500))
    with pytest.raises(GenerationError, match="no path within 50 states"):
        best_first(0, lambda n: [("up", n + 1, 1)], lambda n: n < 0, limit=50)
    with pytest.raises(GenerationError, match="no path"):
        best_first(0, lambda n: [], lambda n: n == 1)


# What a tiny problem's every answer could be, whatever the solver thinks.
def _grids(symbols, size):
    for values in itertools.product(symbols, repeat=size * size):
        yield "\n".join(" ".join(values[i : i + size]) for i in range(0, size * size, size))


def _subsets(problem):
    size = problem.state["size"]
    for mask in itertools.product((0, 1), repeat=size * size):
        if sum(mask) == sum(problem.state["rows"]):
            chosen = [divmod(i, size) for i, value in enumerate(mask) if value]
            yield " ".join(f"({r + 1},{c + 1})" for r, c in chosen)


def _orders(symbols):
    return (" ".join(order) for order in itertools.permutations(symbols))


def _assignments(problem):
    letters = sorted(set("".join(problem.state["words"])))
    for digits in itertools.permutations("0123456789", len(letters)):
        yield " ".join(f"{x}={v}" for x, v in zip(letters, digits, strict=True))


CANDIDATES = {
    "kukurasu": lambda p: _grids("01", 3),
    "tapa": lambda p: _grids("01", 3),
    "aquarium": lambda p: _grids("01", 4),
    "hitori": lambda p: _grids("01", 4),
    "nonogram": lambda p: _grids("01", 4),
    "calcudoku": lambda p: _grids("123", 3),
    "skyscrapers": lambda p: _grids("123", 3),
    "campsite": _subsets,
    "graph-isomorphism": lambda p: _orders("abcdef"),
    "crypto-math": _assignments,
}


@pytest.mark.parametrize("name", CANDIDATES)
def test_model_and_verifier_agree_on_every_candidate(name):
    """What the verifier accepts of all candidates is what the model enumerates, and no more."""
    task = get_task(name)
    problem = draw(task, 1, 0)
    accepted = {text for text in CANDIDATES[name](problem) if task.verify(problem, text)}
    assert accepted == set(task.answers(problem.state))
    assert accepted


def test_hamiltonian_models_miss_no_way():
    for name, n in (("hamiltonian-path", 4), ("hamiltonian-cycle", 6)):
        task = get_task(name)
        for index in range(5):
            problem = draw(task, 1, index)
            tails = itertools.permutations(map(str, range(n)))
            closed = name.endswith("cycle")
            texts = (" ".join([*way, way[0]] if closed else way) for way in tails)
            accepted = [text for text in texts if task.verify(problem, text)]
            # Each way is found once, not from every start and in both directions.
            assert len(accepted) == len(set(task.answers(problem.state))) * (2 * n if closed else 2)


def _water(values):
    return sum(max(0, min(max(values[: i + 1]), max(values[i:])) - v) for i, v in enumerate(values))


def _turns(values):
    steep = [k for k, _ in itertools.groupby(values)]
    return sum((b - a) * (c - b) < 0 for a, b, c in zip(steep, steep[1:], steep[2:], strict=False))


BRUTE = {
    "buy-sell-stock": lambda v: max([0] + [b - a for a, b in itertools.combinations(v, 2)]),
    "container-with-most-water": lambda v: max(
        (j - i) * min(v[i], v[j]) for i, j in itertools.combinations(range(len(v)), 2)
    ),
    "count-hills-and-valleys": _turns,
    "h-index": lambda v: max(h for h in range(len(v) + 1) if sum(x >= h for x in v) >= h),
    "largest-rectangle-in-histogram": lambda v: max(
        min(v[i : j + 1]) * (j + 1 - i) for i in range(len(v)) for j in range(i, len(v))
    ),
    "longest-increasing-subsequence": lambda v: max(
        k
        for k in range(1, len(v) + 1)
        for s in itertools.combinations(v, k)
        if all(a < b for a, b in itertools.pairwise(s))
    ),
    "trapping-rain-water": _water,
}


@pytest.mark.parametrize("name", BRUTE)
def test_list_algorithms_equal_brute_force(name):
    task, rng = get_task(name), Random(0)
    for _ in range(60):
        values = [rng.randint(0, 8) for _ in range(rng.randint(2, 9))]
        problem = Problem(name, 1, "", {"values": values})
        assert int(task.solve(problem).answer) == BRUTE[name](values)


def test_max_flow_equals_the_smallest_cut():
    task = get_task("max-flow")
    for level, index in itertools.product((1, 2, 3), range(6)):
        problem = draw(task, level, index)
        n, edges = problem.state["nodes"], problem.state["edges"]
        cuts = []
        for inner in itertools.product((0, 1), repeat=n - 2):
            side = (1, *inner, 0)
            cuts.append(sum(weight for a, b, weight in edges if side[a] and not side[b]))
        assert int(task.solve(problem).answer) == min(cuts)


def test_breadth_first_games_are_solved_in_the_fewest_moves():
    task = get_task("hanoi")
    for level, (fewest, most) in enumerate(((1, 2), (3, 3), (4, 5), (6, 7), (8, 15)), start=1):
        moves = len(task.solve(draw(task, level, 0)).answer.split())
        assert fewest <= moves <= most
    # The textbook position takes 2^n - 1 moves.
    full = Problem("hanoi", 5, "", {"disks": 4, "pegs": [1, 1, 1, 1]})
    assert len(task.solve(full).answer.split()) == 15


def test_heuristic_search_with_weight_one_is_cheapest():
    def moves(cell):
        return [
            (name, (cell[0] + dr, cell[1] + dc), price)
            for name, dr, dc, price in (("d", 1, 0, 1), ("r", 0, 1, 2), ("u", -1, 0, 1))
            if 0 <= cell[0] + dr < 6 and cell[1] + dc < 6
        ]

    plain = best_first((0, 0), moves, lambda cell: cell == (5, 5))
    aimed = best_first(
        (0, 0), moves, lambda cell: cell == (5, 5), heuristic=lambda c: 10 - c[0] - c[1]
    )
    assert len(plain[0]) == len(aimed[0]) == 10
    assert aimed[1] <= plain[1]


_NUMBERS = st.integers(0, 30).map(str)
_EXPRESSIONS = st.recursive(
    _NUMBERS,
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(
        lambda parts: "(" + " ".join(parts) + ")"
    ),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(text=_EXPRESSIONS)
def test_evaluate_agrees_with_python(text):
    plain = text[1:-1] if text.startswith("(") else text
    exact = "".join(f"Fraction({t})" if t.isdigit() else t for t in _split(plain))
    try:
        expected = eval(exact, {"Fraction": Fraction})
    except ZeroDivisionError:
        expected = None
    if expected is None:
        with pytest.raises(ValueError):
            evaluate(plain)
    else:
        assert evaluate(plain)[0] == expected


def _split(text):
    return [t for t in text.replace("(", " ( ").replace(")", " ) ").split(" ") if t]


@pytest.mark.parametrize(
    "text", ["", "1 2", "(1", "1)", "()", "1+", "-1", "2(3)", "1++2", "8//2", "2**3", ")(", "1/0"]
)
def test_evaluate_refuses(text):
    with pytest.raises(ValueError):
        evaluate(text)


def test_no_published_state_holds_an_answer():
    for name in list_tasks():
        problem = draw(get_task(name), 1, 0)
        assert not {"answer", "solution"} & set(problem.state)
