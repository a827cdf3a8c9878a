"""The shipped IOI model knows its task; its script resumes, and refuses a model that guesses."""

import pytest
import torch

from rarefy.data.ioi import IOIEncoder, ioi_prompts
from rarefy.models import SHIPPED, open_model
from rarefy.models.train_ioi import ACCEPTED, accuracy, learning_rate, train


def test_the_shipped_model_answers_fresh_prompts():
    model, tokenizer = open_model(SHIPPED / "ioi")
    prompts = ioi_prompts(200, generator=torch.Generator().manual_seed(12345))
    assert accuracy(model, IOIEncoder(tokenizer), prompts) >= ACCEPTED


def test_a_model_that_guesses_is_not_saved(tmp_path):
    with pytest.raises(RuntimeError, match="is not saved: at least 0.95 is wanted"):
        train(tmp_path, steps=2)
    assert not (tmp_path / "model").exists()


def test_learning_rate_warms_up_and_falls_to_zero():
    rates = [learning_rate(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(rates[49] / 50)
    assert rates[500] == max(rates) and rates[-1] == pytest.approx(rates[500] / 200)
