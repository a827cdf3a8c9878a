"""Open a causal language model: rarefy's shipped one, a user's folder, or a hub name.

One road for all three, ``AutoModelForCausalLM.from_pretrained``, so what works on the shipped
model works on a user's. Nothing in a folder is executed: no remote code, and a pickled checkpoint
is read with ``weights_only`` or not at all.
"""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHIPPED = Path(__file__).parent / "shipped"
"""Folder of the models in the package; each is an ordinary ``save_pretrained`` folder."""

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


class LanguageModel(NamedTuple):
    """A causal language model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def open_model(
    path: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = "auto",
) -> LanguageModel:
    """Open a causal language model for evaluation.

    Parameters
    ----------
    path : path or str, optional
        A folder written by ``save_pretrained``, or a hub name such as ``"org/name"`` (only asked
        for when no such folder exists). ``None`` opens the shipped code model.
    device : str or torch.device, default "cpu"
    dtype : torch.dtype or "auto", default "auto"
        ``"auto"`` keeps the type the weights are stored in.

    Returns
    -------
    LanguageModel
        ``(model, tokenizer)``, the model in evaluation mode.

    Raises
    ------
    FileNotFoundError
        If ``path`` is neither a folder nor a hub name.
    ValueError
        If the folder is no causal language model, or its weights are missing, corrupt or unsafe;
        or if this machine has no such device.
    """
    _check_device(device)
    return _from_pretrained(_source(path), device=device, dtype=dtype)


def open_network(
    path: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = "auto",
) -> PreTrainedModel:
    """Open any transformers model for evaluation, as the class its config names; no tokenizer.

    Parameters, refusals and safety are those of :func:`open_model`.
    """
    import transformers

    _check_device(device)
    source = _source(path)
    try:
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"the config of {source} cannot be read: {_first_line(error)}") from error
    named = getattr(transformers, (config.architectures or ["AutoModel"])[0], None)
    auto = transformers.AutoModel if named is None else named
    model = _weights(auto, source, "a transformers model", dtype)
    return model.eval().to(device)


def example_inputs(model: PreTrainedModel) -> dict[str, torch.Tensor] | None:
    """Make the smallest input that a transformers model runs on.

    Parameters
    ----------
    model : transformers.PreTrainedModel

    Returns
    -------
    dict of str to Tensor, or None
        Token ids of zero or an image of ones; ``None`` where the model wants something else.
    """
    config, device = model.config, model.device
    if model.main_input_name == "input_ids":
        ids = torch.zeros(1, 8, dtype=torch.long, device=device)
        inputs = {"input_ids": ids}
        return inputs | {"decoder_input_ids": ids} if config.is_encoder_decoder else inputs
    if model.main_input_name == "pixel_values":
        size = getattr(config, "image_size", 224)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        shape = (1, getattr(config, "num_channels", 3), height, width)
        return {"pixel_values": torch.ones(shape, dtype=model.dtype, device=device)}
    return None


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {str(device)!r} cannot be used here: {_first_line(error)}"
        ) from error


def _source(path: str | os.PathLike[str] | None) -> str:
    source = SHIPPED / "code" if path is None else Path(path)
    if source.is_dir():
        if not (source / "config.json").is_file():
            raise ValueError(f"{source} is no model folder: it has no config.json")
    elif source.exists():
        raise ValueError(f"{source} is a file: a model folder (config.json, safetensors) is wanted")
    elif not _HUB_NAME.fullmatch(os.fspath(source)):
        raise FileNotFoundError(f"no such model folder: {source}")
    return os.fspath(source)


def _from_pretrained(
    source: str, *, device: str | torch.device, dtype: torch.dtype | str
) -> LanguageModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = _weights(AutoModelForCausalLM, source, "a causal language model", dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source} has no usable tokenizer: {_first_line(error)}") from error
    rows = model.get_input_embeddings().weight.shape[0]
    if not 0 < tokenizer.vocab_size <= rows:
        raise ValueError(
            f"{source} has no usable tokenizer: its vocabulary has {tokenizer.vocab_size} tokens, "
            f"the model's embedding {rows}"
        )
    return LanguageModel(model.eval().to(device), tokenizer)


def _weights(auto: Any, source: str, kind: str, dtype: torch.dtype | str) -> PreTrainedModel:
    from safetensors import SafetensorError

    try:
        model, loading = auto.from_pretrained(
            source,
            dtype=dtype,
            trust_remote_code=False,
            # Mismatches are refused below, with a sentence of ours.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except pickle.UnpicklingError as error:
        # torch's own message suggests to switch the protection off; ours must not.
        raise ValueError(
            f"the weights of {source} are a pickle that holds more than tensors, and is not "
            "opened because it could run code: safetensors are wanted"
        ) from error
    except (SafetensorError, EOFError) as error:
        raise ValueError(f"the weights of {source} cannot be read: {_first_line(error)}") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{source} does not open as {kind}: {_first_line(error)}") from error
    if mismatched := sorted(loading["mismatched_keys"]):
        name, found, wanted = mismatched[0]
        raise ValueError(
            f"the weights of {source} do not fit its config.json: {name} has shape "
            f"{tuple(found)}, the config wants {tuple(wanted)}"
        )
    if missing := sorted(loading["missing_keys"]):
        raise ValueError(
            f"the weights of {source} lack {len(missing)} of the model's tensors, {missing[0]} "
            "among them: a complete checkpoint is wanted"
        )
    return model


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Find the list of transformer blocks: ``model.model.layers``, ``transformer.h`` and their kin.

    The outermost ``nn.ModuleList`` of which every entry holds a matrix-valued weight. That is the
    block list in the Llama, Mistral, Qwen, GPT-2, OPT, GPT-NeoX and BERT families, by structure
    rather than by name.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    nn.ModuleList
        The model's own list, in the order the blocks run.

    Raises
    ------
    ValueError
        If there is none.
    """
    for module in model.modules():
        if (
            isinstance(module, nn.ModuleList)
            and len(module)
            and all(any(p.ndim >= 2 for p in block.parameters()) for block in module)
        ):
            return module
    raise ValueError(
        f"{type(model).__name__} has no list of transformer blocks with linear layers: "
        "a model of the Llama, Mistral, Qwen, GPT-2 or OPT kind is wanted"
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
