"""Where transformers' ``Trainer`` lets a method in, and where its checkpoints keep the state."""

from __future__ import annotations

import base64
import io
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

Saved = Mapping[str, Any] | None


def while_training(
    begin: Callable[[nn.Module, Optimizer, Any, Saved], None],
    end: Callable[[nn.Module, Saved], None],
    *,
    save: Callable[[], Mapping[str, Any]] | None = None,
) -> Any:
    """Make a ``TrainerCallback`` that calls ``begin`` and ``end`` when training does.

    The trainer makes its optimizer itself: ``begin`` is given the model, that optimizer and the
    trainer's state, whose ``max_steps`` and ``global_step`` are known by then. What ``save``
    returns goes into every checkpoint; ``begin`` gets it back where training is resumed, ``end``
    where the trainer loads its best model at the end, and both get ``None`` otherwise.
    """
    from transformers import TrainerCallback
    from transformers.trainer_callback import ExportableState, TrainerState

    class WhileTraining(TrainerCallback):
        def on_train_begin(
            self,
            args: Any,  # noqa: ARG002 - the trainer's signature
            state: Any,
            control: Any,  # noqa: ARG002
            *,
            model: nn.Module,
            optimizer: Optimizer,
            **_: Any,
        ) -> None:
            resumed = save is not None and state.global_step > 0
            saved = _saved(state, type(self).__name__) if resumed else None
            begin(model, _inner_optimizer(optimizer), state, saved)

        def on_train_end(
            self,
            args: Any,
            state: Any,
            control: Any,  # noqa: ARG002
            *,
            model: nn.Module,
            **_: Any,
        ) -> None:
            best = state.best_model_checkpoint if args.load_best_model_at_end else None
            if save is None or best is None:
                end(model, None)
            else:
                # Its name in transformers: TRAINER_STATE_NAME.
                then = TrainerState.load_from_json(os.path.join(best, "trainer_state.json"))
                end(model, _saved(then, type(self).__name__))

    if save is None:
        return WhileTraining()
    collect = save

    class SavedWhileTraining(WhileTraining, ExportableState):
        def state(self) -> dict[str, Any]:
            return {"args": {}, "attributes": {}, "saved": _to_text(collect())}

    return SavedWhileTraining()


def _saved(state: Any, name: str) -> Mapping[str, Any]:
    """What the callback ``name`` saved beside a trainer's state."""
    entry = (state.stateful_callbacks or {}).get(name)
    if not isinstance(entry, dict) or "saved" not in entry:
        found = "none" if entry is None else "those of several callbacks"
        raise ValueError(
            f"the checkpoint at step {state.global_step} must hold the masks of one callback to "
            f"resume from, and holds {found}: start anew from its model, without "
            "resume_from_checkpoint"
        )
    return _from_text(entry["saved"])


def _to_text(state: Mapping[str, Any]) -> str:
    """Tensors as text, for a checkpoint's JSON; a mask takes less than two bits a weight."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return base64.b64encode(zlib.compress(buffer.getvalue(), 1)).decode()


def _from_text(text: str) -> dict[str, Any]:
    buffer = io.BytesIO(zlib.decompress(base64.b64decode(text)))
    return torch.load(buffer, map_location="cpu", weights_only=True)


def _inner_optimizer(optimizer: Any) -> Optimizer:
    """Find the optimizer that steps: accelerate, which the trainer uses, wraps it."""
    # A wrapper cannot be there unless its module is; accelerate is no dependency.
    wrapping = sys.modules.get("accelerate.optimizer")
    if wrapping is not None and isinstance(optimizer, wrapping.AcceleratedOptimizer):
        return optimizer.optimizer
    return optimizer
