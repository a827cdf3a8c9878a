"""What paper 25 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim


def dass_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    accurate = partial(Claim, metric="accuracy", arm="dass", better="higher")
    exact = partial(Claim, deterministic=True, margin=0.05, metric="nnz_off")
    return (
        accurate(
            id="c1",
            versus="mobilenet-v2",
            text="With as many weights left, a DASS network beats a pruned MobileNet-v2.",
            paper="CIFAR-10: 81.35 against 73.44 %",
        ),
        accurate(
            id="c1-resnet",
            versus="resnet-8",
            text="And a pruned ResNet-8.",
        ),
        Claim(
            id="c2-macs",
            metric="macs_ratio",
            arm="mobilenet-v2, matched",
            better="higher",
            margin=1.5,
            text="It takes at least 1.5 times fewer multiply-accumulates than a pruned "
            "MobileNet-v2 as accurate to a point.",
        ),
        Claim(
            id="c2-latency",
            metric="clock_speedup",
            arm="mobilenet-v2, matched",
            better="higher",
            margin=1.0,
            text="It is no slower than that network, both in dense kernels.",
            paper="3.87 times faster",
        ),
        accurate(
            id="c3-darts",
            versus="darts",
            text="With as many weights left, it beats the network that dense DARTS finds.",
        ),
        accurate(
            id="c3-random",
            versus="random",
            text="With as many weights left, it beats networks of random cells.",
        ),
        Claim(
            id="c3-drop",
            metric="drop",
            arm="dass",
            versus="darts",
            margin=-0.01,
            text="Pruning costs it no more accuracy than DARTS's network, to a point.",
        ),
        accurate(
            id="c4-objective",
            versus="sparse operations only",
            text="The sparse objective matters: it beats sparse operations under a dense one.",
        ),
        accurate(
            id="c4-operations",
            versus="sparse objective only",
            text="Sparse operations matter: it beats a magnitude-pruned objective on dense ones.",
        ),
        *(
            exact(
                id=f"size-{arm}",
                arm=arm,
                text=f"The comparison is fair: {arm} keeps as many weights as asked for (to 5 %).",
            )
            for arm in ("random", "darts", "dass", "mobilenet-v2", "resnet-8")
        ),
        Claim(
            id="masks",
            metric="mask_violations",
            arm="dass",
            deterministic=True,
            text="Pruned weights are zero after fine-tuning.",
        ),
        Claim(
            id="cost-search",
            metric="clock_search_ratio",
            arm="dass",
            margin=1.6,
            text="An epoch of the search with masks takes at most 1.6 times one without.",
        ),
    )
