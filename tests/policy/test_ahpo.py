"""AHPO and LUFFY against loops over tokens, and the identities that bind AHPO to GRPO."""

import math
from dataclasses import replace

import pytest
import torch

from rarefy.models.characters import character_model, character_tokenizer
from rarefy.policy import ahpo
from rarefy.policy.advantages import group_norm
from rarefy.policy.ahpo import (
    AHPO,
    LUFFY,
    ahpo_loss,
    expert_gate,
    expert_in_group,
    luffy_loss,
)
from rarefy.policy.grpo import GRPO
from rarefy.policy.losses import token_mean
from rarefy.policy.problems import TaskProblems
from rarefy.policy.rollout import score
from rarefy.policy.tasks import COUNTDOWN, SORT, credited, verified
from rarefy.policy.trainer import PolicyTrainer, plain

TOKENIZER = character_tokenizer()
INF = float("inf")


@pytest.fixture
def tokens():
    """Two groups of three rollouts, and two experts."""
    g = torch.Generator().manual_seed(0)

    def logps(*shape):
        return -torch.rand(shape, generator=g, dtype=torch.float64) * 2

    mask = torch.arange(5) < torch.tensor([5, 3, 1, 4, 5, 2])[:, None]
    return {
        "logps": logps(6, 5).requires_grad_(),
        "old_logps": logps(6, 5),
        "advantages": torch.randn(6, generator=g, dtype=torch.float64),
        "mask": mask,
        "expert_logps": logps(2, 7).requires_grad_(),
        "expert_mask": torch.arange(7) < torch.tensor([7, 4])[:, None],
        "weights": torch.tensor([1.0, 0.5], dtype=torch.float64),
    }


def by_hand(t, *, n_prompts, eps, normalize, coef):
    t = {name: tensor.detach() for name, tensor in t.items()}
    rollouts, n_rollout = 0.0, 0
    for i in range(6):
        for j in range(5):
            if t["mask"][i, j]:
                ratio = math.exp(t["logps"][i, j] - t["old_logps"][i, j])
                a = float(t["advantages"][i])
                rollouts += min(ratio * a, min(max(ratio, 1 - eps), 1 + eps) * a)
                n_rollout += 1
    if normalize == "separate":
        expert = sum(
            float(w) * float(lp[m].mean())
            for w, lp, m in zip(t["weights"], t["expert_logps"], t["expert_mask"], strict=True)
        )
        return -(coef * expert / n_prompts + rollouts / n_rollout)
    expert = float((t["weights"][:, None] * t["expert_logps"])[t["expert_mask"]].sum())
    return -(coef * expert + rollouts) / (n_rollout + int(t["expert_mask"].sum()))


@pytest.mark.parametrize("normalize", ["separate", "joint"])
@pytest.mark.parametrize("eps", [0.2, INF])
def test_the_loss_is_the_sum_over_tokens(tokens, normalize, eps):
    loss = ahpo_loss(
        **tokens, n_prompts=3, eps_low=eps, eps_high=eps, normalize=normalize, coef=0.7
    )
    expected = by_hand(tokens, n_prompts=3, eps=eps, normalize=normalize, coef=0.7)
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("normalize", ["separate", "joint"])
def test_without_experts_it_is_grpo_and_rows_of_no_weight_are_nothing(tokens, normalize):
    weightless = ahpo_loss(**tokens | {"weights": torch.zeros(2)}, n_prompts=2, normalize=normalize)
    nobody = {name: tokens[name][:0] for name in ("expert_logps", "expert_mask", "weights")}
    alone = ahpo_loss(**tokens | nobody, n_prompts=2, normalize=normalize)
    per_token = ahpo.clipped_surrogate(
        tokens["logps"], tokens["old_logps"], tokens["advantages"], tokens["mask"]
    )
    assert weightless == alone
    torch.testing.assert_close(alone, token_mean(per_token, tokens["mask"]))
    weightless.backward()
    assert (tokens["expert_logps"].grad == 0).all()


