"""PACS against loops over completions, and the identities that bind it to RLOO."""

import math
from copy import deepcopy

import pytest
import torch

from rarefy.models.characters import character_model, character_tokenizer
from rarefy.policy.advantages import rloo
from rarefy.policy.batches import Batch
from rarefy.policy.grpo import RLOO
from rarefy.policy.pacs import PACS, auc, class_weights, pacs_loss
from rarefy.policy.problems import TaskProblems
from rarefy.policy.rollout import generate, score
from rarefy.policy.tasks import COUNTDOWN
from rarefy.policy.trainer import PolicyTrainer

TOKENIZER = character_tokenizer()
G, T = 4, 6
REWARDS = torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1])


@pytest.fixture
def tokens():
    """Five groups of four, the last two of one label; log-probabilities now and of a reference."""
    g = torch.Generator().manual_seed(0)
    shape = (len(REWARDS), T)
    lengths = torch.randint(1, T + 1, (len(REWARDS), 1), generator=g)
    return {
        "logps": (-torch.rand(shape, generator=g, dtype=torch.float64) * 2).requires_grad_(),
        "ref_logps": -torch.rand(shape, generator=g, dtype=torch.float64) * 2,
        "mask": torch.arange(T) < lengths,
        "rewards": REWARDS.double(),
        "group_size": G,
    }


@pytest.fixture
def at_reference(tokens):
    """The policy is the reference still."""
    return tokens | {"ref_logps": tokens["logps"].detach().clone()}


def gradient(loss, of):
    return torch.autograd.grad(loss, of)[0]


def by_hand(t, *, beta, how, proxy, class_weight):
    """Loss and psi in plain Python."""
    logps, ref, mask, rewards = (
        t[name].tolist() for name in ("logps", "ref_logps", "mask", "rewards")
    )
    psi, losses = [], []
    for start in range(0, len(rewards), G):
        implicit = []
        for i in range(start, start + G):
            at = [j for j in range(T) if mask[i][j]]
            if proxy == "log_ratio":
                implicit.append(beta * sum(logps[i][j] - ref[i][j] for j in at))
            else:
                implicit.append(beta * sum(logps[i][j] for j in at) / len(at))
        mean = sum(implicit) / G
        std = math.sqrt(sum((r - mean) ** 2 for r in implicit) / (G - 1))
        labels = rewards[start : start + G]
        for i, (r, label) in enumerate(zip(implicit, labels, strict=True)):
            others = [x for j, x in enumerate(implicit) if j != i]
            value = {
                "rloo": r - sum(others) / (G - 1),
                "grpo": (r - mean) / (std + 1e-6),
                "dr_grpo": r - mean,
                "none": r,
            }[how]
            same = labels.count(label)
            weight = {
                None: 1.0,
                "balanced": G / (2 * same) if same < G else 1.0,
                "positive": label,
                "negative": 1 - label,
            }[class_weight]
            p = 1 / (1 + math.exp(-value))
            psi.append(value)
            losses.append(-weight * math.log(p if label else 1 - p))
    return sum(losses) / len(losses), psi


@pytest.mark.parametrize("how", ["rloo", "grpo", "dr_grpo", "none"])
@pytest.mark.parametrize("proxy", ["log_ratio", "mean_logp"])
@pytest.mark.parametrize("class_weight", ["balanced", "positive", "negative", None])
def test_equals_a_loop_over_completions(tokens, how, proxy, class_weight):
    options = {"beta": 0.7, "proxy": proxy, "class_weight": class_weight}
    found = pacs_loss(**tokens, score=how, **options)
    loss, psi = by_hand(tokens, how=how, **options)
    assert found.loss.item() == pytest.approx(loss, rel=1e-12)
    assert found.psi.tolist() == pytest.approx(psi, rel=1e-9)
    assert not found.psi.requires_grad


def test_is_torch_s_own_cross_entropy(tokens):
    found = pacs_loss(**tokens)
    weight = class_weights(tokens["rewards"], G, "balanced")
    theirs = torch.nn.BCEWithLogitsLoss(weight=weight)(found.psi, tokens["rewards"])
    torch.testing.assert_close(found.loss, theirs)


def test_weights_are_scikit_learn_s():
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_sample_weight
    for start in range(0, 12, G):
        group = REWARDS[start : start + G]
        theirs = compute("balanced", group.tolist())
        assert class_weights(group, G, "balanced").tolist() == pytest.approx(theirs.tolist())


def test_the_first_step_without_weights_is_rloo_s(at_reference):
    t = at_reference
    ours = gradient(pacs_loss(**t, class_weight=None).loss, t["logps"])
    surrogate = -(rloo(t["rewards"], G) * (t["logps"] * t["mask"]).sum(1)).mean()
    torch.testing.assert_close(ours, gradient(surrogate, t["logps"]), rtol=1e-12, atol=1e-15)


