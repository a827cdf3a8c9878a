"""What paper 13 says, made testable: the claims of its recipe."""

from __future__ import annotations

from rarefy.evidence.claims import Claim

WARM, GRPO, SFT, AHPO = "warm start", "GRPO", "SFT", "AHPO"
STATIC, LUFFY, SFT_GRPO = "AHPO static", "LUFFY", "SFT then GRPO"
SOFT, ONLY, ONE, THREE = "AHPO soft", "AHPO target only", "AHPO R=1", "AHPO R=3"
SKELETON, POLISHED = "SFT skeleton", "SFT polished"
HELIX = "helix"

DEFAULT_ARMS = (HELIX, WARM, GRPO, SFT, AHPO, STATIC, SKELETON, POLISHED)
FULL_ARMS = (LUFFY, SFT_GRPO, SOFT, ONLY, ONE, THREE)
"""Trained at full scale only; no claim speaks of them."""


def mm_helix_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    return (
        Claim(
            id="c1-grpo",
            metric="target",
            arm=AHPO,
            versus=GRPO,
            better="higher",
            margin=0.10,
            text="AHPO learns tasks that GRPO does not: target success is higher by over 0.10.",
            paper="24.9 % against 9.0 %",
        ),
        Claim(
            id="c1-pass8",
            metric="target_pass8",
            arm=AHPO,
            versus=GRPO,
            better="higher",
            margin=0.10,
            text="And not only the first try: pass@8 is higher by over 0.10.",
        ),
        Claim(
            id="c1-sft",
            metric="target",
            arm=AHPO,
            versus=SFT,
            better="higher",
            margin=-0.02,
            text="AHPO is no worse on the target than supervised fine-tuning on the same traces.",
            paper="24.9 % against 23.8 %",
        ),
        Claim(
            id="c1-stuck",
            metric="target",
            arm=GRPO,
            versus=WARM,
            better="lower",
            margin=-0.05,
            text="GRPO by itself hardly moves: it gains at most 0.05 on the target.",
            paper="6.3 % to 9.0 %",
        ),
        Claim(
            id="c2-kept",
            metric="general",
            arm=AHPO,
            versus=WARM,
            better="higher",
            margin=-0.02,
            text="AHPO keeps what was known: general success falls by at most 0.02.",
            paper="36.5 % to 42.2 %",
        ),
        Claim(
            id="c2-forgetting",
            metric="general",
            arm=SFT,
            versus=WARM,
            better="lower",
            margin=0.05,
            text="Supervised fine-tuning forgets: general success falls by over 0.05.",
            paper="36.5 % to 29.9 %",
        ),
        Claim(
            id="c2-sft",
            metric="general",
            arm=AHPO,
            versus=SFT,
            better="higher",
            text="General success is higher after AHPO than after supervised fine-tuning.",
            paper="42.2 % against 29.9 %",
        ),
        Claim(
            id="c2-grpo",
            metric="general",
            arm=AHPO,
            versus=GRPO,
            better="higher",
            text="And higher than after GRPO.",
            paper="42.2 % against 36.7 %",
        ),
        Claim(
            id="c3-accepted",
            metric="accepted",
            arm=HELIX,
            better="higher",
            margin=0.99,
            text="At least 99 % of step-elicited traces end in a right answer (all 42 tasks).",
            paper="99.8 %",
        ),
        Claim(
            id="c3-rollouts",
            metric="accepted",
            arm=HELIX,
            versus=WARM,
            better="higher",
            margin=0.5,
            text="Unguided rollouts of the warm start solve far fewer problems (the target's), in "
            "16 tries each.",
            paper="99.8 % against 25.0 %",
        ),
        Claim(
            id="c4",
            metric="countdown",
            arm=POLISHED,
            versus=SKELETON,
            better="higher",
            text="Fine-tuning on polished traces, with branches taken back, beats fine-tuning on "
            "the rule-based ones (countdown).",
            paper="23.8 % against 18.9 %",
        ),
        Claim(
            id="c5",
            metric="target",
            arm=AHPO,
            versus=STATIC,
            better="higher",
            margin=-0.01,
            text="The adaptive gate ends no lower than imitating throughout.",
            paper="curves",
        ),
        Claim(
            id="c5-early",
            metric="early",
            arm=STATIC,
            versus=AHPO,
            better="higher",
            text="Imitating throughout is ahead early on.",
            paper="curves",
        ),
        Claim(
            id="c5-late",
            metric="late_gain",
            arm=AHPO,
            versus=STATIC,
            better="higher",
            text="And gains less later on: from the second to the last third of training.",
            paper="curves",
        ),
        Claim(
            id="c5-general",
            metric="general",
            arm=AHPO,
            versus=STATIC,
            better="higher",
            margin=-0.02,
            text="Nor does it lose more of what was known.",
        ),
        Claim(
            id="i1-verified",
            metric="verified",
            arm=HELIX,
            better="higher",
            margin=1.0,
            deterministic=True,
            text="Each of 1,260 problems (42 tasks, five levels, six of each) is solved, and the "
            "solver's answer verifies.",
        ),
        Claim(
            id="i1-seconds",
            metric="clock_problems",
            arm=HELIX,
            margin=20.0,
            text="They are drawn, solved and verified in at most 20 seconds on one core.",
        ),
    )
