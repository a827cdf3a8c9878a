"""Paper 30: the recipe runs, its claims speak of what is measured, and its arms are comparable."""

import pytest
import torch

from rarefy.data import make_concept_tree
from rarefy.dictionaries import ArrayStream, MatchingPursuitSAE, SparseCodes, evaluate
from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import mp_sae as recipe
from rarefy.papers._mp_sae_planted import learn_modalities, learn_superposed, modalities
from rarefy.papers._mp_sae_real import Rows, by_inference, pursuit_facts
from rarefy.papers._mp_sae_training import SampledPrefixes, TargetedL1, trained
from rarefy.papers._mp_sae_tree import TreeStream, learn_tree


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {f"c{i}" for i in range(1, 8)} <= ids


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    shared = recipe.setup(trial)
    for arm in ("topk", "matryoshka"):
        assert recipe.measure(arm, shared, trial) == smoke[arm]


def test_the_negative_control_is_measured_and_judged_by_no_claim(smoke):
    assert {"recovery_superposed"} <= smoke["mp"].keys() & smoke["topk"].keys()
    assert not any(claim.metric == "recovery_superposed" for claim in recipe.PAPER.claims)


def test_the_negative_control_has_room_below_and_above():
    untrained, trained_ = (
        learn_superposed("topk", rows=2000, steps=steps, seed=100) for steps in (1, 100)
    )
    assert untrained < 0.5 < trained_ < 0.95


def test_mp_shares_latents_between_modalities_where_topk_splits_them():
    mp, topk = (learn_modalities(arm, rows=2000, steps=120, seed=100) for arm in ("mp", "topk"))
    assert mp > topk + 0.1


def test_seeds_that_judge_are_none_that_settings_were_chosen_on(monkeypatch, shared, trial):
    seen = []
    for part in ("_measure_tree", "_measure_real", "_measure_planted"):
        monkeypatch.setattr(recipe, part, lambda *given: seen.append(given[-1].seed) or {})
    recipe.measure("mp", shared, trial)
    assert seen == [1000, 1000, 1000]


def test_mp_learns_the_tree_and_relu_absorbs():
    tree = make_concept_tree()
    mp = learn_tree("mp", tree, steps=600, seed=100).metrics
    absorbed = learn_tree("relu", tree, steps=300, seed=100).metrics
    assert abs(mp["absorption"]) < 0.15 < 0.25 < absorbed["absorption"]
    assert mp["hierarchical_mse"] < 0.5 * absorbed["hierarchical_mse"]


def test_the_l1_weight_follows_its_target():
    stream = TreeStream(make_concept_tree(), 100)
    sae = trained("relu", stream, d=20, n_latents=20, k=1.36, steps=400, lr=1e-2, seed=0,
                  betas=(0.5, 0.9375), decoder_bias=False)  # fmt: skip
    assert float(sae.encode(stream.batch(9999)).l0.float().mean()) < 3
    loss = TargetedL1(2.0, weight=1.0, rate=0.1)
    encoded = sae.encode_all(stream.batch(0))._replace(
        codes=SparseCodes.from_dense(torch.ones(200, 20))
    )
    loss(sae, stream.batch(0), encoded, stream.batch(0))
    assert loss.weight == pytest.approx(1.1)


def test_prefixes_are_nested_and_end_with_everything(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "rarefy.papers._mp_sae_training.MatryoshkaError",
        lambda prefixes: seen.append(prefixes) or (lambda *_: torch.zeros(())),
    )
    error = SampledPrefixes(20, 0)
    for _ in range(200):
        error(None, None, None, None)
    assert all(len(set(p)) == 5 and p[-1] == 20 and list(p) == sorted(p) for p in seen)
    first = torch.tensor([p[0] for p in seen]).double().mean()
    assert first < 5


def test_pursuit_facts_see_a_step_that_is_not_exact():
    sae = MatchingPursuitSAE(8, 20, k=4)
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(7))
    assert max(pursuit_facts(sae, x, 12).values()) < 1e-5
    with torch.no_grad():
        sae.decoder.mul_(1.005)
    facts = pursuit_facts(sae, x, 4)
    assert facts["not_orthogonal"] > 1e-4 and facts["energy_off"] > 1e-5


def test_other_numbers_of_latents_leave_the_dictionary_as_it_was():
    x = torch.randn(600, 8, generator=torch.Generator().manual_seed(1))
    for arm in ("mp", "topk"):
        sae = trained(arm, ArrayStream(x, batch_size=64), d=8, n_latents=80, k=8, steps=3, lr=1e-3,
                      seed=0)  # fmt: skip
        before = sae(x)
        values = by_inference(sae, Rows(x, x), 8, "x")
        assert torch.equal(sae(x), before)
        assert values["inference_x_8"] == pytest.approx(evaluate(sae, x).fvu)
        assert values["inference_x_1"] != values["inference_x_32"]
        expected = values["inference_x_16"] / values["inference_x_8"]
        assert values["inference_ratio_x_2"] == expected


def test_modalities_differ_by_the_offset():
    first, second = modalities(4000, torch.Generator().manual_seed(0))
    gap = first.mean(0) - second.mean(0)
    assert first.shape == second.shape == (4000, 32)
    # twice an offset of norm 2; the means of the concepts hardly move it
    assert 3.5 < float(gap.norm()) < 4.5


def test_figure_draws_the_matrices_and_both_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    drawn = recipe.figure(measurements)
    # five matrices, a colour bar, two panels
    assert len(drawn.axes) == 8


def test_bad_options(trial):
    with pytest.raises(ValueError, match="there is no layer 9"):
        recipe.setup(trial, layer=9)
