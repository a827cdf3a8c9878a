"""Train N:M sparse weights from scratch, n of every m consecutive inputs, with masks that harden.

    forward   w~ = w (m_t + beta_t (1 - m_t)),      m_t = the n_t largest |w| of every m_t inputs
    backward  SR-STE   g + lam (1 - m) w            beta = 0, the pattern from the start
              MdGf     g (m + beta (1 - m))         beta falls from 1 to 0
              SdGf     g                            beta = 0, the pattern tightens in stages

Masks are chosen anew behind each optimizer step from the dense weights, which live on; groups run
along a layer's inputs, of convolutions along the input channels.

Source: Zhou et al. 2021 (SR-STE, arXiv 2102.04010); Bambhaniya et al. 2024 (MdGf and SdGf, arXiv
2402.04744). Departures: a geometric stage that does not divide a layer's inputs is refused; see
:mod:`rarefy.weights.nm_rules`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from rarefy.operators import NM
from rarefy.weights.attach import STRAIGHT_THROUGH, Backward, attach
from rarefy.weights.masks import Masks
from rarefy.weights.nm_rules import Flow, FlowRule, FromTheStart
from rarefy.weights.select import input_axes, select
from rarefy.weights.trainer import Saved, while_training


class NMTraining:
    """A model in training whose weights come to obey N:M patterns.

    Build it after the optimizer, train as ever, then :meth:`finish`. In eval mode masks are hard.
    State dicts keep the names they have without it and hold the dense weights.

    Parameters
    ----------
    model : nn.Module
    pattern : NM, or mapping of str to NM
        For every prunable weight, or by parameter name:
        ``dict.fromkeys(select(model, include="*.mlp.*"), NM(1, 16))``. Axes are set here.
    optimizer : torch optimizer
        Must hold every one of those weights.
    rule : FlowRule or Backward
        :class:`MdGf`, :class:`SdGf`, or one's own; a :class:`Backward` is the pattern from the
        start with that gradient: :func:`sr_ste`, ``STRAIGHT_THROUGH``, ``MASKED``.
    steps : int
        Optimizer steps of the whole training.
    dense : float, default 0
        Share of them before the rule begins, without masks.
    on_step : callable ``(step, masks)``, optional
        Told the masks behind every step, for example :meth:`SparsityTrace.record`.

    Attributes
    ----------
    masks : Masks
        In force now; the tensors change in place.
    weights : dict of str to nn.Parameter
        The dense weights behind them.
    taken : int
        Optimizer steps so far.

    Raises
    ------
    ValueError
        If a pattern does not divide a layer's inputs, a weight is not prunable, tied, or unknown
        to the optimizer, or a number is out of range.

    Examples
    --------
    >>> import torch
    >>> from rarefy.weights import MdGf
    >>> layer = nn.Linear(16, 4)
    >>> sgd = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> with NMTraining(layer, NM(1, 8), sgd, rule=MdGf(), steps=10) as training:
    ...     for _ in range(10):
    ...         layer(torch.ones(2, 16)).square().sum().backward()
    ...         sgd.step()
    >>> training.masks.nnz, int(layer.weight.count_nonzero())
    (8, 8)
    """

    def __init__(
        self,
        model: nn.Module,
        pattern: NM | Mapping[str, NM],
        optimizer: Optimizer,
        *,
        rule: FlowRule | Backward,
        steps: int,
        dense: float = 0.0,
        on_step: Callable[[int, Masks], None] | None = None,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if not 0 <= dense < 1:
            raise ValueError(f"dense must be in [0, 1), got {dense}")
        self._rule = FromTheStart(rule) if isinstance(rule, Backward) else rule
        self._patterns, self.weights = _fitted(model, pattern, self._rule)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if absent := [name for name, weight in self.weights.items() if id(weight) not in held]:
            raise ValueError(f"the optimizer does not hold {', '.join(absent)}; build it on them")
        self._model, self._optimizer = model, optimizer
        self._steps, self._dense, self._on_step = steps, dense, on_step
        self.taken = 0
        self.masks = Masks.ones(self.weights)
        self._attachment = attach(model, self.masks)
        self._hooks = [optimizer.register_step_post_hook(lambda *_: self._stepped())]
        for name in self.masks:
            prefix, _, attribute = name.rpartition(".")
            owner = model.get_submodule(prefix)
            self._hooks += [
                owner.register_state_dict_post_hook(partial(_to_plain, attribute)),
                owner.register_load_state_dict_pre_hook(partial(_from_plain, attribute)),
            ]
        self._put()

    def flow(self, name: str, *, taken: int | None = None) -> Flow:
        """Say what is in force for a weight after so many optimizer steps, by default now."""
        progress = min((self.taken if taken is None else taken) / self._steps, 1.0)
        final = self._patterns[name]
        if progress < self._dense:
            return Flow(final, 1.0, STRAIGHT_THROUGH)
        return self._rule(final, (progress - self._dense) / (1 - self._dense))

    def training_share(self) -> float:
        """Multiply-accumulates of the steps so far over those of as many dense steps.

        Of the layers in training to N:M only, equally many for each weight. A step costs n / m,
        forward and backward, and as much as a dense one while a softness above 0 lets all weights
        act.
        """
        if not self.taken:
            return 1.0
        spent = 0.0
        for name, weight in self.weights.items():
            flows = (self.flow(name, taken=step) for step in range(self.taken))
            shares = Counter(1.0 if f.softness else f.pattern.n / f.pattern.m for f in flows)
            spent += weight.numel() * sum(share * times for share, times in shares.items())
        return spent / (self.taken * self.masks.numel)

    def state_dict(self) -> dict[str, Any]:
        """Collect what a checkpoint needs, beside the model's and the optimizer's."""
        return {"taken": self.taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was; load the model and the optimizer first."""
        self.taken = state["taken"]
        self._put()

    def finish(self) -> Masks:
        """Bake the final patterns in, leaving an ordinary model with its zeros.

        Returns
        -------
        Masks
            What is left, exactly n of every m, whether or not all steps were taken.
        """
        self._hooks, hooks = [], self._hooks
        if not hooks:
            return self.masks
        for hook in hooks:
            hook.remove()
        self._choose(self._patterns)
        self._attachment.detach(bake=False)
        self.masks.apply_(self._model, optimizer=self._optimizer)
        return self.masks

    def __enter__(self) -> NMTraining:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def _stepped(self) -> None:
        self.taken += 1
        self._put()
        if self._on_step is not None:
            self._on_step(self.taken, self.masks)

    def _put(self) -> None:
        flows = {name: self.flow(name) for name in self._patterns}
        for name, flow in flows.items():
            masked = self._attachment.masked(name)
            masked.softness, masked.backward_rule = flow.softness, flow.backward
        self._choose(
            {
                name: NM(flow.pattern.n, flow.pattern.m, axis=self._patterns[name].axis)
                for name, flow in flows.items()
            }
        )

    def _choose(self, patterns: Mapping[str, NM]) -> None:
        for name, pattern in patterns.items():
            try:
                chosen = pattern.mask(self.weights[name].detach())
            except ValueError as error:
                raise ValueError(
                    f"no {pattern.n}:{pattern.m} mask for {name} after {self.taken} steps: {error}"
                ) from error
            self.masks[name].copy_(chosen)


