"""What paper 45 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim

LAYERS = 4
WEIGHTS = (0.5, 2.0, 6.0, 24.0)
SAME, SWEEP = "topk, same L0", "topk"


def arm_of(weight: float) -> str:
    """Name of the top-AFA arm with this weight of the norm loss."""
    return f"top-afa, {weight:g}"


OURS = arm_of(2.0)


def top_afa_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    return (*_theory(), *_diagnostics(), *_norms(), *_errors())


def _theory() -> list[Claim]:
    exact = partial(Claim, arm="theory", deterministic=True)
    return [
        exact(
            id="c1-bound",
            metric="outside_f",
            text="No code's norm is outside the bound by coherence and width.",
        ),
        exact(
            id="c1-active",
            metric="outside_k",
            text="Nor outside the tighter one by the number of active features.",
        ),
        exact(
            id="c1-lbo",
            metric="lbo_above",
            text="Epsilon LBO never exceeds the coherence.",
        ),
        exact(
            id="c1-orthonormal",
            metric="orthonormal_apart",
            margin=1e-12,
            text="Of an orthonormal dictionary the norms are equal.",
        ),
    ]


def _diagnostics() -> list[Claim]:
    return [
        *(
            Claim(
                id=f"c2-{kind}-{layer + 1}",
                metric=f"under_{layer}",
                arm=f"code model, {kind}",
                better="higher",
                margin=0.8,
                text=f"{name} of layer {layer + 1}: over 80 % of tokens are under-activated.",
                paper="medians of the ratio of norms 0.79 to 0.98 (GPT-2), 0.76 to 1.09 (Gemma-2)",
            )
            for kind, name in (("topk", "TopK"), ("relu", "ReLU"))
            for layer in range(LAYERS)
        ),
        *(
            Claim(
                id=f"c2-depth-{kind}",
                metric="ratio_fall",
                arm=f"code model, {kind}",
                better="higher",
                text=f"{name}: the more so the deeper (ratio of norms, first to last layer).",
                paper="GPT-2: 0.97 to 0.79 at layer 9, 0.88 at the last",
            )
            for kind, name in (("topk", "TopK"), ("relu", "ReLU"))
        ),
        *(
            Claim(
                id=f"c3-{what}-{kind}",
                metric=f"{what}_alike",
                arm=f"code model, {kind}",
                margin=0.9,
                text=f"{name}: epsilon LBO does not rank {what} as the error does (rank "
                "correlation at most 0.9).",
                paper="worst layers 9 and 10 by epsilon LBO, 11 by error",
            )
            for kind, name in (("topk", "TopK"), ("relu", "ReLU"))
            for what in ("tokens", "layers")
        ),
    ]


def _norms() -> list[Claim]:
    return [
        *(
            Claim(
                id=f"norm-{weight:g}",
                metric="mismatch",
                arm=arm_of(weight),
                margin=0.05,
                text=f"With weight {weight:g} norms of codes match those of inputs to 5 %.",
            )
            for weight in WEIGHTS
            if weight >= 2
        ),
        Claim(
            id="norm-topk",
            metric="mismatch",
            arm=SWEEP,
            better="higher",
            margin=0.2,
            text="TopK's are off by at least 20 %.",
        ),
        Claim(
            id="norm-lbo",
            metric="lbo",
            arm=OURS,
            versus=SWEEP,
            kind="ratio",
            margin=9,
            text="The median epsilon LBO is at least ten times lower than TopK's.",
        ),
        Claim(
            id="adaptive-spread",
            metric="l0_std",
            arm=OURS,
            better="higher",
            margin=1.0,
            text="Rows differ in how many features they take (standard deviation over 1).",
        ),
        Claim(
            id="adaptive-difficulty",
            metric="difficulty",
            arm=OURS,
            better="higher",
            text="Rows that are hard for TopK (k = 16) take more features.",
        ),
    ]


def _errors() -> list[Claim]:
    said = "GPT-2, layer 6: 1.64e-4 against 1.74e-4 (TopK, k = 1024); layer 7: 1.95e-4, 1.81e-4"
    against = partial(Claim, metric="nmse", arm=OURS, kind="ratio")
    return [
        *(
            against(
                id=f"c4-{where}{suffix}",
                versus=versus,
                margin=margin,
                text=f"With one weight the error is at most {times} that of {text}.",
                paper=said if suffix == "" else "",
            )
            for where, versus, text in (
                ("same", SAME, "TopK at the same mean L0"),
                ("best", SWEEP, "the best TopK of a sweep of k"),
            )
            for suffix, margin, times in (
                ("", 1 / 1.1 - 1, "1.1 times"),
                ("-partly", -0.5, "twice"),
            )
        ),
        against(
            id="c4-bits",
            metric="bits",
            versus=SWEEP,
            text="And the description is shorter than the best TopK's.",
            paper="about twice as long: 41.9 against 21.1 thousand bits",
        ),
        Claim(
            id="c4-sparse",
            metric="l0_over_d",
            arm=OURS,
            margin=1.0,
            text="Its codes are sparse: fewer active features than dimensions.",
            paper="dense: 2037 features of 12288, at width 768",
        ),
    ]
