"""Supervised dictionaries: a vector for each value of each attribute that a task depends on.

    a ~ mean + sum_i u[i, a_i]        a_i the value of attribute i, u its vector

``"mse"`` takes the least-squares vectors ``U = C^+ (A - mean)``, where C holds the one-hot columns
of all attributes; it is rank-deficient by design (each attribute's columns sum to one), and the
solution of least norm is taken. ``"mean"`` takes the mean activation at each value, which counts
twice what two dependent attributes share, and vanishes for attributes not linearly present.

Source: "Towards Principled Evaluations of Sparse Autoencoders for Interpretability and Control"
(2405.08366), section 3. Departures: none.

Axis letters: n prompts, v values of an attribute, d width; `...` any axes between, such as sites.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Method = Literal["mse", "mean"]

_DEPENDENT = 0.1


@dataclass(frozen=True)
class AttributeDictionary:
    """Vectors of attribute values, as :func:`attribute_dictionary` fits them.

    Parameters
    ----------
    mean : Tensor, shape (..., d)
        Mean activation.
    vectors : dict of str to Tensor, shape (v, ..., d)
    seen : dict of str to Tensor of bool, shape (v,)
        Which values there was anything to fit from.
    """

    mean: Tensor
    vectors: Mapping[str, Tensor]
    seen: Mapping[str, Tensor]

    def vector(self, attribute: str, values: Tensor) -> Tensor:
        """Look up vectors (n, ..., d) of an attribute's values (n,).

        Raises
        ------
        KeyError
            If there is no such attribute, or one of its values was never fitted.
        """
        if attribute not in self.vectors:
            raise KeyError(f"no attribute {attribute!r}; there are {', '.join(self.vectors)}")
        seen = self.seen[attribute]
        known = (values >= 0) & (values < len(seen))
        known &= seen[values.clamp(0, len(seen) - 1)]
        if not known.all():
            unseen = int(values[~known][0])
            raise KeyError(f"value {unseen} of {attribute!r} was not among those fitted")
        return self.vectors[attribute][values]

    def reconstruct(self, attributes: Mapping[str, Tensor]) -> Tensor:
        """Predict activations (n, ..., d) from all attributes, each (n,)."""
        parts = self._parts(attributes)
        return torch.stack(parts).sum(0)

    def edit(self, activations: Tensor, attribute: str, old: Tensor, new: Tensor) -> Tensor:
        """Change one attribute: ``a - u[old] + u[new]``.

        Parameters
        ----------
        activations : Tensor, shape (n, ..., d)
        attribute : str
        old, new : Tensor of int64, shape (n,)

        Returns
        -------
        Tensor, shape (n, ..., d)
        """
        return activations - self.vector(attribute, old) + self.vector(attribute, new)

    def decompose_attention(
        self, keys: AttributeDictionary, attributes: Mapping[str, Tensor]
    ) -> Tensor:
        """Split attention scores into products of one query feature with one key feature.

        Parameters
        ----------
        keys : AttributeDictionary
            Of the keys, width d as here, where this one is of the queries.
        attributes : mapping of str to Tensor, shape (n,)
            Of both.

        Returns
        -------
        Tensor, shape (n, ..., 1 + attributes, 1 + attributes)
            Entry (i, j) is ``u_i . u_j / sqrt(d)`` of query feature i and key feature j, number 0
            being the mean. All entries of a prompt sum to the score of the reconstructions.
        """
        query = torch.stack(self._parts(attributes), dim=-2)
        key = torch.stack(keys._parts(attributes), dim=-2)
        return query @ key.mT / math.sqrt(query.shape[-1])

    def _parts(self, attributes: Mapping[str, Tensor]) -> list[Tensor]:
        """Mean, then each attribute's vectors; each (n, ..., d)."""
        if missing := [name for name in self.vectors if name not in attributes]:
            raise KeyError(f"attributes lacks {missing[0]!r}")
        found = [self.vector(name, attributes[name]) for name in self.vectors]
        return [self.mean.expand_as(found[0]), *found]


def attribute_dictionary(
    activations: Tensor, attributes: Mapping[str, Tensor], *, method: Method = "mse"
) -> AttributeDictionary:
    """Fit one vector for each value of each attribute.

    Parameters
    ----------
    activations : Tensor, shape (n, ..., d)
        Of one site, or of several along axes in the middle; each is fitted for itself.
    attributes : mapping of str to Tensor of int64, shape (n,)
        Values are numbers from 0.
    method : {"mse", "mean"}, default "mse"
        See the head of the module.

    Returns
    -------
    AttributeDictionary

    Raises
    ------
    ValueError
        If there is no attribute, shapes differ, a value is negative, or method is another.

    Warns
    -----
    UserWarning
        If the method is ``"mean"`` and two attributes' values go together.

    Examples
    --------
    >>> colour, size = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    >>> a = torch.stack([2.0 * colour, 1.0 * size], dim=1)
    >>> fitted = attribute_dictionary(a, {"colour": colour, "size": size})
    >>> fitted.edit(a[:1], "colour", colour[:1], torch.tensor([1])).round().abs()
    tensor([[2., 0.]])
    """
    if method not in get_args(Method):
        raise ValueError(f"method is {method!r}, expected 'mse' or 'mean'")
    if not attributes:
        raise ValueError("attributes is empty, expected at least one")
    n = len(activations)
    for name, values in attributes.items():
        if values.shape != (n,):
            raise ValueError(
                f"attribute {name!r} has shape {tuple(values.shape)}, expected ({n},), one value "
                "for each activation"
            )
        if n == 0 or values.min() < 0:
            raise ValueError(f"attribute {name!r} wants values from 0, and at least one")
    one_hot = torch.cat(
        [torch.nn.functional.one_hot(values).double() for values in attributes.values()], dim=1
    )
    sizes = [int(values.max()) + 1 for values in attributes.values()]
    counts = one_hot.sum(0)
    gram = one_hot.T @ one_hot
    flat = activations.reshape(n, -1).double()
    mean = flat.mean(0)
    sums = one_hot.T @ (flat - mean)
    if method == "mse":
        # C^+ = (C'C)^+ C'. Counts are whole numbers, so a singular value is 0 or far from it.
        vectors = torch.linalg.pinv(gram, rtol=1e-10, hermitian=True) @ sums
    else:
        _warn_dependent(gram, n, sizes, list(attributes))
        vectors = sums / counts.clamp_min(1)[:, None]
    shape = activations.shape[1:]
    split = vectors.to(activations.dtype).reshape(-1, *shape).split(sizes)
    return AttributeDictionary(
        mean.to(activations.dtype).reshape(shape),
        dict(zip(attributes, split, strict=True)),
        dict(zip(attributes, (counts > 0).split(sizes), strict=True)),
    )


def _warn_dependent(gram: Tensor, n: int, sizes: list[int], names: list[str]) -> None:
    """Warn where values of two attributes correlate by more than 0.1, and than chance."""
    share = gram.diagonal() / n
    spread = (share * (1 - share)).sqrt()
    correlation = (gram / n - share.outer(share)) / spread.outer(spread).clamp_min(1e-12)
    bar = max(_DEPENDENT, 4 / math.sqrt(n))
    blocks = [row.split(sizes, dim=1) for row in correlation.abs().split(sizes)]
    for i, one in enumerate(names):
        for j, other in enumerate(names[:i]):
            if (found := float(blocks[i][j].max())) > bar:
                warnings.warn(
                    f"attributes {other!r} and {one!r} are dependent (correlation {found:.2f}), "
                    "and means count twice what they share: method='mse' is better",
                    stacklevel=3,
                )
