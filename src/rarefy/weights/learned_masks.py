"""Masks that are learned: every weight has a score, and the largest scores say what is kept.

    w~ = w m,    m = TopK(|S|, k)
    backward, the step of TopK taken as the identity:    dL/dw = m g,    dL/dS = w g sign(S)

with g = dL/dw~. The scores begin as ``sqrt(6 / fan_in) w / max|w|``, so the first mask is the
magnitude mask.

Source: the sparse convolution and linear operations of Mousavi et al. 2022, "DASS" (arXiv
2207.06968), in the form of Ramanujan et al. 2020 and Sehwag et al. 2020 (HYDRA). Departures: what
the paper leaves open follows HYDRA's code, where the gradient passes through ``|S|`` and so carries
its sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim.lr_scheduler import CosineAnnealingLR

from rarefy.budget import ErdosRenyiKernel
from rarefy.operators import TopK
from rarefy.weights.finetune import check_loss
from rarefy.weights.from_scores import check_density
from rarefy.weights.masks import Masks
from rarefy.weights.scores import Loss
from rarefy.weights.select import Chooser, input_axis, select


class LearnedMask(nn.Module):
    """Parametrization ``w -> w TopK(|scores|, k)`` for ``torch.nn.utils.parametrize``.

    Parameters
    ----------
    scores : Tensor
        Of the weight's shape; copied.
    k : int
        How many weights are kept, always exactly.

    Attributes
    ----------
    scores : nn.Parameter
    on : bool
        While it is off the weight passes as it is.

    Examples
    --------
    >>> layer = nn.Linear(2, 2, bias=False)
    >>> mask = LearnedMask(torch.tensor([[1.0, -3.0], [2.0, 0.5]]), k=2)
    >>> _ = parametrize.register_parametrization(layer, "weight", mask)
    >>> (layer.weight != 0).tolist()
    [[False, True], [True, False]]
    """

    _pruned: Tensor

    def __init__(self, scores: Tensor, k: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores.detach().clone())
        self.k = k
        self.on = True
        self.register_buffer("_pruned", ~self._keep(), persistent=False)
        self._seen: tuple[int, int] | None = None

    @property
    def mask(self) -> Tensor:
        """What is kept now."""
        return ~self.pruned

    @property
    def pruned(self) -> Tensor:
        """What is pruned now; frozen scores are ranked once."""
        if self.scores.requires_grad or self._seen != self._state():
            self._pruned = ~self._keep()
            # None while they learn: a fused optimizer's step does not raise the version.
            self._seen = None if self.scores.requires_grad else self._state()
        return self._pruned

    def resize(self, k: int) -> None:
        """Keep another number of weights from now on."""
        self.k = k
        self._pruned = ~self._keep()

    def forward(self, weight: Tensor) -> Tensor:
        """Zero what is not among the k best."""
        if not self.on:
            return weight
        if not self.scores.requires_grad:
            return weight.masked_fill(self.pruned, 0)
        return _StraightThrough.apply(weight, self.scores, self.pruned)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Store a weight as it is given."""
        return weight

    def _keep(self) -> Tensor:
        return TopK(self.k, axis=None).mask(self.scores.detach())

    def _state(self) -> tuple[int, int]:
        # An in-place change raises the version; a copy of the module has a tensor of its own.
        return id(self.scores), self.scores._version


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, pruned: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scores, pruned)
        return weight.masked_fill(pruned, 0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weight, scores, pruned = ctx.saved_tensors
        for_weight, for_scores, _ = ctx.needs_input_grad
        return (
            grad.masked_fill(pruned, 0) if for_weight else None,
            grad * weight * scores.sign() if for_scores else None,
            None,
        )


class LearnedMasks:
    """A :class:`LearnedMask` on every prunable weight of a model; also a context manager.

    Weights and scores are trained by optimizers of their own: the weights are the model's
    parameters of before, and the scores are in :attr:`scores`. ``requires_grad_(False)`` on the
    scores freezes the masks, and makes them free.

    Parameters
    ----------
    model : nn.Module
    density, sparsity : float
        Exactly one of the two, over all masked weights together.
    rule : allocation rule, default ``ErdosRenyiKernel()``
        From :mod:`rarefy.budget`: how many each tensor keeps. It leaves depthwise kernels dense,
        which at a uniform few per cent would lose whole channels.
    include, exclude
        As for :func:`rarefy.weights.select`.

    Attributes
    ----------
    scores : list of nn.Parameter

    Raises
    ------
    ValueError
        If the density is out of range, a weight is NaN or nothing is selected.

    Examples
    --------
    >>> layer = nn.Linear(8, 4)
    >>> with LearnedMasks(layer, density=0.25) as held:
    ...     sgd = torch.optim.SGD(held.scores, lr=0.1)
    ...     layer(torch.ones(2, 8)).square().sum().backward()
    ...     sgd.step()
    ...     masks = held.masks
    >>> masks.nnz
    8
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        density: float | None = None,
        sparsity: float | None = None,
        rule: Callable[..., dict[str, int]] = ErdosRenyiKernel(),  # noqa: B008 - a frozen constant
        include: Chooser = "*",
        exclude: Chooser = (),
    ) -> None:
        density = check_density(density=density, sparsity=sparsity)
        weights = select(model, include=include, exclude=exclude)
        for name, weight in weights.items():
            if bool(weight.isnan().any()):
                raise ValueError(f"the weights of {name} hold NaN: no scores can begin from them")
        self._weights, self._rule = weights, rule
        counts = self._counts(density)
        self._owners = {name: _owner(model, name) for name in weights}
        self._parts = {
            name: LearnedMask(_initial_scores(w, self._owners[name][0]), counts[name])
            for name, w in weights.items()
        }
        for name, part in self._parts.items():
            # unsafe: skips a trial run that only checks what LearnedMask guarantees.
            parametrize.register_parametrization(*self._owners[name], part, unsafe=True)

    @property
    def scores(self) -> list[nn.Parameter]:
        """The scores, in the order of the weights."""
        return [part.scores for part in self._parts.values()]

    @property
    def masks(self) -> Masks:
        """What is kept now, by the names that the weights have without masks."""
        return Masks({name: part.mask for name, part in self._parts.items()})

    @torch.no_grad()
    def reset(self) -> None:
        """Set the scores from the weights as they are now: magnitude masks."""
        for name, part in self._parts.items():
            part.scores.copy_(_initial_scores(self._weights[name], self._owners[name][0]))

    def resize(self, *, density: float | None = None, sparsity: float | None = None) -> None:
        """Let the rule say anew how many weights each tensor keeps; the scores stay.

        Parameters
        ----------
        density, sparsity : float
            Exactly one of the two, as for the class.
        """
        for name, k in self._counts(check_density(density=density, sparsity=sparsity)).items():
            self._parts[name].resize(k)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Let the weights pass as they are, for as long as this lasts."""
        self._switch(False)
        try:
            yield
        finally:
            self._switch(True)

    def detach(self) -> None:
        """Take the masks off, leaving the model's own weights, not zeroed."""
        for owner, attribute in self._owners.values():
            parametrize.remove_parametrizations(owner, attribute, leave_parametrized=False)

    def __enter__(self) -> LearnedMasks:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def _counts(self, density: float) -> dict[str, int]:
        shapes = {name: tuple(w.shape) for name, w in self._weights.items()}
        return self._rule(shapes, density=density)

    def _switch(self, on: bool) -> None:
        for part in self._parts.values():
            part.on = on


def prune_by_scores(
    model: nn.Module,
    batches: Sequence[Any],
    loss: Loss,
    *,
    density: float | None = None,
    sparsity: float | None = None,
    rule: Callable[..., dict[str, int]] = ErdosRenyiKernel(),  # noqa: B008 - a frozen constant
    include: Chooser = "*",
    exclude: Chooser = (),
    lr: float = 0.1,
    momentum: float = 0.9,
    clip: float = 5.0,
) -> Masks:
    """Find the masks under which the weights, as they are, have the least loss.

    Step two of train, prune, fine-tune; :func:`rarefy.weights.finetune` does the others. One step
    of SGD on the scores a batch, its rate falling to 0 as a half cosine.

    Parameters
    ----------
    model : nn.Module
        Its weights are not changed; running statistics of its norms follow the masked model.
    batches : sequence
        Each is handed to ``loss``; their number is the number of steps. None leaves the magnitude
        masks of the rule.
    loss : callable ``(model, batch) -> scalar Tensor``
    density, sparsity, rule, include, exclude
        As for :class:`LearnedMasks`.
    lr : float, default 0.1
        The gradient of a score grows with its weight: small networks want 0.02.
    momentum : float, default 0.9
    clip : float, default 5.0
        Largest norm of the gradient.

    Returns
    -------
    Masks

    Raises
    ------
    ValueError
        As :class:`LearnedMasks`, or if the loss is not finite.

    Examples
    --------
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[2.0, 1.9]]))
    >>> masks = prune_by_scores(
    ...     layer,
    ...     [torch.tensor([[3.0, 1.0]])] * 20,
    ...     lambda net, x: (net(x) - 1.9).square().sum(),
    ...     density=0.5,
    ... )
    >>> masks["weight"].tolist()
    [[False, True]]
    """
    training = model.training
    model.train()
    with LearnedMasks(
        model, density=density, sparsity=sparsity, rule=rule, include=include, exclude=exclude
    ) as held:
        optimizer = torch.optim.SGD(held.scores, lr=lr, momentum=momentum)
        falling = CosineAnnealingLR(optimizer, max(len(batches), 1))
        for batch in batches:
            value = loss(model, batch)
            check_loss(value, falling.last_epoch)
            step_scores(held, optimizer, value, clip=clip)
            falling.step()
        masks = held.masks
    model.train(training)
    return masks


def step_scores(
    held: LearnedMasks, optimizer: torch.optim.Optimizer, loss: Tensor, *, clip: float
) -> None:
    """Take one step on the scores alone: no weight receives a gradient."""
    for score, grad in zip(
        held.scores, torch.autograd.grad(loss, held.scores, allow_unused=True), strict=True
    ):
        score.grad = grad
    nn.utils.clip_grad_norm_(held.scores, clip)
    optimizer.step()


@torch.no_grad()
def _initial_scores(weight: Tensor, owner: nn.Module) -> Tensor:
    fan_in = max(1, weight.numel() // weight.shape[1 - input_axis(owner)])
    largest = weight.abs().amax().clamp_min(torch.finfo(weight.dtype).tiny)
    return math.sqrt(6 / fan_in) * weight / largest


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    prefix, _, attribute = name.rpartition(".")
    return model.get_submodule(prefix), attribute
