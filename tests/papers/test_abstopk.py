"""Paper 41: the recipe runs, its claims speak of what is measured, and its arms are fair."""

import pytest
import torch

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import _abstopk_language as language
from rarefy.papers import _abstopk_theory as theory
from rarefy.papers import abstopk as recipe
from rarefy.papers._patches import patches, whitened
from rarefy.papers._recipe import Trial


@pytest.fixture(scope="module")
def smoke(shared, trial):
    """Every arm at one seed, measured once for this file."""
    before = shared.language.train.clone()
    measured = {arm: recipe.measure(arm, shared, trial) for arm in recipe.PAPER.arms}
    assert torch.equal(before, shared.language.train)
    return measured


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {f"c{i}" for i in range(1, 7)} <= ids


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    shared = recipe.setup(trial)
    for arm in (recipe.PER_WAY, "abstopk, half as wide"):
        assert recipe.measure(arm, shared, trial) == smoke[arm]


def test_arms_keep_as_many_latents(smoke):
    for arm in ("topk", "abstopk", "topk, twice as wide", "abstopk, half as wide"):
        assert [smoke[arm][f"l0_{k}"] for k in (4, 8, 16)] == [4, 8, 16]
    assert smoke["topk"]["two_sided"] == 0 < smoke["abstopk"]["two_sided"]
    assert smoke[recipe.DIM]["near_dim"] == 1


def test_brute_force_sees_a_wrong_operator(monkeypatch):
    u = torch.randn(50, theory.WIDTH, dtype=torch.float64)
    assert theory._gap(theory.OPERATORS["abstopk"], u) < 1e-12
    monkeypatch.setattr(theory.TopK, "__call__", lambda self, x: x * (x > 0.5))
    assert theory._gap(theory.OPERATORS["abstopk"], u) > 0.01


def test_planted_axes_are_not_the_first_dictionary():
    untrained = theory.axis_metrics("abstopk", Trial(seed=3, scale="smoke"))
    assert untrained["axes_in_one"] < 0.5


def test_attributes_are_read_off_the_tokens(shared):
    data = shared.language
    found = language.attributes(data.probing, data.pieces)
    assert {"bracket", "case", "prose", "word start"} <= found.keys()
    opens = {p for p in data.pieces if p.strip()[-1:] in set("([{") and p.strip()}
    rows = data.probing
    chosen = [data.pieces[i] in opens for i in rows.token.tolist()]
    assert int(found["bracket"].y.sum()) == sum(chosen)
    torch.testing.assert_close(found["bracket"].x[found["bracket"].y], rows.x[torch.tensor(chosen)])
    deeper = (rows.indent > 0).nonzero()[:, 0].tolist()
    assert deeper and all("\n" in data.pieces[int(rows.token[i])] for i in deeper)


def test_rows_stand_beside_their_tokens(shared):
    data = shared.language
    model, tokenizer = data.opened
    rows = data.probing
    each = language.LENGTH - 2
    # A window of the text that holds the first rows, by the model's own list of hidden states.
    ids, _ = language.some_tokens(tokenizer, language.documents(None)[0], 4500)
    cut = language.windows(ids, language.LENGTH)
    first = cut[(cut[:, 1:-1] == rows.token[:each]).all(1)]
    with torch.no_grad():
        states = model(input_ids=first[:1], output_hidden_states=True).hidden_states
    assert torch.equal(rows.token[:each], first[0, 1:-1])
    assert torch.equal(rows.following[:each], first[0, 2:])
    expected = states[data.site + 1][0, 1:-1] * data.scale
    torch.testing.assert_close(rows.x[:each], expected, atol=1e-3, rtol=1e-3)


def test_a_perfect_dictionary_recovers_all_loss(shared):
    class Identity(torch.nn.Module):
        def forward(self, x):
            return x

    clean = language._losses(shared.language, lambda x: x)
    same = language._losses(shared.language, Identity())
    assert torch.equal(clean, same)
    assert language._losses(shared.language, torch.zeros_like).mean() > clean.mean() + 1


def test_patches_are_whitened():
    rows = patches(train=4000, test=500)
    assert rows.train.shape == (4000, 64) and rows.test.shape == (500, 64)
    assert float(rows.train.norm(dim=1).mean()) == pytest.approx(8, rel=1e-4)
    x = torch.randn(3000, 5, dtype=torch.float64) @ torch.diag(
        torch.tensor([1.0, 2, 3, 4, 5]).double()
    )
    white, _ = whitened(x, x, floor=0.0)
    covariance = white.T.cov()
    torch.testing.assert_close(covariance / covariance[0, 0], torch.eye(5), atol=1e-4, rtol=0)
    standard = patches(train=4000, test=500, standardise=True).test
    torch.testing.assert_close(standard.std(1), torch.ones(500), atol=1e-3, rtol=0)


def test_figure_draws_three_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    errors, axes, steering = recipe.figure(measurements).axes
    assert len(errors.get_lines()) >= 5 and len(axes.patches) == 6
    assert len(steering.patches) == 4 * len(steering.get_xticks())


def test_bad_options(trial):
    with pytest.raises(ValueError, match="to a quarter of the 1024 latents, got 600"):
        recipe.setup(trial, k=600)
    with pytest.raises(ValueError, match="kl must be positive, got 0"):
        recipe.setup(trial, kl=0.0)
    with pytest.raises(ValueError, match="there is no layer 9"):
        recipe.setup(trial, site=9)


def test_text_without_code_is_refused(trial, tmp_path):
    (tmp_path / "t.txt").write_text("words = words\n" * 4000)
    with pytest.raises(ValueError, match="the text has 0 tokens of comments and strings"):
        recipe.setup(trial, data=tmp_path / "t.txt")
