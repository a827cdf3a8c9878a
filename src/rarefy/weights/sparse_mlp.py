"""A classifier with random masks that never move, in the manner of scikit-learn.

    M_l  random, density d_l from an allocation rule, drawn before training
    W_l <- (W_l - step) M_l

A perceptron with ReLU, weights by He's normal rule, biases zero and never pruned.

Source: Liu et al. 2022, "The unreasonable effectiveness of random pruning" (arXiv 2202.02643).
Departures: AdamW with a rate that falls to zero, where the paper has SGD on images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW

from rarefy.budget import ErdosRenyi
from rarefy.weights.attach import attach
from rarefy.weights.finetune import descend
from rarefy.weights.masks import Masks
from rarefy.weights.random_masks import random_masks


class SparseMLPClassifier(ClassifierMixin, BaseEstimator):
    """A multi-layer perceptron, sparse from before its first step.

    Import it from this module: scikit-learn is loaded with it.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default (100,)
    density : float in (0, 1], default 0.1
        Share of all weights that is kept; 1 trains a dense network.
    allocation : allocation rule, default ``ErdosRenyi()``
        From :mod:`rarefy.budget`: how many weights each layer keeps.
    epochs : int, default 100
    batch_size : int, default 128
    learning_rate : float, default 0.01
        At the first step; falls linearly to 0.
    weight_decay : float, default 1e-4
    random_state : int, RandomState or None, default None
        Draws weights, masks and batches.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    model_ : nn.Sequential
        Pruned weights are zero.
    masks_ : Masks
    loss_curve_ : list of float
        Mean loss of each epoch.
    n_features_in_ : int

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> sparse = SparseMLPClassifier((64,), density=0.25, random_state=0)
    >>> bool(make_pipeline(StandardScaler(), sparse).fit(X, y).score(X, y) > 0.9)
    True
    >>> sparse.masks_.density()
    0.25
    """

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (100,),
        *,
        density: float = 0.1,
        allocation: Callable[..., dict[str, int]] = ErdosRenyi(),  # noqa: B008 - a frozen constant
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 0.01,
        weight_decay: float = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.density = density
        self.allocation = allocation
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> SparseMLPClassifier:
        """Draw the masks and train under them.

        Parameters
        ----------
        X : array of shape (n, d)
        y : array of shape (n,)

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter is out of range, the density leaves a layer without a weight, or the
            data are empty, not finite or no classes.
        """
        self._check()
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        generator = torch.Generator().manual_seed(int(seed))
        sizes = (X.shape[1], *self.hidden_layer_sizes, len(self.classes_))
        self.model_ = _perceptron(sizes, generator)
        self.masks_: Masks = random_masks(
            self.model_, density=self.density, rule=self.allocation, generator=generator
        )
        data = torch.from_numpy(X), torch.from_numpy(labels)
        optimizer = AdamW(
            self.model_.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        per_epoch = -(-len(X) // self.batch_size)
        with attach(self.model_, self.masks_, mode="project", optimizer=optimizer):
            losses = descend(
                self.model_,
                optimizer,
                self._batches(data, generator),
                _loss,
                steps=self.epochs * per_epoch,
                clip=1.0,
            )
        self.loss_curve_ = np.reshape(losses, (self.epochs, per_epoch)).mean(1).tolist()
        self.model_.eval()
        return self

    @torch.no_grad()
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, (n, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return self.model_(torch.from_numpy(X)).softmax(1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class, (n,)."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def _check(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not len(self.hidden_layer_sizes) or min(self.hidden_layer_sizes) < 1:
            raise ValueError(
                "hidden_layer_sizes must be the positive widths of the hidden layers, got "
                f"{self.hidden_layer_sizes}"
            )
        if not self.learning_rate > 0:  # also true for NaN
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")

    def _batches(
        self, data: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        X, y = data
        for _ in range(self.epochs):
            for drawn in torch.randperm(len(X), generator=generator).split(self.batch_size):
                yield X[drawn], y[drawn]


def _perceptron(sizes: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        linear = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(linear.bias)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    X, y = batch
    return cross_entropy(model(X), y)
