"""What paper 34 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim


def g_sae_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card; c5 and c6 cannot be measured offline."""
    ours, post = "g-SAE, gradient", "TopK, gradient"
    quiet = partial(Claim, metric="quiet", better="higher")
    return (
        *(
            Claim(
                id=f"c1-{k}",
                metric=f"delta_ce_{k}",
                arm=ours,
                versus="TopK",
                text=f"In the site's place it costs less loss than TopK does, {k} latents a row.",
                paper="figure only",
            )
            for k in (2, 4)
        ),
        *(
            Claim(
                id=f"c1-kl-{k}",
                metric=f"kl_{k}",
                arm=ours,
                versus="TopK",
                text=f"And the network's prediction moves less, {k} latents a row.",
            )
            for k in (2, 4)
        ),
        *(
            Claim(
                id=f"c1-training-{k}",
                metric=f"kl_{k}",
                arm=ours,
                versus=post,
                text="That is due to training, not only to the choice at test time: it moves less "
                f"than with the same choice in a TopK dictionary, {k} latents a row.",
            )
            for k in (2, 4)
        ),
        *(
            Claim(
                id=f"c1-{how}-{k}",
                metric=f"kl_{k}",
                arm=f"g-SAE, {how}",
                versus="TopK",
                text=f"It moves less than with TopK without gradients at test time, by {how}, "
                f"{k} latents a row.",
            )
            for how in ("activation", "threshold")
            for k in (2, 4)
        ),
        *(
            Claim(
                id=f"c2-{k}",
                metric=f"fvu_{k}",
                arm=ours,
                versus="TopK",
                kind="ratio",
                margin=1 / 1.15 - 1,
                text=f"It leaves at most 1.15 times TopK's variance, {k} latents a row.",
            )
            for k in (2, 4)
        ),
        *(
            Claim(
                id=f"c3-{k}",
                metric=f"dead_{k}",
                arm=ours,
                versus="TopK",
                margin=-0.005,
                text=f"No more of its latents are dead than of TopK's, {k} latents a row.",
            )
            for k in (2, 4)
        ),
        *(
            Claim(
                id=f"c4-{k}",
                metric=f"steering_per_kl_{k}",
                arm=ours,
                versus="TopK",
                better="higher",
                text="Its latents steer more for what steering disturbs, over all that are alive, "
                f"{k} latents a row.",
            )
            for k in (2, 4)
        ),
        quiet(
            id="planted",
            arm=ours,
            versus="TopK",
            margin=0.2,
            text="It finds 20 points more of the quiet features that the loss reads.",
        ),
        quiet(
            id="planted-attribution",
            arm="attribution",
            versus="TopK",
            margin=0.2,
            text="So does choosing by attribution alone.",
        ),
        *(
            Claim(
                id=f"control-shuffled-{k}",
                metric=f"kl_{k}",
                arm="TopK",
                versus="shuffled",
                text=f"Gradients of other rows help nothing, {k} latents a row.",
            )
            for k in (2, 4)
        ),
        Claim(
            id="control-zero",
            metric="off_topk",
            arm="beta 0",
            deterministic=True,
            text="At beta 0 it is TopK, bit for bit.",
        ),
    )
