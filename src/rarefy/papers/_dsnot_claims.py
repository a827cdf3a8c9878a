"""What paper 33, DSnoT, says, as its method card asks to have it judged.

c1 perplexity falls, c2 the gain grows with sparsity, c3 N:M patterns, c4 the cost, c5 each part of
the method against its absence, and that cycles and samples help and then saturate, c6 against
fine-tuning and LoRA. Beyond the paper, c5-mse and c5-gram ask whether the layer's squared output
error is the better guide. For SparseGPT the card expects no gain at this size; the paper's own
claim is judged all the same.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

from rarefy.evidence.claims import Claim

SPARSITIES = ("50", "60", "70", "80")
PATTERNS = ("2:4", "4:8")

# The arm that each arm "...+dsnot" starts from.
STARTS = {"magnitude": "magnitude by row", "wanda": "wanda", "sparsegpt": "sparsegpt"}
_CRITERIA = {
    "wanda+dsnot": "as it is",
    "wanda+dsnot, gamma 0": "without the variance",
    "wanda+dsnot, grow by |C|": "growing by |C|",
    "wanda+dsnot, prune by |W|": "pruning by magnitude",
}


def dsnot_claims() -> tuple[Claim, ...]:
    """List the claims, in the order of the card."""

    def lower(id_: str, text: str, metric: str, arm: str, versus: str, **more: Any) -> Claim:
        return Claim(id=id_, text=text, metric=metric, arm=arm, versus=versus, **more)

    claims = []
    for start, sparsity, paper in (
        ("magnitude", "80", ""),
        ("magnitude", "70", ""),
        ("wanda", "80", "4.80e3 to 4.12e3, LLaMA-7B"),
        ("sparsegpt", "60", "10.41 to 9.65, LLaMA-7B"),
    ):
        text = f"At {sparsity} %, DSnoT lowers the perplexity of {start} pruning."
        metric, arm = f"log_ppl_{sparsity}", f"{start}+dsnot"
        claims.append(
            lower(f"c1-{start}-{sparsity}", text, metric, arm, STARTS[start], paper=paper)
        )
    claims.append(
        lower(
            "c1-matrix-80",
            "At 80 %, magnitude by row with DSnoT beats magnitude with one threshold per matrix.",
            "log_ppl_80",
            "magnitude+dsnot",
            "magnitude",
        )
    )
    for start, sparsity, paper in (
        ("magnitude", "60", "5.6e2 to 66.7, LLaMA-7B"),
        ("magnitude", "50", ""),
        ("wanda", "60", "10.69 to 10.22, LLaMA-7B"),
        ("wanda", "50", "7.26 to about 7.1, LLaMA-7B"),
    ):
        text = f"At {sparsity} %, DSnoT makes {start} pruning at most 2 % worse in perplexity."
        metric, arm = f"log_ppl_{sparsity}", f"{start}+dsnot"
        more = {"margin": -math.log(1.02), "paper": paper}
        claims.append(lower(f"c1-{start}-{sparsity}", text, metric, arm, STARTS[start], **more))
    for start in ("magnitude", "wanda"):
        for low, high in (("70", "80"), ("60", "70")):
            text = f"DSnoT gains more on {start} at {high} % than at {low} % (log-perplexity)."
            metric, arm = f"rise_{low}_{high}", f"{start}+dsnot"
            paper = "88.84 to 62.05 at 70 %, LLaMA-7B, Wanda" if start == "wanda" else ""
            claims.append(
                lower(f"c2-{start}-{high}", text, metric, arm, STARTS[start], paper=paper)
            )
    for start in STARTS:
        claims.append(
            Claim(
                id=f"c3-{start}-valid",
                text=f"DSnoT on {start} keeps every group of 2:4 and 4:8 exact.",
                metric="pattern_violations",
                arm=f"{start}+dsnot",
                deterministic=True,
            )
        )
        claims += [
            lower(
                f"c3-{start}-{pattern}",
                f"DSnoT lowers the perplexity of {start} in the {pattern} pattern.",
                f"log_ppl_{pattern}",
                f"{start}+dsnot",
                STARTS[start],
            )
            for pattern in PATTERNS
        ]
    for name, versus, factor, text in (
        ("wanda", "layer: wanda", 0.5, "takes at most twice as long as Wanda's mask"),
        ("sparsegpt", "layer: sparsegpt", 5.0, "takes at most a fifth of SparseGPT's time"),
        ("sorts", "layer: row sorts", 3.0, "takes at most a third of the time of full row sorts"),
    ):
        claims.append(
            lower(
                f"c4-{name}",
                f"On one large layer DSnoT {text}.",
                "clock_layer_seconds",
                "layer: dsnot",
                versus,
                kind="ratio",
                margin=factor - 1,
                paper="about 5 s; Wanda 3.5 s, SparseGPT 150 s, LLaMA-7B"
                if name != "sorts"
                else "",
            )
        )
    claims.append(
        Claim(
            id="c4-identical",
            text="Looking only at the first entries of each ranking gives what full sorts give.",
            metric="differences_from_full_sort",
            arm="layer: dsnot",
            deterministic=True,
        )
    )
    claims += [
        lower(
            f"c5-random-{i}",
            f"At 80 % on Wanda, DSnoT {words} beats as many random swaps.",
            "log_ppl_80",
            arm,
            "wanda+random swaps",
        )
        for i, (arm, words) in enumerate(_CRITERIA.items(), 1)
    ]
    for start, level in (
        *product(("magnitude", "wanda"), SPARSITIES + PATTERNS),
        ("sparsegpt", "80"),
    ):
        at = f"{level} %" if level in SPARSITIES else level
        metric, arm = f"log_ppl_{level}", f"{start}+dsnot"
        if (start, level) != ("wanda", "80"):  # c5-random-1 already
            text = f"At {at} on {start}, DSnoT beats as many random swaps."
            id_ = f"c5-random-{start}-{level}"
            claims.append(lower(id_, text, metric, arm, f"{start}+random swaps"))
        text = f"The variance in the growing rule helps ({start}, {at})."
        id_ = f"c5-variance-{start}-{level}"
        claims.append(lower(id_, text, metric, arm, f"{start}+dsnot, gamma 0"))
    for id_, text, arm, versus in (
        (
            "wanda-term",
            "Wanda's score in the pruning rule helps (Wanda, 80 %).",
            "wanda+dsnot",
            "wanda+dsnot, prune by |W|",
        ),
        (
            "cycles",
            "The paper's 50 cycles, in proportion to the width, do better than one (Wanda, 80 %).",
            "wanda+dsnot",
            "wanda+dsnot, 1 cycle",
        ),
        (
            "cycles-as-stated",
            "50 cycles do better than one, whatever the width (Wanda, 80 %).",
            "wanda+dsnot, 50 cycles",
            "wanda+dsnot, 1 cycle",
        ),
        (
            "mse",
            "Passing over swaps that raise a row's squared error helps (Wanda, 80 %).",
            "wanda+dsnot, if the square falls",
            "wanda+dsnot",
        ),
        (
            "gram",
            "Swaps by the exact squared error beat DSnoT's criterion (Wanda, 80 %).",
            "wanda+gram swaps",
            "wanda+dsnot",
        ),
        (
            "samples",
            "More calibration text helps (Wanda, 80 %).",
            "wanda+dsnot",
            "wanda+dsnot, 1/4 of the text",
        ),
    ):
        claims.append(lower(f"c5-{id_}", text, "log_ppl_80", arm, versus))
    claims += [
        lower(
            f"c5-{id_}",
            f"{text} (Wanda, 80 %).",
            "log_ppl_80",
            "wanda+dsnot",
            f"wanda+dsnot, twice the {what}",
            margin=-math.log(1.01),
        )
        for id_, what, text in (
            ("cycles-saturate", "cycles", "Cycles saturate: twice as many gain at most 1 %"),
            ("samples-saturate", "text", "Samples saturate: twice the text gains at most 1 %"),
        )
    ]
    claims.append(
        lower(
            "c5-threshold",
            "The released threshold does no worse than 1000 times it (to 1 %; Wanda, 80 %).",
            "log_ppl_80",
            "wanda+dsnot",
            "wanda+dsnot, threshold x 1000",
            margin=-math.log(1.01),
        )
    )
    claims += [
        lower(
            id_,
            f"At 50 %, DSnoT comes as close to {peer} as in the paper (4.4 % in perplexity).",
            "log_ppl_50",
            "wanda+dsnot",
            arm,
            margin=-math.log(7.1 / 6.8),
            paper="about 7.1 against 6.8 to 7.1, LLaMA-7B",
        )
        for id_, peer, arm in (
            ("c6", "fine-tuning", "wanda+fine-tuning"),
            ("c6-lora", "LoRA", "wanda+LoRA"),
        )
    ]
    return tuple(claims)
