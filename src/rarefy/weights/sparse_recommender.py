"""A recommender that is sparse from its first step to its last, in the manner of scikit-learn.

    model's tables, density kappa  ->  masks with kappa of their entries  ->  train, masks moving

The method is :class:`rarefy.weights.DSL` on :class:`rarefy.weights.DynamicMasks`; the models are
those of :mod:`rarefy.models.recommenders`.

Source: Wang et al. 2024 (arXiv 2402.02855). Departures: of MultVAE the weight matrices are pruned,
not the biases. Gradients are dense, so training takes the memory of a dense model; what is stored
and served is sparse.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from rarefy.budget import Uniform
from rarefy.models import (
    MF,
    LightGCN,
    MultVAE,
    NeuMF,
    Recommender,
    evaluate_ranking,
    rank_items,
)
from rarefy.models.train_recommender import train_recommender
from rarefy.weights.dsl import DSL
from rarefy.weights.dynamic import DynamicMasks, Rule
from rarefy.weights.random_masks import random_masks
from rarefy.weights.sparse_embedding import SparseEmbedding

if TYPE_CHECKING:
    from scipy.sparse import csr_array

HostName = Literal["mf", "lightgcn", "neumf", "multvae"]
_HOSTS: dict[HostName, Any] = {"mf": MF, "lightgcn": LightGCN, "neumf": NeuMF, "multvae": MultVAE}


class SparseRecommender:
    """Train, rank and store a recommender of which a share of the parameters is kept.

    Parameters
    ----------
    model : {"lightgcn", "mf", "neumf", "multvae"}, default "lightgcn"
    density : float in (0, 1], default 0.5
        Share of the tables' entries that are kept; 1 trains a dense model.
    rule : Rule, default ``DSL(grow="accumulated")``
        How the masks move: :class:`DSL`, :class:`Static`, :class:`SET`, :class:`RigL`, or
        one's own.
    steps : int, default 1000
        Of the optimizer.
    update_every : int, default 40
        Steps between updates of the masks.
    batch_size : int, default 2048
    learning_rate : float, default 0.005
        Adam's at the first step; falls to a hundredth.
    settings : dict, optional
        Of the model: ``{"dim": 64, "layers": 2}``.
    device : str, default "cpu"
    seed : int, default 0

    Attributes
    ----------
    model_ : Recommender
        Trained, pruned entries zero.
    masks_ : Masks
        Empty for a dense model.
    ever_active_ : float
        Share of the entries that were kept at some time.

    Examples
    --------
    >>> from rarefy.data import planted_interactions
    >>> x = planted_interactions(60, 40, per_user=8, generator=torch.Generator().manual_seed(0))
    >>> sparse = SparseRecommender("mf", density=0.25, steps=40, update_every=5).fit(x)
    >>> sparse.recommend([0, 1], k=3).shape, sparse.masks_.density()
    ((2, 3), 0.25)
    """

    def __init__(
        self,
        model: HostName = "lightgcn",
        *,
        density: float = 0.5,
        rule: Rule = DSL(grow="accumulated"),  # noqa: B008 - a frozen constant
        steps: int = 1000,
        update_every: int = 40,
        batch_size: int = 2048,
        learning_rate: float = 0.005,
        settings: dict[str, Any] | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        if model not in _HOSTS:
            raise ValueError(f"model must be one of {', '.join(_HOSTS)}, got {model!r}")
        if not 0 < density <= 1:  # also false for NaN
            raise ValueError(f"density must be in (0, 1], got {density}")
        for name, value in (
            ("steps", steps),
            ("update_every", update_every),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        self.model, self.density, self.rule = model, density, rule
        self.steps, self.update_every, self.batch_size = steps, update_every, batch_size
        self.learning_rate, self.settings = learning_rate, settings
        self.device, self.seed = device, seed
        self._trained_on: csr_array | None = None

    def fit(self, interactions: Any) -> SparseRecommender:
        """Train on who chose what.

        Parameters
        ----------
        interactions : sparse matrix or array, shape (U, I)
            Of zeros and ones.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If an entry is neither 0 nor 1, there is none, or a user has every item.
        """
        x = checked_interactions(interactions)
        if self.density < 1 and self.update_every >= self.steps:
            warnings.warn(
                f"update_every is {self.update_every} and steps {self.steps}: the masks never "
                "move, so this is a static random mask",
                stacklevel=2,
            )
        g = torch.Generator().manual_seed(self.seed)
        host = _HOSTS[self.model](x, generator=g, **(self.settings or {})).to(self.device)
        adam = torch.optim.Adam(host.parameters(), lr=self.learning_rate)
        parameters = dict(host.named_parameters())
        tables = {name: parameters[name] for name in host.embeddings}
        masks = random_masks(
            tables if self.density < 1 else {}, density=self.density, rule=Uniform(), generator=g
        )
        with DynamicMasks(
            host,
            masks,
            adam,
            rule=self.rule,
            steps=self.steps,
            every=self.update_every,
            generator=g,
        ) as held:
            train_recommender(
                host, x, adam, steps=self.steps, batch_size=self.batch_size, generator=g
            )
        self.model_: Recommender = host
        self.masks_ = held.masks
        self.ever_active_ = held.ever_active()
        self._trained_on = x
        return self

    def scores(self, users: Any) -> np.ndarray:
        """Scores of all items for some users, (n, I)."""
        return self._scores(self._ids(users)).cpu().numpy()

    def recommend(self, users: Any, *, k: int = 20, exclude_seen: bool = True) -> np.ndarray:
        """Find each user's k best items, best first.

        Parameters
        ----------
        users : sequence of int, shape (n,)
        k : int, default 20
        exclude_seen : bool, default True
            Leave out what the user chose in training.

        Returns
        -------
        array of int64, shape (n, k)

        Raises
        ------
        ValueError
            If a user is unknown, or has fewer than k items left.
        """
        ids = self._ids(users)
        exclude = self._seen()[ids.numpy()] if exclude_seen else None
        return rank_items(self._scores(ids), k=k, exclude=exclude).cpu().numpy()

    def evaluate(self, test: Any, *, k: int = 20) -> dict[str, float]:
        """Measure recall, NDCG and hits at k on held-out interactions of the same shape."""
        return evaluate_ranking(self._scores, self._seen(), checked_interactions(test), k=k)

    def export(self, *, dtype: torch.dtype = torch.float32) -> dict[str, SparseEmbedding]:
        """Pack the pruned tables for storage; ``nbytes`` says what each takes."""
        self._seen()
        parameters = dict(self.model_.named_parameters())  # type: ignore[attr-defined]
        return {
            name: SparseEmbedding.from_masked(parameters[name], mask, dtype=dtype)
            for name, mask in self.masks_.items()
        }

    def _scores(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model_.scores(ids.to(self.device))

    def _seen(self) -> csr_array:
        if self._trained_on is None:
            raise RuntimeError("this recommender is not trained: call fit first")
        return self._trained_on

    def _ids(self, users: Any) -> torch.Tensor:
        known = self._seen().shape[0]
        ids = np.atleast_1d(np.asarray(users, dtype=np.int64))
        if ids.size and not (ids.min() >= 0 and ids.max() < known):
            raise ValueError(f"users must be from 0 to {known - 1}, got {ids.min()} to {ids.max()}")
        return torch.from_numpy(ids)


def checked_interactions(interactions: Any) -> csr_array:
    """Read a matrix of zeros and ones, explicit zeros dropped.

    Raises
    ------
    ValueError
        If it is not a matrix, or holds anything else.
    """
    from scipy.sparse import csr_array, issparse

    if not issparse(interactions) and np.ndim(interactions) != 2:
        raise ValueError(
            "interactions must be a sparse matrix or a 2-D array of users x items, got "
            f"{np.ndim(interactions)} dimensions"
        )
    x = csr_array(interactions, copy=True)
    x.sum_duplicates()
    x.eliminate_zeros()
    if (odd := x.data[x.data != 1]).size:
        raise ValueError(
            f"interactions must be 0 or 1, got {odd[0]}: say which ratings count as chosen, for "
            "example (ratings >= 4)"
        )
    return x.astype(np.float32)
