"""The large network of paper 20, which is examined but not trained: ResNet-50's size, or yours."""

from __future__ import annotations

import copy
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from rarefy.models import example_inputs, open_network
from rarefy.papers._recipe import Trial
from rarefy.weights import Masks, diagnose, effective_masks, random_masks

_DENSITY = 0.1
_DENSE = 0.99
"""Share of weights that are not zero from which a network counts as not pruned yet."""


class Large(NamedTuple):
    """A network that is examined but not trained, and what it is called with."""

    model: nn.Module
    inputs: Any


def opened(name: str | None, trial: Trial) -> Large:
    """Open the network that is examined but not trained: one of ResNet-50's size by default."""
    if name is None:
        from transformers import ResNetConfig, ResNetForImageClassification

        sizes = trial.pick(
            smoke={"hidden_sizes": [16, 32], "depths": [1, 1], "embedding_size": 8},
            default={},
            full={},
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(trial.seed)
            model = ResNetForImageClassification(ResNetConfig(num_labels=1000, **sizes))
        return Large(model, {"pixel_values": torch.ones(1, 3, 224, 224)})
    if find_spec("torchvision"):
        from torchvision.models import get_model, list_models

        if name in list_models():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(trial.seed)
                # Sizes and structure matter here, trained weights do not.
                return Large(get_model(name, weights=None).eval(), torch.ones(1, 3, 224, 224))
    elif not Path(name).exists() and "/" not in name:
        raise ValueError(
            f"model must be a model folder or a hub name such as owner/name, got {name!r}; if that "
            "is a network of torchvision's, install torchvision"
        )
    network = open_network(name)
    inputs = example_inputs(network)
    if inputs is None:
        raise ValueError(f"model {name!r} reads neither tokens nor images: it cannot be run here")
    return Large(network, inputs)


def large(given: Large, trial: Trial) -> dict[str, float]:
    """Time effective masks and a diagnosis of the large network, and count what was found."""
    model = copy.deepcopy(given.model)
    masks = Masks.from_zeros(model)
    if masks.density() > _DENSE:
        masks = random_masks(model, density=_DENSITY, generator=trial.generator())
        masks.apply_(model)
    start = time.perf_counter()
    effective = effective_masks(model, masks, given.inputs)
    middle = time.perf_counter()
    found = diagnose(model, masks, inputs=given.inputs)
    end = time.perf_counter()
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "density": masks.density(),
        "effective_density": effective.density(),
        "macs_share": found.macs_share or 0.0,
        "errors": sum(finding.severity == "error" for finding in found.findings),
        "clock_effective_seconds": middle - start,
        "clock_diagnose_seconds": end - middle,
    }
