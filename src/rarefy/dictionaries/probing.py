r"""What a dictionary's latents know, judged by labels.

Each question is asked of any autoencoder, ours or a loaded one, on rows with labels:

``sparse_probe``   how well do the k best latents tell a label?
``absorption``     how often is a label's own latent silent while others carry its direction?
``spurious_removal``   SCR: does ablating the latents of a spurious attribute cure a biased probe?
``targeted_removal``   TPP: does ablating the latents of one class hurt that class alone?
``unlearning_latents``  which latents fire on what is to be forgotten and hardly elsewhere?

Latents are ranked for a label by what their mean difference between the classes contributes to a
linear probe w, :math:`|(\bar z_j^+ - \bar z_j^-)\, \langle w, D_j\rangle|`, and ablated by taking
their contributions :math:`z_j D_j` off the row.

Sources: sparse probing (Gurnee et al. 2023); absorption (Chanin et al. 2024, arXiv 2409.14507);
SCR and TPP (Karvonen et al. 2024, arXiv 2411.18895); unlearning (Farrell et al. 2024, arXiv
2410.19278). Departures: the small form of each: classes are the caller's, an accuracy is balanced
over the classes, absorption judges one main latent, and unlearning ablates where the source clamps
to a negative value. SCR sets codes to their means, not to zero: a probe's intercept counts on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.dictionaries.bidirectional import auroc
from rarefy.dictionaries.codes import SparseCodes, sparse_product

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression


class Labelled(NamedTuple):
    """Rows with a label that is true or false.

    Attributes
    ----------
    x : Tensor, shape (n, d)
    y : Tensor of bool, shape (n,)
    """

    x: Tensor
    y: Tensor


class Crossed(NamedTuple):
    """Rows with two labels, one to be told and one to be ignored; all four cells must be there.

    Attributes
    ----------
    x : Tensor, shape (n, d)
    target, spurious : Tensor of bool, shape (n,)
    """

    x: Tensor
    target: Tensor
    spurious: Tensor


class SparseProbe(NamedTuple):
    """A probe on few latents: which, and its balanced accuracy and AUROC on the test rows."""

    latents: Tensor
    accuracy: float
    auroc: float


class Detection(NamedTuple):
    """One latent as a detector of a label: its index, the sign of its code, AUROC and F1."""

    latent: int
    sign: int
    auroc: float
    f1: float


class SpuriousRemoval(NamedTuple):
    """Balanced accuracies of a biased probe before and after ablation, and of an unbiased one."""

    before: float
    after: float
    unbiased: float

    @property
    def score(self) -> float:
        """Share of the gap to the unbiased probe that ablation closes."""
        gap = self.unbiased - self.before
        return (self.after - self.before) / gap if gap > 0 else 0.0


class TargetedRemoval(NamedTuple):
    """Drop of every class's accuracy (columns) when the latents of a class (rows) are ablated."""

    drops: np.ndarray

    @property
    def score(self) -> float:
        """Mean drop of the class meant, less the mean drop of the others."""
        own = np.eye(len(self.drops), dtype=bool)
        return float(self.drops[own].mean() - self.drops[~own].mean())


def mean_difference(codes: SparseCodes, y: Tensor) -> Tensor:
    """Mean code where the label is true, minus where it is not; shape (f,).

    Raises
    ------
    ValueError
        If one of the two never occurs.
    """
    y = y.bool()
    n = int(y.sum())
    if not 0 < n < len(y):
        raise ValueError(f"both values must occur, got {n} true of {len(y)} labels")
    values, support = codes.values.detach(), codes.support
    weight = torch.where(y, 1 / n, -1 / (len(y) - n))[support.rows]
    return support.column_sums(values * weight)


def sparse_probe(
    sae: SparseAutoencoder, train: Labelled, test: Labelled, *, k: int = 1
) -> SparseProbe:
    """Logistic regression on the k latents whose means differ most between the classes.

    Parameters
    ----------
    sae : SparseAutoencoder
    train, test : Labelled
    k : int, default 1
        1, 2 and 5 are usual.

    Returns
    -------
    SparseProbe

    Raises
    ------
    ValueError
        If a class is missing from the training or the test rows, or k is not from 1 to the
        number of latents.
    """
    if not 1 <= k <= sae.n_latents:
        raise ValueError(f"k must be from 1 to the {sae.n_latents} latents, got {k}")
    codes = _encode(sae, train.x)
    latents = mean_difference(codes, train.y).abs().topk(k).indices
    probe = _logistic(_columns(codes, latents), train.y)
    z = _columns(_encode(sae, test.x), latents)
    score = probe.decision_function(z)
    y = test.y.bool().numpy()
    return SparseProbe(latents, _balanced(score > 0, y), auroc(score, y))


