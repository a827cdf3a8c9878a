"""What paper 34 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim

OURS, POST_HOC = "g-SAE, gradient", "TopK, gradient"


def g_sae_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card; c5 and c6 cannot be measured offline."""
    return (*_on_language(), *_on_digits(), *_on_planted(), *_controls())


def _on_language() -> tuple[Claim, ...]:
    kl = partial(Claim, metric="kl_lm", versus="TopK")
    return (
        Claim(
            id="c1-lm",
            metric="delta_ce_lm",
            arm=OURS,
            versus="TopK",
            text="In a language model's layer it costs less loss than TopK does.",
            paper="figure only",
        ),
        kl(id="c1-lm-kl", arm=OURS, text="And the language model's predictions move less."),
        Claim(
            id="c1-lm-training",
            metric="kl_lm",
            arm=OURS,
            versus=POST_HOC,
            text="That is due to training: they move less than with the same choice in a TopK "
            "dictionary.",
        ),
        *(
            kl(
                id=f"c1-lm-{how}",
                arm=f"g-SAE, {how}",
                text=f"They move less than with TopK without gradients at test time, by {how}.",
            )
            for how in ("activation", "threshold")
        ),
        Claim(
            id="c2-lm",
            metric="fvu_lm",
            arm=OURS,
            versus="TopK",
            kind="ratio",
            margin=1 / 1.15 - 1,
            text="It leaves at most 1.15 times TopK's variance in the language model's layer.",
        ),
        Claim(
            id="c3-lm",
            metric="dead_lm",
            arm=OURS,
            versus="TopK",
            margin=-0.005,
            text="No more of its latents there are dead than of TopK's.",
        ),
        *(
            Claim(
                id=f"{id_}-lm-strong",
                metric=f"{metric}_lm",
                arm="g-SAE strong",
                versus="TopK",
                text=f"{text}, where the gradient weighs as much as the activation.",
            )
            for id_, metric, text in (
                ("c1", "delta_ce", "It costs the language model less loss than TopK"),
                ("c3", "dead", "Fewer of its latents are dead than of TopK's"),
            )
        ),
        Claim(
            id="c4-lm",
            metric="steering_lm",
            arm=OURS,
            versus="TopK",
            better="higher",
            text="Its latents steer the language model more at equal divergence.",
        ),
    )


def _on_digits() -> tuple[Claim, ...]:
    ours, post = OURS, POST_HOC
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
                metric=f"steering_{k}",
                arm=ours,
                versus="TopK",
                better="higher",
                text="Its latents steer more at equal divergence, over all that are alive, "
                f"{k} latents a row.",
            )
            for k in (2, 4)
        ),
    )


def _on_planted() -> tuple[Claim, ...]:
    quiet = partial(Claim, metric="quiet", better="higher")
    return (
        quiet(
            id="planted",
            arm=OURS,
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
        Claim(
            id="cause-choice",
            metric="picked",
            arm="attribution, handed",
            versus="TopK, handed",
            better="higher",
            margin=0.2,
            text="Handed the true features, attribution picks 20 points more of the quiet ones "
            "that are there.",
        ),
        quiet(
            id="cause-training",
            arm="TopK, trained on",
            versus="attribution, trained on",
            margin=0.5,
            text="Trained on from there, TopK has half of the features more left than "
            "attribution: what is lost is lost by learning.",
        ),
        quiet(
            id="cause-error",
            arm="attribution, quiet error",
            versus="attribution, trained on",
            margin=0.5,
            text="With the squared error of only what the loss reads it keeps half of the features "
            "more: learning loses them to the loud part of the error.",
        ),
    )


def _controls() -> tuple[Claim, ...]:
    return (
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
