"""TRL trainers with our objectives: two steps on the shipped policy, and the same losses as ours.

TRL generates, rewards and steps; what is compared is the loss on the batch it learnt from, computed
again by the pure function from the log-probabilities of our own scoring.
"""

from importlib.util import find_spec

import pytest
import torch

from rarefy.models import SHIPPED, open_model
from rarefy.policy import GRPO, group_norm, score
from rarefy.policy.pacs import pacs_loss
from rarefy.policy.tasks import COUNTDOWN, as_dataset, rows
from rarefy.policy.vspo import vspo_loss

pytestmark = [
    pytest.mark.skipif(find_spec("trl") is None, reason="needs the policy extra (trl)"),
    # Theirs and their dependencies', not ours.
    pytest.mark.filterwarnings("ignore"),
]

GROUP, PROMPTS = 4, 4
ROWS = rows([COUNTDOWN], per_level=16, seed=0, levels=(1, 2))


def make(name, folder, data=ROWS, reward=COUNTDOWN.reward, config=None, **options):
    """A trainer of ours on the shipped policy: 4 groups of 4, as one micro-batch."""
    from trl import GRPOConfig

    from rarefy.policy import trl as ours

    model, tokenizer = open_model(SHIPPED / "policy")
    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "per_device_train_batch_size": GROUP * PROMPTS,
        "num_generations": GROUP,
        "max_completion_length": 24,
        "learning_rate": 2e-4,
        "max_steps": 2,
        "seed": 3,
    }
    return getattr(ours, name)(
        model=model,
        reward_funcs=reward,
        args=GRPOConfig(**settings | (config or {})),
        train_dataset=as_dataset(data),
        processing_class=tokenizer,
        **options,
    )


@pytest.fixture
def learnt(monkeypatch):
    """Batches that were learnt from, with the loss of each and what it was computed from."""
    from rarefy.policy.trl import ObjectiveTrainer

    seen = []
    compute = ObjectiveTrainer._compute_loss

    def watched(self, model, inputs):
        batch = inputs["batch"]
        loss = compute(self, model, inputs)
        if len(batch):
            ours = score(self.bridge.model, batch.rollout, temperature=self.temperature).logps
            old = ours.detach() if self.bridge.on_policy else batch.rollout.logps
            seen.append((batch, ours.detach(), old, float(loss.detach())))
        return loss

    monkeypatch.setattr(ObjectiveTrainer, "_compute_loss", watched)
    return seen


def moved(trainer):
    """Whether training changed the weights."""
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    return any(not p.equal(before[name]) for name, p in trainer.model.named_parameters())


def test_pacs(tmp_path, learnt):
    config = {"per_device_train_batch_size": 8, "steps_per_generation": 2, "max_steps": 4}
    trainer = make("PACSTrainer", tmp_path, config=config)
    assert moved(trainer)
    assert len(learnt) == 4
    for batch, logps, old, loss in learnt:
        assert len(batch) == 2 and not trainer.bridge.on_policy
        found = pacs_loss(logps, old, batch.rollout.completion_mask, batch.rewards, GROUP)
        assert loss == pytest.approx(float(found.loss), abs=1e-5)
    assert any(bool(pacs_loss(new, old, b.rollout.completion_mask, b.rewards, GROUP).psi.any())
               for b, new, old, _ in learnt[1::2])  # fmt: skip


def test_groups_are_of_one_prompt_and_rewards_are_their_own(tmp_path, learnt):
    make("ObjectiveTrainer", tmp_path).train()
    for batch, *_ in learnt:
        for group, problem in enumerate(batch.problems):
            rows = slice(group * GROUP, (group + 1) * GROUP)
            ids, mask = batch.rollout.prompt_ids[rows], batch.rollout.prompt_mask[rows]
            _, tokenizer = open_model(SHIPPED / "policy")
            for row, attended in zip(ids, mask, strict=True):
                assert tokenizer.decode(row[attended], skip_special_tokens=True) == problem.prompt
            texts = batch.rollout.select(torch.arange(len(mask)) + group * GROUP).text(tokenizer)
            told = [COUNTDOWN.verify(problem.prompt, text) for text in texts]
            assert batch.rewards[rows].tolist() == told


