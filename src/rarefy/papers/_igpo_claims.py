"""What paper 14 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim

START, GRPO, RESAMPLED, IGPO = "warm start", "GRPO", "GRPO, as many samples", "IGPO"
WHOLE, UNFILTERED, NOISY = "IGPO, whole traces", "IGPO, no filter", "IGPO, noisy traces"
SFT, PADDED, BOTH = "SFT", "SFT, padded traces", "SFT + IGPO"
ARMS = (START, GRPO, RESAMPLED, IGPO, WHOLE, UNFILTERED, NOISY, SFT, PADDED, BOTH)
FULL_ONLY = (NOISY,)
"""Arms for which three minutes are too short; no claim speaks of them."""
INPAINTING = (IGPO, WHOLE, UNFILTERED, NOISY, BOTH)

_METRICS = {"success": "solves more", "pass8": "has one right of eight more often"}


def igpo_claims() -> tuple[Claim, ...]:
    """List them: what the method rests on, then in the order of the paper's card."""
    ahead = partial(Claim, better="higher")
    return (
        ahead(
            id="premise-revealed",
            metric="revealed",
            arm=START,
            margin=0.3,
            text="Shown the whole trace, the warm start solves three in ten of the hard problems.",
        ),
        ahead(
            id="premise-ratio",
            metric="revealed_ratio",
            arm=START,
            margin=5.0,
            text="That is five times as many as without help: a hint makes a group informative.",
        ),
        *(
            ahead(
                id=f"c1-{name}-{metric}",
                metric=metric,
                arm=BOTH,
                versus=other,
                text=f"Fine-tuned on short traces and then trained by IGPO, it {words} than by "
                f"{other} alone.",
                paper="average of four benchmarks: SFT 40.4, IGPO 38.9, both 43.3 (base 36.0)",
            )
            for name, other in (("sft", SFT), ("igpo", IGPO))
            for metric, words in _METRICS.items()
        ),
        *(
            ahead(
                id=f"c2-{metric}",
                metric=metric,
                arm=IGPO,
                versus=GRPO,
                text=f"IGPO {words} than GRPO of the same policy.",
                paper="average of four benchmarks: 38.9 and 37.1 (base 36.0)",
            )
            for metric, words in _METRICS.items()
        ),
        Claim(
            id="c3",
            metric="still_all_wrong",
            arm=IGPO,
            margin=0.6,
            text="Of the groups in which all was wrong, at most 0.6 stay so after inpainting.",
            paper="all-wrong groups fall by about 60 %",
        ),
        Claim(
            id="c3-samples",
            metric="still_all_wrong",
            arm=IGPO,
            versus=RESAMPLED,
            text="They are fewer than after as many samples without hints.",
        ),
        *(
            ahead(
                id=f"c4-{metric}",
                metric=metric,
                arm=IGPO,
                versus=WHOLE,
                text=f"With parts of the trace it {words} than with whole traces.",
                paper="curves of three seeds: partial above full above none",
            )
            for metric, words in _METRICS.items()
        ),
        ahead(
            id="c4-none",
            metric="success",
            arm=WHOLE,
            versus=GRPO,
            text="And whole traces beat none.",
        ),
        ahead(
            id="c5-success",
            metric="success",
            arm=IGPO,
            versus=UNFILTERED,
            margin=-0.01,
            text="Where only the fifth of the hint tokens with the highest entropy learns, it "
            "solves no less (to one point) than where all do.",
            paper="tau = 0.2 best of the curves",
        ),
        Claim(
            id="c5-stable",
            metric="loss_variance",
            arm=IGPO,
            versus=UNFILTERED,
            kind="ratio",
            text="And its loss varies less from step to step.",
            paper="tau = 1 unstable",
        ),
        *(
            ahead(
                id=f"c6-{metric}",
                metric=metric,
                arm=IGPO,
                versus=RESAMPLED,
                text=f"It is the guidance, not the samples: IGPO {words} than GRPO with as many.",
            )
            for metric, words in _METRICS.items()
        ),
        ahead(
            id="c7",
            metric="success",
            arm=SFT,
            versus=PADDED,
            text="At equal tokens, short traces are the better ones to fine-tune on (a policy that "
            "was taught short ones).",
            paper="GSM8K and MATH500 curves, also as the start of reinforcement learning",
        ),
    )
