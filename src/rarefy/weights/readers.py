"""Read masks that other tools have put on a model.

``torch.nn.utils.prune`` keeps ``weight_orig`` and a buffer ``weight_mask``; ``torch.ao.pruning``
a ``FakeSparsity`` parametrization with a ``mask``. Departures: none.
"""

from __future__ import annotations

from torch import Tensor, nn

from rarefy.weights.masks import Masks


def from_torch_prune(model: nn.Module) -> Masks:
    """Read the masks of ``torch.nn.utils.prune``.

    Parameters
    ----------
    model : nn.Module
        Not changed; ``prune.remove`` makes its zeros permanent.

    Returns
    -------
    Masks
        Under the names the weights have once the pruning is removed.

    Raises
    ------
    ValueError
        If there are none.
    """
    found = {
        name.removesuffix("_mask"): buffer.bool()
        for name, buffer in model.named_buffers()
        if name.endswith("_mask") and hasattr(*_split(model, name.removesuffix("_mask") + "_orig"))
    }
    return _some(found, "torch.nn.utils.prune")


def from_ao(model: nn.Module) -> Masks:
    """Read the masks of a ``torch.ao.pruning`` sparsifier; as :func:`from_torch_prune`."""
    from torch.ao.pruning import FakeSparsity

    found = {
        name.replace("parametrizations.", "").rpartition(".")[0]: step.get_buffer("mask").bool()
        for name, step in model.named_modules()
        if isinstance(step, FakeSparsity)
    }
    return _some(found, "torch.ao.pruning")


def _split(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    prefix, _, attribute = name.rpartition(".")
    return model.get_submodule(prefix), attribute


def _some(found: dict[str, Tensor], tool: str) -> Masks:
    if not found:
        raise ValueError(f"no mask of {tool} is on this model")
    return Masks(found)