def test_a_step_of_plain_grpo_is_trls_own(tmp_path):
    from trl import GRPOTrainer

    # One step: shuffling rows apart takes numbers from the random stream that ours leaves there.
    config = {"loss_type": "grpo", "max_steps": 1}
    ours = make("ObjectiveTrainer", tmp_path, config=config, objective=GRPO())
    model, tokenizer = open_model(SHIPPED / "policy")
    theirs = GRPOTrainer(
        model=model,
        reward_funcs=COUNTDOWN.reward,
        args=ours.args,
        train_dataset=as_dataset(ROWS),
        processing_class=tokenizer,
    )
    for trainer in (ours, theirs):
        torch.manual_seed(11)
        assert moved(trainer)
    for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_ahpo(tmp_path, learnt):
    from rarefy.policy.ahpo import ahpo_loss, expert_gate
    from rarefy.policy.imitation import expert_rollout

    hard = rows([COUNTDOWN], per_level=16, seed=0, levels=(3, 4))
    trainer = make("AHPOTrainer", tmp_path, data=hard, config={"learning_rate": 0.0})
    trainer.train()
    assert len(learnt) == 2
    gates = []
    for batch, logps, old, loss in learnt:
        gate = expert_gate(batch.n_solved, torch.ones(PROMPTS, dtype=torch.bool))
        gates.append(gate)
        expert = expert_rollout(trainer.bridge.model, trainer.bridge.tokenizer, batch.problems)
        found = ahpo_loss(
            logps,
            old,
            group_norm(batch.rewards, GROUP),
            batch.rollout.completion_mask,
            score(trainer.bridge.model, expert).logps,
            expert.completion_mask,
            gate,
            n_prompts=PROMPTS,
        )
        assert loss == pytest.approx(float(found), abs=1e-5)
    assert torch.cat(gates).any()


def test_the_expert_of_a_row_is_its_completion_or_its_trace():
    from rarefy.policy.trl.bridge import RowProblem

    row = {"prompt": "2+2=", "trace": "two and two", "answer": 4}
    assert RowProblem.of(row).completion == "two and two"
    assert RowProblem.of(row | {"completion": "4"}).completion == "4"


def test_vspo(tmp_path, learnt):
    trainer = make("VSPOTrainer", tmp_path, config={"beta": 0.01})
    assert moved(trainer)
    for batch, logps, old, loss in learnt:
        assert len(batch) == PROMPTS and batch.ref_logps is not None
        found = vspo_loss(
            logps,
            old,
            group_norm(batch.rewards, GROUP, eps=1e-6),
            batch.rollout.completion_mask,
            batch.extra["weight"],
            ref_logps=batch.ref_logps,
            kl_coef=0.01,
        )
        assert loss == pytest.approx(float(found), abs=1e-5)
        assert (batch.groups != batch.groups[:, :1]).any(1).all()  # no slot teaches nothing


def test_ghpo_asks_again_with_hints_that_rewards_never_see(tmp_path, learnt):
    from rarefy.policy.hints import HintPolicy

    seen = []

    def reward(prompts, completions, trace, **columns):
        seen.extend(prompts)
        return COUNTDOWN.reward(prompts, completions)

    hard = rows([COUNTDOWN], per_level=16, seed=0, levels=(4, 5))
    trainer = make(
        "GHPOTrainer", tmp_path, data=hard, reward=reward, sampler=HintPolicy(cold_start=1)
    )
    trainer.train()
    (plain, *_), (hinted, *_) = learnt
    assert not any("~" in prompt for prompt in plain.prompts)
    assert any("~" in prompt for prompt in hinted.prompts)
    assert not any("~" in prompt for prompt in seen)
    assert trainer.bridge.n_rollouts > 2 * GROUP * PROMPTS
    for group, asked in enumerate(hinted.prompts):
        row = group * GROUP
        ids = hinted.rollout.prompt_ids[row][hinted.rollout.prompt_mask[row]]
        assert trainer.bridge.tokenizer.decode(ids, skip_special_tokens=True) == asked
    assert {"all_wrong_before", "all_wrong_after"} <= set(trainer.state.log_history[1])