def test_the_first_step_moves_a_model_as_rloo_does(tiny_model):
    tiny_model.eval()  # as a trainer does: dropout would be noise
    rollout = generate(
        tiny_model,
        [[1, 5], [3, 4, 5]],
        max_new_tokens=5,
        n_completions=G,
        generator=torch.Generator().manual_seed(0),
    )
    rewards = REWARDS[:8].double()
    batch = Batch([], [], rollout, rewards, rewards > 0, G, rloo(rewards, G))

    def moved(objective):
        tiny_model.zero_grad()
        trainer = type("Notes", (), {"notes": {}})()
        objective.loss(score(tiny_model, rollout), batch, trainer).backward()
        return torch.cat([p.grad.reshape(-1) for p in tiny_model.parameters()])

    ours, theirs = moved(PACS(class_weight=None)), moved(RLOO())
    assert float(theirs.norm()) > 1e-3
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-10


def test_gradients_of_the_first_step_are_the_advantages_and_weigh_all_mixed_groups_the_same(
    at_reference,
):
    t = at_reference
    batch = Batch([], [], None, t["rewards"], t["rewards"] > 0, G)
    advantages = PACS().advantages(batch)
    found = -len(REWARDS) * gradient(pacs_loss(**t).loss, t["logps"])[:, 0]
    torch.testing.assert_close(found, advantages)
    n_same = torch.tensor([1, 3, 3, 3, 3, 3, 3, 1, 2, 2, 2, 2]).double()
    sign = 2 * t["rewards"][:12] - 1
    torch.testing.assert_close(advantages[:12], sign * G / (4 * n_same) * G / (G - 1))
    totals = advantages.view(-1, G).abs().sum(1)
    torch.testing.assert_close(totals[:3], torch.full((3,), G**2 / (2 * (G - 1))).double())


def test_gradients_away_from_the_reference(tokens):
    found = pacs_loss(**tokens, beta=0.7)
    c = class_weights(tokens["rewards"], G, "balanced") * (found.psi.sigmoid() - tokens["rewards"])
    c = c.view(-1, G)
    others = (c.sum(1, keepdim=True) - c) / (G - 1)
    expected = (0.7 / len(REWARDS) * (c - others)).reshape(-1, 1) * tokens["mask"]
    torch.testing.assert_close(gradient(found.loss, tokens["logps"]), expected)


def test_a_group_of_one_label_teaches_nothing_at_first_and_draws_together_later(tokens):
    t = tokens | {"ref_logps": tokens["logps"].detach()}
    assert float(gradient(pacs_loss(**t).loss, t["logps"])[12:].abs().max()) < 1e-7
    found = pacs_loss(**tokens)
    step = -gradient(found.loss, tokens["logps"])[12:, 0]
    for psi, move in zip(found.psi[12:].view(2, G), step.view(2, G), strict=True):
        assert abs(float(move.sum())) < 1e-12
        assert psi[move.argmax()] == psi.min() and psi[move.argmin()] == psi.max()


def test_nothing_outside_the_mask_counts(tokens):
    loss = pacs_loss(**tokens).loss.item()
    other = tokens["logps"].detach().masked_fill(~tokens["mask"], -math.inf).requires_grad_()
    found = pacs_loss(**tokens | {"logps": other}).loss
    assert found.item() == loss
    assert bool((gradient(found, other)[~tokens["mask"]] == 0).all())


def test_with_the_actor_term_it_is_the_gradient_of_the_expected_loss():
    logits = torch.tensor([0.3, -0.5, 0.1], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log()
    rewards = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    logp = logits.log_softmax(0)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        logp - ref, rewards, reduction="none"
    )
    expected = gradient((logp.exp() * losses).sum(), logits)
    found = torch.zeros(3, dtype=torch.float64)
    for action, p in enumerate(logp.detach().exp()):
        now = logits.log_softmax(0)[action].reshape(1, 1).expand(2, 1)
        loss = pacs_loss(
            now,
            ref[action].reshape(1, 1).expand(2, 1),
            torch.ones(2, 1),
            rewards[action].expand(2),
            2,
            score="none",
            class_weight=None,
            actor_term=True,
        ).loss
        found += p * gradient(loss, logits)
    torch.testing.assert_close(found, expected)


