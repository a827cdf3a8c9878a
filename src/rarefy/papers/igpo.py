"""Paper 14, IGPO: pieces of a known solution, where a diffusion policy finds none by itself.

The shipped masked-diffusion policy (0.65 M parameters, countdown) solves few of the hard problems
and is trained on by GRPO, by GRPO with as many samples as IGPO draws, and by IGPO and its
ablations, on the same problems in the same order; also after fine-tuning on short traces.

Departures: a policy ten thousand times smaller; some steps where the paper has thousands, at a rate
of 2e-4, tried on seeds from 100 on; no reference and no divergence, of which so few steps have
little; chunks of 2 to 4 tokens, since traces have a dozen. The warm start was taught short traces,
so that fine-tuning on padded ones has to unlearn those first. Some forty inpainted completions are
learnt from in so few steps: enough to see groups rescued, hardly to see success rise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rarefy.evidence.claims import Measurements
from rarefy.papers._igpo_claims import (
    ARMS,
    BOTH,
    FULL_ONLY,
    INPAINTING,
    SFT,
    START,
    igpo_claims,
)
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = Paper(
    number=14,
    slug="igpo",
    title="Inpainting-Guided Policy Optimization for Diffusion Large Language Models",
    venue="ICLR 2026 (arXiv 2509.10396)",
    authors_code="https://github.com/facebookresearch/igpo",
    domain="policy",
    arms=ARMS,
    claims=igpo_claims(),
    summary=(
        "Groups whose completions are all wrong teach a policy nothing. A masked-diffusion model "
        "can be handed pieces of a known solution anywhere on its canvas and fill in the rest, so "
        "that some completions become right and most of each is still its own."
    ),
    usage="""\
from rarefy.models import SHIPPED, open_model
from rarefy.policy.problems import TaskProblems
from rarefy.policy.canvas import Canvas
from rarefy.policy.diffusion_trainer import DiffusionTrainer
from rarefy.policy.igpo import IGPO, Inpainting
from rarefy.policy.tasks import COUNTDOWN

model, tokenizer = open_model(SHIPPED / "diffusion")
trainer = DiffusionTrainer(
    model, tokenizer, TaskProblems({(COUNTDOWN, 4): 1.0}, seed=0), canvas=Canvas(),
    reward=COUNTDOWN.reward, objective=IGPO(), sampler=Inpainting(size=(2, 4), room=8),
)
for row in trainer.train(5):
    print(row["triggered"], row["all_wrong_after"], row["success"])
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
    tour_seeds=0,
)


def setup(
    trial: Trial, *, steps: int | None = None, prompts: int | None = None
) -> dict[str, dict[str, float]]:
    """Train every arm, two at a time.

    Parameters
    ----------
    steps : int, optional
        Of reinforcement learning; 12 at default scale, 200 at full.
    prompts : int, optional
        Of each step; 6 at default scale, 12 at full.
    """
    from rarefy.papers._igpo_training import Plan, all_arms

    plan = trial.pick(
        smoke=Plan(steps=1, prompts=2, sft_steps=1, held_out=2),
        default=Plan(steps=12, prompts=6, sft_steps=24, held_out=32),
        full=Plan(steps=200, prompts=12, sft_steps=200, held_out=128),
    )
    plan = plan._replace(
        steps=plan.steps if steps is None else steps,
        prompts=plan.prompts if prompts is None else prompts,
    )
    for name, value in (("steps", plan.steps), ("prompts", plan.prompts)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    # The longest first; SFT is measured on the way to both.
    left_out = (SFT, *FULL_ONLY) if trial.scale == "default" else (SFT,)
    arms = sorted((arm for arm in ARMS if arm not in left_out), key=lambda arm: arm != BOTH)
    trial.progress(f"training {len(arms)} arms of seed {trial.seed}")
    return all_arms(arms, seed=trial.seed, plan=plan, pooled=trial.scale != "smoke")


def measure(arm: str, shared: dict[str, dict[str, float]], trial: Trial) -> dict[str, float]:  # noqa: ARG001
    """Success and pass@8 on hard problems; of trained arms what was sampled, and groups left.

    Nothing of an arm that this scale leaves out.
    """
    return shared.get(arm, {})


def figure(measurements: Measurements) -> Figure:
    """Success on hard problems by arm, and how many all-wrong groups inpainting leaves."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9.6, 4.2))
    left, right = drawn.subplots(1, 2, width_ratios=(3, 2))
    rows = range(len(ARMS))
    for offset, level, color in ((-0.2, 3, "C0"), (0.2, 4, "C1")):
        means = [_mean(measurements, arm, f"success_{level}") for arm in ARMS]
        left.barh([row + offset for row in rows], means, 0.38, color=color, label=f"level {level}")
        for row, arm in enumerate(ARMS):
            values = measurements.values(arm, f"success_{level}")
            left.plot(values, [row + offset] * len(values), "k.", ms=3)
        left.axvline(means[ARMS.index(START)], color=color, lw=0.8, ls=":")
    left.set_yticks(rows, ARMS)
    left.invert_yaxis()
    left.set_xlabel("sampled success on held-out problems")
    left.legend(fontsize=8)
    shown = [arm for arm in ARMS if arm in INPAINTING or "samples" in arm]
    shares = [_mean(measurements, arm, "still_all_wrong") for arm in shown]
    right.barh(range(len(shown)), shares, 0.6, color="C2")
    right.axvline(0.6, color="0.4", lw=0.8, ls=":")
    right.set_yticks(range(len(shown)), shown)
    right.invert_yaxis()
    right.set(xlabel="all-wrong groups that stay so", xlim=(0, 1))
    drawn.tight_layout()
    return drawn


def _mean(measurements: Measurements, arm: str, metric: str) -> float:
    from math import nan
    from statistics import fmean

    values = measurements.values(arm, metric)
    return fmean(values) if values else nan
