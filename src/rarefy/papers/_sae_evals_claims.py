"""What "Towards Principled Evaluations of Sparse Autoencoders" says, as claims."""

from __future__ import annotations

from rarefy.evidence.claims import Claim, Direction

NEAR_ONE = "figure: about 1 at every cross-section of GPT-2 Small"


def sae_evals_claims() -> tuple[Claim, ...]:
    """All claims, c1 to c7, in the paper's order."""
    return (*_supervised(), *_approximation(), *_control(), *_meaning(), *_failures())


def _supervised() -> tuple[Claim, ...]:
    claims = []
    for arm, short, bar, edit in (
        ("supervised", "linear", 0.95, 0.9),
        ("transformer, supervised", "transformer", 0.9, 0.8),
    ):
        claims += [
            Claim(
                id=f"c1-{metric}-{short}",
                text=f"supervised features have {metric} near 1 ({short})",
                metric=metric,
                arm=arm,
                better="higher",
                margin=bar,
                paper=NEAR_ONE,
            )
            for metric in ("sufficiency", "necessity")
        ]
        claims += [
            Claim(
                id=f"c2-{short}",
                text=f"changing one supervised feature gives the answer of the patch ({short})",
                metric="agreement",
                arm=arm,
                better="higher",
                margin=edit,
                paper="over 80 % in every cross-section",
            ),
            Claim(
                id=f"c2-{short}-none",
                text=f"and far more often than no edit does ({short})",
                metric="agreement",
                arm=arm,
                versus=arm.replace("supervised", "no edit"),
                better="higher",
                paper="figure",
            ),
        ]
    claims.append(
        Claim(
            id="c1-names",
            text="names by where they stand are a clearly worse choice of attributes",
            metric="sufficiency",
            arm="supervised, names in order",
            versus="supervised, means",
            better="lower",
            margin=0.1,
            paper="appendix: a bad parametrisation",
        )
    )
    return tuple(claims)


def _approximation() -> tuple[Claim, ...]:
    return (
        Claim(
            id="c3-recovered",
            text="task autoencoders recover most of the task",
            metric="recovered",
            arm="vanilla",
            better="higher",
            margin=0.8,
            paper="over 0.8",
        ),
        Claim(
            id="c3-l0",
            text="with few active features",
            metric="l0",
            arm="vanilla",
            better="lower",
            margin=25,
            paper="under 25",
        ),
        Claim(
            id="c3-other-text",
            text="autoencoders of other text recover notably less",
            metric="recovered",
            arm="other text",
            versus="vanilla",
            better="lower",
            paper="loss recovered 0.4 to 0.9",
        ),
    )


def _control() -> tuple[Claim, ...]:
    def claim(id_: str, text: str, metric: str, arm: str, versus: str) -> Claim:
        return Claim(
            id=id_,
            text=text,
            metric=metric,
            arm=arm,
            versus=versus,
            better="higher",
            paper="figure",
        )

    claims = []
    for k in (2, 4):
        edits = f"with {k} features"
        claims += [
            claim(
                f"c4-supervised-{k}",
                f"{edits}, edits by a task autoencoder control less than a supervised one",
                f"control_{k}",
                "supervised",
                "vanilla",
            ),
            claim(
                f"c4-frozen-{k}",
                f"{edits}, a task autoencoder controls more than one whose decoder is frozen",
                f"control_{k}",
                "vanilla",
                "frozen decoder",
            ),
            claim(
                f"c4-other-text-{k}",
                f"{edits}, a task autoencoder controls more than one of other text",
                f"control_{k}",
                "vanilla",
                "other text",
            ),
            claim(
                f"c4-weight-{k}",
                f"{edits}, its edits are larger than the supervised one",
                f"weight_{k}",
                "vanilla",
                "supervised",
            ),
        ]
    return (
        *claims,
        claim("c4-gated", "gated controls more (later finding)", "control_2", "gated", "vanilla"),
        claim("c4-top-k", "top-k controls more (later finding)", "control_2", "top-k", "vanilla"),
    )


def _meaning() -> tuple[Claim, ...]:
    def claim(id_: str, text: str, metric: str, margin: float, better: Direction) -> Claim:
        return Claim(
            id=id_, text=text, metric=metric, arm="vanilla", better=better, margin=margin,
            paper="figure",
        )  # fmt: skip

    return (
        claim("c5-kept", "features with F1 of 0.6 keep most of the task", "kept", 0.7, "higher"),
        claim("c5-lost", "and most of it is lost without them", "lost", 0.7, "higher"),
        claim(
            "c5-guided",
            "edits guided by meaning are nearly as good as those that are not",
            "guided_gap",
            0.1,
            "lower",
        ),
    )


def _failures() -> tuple[Claim, ...]:
    large = "216 names against at most 22, at L10H0"
    claims = []
    for l1 in ("0.2", "0.3"):
        claims.append(
            Claim(
                id=f"c6-{l1}",
                text=f"of two attributes, the larger one gets the features (lambda {l1})",
                metric=f"gap_{l1}",
                arm="occlusion, 2 to 1",
                better="higher",
                margin=0.15,
                paper=large,
            )
        )
        for id_, arm, metric, bar, text in (
            ("equal", "occlusion, 1 to 1", "gap", 0.15, "equal attributes get equally many"),
            ("half", "occlusion, 2 to 1", "half_gap", 0.15, "and at F1 of 0.5 so do unequal ones"),
        ):
            claims += [
                Claim(
                    id=f"c6-{id_}-{side}-{l1}",
                    text=f"{text} (lambda {l1}, no {side})",
                    metric=f"{metric}_{l1}",
                    arm=arm,
                    better="lower" if side == "more" else "higher",
                    margin=bar if side == "more" else -bar,
                    paper="toy model: the effect vanishes at low F1",
                )
                for side in ("more", "fewer")
            ]
    return (
        *claims,
        Claim(
            id="c6-shrinking",
            text="shrinking IO raises the number of S names with a feature",
            metric="spearman",
            arm="shrinking IO",
            better="higher",
            margin=0.8,
            paper="monotone",
        ),
        Claim(
            id="c7-random",
            text="1,000 random features have a smaller loss than the 2 ideal ones, at every lambda "
            "to 7",
            metric="least_gain",
            arm="two Gaussians",
            better="higher",
            margin=0.0,
            paper="for every lambda",
        ),
        Claim(
            id="c7-trained",
            text="a trained autoencoder splits one bit into more than two features for each sign",
            metric="features_per_sign",
            arm="two Gaussians",
            better="higher",
            margin=3,
            deterministic=True,
            paper="Pos is split into 10 and more",
        ),
    )
