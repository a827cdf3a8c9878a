"""Run calibration text through a language model block by block, with statistics at every layer.

For block b, its inputs coming from the already pruned blocks 0 .. b-1:
run it dense and watch what each linear layer reads; hand each layer to ``visit`` with its
statistics; run it again, pruned, for the inputs of block b + 1.

Source: the layer loop of SparseGPT (Frantar and Alistarh 2023), Wanda and DSnoT's public code.
Departures: every block gets the arguments (positions, masks) the model itself would give it,
taken from one pass of the dense model, where that code gives all blocks those of the first.

Axis letters: s sequences, t tokens, i inputs, o outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rarefy.models import decoder_layers
from rarefy.weights.attach import refuse_tied
from rarefy.weights.select import input_axis, is_conv1d

Visit = Callable[[str, nn.Module, "LayerStats"], None]
"""``visit(name, linear, stats)``; may change the layer's weight in place."""

Progress = Callable[[str, float], None]
"""``progress(what, fraction done)``."""


class LayerStats:
    """Streaming statistics of what one linear layer reads.

    Parameters
    ----------
    n_inputs : int
    gram : bool, default False
        Also gather ``sum x x'``, shape (i, i), float32.
    variance : {"exact", "batch_mean"}, default "exact"
        ``"batch_mean"`` is the released DSnoT's token-weighted mean of the variances within each
        batch, for parity: it misses what varies between batches.
    device : str or torch.device, default "cpu"

    Attributes
    ----------
    sequences, tokens : int
        How much was seen.

    Examples
    --------
    >>> stats = LayerStats(1)
    >>> stats.update(torch.tensor([[[1.0], [3.0]]]))
    >>> float(stats.mean), float(stats.variance)
    (2.0, 1.0)
    """

    def __init__(
        self,
        n_inputs: int,
        *,
        gram: bool = False,
        variance: Literal["exact", "batch_mean"] = "exact",
        device: str | torch.device = "cpu",
    ) -> None:
        if variance not in ("exact", "batch_mean"):
            raise ValueError(f"variance must be 'exact' or 'batch_mean', got {variance!r}")
        self.sequences = 0
        self.tokens = 0
        self._gram = torch.zeros(n_inputs, n_inputs, device=device) if gram else None
        self._between = variance == "exact"
        self._mean, self._scatter, self._square = (
            torch.zeros(n_inputs, dtype=torch.float64, device=device) for _ in range(3)
        )

    @torch.no_grad()
    def update(self, x: Tensor, *, sequences: int | None = None) -> None:
        """Take in a batch of inputs.

        Parameters
        ----------
        x : Tensor, shape (s, t, i) or (t, i)
        sequences : int, optional
            How many sequences the batch holds, where its shape does not tell.

        Raises
        ------
        ValueError
            If the width is wrong or an input is not finite.
        """
        if x.ndim not in (2, 3) or x.shape[-1] != len(self._mean):
            raise ValueError(
                f"inputs must have shape (sequences, tokens, {len(self._mean)}), "
                f"got {tuple(x.shape)}"
            )
        if sequences is None:
            sequences = x.shape[0] if x.ndim == 3 else 1
        rows = x.reshape(-1, x.shape[-1]).float()
        if not len(rows):
            return
        # Two passes: torch.var_mean over the first axis takes ten times as long.
        mean = rows.mean(0)
        scatter = (rows - mean).square().sum(0).double()
        if not bool(torch.isfinite(scatter).all()):
            raise ValueError("an input is not finite: activations overflow, or hold NaN")
        mean = mean.double()
        # Chan, Golub and LeVeque's update of mean and scatter by another batch.
        total = self.tokens + len(rows)
        shift = mean - self._mean
        self._mean += shift * (len(rows) / total)
        self._scatter += scatter
        if self._between:
            self._scatter += shift.square() * (self.tokens * len(rows) / total)
        self._square += scatter + mean.square() * len(rows)
        if self._gram is not None:
            self._gram.addmm_(rows.t(), rows)
        self.tokens = total
        self.sequences += sequences

    @property
    def mean(self) -> Tensor:
        """Mean of each input over tokens, float32, shape (i,)."""
        return self._per_token(self._mean)

    @property
    def mean_sum(self) -> Tensor:
        """Mean over *sequences* of the sum over tokens: DSnoT's mu, L times :attr:`mean`."""
        return self._per_token(self._mean * self.tokens / max(self.sequences, 1))

    @property
    def variance(self) -> Tensor:
        """Biased variance of each input over tokens, float32, shape (i,)."""
        return self._per_token(self._scatter / max(self.tokens, 1))

    @property
    def norm(self) -> Tensor:
        """Wanda's norm, ``sqrt(sum over tokens x^2 / sequences)``, float32, shape (i,)."""
        return self._per_token((self._square / max(self.sequences, 1)).sqrt())

    @property
    def gram(self) -> Tensor:
        """``sum x x'`` over tokens, float32, shape (i, i)."""
        if self._gram is None:
            raise ValueError("no Gram matrix was gathered: LayerStats(..., gram=True) is wanted")
        return self._gram

    def _per_token(self, value: Tensor) -> Tensor:
        if not self.tokens:
            raise ValueError("no calibration token has passed through this layer")
        return value.float()


