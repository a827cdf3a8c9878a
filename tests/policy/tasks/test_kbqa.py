"""kb-qa: experts, wrong answers, and a knowledge base that is what it is said to be."""

import random

import pytest

from rarefy.policy.tasks import LEVELS, TASKS
from rarefy.policy.tasks.kbqa import KB_QA, TOOLS, UNKNOWN, asked, knowledge_base
from rarefy.policy.tools import ToolEnv


@pytest.mark.parametrize("level", LEVELS)
def test_experts_are_right_and_whatever_else_is_wrong(level):
    rng = random.Random(level)
    for _ in range(1000):
        problem = KB_QA.sample(level, rng)
        assert KB_QA.verify(problem.prompt, problem.completion) == 1
        assert KB_QA.difficulty(problem.prompt) == level == problem.trace.count("<")
        spoiled = list(problem.answer)
        place = rng.randrange(len(spoiled))
        spoiled[place] = rng.choice([c for c in "xq #" if c != spoiled[place]])
        assert KB_QA.verify(problem.prompt, f"{problem.trace}#{''.join(spoiled)}") == 0


def test_a_trace_is_what_the_environment_would_say():
    env = ToolEnv(TOOLS)
    rng = random.Random(0)
    for _ in range(50):
        trace = KB_QA.sample(4, rng).trace
        for end, letter in enumerate(trace, start=1):
            if letter == ">":
                assert trace[end:].startswith(env.reply(trace[:end]))
        assert env.attempts(trace) == [True] * 4


def test_descriptions_are_partly_right():
    base = knowledge_base()
    entity = next(e for e in base.entities if len(base.facts["e", e].split()) == 3)
    first = base.facts["e", entity].rsplit(" ", 1)[0]
    stages = KB_QA.partial(f"?e,{entity}=", f"#{first}")
    assert stages["legal"] == 1 and 0 < stages["progress"] < 1 and stages["solved"] == 0


def test_the_base_is_the_same_for_its_seed_and_not_for_another():
    base, other = knowledge_base(), knowledge_base(1)
    assert base.facts == knowledge_base.__wrapped__(0).facts != other.facts
    assert len(set(base.entities)) == 200 and not set(base.entities) & {"the", "and"}
    for relation, tool in TOOLS.items():
        fact = tool(base.entities[0])
        assert fact == base.facts[relation, base.entities[0]]
        assert (fact in base.entities) == (relation in "abcd")
    assert TOOLS["a"]("xxx") == UNKNOWN


def test_answers_cannot_be_guessed():
    rng = random.Random(0)
    answers = [KB_QA.sample(3, rng).answer for _ in range(2000)]
    assert max(answers.count(answer) for answer in set(answers)) / 2000 < 0.03


def test_no_other_task_has_its_prompts_and_it_has_no_others():
    rng = random.Random(0)
    for level in LEVELS:
        prompt = KB_QA.sample(level, rng).prompt
        assert asked(prompt)[1] in knowledge_base().entities
        assert not any(t.owns(prompt) for name, t in TASKS.items() if name != KB_QA.name)
        for name, task in TASKS.items():
            if name != KB_QA.name:
                assert not KB_QA.owns(task.sample(level, rng).prompt)


def test_strange_answers_have_no_credit():
    for answer in ("", "!", "A", "ab", "abcd", "bob bob bob bob bob", "\x00", "bob\n"):
        assert KB_QA.verify("?a,bob=", f"#{answer}") == 0
    assert KB_QA.verify("?a,xxx=", "#xxx") == 0
