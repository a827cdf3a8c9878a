import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rarefy.models import SHIPPED, bits_per_byte, open_model, perplexity, token_losses


class Bigram(nn.Module):
    """p(next | current) from a table: its loss can be written down."""

    def __init__(self, table):
        super().__init__()
        self.logits = nn.Parameter(table.log())

    def forward(self, input_ids, use_cache):
        return SimpleNamespace(logits=self.logits[input_ids])


def test_losses_of_a_bigram_model_are_its_table():
    table = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    windows = torch.tensor([[0, 1, 2], [2, 2, 0], [1, 0, 0]])
    losses = token_losses(Bigram(table), windows, batch=2)
    wanted = [[0.25, 0.1], [0.6, 0.2], [0.1, 0.5]]
    assert torch.allclose(losses, -torch.tensor(wanted).log())
    mean = -torch.tensor(wanted).log().mean().item()
    assert perplexity(Bigram(table), windows) == pytest.approx(math.exp(mean))


def test_a_uniform_model_has_the_vocabulary_size_as_its_perplexity():
    model = Bigram(torch.full((50, 50), 1 / 50))
    assert perplexity(model, torch.randint(50, (4, 9))) == pytest.approx(50, rel=1e-5)


def test_hopeless_models_have_infinite_perplexity_not_an_overflow():
    table = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert perplexity(Bigram(table), torch.tensor([[1, 1]])) == math.inf


def test_evaluation_keeps_the_training_mode_and_the_batch_size_does_not_matter():
    model, _ = open_model()
    model.train()
    windows = torch.randint(2, 2048, (3, 12), generator=torch.Generator().manual_seed(0))
    one, many = token_losses(model, windows, batch=1), token_losses(model, windows, batch=3)
    assert torch.allclose(one, many, atol=1e-4)
    assert model.training


def test_bits_per_byte_counts_the_bytes_of_the_predicted_text():
    model, tokenizer = open_model()
    ids = torch.tensor([tokenizer("import os\n# naïve\n")["input_ids"]])
    n_bytes = len(tokenizer.decode(ids[0, 1:]).encode())
    wanted = token_losses(model, ids).sum().item() / math.log(2) / n_bytes
    assert bits_per_byte(model, tokenizer, ids) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("shape", [(0, 5), (3, 1), (4,)])
def test_windows_of_no_use_are_refused(shape):
    with pytest.raises(ValueError, match="windows must have shape"):
        token_losses(Bigram(torch.ones(2, 2)), torch.zeros(shape, dtype=torch.int64))


def test_the_shipped_model_is_as_good_as_its_card_says():
    import json

    from rarefy.data import encode, modules, windows

    facts = json.loads((SHIPPED / "code" / "training.json").read_text())
    model, tokenizer = open_model()
    text = next(m for m in modules("heldout") if m.name == "textwrap").read()
    bits = bits_per_byte(model, tokenizer, windows(encode(tokenizer, [text]), 512))
    # One module in shorter windows: near the card's mean over all held-out modules.
    assert bits == pytest.approx(facts["held_out_bits_per_byte"], abs=0.4)
    assert 1.5e6 < model.num_parameters() < 3.2e6
