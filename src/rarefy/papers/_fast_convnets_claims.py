"""What paper 38 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim


def fast_convnets_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    return (*_networks(), *_kernels(), *_blocks(), *_placement(), *_frontier(), *_cache_aware())


def _networks() -> list[Claim]:
    faster = partial(Claim, metric="clock_speedup", better="higher", margin=1.3)
    paper = "1.3 to 2.4 times on one Snapdragon 835 core, at equal accuracy"
    same = partial(Claim, metric="off", margin=1e-4, deterministic=True)
    named = (
        ("v1", "network: MobileNet v1, 90 %", "MobileNet v1 at 90 %"),
        ("v2", "network: MobileNet v2, 85 %", "MobileNet v2 at 85 %"),
        ("lite", "network: EfficientNet-Lite0, 80 %", "EfficientNet-Lite0 at 80 %"),
    )
    return [
        *(
            faster(
                id=f"c1-{short}",
                arm=arm,
                paper=paper,
                text=f"{name} runs at least 1.3 times as fast as dense torch in its best layout.",
            )
            for short, arm, name in named
        ),
        *(
            same(
                id=f"same-{short}",
                arm=arm,
                text=f"{name} gives the masked dense network's outputs (to 1e-4 of the largest).",
            )
            for short, arm, name in named
        ),
    ]


def _kernels() -> list[Claim]:
    at_least = partial(Claim, arm="kernels", better="higher")
    return [
        at_least(
            id="c2-70",
            metric="clock_speedup_70_block_1",
            margin=1.0,
            text="At 70 % the sparse product is no slower than the dense one, over five layers.",
            paper="ahead from about 70 to 80 %",
        ),
        at_least(
            id="c2-80",
            metric="clock_speedup_80_block_1",
            margin=1.2,
            text="At 80 % it is at least 1.2 times as fast.",
        ),
        at_least(
            id="c2-90",
            metric="clock_speedup_90_block_1",
            margin=2.5,
            text="At 90 % it is at least 2.5 times as fast.",
        ),
        at_least(
            id="c2-scipy",
            metric="clock_over_scipy",
            margin=2.0,
            text="From 80 to 95 % it is at least twice as fast as SciPy's CSR, on every layer.",
            paper="clearly faster than TACO's code",
        ),
        at_least(
            id="c2-torch-csr",
            metric="clock_over_torch_csr",
            margin=2.0,
            text="From 80 to 95 % it is at least twice as fast as torch's CSR, on every layer.",
            paper="clearly faster than Intel MKL's sparse product",
        ),
        Claim(
            id="c2-auto",
            metric="clock_speedup",
            arm="network: MobileNet v1, 50 %",
            better="higher",
            margin=0.95,
            text="A network that is not sparse enough loses at most 5 % to dense torch.",
        ),
    ]


def _blocks() -> list[Claim]:
    equal = partial(
        Claim,
        metric="accuracy",
        better="higher",
        margin=-0.015,
        paper="input and output blocks cost the same accuracy",
    )
    output, inputs = "blocks of 4", "blocks of 4 inputs"
    return [
        Claim(
            id="c3-speed",
            metric="clock_block_4_over_1",
            arm="kernels",
            better="higher",
            margin=1.3,
            text="At 90 %, blocks of 4 output channels are 1.3 times as fast as single weights.",
        ),
        equal(
            id="c3-output",
            arm=output,
            versus=inputs,
            text="Blocks over output channels lose at most 1.5 points to blocks over inputs.",
        ),
        equal(
            id="c3-input",
            arm=inputs,
            versus=output,
            text="Blocks over input channels lose at most 1.5 points to blocks over outputs.",
        ),
    ]


def _placement() -> list[Claim]:
    late = partial(
        Claim,
        arm="blocks of 4, late",
        versus="blocks of 4, early",
        better="higher",
        paper="MobileNet v1: blocks of 4 in the last block only",
    )
    return [
        late(
            id="c4",
            metric="clock_gain_per_point",
            text="Late blocks gain more speed for a point of accuracy than early ones.",
        ),
        late(
            id="c4-accuracy",
            metric="accuracy",
            text="Blocks in late layers cost less accuracy than blocks in early ones.",
        ),
    ]


def _frontier() -> list[Claim]:
    wide = partial(Claim, arm="sparse 0.5")
    return [
        wide(
            id="c5-accuracy",
            metric="accuracy",
            versus="dense 0.125",
            better="higher",
            text="Half as wide at 90 % is more accurate than an eighth as wide and dense ...",
            paper="MobileNet v1 at 90 %: 68.4 % in 31 ms, 0.75 wide 64.4 % in 21 ms",
        ),
        wide(
            id="c5-latency",
            metric="clock_relative",
            versus="dense 0.125",
            kind="ratio",
            text="... and faster: a point of the dense curve is beaten on both sides.",
        ),
        wide(
            id="c5-equal",
            metric="accuracy",
            versus="dense 0.25",
            better="higher",
            margin=-0.015,
            text="Half as wide at 90 % is as accurate as a quarter as wide, dense (1.5 points) ...",
        ),
        wide(
            id="c5-faster",
            metric="clock_relative",
            versus="dense 0.25",
            kind="ratio",
            text="... and faster.",
        ),
    ]


def _cache_aware() -> list[Claim]:
    return [
        Claim(
            id="c6-latency",
            metric="clock_over_plain",
            arm="network: MobileNet v2 cache-aware, 85 %",
            better="higher",
            margin=1.0,
            text="MobileNet v2 with expansions that fit the first cache is faster, sparse at 85 %.",
            paper="1.0: 69.7 % in 33 ms, against 1.15: 70.2 % in 40 ms",
        ),
        Claim(
            id="c6-accuracy",
            metric="accuracy",
            arm="v2 cache-aware",
            versus="v2",
            better="higher",
            margin=-0.015,
            text="It is as accurate (to 1.5 points).",
        ),
    ]
