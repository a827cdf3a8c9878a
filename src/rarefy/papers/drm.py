"""Paper 19, DRM: a reward for the reasoning, by confidence, relevance and coherence.

First a scorer study: completions of the shipped policy, which of eight each score picks, and
whether it tells valid traces from flawed ones among right answers. Then training on countdown by
the answer's advantage, by the reasoning's, and by both; and off-policy on pairs that DRM chose.

Departures: a character policy and a judge trained on expert traces in place of language models,
rerankers and reward models; tasks and acceptance are the card's, since the paper's tables could not
be read. Settings are the card's too, but for the number of steps; none was tuned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rarefy.evidence.claims import Measurements
from rarefy.papers._drm_claims import (
    ANSWER,
    ARMS,
    BOTH,
    DIMENSIONS,
    DRM,
    MAJORITY,
    ONLY,
    PAIRS,
    PER_STEP,
    RANDOM,
    START,
    VERIFIER,
    drm_claims,
)
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = Paper(
    number=19,
    slug="drm",
    title="From <Answer> to <Think>: Multidimensional Supervision of Reasoning Process for LLM "
    "Optimization",
    venue="arXiv 2510.11457 (2025)",
    authors_code="https://github.com/Benson0704/DRM",
    domain="rewards",
    arms=ARMS,
    claims=drm_claims(),
    summary=(
        "A verifier rewards right answers, however they were reached. DRM scores the reasoning "
        "itself, by the policy's confidence, its relevance to question and answer and its "
        "coherence, without answers to compare with; the score picks completions, orders pairs, "
        "or adds an advantage that teaches where all answers are wrong or all are right."
    ),
    usage="""\
from rarefy.rewards import Coherence, DimensionReward, Relevance, TraceJudge

judge = TraceJudge.shipped()
relevance = Relevance({"QR": judge.follows, "RA": judge.entails}, pairs=("QR", "RA"))
reward = DimensionReward([relevance, Coherence(judge.coherence)])
print(reward(["n3,5,2>16="] * 2, ["3;+5.8;*2.16#3+5*2", "3;+5.9;*2.16#3+5*2"]))
""",
    seeds={"smoke": 1, "default": 4, "full": 5},
    tour_seeds=0,
)

Shared = dict[str, dict[str, float]]


def setup(
    trial: Trial,
    *,
    problems: int | None = None,
    steps: int | None = None,
    eta: float = 1.0,
) -> Shared:
    """Run the study and the trainings of a seed, two at a time.

    Parameters
    ----------
    problems : int, optional
        Of the scorer study, eight completions each; 300 at default scale.
    steps : int, optional
        Of GRPO, 16 prompts by 8 completions each; 20 at default scale.
    eta : float
        Weight of the reasoning's advantage beside the answer's.
    """
    from rarefy.papers._drm_training import job
    from rarefy.papers._two_processes import in_two_processes

    problems = trial.pick(smoke=8, default=300, full=1000) if problems is None else problems
    steps = trial.pick(smoke=2, default=20, full=100) if steps is None else steps
    for name, value, least in (("problems", problems, 8), ("steps", steps, 2)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    n_prompts = trial.pick(smoke=4, default=16, full=16)
    same: dict[str, Any] = {
        "seed": trial.seed,
        "evaluated": trial.pick(smoke=2, default=56, full=256),
        "completions": trial.pick(smoke=2, default=16, full=16),
    }
    jobs: list[dict[str, Any]] = [
        *(
            {"kind": arm, "steps": steps, "n_prompts": n_prompts, "eta": eta, **same}
            for arm in (BOTH, ONLY, ANSWER)
        ),
        {"kind": PAIRS, "steps": 3 * steps, "n_prompts": n_prompts * steps, **same},
        {"kind": "study", "n_problems": problems, "seed": trial.seed},
        {"kind": START, **same},
    ]
    trial.progress("scoring and training", 0.0)
    if trial.scale == "smoke":
        parts = [job(**given) for given in jobs]
    else:
        parts = in_two_processes(job, jobs)
    return {arm: figures for part in parts for arm, figures in part.items()}


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:  # noqa: ARG001
    """What each selector picks, or what each training came to."""
    return dict(shared[arm])


def figure(measurements: Measurements) -> Figure:
    """What each score picks; which flaws it sees; what training came to, and how fast."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(11.5, 3.9))
    picks, flaws, ends, curves = drawn.subplots(1, 4, width_ratios=(1.2, 1, 1, 1.1))
    shown = (DRM, *DIMENSIONS, PER_STEP, MAJORITY, RANDOM)
    picks.barh(shown[::-1], [_mean(measurements, arm, "best_of_8") for arm in shown[::-1]])
    picks.axvline(_mean(measurements, VERIFIER, "best_of_8"), color="0.6", ls=":")
    picks.set(xlabel="right of those picked (dotted: pass@8)")
    judges = (DRM, *DIMENSIONS, VERIFIER)
    flaws.bar(range(len(judges)), [_mean(measurements, arm, "auc_valid") for arm in judges])
    flaws.axhline(0.5, color="0.6", ls=":")
    flaws.set_xticks(range(len(judges)), judges, rotation=45, ha="right", fontsize=7)
    flaws.set(ylabel="valid told from flawed, right answers", ylim=(0.4, 1))
    trained = (START, ANSWER, ONLY, BOTH, PAIRS)
    for i, (metric, label) in enumerate((("success", "right"), ("sound", "and valid trace"))):
        heights = [_mean(measurements, arm, metric) for arm in trained]
        ends.bar([x + (i - 0.5) * 0.4 for x in range(len(trained))], heights, 0.4, label=label)
    ends.set_xticks(range(len(trained)), trained, rotation=45, ha="right", fontsize=7)
    ends.set(ylabel="held-out completions")
    ends.legend(fontsize=7)
    for arm in (ANSWER, ONLY, BOTH):
        steps = sorted(
            int(name.removeprefix("curve_"))
            for name in measurements.metrics
            if name.startswith("curve_") and measurements.values(arm, name)
        )
        curves.plot(
            [128 * step / 1000 for step in steps],
            [_mean(measurements, arm, f"curve_{step}") for step in steps],
            marker="o",
            ms=3,
            label=arm,
        )
    curves.set(xlabel="thousand completions", ylabel="right while training")
    curves.legend(fontsize=7)
    return drawn


def _mean(measurements: Measurements, arm: str, metric: str) -> float:
    from math import nan
    from statistics import fmean

    values = measurements.values(arm, metric)
    return fmean(values) if values else nan
