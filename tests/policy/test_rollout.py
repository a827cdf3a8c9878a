import pytest
import torch

from rarefy.policy import concatenate, generate, left_pad, score

PROMPTS = [[1, 5, 6, 7, 8], [1, 9], [1, 3, 4, 11]]
EOS = 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(model, prompts=PROMPTS, **options):
    settings = {"max_new_tokens": 12, "n_completions": 6, "generator": seeded()}
    return generate(model, prompts, **(settings | options))


@torch.no_grad()
def alone(model, prompt, completion, temperature):
    """Log-probabilities and entropies of one completion, from one pass without any padding."""
    model.eval()
    logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
    p = (logits / temperature).softmax(-1)
    chosen = p[range(len(completion)), completion].log()
    return chosen, torch.distributions.Categorical(p).entropy()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_what_was_recorded_is_what_one_pass_over_the_bare_tokens_gives(tiny_model, temperature):
    rollout = sample(tiny_model, temperature=temperature)
    assert 1 < rollout.terminated.sum() < len(rollout)
    for row, completion in enumerate(rollout.completions()):
        prompt = PROMPTS[row // 6]
        logps, entropies = alone(tiny_model, prompt, completion, temperature)
        torch.testing.assert_close(rollout.logps[row, : len(completion)], logps)
        torch.testing.assert_close(rollout.entropies[row, : len(completion)], entropies)
        assert not rollout.logps[row, len(completion) :].any()
        assert not rollout.entropies[row, len(completion) :].any()


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_scoring_a_rollout_gives_back_what_was_recorded(tiny_model, temperature):
    rollout = sample(tiny_model, temperature=temperature)
    logps, entropies = score(tiny_model.eval(), rollout, temperature=temperature)
    torch.testing.assert_close(logps.detach(), rollout.logps)
    torch.testing.assert_close(entropies.detach(), rollout.entropies)
    assert logps.requires_grad


def test_left_padding_changes_nothing(tiny_model):
    together = sample(tiny_model, temperature=0, n_completions=1)
    wide = sample(tiny_model, [*PROMPTS, [1] * 30], temperature=0, n_completions=1)
    for row, prompt in enumerate(PROMPTS):
        single = sample(tiny_model, [prompt], temperature=0, n_completions=1)
        for batch in (together, wide):
            assert batch.completions()[row] == single.completions()[0]
            torch.testing.assert_close(
                batch.logps[row][batch.completion_mask[row]], single.logps[0]
            )


def test_greedy_is_hugging_faces(tiny_model):
    ids, mask = left_pad(PROMPTS, pad_token_id=0)
    theirs = tiny_model.eval().generate(
        ids, attention_mask=mask.long(), max_new_tokens=12, do_sample=False
    )[:, ids.shape[1] :]
    ours = generate(tiny_model, PROMPTS, max_new_tokens=12, temperature=0)
    assert torch.equal(ours.completion_ids, theirs)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_come_as_often_as_the_model_says(tiny_llama, temperature):
    n = 4000
    rollout = sample(
        tiny_llama, [PROMPTS[0]], max_new_tokens=1, n_completions=n, temperature=temperature
    )
    logits = tiny_llama(torch.tensor([PROMPTS[0]])).logits[0, -1].detach()
    expected = n * (logits / temperature).softmax(-1)
    counts = rollout.completion_ids[:, 0].bincount(minlength=12)
    often = expected > 5
    chi_squared = ((counts - expected).square() / expected)[often].sum()
    assert often.sum() > 3
    # 99.99 % quantile of a chi-squared of 11 degrees of freedom, the most there can be.
    assert chi_squared < 37.4


def test_a_completion_ends_with_its_first_end_token(tiny_llama):
    rollout = sample(tiny_llama)
    for row, completion in enumerate(rollout.completions()):
        assert EOS not in completion[:-1]
        assert rollout.terminated[row] == (completion[-1] == EOS)
        assert rollout.terminated[row] or len(completion) == 12
        assert not rollout.completion_ids[row, len(completion) :].any()
    assert torch.equal(rollout.lengths, rollout.completion_mask.sum(1))


def test_any_of_several_tokens_may_end_a_completion_and_none_need(tiny_llama):
    several = sample(tiny_llama, eos_token_id=[EOS, 5])
    assert {row[-1] for row in several.completions()} >= {EOS, 5}
    assert not any({EOS, 5} & set(row[:-1]) for row in several.completions())
    tiny_llama.generation_config.eos_token_id = None
    endless = sample(tiny_llama)
    assert not endless.terminated.any()
    assert (endless.lengths == 12).all()


def forward_sizes(model):
    """Rows and columns of the input of each forward pass from now on."""
    sizes = []

    def record(module, args, kwargs):
        sizes.append(tuple(kwargs["input_ids"].shape))

    model.register_forward_pre_hook(record, with_kwargs=True)
    return sizes


def test_each_prompt_is_read_once_and_rows_that_ended_leave(tiny_llama):
    sizes = forward_sizes(tiny_llama)
    rollout = sample(tiny_llama, n_completions=20, max_new_tokens=40)
    assert sizes[0] == (3, 5)
    assert sizes[1] == (60, 1)
    assert {columns for _, columns in sizes[1:]} == {1}
    rows = [rows for rows, _ in sizes[1:]]
    assert rows == sorted(rows, reverse=True)
    running = [int((rollout.lengths > t).sum()) for t in range(1, len(sizes))]
    assert all(r <= n < 2 * r for r, n in zip(running, rows, strict=True))


def test_it_stops_when_all_have_ended(tiny_llama):
    sizes = forward_sizes(tiny_llama)
    everything = list(range(12))
    rollout = sample(tiny_llama, max_new_tokens=50, eos_token_id=everything)
    assert len(sizes) == 1
    assert rollout.completion_ids.shape == (18, 1)
    assert rollout.terminated.all()


def test_a_seed_gives_the_same_rollout_whatever_the_global_state(tiny_llama):
    state = torch.get_rng_state()
    one = sample(tiny_llama)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert one.completions() == sample(tiny_llama).completions()
    assert one.completions() != sample(tiny_llama, generator=seeded(1)).completions()


def test_dropout_is_off_while_sampling_and_on_again_afterwards(tiny_gpt2):
    tiny_gpt2.train()
    rollout = sample(tiny_gpt2)
    assert tiny_gpt2.training
    recorded = score(tiny_gpt2.eval(), rollout).logps.detach()
    torch.testing.assert_close(recorded, rollout.logps)


def test_rollouts_of_other_widths_are_joined_and_taken_apart(tiny_llama):
    long = sample(tiny_llama)
    short = sample(tiny_llama, [[1, 3]], max_new_tokens=2, n_completions=2, generator=seeded(3))
    both = concatenate([short, long])
    assert both.completions() == short.completions() + long.completions()
    torch.testing.assert_close(score(tiny_llama, both).logps.detach(), both.logps)
    picked = both.select(torch.tensor([3, 0]))
    assert picked.completions() == [long.completions()[1], short.completions()[0]]
    assert len(both.select(both.terminated)) == int(both.terminated.sum())


def test_text_leaves_special_tokens_out(tiny_llama):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<bos>", "<eos>", *"abcdefghi"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)})),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
    )
    rollout = sample(tiny_llama)
    wanted = [[words[i] for i in row if i > 2] for row in rollout.completions()]
    assert [text.split() for text in rollout.text(tokenizer)] == wanted


def test_what_cannot_be_sampled_is_refused(tiny_llama):
    with pytest.raises(ValueError, match="prompts is empty"):
        sample(tiny_llama, [])
    with pytest.raises(ValueError, match="prompt 1 has no tokens"):
        sample(tiny_llama, [[1], []])
    with pytest.raises(ValueError, match="at least 1, got 0 and 6"):
        sample(tiny_llama, max_new_tokens=0)
    with pytest.raises(ValueError, match="temperature is -1"):
        sample(tiny_llama, temperature=-1)
    with pytest.raises(ValueError, match="sampling needs a generator"):
        sample(tiny_llama, generator=None)


def test_a_prompt_that_does_not_fit_the_context_is_refused(tiny_llama):
    assert sample(tiny_llama, [[1] * 52], n_completions=1).lengths[0] <= 12
    with pytest.raises(
        ValueError, match="prompt 1 has 53 tokens.*= 12 does not fit.*context of 64"
    ):
        sample(tiny_llama, [[1], [1] * 53])
