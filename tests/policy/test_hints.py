"""GHPO: which prompts get which hint, what is kept, under which prompt rows are scored."""

import random
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.models import SHIPPED, open_model
from rarefy.policy.batches import Batch
from rarefy.policy.grpo import GRPO
from rarefy.policy.hints import FixedHint, HintPolicy, all_wrong, hint_prefix, marked, told
from rarefy.policy.problems import RowProblems, TaskProblems
from rarefy.policy.rollout import Rollout, score
from rarefy.policy.tasks import COUNTDOWN, TASKS, Problem, hinted, verified
from rarefy.policy.trainer import PolicyTrainer, plain

TRACE = "3;+5.8;*2.16"


# Prefixes.


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ("char", ["3;+", "3;+5.8", "3;+5.8;*2", TRACE]),
        ("line", ["3;", "3;+5.8;", "3;+5.8;", TRACE]),
    ],
)
def test_prefixes_have_their_share_of_the_cuts_unit(cut, expected):
    assert [hint_prefix(TRACE, ratio, cut=cut) for ratio in (0.25, 0.5, 0.75, 1)] == expected


@settings(max_examples=50, deadline=None)
@given(st.text("ab;1 \n"), st.floats(0, 1))
def test_a_prefix_of_characters_is_the_suites(trace, ratio):
    problem = Problem("countdown", 1, "n1>1=", trace, "")
    prefix = hint_prefix(trace, ratio)
    assert (marked(problem, prefix) if prefix else problem.prompt) == hinted(problem, ratio)


@settings(max_examples=50, deadline=None)
@given(st.text("ab;\n"), st.floats(0, 1))
def test_lines_are_whole_and_their_number_rounded(trace, ratio):
    steps, step = [], ""
    for this, following in zip(trace, [*trace[1:], ""], strict=False):
        step += this
        if following == "" or (this in ";\n" and following not in ";\n"):
            steps.append(step)
            step = ""
    assert hint_prefix(trace, ratio, cut="line") == "".join(steps[: round(ratio * len(steps))])


def test_tokens_are_counted_by_the_tokenizer():
    offsets = [(0, 2), (2, 5), (5, 6), (6, 12)]

    def tokens(text, **kwargs):
        assert text == TRACE
        assert kwargs == {"add_special_tokens": False, "return_offsets_mapping": True}
        return {"offset_mapping": offsets}

    assert hint_prefix(TRACE, 0.5, cut="token", tokenizer=tokens) == TRACE[:5]


def test_the_shipped_tokenizer_cuts_characters(policy):
    prefix = hint_prefix(TRACE, 0.75, cut="token", tokenizer=policy[1])
    assert prefix == hint_prefix(TRACE, 0.75)


@settings(max_examples=50, deadline=None)
@given(st.text("12 ="), st.text("12", min_size=1), st.floats(0, 1))
def test_no_prefix_holds_the_answer(trace, answer, ratio):
    prefix = hint_prefix(f"{trace} {answer}", ratio, answer=answer)
    assert answer not in prefix.replace("=", " ").split()


def test_part_of_a_longer_number_is_not_the_answer():
    assert hint_prefix("12 + 32 is 44", 0.9, answer="2") == "12 + 32 is 4"


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_hints_of_the_suite_do_not_hold_the_answer(level):
    rng = random.Random(level)
    for task in TASKS.values():
        for _ in range(20):
            problem = task.sample(level, rng)
            prefix = hint_prefix(problem.trace, 1.0, answer=problem.answer)
            assert problem.trace.startswith(prefix)
            if len(problem.answer) > 2:
                assert not prefix.endswith(problem.answer)


def test_a_sentence_leaves_the_prompt_whole_and_ends_with_the_hint():
    prompt = told(Problem("rows", 1, "What is 3 + 4?", "", "7"), "3 + 4")
    assert prompt.startswith("What is 3 + 4?\n") and prompt.endswith("\n3 + 4")


# What is asked again: a trainer whose completions are told by a script.