def nm_callback(
    pattern: NM | Mapping[str, NM],
    *,
    rule: FlowRule | Backward,
    dense: float = 0.0,
    on_step: Callable[[int, Masks], None] | None = None,
) -> Any:
    """Make a transformers ``TrainerCallback`` that trains with :class:`NMTraining`.

    The trainer makes its optimizer itself; masks are put on when training begins, at the step of
    the checkpoint where it is resumed, and baked in when it ends.

    Parameters
    ----------
    pattern, rule, dense, on_step
        As for :class:`NMTraining`.

    Returns
    -------
    transformers.TrainerCallback
        Its ``training`` is the :class:`NMTraining`, once training has begun.
    """

    def begin(model: nn.Module, optimizer: Optimizer, state: Any, _: Saved) -> None:
        callback.training = NMTraining(
            model,
            pattern,
            optimizer,
            rule=rule,
            steps=state.max_steps,
            dense=dense,
            on_step=on_step,
        )
        callback.training.load_state_dict({"taken": state.global_step})

    callback = while_training(begin, lambda *_: callback.training.finish())
    return callback


def _fitted(
    model: nn.Module, pattern: NM | Mapping[str, NM], rule: FlowRule
) -> tuple[dict[str, NM], dict[str, nn.Parameter]]:
    """Patterns with their axes, and the weights; all that does not fit is named at once."""
    prunable = select(model)
    patterns = dict.fromkeys(prunable, pattern) if isinstance(pattern, NM) else dict(pattern)
    if not patterns:
        raise ValueError("pattern names no weight; it is empty")
    if unknown := [name for name in patterns if name not in prunable]:
        raise ValueError(
            f"{', '.join(unknown)} cannot be pruned; the prunable weights are {', '.join(prunable)}"
        )
    axes = input_axes(model)
    narrow = []
    for name, final in patterns.items():
        inputs = prunable[name].shape[axes[name]]
        unfit = [stage for stage in rule.patterns(final) if inputs % stage.m]
        if unfit:
            narrow.append(f"{name} ({inputs} inputs, {unfit[0].n}:{unfit[0].m})")
    if narrow:
        raise ValueError(
            f"m does not divide the inputs of {', '.join(narrow)}: name the weights that fit, "
            "for example pattern=dict.fromkeys(select(model, exclude=...), NM(...))"
        )
    return (
        {name: NM(final.n, final.m, axis=axes[name]) for name, final in patterns.items()},
        {name: prunable[name] for name in patterns},
    )


def _to_plain(
    attribute: str,
    module: nn.Module,  # noqa: ARG001 - torch's signature
    state: dict[str, Tensor],
    prefix: str,
    metadata: Any,  # noqa: ARG001
) -> None:
    """Name the dense weight in a state dict as if nothing masked it."""
    inner = f"{prefix}parametrizations.{attribute}."
    state[prefix + attribute] = state.pop(f"{inner}original")
    del state[f"{inner}0.mask"]


def _from_plain(
    attribute: str, module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    """Undo :func:`_to_plain`."""
    inner = f"{prefix}parametrizations.{attribute}."
    if prefix + attribute in state:
        state[f"{inner}original"] = state.pop(prefix + attribute)
        state[f"{inner}0.mask"] = module.parametrizations[attribute][0].mask  # type: ignore[index, union-attr]
