"""What paper 9 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim

WARM, GRPO_ARM, NORM, CLIP = "warm start", "GRPO, truncated", "+ batch norm", "+ clip-higher"
DLER_ARM, DA, MERGED, LASER = "DLER", "DA-DLER", "DLER, merged", "DLER, Laser"
ARMS = (WARM, GRPO_ARM, NORM, CLIP, DLER_ARM, DA, MERGED, LASER)


def dler_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    accurate = partial(Claim, metric="accuracy", better="higher")
    short = partial(Claim, metric="length", kind="ratio")
    return (
        short(
            id="c1-length",
            arm=DLER_ARM,
            versus=WARM,
            margin=1 / 0.55 - 1,
            text="DLER's completions are at most 0.55 times as long as the verbose policy's.",
            paper="10,499 to 2,466 tokens (1.5 B), 7,747 to 2,405 (7 B)",
        ),
        accurate(
            id="c1-accuracy",
            arm=DLER_ARM,
            versus=WARM,
            margin=-0.01,
            text="And no less often right, to a point.",
            paper="AIME 29.8 to 34.4 (1.5 B), 55.4 to 55.6 (7 B)",
        ),
        accurate(
            id="c3-accuracy",
            arm=DLER_ARM,
            versus=GRPO_ARM,
            text="For the same tokens generated it is more accurate than GRPO under truncation.",
            paper="about 3 points",
        ),
        short(
            id="c3-length",
            arm=DLER_ARM,
            versus=GRPO_ARM,
            margin=-0.03,
            text="And no longer, to 3 %.",
        ),
        accurate(
            id="c3-batch-norm",
            arm=NORM,
            versus=GRPO_ARM,
            text="One scale for the whole batch alone makes GRPO under truncation more accurate.",
            paper="about 3 points on AIME at equal tokens",
        ),
        Claim(
            id="c3-variance",
            metric="variance_growth",
            arm=WARM,
            better="higher",
            text="The variance of GRPO's advantages grows as the limit tightens (1, 0.8 and 0.6 of "
            "the median length).",
            paper="0.29, 0.30, 0.32, 0.40 at 16k, 12k, 8k, 4k",
        ),
        Claim(
            id="c4-entropy",
            metric="entropy",
            arm=CLIP,
            versus=NORM,
            better="higher",
            text="Clip-higher keeps the policy's entropy up.",
        ),
        Claim(
            id="c4-rare",
            metric="clipped_rarer",
            arm=GRPO_ARM,
            better="higher",
            margin=0.05,
            text="Tokens clipped from above were rarer when sampled than the others.",
            paper="about 1 % of tokens, such as 'Wait'",
        ),
        Claim(
            id="c4-uncertain",
            metric="clipped_less_certain",
            arm=GRPO_ARM,
            better="higher",
            margin=0.05,
            text="And sampled where the policy was less certain.",
        ),
        Claim(
            id="c5-zero",
            metric="all_zero_60",
            arm=WARM,
            better="higher",
            margin=0.35,
            text="Under truncation a third of all groups or more earn nothing at first.",
            paper="half of the prompts",
        ),
        Claim(
            id="c5-filtered",
            metric="zero_variance",
            arm=DLER_ARM,
            deterministic=True,
            text="With dynamic sampling no group that is learnt from lacks variance.",
        ),
        Claim(
            id="c5-plateau",
            metric="gap_to_limit",
            arm=DLER_ARM,
            versus=CLIP,
            text="With dynamic sampling the length ends nearer to the limit than without.",
            paper="without it length plateaus at 2k of a budget of 4k",
        ),
        accurate(
            id="c6-laser",
            arm=DLER_ARM,
            versus=LASER,
            margin=-0.02,
            text="Laser's bonus instead of truncation, for the same tokens generated, is no more "
            "accurate (to 2 points).",
            paper="other penalties move along the frontier, not beyond it",
        ),
        short(
            id="c6-laser-length",
            arm=DLER_ARM,
            versus=LASER,
            margin=-0.03,
            text="Nor shorter (to 3 %).",
        ),
        short(
            id="c7-length",
            arm=DA,
            versus=DLER_ARM,
            margin=1 / 0.92 - 1,
            text="Difficulty-aware truncation shortens by another 8 % at least.",
            paper="15 % (1.5 B), 11 % (7 B)",
        ),
        accurate(
            id="c7-accuracy",
            arm=DA,
            versus=DLER_ARM,
            margin=-0.02,
            text="At the same accuracy, to 2 points.",
            paper="34.38 to 34.37, 55.62 to 53.90",
        ),
        accurate(
            id="c8-accuracy",
            arm=MERGED,
            versus=DLER_ARM,
            margin=-0.005,
            text="A quarter of the updates at seven tenths, added to the verbose policy, is as "
            "accurate as DLER's.",
            paper="MATH 95.0 to 95.2, AIME 63.5 to 66.7",
        ),
        short(
            id="c8-length",
            arm=MERGED,
            versus=WARM,
            margin=1 / 0.75 - 1,
            text="And at most 0.75 times as long as the verbose policy.",
            paper="5,996 to 3,237 tokens",
        ),
        Claim(
            id="c9-parallel",
            metric="passed_at_budget",
            arm=DLER_ARM,
            versus=WARM,
            better="higher",
            text="For the tokens of two verbose completions, DLER's parallel ones solve more.",
            paper="about 27 points at equal time",
        ),
    )
