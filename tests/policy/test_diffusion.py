"""The canvas: seen both ways, its loss an entropy, given places kept, no mask left."""

import math
from types import SimpleNamespace

import pytest
import torch

from rarefy.models import character_model, character_tokenizer
from rarefy.policy.diffusion import canvas_logits, denoise, diffusion_loss

TOKENIZER = character_tokenizer()
MASK = TOKENIZER.mask_token_id
MODEL = character_model(TOKENIZER, seed=0, hidden=32, layers=2).eval()


def prompts(*texts):
    batch = TOKENIZER(list(texts), padding=True, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Tokens:
    """A network that knows the distribution of each token, whatever it sees."""

    def __init__(self, probabilities):
        self.logits = torch.tensor(probabilities).log()

    def __call__(self, input_ids, **_):
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


def test_the_first_place_sees_the_last_and_padding_is_seen_by_none():
    ids, mask = prompts("sa21=", "n3>3=1")
    canvas = torch.full((2, 8), MASK)
    changed = canvas.clone()
    changed[:, -1] = 20
    with torch.no_grad():
        logits = canvas_logits(MODEL, ids, mask, canvas)
        assert not torch.allclose(logits[:, 0], canvas_logits(MODEL, ids, mask, changed)[:, 0])
        alone = canvas_logits(MODEL, *prompts("sa21="), canvas[:1])
    torch.testing.assert_close(logits[:1], alone, atol=1e-5, rtol=0)


def test_the_loss_of_a_known_distribution_is_its_entropy():
    probabilities = [0.5, 0.25, 0.25, 1e-9]
    entropy = 1.5 * math.log(2)
    draws = generator(1)
    canvas = torch.multinomial(torch.tensor(probabilities), 64 * 400, True, generator=draws)
    empty = torch.zeros(400, 0, dtype=torch.long)
    loss = diffusion_loss(
        Tokens(probabilities), empty, empty, canvas.view(400, 64), mask_token_id=3, generator=draws
    )
    # E[masked / t] = 1 but where t is held at 0.05, and there too: the mask is drawn with that t.
    assert float(loss) == pytest.approx(entropy, rel=0.03)


def test_places_that_are_not_maskable_are_shown_and_cost_nothing():
    canvas = torch.tensor([[0, 1, 1, 1]])
    empty = torch.zeros(1, 0, dtype=torch.long)
    maskable = torch.tensor([[False, True, True, True]])
    seen = []

    class Watched(Tokens):
        def __call__(self, input_ids, **_):
            seen.append(input_ids[0, 0].item())
            return super().__call__(input_ids)

    sure = Watched([1e-9, 1.0, 1e-9, 1e-9])  # certain of token 1, and wrong at the first place
    for seed in range(20):
        loss = diffusion_loss(
            sure, empty, empty, canvas, mask_token_id=3, generator=generator(seed),
            maskable=maskable,
        )  # fmt: skip
        assert float(loss) == pytest.approx(0, abs=1e-6)
    assert set(seen) == {0}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_mask_is_left_and_what_is_given_never_changes(temperature):
    ids, mask = prompts("sa21=", "n3>3=1", "pabcd:x=")
    fixed = torch.full((3, 16), MASK)
    fixed[0, :10] = 30
    fixed[1, [3, 8, 15]] = 31
    canvas = denoise(
        MODEL, ids, mask, length=16, steps=8, block_length=8, mask_token_id=MASK,
        generator=generator(), temperature=temperature, fixed=fixed,
    )  # fmt: skip
    assert (canvas != MASK).all()
    given = fixed != MASK
    assert canvas[given].equal(fixed[given])


def test_blocks_are_filled_in_order_the_surest_first_in_equal_shares():
    canvases = []

    class Watched(Tokens):
        def __call__(self, input_ids, **_):
            canvases.append(input_ids.clone())
            logits = torch.zeros(*input_ids.shape, 4)
            logits[..., 1] = torch.arange(input_ids.shape[1], dtype=torch.float)  # surest last
            return SimpleNamespace(logits=logits)

    empty = torch.zeros(1, 0, dtype=torch.long)
    denoise(
        Watched([1.0]), empty, empty, length=10, steps=4, block_length=5, mask_token_id=3,
        generator=generator(), temperature=0,
    )  # fmt: skip
    masked = [(c[0] == 3).nonzero()[:, 0].tolist() for c in canvases]
    assert masked == [[*range(10)], [0, 1, *range(5, 10)], [*range(5, 10)], [5, 6]]


def test_samples_follow_the_networks_distribution_and_the_seed():
    probabilities = [0.6, 0.3, 0.1, 1e-9]
    empty = torch.zeros(500, 0, dtype=torch.long)
    first, again, other = (
        denoise(
            Tokens(probabilities), empty, empty, length=8, steps=8, block_length=8,
            mask_token_id=3, generator=generator(seed), fixed=None,
        )
        for seed in (0, 0, 1)
    )  # fmt: skip
    assert first.equal(again) and not first.equal(other)
    one_step = denoise(
        Tokens(probabilities), empty, empty, length=8, steps=1, block_length=8,
        mask_token_id=3, generator=generator(),
    )  # fmt: skip
    shares = one_step.flatten().bincount(minlength=4) / one_step.numel()
    torch.testing.assert_close(shares, torch.tensor(probabilities), atol=0.03, rtol=0)


def test_blocks_steps_and_shapes_that_do_not_fit_are_refused():
    ids, mask = prompts("sa21=")
    common = {"mask_token_id": MASK, "generator": generator(), "block_length": 8}
    with pytest.raises(ValueError, match="length is 12, block_length 8 and steps 4; whole blocks"):
        denoise(MODEL, ids, mask, length=12, steps=4, **common)
    with pytest.raises(ValueError, match="as many steps in each"):
        denoise(MODEL, ids, mask, length=16, steps=3, **common)
    with pytest.raises(ValueError, match=r"fixed has shape \(1, 8\); \(1, 16\) is wanted"):
        denoise(MODEL, ids, mask, length=16, steps=4, fixed=ids.new_zeros(1, 8), **common)
