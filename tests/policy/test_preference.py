"""Pairs by their rule, and the loss against the formula and against TRL's trainer."""

import math
from importlib.util import find_spec

import pytest
import torch

from rarefy.models.characters import character_model, character_tokenizer
from rarefy.policy.preference import dpo_loss, pairs_from_scores, train_on_pairs

PAIRS = [
    {"prompt": "n3,5>8=", "chosen": "3;+5.8#3+5", "rejected": "3#5"},
    {"prompt": "n1,2>2=", "chosen": "1;*2.2#1*2", "rejected": "2;+1.2#2+1"},
]


def test_the_best_is_chosen_and_the_worst_rejected():
    pairs = pairs_from_scores(
        ["p", "q", "p", "q", "p"], ["a", "b", "c", "d", "e"], [0.0, 1.0, 2.0, 3.0, -1.0]
    )
    assert pairs == [
        {"prompt": "p", "chosen": "c", "rejected": "e"},
        {"prompt": "q", "chosen": "d", "rejected": "b"},
    ]


@pytest.mark.parametrize(
    "settings, wanted",
    [
        ({"margin": 2.5}, [("c", "e")]),
        ({"margin": 3.0}, []),
        ({"correct": [True, False, False]}, [("a", "e")]),
        ({"correct": [False, False, True]}, []),
        ({"terminated": [True, True, False]}, [("c", "a")]),
        ({"terminated": [False, True, False]}, []),
    ],
)
def test_options_leave_pairs_out(settings, wanted):
    pairs = pairs_from_scores(["p"] * 3, ["a", "c", "e"], [0.0, 2.0, -1.0], **settings)
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == wanted


def test_equal_texts_or_scores_make_no_pair():
    assert pairs_from_scores(["p", "p"], ["a", "a"], [1.0, 0.0]) == []
    assert pairs_from_scores(["p", "p"], ["a", "b"], [1.0, 1.0]) == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"completions": ["a"]}, "completions has 1 rows"),
        ({"correct": [True]}, "correct has 1 rows"),
        ({"margin": -0.1}, "at least 0"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    given = {"prompts": ["p", "p"], "completions": ["a", "b"], "scores": [0.0, 1.0]} | arguments
    with pytest.raises(ValueError, match=message):
        pairs_from_scores(**given)


@pytest.mark.parametrize("beta, nll_coef", [(0.1, 1.0), (0.5, 0.0)])
def test_the_loss_is_the_formula_by_a_loop(beta, nll_coef):
    g = torch.Generator().manual_seed(0)
    c, rc = (-torch.rand(3, 4, generator=g) for _ in range(2))
    r, rr = (-torch.rand(3, 5, generator=g) for _ in range(2))
    c_len, r_len = [4, 2, 1], [1, 5, 3]
    lengths = ((4, c_len), (5, r_len))
    masks = [torch.arange(n)[None] < torch.tensor(each)[:, None] for n, each in lengths]
    dpo, nll, tokens = 0.0, 0.0, 0
    for i in range(3):
        gap = sum(float(c[i, t] - rc[i, t]) for t in range(c_len[i]))
        gap -= sum(float(r[i, t] - rr[i, t]) for t in range(r_len[i]))
        dpo += math.log1p(math.exp(-beta * gap)) / 3
        nll -= sum(float(c[i, t]) for t in range(c_len[i]))
        tokens += c_len[i]
    got = dpo_loss(c, r, rc, rr, *masks, beta=beta, nll_coef=nll_coef)
    assert float(got) == pytest.approx(dpo + nll_coef * nll / tokens, rel=1e-5)


def policy(seed=0):
    tokenizer = character_tokenizer()
    return character_model(tokenizer, seed=seed, hidden=32, layers=1), tokenizer


def test_training_begins_at_log_two_and_ends_with_the_chosen_likelier():
    model, tokenizer = policy()
    losses = train_on_pairs(
        model, tokenizer, PAIRS, steps=20, batch_size=2, nll_coef=0.0, learning_rate=1e-3
    )
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5) and losses[-1] < 0.5


def test_training_is_a_function_of_its_seed():
    first, second = (
        train_on_pairs(*policy(), PAIRS, steps=3, batch_size=1, seed=1) for _ in range(2)
    )
    assert first == second
    with pytest.raises(ValueError, match="pairs is empty"):
        train_on_pairs(*policy(), [], steps=1)


@pytest.mark.skipif(find_spec("trl") is None, reason="needs the policy extra (trl)")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("nll_coef", [0.0, 1.0])
def test_the_loss_is_trls(nll_coef, tmp_path):
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from rarefy.policy.preference import _encoded
    from rarefy.policy.rollout import score

    (model, tokenizer), (reference, _) = policy(0), policy(1)
    trainer = DPOTrainer(
        model,
        reference,
        DPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=2,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, nll_coef],
            beta=0.3,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
        ),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = trainer._compute_loss(trainer.model, batch, return_outputs=False)
    sides = [_encoded(tokenizer, PAIRS, side, model) for side in ("chosen", "rejected")]
    ours = dpo_loss(
        *(score(trainer.model, side).logps for side in sides),
        *(score(reference, side).logps for side in sides),
        *(side.completion_mask for side in sides),
        beta=0.3,
        nll_coef=nll_coef,
    )
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)