def test_drm(tmp_path, learnt):
    from rarefy.policy.drm import combine
    from rarefy.policy.losses import clipped_surrogate, sequence_mean
    from rarefy.rewards.dimensions import Confidence, DimensionReward, Relevance
    from rarefy.rewards.scorers import LexicalScorer

    _, tokenizer = open_model(SHIPPED / "policy")
    reasoning = DimensionReward(
        [Confidence(), Relevance(LexicalScorer(analyzer="char"))],
        group_size=GROUP,
        tokenizer=tokenizer,
    )
    trainer = make("DRMGRPOTrainer", tmp_path, reasoning=reasoning)
    assert moved(trainer)
    for batch, logps, old, loss in learnt:
        assert batch.extra["drm"].std() > 0
        advantages = combine(batch.rewards, batch.extra["drm"], GROUP)
        mask = batch.rollout.completion_mask
        found = sequence_mean(clipped_surrogate(logps, old, advantages, mask), mask)
        assert loss == pytest.approx(float(found), abs=1e-5)


def test_dler(tmp_path, learnt):
    from rarefy.policy.dler import dler_advantages, dler_loss

    # A limit that cuts some completions off, and a reward that does not mind.
    trainer = make(
        "DLERTrainer",
        tmp_path,
        reward=lambda completions, **_: [1.0] * len(completions),
        config={"beta": 5e-4, "max_completion_length": 11},
    )
    assert moved(trainer)
    assert trainer.bridge.n_rollouts > 2 * GROUP * PROMPTS  # groups without variance went
    for batch, logps, old, loss in learnt:
        assert batch.rewards.equal(batch.rollout.terminated.float())
        assert (batch.groups != batch.groups[:, :1]).any(1).all()
        assert len({problem.prompt for problem in batch.problems}) > 1
        found = dler_loss(
            logps,
            old,
            dler_advantages(batch.rewards, GROUP),
            batch.rollout.completion_mask,
            ref_logps=batch.ref_logps,
        )
        assert loss == pytest.approx(float(found), abs=1e-5)


BAD = {
    "top_entropy_quantile": ({"top_entropy_quantile": 0.2}, {}),
    "multiple of num_generations = 4": (
        {"per_device_train_batch_size": 2, "steps_per_generation": 8}, {}),
    "set beta=0.1 too": ({}, {"objective": GRPO(kl_coef=0.1)}),
}  # fmt: skip


@pytest.mark.parametrize("sentence", list(BAD))
def test_what_would_be_passed_over_is_refused(tmp_path, sentence):
    config, options = BAD[sentence]
    with pytest.raises(ValueError, match=sentence):
        make("ObjectiveTrainer", tmp_path, config=config, **options)


def test_their_check_of_lengths_and_ours_of_numbers(tmp_path):
    def short(completions, **columns):
        return [1.0] * (len(completions) - 1)

    def nan(completions, **columns):
        return [float("nan")] * len(completions)

    with pytest.raises(ValueError, match="returned 15 rewards, but 16 were expected"):
        make("ObjectiveTrainer", tmp_path, reward=short).train()
    with pytest.raises(ValueError, match=r"gave \[nan\] for completion 0; a finite number"):
        make("ObjectiveTrainer", tmp_path, reward=nan).train()
    with pytest.raises(ValueError, match="does not fit the model.s context of 512"):
        make("ObjectiveTrainer", tmp_path, config={"max_completion_length": 510}).train()
    with pytest.raises(ValueError, match="'trace'"):
        make("AHPOTrainer", tmp_path, data=[{"prompt": row["prompt"]} for row in ROWS])


def test_conversations(tmp_path):
    from rarefy.policy.trl.bridge import RowProblem

    row = {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]}
    problem = RowProblem.of(row)
    assert problem.prompt == "q" and problem.asked("q") == row
    assert problem.asked("q and a hint")["prompt"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q and a hint"},
    ]


def test_further_rows_are_a_function_of_the_step(tmp_path):
    bridge = make("ObjectiveTrainer", tmp_path).bridge
    given = [row for row in ROWS[:2] for _ in range(GROUP)]

    def drawn():
        bridge.problems.give(given, GROUP)
        return [[problem.prompt for problem in bridge.problems.draw(n)] for n in (2, 6, 6)]

    first = drawn()
    assert first[0] == [row["prompt"] for row in ROWS[:2]]
    assert first[1] != first[2] and drawn() == first
    bridge.trainer.state.global_step += 1
    assert drawn()[1] != first[1]