class Scripted:
    """Completes prompts with right answers in the numbers that a script says, by prompt."""

    def __init__(self, problems, script, context=64):
        self.problems = RowProblems(problems, seed=0)
        self.script, self.step, self.notes, self.asked = script, 0, {}, []
        self.model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=context))
        self.max_new_tokens, self.group_size = 8, 4

    def tokenizer(self, prompt):
        return {"input_ids": [ord(c) for c in prompt]}

    def draw(self, n):
        return self.complete(sorted(self.problems.draw(n), key=lambda p: p.prompt))

    def complete(self, problems, prompts=None):
        prompts = prompts or [p.prompt for p in problems]
        self.asked.append(list(prompts))
        rows = len(prompts) * 4
        ids = torch.zeros(rows, 2, dtype=torch.long)
        mask = torch.ones(rows, 2, dtype=torch.bool)
        logps = torch.zeros(rows, 2)
        rollout = Rollout(ids, mask, ids, mask, logps, logps, torch.ones(rows, dtype=torch.bool))
        rewards = torch.tensor(
            [float(i < self.script.get(p, 0)) for p in prompts for i in range(4)]
        )
        return Batch(problems, prompts, rollout, rewards, rewards > 0, 4)


def row(prompt, trace="abcd"):
    return {"prompt": prompt, "trace": trace, "answer": "z"}


def test_only_failing_groups_are_asked_again_until_they_succeed():
    script = {"q1=": 2, "q2~a=": 1, "q3~ab=": 3}
    trainer = Scripted([row("q1="), row("q2="), row("q3="), row("q4=")], script)
    batch, report = HintPolicy(cold_start=0).mend(trainer, trainer.draw(4))
    assert trainer.asked == [
        ["q1=", "q2=", "q3=", "q4="],
        ["q2~a=", "q3~a=", "q4~a="],
        ["q3~ab=", "q4~ab="],
        ["q4~abc="],
    ]
    assert batch.prompts == ["q1=", "q2~a=", "q3~ab=", "q4~abc="]
    assert [p.prompt for p in batch.problems] == ["q1=", "q2=", "q3=", "q4="]
    assert batch.n_solved.tolist() == [2, 1, 3, 0]
    assert batch.extra["hint_ratio"].view(4, 4)[:, 0].tolist() == [0.0, 0.25, 0.5, 0.75]
    assert (report.tried, report.rescued) == ((3, 2, 1), (1, 1, 0))
    assert (report.all_wrong_before, report.all_wrong_after) == (3, 1)
    assert report.success_before == 2 / 16
    assert report.hinted_success == pytest.approx(4 / 12)
    assert report.notes["hinted_0.5"] == 2 / 4 and report.notes["rescued_0.25"] == 1 / 3


def test_one_right_completion_in_eight_is_no_reason_for_a_hint():
    trainer = Scripted([row("q1=")], {"q1=": 1})
    batch, report = HintPolicy(cold_start=0).mend(trainer, trainer.draw(1))
    assert len(trainer.asked) == 1 and report.tried == (0, 0, 0)
    assert report.hinted_success is None and "rescued_0.25" not in report.notes
    assert batch.prompts == ["q1="]


def test_a_trigger_of_ones_own():
    trainer = Scripted([row("q1=")], {"q1=": 1, "q1~a=": 4})
    policy = HintPolicy((0.25,), cold_start=0, trigger=lambda solved: solved.mean(1) < 0.5)
    assert policy.mend(trainer, trainer.draw(1))[0].n_solved.tolist() == [4]


def test_what_is_right_decides_and_not_what_is_rewarded():
    trainer = Scripted([row("q1=")], {"q1~a=": 1})
    drawn = trainer.draw(1)
    drawn = replace(drawn, rewards=torch.tensor([0.5, 0.5, 0.0, 0.0]))
    assert HintPolicy(cold_start=0).mend(trainer, drawn)[1].tried == (1, 0, 0)
    assert all_wrong(torch.zeros(1, 4)).tolist() == [True]


