"""Paper 07, PACS: reinforcement learning as predicting the reward, beside GRPO and RLOO.

Countdown at levels 2, 3 and 4 (25, 25 and 50 %), which the shipped policy solves two times in
three, once in fifteen and once in thirty. Batches of 16 prompts and 8 completions, learnt in four
mini-batches by every arm, since PACS differs from RLOO only where the policy has left its samples.
PACS has two references: the policy that sampled the batch, as in the released code, and the policy
training began with, as in the paper's text until its first reset. PPO, DAPO, and PACS with other
beta and scores (the card's c6) are trained at full scale only, so no claim speaks of what they
learn; a step of PPO is timed at all scales.

Departures: a policy of 0.65 million parameters on countdown for one of billions on mathematics;
AdamW at 1e-4 with gradients clipped at 1 (the paper: 1e-6, not clipped), for all arms. The distance
of right completions is of edits, not of embeddings, over problems of which every arm has two. The
rate is GRPO's better one of two on a seed that is not among the claims' (at 2e-4 all arms lost
level 2). On that seed neither leaving out the clipping nor beta = 10 kept much of the entropy, but
holding the reference fixed did, and so it became an arm. With the released code's reference psi
stays near 0.2, where the residual has shrunk by a tenth: PACS is a weighted RLOO there. The fixed
one keeps entropy and many attempts by holding the policy back: single attempts gain little.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rarefy.evidence.claims import Measurements
from rarefy.papers._pacs_claims import ARMS, TRAINED, WARM, pacs_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = Paper(
    number=7,
    slug="pacs",
    title=("Implicit Actor Critic Coupling via a Supervised Learning Framework for RLVR"),
    venue="arXiv 2509.02522 (2025)",
    authors_code="https://github.com/ritzz-ai/PACS",
    domain="policy",
    arms=ARMS,
    claims=pacs_claims(),
    summary=(
        "A reward of right or wrong can be predicted by classification, and the predictor can be "
        "the policy itself: how much likelier it has made a completion, beside the others of the "
        "prompt. Training the prediction trains the policy, without critic or clipping."
    ),
    usage="""\
import torch
from rarefy.policy.pacs import pacs_loss

logps = torch.randn(8, 5, requires_grad=True)  # 2 prompts, 4 completions of each, 5 tokens
rewards = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
loss, psi = pacs_loss(logps, logps.detach(), torch.ones(8, 5), rewards, 4)
loss.backward()
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
        A causal language model that has learnt the countdown task; by default the shipped policy.
    steps : int, optional
        Batches of each arm; 22 at default scale.
    learning_rate : float
        Of AdamW.
    """
    from rarefy.papers._pacs_training import Size, call, diversities, step_seconds, trained
    from rarefy.papers._threads import one_thread
    from rarefy.papers._two_processes import in_two_processes

    n = trial.pick(smoke=2, default=22, full=200) if steps is None else steps
    if n < 1:
        raise ValueError(f"steps must be at least 1, got {n}")
    size = trial.pick(
        smoke=Size(n, 4, 4, 8, 4, 32),
        default=Size(n, 16, 24, 16, 32, 64),
        full=Size(n, 16, 64, 64, 64, 128),
    )
    common: dict[str, Any] = {"seed": trial.seed, "model": model, "device": trial.device}
    arms = ARMS if trial.scale == "full" else (*TRAINED, WARM)
    training: dict[str, Any] = {
        "function": trained,
        "size": size,
        "learning_rate": learning_rate,
    } | common
    timing: dict[str, Any] = {
        "function": step_seconds,
        "n_prompts": size.prompts,
        "rounds": trial.pick(smoke=2, default=5, full=20),
    } | common
    work = [*(training | {"arm": arm} for arm in arms), timing]
    trial.progress(f"training {len(arms)} arms")
    if trial.scale == "smoke":
        with one_thread():
            *trainings, seconds = [call(**given) for given in work]
    else:
        *trainings, seconds = in_two_processes(call, work)
    outcomes = dict(zip(arms, trainings, strict=True))
    values = {arm: dict(outcome.values) for arm, outcome in outcomes.items()}
    for arm, of_step in seconds.items():
        values.setdefault(arm, {})["step_seconds"] = of_step
    right = {arm: outcomes[arm].right for arm in TRAINED}
    for arm, distance in diversities(right).items():
        values[arm]["diversity"] = distance
    return values


def measure(arm: str, shared: dict[str, dict[str, float]], trial: Trial) -> dict[str, float]:  # noqa: ARG001
    """Figures of one arm; none where it is trained at full scale only."""
    return shared.get(arm, {})


def figure(measurements: Measurements) -> Figure:
    """Entropy and success while training; what more attempts are worth afterwards."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.4, 3.6))
    entropy, success, attempts = drawn.subplots(1, 3)
    for axes, name in ((entropy, "entropy"), (success, "success")):
        for arm in TRAINED:
            axes.plot(*_curve(measurements, arm, f"curve_{name}_"), label=arm)
        axes.set(xlabel="step")
    entropy.set(ylabel="entropy, nats a token", ylim=(0, None))
    success.set(ylabel="share of rollouts right")
    for arm in (*TRAINED, WARM):
        style = {"color": "0.6", "ls": ":"} if arm == WARM else {}
        attempts.plot(*_curve(measurements, arm, "pass", suffix="_4"), label=arm, **style)
    attempts.set(xscale="log", xlabel="attempts", ylabel="problems of level 4 solved")
    attempts.legend(fontsize=7)
    return drawn


def _curve(
    measurements: Measurements, arm: str, prefix: str, *, suffix: str = ""
) -> tuple[list[int], list[float]]:
    """Mean over seeds of each metric ``<prefix><number><suffix>``, by number."""
    names = {
        m.metric
        for m in measurements
        if m.arm == arm and m.metric.startswith(prefix) and m.metric.endswith(suffix)
    }
    at = {int(name.removeprefix(prefix).removesuffix(suffix)): name for name in names}
    xs = sorted(at)
    return xs, [fmean(measurements.values(arm, at[x])) for x in xs]
