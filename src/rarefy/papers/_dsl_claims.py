"""What paper 31 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim, Direction


def dsl_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    return (*_quality(), *_costs(), *_components(), *_distribution(), *_robustness(), *_budget())


def _quality() -> list[Claim]:
    at_half = partial(Claim, better="higher", kind="ratio")
    hosts = (
        ("lightgcn", "LightGCN", "DSL", "dense", "Yelp2018, Gowalla and Amazon-Book"),
        ("neumf", "NeuMF", "NeuMF: DSL", "NeuMF: dense", "MovieLens-1M, CiteULike, Foursquare"),
        ("multvae", "MultVAE", "MultVAE: DSL", "MultVAE: dense", "MovieLens-1M, CiteULike"),
        ("mf", "MF, which the paper leaves out,", "MF: DSL", "MF: dense", ""),
    )
    return [
        at_half(
            id=f"c1-{id_}-{metric}",
            metric=f"{metric}_50",
            arm=arm,
            versus=versus,
            margin=margin,
            text=f"At half the parameters {name} keeps {share} % of the dense {said}@20.",
            paper=f"matches or beats dense on {where}" if where else "",
        )
        for id_, name, arm, versus, where in hosts
        for metric, said, margin, share in (
            ("recall", "recall", -0.03, 97),
            ("ndcg", "NDCG", -0.06, 94),
        )
    ]


def _costs() -> list[Claim]:
    return [
        Claim(
            id="c2-retrain",
            metric="clock_train_50",
            arm="DSL",
            versus="prune, retrain",
            kind="ratio",
            text="It trains faster than dense training, pruning and retraining at 50 %.",
        ),
        *(
            Claim(
                id=f"c2-retrain-ndcg-{level}",
                metric=f"ndcg_{level}",
                arm="DSL",
                versus="prune, retrain",
                better="higher",
                kind="ratio",
                margin=-0.03,
                text=f"And recommends as well at {level} % (to 3 % of NDCG).",
            )
            for level in ("50", "20")
        ),
        Claim(
            id="c2-pep",
            metric="clock_train_50",
            arm="DSL",
            versus="PEP",
            kind="ratio",
            text="It trains faster than a search of embedding sizes (PEP) at 50 %.",
        ),
        Claim(
            id="c2-pep-ndcg",
            metric="ndcg_50",
            arm="DSL",
            versus="PEP",
            better="higher",
            kind="ratio",
            margin=-0.03,
            text="And recommends as well (to 3 % of NDCG).",
        ),
        *(
            Claim(
                id=f"c2-stored-{level}",
                metric=f"stored_{level}",
                arm="DSL",
                # 4 + 1 bytes an entry instead of 4, and 4 for each row of 64 columns.
                margin=1.25 * int(level) / 100 + 1 / 64 + 1e-4,
                deterministic=True,
                text=f"At {level} % the tables take at most {1.25 * int(level) + 1.6:.1f} % of "
                "their dense bytes.",
            )
            for level in ("50", "20", "10")
        ),
    ]


def _components() -> list[Claim]:
    ahead = partial(Claim, better="higher")
    said = {"DSL": "DSL", "DSL, accumulated": "DSL with the whole interval's gradients"}
    every = ("50", "20", "10")
    peers = (
        ("static", "fixed mask", "a fixed random mask", every),
        ("small", "smaller dense", "", every),
        ("hashed", "hashed", "quotient-remainder tables of as many parameters", every[:2]),
    )
    return [
        *(
            ahead(
                id=f"c3-{peer}{'-accumulated' if arm != 'DSL' else ''}-{level}",
                metric=f"ndcg_{level}",
                arm=arm,
                versus=versus,
                text=f"At {level} % {said[arm]} beats "
                f"{what or f'dense tables of {int(0.64 * int(level))} columns'}.",
            )
            for arm in said
            for peer, versus, what, levels in peers
            for level in levels
        ),
        *(
            ahead(
                id=f"c3-{part}",
                metric="ndcg_20",
                arm="DSL",
                versus=versus,
                text=f"At 20 % {what}",
            )
            for part, versus, what in (
                ("growth", "random growth", "growing by the gradient beats growing at random."),
                ("pruning", "random pruning", "pruning by magnitude beats pruning at random."),
                ("decay", "constant ratio", "an update ratio that falls beats a constant one."),
            )
        ),
        ahead(
            id="c3-sampled",
            metric="ndcg_20",
            arm="DSL, sampled",
            versus="DSL, accumulated",
            kind="ratio",
            margin=-0.03,
            text="At 20 % the gradients of a sampled quarter of the rows do (to 3 % of NDCG).",
            paper="SparseRec: gradients of a subset of the vectors",
        ),
        *(
            ahead(
                id=f"c3-mf-{peer}",
                metric="ndcg_50",
                arm="MF: DSL",
                versus=f"MF: {versus}",
                text=f"At 50 % MF with DSL beats {what}.",
            )
            for peer, versus, what in (
                ("static", "fixed mask", "a fixed random mask"),
                ("small", "smaller dense", "dense tables of 32 columns"),
            )
        ),
    ]


def _distribution() -> list[Claim]:
    return [
        Claim(
            id=f"c4-{what}{suffix}",
            metric=f"{what}_gain_{level}",
            arm=arm,
            better="higher",
            text=text,
        )
        for what, suffix, arm, level, text in (
            (
                "popular",
                "",
                "DSL",
                "20",
                "Training moves the budget from rare to popular items (columns of the top tenth, "
                "against those of the last).",
            ),
            ("item", "", "DSL", "20", "And from users to items (mean columns)."),
            (
                "popular",
                "-mf",
                "MF: DSL",
                "50",
                "So it does in MF, whose tables for users and items share one budget: from rare "
                "to popular items,",
            ),
            ("item", "-mf", "MF: DSL", "50", "and from users to items."),
        )
    ]


def _robustness() -> list[Claim]:
    sides: tuple[tuple[str, Direction], ...] = (("lower", "higher"), ("higher", "lower"))
    changes = {
        "interval halved": "half the interval",
        "interval doubled": "twice the interval",
        "ratio 0.3": "an initial ratio of 0.3",
        "ratio 0.7": "an initial ratio of 0.7",
    }
    return [
        Claim(
            id=f"c5-{arm.replace(' ', '-')}-{side}",
            metric="ndcg_50",
            arm=arm,
            versus="DSL",
            better=better,
            kind="ratio",
            margin=-0.03,
            text=f"With {what} NDCG is at most 3 % {side}.",
        )
        for arm, what in changes.items()
        for side, better in sides
    ]


def _budget() -> list[Claim]:
    return [
        Claim(
            id=f"budget-{id_}",
            metric="violations",
            arm=arm,
            deterministic=True,
            text=f"{arm}: the count is constant at every step, and at every tenth, when it is "
            "looked at, pruned entries and their moments are zero.",
        )
        for id_, arm in (
            ("dsl", "DSL"),
            ("accumulated", "DSL, accumulated"),
            ("mf", "MF: DSL"),
            ("neumf", "NeuMF: DSL"),
            ("multvae", "MultVAE: DSL"),
        )
    ]
