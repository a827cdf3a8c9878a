"""What paper 35 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim


def mutual_choice_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    ratio = partial(Claim, metric="fvu", versus="TopK", kind="ratio")
    under = partial(Claim, metric="under_used")
    return (
        ratio(
            id="c1-mutual",
            arm="MC",
            margin=0.11,
            text="Mutual Choice leaves at most 0.9 times the variance that TopK leaves, with "
            "thresholds in place of batches.",
        ),
        ratio(
            id="c1-mutual-batch",
            metric="fvu_batch",
            arm="MC",
            margin=0.11,
            text="So it does with whole batches coupled, as in training.",
        ),
        ratio(
            id="c1-feature",
            arm="FC",
            text="Feature Choice after Mutual Choice reconstructs better than TopK.",
        ),
        *(
            Claim(
                id=f"c1-l0-{arm.lower()}",
                metric="l0_off",
                arm=arm,
                margin=0.1,
                text=f"Thresholds keep as many latents as coupled batches, to a tenth ({arm}).",
            )
            for arm in ("MC", "FC")
        ),
        *(
            Claim(
                id=f"c2-dead-{arm}".replace(", ", "-").lower(),
                metric="dead_batch",
                arm=arm,
                deterministic=True,
                text=f"No latent of Feature Choice is dead ({arm}).",
                paper="0 %, up to 34 million latents",
            )
            for arm in ("FC", "FC, wide")
        ),
        *(
            Claim(
                id=f"c2-under-{arm}".replace(", ", "-").lower(),
                metric="under_used",
                arm=arm,
                margin=0.01,
                text=f"At most 1 % of its latents fire less than a tenth of the mean ({arm}).",
            )
            for arm in ("FC", "FC, wide")
        ),
        *(
            Claim(
                id=f"c2-{other.lower()}{wide.replace(', ', '-')}",
                metric="dead_batch",
                arm=f"FC{wide}",
                versus=f"{other}{wide}",
                text=f"Where {other} has dead latents"
                + (", at 8 times the width." * bool(wide) or "."),
            )
            for wide in ("", ", wide")
            for other in ("TopK", "MC")
        ),
        *(
            under(
                id=f"c3-{alpha}",
                arm=f"MC, aux-zipf {alpha}",
                versus=f"MC, aux-k {alpha}",
                text=f"At weight {alpha}, fewer latents are under-used with aux-zipf than with "
                "aux-k.",
            )
            for alpha in (1, 4)
        ),
        *(
            Claim(
                id=f"c3-cost-{alpha}",
                metric="fvu",
                arm=f"MC, aux-zipf {alpha}",
                versus=f"MC, aux-k {alpha}",
                kind="ratio",
                margin=-0.048,
                text=f"That costs at most 5 % more variance left (weight {alpha}).",
            )
            for alpha in (1, 4)
        ),
        Claim(
            id="c4-law",
            metric="ks",
            arm="MC",
            margin=0.05,
            text="The upper three quarters of the densities follow a Zipf law: at most 0.05 off, "
            "cumulated.",
        ),
        Claim(
            id="c4-tail",
            metric="tail_share",
            arm="MC",
            margin=0.9,
            text="The lowest quarter fires less than 0.9 times what the law expects.",
        ),
        *(
            Claim(
                id=f"c5-{arm.lower()}",
                metric="spearman",
                arm=arm,
                better="higher",
                margin=0.8,
                text=f"Rows made of more features get more latents ({arm}): rank correlation of at "
                "least 0.8.",
            )
            for arm in ("MC", "FC")
        ),
        *(
            ratio(
                id=f"c1-lm-{arm.lower()}",
                metric="fvu_lm",
                arm=arm,
                text=f"In a language model's layer {name} leaves less variance than TopK.",
            )
            for arm, name in (("MC", "Mutual Choice"), ("FC", "Feature Choice"))
        ),
        Claim(
            id="c1-lm-loss",
            metric="recovered_lm",
            arm="MC",
            versus="TopK",
            better="higher",
            text="More of the language model's loss is recovered with Mutual Choice than with "
            "TopK in that layer.",
            paper="figure only",
        ),
        Claim(
            id="c2-lm-dead",
            metric="dead_lm",
            arm="FC",
            versus="MC",
            text="In that layer, too, fewer latents are dead with Feature Choice than with Mutual "
            "Choice.",
        ),
        Claim(
            id="c5-lm",
            metric="harder_scaled_lm",
            arm="MC",
            better="higher",
            text="Of tokens of like norm, those that the language model finds harder get more "
            "latents.",
            paper="figure only",
        ),
    )
