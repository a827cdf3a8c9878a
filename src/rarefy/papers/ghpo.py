"""Paper 10, GHPO: hints for prompts of which every completion failed, beside GRPO.

Countdown at levels 2, 3 and 4 (25, 25 and 50 %), which the shipped policy solves two times in
three, once in fifteen and once in thirty: more than half of the groups of 8 are all wrong. Batches
of 16 prompts. Success is measured without hints, after as many steps as GRPO's and after as many
rollouts. Beside it stand a fixed hint, the paper's curriculum with hints, and what the paper lacks,
imitation of the same solutions before GRPO. The other variants (the curriculum without hints,
dynamic sampling, learning under the plain prompt, the best attempt instead of the last, hints for
all, the whole trace) are trained at full scale only, so no claim speaks of them.

Departures: a policy of 0.65 million parameters on countdown for one of billions on mathematics;
four mini-batches for each batch and AdamW at 1e-4 (the paper: one and 1e-6) for the few steps to
show; a reward of accuracy alone, since the policy knows the format; no hints for the first tenth of
the steps, not 20 of them.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rarefy.evidence.claims import Measurements
from rarefy.papers._ghpo_claims import (
    ARMS,
    DEFAULT,
    FIXED,
    GHPO,
    GRPO,
    SFT,
    ghpo_claims,
)
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = Paper(
    number=10,
    slug="ghpo",
    title="GHPO: Adaptive Guidance for Stable and Efficient LLM Reinforcement Learning",
    venue="arXiv 2507.10628 (2025)",
    authors_code="https://github.com/hkgc-1/GHPO",
    domain="policy",
    arms=ARMS,
    claims=ghpo_claims(),
    summary=(
        "Where every sampled answer is wrong there is nothing to learn from. GHPO shows the policy "
        "the first quarter of a known solution and lets it answer again, then half, then three "
        "quarters; prompts it can solve are left as they are."
    ),
    usage="""\
from rarefy.models import SHIPPED, open_model
from rarefy.policy import GRPO, PolicyTrainer, TaskProblems
from rarefy.policy.hints import HintPolicy
from rarefy.policy.tasks import COUNTDOWN, verified

model, tokenizer = open_model(SHIPPED / "policy")
trainer = PolicyTrainer(
    model, tokenizer, TaskProblems({(COUNTDOWN, 4): 1.0}, seed=0), reward=verified,
    objective=GRPO(), sampler=HintPolicy(cold_start=0), max_new_tokens=32, n_prompts=4,
)
print(trainer.train(2)[-1]["all_wrong_after"])
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
    tour_seeds=0,
)


def setup(
    trial: Trial,
    *,
    model: Path | None = None,
    steps: int | None = None,
    learning_rate: float = 1e-4,
) -> dict[str, dict[str, float]]:
    """Train and evaluate every arm, two at a time.

    Parameters
    ----------
    model : Path, optional
        A causal language model that has learnt the countdown task and its hints; by default the
        shipped policy.
    steps : int, optional
        Batches of each arm; 20 at default scale.
    learning_rate : float
        Of AdamW.
    """
    from rarefy.papers._ghpo_training import Size, trained
    from rarefy.papers._threads import one_thread
    from rarefy.papers._two_processes import in_two_processes

    n = trial.pick(smoke=2, default=20, full=200) if steps is None else steps
    if n < 1:
        raise ValueError(f"steps must be at least 1, got {n}")
    size = trial.pick(
        smoke=Size(n, 4, 2, 8), default=Size(n, 16, 48, 16), full=Size(n, 16, 128, 32)
    )
    arms = ARMS if trial.scale == "full" else DEFAULT
    work = [
        {
            "arm": arm,
            "seed": trial.seed,
            "size": size,
            "model": model,
            "learning_rate": learning_rate,
            "device": trial.device,
        }
        for arm in arms
    ]
    trial.progress(f"training {len(arms) - 1} arms")
    if trial.scale == "smoke":
        with one_thread():
            found = [trained(**job) for job in work]  # type: ignore[arg-type]
    else:
        found = in_two_processes(trained, work)
    values = dict(zip(arms, found, strict=True))
    ours, theirs = values[GHPO], values[GRPO]
    values[GHPO]["overhead"] = (ours["step_seconds"] / theirs["step_seconds"]) / (
        ours["n_rollouts"] / theirs["n_rollouts"]
    )
    return values


def measure(arm: str, shared: dict[str, dict[str, float]], trial: Trial) -> dict[str, float]:  # noqa: ARG001
    """Figures of one arm; none where it is trained at full scale only."""
    return shared.get(arm, {})


def figure(measurements: Measurements) -> Figure:
    """Success on plain prompts by steps and by rollouts; which hints are given over time."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.4, 3.6))
    by_step, by_rollouts, hints = drawn.subplots(1, 3)
    for arm in (GRPO, GHPO, FIXED, SFT):
        steps, success = _curve(measurements, arm, "curve_success_")
        rollouts = _curve(measurements, arm, "curve_rollouts_")[1]
        by_step.plot(steps, success, label=arm)
        by_rollouts.plot(rollouts, success, label=arm)
    by_step.set(xlabel="step", ylabel="plain prompts' rollouts right", ylim=(0, None))
    by_rollouts.set(xlabel="rollouts", ylim=(0, None))
    by_step.legend(fontsize=7)
    for ratio in ("0.25", "0.5", "0.75"):
        hints.plot(
            *_curve(measurements, GHPO, f"curve_hinted_{ratio}_"), label=f"first {ratio} of trace"
        )
    hints.set(xlabel="step", ylabel="share of groups asked with a hint", ylim=(0, 1))
    hints.legend(fontsize=7)
    return drawn


def _curve(measurements: Measurements, arm: str, prefix: str) -> tuple[list[int], list[float]]:
    """Mean over seeds of each metric ``<prefix><step>``, by step."""
    names = {m.metric for m in measurements if m.arm == arm and m.metric.startswith(prefix)}
    at = {int(name.removeprefix(prefix)): name for name in names}
    steps = sorted(at)
    return steps, [fmean(measurements.values(arm, at[step])) for step in steps]
