"""Random search over sparse networks before training: the neutral baseline of any such search.

    best = argmin_t J(theta_0 restricted to z_t),   z_1 .. z_T uniform

``J`` is the cross-entropy of the untrained candidate on a search set, or a proxy. The search set
must not be the test set.

Source: Rezsa Farahani 2024, "Random search as a baseline for sparse neural network architecture
search" (arXiv 2403.08265). Departures: no public code is known, so objective, search set and
number of candidates are arguments; equivalence is judged by two claims of non-inferiority.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Generic

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rarefy.evidence.claims import Claim, Measurement, Measurements
from rarefy.evidence.verdict import Judgement, judge
from rarefy.weights.search_proxies import Proxy
from rarefy.weights.search_space import C, SearchSpace

Objective = Callable[[Tensor, Tensor], Tensor]
"""``objective(outputs, y)``: (candidates, examples, ...) and targets to (candidates,), lower is
better."""


def mean_cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """Compute the mean cross-entropy of each candidate.

    Parameters
    ----------
    outputs : Tensor, shape (candidates, examples, classes)
    y : integer Tensor, shape (examples,)

    Returns
    -------
    Tensor, shape (candidates,)
    """
    targets = y.expand(len(outputs), -1)
    return cross_entropy(outputs.transpose(1, 2), targets, reduction="none").mean(1)


class RandomSearch(Generic[C]):
    """Draw candidates, score each untrained, keep the best.

    Parameters
    ----------
    space : SearchSpace
        :class:`rarefy.weights.NodeSpace`, :class:`rarefy.weights.WeightSpace`,
        :class:`rarefy.weights.CellSpace`, or your own.
    objective : callable ``(outputs, y) -> (candidates,)``, default mean cross-entropy
        Lower is better.
    proxy : Proxy, optional
        Scores candidates in place of the objective, from more than their outputs:
        :func:`rarefy.weights.synflow_proxy` and the others beside it.
    n_samples : int, default 1000
        Candidates, drawn with replacement.
    batch_size : int, default 32
        Candidates that run at once: a matter of memory and caches, not of the result.
    generator : torch.Generator
        Of the CPU.

    Attributes
    ----------
    best_ : candidate
        The first of the best.
    best_score_ : float
    scores_ : Tensor, shape (n_samples,)
        Of every candidate, in the order drawn.

    Raises
    ------
    ValueError
        If a number is not positive.

    Examples
    --------
    >>> from rarefy.weights import NodeSpace
    >>> g = torch.Generator().manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))
    >>> X, y = torch.randn(50, 4, generator=g), torch.arange(50) % 3
    >>> space = NodeSpace((32,), node_sparsity=0.75)
    >>> search = RandomSearch(space, n_samples=100, generator=g).fit(model, X, y)
    >>> search.best_score_ == float(search.scores_.min()), len(search.best_[0])
    (True, 8)
    """

    best_: C
    best_score_: float
    scores_: Tensor

    def __init__(
        self,
        space: SearchSpace[C],
        *,
        objective: Objective = mean_cross_entropy,
        proxy: Proxy | None = None,
        n_samples: int = 1000,
        batch_size: int = 32,
        generator: torch.Generator,
    ) -> None:
        for name, value in (("n_samples", n_samples), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.space = space
        self.objective = objective
        self.proxy = proxy
        self.n_samples = n_samples
        self.batch_size = batch_size
        self.generator = generator

    @torch.no_grad()
    def fit(self, model: nn.Module, X: Tensor, y: Tensor) -> RandomSearch[C]:
        """Search.

        Parameters
        ----------
        model : nn.Module
            The initialised parent; run in evaluation mode and left as it is.
        X : Tensor, shape (examples, ...)
            A thousand examples are enough to rank candidates.
        y : Tensor, shape (examples, ...)

        Returns
        -------
        RandomSearch
            Itself.

        Raises
        ------
        ValueError
            If there are no examples, or not as many targets; if the objective gives anything but
            one score a candidate, or NaN.
        """
        if not len(X) or len(X) != len(y):
            raise ValueError(
                f"X and y must hold as many examples, one or more, got {len(X)} and {len(y)}"
            )
        training = model.training
        model.eval()
        scores: list[Tensor] = []
        self.best_score_ = float("inf")
        try:
            for start in range(0, self.n_samples, self.batch_size):
                n = min(self.batch_size, self.n_samples - start)
                candidates = self.space.sample(n, self.generator)
                if self.proxy is None:
                    batch = self.objective(self.space.outputs(model, candidates, X), y)
                else:
                    batch = self.proxy(self.space, model, candidates, X, y)
                self._check(batch, n)
                best = int(batch.argmin())
                if not scores or float(batch[best]) < self.best_score_:
                    self.best_, self.best_score_ = candidates[best], float(batch[best])
                scores.append(batch)
        finally:
            model.train(training)
        self.scores_ = torch.cat(scores)
        return self

    def expected_best(self, n_samples: int, *, values: Tensor | None = None) -> float:
        """Expect the best score of a shorter search, from the scores of this one.

        The mean of the least of ``t`` over all subsets of ``t`` of the ``T`` scores: it shows how
        little more candidates would still have gained.

        Parameters
        ----------
        n_samples : int
            ``t``, between 1 and the ``T`` of this search.
        values : Tensor, shape (T,), optional
            Something else about each candidate, such as its accuracy once trained: what is expected
            is then the value of the candidate with the best score. So a proxy's search is judged by
            what it is a proxy for.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If ``n_samples`` lies outside that, or there is not one value a candidate.
        """
        total = len(self.scores_)
        values = self.scores_ if values is None else values
        if values.shape != (total,):
            raise ValueError(
                f"values must hold one a candidate, shape ({total},), got {tuple(values.shape)}"
            )
        if not 1 <= n_samples <= total:
            raise ValueError(f"n_samples must lie between 1 and {total}, got {n_samples}")
        # The i-th smallest, i from 0, is the least of C(T - 1 - i, t - 1) of the C(T, t) subsets.
        above = torch.arange(total - 1, n_samples - 2, -1, dtype=torch.float64)
        log_share = _log_choose(above, n_samples - 1) - _log_choose(
            torch.tensor(total, dtype=torch.float64), n_samples
        )
        order = self.scores_.cpu().argsort(stable=True)[: len(above)]
        # No share is zero, though one may round to it: a cut network's infinite score counts.
        share = log_share.exp().clamp_min(torch.finfo(torch.float64).tiny)
        return float((share * values.double().cpu()[order]).sum())

    @staticmethod
    def _check(scores: Tensor, n: int) -> None:
        if scores.shape != (n,):
            raise ValueError(
                f"the objective must give one score a candidate, shape ({n},), got "
                f"{tuple(scores.shape)}"
            )
        if bool(scores.isnan().any()):
            raise ValueError("the objective gave NaN: candidates cannot be ranked")


def _log_choose(n: Tensor, k: int) -> Tensor:
    return (
        torch.lgamma(n + 1) - torch.lgamma(n - k + 1) - torch.lgamma(torch.tensor(k + 1.0).double())
    )


@dataclass(frozen=True)
class BaselineComparison:
    """How a search method does beside random search, and beside no search at all.

    Attributes
    ----------
    measurements : Measurements
        Metric ``score`` of the arms ``method``, ``random search`` and ``random``, one value a seed.
    judgements : tuple of Judgement
        For each of the other two: ``better`` than it, ``no worse`` and ``no better`` to the
        margin. Where the last two hold, the two are equivalent.
    """

    measurements: Measurements
    judgements: tuple[Judgement, ...]

    def verdict(self, question: str, versus: str) -> str:
        """Look up a verdict: ``verdict("no better", "random search")``."""
        wanted = f"{question} than {versus}"
        return next(j.verdict for j in self.judgements if j.claim.id == wanted)


def compare_to_random_search(
    method: Callable[[nn.Module, int], C],
    space: SearchSpace[C],
    *,
    parent: Callable[[int], nn.Module],
    train: Callable[[nn.Module, C, int], float],
    X: Tensor,
    y: Tensor,
    seeds: Iterable[int] = range(10),
    n_samples: int = 1000,
    objective: Objective = mean_cross_entropy,
    margin: float = 0.01,
) -> BaselineComparison:
    """Compare a way to find sparse networks with random search, and with a random one.

    For each seed one parent; what the method finds, what random search finds and one random
    candidate are trained from its weights. The three differ in nothing else if ``train`` draws
    its batches from the seed it is given.

    Parameters
    ----------
    method : callable ``(parent, seed) -> candidate``
    space : SearchSpace
        Of the same sparsity as what the method finds.
    parent : callable ``seed -> nn.Module``
        A fresh, initialised network; called anew for each of the three.
    train : callable ``(parent, candidate, seed) -> float``
        Train a candidate and give its score on test data, higher is better.
    X, y : Tensor
        Search set, as for :meth:`RandomSearch.fit`.
    seeds : iterable of int, default range(10)
    n_samples : int, default 1000
    objective : callable, default mean cross-entropy
    margin : float, default 0.01
        Difference in score that would matter.

    Returns
    -------
    BaselineComparison

    Raises
    ------
    ValueError
        If there are fewer than two seeds: chance cannot be judged.
    """
    seeds = list(seeds)
    if len(seeds) < 2:
        raise ValueError(f"at least two seeds are wanted, to judge chance by, got {seeds}")
    found = []
    for seed in seeds:
        # Streams of their own: the random candidate must be none of those the search saw.
        searching, drawing = _streams(seed)
        search = RandomSearch(space, objective=objective, n_samples=n_samples, generator=searching)
        candidates = {
            "method": method(parent(seed), seed),
            "random search": search.fit(parent(seed), X, y).best_,
            "random": space.sample(1, drawing)[0],
        }
        for arm, candidate in candidates.items():
            found.append(Measurement(arm, seed, "score", train(parent(seed), candidate, seed)))
    measurements = Measurements(found)
    claims = [c for arm in ("random search", "random") for c in _claims(arm, margin)]
    return BaselineComparison(measurements, tuple(judge(claim, measurements) for claim in claims))


def _claims(versus: str, margin: float) -> list[Claim]:
    claim = partial(Claim, metric="score", better="higher")
    return [
        claim(id=f"better than {versus}", text="It beats it.", arm="method", versus=versus),
        claim(
            id=f"no worse than {versus}",
            text="It is no worse, to the margin.",
            arm="method",
            versus=versus,
            margin=-margin,
        ),
        claim(
            id=f"no better than {versus}",
            text="It is no better, to the margin.",
            arm=versus,
            versus="method",
            margin=-margin,
        ),
    ]


def _streams(seed: int) -> tuple[torch.Generator, torch.Generator]:
    first = torch.Generator().manual_seed(seed)
    one, other = torch.randint(2**32, (2,), generator=first).tolist()
    return torch.Generator().manual_seed(one), torch.Generator().manual_seed(other)