def test_soft_labels(tokens):
    soft = tokens | {"rewards": tokens["rewards"] / 2}
    found = pacs_loss(**soft, class_weight=None)
    theirs = torch.nn.BCEWithLogitsLoss()(found.psi, soft["rewards"])
    torch.testing.assert_close(found.loss, theirs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_size": 1}, "group_size is 1"),
        ({"group_size": 3}, "multiple of"),
        ({"rewards": REWARDS - 0.5}, "between -0.5 and 0.5, but PACS predicts them"),
        ({"rewards": REWARDS * math.nan}, "not finite"),
        ({"rewards": REWARDS / 2}, "neither 0 nor 1"),
        ({"ref_logps": None}, "ref_logps is None"),
        ({"score": "mean"}, "score must be"),
        ({"proxy": "ratio"}, "proxy must be"),
        ({"class_weight": "question"}, "class_weight must be"),
    ],
)
def test_bad_input(tokens, changes, message):
    with pytest.raises(ValueError, match=message):
        pacs_loss(**tokens | changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta is 0.0"),
        ({"reference": "old"}, "reference must be"),
        ({"reset_every": 3}, "resets are of"),
        ({"reference": "fixed", "reset_every": 0}, "resets are of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        PACS(**options)


def test_auc_is_scikit_learn_s():
    theirs = pytest.importorskip("sklearn.metrics").roc_auc_score
    g = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 5, (40,), generator=g).float()
    labels = torch.rand(40, generator=g) > 0.5
    assert auc(scores, labels) == pytest.approx(theirs(labels.numpy(), scores.numpy()))
    assert math.isnan(auc(scores, labels | True))


# With a trainer.


def even(prompts, completions, completion_ids, **_):  # noqa: ARG001
    """A reward that an untrained policy earns half the time."""
    return [float(sum(ids) % 2) for ids in completion_ids]


def make_trainer(objective, *, dtype=torch.float32, **options):
    model = character_model(TOKENIZER, seed=0, hidden=32, layers=1).to(dtype)
    settings = {"n_prompts": 4, "group_size": 4, "minibatches": 2, "learning_rate": 1e-3}
    if getattr(objective, "reference", "") == "fixed":
        settings["reference"] = deepcopy(model)
    return PolicyTrainer(
        model,
        TOKENIZER,
        TaskProblems({(COUNTDOWN, 1): 1.0}, seed=0),
        reward=even,
        objective=objective,
        max_new_tokens=4,
        **settings | options,
    )


def weights(model):
    return torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])


def test_with_one_mini_batch_a_run_without_weights_is_rloo_s():
    runs = []
    for objective in (PACS(class_weight=None), RLOO()):
        trainer = make_trainer(objective, dtype=torch.float64, minibatches=1)
        trainer.train(3)
        runs.append(weights(trainer.model))
    moved = runs[0] - weights(make_trainer(RLOO(), dtype=torch.float64).model)
    assert float(moved.norm()) > 1e-2
    torch.testing.assert_close(*runs, rtol=0, atol=1e-7)


def test_with_more_mini_batches_it_is_not_and_psi_is_reported():
    trainer = make_trainer(PACS(class_weight=None), dtype=torch.float64)
    row = trainer.train(1)[0]
    assert row["psi_abs"] > 0 and 0 <= row["psi_auc"] <= 1
    other = make_trainer(RLOO(), dtype=torch.float64)
    other.train(1)
    assert float((weights(trainer.model) - weights(other.model)).norm()) > 1e-5


def test_saturated_predictions_are_warned_of():
    trainer = make_trainer(PACS(beta=1e4), learning_rate=1e-2)
    with pytest.warns(RuntimeWarning, match="lower beta or the learning rate"):
        trainer.train(1)


def test_a_fixed_reference_stays_and_one_that_is_reset_becomes_the_policy():
    stays = make_trainer(PACS(reference="fixed"))
    begun = weights(stays.reference)
    stays.train(3)
    assert torch.equal(weights(stays.reference), begun)
    # In the first step policy, samples and reference are one; later psi starts away from 0.
    first = make_trainer(PACS(reference="fixed"), minibatches=1).train(2)
    assert first[0]["psi_abs"] < 1e-5 < 1e-3 < first[1]["psi_abs"]

    reset = make_trainer(PACS(reference="fixed", reset_every=2))
    reset.train(2)
    policy = weights(reset.model)
    reset.train(3)
    assert torch.equal(weights(reset.reference), policy)
    assert [row.get("reference_reset") for row in reset.history] == [None, None, 1.0]
    # Two mini-batches since the moments were forgotten.
    assert {int(state["step"]) for state in reset.optimizer.state.values()} == {2}


def test_a_step_of_reset_has_psi_0_at_first():
    trainer = make_trainer(PACS(reference="fixed", reset_every=2), minibatches=1)
    sizes = [row["psi_abs"] for row in trainer.train(4)]
    assert max(sizes[0], sizes[2]) < 1e-5 and min(sizes[1], sizes[3]) > 1e-3


def test_a_killed_run_with_resets_goes_on_as_if_it_had_not_been(tmp_path):
    objective = PACS(reference="fixed", reset_every=2)
    whole = make_trainer(objective)
    whole.train(6)
    # After a reset, and before the next.
    make_trainer(objective).train(5, checkpoint=tmp_path / "state.pt")
    resumed = make_trainer(objective)
    resumed.train(6, checkpoint=tmp_path / "state.pt")
    assert torch.equal(weights(resumed.model), weights(whole.model))
    assert torch.equal(weights(resumed.reference), weights(whole.reference))


def test_a_fixed_reference_must_be_there():
    with pytest.raises(ValueError, match="pass it a copy of the model"):
        make_trainer(PACS(reference="fixed"), reference=None).train(1)