def detect(sae: SparseAutoencoder, train: Labelled, test: Labelled, *, k: int = 20) -> Detection:
    """The single latent, with a sign, that detects a label best.

    Of the k latents with the largest difference of means, that of the best F1 on the training
    rows, at the threshold that is best there.

    Parameters
    ----------
    sae : SparseAutoencoder
    train, test : Labelled
    k : int, default 20

    Returns
    -------
    Detection
        AUROC and F1 on the test rows.
    """
    codes = _encode(sae, train.x)
    difference = mean_difference(codes, train.y)
    latents = difference.abs().topk(min(k, sae.n_latents)).indices
    signs = torch.where(difference[latents] < 0, -1.0, 1.0).numpy()
    scores = _columns(codes, latents) * signs
    y = train.y.bool().numpy()
    cuts = [_best_cut(score, y) for score in scores.T]
    best = int(np.argmax([f1 for _, f1 in cuts]))
    score = _columns(_encode(sae, test.x), latents[best, None])[:, 0] * signs[best]
    truth = test.y.bool().numpy()
    return Detection(
        int(latents[best]),
        int(signs[best]),
        auroc(score, truth),
        _f1(score >= cuts[best][0], truth),
    )


def ablate(
    sae: SparseAutoencoder, x: Tensor, latents: Tensor, *, means: Tensor | None = None
) -> Tensor:
    """Rows without the contributions of some latents; what the codes leave out stays.

    Parameters
    ----------
    sae : SparseAutoencoder
    x : Tensor, shape (..., d)
    latents : Tensor of int64
    means : Tensor, shape (f,), optional
        What their codes become; default zero.

    Returns
    -------
    Tensor, of x's shape and dtype
    """
    rows = x.reshape(-1, x.shape[-1])
    codes = _encode(sae, rows)
    chosen = torch.zeros(sae.n_latents, dtype=torch.bool, device=x.device)
    chosen[latents] = True
    decoder = sae.decoder.detach()
    kept = codes.values * chosen[codes.support.indices]
    removed = sparse_product(SparseCodes(kept, codes.support), decoder)
    if means is not None:
        removed = removed - means[latents] @ decoder[latents]
    return (rows - removed.to(x.dtype)).view(x.shape)


def label_latents(sae: SparseAutoencoder, rows: Labelled, *, n: int) -> Tensor:
    """The n latents that matter most to a linear probe for a label, best first."""
    probe = _logistic(rows.x.numpy(), rows.y)
    return _attributed(sae, _encode(sae, rows.x), rows.y, probe).topk(n).indices


def absorption(
    sae: SparseAutoencoder,
    train: Labelled,
    test: Labelled,
    *,
    least_cosine: float = 0.025,
    least_share: float = 0.4,
) -> float:
    """Share of true rows on which another latent has taken over from the label's own.

    The label's own latent is that of the largest difference of means. A row counts as absorbed
    where a linear probe on x finds the label, that latent is silent, and the latent that carries
    most of the label's direction points along it and carries enough.

    Parameters
    ----------
    sae : SparseAutoencoder
    train, test : Labelled
    least_cosine : float, default 0.025
        Of the absorbing latent's decoder row with the probe's direction.
    least_share : float, default 0.4
        Of the probe's reading of all codes that the absorbing latent must carry.

    Returns
    -------
    float
        Among the test rows that are true and found by the probe.
    """
    codes = _encode(sae, train.x)
    difference = mean_difference(codes, train.y)
    main = int(difference.abs().argmax())
    probe = _logistic(train.x.numpy(), train.y)
    weight = torch.from_numpy(probe.coef_[0]).to(sae.decoder.dtype)
    direction = weight / weight.norm()
    found = test.y.bool() & torch.from_numpy(probe.decision_function(test.x.numpy()) > 0)
    if not bool(found.any()):
        return 0.0
    z = _encode(sae, test.x[found]).dense()
    along = sae.decoder.detach() @ direction
    carried = z * along
    largest, absorbing = carried.max(1)
    cosine = along[absorbing].abs() / sae.decoder.detach()[absorbing].norm(dim=1)
    enough = largest >= least_share * carried.sum(1).clamp(min=1e-12)
    taken_over = (z[:, main] == 0) & (largest > 0) & (cosine >= least_cosine) & enough
    return float(taken_over.float().mean())


def spurious_removal(
    sae: SparseAutoencoder, train: Crossed, test: Crossed, *, n: int = 10
) -> SpuriousRemoval:
    """SCR: ablate the n latents of a spurious attribute under a probe that came to rely on it.

    The biased probe learns the target from the rows where both labels agree, the unbiased one from
    all rows with the four cells weighing alike. Accuracies are means over the four cells.

    Parameters
    ----------
    sae : SparseAutoencoder
    train, test : Crossed
    n : int, default 10

    Returns
    -------
    SpuriousRemoval
    """
    x, target, spurious = train.x, train.target.bool(), train.spurious.bool()
    agree = target == spurious
    biased = _logistic(x[agree].numpy(), target[agree])
    unbiased = _logistic(x.numpy(), target, cells=2 * target.long() + spurious.long())
    codes = _encode(sae, x)
    latents = _attributed(sae, codes, spurious, _logistic(x.numpy(), spurious)).topk(n).indices
    means = codes.support.column_sums(codes.values) / len(x)
    ablated = ablate(sae, test.x, latents, means=means)
    cells = (2 * test.target.long() + test.spurious.long()).numpy()
    y = test.target.bool().numpy()

    def accuracy(probe: LogisticRegression, rows: Tensor) -> float:
        right = probe.predict(rows.numpy()) == y
        return float(np.mean([right[cells == cell].mean() for cell in range(4)]))

    return SpuriousRemoval(
        accuracy(biased, test.x), accuracy(biased, ablated), accuracy(unbiased, test.x)
    )