def test_keeping_the_best_attempt_goes_back_to_it():
    def few(solved):
        return solved.sum(1) < 3

    script = {"q1=": 1, "q1~a=": 2, "q1~ab=": 0, "q1~abc=": 0}
    kept = {}
    for keep in ("last", "best"):
        trainer = Scripted([row("q1=")], script)
        policy = HintPolicy(cold_start=0, trigger=few, keep=keep)
        kept[keep] = policy.mend(trainer, trainer.draw(1))[0].prompts
    assert kept == {"last": ["q1~abc="], "best": ["q1~a="]}


def test_missing_traces_are_counted_and_warned_of():
    trainer = Scripted([row("q1=", None), row("q2=")], {"q2~a=": 1})
    with pytest.warns(RuntimeWarning, match="hint_missing"):
        batch, report = HintPolicy(cold_start=0).mend(trainer, trainer.draw(2))
    assert report.missing == 1 and batch.prompts == ["q1=", "q2~a="]


def test_a_trace_that_is_not_needed_may_be_missing():
    trainer = Scripted([row("q1=", "")], {"q1=": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch, report = HintPolicy(cold_start=0, strict=True).mend(trainer, trainer.draw(1))
    assert report.missing == 0 and batch.prompts == ["q1="]


def test_empty_traces_are_an_error_where_asked_for():
    trainer = Scripted([row("q1=", "")], {})
    with pytest.raises(ValueError, match="'q1='.*no trace"):
        HintPolicy(cold_start=0, strict=True).mend(trainer, trainer.draw(1))


def test_hints_that_do_not_fit_are_left_out_and_counted():
    trainer = Scripted([row("q1=", "abcdefgh")], {}, context=8 + 3 + 1 + 4)
    batch, report = HintPolicy(cold_start=0).mend(trainer, trainer.draw(1))
    assert report.too_long == 1 and report.tried == (1, 1, 0)
    assert batch.prompts == ["q1~abcd="]


def test_a_hint_of_nothing_is_not_asked():
    trainer = Scripted([row("q1=", "z")], {})
    batch, report = HintPolicy(cold_start=0).mend(trainer, trainer.draw(1))
    assert report.tried == (0, 0, 0) and batch.prompts == ["q1="]


def test_a_fixed_hint_is_given_solved_or_not():
    trainer = Scripted([row("q1="), {**row("q2="), "level": 4}, row("q3=", "")], {"q1=": 1})
    batch = FixedHint(0.5, when=lambda problem: problem.level >= 4)(trainer, 3)
    assert sorted(batch.prompts) == ["q1=", "q2~ab=", "q3="]
    assert trainer.notes == {"hint_ratio": pytest.approx(0.5 / 3)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratios": ()}, "ratios"),
        ({"ratios": (0.5, 1.5)}, "ratios"),
        ({"keep": "first"}, "keep must be"),
        ({"score_prompt": "both"}, "score_prompt must be"),
        ({"cold_start": -1}, "cold_start is -1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HintPolicy(**arguments)


def test_bad_prefixes_are_refused():
    for arguments, message in (
        ({"ratio": 1.5}, "ratio is 1.5"),
        ({"ratio": 0.5, "cut": "word"}, "cut must be"),
        ({"ratio": 0.5, "cut": "token"}, "needs a tokenizer"),
    ):
        with pytest.raises(ValueError, match=message):
            hint_prefix(TRACE, **arguments)
    with pytest.raises(ValueError, match="ratio is 0"):
        FixedHint(0)


# On the shipped policy.


@pytest.fixture(scope="module")
def policy():
    torch.set_num_threads(1)
    return open_model(SHIPPED / "policy", device="cpu")


def make(policy, sampler, **given):
    given = {"n_prompts": 6, "group_size": 4, "learning_rate": 0.0, "seed": 3} | given
    return PolicyTrainer(
        *policy,
        TaskProblems({(COUNTDOWN, 2): 1.0, (COUNTDOWN, 4): 1.0}, seed=5),
        reward=verified,
        objective=GRPO(),
        sampler=sampler,
        max_new_tokens=24,
        **given,
    )


@pytest.fixture(scope="module")
def mended(policy):
    trainer = make(policy, HintPolicy(cold_start=0))
    return trainer, trainer.sampler(trainer, 6)


def test_hint_levels_are_mixed(mended):
    assert len(mended[1].extra["hint_ratio"].unique()) >= 3


def test_unhinted_groups_are_those_of_grpo(policy, mended):
    trainer = make(policy, plain)
    theirs, ours = plain(trainer, 6), mended[1]
    same = ours.extra["hint_ratio"].view(-1, 4)[:, 0] == 0
    assert 0 < same.sum() < 6
    a, b = ours.select(same), theirs.select(same)
    assert a.prompts == b.prompts
    assert a.rollout.completions() == b.rollout.completions()
    width = b.rollout.logps.shape[1]
    assert torch.equal(a.rollout.logps[:, :width], b.rollout.logps)
    assert not a.rollout.logps[:, width:].any()
    assert torch.equal(GRPO().advantages(a), GRPO().advantages(b))


def alone(policy, batch, i, prompt):
    """Log-probabilities of a completion under a prompt, with nothing padded."""
    ids = torch.tensor([policy[1](prompt)["input_ids"]])
    told = torch.tensor([batch.rollout.completions()[i]])
    logits = policy[0](torch.cat([ids, told], 1)).logits[0, ids.shape[1] - 1 : -1]
    return logits.log_softmax(-1).gather(1, told[0][:, None])[:, 0]


@torch.no_grad()
def test_every_row_is_scored_under_the_prompt_it_was_asked(policy, mended):
    _, batch = mended
    again = score(policy[0], batch.rollout).logps
    for i in range(0, 24, 4):
        expected = alone(policy, batch, i, batch.prompts[i // 4])
        for logps in (batch.rollout.logps, again):
            torch.testing.assert_close(
                logps[i][batch.rollout.completion_mask[i]], expected, atol=2e-4, rtol=0
            )


@torch.no_grad()
def test_plain_scores_are_under_the_problems_own_prompts(policy, mended):
    trainer = make(policy, HintPolicy(cold_start=0, score_prompt="plain"))
    batch = trainer.sampler(trainer, 6)
    assert batch.rollout.completions() == mended[1].rollout.completions()
    assert batch.prompts == [p.prompt for p in batch.problems] != mended[1].prompts
    assert torch.equal(batch.extra["hint_ratio"], mended[1].extra["hint_ratio"])
    again = score(policy[0], batch.rollout).logps
    for i in range(0, 24, 4):
        expected = alone(policy, batch, i, batch.problems[i // 4].prompt)
        for logps in (batch.rollout.logps, again):
            torch.testing.assert_close(
                logps[i][batch.rollout.completion_mask[i]], expected, atol=2e-4, rtol=0
            )


def test_the_first_steps_have_no_hints(policy):
    trainer = make(policy, HintPolicy(cold_start=1))
    first, second = trainer.train(2)
    assert first["n_rollouts"] == 24 and "all_wrong_after" not in first
    assert second["all_wrong_before"] == pytest.approx(second["all_wrong"])
    assert second["all_wrong_after"] <= second["all_wrong_before"]
    assert 24 < second["n_rollouts"] - first["n_rollouts"] <= 4 * 24


def test_a_run_that_was_killed_goes_on_as_if_not(tmp_path):
    def fresh():
        model = open_model(SHIPPED / "policy", device="cpu")
        return make(model, HintPolicy(cold_start=1), n_prompts=3, learning_rate=1e-3)

    whole = fresh()
    whole.train(3)
    fresh().train(2, checkpoint=tmp_path / "state.pt")
    resumed = fresh()
    resumed.train(3, checkpoint=tmp_path / "state.pt")
    for a, b in zip(whole.history, resumed.history, strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
