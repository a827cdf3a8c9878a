"""The doctor: tracing paths beside what one would write without it, and its time on 25M parameters.

Ratios over 1 mean ours is faster. The peers find the same weights, or the benchmark stops. The two
limits are the method card's, in seconds, for ResNet-50 with random masks.
"""

from __future__ import annotations

from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn

from _timing import interleaved
from rarefy.budget import Uniform
from rarefy.weights import Masks, diagnose, effective_masks, random_masks

SIZES = (784, 1024, 1024, 10)
TRACING, DIAGNOSING = 3.0, 5.0


def rows() -> list[dict[str, Any]]:
    """Every comparison of the doctor, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*path_rows(), *resnet_rows()]
    finally:
        torch.set_num_threads(threads)


def path_rows() -> list[dict[str, Any]]:
    """A perceptron on images of 28 x 28 pixels, at 1 %."""
    modules: list[nn.Module] = []
    for inputs, outputs in zip(SIZES, SIZES[1:], strict=False):
        modules += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*modules[:-1])
    generator = torch.Generator().manual_seed(0)
    masks = random_masks(model, density=0.01, rule=Uniform(), generator=generator)
    x = torch.ones(1, SIZES[0])

    def ours() -> Masks:
        return effective_masks(model, masks, x)

    peers = {"networkx reachability": by_graph, "a loop over units": by_loop}
    for name, peer in peers.items():
        if any(ours()[layer].ne(mask).any() for layer, mask in peer(masks).items()):
            raise RuntimeError(f"effective masks and {name} disagree")
    seconds = interleaved(ours, *(lambda p=p: p(masks) for p in peers.values()), repeats=5)
    quick, *slow = seconds
    return [
        _row("doctor.paths.mlp", name, quick, other, 1.0)
        for name, other in zip(peers, slow, strict=True)
    ]


def by_graph(masks: Masks) -> dict[str, Tensor]:
    """One edge a kept weight; those between what inputs reach and what reaches outputs."""
    graph = nx.DiGraph()
    edges = {}
    for depth, (name, mask) in enumerate(masks.items()):
        edges[name] = [((depth, i), (depth + 1, o)) for o, i in mask.nonzero().tolist()]
        graph.add_edges_from(edges[name])
    graph.add_edges_from(("in", (0, i)) for i in range(SIZES[0]))
    graph.add_edges_from(((len(masks), o), "out") for o in range(SIZES[-1]))
    reached, reaching = nx.descendants(graph, "in"), nx.ancestors(graph, "out")
    found = {}
    for name, mask in masks.items():
        found[name] = torch.zeros_like(mask)
        for source, target in edges[name]:
            if source in reached and target in reaching:
                found[name][target[1], source[1]] = True
    return found


def by_loop(masks: Masks) -> dict[str, Tensor]:
    """Unit by unit, forwards and then backwards."""
    layers = list(masks.values())
    ahead = [torch.ones(SIZES[0], dtype=torch.bool)]
    for mask in layers:
        ahead.append(torch.stack([(row & ahead[-1]).any() for row in mask]))
    behind = [torch.ones(SIZES[-1], dtype=torch.bool)]
    for mask in reversed(layers):
        behind.append(torch.stack([(column & behind[-1]).any() for column in mask.T]))
    return {
        name: mask & before & after[:, None]
        for (name, mask), before, after in zip(
            masks.items(), ahead, reversed(behind[:-1]), strict=False
        )
    }


def resnet_rows() -> list[dict[str, Any]]:
    """ResNet-50 at 10 %: paths alone, the whole diagnosis, and the latter beside a forward pass."""
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    model = ResNetForImageClassification(ResNetConfig(num_labels=1000)).eval()
    generator = torch.Generator().manual_seed(0)
    masks = random_masks(model, density=0.1, generator=generator)
    masks.apply_(model)
    x = torch.ones(1, 3, 224, 224)

    @torch.no_grad()
    def forward() -> None:
        model(x)

    tracing, diagnosing, passing = interleaved(
        lambda: effective_masks(model, masks, x),
        lambda: diagnose(model, masks, inputs=x),
        forward,
        repeats=3,
        warmup=1,
    )
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    return [
        _row("doctor.paths.resnet50", "the card's limit", tracing, TRACING, 1.0),
        _row("doctor.diagnose.resnet50", "the card's limit", diagnosing, DIAGNOSING, 1.0),
        _row("doctor.diagnose.per-million", "a forward pass", diagnosing, passing, None, millions),
    ]


def _row(
    name: str, peer: str, ours: float, theirs: float, goal: float | None, share: float = 1.0
) -> dict[str, Any]:
    return {
        "name": name,
        "peer": peer,
        "ours": ours / share,
        "theirs": theirs / share,
        "unit": "s",
        "ratio": theirs / ours,
        "goal": goal,
    }