def test_experts_have_no_importance_ratio(tokens):
    """The gradient of an expert's token is its weight over the mean, whatever the policy is."""
    ahpo_loss(**tokens, n_prompts=2).backward()
    expected = -tokens["weights"] / torch.tensor([7.0, 4.0]) / 2
    for row in range(2):
        grad = tokens["expert_logps"].grad[row][tokens["expert_mask"][row]]
        torch.testing.assert_close(grad, expected[row].expand_as(grad))


def test_the_gate():
    solved = torch.tensor([0, 1, 2, 5, 0])
    told = torch.tensor([True, True, True, True, False])
    gates = {
        mode: expert_gate(solved, told, mode=mode).tolist()
        for mode in ("adaptive", "static", "soft")
    }
    assert gates["adaptive"] == [1, 1, 0, 0, 0]
    assert gates["static"] == [1, 1, 1, 1, 0]
    assert gates["soft"] == [1, 0.5, 0, 0, 0]
    assert expert_gate(solved, told, success_threshold=1).tolist() == [1, 0, 0, 0, 0]
    assert expert_gate(solved, told, gate="batch").tolist() == [1, 1, 1, 1, 0]  # 1.6 on average
    assert not expert_gate(solved + 1, told, gate="batch").any()
    with pytest.raises(ValueError, match="mode is 'dynamic'"):
        expert_gate(solved, told, mode="dynamic")
    with pytest.raises(ValueError, match="success_threshold is 0"):
        AHPO(success_threshold=0)
    with pytest.raises(ValueError, match="normalize is 'own'"):
        AHPO(normalize="own")


class Bare(TaskProblems):
    """Problems without traces."""

    def draw(self, n):
        return [replace(problem, trace="", answer="") for problem in super().draw(n)]


def trainer(objective, *, problems=None, sampler=plain, reward=verified, **settings):
    return PolicyTrainer(
        character_model(TOKENIZER, seed=0, hidden=32, layers=1),
        TOKENIZER,
        problems or TaskProblems({(COUNTDOWN, 1): 1, (SORT, 1): 1}, seed=0),
        reward=reward,
        objective=objective,
        sampler=sampler,
        max_new_tokens=6,
        n_prompts=4,
        group_size=3,
        seed=0,
        **settings,
    )


def loss_of(run, batch):
    run.objective_batch = replace(batch, advantages=run.objective.advantages(batch))
    run.model.zero_grad()
    loss = run.objective.loss(run.score(batch.rollout), run.objective_batch, run)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in run.model.parameters()]


def with_outcome(batch, solved):
    right = torch.tensor(solved, dtype=torch.bool).reshape(-1)
    return replace(batch, rewards=right.float(), solved=right)


