"""Advantages and losses equal those that TRL's own code computes, called on the same numbers.

Real trainers of a tiny random Llama: their advantages come out of generating and scoring with a
reward that returns given numbers, their losses out of ``_compute_loss`` with given
log-probabilities in place of the model's.
"""

from importlib.util import find_spec

import pytest
import torch

from rarefy.policy import (
    batch_whiten,
    cispo,
    clip_stats,
    clipped_surrogate,
    constant_mean,
    generate,
    group_norm,
    importance_ratio,
    kl_estimate,
    rloo,
    score,
    sequence_mean,
    sequence_sum,
    token_mean,
)

pytestmark = [
    pytest.mark.skipif(find_spec("trl") is None, reason="needs the policy extra (trl)"),
    # Theirs and their dependencies', not ours.
    pytest.mark.filterwarnings("ignore"),
]

ROWS, WIDTH, LIMIT = 8, 5, 9
REWARDS = torch.randn(ROWS, generator=torch.Generator().manual_seed(1)).tolist()


def given_rewards(completions, **_):
    return REWARDS[: len(completions)]


def make_trainer(kind, folder, **options):
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    trainer, config = {
        "grpo": (GRPOTrainer, GRPOConfig),
        "rloo": (RLOOTrainer, RLOOConfig),
    }[kind]
    tokens = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["<p>", "<b>", "<e>", *"abcdefghi"])})
    )
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="<p>",
        bos_token="<b>",
        eos_token="<e>",
        padding_side="left",
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=12,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            initializer_range=0.5,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    made = trainer(
        model=model,
        reward_funcs=given_rewards,
        args=config(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            per_device_train_batch_size=ROWS,
            num_generations=4,
            max_completion_length=LIMIT,
            beta=0.0,
            **options,
        ),
        train_dataset=Dataset.from_list([{"prompt": "<b> a b"}] * ROWS),
        processing_class=tokenizer,
    )
    made.current_gradient_accumulation_steps = 1
    made.model.train()
    return made


@pytest.fixture(scope="module")
def grpo(tmp_path_factory):
    return make_trainer("grpo", tmp_path_factory.mktemp("grpo"))


@pytest.fixture(scope="module")
def rloo_trainer(tmp_path_factory):
    return make_trainer("rloo", tmp_path_factory.mktemp("rloo"))


@pytest.fixture
def batch():
    """Log-probabilities now, then and of the reference, advantages, and a ragged mask."""
    generator = torch.Generator().manual_seed(0)
    logps, old, ref = -2 * torch.rand(3, ROWS, WIDTH, dtype=torch.float64, generator=generator)
    advantages = torch.randn(ROWS, dtype=torch.float64, generator=generator)
    lengths = torch.randint(1, WIDTH + 1, (ROWS,), generator=generator)
    return logps.requires_grad_(), old, ref, advantages, torch.arange(WIDTH) < lengths[:, None]


def advantages_of(trainer):
    inputs = [{"prompt": prompt} for prompt in ["<b> a b"] * 4 + ["<b> c"] * 4]
    return trainer._generate_and_score_completions(inputs)["advantages"]


def loss_of(trainer, monkeypatch, logps, mask, **inputs):
    """What their loss is where the model's log-probabilities are these."""
    monkeypatch.setattr(
        trainer,
        "_get_per_token_logps_and_entropies",
        lambda *args, **kwargs: (logps, torch.zeros_like(logps), None),
    )
    prompt = torch.ones(ROWS, 2, dtype=torch.long)
    return trainer._compute_loss(
        trainer.model,
        {
            "prompt_ids": prompt,
            "prompt_mask": prompt,
            "completion_ids": torch.ones(ROWS, WIDTH, dtype=torch.long),
            "completion_mask": mask.long(),
            "num_items_in_batch": mask.sum(),
            **inputs,
        },
    )


