"""Mean-field log-probabilities: equal to brute force, zero where shown, drawn as said."""

import pytest
import torch

from rarefy.models import character_model, character_tokenizer
from rarefy.policy.mean_field import hidden_places, mask_shares, mean_field_scores

TOKENIZER = character_tokenizer()
MASK = TOKENIZER.mask_token_id
MODEL = character_model(TOKENIZER, seed=0, hidden=32, layers=2).eval()
for parameter in MODEL.parameters():
    if parameter.ndim == 2:
        parameter.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
PROMPTS = TOKENIZER(["sa21=", "n3>3=1"], padding=True, return_tensors="pt")
IDS, PADDING = PROMPTS["input_ids"], PROMPTS["attention_mask"]
CANVAS = torch.randint(5, 40, (2, 8), generator=torch.Generator().manual_seed(0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def brute_force(hidden, temperature=1.0):
    """Row by row, without padding, token by token."""
    logps, entropies = torch.zeros(2, 8), torch.zeros(2, 8)
    for row in range(2):
        prompt = [
            MASK if h else int(t)
            for t, h, m in zip(IDS[row], hidden[row], PADDING[row], strict=False)
            if m
        ]
        at = hidden[row, IDS.shape[1] :]
        canvas = [MASK if h else int(t) for t, h in zip(CANVAS[row], at, strict=True)]
        n = len(prompt) + 8
        out = MODEL(
            input_ids=torch.tensor([prompt + canvas]), attention_mask=torch.ones(1, 1, n, n).bool()
        ).logits[0, len(prompt) :]
        for k in range(8):
            if at[k]:
                z = torch.cat([out[k, :MASK], out[k, MASK + 1 :]]).double() / temperature
                p = (z - z.max()).exp()
                p /= p.sum()
                token = int(CANVAS[row, k])
                logps[row, k] = p[token - (token > MASK)].log()
                entropies[row, k] = -(p * p.log()).sum()
    return logps, entropies


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_with_everything_hidden_it_is_one_pass_over_masks(temperature):
    hidden = torch.ones(2, IDS.shape[1] + 8, dtype=torch.bool)
    hidden[:, : IDS.shape[1]] = False
    with torch.no_grad():
        ours = mean_field_scores(
            MODEL, IDS, PADDING, CANVAS, mask_token_id=MASK, temperature=temperature
        )
        for mine, theirs in zip(ours, brute_force(hidden, temperature), strict=True):
            torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=0)


def test_what_is_shown_scores_zero_and_helps_the_rest():
    hidden = hidden_places(PADDING, 8, share=0.5, prompt_share=0.3, generator=generator(3))
    with torch.no_grad():
        ours = mean_field_scores(MODEL, IDS, PADDING, CANVAS, mask_token_id=MASK, hidden=hidden)
        for mine, theirs in zip(ours, brute_force(hidden), strict=True):
            torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=0)
    at = hidden[:, IDS.shape[1] :]
    assert (ours.logps[~at] == 0).all() and (ours.logps[at] < 0).all()


def test_the_gradient_is_finite_though_the_mask_token_is_impossible():
    scores = mean_field_scores(MODEL, IDS, PADDING, CANVAS, mask_token_id=MASK)
    grads = torch.autograd.grad(scores.logps.sum(), list(MODEL.parameters()))
    assert all(grad.isfinite().all() for grad in grads)
    assert scores.entropies.isfinite().all() and (scores.entropies >= 0).all()


def test_shares_of_inner_updates():
    assert mask_shares(3, estimator="all_mask", generator=generator()) == [1.0, 1.0, 1.0]
    first, second, last = mask_shares(3, estimator="random", generator=generator())
    assert 0 <= first < second < last == 1 and last - second == pytest.approx(second - first)
    with pytest.raises(ValueError, match="estimator is 'half'"):
        mask_shares(1, estimator="half", generator=generator())


def test_hidden_places_are_drawn_at_their_rates_and_never_of_padding():
    padding = torch.tensor([[0, 0, 1, 1]]).expand(4000, -1)
    hidden = hidden_places(padding, 10, share=0.4, prompt_share=0.15, generator=generator())
    assert not hidden[:, :2].any()
    assert float(hidden[:, 2:4].float().mean()) == pytest.approx(0.15, abs=0.02)
    assert float(hidden[:, 4:].float().mean()) == pytest.approx(0.4, abs=0.02)
    none = hidden_places(padding, 10, share=0.0, generator=generator())
    assert (none.sum(1) == 1).all()
