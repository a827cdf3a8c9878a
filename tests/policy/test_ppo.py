"""PPO's critic: what it sees, what its advantages are, that it learns, that it is saved."""

import pytest
import torch

from rarefy.models.characters import character_model, character_tokenizer
from rarefy.policy.batches import Batch
from rarefy.policy.ppo import PPO
from rarefy.policy.problems import TaskProblems
from rarefy.policy.rollout import concatenate, generate, score
from rarefy.policy.tasks import COUNTDOWN
from rarefy.policy.trainer import PolicyTrainer

TOKENIZER = character_tokenizer()


class Notes:
    def __init__(self):
        self.notes = {}


@pytest.fixture
def batch(tiny_llama):
    rollout = generate(
        tiny_llama,
        [[1, 5], [3, 4, 5, 6]],
        max_new_tokens=6,
        n_completions=4,
        generator=torch.Generator().manual_seed(0),
    )
    rewards = torch.tensor([1.0, 0, 0, 1, 1, 0, 0, 0])
    return Batch([], [], rollout, rewards, rewards > 0, 4)


def critic(model, **options):
    ppo = PPO(model, **options)
    g = torch.Generator().manual_seed(1)
    ppo.head.weight.data.normal_(generator=g)
    return ppo


def test_a_new_critic_expects_nothing_and_is_apart_from_the_policy(tiny_model, batch):
    ppo = PPO(tiny_model)
    assert float(ppo.values(batch.rollout).detach().abs().max()) == 0
    theirs = {p.data_ptr() for p in tiny_model.parameters()}
    assert not theirs & {p.data_ptr() for p in ppo.parameters()}


def test_a_value_sees_the_tokens_before_it_and_no_padding(tiny_llama, batch):
    ppo = critic(tiny_llama)
    rollout = batch.rollout
    values = ppo.values(rollout).detach()
    assert bool((values[~rollout.completion_mask] == 0).all())
    for i, (ids, length) in enumerate(
        zip(rollout.completion_ids, rollout.lengths.tolist(), strict=True)
    ):
        prompt = rollout.prompt_ids[i][rollout.prompt_mask[i]]
        for t in range(length):
            alone = torch.cat([prompt, ids[:t]])[None]
            last = ppo.body(input_ids=alone).last_hidden_state[0, -1]
            torch.testing.assert_close(values[i, t], ppo.head(last)[0].detach())
    wider = concatenate([rollout, generate(tiny_llama, [[1] * 9], max_new_tokens=8, temperature=0)])
    torch.testing.assert_close(ppo.values(wider)[:8, : values.shape[1]].detach(), values)


def test_advantages_are_whitened_rewards_less_values(tiny_llama, batch):
    ppo = critic(tiny_llama)
    found = ppo.advantages(batch)
    mask = batch.rollout.completion_mask
    raw = (batch.rewards[:, None] - ppo.values(batch.rollout).detach())[mask]
    torch.testing.assert_close(found[mask], (raw - raw.mean()) / raw.std(correction=0))
    assert bool((found[~mask] == 0).all())
    torch.testing.assert_close(batch.extra["returns"], batch.rewards[:, None].double() * mask)
    assert batch.extra["values"].shape == found.shape


def test_the_loss_on_fresh_samples_is_the_critic_s_alone(tiny_llama, batch):
    ppo = critic(tiny_llama, value_coef=0.5)
    full = Batch(
        [],
        [],
        batch.rollout,
        batch.rewards,
        batch.solved,
        4,
        ppo.advantages(batch),
        None,
        batch.extra,
    )
    trainer = Notes()
    loss = ppo.loss(score(tiny_llama, full.rollout), full, trainer)
    mask = full.rollout.completion_mask
    error = (batch.rewards[:, None] - full.extra["values"])[mask].square().mean() / 2
    # Ratios are 1 and whitened advantages of mean 0.
    assert loss.item() == pytest.approx(0.5 * float(error), rel=1e-6)
    assert trainer.notes["value_loss"] == pytest.approx(float(error), rel=1e-6)


def long_ones(prompts, completions, completion_ids, **_):  # noqa: ARG001
    return [float(len(ids) == 5) for ids in completion_ids]


def make_trainer():
    model = character_model(TOKENIZER, seed=0, hidden=32, layers=1)
    return PolicyTrainer(
        model,
        TOKENIZER,
        TaskProblems({(COUNTDOWN, 1): 1.0}, seed=0),
        reward=long_ones,
        objective=PPO(model),
        max_new_tokens=5,
        n_prompts=4,
        group_size=4,
        minibatches=2,
        learning_rate=1e-2,
    )


def test_the_critic_learns_and_a_killed_run_goes_on(tmp_path):
    whole = make_trainer()
    history = whole.train(8)
    assert history[-1]["value_loss"] < history[0]["value_loss"] / 2
    make_trainer().train(4, checkpoint=tmp_path / "state.pt")
    resumed = make_trainer()
    resumed.train(8, checkpoint=tmp_path / "state.pt")
    for name, tensor in whole.objective.state_dict().items():
        assert torch.equal(tensor, resumed.objective.state_dict()[name]), name
    assert {"entropy", "success", "value_loss"} <= set(history[-1])
