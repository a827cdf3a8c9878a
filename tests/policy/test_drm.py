"""DRM's advantages, the sampler that scores reasoning, and its state over a restart."""

import pytest
import torch

from rarefy.models.characters import character_model, character_tokenizer
from rarefy.policy.advantages import group_norm
from rarefy.policy.drm import DRM, WithReasoning, combine
from rarefy.policy.grpo import GRPO
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import COUNTDOWN
from rarefy.policy.trainer import PolicyTrainer
from rarefy.rewards.dimensions import Coherence, Confidence, DimensionReward

G = 4
ANSWER = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
REASONING = torch.randn(12, generator=torch.Generator().manual_seed(0))


def by_loop(rewards):
    """Normalised group by group with plain Python."""
    out = []
    for start in range(0, len(rewards), G):
        group = [float(r) for r in rewards[start : start + G]]
        mean = sum(group) / G
        std = (sum((r - mean) ** 2 for r in group) / (G - 1)) ** 0.5
        out += [(r - mean) / (std + 1e-4) for r in group]
    return torch.tensor(out)


@pytest.mark.parametrize("eta", [0.0, 0.5, 2.0])
def test_both_adds_the_advantages(eta):
    got = combine(ANSWER, REASONING, G, mode="both", eta=eta)
    torch.testing.assert_close(got, by_loop(ANSWER) + eta * by_loop(REASONING))


def test_the_other_modes_are_one_of_them():
    torch.testing.assert_close(combine(ANSWER, REASONING, G, mode="answer"), by_loop(ANSWER))
    torch.testing.assert_close(combine(ANSWER, REASONING, G, mode="drm"), by_loop(REASONING))


def test_groups_that_are_all_wrong_or_all_right_get_an_advantage():
    silent = group_norm(ANSWER, G).view(-1, G)
    assert not silent[1:].any()
    heard = combine(ANSWER, REASONING, G).view(-1, G)
    assert heard.ne(0).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: combine(ANSWER, REASONING, G, mode="sum"), "'answer', 'drm' or 'both'"),
        (lambda: combine(ANSWER, REASONING[:8], G), r"\(12,\) and drm \(8,\)"),
        (lambda: combine(ANSWER, REASONING * torch.nan, G), "not finite"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def shorter_is_better(pairs):
    return [-float(len(text)) for _, text in pairs]


def trainer(mode="both", normalize="group", objective=None):
    tokenizer = character_tokenizer()
    reward = DimensionReward(
        [Confidence(), Coherence(shorter_is_better)],
        group_size=G,
        tokenizer=tokenizer,
        normalize=normalize,
    )
    return PolicyTrainer(
        character_model(tokenizer, seed=0, hidden=32, layers=1),
        tokenizer,
        TaskProblems({(COUNTDOWN, 1): 1.0}, seed=0),
        reward=COUNTDOWN.reward,
        objective=objective or DRM(mode=mode),
        sampler=WithReasoning(reward),
        max_new_tokens=12,
        n_prompts=3,
        group_size=G,
    )


@pytest.mark.filterwarnings("ignore:more than 90%")
def test_a_batch_carries_the_scores_of_its_own_completions():
    at = trainer(normalize="none")
    batch = at.sampler(at, 3)
    rollout = batch.rollout
    texts = rollout.text(at.tokenizer)
    scores = at.sampler.reward.scores
    assert batch.extra["drm"].shape == (12,)
    for i, text in enumerate(texts):
        whole = text.count("#") != 1
        if text and (whole or text[0] != "#"):
            wanted = len(text) if whole else text.index("#")
            assert scores["coherence"][i] == -wanted
    for i, text in enumerate(texts):
        if text.count("#") == 1 and text[0] != "#" and len(text) + 1 == rollout.lengths[i]:
            row = rollout.logps[i][: rollout.lengths[i]]
            at_mark = text.index("#")
            wanted = row[:at_mark].mean() + row[at_mark + 1 :].sum()
            assert scores["confidence"][i] == pytest.approx(float(wanted), rel=1e-4)
    assert (
        at.notes["drm_flagged"]
        == sum(text.count("#") != 1 or text[0] == "#" for text in texts) / 12
    )


def test_an_untrained_policy_learns_something_where_no_answer_is_right():
    plain, both = trainer(objective=GRPO()), trainer()
    before = [p.clone() for p in both.model.parameters()]
    plain.train(1)
    row = both.train(1)[0]
    assert row["success"] == 0 and row["zero_variance"] == 1
    assert row["drm_zero_variance"] == 0 and row["grad_norm"] > 0
    pairs = list(zip(before, plain.model.parameters(), both.model.parameters(), strict=True))
    assert all(torch.equal(old, new) for old, new, _ in pairs)
    assert not any(torch.equal(old, new) for old, _, new in pairs)


@pytest.mark.filterwarnings("ignore:more than 90%")
def test_mode_answer_is_grpo_to_the_bit():
    ours, theirs = trainer(mode="answer"), trainer(objective=GRPO())
    ours.train(2)
    theirs.train(2)
    for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.filterwarnings("ignore:more than 90%")
def test_a_killed_run_goes_on_with_the_same_numbers(tmp_path):
    whole = trainer(normalize="running")
    whole.train(4)
    path = tmp_path / "run.pt"
    trainer(normalize="running").train(2, checkpoint=path)
    resumed = trainer(normalize="running")
    resumed.train(4, checkpoint=path)
    for mine, his in zip(resumed.history, whole.history, strict=True):
        assert {k: v for k, v in mine.items() if k != "seconds"} == {
            k: v for k, v in his.items() if k != "seconds"
        }


def test_without_scores_the_objective_says_what_is_missing():
    at = trainer()
    at.sampler = type(at).draw
    with pytest.raises(ValueError, match=r"sampler=WithReasoning\(reward\)"):
        at.train(1)
