"""Every expert's answer verifies and no corrupted one does; every text has a verdict, soon."""

import importlib
import random
import re
import statistics
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.models.characters import ALPHABET, CONTEXT
from rarefy.policy.tasks import LEVELS, TASKS, hinted, spans, split_of, task_of, without_hint

by_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
by_level = pytest.mark.parametrize("level", LEVELS)


def problems(task, level, n, seed=0):
    rng = random.Random(seed)
    return [task.sample(level, rng) for _ in range(n)]


def corruptions(answer, rng):
    """One character replaced by another of the answer's or its kind, one dropped, one doubled."""
    kind = "0123456789" if answer[0].isdigit() else "abcdefghij"
    at = rng.randrange(len(answer))
    other = rng.choice(kind)
    swap = rng.randrange(len(answer))
    swapped = list(answer)
    swapped[at], swapped[swap] = swapped[swap], swapped[at]
    return [
        answer[:at] + other + answer[at + 1 :],
        answer[:at] + answer[at + 1 :],
        answer[:at] + answer[at] + answer[at:],
        "".join(swapped),
    ]


@by_task
@by_level
def test_every_expert_answer_verifies_and_no_corrupted_one_does(task, level, reference):
    rng = random.Random(level)
    right = reference[task.name]
    wrong = 0
    for problem in problems(task, level, 1000):
        assert task.verify(problem.prompt, problem.completion) == 1.0
        assert right(problem.prompt, problem.answer)
        whole = problem.completion
        for broken in (whole.replace("#", ""), f"#{whole}", f"{problem.trace}#", whole + " ",
                       whole[:-1]):  # fmt: skip
            assert task.verify(problem.prompt, broken) == 0.0, broken
        corrupt = rng.choice(corruptions(problem.answer, rng))
        truth = right(problem.prompt, corrupt)
        wrong += not truth
        assert task.verify(problem.prompt, f"{problem.trace}#{corrupt}") == float(truth), corrupt
    # What is replaced by itself, or by another right answer, is rare enough to leave a test.
    assert wrong > 500


@by_task
@pytest.mark.parametrize("level", [3, 4, 5])
def test_an_answer_to_another_problem_is_right_less_than_one_time_in_a_hundred(task, level):
    drawn = problems(task, level, 1000)
    lucky = sum(
        task.verify(problem.prompt, drawn[(i + shift) % 1000].completion)
        for shift in (1, 2, 3)
        for i, problem in enumerate(drawn)
    )
    assert lucky / 3000 < 0.0125  # three standard errors above one in 120, that of permute


@by_task
def test_levels_raise_difficulty(task):
    means = [
        statistics.mean(task.difficulty(p.prompt) for p in problems(task, level, 200))
        for level in LEVELS
    ]
    assert all(harder > easier for easier, harder in zip(means, means[1:], strict=False)), means


@by_task
def test_the_policy_can_read_and_write_every_problem(task):
    for level in LEVELS:
        for problem in problems(task, level, 100):
            text = hinted(problem, 1.0) + problem.completion
            assert set(text) <= set(ALPHABET)
            assert len(text) < CONTEXT


@by_task
def test_the_same_seed_draws_the_same_problems_and_splits_share_none(task):
    assert problems(task, 3, 20) == problems(task, 3, 20)
    assert problems(task, 3, 20) != problems(task, 3, 20, seed=1)
    rng = random.Random(0)
    assert all(split_of(task.sample(1, rng).prompt) == "train" for _ in range(100))
    assert all(split_of(task.sample(1, rng, split="eval").prompt) == "eval" for _ in range(20))


@by_task
def test_hints_are_the_first_part_of_the_trace_and_change_no_verdict(task):
    for problem in problems(task, 3, 50):
        for ratio in (0.25, 0.5, 0.75, 1.0):
            prompt = hinted(problem, ratio)
            prefix = prompt[len(problem.prompt) : -1]
            assert problem.trace.startswith(prefix)
            assert len(prefix) == round(ratio * len(problem.trace))
            assert "#" not in prompt
            assert without_hint(prompt) == problem.prompt
            assert task.verify(prompt, problem.completion) == 1.0
            assert task.verify(prompt, f"#{prefix}#") == 0.0
        assert hinted(problem, 0.0) == problem.prompt


@by_task
def test_a_prompt_is_of_one_task_only(task):
    for level in LEVELS:
        for problem in problems(task, level, 50):
            assert [t.name for t in TASKS.values() if t.owns(problem.prompt)] == [task.name]
            assert task_of(hinted(problem, 0.5)) is task


