"""What paper 10 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim

WARM, GRPO, GHPO, FIXED, CLH, SFT = (
    "warm start",
    "GRPO",
    "GHPO",
    "fixed hint 0.5",
    "GRPO-CL-H(0.5)",
    "SFT, then GRPO",
)
CL, DROP, PLAIN, BEST, ALWAYS, WHOLE = (
    "GRPO-CL",
    "dynamic sampling",
    "GHPO, plain scores",
    "GHPO, best attempt",
    "always hint 0.5",
    "fixed hint 1",
)
DEFAULT = (GHPO, FIXED, GRPO, SFT, CLH, WARM)
"""Trained at every scale, the longest first; the others at full scale only."""
ARMS = (WARM, GRPO, GHPO, FIXED, CLH, SFT, CL, DROP, PLAIN, BEST, ALWAYS, WHOLE)


def ghpo_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    higher = partial(Claim, arm=GHPO, better="higher")
    lower = partial(Claim, arm=GHPO, better="lower")
    return (
        higher(
            id="c1-base",
            metric="success",
            versus=WARM,
            text="Without hints GHPO solves more than the policy it started from.",
            paper="average 0.442 against 0.324 (Qwen2.5-7B)",
        ),
        higher(
            id="c1-success",
            metric="success_hard",
            versus=GRPO,
            text="After as many steps as GRPO's it solves more at the two hardest levels.",
            paper="average 0.442 against 0.398 (Math3to5)",
        ),
        higher(
            id="c1-pass8",
            metric="pass8_hard",
            versus=GRPO,
            text="And eight attempts solve more there.",
        ),
        higher(
            id="c1-success-rollouts",
            metric="success_hard_matched",
            versus=GRPO,
            margin=-0.01,
            text="After as many rollouts as GRPO's it solves at most 0.01 less there.",
        ),
        higher(
            id="c1-pass8-rollouts",
            metric="pass8_hard_matched",
            versus=GRPO,
            margin=-0.01,
            text="And eight attempts solve at most 0.01 less there.",
        ),
        higher(
            id="c2-all",
            metric="success",
            versus=GRPO,
            text="Over all levels trained on it solves more than GRPO after as many steps.",
            paper="0.442 against 0.409 (NuminaMath-S)",
        ),
        higher(
            id="c2-fixed",
            metric="success_hard",
            versus=FIXED,
            text="Hints that grow do no worse than half of the solution at once.",
            margin=-0.01,
        ),
        higher(
            id="c2-curriculum",
            metric="success_hard",
            versus=CLH,
            text="It solves more than a curriculum whose hard part always has half the solution.",
            paper="0.442 against 0.422 (NuminaMath-S)",
        ),
        lower(
            id="c4-norm",
            metric="grad_norm",
            versus=GRPO,
            text="Its gradients are smaller.",
            paper="training curves",
        ),
        lower(
            id="c4-norm-contributing",
            metric="grad_norm_contributing",
            versus=GRPO,
            text="They are smaller also by the share of groups that have an advantage.",
        ),
        higher(
            id="c4-reward",
            metric="reward_late",
            versus=GRPO,
            text="Late in training its rollouts, hinted ones included, are right more often.",
            paper="training curves",
        ),
        higher(
            id="c4-length",
            metric="length_late",
            versus=GRPO,
            text="Late in training its completions are longer.",
            paper="training curves",
        ),
        higher(
            id="c5-difficult",
            metric="difficult_late",
            margin=0.4,
            text="Late in training still 40 % of prompts or more have no right completion.",
            paper="about 60 % of each mini-batch",
        ),
        lower(
            id="mechanism-all-wrong",
            metric="all_wrong_left",
            margin=0.7,
            text="Hints leave at most 0.7 of the groups all wrong that were.",
        ),
        lower(
            id="mechanism-variance",
            metric="zero_variance",
            versus=GRPO,
            text="Fewer of the groups trained on have rewards that are all equal.",
        ),
        higher(
            id="transfer",
            metric="success_4",
            versus=WARM,
            text="Guidance transfers: success at the hardest level rises without hints.",
        ),
        higher(
            id="control-sft",
            metric="success_hard",
            versus=SFT,
            text="It solves more than GRPO after imitation of the same solutions, which the paper "
            "does not compare.",
        ),
        lower(
            id="speed",
            metric="overhead",
            margin=1.1,
            text="A step takes at most 1.1 times GRPO's for each of its rollouts.",
        ),
    )