def block_linears(model: nn.Module) -> list[dict[str, nn.Module]]:
    """Find the linear layers of each transformer block, by full module name.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    list of dict of str to nn.Module
        One dict a block, in the order the blocks run.

    Raises
    ------
    ValueError
        If there are no blocks or no linear layers in them, or a weight is tied.
    """
    blocks = list(decoder_layers(model))
    prefix = {id(module): name for name, module in model.named_modules()}
    found = [
        {
            f"{prefix[id(block)]}.{name}" if name else prefix[id(block)]: module
            for name, module in block.named_modules()
            if isinstance(module, nn.Linear) or is_conv1d(module)
        }
        for block in blocks
    ]
    if not any(found):
        raise ValueError(f"the blocks of {type(model).__name__} hold no linear layer to prune")
    refuse_tied(model, (f"{name}.weight" for linears in found for name in linears))
    return found


def out_in(linear: nn.Module) -> Tensor:
    """View a linear layer's weight as (o, i), detached; writing to the view writes the weight."""
    weight = linear.get_parameter("weight").detach()
    return weight if input_axis(linear) == 1 else weight.t()


@torch.no_grad()
def walk_blocks(
    model: nn.Module,
    windows: Tensor,
    visit: Visit,
    *,
    gram: bool = False,
    variance: Literal["exact", "batch_mean"] = "exact",
    batch: int = 8,
    progress: Progress | None = None,
) -> None:
    """Visit every linear layer of every block with its calibration statistics.

    Parameters
    ----------
    model : nn.Module
        A transformers causal language model. Its training mode is put back afterwards.
    windows : int64 Tensor, shape (s, t)
        Calibration token windows.
    visit : callable ``(name, linear, stats) -> None``
        Called once a layer, block by block; changes it makes to the weight reach later blocks.
    gram, variance
        What :class:`LayerStats` gathers.
    batch : int, default 8
        Windows a forward pass.
    progress : callable ``(what, fraction)``, optional

    Raises
    ------
    ValueError
        If ``windows`` holds no window, the model no linear layer, or a layer sees no token.
    """
    if windows.ndim != 2 or 0 in windows.shape:
        raise ValueError(
            f"calibration needs windows of shape (sequences >= 1, tokens >= 1), got "
            f"{tuple(windows.shape)}: the text is shorter than one window"
        )
    linears = block_linears(model)
    training = model.training
    model.eval()
    try:
        calls = [_block_calls(model, ids) for ids in windows.split(batch)]
        states = [_states(each[0]) for each in calls]
        for b, block in enumerate(decoder_layers(model)):
            arguments = [_without_states(each[b]) for each in calls]
            stats = _watch(block, linears[b], states, arguments, gram=gram, variance=variance)
            for name, linear in linears[b].items():
                if not stats[name].tokens:
                    raise ValueError(f"no calibration token reached {name}: more text is wanted")
                visit(name, linear, stats[name])
                if progress is not None:
                    progress(name, (b + 1) / len(linears))
            if b + 1 < len(linears):
                states = [_run(block, x, a) for x, a in zip(states, arguments, strict=True)]
    finally:
        model.train(training)


Call = tuple[tuple[Any, ...], dict[str, Any]]


class _Seen(Exception):  # noqa: N818 - a signal, not an error
    """Every block's arguments are known; the head need not run."""


def _block_calls(model: nn.Module, ids: Tensor) -> list[Call]:
    """Positional and keyword arguments with which each block is called for these tokens."""
    blocks = list(decoder_layers(model))
    calls: list[Call] = []

    def seen(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Only the first block's hidden states are needed: later ones would fill the memory.
        calls.append((args, kwargs) if not calls else _without_states((args, kwargs)))
        if len(calls) == len(blocks):
            raise _Seen

    hooks = [block.register_forward_pre_hook(seen, with_kwargs=True) for block in blocks]
    try:
        model(input_ids=ids.to(next(model.parameters()).device), use_cache=False)
    except _Seen:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _states(call: Call) -> Tensor:
    args, kwargs = call
    return args[0] if args else kwargs["hidden_states"]


def _without_states(call: Call) -> Call:
    args, kwargs = call
    return args[1:], {k: v for k, v in kwargs.items() if k != "hidden_states"}


def _run(block: nn.Module, states: Tensor, arguments: Call) -> Tensor:
    output = block(states, *arguments[0], **arguments[1])
    return output[0] if isinstance(output, tuple) else output


def _watch(
    block: nn.Module,
    linears: dict[str, nn.Module],
    states: list[Tensor],
    arguments: list[Call],
    *,
    gram: bool,
    variance: Literal["exact", "batch_mean"],
) -> dict[str, LayerStats]:
    """Run a block on every batch and gather the statistics of its linear layers."""
    weights = {name: out_in(linear) for name, linear in linears.items()}
    stats = {
        name: LayerStats(w.shape[1], gram=gram, variance=variance, device=w.device)
        for name, w in weights.items()
    }
    sequences = 0
    last: tuple[str, Tensor] | None = None

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            nonlocal last
            # Queries, keys and values read one tensor, gate and up another: one account for each.
            if last is not None and inputs[0] is last[1]:
                stats[name] = stats[last[0]]
                return
            try:
                stats[name].update(inputs[0], sequences=sequences)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            last = name, inputs[0]

        return hook

    hooks = [linear.register_forward_pre_hook(watch(name)) for name, linear in linears.items()]
    try:
        for x, a in zip(states, arguments, strict=True):
            sequences, last = len(x), None
            _run(block, x, a)
    finally:
        for hook in hooks:
            hook.remove()
    return stats
