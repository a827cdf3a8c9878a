"""What paper 17 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim

START = "start"
GRPO_EM, GRPO_PRS = "GRPO, EM", "GRPO, PRS"
VSPO_PRS = "VSPO, PRS"
RANDOM, UNSMOOTHED = "random refill, PRS", "VSPO, PRS, no smoothing"
TRAINED = (GRPO_EM, GRPO_PRS, VSPO_PRS, RANDOM, UNSMOOTHED)
ARMS = (*TRAINED, START)


def vspo_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    exact = partial(Claim, metric="em", better="higher")
    return (
        exact(
            id="c1-prs",
            arm=GRPO_PRS,
            versus=GRPO_EM,
            text="Rewards by stages raise GRPO's exact match over that of rewards for a right "
            "answer only.",
            paper="0.410 against 0.396",
        ),
        exact(
            id="c1-vspo",
            arm=VSPO_PRS,
            versus=GRPO_EM,
            text="VSPO with rewards by stages beats GRPO with exact match.",
            paper="0.419 against 0.396",
        ),
        exact(
            id="c2-no-worse",
            arm=VSPO_PRS,
            versus=GRPO_PRS,
            margin=-0.005,
            text="At equal rollouts VSPO is not worse than GRPO, both with rewards by stages.",
        ),
        exact(
            id="c2-vspo",
            arm=VSPO_PRS,
            versus=GRPO_PRS,
            text="At equal rollouts VSPO is better than GRPO, both with rewards by stages.",
            paper="0.419 against 0.410",
        ),
        exact(
            id="c4-value",
            arm=VSPO_PRS,
            versus=RANDOM,
            text="Refilling by value beats refilling at random, both smoothed.",
            paper="match rates .7125/.725/.55 against .50/.30/.025",
        ),
        exact(
            id="c4-smoothing",
            arm=VSPO_PRS,
            versus=UNSMOOTHED,
            text="Copies that are smoothed beat copies that are not.",
            paper="match rates .7125/.725/.55 against .45/.175/.30",
        ),
        Claim(
            id="c4-kl",
            metric="kl",
            arm=VSPO_PRS,
            versus=UNSMOOTHED,
            better="lower",
            kind="ratio",
            text="Without smoothing the policy strays further from its start.",
            paper="the divergence blows up",
        ),
        Claim(
            id="c5-speed",
            metric="steps_to_90",
            arm=GRPO_PRS,
            versus=GRPO_EM,
            kind="ratio",
            margin=1 / 0.6 - 1,
            text="With rewards by stages 90 % of calls parse within 0.6 of the steps.",
            paper="a high level early in training",
        ),
        Claim(
            id="c5-early",
            metric="em_early",
            arm=GRPO_PRS,
            versus=GRPO_EM,
            better="higher",
            text="Over the first ten steps more answers are right with rewards by stages.",
            paper="a high level early in training",
        ),
        Claim(
            id="c5-entropy",
            metric="train_entropy",
            arm=GRPO_PRS,
            versus=GRPO_EM,
            text="Rewards by stages lower the entropy faster (mean over the steps).",
        ),
        Claim(
            id="c5-collapse",
            metric="pass8",
            arm=GRPO_PRS,
            versus=START,
            better="higher",
            text="But the policy does not collapse: its pass@8 is above the start's.",
        ),
        Claim(
            id="signal",
            metric="zero_variance",
            arm=GRPO_PRS,
            versus=GRPO_EM,
            text="Fewer groups have no variance with rewards by stages.",
        ),
    )