def targeted_removal(
    sae: SparseAutoencoder,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    n: int = 10,
) -> TargetedRemoval:
    """TPP: ablate the n latents of each class in turn, and see whose probe suffers.

    Parameters
    ----------
    sae : SparseAutoencoder
    train, test : (Tensor of shape (n, d), Tensor of int64 of shape (n,))
        Rows and their classes, numbered from 0.
    n : int, default 10

    Returns
    -------
    TargetedRemoval
        Balanced accuracies, one class against the rest.
    """
    (x, y), (test_x, test_y) = train, test
    classes = int(y.max()) + 1
    codes = _encode(sae, x)
    probes = [_logistic(x.numpy(), y == c) for c in range(classes)]

    def accuracies(rows: Tensor) -> np.ndarray:
        return np.array(
            [
                _balanced(p.predict(rows.numpy()), (test_y == c).numpy())
                for c, p in enumerate(probes)
            ]
        )

    before = accuracies(test_x)
    drops = []
    for c, probe in enumerate(probes):
        latents = _attributed(sae, codes, y == c, probe).topk(n).indices
        drops.append(before - accuracies(ablate(sae, test_x, latents)))
    return TargetedRemoval(np.array(drops))


def unlearning_latents(
    sae: SparseAutoencoder, forget: Tensor, retain: Tensor, *, n: int, rarely: float = 0.01
) -> Tensor:
    """The n latents that fire most on rows to forget, of those that rarely fire elsewhere.

    Parameters
    ----------
    sae : SparseAutoencoder
    forget, retain : Tensor, shapes (m, d), (n, d)
    n : int
    rarely : float, default 0.01
        Largest share of the retained rows on which a latent may fire.

    Returns
    -------
    Tensor of int64
        At most n, best first; none where no latent is that selective.
    """
    on_forget = _encode(sae, forget).active / len(forget)
    on_retain = _encode(sae, retain).active / len(retain)
    score = torch.where(on_retain <= rarely, on_forget, 0.0)
    best = score.topk(min(n, sae.n_latents))
    return best.indices[best.values > 0]


@torch.no_grad()
def _encode(sae: SparseAutoencoder, x: Tensor) -> SparseCodes:
    return sae.encode(x)


def _columns(codes: SparseCodes, latents: Tensor) -> np.ndarray:
    """Codes of some latents, shape (n, k)."""
    rows, width = codes.support.shape
    place = torch.full((width,), -1)
    place[latents] = torch.arange(len(latents))
    at = place[codes.support.indices]
    z = codes.values.new_zeros(rows, len(latents))
    here = at >= 0
    z[codes.support.rows[here], at[here]] = codes.values.detach()[here]
    return z.numpy()


def _attributed(
    sae: SparseAutoencoder, codes: SparseCodes, y: Tensor, probe: LogisticRegression
) -> Tensor:
    direction = torch.from_numpy(probe.coef_[0]).to(sae.decoder.dtype)
    return (mean_difference(codes, y) * (sae.decoder.detach() @ direction)).abs()


def _logistic(x: np.ndarray, y: Tensor, *, cells: Tensor | None = None) -> LogisticRegression:
    """Logistic regression in which the classes, or the cells, weigh alike."""
    from sklearn.linear_model import LogisticRegression

    labels = y.bool().numpy()
    if labels.all() or not labels.any():
        raise ValueError(
            f"both values must occur, got {int(labels.sum())} true of {len(labels)} labels"
        )
    cells = y.long() if cells is None else cells
    counts = torch.bincount(cells).float()
    weights = (len(cells) / counts)[cells].numpy()
    return LogisticRegression(max_iter=200, tol=1e-3).fit(
        x, labels, sample_weight=weights / weights.mean()
    )


def _balanced(predicted: np.ndarray, y: np.ndarray) -> float:
    return float((predicted[y].mean() + (1 - predicted[~y]).mean()) / 2)


def _best_cut(score: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Threshold with the best F1 of ``score >= threshold``, and that F1."""
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(y[order])
    f1 = 2 * found / (np.arange(1, len(y) + 1) + y.sum())
    ends = np.append(np.diff(score[order]) != 0, True)  # a cut takes all of equal scores
    best = int(np.argmax(np.where(ends, f1, -1.0)))
    return float(score[order[best]]), float(f1[best])


def _f1(predicted: np.ndarray, y: np.ndarray) -> float:
    return float(2 * (predicted & y).sum() / max(1, predicted.sum() + y.sum()))
