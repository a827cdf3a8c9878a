"""What paper 22 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim

PIVOTS, LASSO, SLOW, OMP, MCP = "pivots", "lasso", "lasso, theory", "OMP", "MCP"
FIXED = ("pivots, m = k", "pivots, m = 2k", "pivots, m = 4k")
ORACLE = "oracle"
ARMS = (PIVOTS, *FIXED, LASSO, SLOW, OMP, MCP, ORACLE)

HARD = {"scales": "of geometric scales", "lowrank": "near a plane", "walk": "of a random walk"}
EASY = {"pairs": "in near-duplicate pairs", "iid": "independent"}


def random_support_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    ratio = partial(Claim, kind="ratio")
    return (
        *(
            ratio(
                id=f"c1-{name}",
                metric=f"pe_{name}_worst",
                arm=PIVOTS,
                versus=LASSO,
                margin=3.0,
                text=f"On columns {words} its prediction error is at most a quarter of the lasso's "
                "with a cross-validated strength.",
            )
            for name, words in HARD.items()
        ),
        *(
            ratio(
                id=f"c1-theory-{name}",
                metric=f"pe_{name}_worst",
                arm=PIVOTS,
                versus=SLOW,
                margin=3.0,
                text=f"And of the lasso's with the strength of theory (columns {words}).",
            )
            for name, words in HARD.items()
        ),
        *(
            ratio(
                id=f"c1-lowrank-{other.lower()}",
                metric="pe_lowrank_worst",
                arm=PIVOTS,
                versus=other,
                margin=1 / 0.3 - 1,
                text=f"Near a plane it is at most 0.3 of {other}'s.",
            )
            for other in (OMP, MCP)
        ),
        Claim(
            id="c1-samples",
            metric="slope",
            arm=FIXED[1],
            margin=0.35,
            text="The rows needed for an error of 0.15 grow no faster than the columns to the "
            "power of 0.35 (least squares: 1).",
            paper="poly(k, log d, 1/eps)",
        ),
        ratio(
            id="c2-conditioning",
            metric="pe_base_32",
            arm=PIVOTS,
            versus=FIXED[1],
            margin=-0.5,
            text="At scales 32 times apart (condition number 1e18) its error is less than twice "
            "that of fixed pivots at the same scales.",
        ),
        Claim(
            id="c2-flat",
            metric="base_growth",
            arm=FIXED[1],
            margin=2.0,
            text="From scales 2 to 32 times apart the error of 2k pivots grows less than twofold.",
            paper="no dependence on the condition number",
        ),
        *(
            ratio(
                id=f"safety-{name}-{signal}",
                metric=f"pe_{name}_{signal}",
                arm=PIVOTS,
                versus=LASSO,
                margin=1 / 1.15 - 1,
                text=f"It is at most 1.15 times the lasso's on columns {words}, {signal} signal.",
            )
            for signal, names in (("worst", EASY), ("gauss", {**HARD, **EASY}))
            for name, words in names.items()
        ),
        ratio(
            id="c4-fresh-rows",
            metric="mse_lowrank_worst",
            arm=PIVOTS,
            versus=SLOW,
            text="It predicts fresh rows of the same law better too (columns near a plane).",
        ),
        Claim(
            id="c1-guarantee",
            metric="guarantee_slack",
            arm=FIXED[1],
            better="higher",
            text="The coefficients' norm stays under its bound for as many random supports as the "
            "proof says.",
        ),
        ratio(
            id="c5-adversary",
            metric="pe_adversary",
            arm=ORACLE,
            versus=PIVOTS,
            margin=9.0,
            text="For a support that was chosen against it, it errs ten times as much as least "
            "squares on the support: the guarantee needs randomness.",
            paper="no preconditioner serves every support",
        ),
    )
