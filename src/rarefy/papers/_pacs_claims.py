"""What paper 07 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rarefy.evidence.claims import Claim

if TYPE_CHECKING:
    from rarefy.policy.pacs import Score

WARM, GRPO, RLOO, PACS, UNWEIGHTED, PPO = (
    "warm start",
    "GRPO",
    "RLOO",
    "PACS",
    "PACS, unweighted",
    "PPO",
)
FIXED = "PACS, fixed reference"
DAPO = "DAPO"
BETAS = {f"PACS, beta {beta:g}": beta for beta in (0.1, 0.5, 2.0, 10.0)}
SCORES: dict[str, Score] = {"PACS, grpo score": "grpo", "PACS, dr_grpo score": "dr_grpo"}
TRAINED = (GRPO, RLOO, PACS, UNWEIGHTED, FIXED)
ARMS = (WARM, *TRAINED, PPO, DAPO, *BETAS, *SCORES)


def pacs_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card.

    Those with "-fixed" speak of the reference of the paper's text, the others of the released
    code's.
    """
    higher = partial(Claim, better="higher")
    both = (("", PACS), ("-fixed", FIXED))
    return (
        *(
            higher(
                id=f"c1-pass32{suffix}",
                metric="pass32_4",
                arm=arm,
                versus=GRPO,
                text="On the hardest problems trained on, 32 attempts solve more with PACS than "
                "with GRPO.",
                paper="AIME 2025 pass@256: 59.78 against 45.42 (7B)",
            )
            for suffix, arm in both
        ),
        higher(
            id="c1-pass32-no-worse",
            metric="pass32_4",
            arm=PACS,
            versus=GRPO,
            margin=-0.01,
            text="Or at most 0.01 fewer.",
        ),
        *(
            higher(
                id=f"c2-gain{suffix}",
                metric="success",
                arm=arm,
                versus=WARM,
                text="PACS solves more of the problems trained on than the policy it started from.",
                paper="average pass@1 62.63 against 54.37 (4B)",
            )
            for suffix, arm in both
        ),
        *(
            higher(
                id=f"c3-pass1{suffix}",
                metric="success_4",
                arm=arm,
                versus=GRPO,
                text="On the hardest problems a single attempt succeeds more often than with GRPO.",
                paper="BeyondAIME pass@1 28.86 against 25.79 (8B)",
            )
            for suffix, arm in both
        ),
        higher(
            id="c3-all",
            metric="success",
            arm=PACS,
            versus=GRPO,
            text="And over all problems trained on.",
            paper="average of five test sets",
        ),
        higher(
            id="ablation-rloo",
            metric="success_4",
            arm=PACS,
            versus=RLOO,
            text="On the hardest problems a single attempt succeeds more often than with RLOO, "
            "whose step is PACS's first without class weights.",
        ),
        Claim(
            id="c4-collapse",
            metric="entropy",
            arm=GRPO,
            versus=WARM,
            text="GRPO loses entropy.",
            paper="collapses",
        ),
        *(
            higher(
                id=f"c4-entropy{suffix}",
                metric="entropy",
                arm=arm,
                versus=GRPO,
                kind="ratio",
                margin=0.15,
                text="PACS ends with at least 1.15 times GRPO's entropy.",
                paper="PACS does not collapse",
            )
            for suffix, arm in both
        ),
        *(
            higher(
                id=f"c4-diversity{suffix}",
                metric="diversity",
                arm=arm,
                versus=GRPO,
                text="Its right completions of a problem differ more from each other.",
                paper="cosine distance 0.0392 against 0.0249 (8B, AIME25)",
            )
            for suffix, arm in both
        ),
        higher(
            id="c5-hard",
            metric="pass32_4",
            arm=PACS,
            versus=UNWEIGHTED,
            text="Class weights help many attempts at the hardest problems.",
            paper="BeyondAIME pass@64 64.02 against 58.97 (8B)",
        ),
        higher(
            id="c5-easy",
            metric="success_2",
            arm=UNWEIGHTED,
            versus=PACS,
            text="Without them a single attempt at easy problems succeeds more often.",
            paper="AMC23 pass@1 89.63 against 88.69 (8B)",
        ),
        *(
            higher(
                id=f"c7-unseen{suffix}",
                metric="sibling",
                arm=arm,
                versus=WARM,
                margin=-0.02,
                text="On a task that was not trained on it loses at most 0.02.",
                paper="LiveCodeBench 45.96 against 31.06 (8B, trained on mathematics)",
            )
            for suffix, arm in both
        ),
        *(
            higher(
                id=f"c7-grpo{suffix}",
                metric="sibling",
                arm=arm,
                versus=GRPO,
                text="And solves more of it than GRPO.",
                paper="LiveCodeBench 45.96 against 38.04 (8B)",
            )
            for suffix, arm in both
        ),
        higher(
            id="critic",
            metric="psi_auc",
            arm=PACS,
            margin=0.5,
            text="The implicit critic tells right from wrong completions of prompts that it has "
            "not learnt from yet better than chance.",
        ),
        Claim(
            id="speed-grpo",
            metric="step_seconds",
            arm=PACS,
            versus=GRPO,
            kind="ratio",
            margin=1 / 1.05 - 1,
            text="A step takes at most 1.05 times GRPO's.",
        ),
        Claim(
            id="speed-ppo",
            metric="step_seconds",
            arm=PACS,
            versus=PPO,
            kind="ratio",
            margin=1 / 0.8 - 1,
            text="A step takes at most 0.8 times PPO's, which trains a critic.",
        ),
    )
