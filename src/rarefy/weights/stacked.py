"""Many perceptrons of one shape as one module, to train or run them all in one batch.

    h_l[b] = act(h_{l-1}[b] W_l[b] + b_l[b])   for every network b, by one ``torch.baddbmm``

The networks do not touch each other: sum their losses, each a mean over its own examples, and an
element-wise optimizer (SGD, Adam) moves each as if it were alone. A mean over networks would
divide every gradient by their number.

Source: the usual batched matrix product. Departures: none.

Axis letters: b networks, n examples, i inputs, o outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rarefy.weights.subnetwork import perceptron


class StackedPerceptrons(nn.Module):
    """Copies of perceptrons of one shape, run side by side.

    Parameters
    ----------
    models : sequence of nn.Sequential
        Each as :func:`rarefy.weights.subnetwork` takes them, all of the same layers and widths.

    Raises
    ------
    ValueError
        If there are none, one is no perceptron, or they differ in shape.

    Examples
    --------
    >>> nets = [nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in range(5)]
    >>> stacked = StackedPerceptrons(nets)
    >>> stacked(torch.zeros(7, 3)).shape
    torch.Size([5, 7, 2])
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        if not models:
            raise ValueError("models is empty: at least one perceptron is wanted")
        parts = [perceptron(model) for model in models]
        # What a module prints is its kind, its sizes and its settings.
        printed = [[repr(module) for module in p.model] for p in parts]
        for i, one in enumerate(printed):
            if one != printed[0]:
                raise ValueError(
                    f"models must have one shape, but number {i} is {', '.join(one)} where the "
                    f"first is {', '.join(printed[0])}"
                )
        # A template to take the stack apart again; a list, so that its weights are not ours.
        self._template = [copy.deepcopy(parts[0].model)]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for layers in zip(*(p.linears for p in parts), strict=True):
            weights = torch.stack([layer.weight.detach().T for layer in layers])
            self.weights.append(nn.Parameter(weights.contiguous()))
            if layers[0].bias is None:
                none = weights.new_zeros(len(layers), 1, weights.shape[2])
                self.biases.append(nn.Parameter(none, requires_grad=False))
            else:
                biases = torch.stack([layer.bias.detach() for layer in layers])
                self.biases.append(nn.Parameter(biases[:, None]))

    def __len__(self) -> int:
        return len(self.weights[0])

    def forward(self, x: Tensor) -> Tensor:
        """Run every network.

        Parameters
        ----------
        x : Tensor, shape (n, ...) or (b, n, i)
            One batch for all of them, as a single network takes it, or one for each.

        Returns
        -------
        Tensor, shape (b, n, o)
        """
        layer = 0
        for module in self._template[0]:
            if isinstance(module, nn.Linear):
                if x.ndim == 2:
                    x = x.expand(len(self), *x.shape)
                x = torch.baddbmm(self.biases[layer], x, self.weights[layer])
                layer += 1
            else:
                x = module(x)
        return x

    def train(self, mode: bool = True) -> StackedPerceptrons:
        """Set the mode, of what drops out at random too."""
        self._template[0].train(mode)
        return super().train(mode)

    def unstacked(self) -> list[nn.Sequential]:
        """Copy the networks out again, one by one."""
        models = []
        with torch.no_grad():
            for b in range(len(self)):
                model = copy.deepcopy(self._template[0]).to(self.weights[0].device)
                for linear, weight, bias in zip(
                    perceptron(model).linears, self.weights, self.biases, strict=True
                ):
                    linear.weight.copy_(weight[b].T)
                    if linear.bias is not None:
                        linear.bias.copy_(bias[b, 0])
                models.append(model)
        return models
