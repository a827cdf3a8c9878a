"""TRL trainers with our objectives: two steps on the shipped policy, and the same losses as ours.

TRL generates, rewards and steps; what is compared is the loss on the batch it learnt from, computed
again by the pure function from the log-probabilities of our own scoring.
"""

from importlib.util import find_spec

import pytest
import torch

from rarefy.models import SHIPPED, open_model
from rarefy.policy import GRPO, group_norm, rloo, score
from rarefy.policy.pacs import PACS, pacs_loss
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
