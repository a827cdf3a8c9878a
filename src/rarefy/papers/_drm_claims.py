"""What paper 19 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim

DRM = "DRM"
DIMENSIONS = ("confidence", "relevance", "coherence")
WITHOUT = tuple(f"DRM without {name}" for name in DIMENSIONS)
PER_STEP, LEXICAL, SHORTEST = "per-step", "lexical", "shortest"
SEARCHED = "DRM, weights of countdown"
VERIFIER, RANDOM, MAJORITY = "verifier", "random", "majority"
SELECTORS = (
    DRM,
    *DIMENSIONS,
    *WITHOUT,
    SEARCHED,
    PER_STEP,
    LEXICAL,
    SHORTEST,
    VERIFIER,
    RANDOM,
    MAJORITY,
)
START, ANSWER, ONLY, BOTH, PAIRS = "warm start", "answer", "DRM only", "both", "DPO"
TRAINED = (START, ANSWER, ONLY, BOTH, PAIRS)
ARMS = (*SELECTORS, *TRAINED)


def drm_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    higher = partial(Claim, better="higher")
    return (
        higher(
            id="c1-random",
            metric="best_of_8",
            arm=DRM,
            versus=RANDOM,
            text="Of eight completions, the one that DRM picks is right more often than one picked "
            "at random.",
            paper="an effective selector",
        ),
        higher(
            id="c1-confidence",
            metric="best_of_8",
            arm=DRM,
            versus="confidence",
            margin=-0.01,
            text="And about as often, or more, as the one that the policy was surest of.",
        ),
        higher(
            id="c1-majority",
            metric="best_of_8",
            arm=DRM,
            versus=MAJORITY,
            text="And more often than the answer that most of the eight give.",
        ),
        higher(
            id="c1-lexical",
            metric="best_of_8",
            arm=DRM,
            versus=LEXICAL,
            text="And more often than the one with most characters in common with its question.",
        ),
        higher(
            id="c1-length",
            metric="best_of_8",
            arm=DRM,
            versus=SHORTEST,
            text="And more often than the shortest.",
        ),
        higher(
            id="c1-steps",
            metric="best_of_8",
            arm=DRM,
            versus=PER_STEP,
            margin=-0.01,
            text="No splitting into steps is needed: it picks about as well as the worst step's "
            "coherence.",
        ),
        higher(
            id="c5-flawed",
            metric="auc_valid",
            arm=DRM,
            margin=0.65,
            text="Among right answers it tells valid from flawed traces (area under the curve).",
            paper="separates flawed from sound reasoning among right answers",
        ),
        higher(
            id="c5-verifier",
            metric="auc_valid",
            arm=DRM,
            versus=VERIFIER,
            margin=0.15,
            text="A verifier cannot: to it all right answers are one.",
        ),
        *(
            higher(
                id=f"c4-{name}",
                metric="auc_right",
                arm=DRM,
                versus=name,
                margin=-0.01,
                text=f"The dimensions together tell right from wrong about as well as {name} "
                "alone, or better.",
                paper="all three dimensions matter",
            )
            for name in DIMENSIONS
        ),
        *(
            higher(
                id=f"c4-without-{name}",
                metric="auc_right",
                arm=DRM,
                versus=f"DRM without {name}",
                margin=-0.01,
                text=f"Leaving {name} out does not help.",
            )
            for name in DIMENSIONS
        ),
        higher(
            id="c4-transfer",
            metric="auc_right_permute",
            arm=SEARCHED,
            versus=DRM,
            margin=-0.01,
            text="Weights that a grid search found on countdown are not worse than equal ones on "
            "permute.",
            paper="fixed weights transfer across tasks",
        ),
        Claim(
            id="c3-silent",
            metric="silent",
            arm=BOTH,
            margin=0.02,
            text="With the reasoning's advantage hardly a group is without a signal.",
        ),
        higher(
            id="c3-denser",
            metric="silent",
            arm=ANSWER,
            versus=BOTH,
            margin=0.1,
            text="With the answer's alone many are.",
        ),
        higher(
            id="c3-success",
            metric="success",
            arm=BOTH,
            versus=ANSWER,
            text="The sum of both advantages teaches more right answers than the answer's alone.",
            paper="answer and reasoning combine by their advantages",
        ),
        higher(
            id="c3-pass",
            metric="pass_8",
            arm=BOTH,
            versus=ANSWER,
            margin=-0.02,
            text="Without a loss of pass@8.",
        ),
        higher(
            id="c3-sound",
            metric="sound_of_right",
            arm=BOTH,
            versus=ANSWER,
            margin=0.03,
            text="And more of what it gets right has a valid trace.",
        ),
        higher(
            id="c3-sibling",
            metric="sibling",
            arm=BOTH,
            versus=ANSWER,
            margin=-0.01,
            text="On a task that neither was trained on it is not worse.",
            paper="in and out of distribution",
        ),
        higher(
            id="c3-start",
            metric="success",
            arm=BOTH,
            versus=START,
            text="It learns at all.",
        ),
        higher(
            id="c1-only",
            metric="success",
            arm=ONLY,
            versus=ANSWER,
            text="The reasoning's advantage alone, which never sees an answer checked, teaches more "
            "right answers than the answer's alone.",
            paper="training by DRM beats training by answers",
        ),
        higher(
            id="c1-only-start",
            metric="success",
            arm=ONLY,
            versus=START,
            text="At least it teaches more than none: no reward is hacked at the cost of answers.",
        ),
        higher(
            id="c2-pairs",
            metric="success",
            arm=PAIRS,
            versus=START,
            text="Off-policy too: DPO with likelihood, on pairs that DRM chose, without a verifier.",
            paper="works off-policy and on-policy",
        ),
        higher(
            id="c2-pairs-sound",
            metric="sound",
            arm=PAIRS,
            versus=START,
            text="And it gives more right answers with valid traces.",
        ),
    )
