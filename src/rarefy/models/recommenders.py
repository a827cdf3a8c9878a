"""Four recommenders for implicit feedback, each with its loss and its scores of all items.

    MF        s_ui = <p_u, q_i>
    LightGCN  the same after E' = mean_k A^k E,   A = D^-1/2 X D^-1/2 of the bipartite graph
    NeuMF     s_ui = w . [p_u q_i ; MLP(p'_u, q'_i)]
    MultVAE   a user's row through a variational autoencoder of multinomial likelihood

Losses: BPR, softplus(s_uj - s_ui) + l2/2 (|p_u|^2 + |q_i|^2 + |q_j|^2); for NeuMF binary
cross-entropy of s_ui and s_uj; for MultVAE -sum x log softmax + beta KL.

Sources: Rendle et al. 2009 (BPR); He et al. 2020 (LightGCN); He et al. 2017 (NeuMF); Liang et al.
2018 (MultVAE). Departures: none; sizes are those of Dynamic Sparse Learning's released settings.

Axis letters: n users or pairs of a batch, U users, I items, d embedding size.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    embedding,
    linear,
    normalize,
    softplus,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class Recommender(Protocol):
    """What training and ranking ask of a model."""

    embeddings: ClassVar[tuple[str, ...]]
    """Names of the parameters that sparse training prunes."""

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Loss of a batch: ids of users, of items they chose, of items they did not; all (n,)."""

    def scores(self, users: Tensor) -> Tensor:
        """Scores of all items for some users, (n, I), without gradient."""


