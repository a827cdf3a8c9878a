"""stdlib-qa: facts that Python itself confirms, experts, and wrong answers."""

import importlib
import random

import pytest

from rarefy.policy.tasks import LEVELS, TASKS
from rarefy.policy.tasks.kbqa import KB_QA
from rarefy.policy.tasks.stdlibqa import STDLIB_QA, TOOLS, _questions, standard_library
from rarefy.policy.tools import ToolEnv


def test_facts_are_those_of_python():
    assert TOOLS["m"]("ordereddict") == "collections"
    assert TOOLS["b"]("counter") == "dict"
    assert TOOLS["b"]("brokenbarriererror") == "runtimeerror"
    assert TOOLS["m"]("no such name") == "!"
    for name in ("textwrap", "json.decoder", "fractions"):
        doc = importlib.import_module(name).__doc__.lower()
        assert TOOLS["d"](name).split()[0] in doc


@pytest.mark.parametrize("level", LEVELS)
def test_there_are_questions_of_every_level_and_experts_answer_them(level):
    rng = random.Random(level)
    env = ToolEnv(TOOLS)
    assert len(_questions()[level]) >= 8
    for _ in range(200):
        problem = STDLIB_QA.sample(level, rng)
        assert STDLIB_QA.verify(problem.prompt, problem.completion) == 1
        assert STDLIB_QA.difficulty(problem.prompt) == level == len(env.attempts(problem.trace))
        assert all(env.attempts(problem.trace))
        place = rng.randrange(len(problem.answer))
        wrong = f"{problem.answer[:place]}~{problem.answer[place + 1 :]}"
        assert STDLIB_QA.verify(problem.prompt, f"#{wrong}") == 0
        assert STDLIB_QA.verify(problem.prompt, f"#{problem.answer}.") == 0


def test_no_other_task_has_its_prompts():
    rng = random.Random(0)
    for level in LEVELS:
        prompt = STDLIB_QA.sample(level, rng).prompt
        assert not any(task.owns(prompt) for task in (*TASKS.values(), KB_QA))


def test_names_fit_the_alphabet():
    from rarefy.models import character_tokenizer

    tokenizer = character_tokenizer()
    base = standard_library()
    assert len(base.facts) > 500
    for entity in base.entities:
        assert tokenizer.unk_token_id not in tokenizer(entity)["input_ids"]