@by_task
@settings(max_examples=150, deadline=None)
@given(noise=st.binary(max_size=40) | st.text(max_size=40), data=st.data())
def test_verifiers_have_a_verdict_on_any_text(task, reference, noise, data):
    if isinstance(noise, bytes):
        noise = noise.decode(data.draw(st.sampled_from(["latin-1", "utf-8"])), errors="replace")
    problem = problems(task, data.draw(st.sampled_from(LEVELS)), 1)[0]
    at = data.draw(st.integers(0, len(problem.completion)))
    for text in (noise, f"#{noise}", problem.completion[:at] + noise + problem.completion[at:]):
        stages = task.partial(problem.prompt, text)
        assert all(0 <= value <= 1 for value in stages.values())
        assert stages["solved"] == float(task.credit(problem.prompt, text) == 1)
        if stages["solved"]:
            assert reference[task.name](problem.prompt, spans(text).answer)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_verifiers_have_a_verdict_on_any_prompt_of_their_form(data):
    task = TASKS[data.draw(st.sampled_from(sorted(TASKS)))]
    prompt = data.draw(st.from_regex(task.form, fullmatch=True).filter(lambda text: len(text) < 80))
    answer = data.draw(st.text("0123456789abcdefghij+-*", min_size=1, max_size=16))
    assert task.verify(prompt, f"#{answer}") in (0.0, 1.0)


@by_task
def test_verdicts_take_no_longer_on_long_texts(task):
    problem = problems(task, 5, 1)[0]
    attacks = [
        "#" + "9" * 1_000_000,
        "#" + "9*" * 500_000 + "9",
        "#" * 1_000_000,
        "0" * 1_000_000 + problem.completion,
        "#" + problem.answer * 100_000,
        "#" + "9*" * 127 + "9",
    ]
    began = time.perf_counter()
    for attack in attacks:
        task.credit(problem.prompt, attack)
    assert time.perf_counter() - began < 0.5


LADDERS = {
    "countdown": ("n3,5,2>16=", ["", "#3+5", "#3*5*2", "#3*5-2", "#3*5+2", "#3+5*2"]),
    "calculator": ("c7*8-9=", ["", "#x", "#0", "#40", "#46", "#47"]),
    "permute": ("pbcda:xzy=", ["", "#dca", "#cabd", "#dcba", "#dcab"]),
    "sort": ("sd3172=", ["", "#731", "#1237", "#7231", "#7321"]),
    "rewrite": ("wab>c:abdab=", ["", "#ab", "#ddd", "#cda", "#cdc"]),
    "path": ("gab,bc,cd,ac,be>ad=", ["", "#ab", "#aed", "#abd", "#abcbcd", "#abcd", "#acd"]),
    "sat": ("kabc,a-b-c,ab-c,-ab-c,a-bc,-a-b-c=", ["", "#10", "#000", "#100"]),
    "sudoku4": ("q12..3.1.21.343.1=", ["", "#1", "#1243342121344321", "#1234341221434312",
                                       "#1234341221434321"]),
}  # fmt: skip


@by_task
def test_partial_credit_never_falls_on_the_way_to_a_right_answer(task):
    prompt, ladder = LADDERS[task.name]
    credits = [task.credit(prompt, completion) for completion in ladder]
    assert credits == sorted(credits), credits
    assert len(set(credits)) >= 4
    assert credits[0] == 0 and credits[-1] == 1 and credits[-2] < 1


@pytest.mark.parametrize("name", ["permute", "sort"])
def test_each_place_put_right_never_lowers_credit(name):
    rng = random.Random(0)
    task = TASKS[name]
    for problem in problems(task, 4, 100):
        answer = rng.sample(problem.answer, len(problem.answer))
        credits = [task.credit(problem.prompt, "#" + "".join(answer))]
        for i, right in enumerate(problem.answer):
            at = answer.index(right, i)
            answer[i], answer[at] = answer[at], answer[i]
            credits.append(task.credit(problem.prompt, "#" + "".join(answer)))
        assert credits == sorted(credits)
        assert credits[-1] == 1


@pytest.mark.parametrize("name", TASKS)
def test_the_example_in_each_task_s_docstring_is_right(name):
    module = importlib.import_module(f"rarefy.policy.tasks.{name}")
    prompt, completion = re.search(r"^    (\S+)   ->   (\S+)$", module.__doc__, re.M).groups()
    assert TASKS[name].verify(prompt, completion) == 1.0


def test_levels_hints_and_prompts_out_of_range_are_refused():
    task = TASKS["sort"]
    with pytest.raises(ValueError, match="level is 6; 1, 2, 3, 4 or 5 is wanted"):
        task.sample(6, random.Random(0))
    with pytest.raises(ValueError, match="ratio is 1.5"):
        hinted(problems(task, 1, 1)[0], 1.5)
    with pytest.raises(ValueError, match="'what is 1[+]1[?]' is not one of the task 'sort'"):
        task.verify("what is 1+1?", "#2")
