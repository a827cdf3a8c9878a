"""All 42 tasks against their contract, and their solvers' work by level."""

import itertools
import json
from random import Random
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.policy.tasks.helix import GenerationError, Problem, draw, get_task, list_tasks
from rarefy.policy.tasks.helix.cells import ModelTask

LEVELS = (1, 2, 3, 4, 5)
TASKS = [get_task(name) for name in list_tasks()]
every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def test_there_are_42_tasks_in_four_categories():
    counts = {c: len(list_tasks(c)) for c in ("algorithms", "games", "graphs", "puzzles")}
    assert counts == {"algorithms": 9, "games": 6, "graphs": 8, "puzzles": 19}
    assert len(set(list_tasks())) == len(TASKS) == 42


@every_task
def test_the_solvers_answer_verifies_and_its_work_rises(task):
    work = {}
    for level in LEVELS:
        solutions = []
        for index in range(20):
            problem = draw(task, level, index)
            solutions.append(task.solve(problem))
            assert task.verify(problem, solutions[-1].answer), problem.prompt
        work[level] = sum(solution.steps for solution in solutions)
    assert work[5] > 1.5 * work[1]
    assert work[4] + work[5] > work[1] + work[2]


@every_task
def test_corrupted_answers_are_refused(task):
    for level, index in itertools.product(LEVELS, range(4)):
        problem = draw(task, level, index)
        answer = task.solve(problem).answer
        corrupted = ["", "?", answer[:-1], f"{answer} x", f"x {answer}"]
        # A game that is won stays won by some further moves.
        if task.category != "games":
            corrupted.append(f"{answer}\n{answer}")
        assert not any(task.verify(problem, text) for text in corrupted)


@every_task
def test_most_answers_with_one_changed_symbol_are_refused(task):
    """One symbol swapped for another may be another right answer, but seldom is."""
    rng = Random(1)
    wrong = tried = 0
    for level in (2, 3, 4):
        problem = draw(task, level, 0)
        answer = task.solve(problem).answer
        symbols = sorted({x for x in answer if x.isalnum()}) + ["0", "7"]
        for _ in range(30):
            place = rng.choice([i for i, x in enumerate(answer) if x.isalnum()])
            other = rng.choice([x for x in symbols if x != answer[place]])
            tried += 1
            wrong += not task.verify(problem, answer[:place] + other + answer[place + 1 :])
    assert wrong > 0.8 * tried


@every_task
def test_verify_forgives_white_space_and_takes_bytes(task):
    problem = draw(task, 3, 0)
    answer = task.solve(problem).answer
    loose = "\n \n".join(f"  {line.replace(' ', '  ')}\t" for line in answer.splitlines()) + "\n"
    assert task.verify(problem, loose)
    assert task.verify(problem, loose.encode())


@every_task
def test_verify_is_total(task):
    problem = draw(task, 3, 0)
    answer = task.solve(problem).answer
    rng = Random(0)
    for _ in range(50):
        assert task.verify(problem, rng.randbytes(rng.randrange(200))) is False
        # Damaged answers reach further into the verifiers than noise does.
        damaged = bytearray(answer.encode())
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        assert task.verify(problem, bytes(damaged)) in (True, False)
    for text in (
        "9" * 4000,
        "(" * 4000,
        "1 " * 2000,
        "-1",
        "(0,0)",
        "(999,999)",
        "\x00",
        "²",
        "A" * 5000,
    ):
        start = process_time()
        assert task.verify(problem, text) is False
        assert process_time() - start < 0.5


_PIECES = st.text(alphabet="0123456789-+*/()=,.:# \nABCDLRUabcs²", max_size=60) | st.text(
    max_size=30
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(text=_PIECES)
@every_task
def test_verify_is_total_on_text(task, text):
    assert task.verify(_FIXED[task.name], text) in (True, False)


_FIXED = {task.name: draw(task, 1, 0) for task in TASKS}


@every_task
def test_problems_follow_the_seed_and_differ(task):
    first = [draw(task, 3, index) for index in range(5)]
    assert first == [draw(task, 3, index) for index in range(5)]
    assert len({problem.prompt for problem in first}) > 1
    assert draw(task, 3, 0, seed=1) != first[0] or draw(task, 3, 1, seed=1) != first[1]
    assert task.solve(first[0]) == task.solve(first[0])


@every_task
def test_the_state_is_json_and_the_prompt_tells_states_apart(task):
    prompts: dict[str, object] = {}
    for level, index in itertools.product(LEVELS, range(10)):
        problem = draw(task, level, index)
        assert json.loads(json.dumps(problem.state)) == problem.state
        assert problem.prompt.startswith(task.rules)
        # What the prompt leaves out would let two states share it.
        assert prompts.setdefault(problem.prompt, problem.state) == problem.state


@every_task
def test_skeletons_retract_what_they_leave(task):
    problem = draw(task, 4, 1)
    anchors = task.skeleton(problem)
    assert anchors
    assert all(anchor.text for anchor in anchors)
    kinds = [anchor.kind for anchor in anchors]
    assert set(kinds) <= {"state", "try", "retract"}
    assert kinds.count("retract") <= kinds.count("try")


@every_task
def test_images_are_drawn(task):
    image = task.render(draw(task, 5, 0))
    assert image.mode == "RGB"
    assert min(image.size) > 50
    assert len(image.getcolors(1 << 20)) > 2


@pytest.mark.parametrize(
    "task", [task for task in TASKS if isinstance(task, ModelTask)], ids=lambda task: task.name
)
def test_every_assignment_of_a_model_verifies(task):
    """Model and verifier state the rules twice; other solutions are accepted as well."""
    several = False
    for index, level in itertools.product(range(20), (2, 4, 5)):
        problem = draw(task, level, index)
        answers = list(itertools.islice(task.answers(problem.state), 2))
        assert answers[0] == task.solve(problem).answer
        assert all(task.verify(problem, answer) for answer in answers)
        several |= len(set(answers)) > 1
        if several and index >= 4:
            break
    assert several


def test_bad_levels_and_names():
    with pytest.raises(ValueError, match="level must be one of 1 to 5, got 6"):
        TASKS[0].sample(6, Random(0))
    with pytest.raises(ValueError, match=r"name must be one of list_tasks\(\), got 'chess'"):
        get_task("chess")


def test_what_cannot_be_solved_says_so():
    ones = Problem("twenty-four", 1, "", {"values": [1, 1, 1, 1]})
    with pytest.raises(GenerationError, match=r"twenty-four: \[1, 1, 1, 1\] cannot make 24"):
        get_task("twenty-four").solve(ones)
    star = Problem("hamiltonian-path", 1, "", {"nodes": 4, "edges": [[0, 1], [0, 2], [0, 3]]})
    with pytest.raises(GenerationError, match="hamiltonian-path: not solved in"):
        get_task("hamiltonian-path").solve(star)


def test_a_generator_that_never_succeeds_says_so():
    class Never(type(get_task("h-index"))):
        def _generate(self, level, rng):
            return None

    with pytest.raises(GenerationError, match="h-index: no problem of level 1 in 1000 draws"):
        Never().sample(1, Random(0))