class MF(nn.Module):
    """Matrix factorisation: a table of users and one of items.

    Parameters
    ----------
    interactions : sparse matrix, shape (U, I)
        Of training; only its shape matters here.
    dim : int, default 64
    l2 : float, default 1e-4
    generator : torch.Generator
        Draws the tables (Xavier uniform).
    """

    embeddings: ClassVar[tuple[str, ...]] = ("user.weight", "item.weight")

    def __init__(
        self,
        interactions: csr_array,
        *,
        dim: int = 64,
        l2: float = 1e-4,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        users, items = interactions.shape
        self.l2 = l2
        self.user, self.item = _table(users, dim, generator), _table(items, dim, generator)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """BPR."""
        rows = self.user(users), self.item(positives), self.item(negatives)
        return _bpr(*rows) + self.l2 * _halved_squares(rows)

    @torch.no_grad()
    def scores(self, users: Tensor) -> Tensor:
        """Scores of all items, (n, I)."""
        return self.user(users) @ self.item.weight.T


class LightGCN(nn.Module):
    """Embeddings smoothed over the graph of who chose what, without weights or activations.

    Users are the first rows of the one table, items the rows behind them.

    Parameters
    ----------
    interactions : sparse matrix, shape (U, I)
        Of training: the graph.
    dim : int, default 64
    layers : int, default 3
    l2 : float, default 1e-4
    generator : torch.Generator
        Draws the table (Xavier uniform).
    """

    embeddings: ClassVar[tuple[str, ...]] = ("table.weight",)
    graph: Tensor

    def __init__(
        self,
        interactions: csr_array,
        *,
        dim: int = 64,
        layers: int = 3,
        l2: float = 1e-4,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if layers < 0:
            raise ValueError(f"layers must not be negative, got {layers}")
        self.n_users, self.layers, self.l2 = interactions.shape[0], layers, l2
        self.table = _table(sum(interactions.shape), dim, generator)
        self.register_buffer("graph", _normalised(interactions), persistent=False)

    def propagated(self) -> tuple[Tensor, Tensor]:
        """Smoothed users (U, d) and items (I, d)."""
        total = layer = self.table.weight
        for _ in range(self.layers):
            layer = _Symmetric.apply(self.graph, layer)
            total = total + layer
        mean = total / (self.layers + 1)
        return mean[: self.n_users], mean[self.n_users :]

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """BPR on the smoothed rows; the L2 term is on the table's own."""
        user, item = self.propagated()
        own = [
            self.table(ids) for ids in (users, *(self.n_users + i for i in (positives, negatives)))
        ]
        # embedding() and not indexing: its backward pass adds rows up several times faster.
        smooth = embedding(users, user), embedding(positives, item), embedding(negatives, item)
        return _bpr(*smooth) + self.l2 * _halved_squares(own)

    @torch.no_grad()
    def scores(self, users: Tensor) -> Tensor:
        """Scores of all items, (n, I)."""
        user, item = self.propagated()
        return user[users] @ item.T


class NeuMF(nn.Module):
    """A product of embeddings beside a small MLP on others; the MLP's tables are pruned.

    Parameters
    ----------
    interactions : sparse matrix, shape (U, I)
        Only its shape matters.
    dim : int, default 16
        Of all four tables.
    hidden : sequence of int, default (32, 16, 8)
        Widths of the MLP behind its input of ``2 dim``.
    dropout : float, default 0.2
        At the input of each of its layers.
    generator : torch.Generator
        Draws the weights and the dropout.
    """

    embeddings: ClassVar[tuple[str, ...]] = ("mlp_user.weight", "mlp_item.weight")

    def __init__(
        self,
        interactions: csr_array,
        *,
        dim: int = 16,
        hidden: tuple[int, ...] = (32, 16, 8),
        dropout: float = 0.2,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        users, items = interactions.shape
        self.user, self.item = _table(users, dim, generator), _table(items, dim, generator)
        self.mlp_user, self.mlp_item = _table(users, dim, generator), _table(items, dim, generator)
        self._layers = [
            _linear(ins, outs, generator)
            for ins, outs in zip((2 * dim, *hidden), hidden, strict=False)
        ]
        self.layers = nn.ModuleList(self._layers)
        self.head = _linear(dim + hidden[-1], 1, generator)
        self.dropout, self._generator = dropout, generator

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Logits of pairs, (n,)."""
        hidden = torch.cat([self.mlp_user(users), self.mlp_item(items)], dim=-1)
        for layer in self.layers:
            hidden = layer(self._dropped(hidden)).relu()
        product = self.user(users) * self.item(items)
        return self.head(torch.cat([product, hidden], dim=-1)).squeeze(-1)

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Binary cross-entropy: of what was chosen, and of what was not."""
        logits = torch.stack([self(users, positives), self(users, negatives)])
        target = torch.zeros_like(logits)
        target[0] = 1
        return 2 * binary_cross_entropy_with_logits(logits, target)

    @torch.no_grad()
    def scores(self, users: Tensor) -> Tensor:
        """Scores of all items, (n, I)."""
        was = self.training
        self.eval()
        # The first layer is linear in [p'_u ; q'_i]: its two halves are multiplied once each.
        first, *others = self._layers
        of_user, of_item = first.weight.chunk(2, dim=1)
        left, right = linear(self.mlp_user(users), of_user), linear(self.mlp_item.weight, of_item)
        hidden = (left[:, None] + right[None] + first.bias).relu()
        for layer in others:
            hidden = layer(hidden).relu()
        of_product, of_hidden = self.head.weight.split(
            [self.user.embedding_dim, hidden.shape[-1]], 1
        )
        product = (self.user(users) * of_product) @ self.item.weight.T
        self.train(was)
        return product + linear(hidden, of_hidden).squeeze(-1) + self.head.bias

    def _dropped(self, x: Tensor) -> Tensor:
        return _dropped(x, self.dropout, self._generator) if self.training else x


class MultVAE(nn.Module):
    """A variational autoencoder of users' rows; all its weight matrices are pruned.

    Parameters
    ----------
    interactions : sparse matrix, shape (U, I)
        The rows that users are encoded from, in training and in ranking.
    latent, hidden : int, default 200 and 600
    dropout : float, default 0.5
        On the L2-normalised input.
    beta : float, default 0.2
        Weight of the KL term once annealed.
    anneal : int, default 200_000
        Batches until it is.
    generator : torch.Generator
        Draws weights, dropout and the latent noise.
    """

    embeddings: ClassVar[tuple[str, ...]] = (
        "encoder.0.weight",
        "encoder.2.weight",
        "decoder.0.weight",
        "decoder.2.weight",
    )
    batches: Tensor

    def __init__(
        self,
        interactions: csr_array,
        *,
        latent: int = 200,
        hidden: int = 600,
        dropout: float = 0.5,
        beta: float = 0.2,
        anneal: int = 200_000,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        from scipy.sparse import csr_array

        items = interactions.shape[1]
        self.encoder = nn.Sequential(
            _linear(items, hidden, generator), nn.Tanh(), _linear(hidden, 2 * latent, generator)
        )
        self.decoder = nn.Sequential(
            _linear(latent, hidden, generator), nn.Tanh(), _linear(hidden, items, generator)
        )
        self.dropout, self.beta, self.anneal = dropout, beta, anneal
        self.register_buffer("batches", torch.tensor(0))
        self._rows, self._generator = csr_array(interactions, dtype=np.float32), generator

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of all items, (n, I), and each row's KL divergence, (n,)."""
        x = normalize(rows)
        if self.training:
            x = _dropped(x, self.dropout, self._generator)
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
        if self.training:
            mean = mean + (0.5 * log_variance).exp() * _normal(mean, self._generator)
        return self.decoder(mean), divergence

    def loss(self, users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:  # noqa: ARG002 - a row has all of a user's items
        """Multinomial likelihood of the users' rows, and the annealed KL term."""
        rows = self._rows_of(users)
        logits, divergence = self(rows)
        self.batches += 1
        beta = self.beta * min(1.0, float(self.batches) / self.anneal)
        likelihood = (rows * logits.log_softmax(-1)).sum(-1)
        return (beta * divergence - likelihood).mean()

    @torch.no_grad()
    def scores(self, users: Tensor) -> Tensor:
        """Scores of all items, (n, I)."""
        was = self.training
        self.eval()
        logits, _ = self(self._rows_of(users))
        self.train(was)
        return logits

    def _rows_of(self, users: Tensor) -> Tensor:
        rows = torch.from_numpy(self._rows[users.cpu().numpy()].toarray())
        return rows.to(self.batches.device)


class _Symmetric(torch.autograd.Function):
    """A x for a symmetric A, whose backward pass is A again; torch would transpose A every time."""

    @staticmethod
    def forward(ctx, graph, x):  # type: ignore[no-untyped-def] # noqa: ANN001
        ctx.graph = graph
        return graph @ x

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def] # noqa: ANN001
        return None, ctx.graph @ gradient


def _normalised(interactions: csr_array) -> Tensor:
    """D^-1/2 [0 X; X' 0] D^-1/2 as a CSR tensor, (U + I, U + I)."""
    from scipy.sparse import block_array, csr_array

    users, items = interactions.shape
    x = csr_array(interactions, dtype=np.float32)
    empty = csr_array((users, users)), csr_array((items, items))
    graph = block_array([[empty[0], x], [x.T, empty[1]]], format="csr", dtype=np.float32)
    degree = np.maximum(graph.sum(axis=1), 1) ** -0.5
    graph.data *= np.repeat(degree, np.diff(graph.indptr)) * degree[graph.indices]
    rows, columns, values = map(torch.from_numpy, (graph.indptr, graph.indices, graph.data))
    with warnings.catch_warnings():
        # torch announces once a process that CSR tensors are in beta; products with them work.
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(rows, columns, values, graph.shape, check_invariants=True)


def _bpr(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    return softplus((user * (negative - positive)).sum(-1)).mean()


def _halved_squares(rows: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.stack([row.square().sum() for row in rows]).sum() / (2 * len(rows[0]))


def _table(rows: int, dim: int, generator: torch.Generator) -> nn.Embedding:
    if rows < 1 or dim < 1:
        raise ValueError(f"a table needs a row and a column at least, got {rows} x {dim}")
    return nn.Embedding(rows, dim, _weight=_xavier(rows, dim, generator))


def _linear(ins: int, outs: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, ins, outs)
    layer.weight = nn.Parameter(_xavier(outs, ins, generator))
    nn.init.zeros_(layer.bias)
    return layer


def _xavier(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return nn.init.xavier_uniform_(torch.empty(rows, columns), generator=generator)


def _dropped(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    # Drawn on the generator's device, so that a seed means the same on any other.
    kept = torch.rand(x.shape, generator=generator, device=generator.device).to(x.device) >= share
    return x * kept / (1 - share)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(like.shape, generator=generator, device=generator.device)
    return drawn.to(like.device)
