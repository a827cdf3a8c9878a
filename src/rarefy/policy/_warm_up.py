"""What the two warm-up scripts share: the loop that stops by success, and the command line.

Every batch and evaluation is a function of seed and step, so that a killed run, started again with
the same folder, goes on from its last checkpoint as if nothing had happened.

AdamW, betas 0.9 and 0.98, linear warm-up, then linear decay to a tenth, clipped at 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rarefy.models._checkpoint import load_checkpoint, save_checkpoint
from rarefy.policy.tasks import TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PEAK_RATE = 2e-3
WARM_UP = 30


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to a tenth at the last step."""
    return PEAK_RATE * min((step + 1) / WARM_UP, 1 - 0.9 * step / steps)


def warm_up(
    out: Path,
    model: nn.Module,
    *,
    steps: int,
    loss_at: Callable[[int], Tensor],
    success: Callable[[], float],
    target_success: float,
    evaluate_every: int,
    log: logging.Logger,
) -> tuple[int, float]:
    """Train until success exceeds its target, from the checkpoint in ``out`` where there is one.

    Parameters
    ----------
    out : Path
        Made where it is not there.
    model : Module
    steps : int
        Optimizer steps at most.
    loss_at : callable
        The loss of a step.
    success : callable
        Looked at, and a checkpoint written, every ``evaluate_every`` steps.
    target_success : float
    evaluate_every : int
    log : Logger

    Returns
    -------
    steps : int
    seconds : float
        Of the steps, evaluations left out.
    """
    out.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)
    step, seconds = load_checkpoint(out / "checkpoint.pt", model, optimizer)
    reached = 0.0
    while True:
        if step % evaluate_every == 0 and step > 0:
            save_checkpoint(out / "checkpoint.pt", model, optimizer, step, seconds)
            reached = success()
            log.info("step %d success at the target level %.3f", step, reached)
        if step >= steps or reached > target_success:
            return step, seconds
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        loss = loss_at(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds += time.perf_counter() - began
        step += 1
        if step % 10 == 0:
            log.info("step %d loss %.4f seconds %.0f", step, loss.item(), seconds)


def finish(
    out: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: dict[str, Any],
    card: Callable[[dict[str, Any], int], str],
) -> None:
    """Save the model, what is known of its training, and its card of that and its size."""
    folder = out / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    device = model.device.type
    facts |= {
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, {device}",
        "torch": torch.__version__,
    }
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    (folder / "README.md").write_text(card(facts, model.num_parameters()))


def main(
    description: str,
    train: Callable[..., None],
    *,
    steps: int,
    tasks: str | None = None,
    levels: Sequence[int] | None = None,
    target_success: float = 0.03,
) -> None:
    """Read the command line and train; scripts without a choice of tasks or levels have no option.

    Parameters
    ----------
    description : str
    train : callable
        ``train(out, steps=, target_success=, seed=, device=)``, with ``tasks=`` and
        ``target_level=`` where those are options.
    steps, target_success
        Defaults.
    tasks : str, optional
        Default names, with commas between.
    levels : sequence of int, optional
        What the target level may be.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=steps, help="optimizer steps at most")
    if tasks is not None:
        parser.add_argument("--tasks", default=tasks, help="names, with commas between")
    if levels is not None:
        parser.add_argument("--target-level", type=int, default=4, choices=levels)
    parser.add_argument("--target-success", type=float, default=target_success)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    given = vars(parser.parse_args())
    if tasks is not None:
        names = given["tasks"].split(",")
        unknown = sorted(set(names) - set(TASKS))
        if unknown:
            parser.error(f"--tasks has {', '.join(unknown)}; the tasks are {', '.join(TASKS)}")
        given["tasks"] = [TASKS[name] for name in names]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(given.pop("threads"))
    train(given.pop("out"), **given)
