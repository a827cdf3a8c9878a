"""Paper 17, VSPO: rewards by stages, and slots refilled by value, for policies that call tools.

Every seed trains five arms from the shipped policy with tools, on the same questions of three hops
in one order, with the same number of rollouts: GRPO with exact match (EM) and with rewards by
stages (PRS), VSPO with PRS, and of that refills drawn at random and copies without smoothing.
``start`` is the policy before. Exact match is a mean over one to three hops of held-out questions.

All depends on how seldom the start is right: two completions of a hundred at three hops. Where
questions of one hop (a third right) were among those trained on, exact match was reward enough, and
the arms were level (seed 100, 25 steps: 0.60 for GRPO with EM, 0.58 with PRS, 0.57 for VSPO).

Departures: a policy of 0.65 M parameters and random facts in place of Qwen2.5-7B and seven question
sets; PPO, CISPO, VSPO with EM and the long answers judged by a model (c3) are not measured; no KL
in the loss (0.001 in the paper), learning rate 2e-4, four mini-batches a step. Hops were chosen on
seeds 100 to 102, the steps and arms by the time there is, after a look at seeds 0 to 2;
``c5-early`` was added after that look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rarefy.evidence.claims import Measurements
from rarefy.papers._recipe import Paper, Trial
from rarefy.papers._vspo_claims import ARMS, START, TRAINED, vspo_claims

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = Paper(
    number=17,
    slug="vspo",
    title=(
        "Enhancing Agentic RL with Progressive Reward Shaping and Value-based Sampling Policy "
        "Optimization"
    ),
    venue="arXiv 2512.07478 (2025)",
    authors_code="",
    domain="policy",
    arms=ARMS,
    claims=vspo_claims(),
    summary=(
        "A policy that calls tools earns nothing until call, format and answer are all right. "
        "Rewards by stages pay for each in turn, later ones only once earlier ones are met; and "
        "prompts whose completions all earn the same make room for copies of those that teach most."
    ),
    usage="""\
from rarefy.rewards.staged import Stage, StagedReward
from rarefy.rewards.text import length_aware_bleu
from rarefy.rewards.tool import AnswerTag

tag = AnswerTag("<answer>", "</answer>")
reward = StagedReward([Stage(tag, 0.3), Stage(tag.reward(length_aware_bleu), 0.7)])
print(reward(["Who?"] * 2, ["Ada", "<answer>Ada Byron</answer>"], answer=["Ada Lovelace"] * 2))
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
    tour_seeds=0,
)


def setup(
    trial: Trial, *, steps: int | None = None, prompts: int | None = None
) -> dict[str, dict[str, float]]:
    """Train and evaluate every arm.

    Parameters
    ----------
    steps : int, optional
        Of training; 20 at default scale.
    prompts : int, optional
        Of a step; 16 at default scale, with 5 completions each.
    """
    from rarefy.papers._threads import one_thread
    from rarefy.papers._two_processes import in_two_processes
    from rarefy.papers._vspo_training import Size, train_arm

    steps = trial.pick(smoke=2, default=20, full=100) if steps is None else steps
    prompts = trial.pick(smoke=4, default=16, full=16) if prompts is None else prompts
    for name, value in (("steps", steps), ("prompts", prompts)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    size = Size(
        steps=steps,
        n_prompts=prompts,
        eval_prompts=trial.pick(smoke=2, default=20, full=128),
        eval_completions=trial.pick(smoke=2, default=8, full=16),
    )
    jobs: list[dict[str, Any]] = [
        {"arm": arm, "seed": trial.seed, "size": size, "device": trial.device} for arm in ARMS
    ]
    trial.progress(f"training {len(TRAINED)} arms", 0.0)
    if trial.scale == "smoke":
        with one_thread():
            return dict(zip(ARMS, [train_arm(**job) for job in jobs], strict=True))
    return dict(zip(ARMS, in_two_processes(train_arm, jobs), strict=True))


def measure(
    arm: str,
    shared: dict[str, dict[str, float]],
    trial: Trial,  # noqa: ARG001
) -> dict[str, float]:
    """``em``, ``pass8``, ``parse_rate``, ``kl`` and more, of the policy and its training."""
    return shared[arm]


def figure(measurements: Measurements) -> Figure:
    """Calls that parse and right answers as training goes; exact match by hops at the end."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.4, 3.6))
    left, middle, right = drawn.subplots(1, 3)
    for arm in TRAINED:
        for axes, name in ((left, "parse_at_"), (middle, "em_at_")):
            ends = sorted(
                int(metric.removeprefix(name))
                for metric in measurements.metrics
                if metric.startswith(name) and measurements.values(arm, metric)
            )
            means = [_mean(measurements, arm, f"{name}{end}") for end in ends]
            axes.plot(ends, means, marker="o", ms=3, label=arm)
    left.set(xlabel="steps", ylabel="calls that parse")
    middle.set(xlabel="steps", ylabel="right answers, training questions")
    hops = sorted(metric for metric in measurements.metrics if metric.startswith("em_") and
                  metric[3:].isdigit())  # fmt: skip
    for i, arm in enumerate((*TRAINED, START)):
        places = [x + (i - len(TRAINED) / 2) * 0.12 for x in range(len(hops))]
        right.bar(places, [_mean(measurements, arm, name) for name in hops], 0.11, label=arm)
    right.set_xticks(range(len(hops)), [name[3:] for name in hops])
    right.set(xlabel="hops", ylabel="exact match, held out")
    right.legend(fontsize=6)
    return drawn


def _mean(measurements: Measurements, arm: str, metric: str) -> float:
    from math import nan
    from statistics import fmean

    values = measurements.values(arm, metric)
    return fmean(values) if values else nan