def assert_same(ours, theirs, logps):
    """The same number, and the same gradient."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    gradients = [torch.autograd.grad(loss, logps)[0] for loss in (ours, theirs)]
    assert gradients[0].any()
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_group_norm(grpo, monkeypatch, scale):
    monkeypatch.setattr(grpo, "scale_rewards", scale)
    ours = group_norm(torch.tensor(REWARDS), 4, scale=scale)
    torch.testing.assert_close(ours, advantages_of(grpo), rtol=0, atol=1e-6)


def test_rloo(rloo_trainer, monkeypatch):
    ours = rloo(torch.tensor(REWARDS), 4)
    torch.testing.assert_close(ours, advantages_of(rloo_trainer), rtol=0, atol=1e-6)
    monkeypatch.setattr(rloo_trainer, "normalize_advantages", True)
    # Theirs is over n - 1 and has another epsilon; a scale is all that is between them.
    theirs = advantages_of(rloo_trainer)
    white = batch_whiten(ours)
    scale = ours.std(correction=0) / (ours.std() + 1e-4)
    torch.testing.assert_close(white * scale, theirs, rtol=0, atol=1e-6)


REDUCTIONS = {
    "grpo": sequence_mean,
    "bnpo": token_mean,
    "dr_grpo": lambda x, mask: constant_mean(x, mask, length=LIMIT),
    "dapo": lambda x, mask: token_mean(x, mask, n_tokens=int(mask.sum())),
    "luspo": sequence_sum,
}


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss_type", list(REDUCTIONS))
def test_clipped_losses(grpo, monkeypatch, batch, loss_type, level):
    logps, old, _, advantages, mask = batch
    eps_low, eps_high = (0.2, 0.28) if level == "token" else (0.1, 0.15)
    for name, value in {
        "loss_type": loss_type,
        "importance_sampling_level": level,
        "epsilon_low": eps_low,
        "epsilon_high": eps_high,
    }.items():
        monkeypatch.setattr(grpo, name, value)
    theirs = loss_of(grpo, monkeypatch, logps, mask, advantages=advantages, old_per_token_logps=old)
    per_token = clipped_surrogate(
        logps, old, advantages, mask, eps_low=eps_low, eps_high=eps_high, level=level
    )
    assert_same(REDUCTIONS[loss_type](per_token, mask), theirs, logps)
    stats = clip_stats(
        logps, old, advantages, mask, eps_low=eps_low, eps_high=eps_high, level=level
    )
    for share, name in ((stats.low, "low_mean"), (stats.high, "high_mean")):
        logged = grpo._metrics["train"][f"clip_ratio/{name}"][-1]
        assert 0 < share == pytest.approx(logged, abs=1e-6)


def test_dual_clip_is_their_delta(grpo, monkeypatch, batch):
    logps, old, _, advantages, mask = batch
    monkeypatch.setattr(grpo, "loss_type", "bnpo")
    monkeypatch.setattr(grpo.args, "delta", 2.0)
    theirs = loss_of(grpo, monkeypatch, logps, mask, advantages=advantages, old_per_token_logps=old)
    bounded = clipped_surrogate(logps, old, advantages, mask, dual_clip=2.0)
    assert (bounded != clipped_surrogate(logps, old, advantages, mask))[mask].any()
    assert_same(token_mean(bounded, mask), theirs, logps)


def test_cispo(grpo, monkeypatch, batch):
    logps, old, _, advantages, mask = batch
    monkeypatch.setattr(grpo, "loss_type", "cispo")
    monkeypatch.setattr(grpo, "epsilon_high", 1.5)
    theirs = loss_of(grpo, monkeypatch, logps, mask, advantages=advantages, old_per_token_logps=old)
    ours = token_mean(cispo(logps, old, advantages, mask, eps_high=0.5), mask)
    assert_same(ours, theirs, logps)


@pytest.mark.parametrize("weighted", [True, False])
def test_the_penalty_of_grpo_is_k3(grpo, monkeypatch, batch, weighted):
    logps, old, ref, advantages, mask = batch
    monkeypatch.setattr(grpo, "loss_type", "grpo")
    monkeypatch.setattr(grpo, "beta", 0.3)
    monkeypatch.setattr(grpo.args, "use_bias_correction_kl", weighted)
    theirs = loss_of(
        grpo,
        monkeypatch,
        logps,
        mask,
        advantages=advantages,
        old_per_token_logps=old,
        ref_per_token_logps=ref,
    )
    kl = kl_estimate(logps, ref)
    if weighted:
        kl = kl * importance_ratio(logps, old, mask)
    per_token = clipped_surrogate(logps, old, advantages, mask) + 0.3 * kl
    assert_same(sequence_mean(per_token, mask), theirs, logps)


def test_the_loss_of_rloo(rloo_trainer, monkeypatch, batch):
    logps, old, _, advantages, mask = batch
    theirs = loss_of(
        rloo_trainer,
        monkeypatch,
        logps,
        mask,
        advantages=advantages,
        old_logps=(old * mask).sum(1),
    )
    per_token = clipped_surrogate(logps, old, advantages, mask, level="product")
    assert_same(sequence_mean(per_token, mask), theirs, logps)


def test_scores_of_left_padded_rollouts(grpo):
    rollout = generate(
        grpo.model,
        [[1, 3, 4], [1, 5]],
        max_new_tokens=LIMIT,
        n_completions=4,
        generator=torch.Generator().manual_seed(0),
    )
    theirs, entropies, _ = grpo._get_per_token_logps_and_entropies(
        grpo.model,
        torch.cat([rollout.prompt_ids, rollout.completion_ids], dim=1),
        torch.cat([rollout.prompt_mask, rollout.completion_mask], dim=1).long(),
        rollout.completion_ids.shape[1],
        compute_entropy=True,
    )
    ours, mask = score(grpo.model, rollout), rollout.completion_mask
    torch.testing.assert_close(ours.logps[mask], theirs[mask], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.entropies[mask], entropies[mask], rtol=0, atol=1e-5)
