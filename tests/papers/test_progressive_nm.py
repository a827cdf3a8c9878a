"""Paper 23: the recipe runs, its claims speak of what is measured, and its arms are fair."""

import numpy as np
import pytest
import torch

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.operators import NM
from rarefy.papers import _progressive_nm_training as training
from rarefy.papers import progressive_nm as recipe
from rarefy.papers._progressive_nm_data import Language, Vision
from rarefy.papers._recipe import Trial
from rarefy.weights import count_macs, sr_ste


@pytest.fixture(scope="module")
def smoke(shared, trial):
    """Every arm at one seed, measured once for this file."""
    before = [tensor.clone() for tensor in (*shared.images, *shared.text)]
    measured = {arm: recipe.measure(arm, shared, trial) for arm in recipe.PAPER.arms}
    for tensor, was in zip((*shared.images, *shared.text), before, strict=True):
        assert tensor.equal(was)
    return measured


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {"c1", "c2", "c3", "c3b", "c4", "c5", "exact", "speed"} <= ids


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    # What a run that was stopped and goes on does: a new setup, and only the arms that are missing.
    shared = recipe.setup(trial)
    for arm in ("MdGf", "SdGf geometric", "vision: SR-STE"):
        again = recipe.measure(arm, shared, trial)
        np.testing.assert_array_equal(list(again.values()), list(smoke[arm].values()))


def test_arms_that_are_built_differently_differ(smoke):
    sparse = [arm for arm in recipe.PAPER.arms if arm[:6] not in ("vision", "step t")]
    losses = {smoke[arm]["loss"] for arm in sparse}
    assert len(losses) == len(sparse)


def test_every_arm_ends_in_its_pattern(smoke):
    assert all(values.get("violations", 0) == 0 for values in smoke.values())
    assert all(values.get("bake_shift", 0) == 0 for values in smoke.values())


def test_violations_are_seen(shared, trial, monkeypatch):
    """Masks that keep too much are noticed, so a count of 0 means something."""
    finish = training.NMTraining.finish

    def careless(self):
        if self.taken:
            masks = finish(self)
            with torch.no_grad():
                for name in masks:
                    self.weights[name].fill_(1.0)
        return self.masks

    monkeypatch.setattr(training.NMTraining, "finish", careless)
    values = training.train(
        Language(shared.text, trial), trial, training.Way(NM(1, 16), sr_ste()), steps=6
    )
    assert values["violations"] > 0 and values["bake_shift"] > 0


def test_cost_by_counting(shared, trial):
    task = Language(shared.text, trial)
    rows = count_macs(task.model(), task.inputs())
    dense = sum(row.dense for row in rows)
    pair = sum(row.dense for row in rows if ".up." in row.name or ".down." in row.name)
    assert pair > dense / 4
    for arm, share in (("dense", 1.0), ("SR-STE", 1 / 16), ("2:4 SR-STE", 1 / 2)):
        cost = training.cost(task, recipe._way(arm))
        assert cost == pytest.approx(task.steps * (dense - (1 - share) * pair) / dense)
    # Soft in steps 0 and 1 of 6.
    cost = training.cost(task, recipe._way("MdGf"))
    share = (2 + 4 / 16) / 6
    assert cost == pytest.approx(task.steps * (dense - (1 - share) * pair) / dense)


def test_batch_noise_of_gradients_that_are_known(shared, trial):
    class Known(Language):
        """Gradient of the first target in batch i: signal 3, noise of variance 4."""

        def loss(self, model, draw):
            target = model.blocks[0].up.weight
            noise = 2 * torch.randn(target.shape, generator=draw)
            rest = sum(p.sum() for p in model.parameters()) * 0
            return rest + ((3 + noise) * target).sum()

    task = Known(shared.text, trial)
    torch.manual_seed(0)
    model = task.model()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    targets = dict.fromkeys(
        training.select(model, include=("*.up.weight", "*.down.weight")), NM(1, 2)
    )
    held = training.NMTraining(model, targets, sgd, rule=sr_ste(), steps=10)
    assert training._batch_noise(task, model, held, trial) == pytest.approx(4 / 9, rel=0.1)


def test_figure_draws_both_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    losses, noise = recipe.figure(measurements).axes
    assert len(losses.containers) == 7 and len(noise.patches) == 10


def test_a_causal_model_does_not_look_ahead(shared, trial):
    torch.manual_seed(0)
    x = shared.text.held_out[:2, :-1].clone()
    changed = x.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 256
    model = Language(shared.text, trial).model().eval()
    assert model(x)[:, :-1].equal(model(changed)[:, :-1])
    pictures = shared.images.x[:2].clone()
    model = Vision(shared.images, trial).model().eval()
    before = model(pictures)
    pictures[..., -1, -1] += 1
    assert not before[:, 0].equal(model(pictures)[:, 0])


def test_it_learns_bytes(shared):
    trial = Trial(seed=0, scale="smoke")
    values = training.train(Language(shared.text, trial), trial, recipe._way("MdGf"), steps=120)
    assert values["loss"] < 3.6  # 5.5 is chance


def test_a_user_s_text(tmp_path, trial):
    (tmp_path / "text.txt").write_text("abcd " * 400)
    shared = recipe.setup(trial, text=tmp_path / "text.txt")
    assert len(shared.text.train) == 1800 and shared.text.held_out.shape == (8, 17)
    (tmp_path / "text.txt").write_text("abcd")
    with pytest.raises(ValueError, match="shorter than one window of 17"):
        recipe.setup(trial, text=tmp_path / "text.txt")
