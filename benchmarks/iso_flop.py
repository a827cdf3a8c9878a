"""Sparse-IFT on a CPU: what layers of equal multiply-accumulates cost, and what moving masks costs.

Equal counts are theory: a masked kernel multiplies by its zeros, so that these layers take longer
than the dense one, and their ratios are below 1 without a goal. The masks have goals, the
method card's: a step that moves them may take as long as two without masks, one that only holds
them a tenth longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from _timing import interleaved, row
from rarefy.weights import SET, DynamicMasks, Masks, RigL, Rule, Static, iso_flop

FAMILIES: tuple[Literal["wide", "parallel", "factorized", "doped"], ...]
FAMILIES = ("wide", "parallel", "factorized", "doped")
WIDTH, ROWS = 256, 256
NEVER = 10**9


def rows() -> list[dict[str, Any]]:
    """Every comparison of Sparse-IFT, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*family_rows(0.5), *family_rows(0.75), *mask_rows()]
    finally:
        torch.set_num_threads(threads)


def family_rows(sparsity: float) -> list[dict[str, Any]]:
    """A training step of four square layers and of what replaces them."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU()]
    dense = nn.Sequential(*layers)
    x = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
    steps = [_step(dense, x, None)]
    for family in FAMILIES:
        made = iso_flop(
            dense,
            x[:1],
            family=family,
            sparsity=sparsity,
            keep_dense=(),
            generator=torch.Generator().manual_seed(0),
        )
        if abs(made.macs / made.dense_macs - 1) > 1e-3:
            raise RuntimeError(f"{family} does not cost what the dense network does")
        steps.append(_step(made.model, x, made.masks, Static()))
    plain, *others = interleaved(*steps, repeats=9, warmup=2)
    return [
        row(
            f"iso_flop.{family}.{100 * sparsity:.0f}.step",
            "the dense network of equal multiply-accumulates",
            seconds,
            plain,
            None,
        )
        for family, seconds in zip(FAMILIES, others, strict=True)
    ]


def mask_rows(sparsity: float = 0.5) -> list[dict[str, Any]]:
    """A small Llama with wide, sparse MLPs: steps that hold the masks, and steps that move them."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    ids = torch.randint(256, (16, 64), generator=torch.Generator().manual_seed(0))

    def wide() -> tuple[nn.Module, Masks]:
        made = iso_flop(
            LlamaForCausalLM(config),
            {"input_ids": ids[:1], "use_cache": False},
            family="wide",
            sparsity=sparsity,
            widen=("*gate_proj*", "*up_proj*"),
            keep_dense=(),
            generator=torch.Generator().manual_seed(0),
        )
        return made.model, made.masks

    steps = [
        _step(wide()[0], ids, None),
        _step(*_placed(wide(), ids), RigL(), every=NEVER),
        _step(*_placed(wide(), ids), RigL(), every=1),
        _step(*_placed(wide(), ids), SET(), every=1),
    ]
    plain, held, rigl, set_ = interleaved(*steps, repeats=15, warmup=3)
    name, peer = "iso_flop.masks", "the same step without masks"
    return [
        row(f"{name}.held", peer, held, plain, 1 / 1.1),
        row(f"{name}.moved-rigl", peer, rigl, plain, 0.5),
        row(f"{name}.moved-set", peer, set_, plain, 0.5),
    ]


def _placed(made: tuple[nn.Module, Masks], ids: torch.Tensor) -> tuple[Any, Any, Any]:
    return made[0], ids, made[1]


def _step(
    model: nn.Module,
    x: torch.Tensor,
    masks: Masks | None,
    rule: Rule | None = None,
    every: int = NEVER,
) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    if masks is not None and rule is not None:
        DynamicMasks(
            model,
            masks,
            optimizer,
            rule=rule,
            steps=NEVER,
            every=every,
            generator=torch.Generator().manual_seed(0),
        )

    def step() -> None:
        optimizer.zero_grad()
        if x.is_floating_point():
            model(x).square().mean().backward()
        else:
            model(input_ids=x, labels=x).loss.backward()
        optimizer.step()

    return step