MIXED = [[1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1]]
POOR = [[0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize("case", ["solved often enough", "no traces"])
def test_a_closed_gate_leaves_grpo(case):
    bare = case == "no traces"
    problems = Bare({(COUNTDOWN, 1): 1}, seed=0) if bare else None
    run = trainer(AHPO(), problems=problems)
    batch = with_outcome(run.draw(4), POOR if bare else MIXED)
    ours, grads = loss_of(run, batch)
    run.objective = GRPO(reduce=token_mean)
    theirs, expected = loss_of(run, batch)
    assert ours == theirs
    assert all(torch.equal(a, b) for a, b in zip(grads, expected, strict=True))
    assert run.notes["xi"] == run.notes["expert_share"] == 0


@pytest.mark.parametrize("mode", ["static", "adaptive"])
def test_an_open_gate_adds_the_likelihood_of_experts(mode):
    run = trainer(AHPO(mode=mode))
    batch = with_outcome(run.draw(4), POOR)
    ours, _ = loss_of(run, batch)
    taught = batch.problems if mode == "static" else [batch.problems[0], batch.problems[2]]
    nll = 0.0
    for problem in taught:
        asked = TOKENIZER(problem.prompt)["input_ids"]
        told = [*TOKENIZER(problem.completion)["input_ids"], TOKENIZER.eos_token_id]
        logits = run.model(torch.tensor([asked + told])).logits[0, len(asked) - 1 : -1]
        nll += float(torch.nn.functional.cross_entropy(logits.detach(), torch.tensor(told)))
    run.objective = GRPO(reduce=token_mean)
    theirs, _ = loss_of(run, batch)
    assert float(ours - theirs) == pytest.approx(nll / 4, abs=1e-5)


def test_an_all_wrong_group_is_taught_by_its_expert_alone():
    run = trainer(AHPO())
    batch = with_outcome(run.draw(4), [[0, 0, 0]] * 4)
    loss_of(run, batch)
    assert run.notes["policy_pull"] == 0 < run.notes["expert_pull"]
    assert run.notes["xi"] == 1 and 0 < run.notes["expert_share"] < 1


def test_the_gate_looks_at_success_and_not_at_the_reward():
    run = trainer(AHPO(), reward=credited, solved=verified)
    batch = replace(with_outcome(run.draw(4), [[0, 0, 0]] * 4), rewards=torch.ones(12))
    loss_of(run, batch)
    assert run.notes["xi"] == 1


def test_a_run_that_was_stopped_goes_on_with_the_same_numbers(tmp_path):
    whole = trainer(AHPO(), minibatches=2).train(3)
    trainer(AHPO(), minibatches=2).train(2, checkpoint=tmp_path / "c.pt")
    again = trainer(AHPO(), minibatches=2).train(3, checkpoint=tmp_path / "c.pt")
    for a, b in zip(whole, again, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }
    assert {"xi", "expert_share", "expert_nll", "expert_pull", "policy_pull"} <= set(whole[0])


def test_luffy_against_a_loop_over_tokens(tokens):
    t = {name: tokens[name].detach() for name in ("logps", "old_logps", "advantages", "mask")}
    expert = torch.tensor([False, False, True, False, False, True])
    total = 0.0
    for i in range(6):
        for j in range(int(t["mask"][i].sum())):
            a, p = float(t["advantages"][i]), math.exp(t["logps"][i, j])
            ratio = p / math.exp(t["old_logps"][i, j])
            clipped = min(ratio * a, min(max(ratio, 0.8), 1.2) * a)
            total += a * p / (p + 0.1) if expert[i] else clipped
    loss = luffy_loss(**t, from_expert=expert)
    assert float(loss) == pytest.approx(-total / int(t["mask"].sum()), abs=1e-12)


def test_the_expert_takes_the_place_of_the_last_of_his_group():
    run = trainer(LUFFY(), sampler=expert_in_group)
    drawn = run.draw(4)
    run.problems.load_state_dict({"drawn": 0})
    run._rounds = 0
    batch = expert_in_group(run, 4)
    texts, before = batch.rollout.text(TOKENIZER), drawn.rollout.text(TOKENIZER)
    for i, problem in enumerate(batch.problems):
        assert texts[3 * i : 3 * i + 2] == before[3 * i : 3 * i + 2]
        assert texts[3 * i + 2] == problem.completion
    assert batch.extra["from_expert"].tolist() == [False, False, True] * 4
    assert batch.rewards.tolist() == [0, 0, 1] * 4
    prepared = replace(batch, advantages=run.objective.advantages(batch))
    torch.testing.assert_close(prepared.advantages, group_norm(batch.rewards, 3))
    scores = score(run.model, batch.rollout)
    assert torch.isfinite(run.objective.loss(scores, prepared, run))
    run.sampler = plain
    with pytest.raises(ValueError, match="sampler=expert_in_group"):
        run.objective.loss(scores, replace(prepared, extra={}), run)


def test_luffy_leaves_alone_who_has_no_expert():
    run = trainer(LUFFY(), problems=Bare({(SORT, 1): 1}, seed=0), sampler=expert_in_group)
    batch = expert_in_group(run, 4)
    assert not batch.extra["from_expert"].any()
    (row,) = run.train(1)
    assert row["loss"] == pytest.approx(0, abs=1e-6) and row["zero_variance"] <= 1
