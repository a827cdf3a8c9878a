"""Methods under transformers' own Trainer, which needs accelerate; a stand-in everywhere else."""

import io
import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from rarefy.budget import Cubic
from rarefy.operators import NM
from rarefy.weights import (
    SET,
    GradualMagnitude,
    Masks,
    MdGf,
    RigL,
    dynamic_callback,
    is_nm,
    nm_callback,
    random_masks,
    select,
    static_callback,
)

STEPS, CUT = 20, 8


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 32), nn.Linear(32, 4)

    def forward(self, x, labels):
        logits = self.b(torch.relu(self.a(x)))
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def build():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Net()


def generator():
    return torch.Generator().manual_seed(3)


def moving(model, rule):
    if rule is None:
        return static_callback(random_masks(model, density=0.3, generator=generator()))
    if isinstance(rule, GradualMagnitude):
        masks = Masks.ones(select(model))
    else:
        masks = random_masks(model, density=0.3, generator=generator())
    return dynamic_callback(masks, rule=rule, every=3, generator=generator())


RULES = {
    "SET": SET(),
    "RigL": RigL(),
    "gradual": GradualMagnitude(Cubic(final=0.1, begin=0.1, end=0.75)),
    "static": None,
}


def data():
    g = torch.Generator().manual_seed(0)
    return torch.randn(64, 16, generator=g), torch.randint(4, (64,), generator=g)


class LikeATrainer:
    """The order in which the Trainer calls back, loads and saves; text is what a checkpoint is."""

    def __init__(self, model, callback):
        self.model, self.callback = model, callback
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        self.state = SimpleNamespace(
            max_steps=STEPS, global_step=0, stateful_callbacks={}, best_model_checkpoint=None
        )
        self.args = SimpleNamespace(load_best_model_at_end=False)
        callback.state()  # the trainer asks at its start

    def resume(self, checkpoint):
        model, optimizer, step, entries = checkpoint
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        self.state.global_step, self.state.stateful_callbacks = step, entries

    def train(self, save_at=None):
        call = {"model": self.model, "optimizer": self.optimizer, "lr_scheduler": None}
        self.callback.on_train_begin(self.args, self.state, None, **call)
        x, y = data()
        saved = None
        for t in range(self.state.global_step, STEPS):
            self.optimizer.zero_grad()
            self.model(x[t::4], y[t::4])["loss"].backward()
            self.optimizer.step()
            if t + 1 == save_at:
                entries = {type(self.callback).__name__: self.callback.state()}
                parts = self.model.state_dict(), self.optimizer.state_dict()
                saved = *(copied(part) for part in parts), save_at, json.loads(json.dumps(entries))
        self.callback.on_train_end(self.args, self.state, None, **call)
        return saved


def copied(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer)


@pytest.mark.parametrize("name", RULES)
def test_a_resumed_stand_in_is_bit_identical(name):
    model, twin = build(), build()
    whole, resumed = moving(model, RULES[name]), moving(twin, RULES[name])
    checkpoint = LikeATrainer(model, whole).train(save_at=CUT)
    again = LikeATrainer(twin, resumed)
    again.resume(checkpoint)
    again.train()
    assert resumed.dynamic.taken == STEPS and resumed.dynamic.history == whole.dynamic.history
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert a.equal(b)


def test_static_masks_hold_from_the_first_step_to_the_last():
    model, free = build(), build()
    masks = random_masks(model, density=0.3, generator=generator())
    callback = static_callback(masks)
    LikeATrainer(model, callback).train()
    assert sum(callback.dynamic.masks.difference(masks).values()) == 0
    assert callback.dynamic.history == []
    assert_zeros(model, masks)
    # What is kept was trained, and the model is an ordinary one again.
    kept = model.a.weight.detach()[masks["a.weight"]]
    assert not kept.equal(free.a.weight.detach()[masks["a.weight"]])
    assert not model.a.weight._post_accumulate_grad_hooks


def test_a_checkpoint_without_masks_is_refused():
    stand_in = LikeATrainer(build(), moving(build(), SET()))
    stand_in.state.global_step = 5
    with pytest.raises(
        ValueError, match="checkpoint at step 5 must hold the masks of one callback"
    ):
        stand_in.train()


def trainer(model, callback, folder, *, stop=None, **options):
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop |= state.global_step == stop

    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=8,
        learning_rate=0.01,
        save_steps=CUT,
        report_to=[],
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        **options,
    )
    x, y = data()
    rows = [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]
    return Trainer(
        model, arguments, train_dataset=rows, eval_dataset=rows[:16], callbacks=[callback, Stop()]
    )


def assert_zeros(model, masks):
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        pruned = parameters[name].detach()[~mask]
        assert not pruned.view(torch.int32).any()  # +0 to the bit


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("name", RULES)
def test_the_trainer_resumes_bit_identically(tmp_path, name, accumulation):
    options = {"gradient_accumulation_steps": accumulation}
    model, half, twin = build(), build(), build()
    whole = moving(model, RULES[name])
    trainer(model, whole, tmp_path / "whole", **options).train()
    masks = whole.dynamic.masks
    assert_zeros(model, masks)
    assert masks.density() == pytest.approx(0.1 if name == "gradual" else 0.3, abs=0.01)
    trainer(half, moving(half, RULES[name]), tmp_path / "half", stop=CUT, **options).train()
    resumed = moving(twin, RULES[name])
    checkpoint = str(tmp_path / "half" / f"checkpoint-{CUT}")
    # A folder of its own: where a checkpoint lies must not matter.
    trainer(twin, resumed, tmp_path / "rest", **options).train(resume_from_checkpoint=checkpoint)
    assert resumed.dynamic.taken == STEPS and resumed.dynamic.history == whole.dynamic.history
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert a.equal(b)


@pytest.mark.filterwarnings("ignore")
def test_the_best_model_comes_with_its_masks(tmp_path):
    model = build()
    callback = moving(model, RULES["gradual"])
    options = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": CUT}
    run = trainer(model, callback, tmp_path, **options)
    run.train()
    best = int(run.state.best_model_checkpoint.rpartition("-")[2])
    assert callback.dynamic.taken == best
    assert_zeros(model, callback.dynamic.masks)
    assert callback.dynamic.masks.density() == pytest.approx(
        Masks.from_zeros(model).density(), abs=0.01
    )


@pytest.mark.filterwarnings("ignore")
def test_n_m_training_resumes_bit_identically(tmp_path):
    model, half, twin = build(), build(), build()
    trainer(model, nm_callback(NM(1, 4), rule=MdGf()), tmp_path / "whole").train()
    assert is_nm(model.a.weight, NM(1, 4, axis=1))
    trainer(half, nm_callback(NM(1, 4), rule=MdGf()), tmp_path / "half", stop=CUT).train()
    run = trainer(twin, nm_callback(NM(1, 4), rule=MdGf()), tmp_path / "half")
    run.train(resume_from_checkpoint=True)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert a.equal(b)
