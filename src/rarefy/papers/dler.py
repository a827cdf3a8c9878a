"""Paper 9, DLER: a verbose policy is shortened by truncation, once the optimisation is mended.

The warm start solves countdown and permutations with traces in which more than half is echoes. All
arms of a seed learn under a limit of 0.6 of its median length and generate equally many tokens;
they are judged at four times the limit and temperature 0.6.

Departures: a character model of 0.65 M parameters and a learning rate of 2e-4 in place of 1.5 B and
1e-6; the KL term, 5e-4 in the paper, is left out. The merge starts from the DLER run itself and not
from one on scarce data. Laser stands for the other penalties. Tokens stand for seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rarefy.evidence.claims import Measurements
from rarefy.papers._dler_claims import (
    ARMS,
    CLIP,
    DLER_ARM,
    GRPO_ARM,
    LASER,
    NORM,
    WARM,
    dler_claims,
)
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.papers._dler_training import Outcome

PAPER = Paper(
    number=9,
    slug="dler",
    title="DLER: Doing Length pEnalty Right: Incentivizing More Intelligence per Token via "
    "Reinforcement Learning",
    venue="arXiv 2510.15110 (2025)",
    authors_code="https://github.com/NVlabs/DLER",
    domain="policy",
    arms=ARMS,
    claims=dler_claims(),
    summary=(
        "A reasoner is shortened by the plainest penalty: what does not end within the limit earns "
        "nothing. That fails under GRPO because of the optimisation and not of the penalty: with "
        "one scale of advantages for the whole batch, a higher upper clip and dynamic sampling it "
        "beats penalties that are more elaborate."
    ),
    usage="""\
from rarefy.models.opening import SHIPPED, open_model
from rarefy.policy import PolicyTrainer, TaskProblems
from rarefy.policy.dler import DLER
from rarefy.policy.dynamic import Dynamic
from rarefy.policy.tasks import COUNTDOWN, verified
from rarefy.rewards.length import Truncation

model, tokenizer = open_model(SHIPPED / "policy-verbose")
trainer = PolicyTrainer(
    model, tokenizer, TaskProblems({(COUNTDOWN, 2): 1.0}, seed=0),
    reward=Truncation(verified, 20, tokenizer.eos_token_id), max_new_tokens=20,
    objective=DLER(kl_coef=0.0), sampler=Dynamic(), minibatches=4,
)
trainer.train(2)
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
    tour_seeds=0,
)

TRAINED = (DLER_ARM, LASER, CLIP, NORM, GRPO_ARM, WARM)
"""The longest first."""


class Shared(NamedTuple):
    """What the arms of one seed share."""

    limit: int
    start: dict[str, float]
    outcomes: dict[str, Outcome]


def setup(trial: Trial, *, tokens: int | None = None) -> Shared:
    """Train every arm of a seed, two at a time.

    Parameters
    ----------
    tokens : int, optional
        What each arm may generate; 70,000 at default scale.
    """
    from rarefy.papers._dler_training import Effort, measure_start, train_arm
    from rarefy.papers._threads import one_thread
    from rarefy.papers._two_processes import in_two_processes

    budget = trial.pick(smoke=600, default=70_000, full=600_000) if tokens is None else tokens
    if budget < 1:
        raise ValueError(f"tokens is {budget}; at least 1 is wanted")
    effort = Effort(
        tokens=budget,
        more_tokens=budget // 3,
        n_prompts=trial.pick(smoke=4, default=16, full=16),
        group_size=trial.pick(smoke=4, default=8, full=16),
        n_problems=trial.pick(smoke=4, default=40, full=100),
        n_completions=trial.pick(smoke=2, default=8, full=16),
    )
    with one_thread():
        start = measure_start(trial.seed, effort)
        given = [
            {"arm": arm, "seed": trial.seed, "limit": start.limit, "effort": effort}
            for arm in TRAINED
        ]
        if trial.scale == "smoke":
            parts = [train_arm(**arguments) for arguments in given]
        else:
            parts = in_two_processes(train_arm, given)
    outcomes = {arm: outcome for part in parts for arm, outcome in part.items()}
    return Shared(start.limit, start.values, outcomes)


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:  # noqa: ARG001
    """Accuracy, length, pass@8 and cost of an arm; of the warm start also what truncation leaves.

    ``passed_at_budget`` is the share solved by as many completions side by side as two of the warm
    start's take tokens.
    """
    outcome = shared.outcomes[arm]
    budget = 2 * shared.outcomes[WARM].values["length"]
    values = outcome.values | {"passed_at_budget": outcome.curve.at(budget)}
    if arm == WARM:
        values |= shared.start | {"limit": float(shared.limit)}
    return values


def figure(measurements: Measurements) -> Figure:
    """Accuracy against length, each seed a point; and what parallel completions buy."""
    from statistics import fmean

    from matplotlib.figure import Figure

    from rarefy.policy.frontier import pareto_front

    drawn = Figure(figsize=(9.6, 4.0))
    left, right = drawn.subplots(1, 2, width_ratios=(3, 2))
    means = []
    for number, arm in enumerate(ARMS):
        lengths = measurements.values(arm, "length")
        accuracies = measurements.values(arm, "accuracy")
        left.scatter(lengths, accuracies, s=14, alpha=0.5, color=f"C{number}")
        if lengths:
            means.append((fmean(lengths), fmean(accuracies)))
            left.scatter(*means[-1], s=60, color=f"C{number}", label=arm)
    front = [means[i] for i in pareto_front([y for _, y in means], [x for x, _ in means])]
    left.plot(*zip(*front, strict=True), color="0.6", lw=1, zorder=0)
    left.set(xlabel="mean tokens of a completion", ylabel="accuracy")
    left.legend(fontsize=7)
    there = [arm for arm in ARMS if measurements.values(arm, "passed_at_budget")]
    for number, arm in enumerate(there):
        values = measurements.values(arm, "passed_at_budget")
        right.barh(number, fmean(values), color=f"C{ARMS.index(arm)}")
    right.set_yticks(range(len(there)), there, fontsize=7)
    right.invert_yaxis()
    right.set(xlabel="solved for the tokens of two verbose completions")
    return drawn
