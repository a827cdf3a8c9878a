"""What paper 23's transformer is trained on: bytes of Python source, and small pictures.

Axis letters: b batch, t places in a sequence, d width, k patches.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention, unfold

from rarefy.data import modules, read_documents, sample_windows, windows
from rarefy.data.images import Images
from rarefy.papers._recipe import Trial

_PATCH = 2


class Text(NamedTuple):
    """Bytes to train on, (t,), and held-out windows of them, (n, context + 1)."""

    train: Tensor
    held_out: Tensor


def read_text(trial: Trial, path: Path | None) -> Text:
    """Read the bytes; of a user's own text the last tenth is held out."""
    context = trial.pick(smoke=16, default=32, full=256)
    if path is not None:
        everything = _bytes("\n".join(read_documents(path)))
        cut = len(everything) * 9 // 10
        train, rest = everything[:cut], everything[cut:]
    else:
        train, rest = _library(trial.pick(smoke=100, default=10, full=1))
    return Text(train, windows(rest, context + 1, limit=trial.pick(smoke=8, default=256, full=512)))


@cache
def _library(every: int) -> tuple[Tensor, Tensor]:
    """Every so manieth module of the standard library, and the held-out ones; read once."""
    train = "\n".join(module.read() for module in modules("train", tests=False)[::every])
    rest = "\n".join(module.read() for module in modules("heldout", tests=False))
    return _bytes(train), _bytes(rest)


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()


class Transformer(nn.Module):
    """Pre-norm blocks over embedded inputs, with learned positions; the head reads every place.

    Parameters
    ----------
    embed : nn.Module
        From inputs to (b, t, d).
    width, layers, length, outputs : int
        d, the number of blocks, the longest t, and what the head says.
    causal : bool
        Whether a place sees only those before it.
    """

    def __init__(
        self, embed: nn.Module, *, width: int, layers: int, length: int, outputs: int, causal: bool
    ) -> None:
        super().__init__()
        self.embed = embed
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, causal) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (b, t, outputs)."""
        x = self.embed(x)
        return self.head(self.norm(self.blocks(x + self.positions[: x.shape[1]])))


class Block(nn.Module):
    """Attention of four heads and a feed-forward pair of four times the width."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.norm, self.ff_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, t, d) to the same."""
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, t, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, d))
        return x + self.down(gelu(self.up(self.ff_norm(x))))


class Patches(nn.Module):
    """Pictures (b, c, h, w) as embedded patches, (b, k, d)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels * _PATCH**2, width)

    def forward(self, x: Tensor) -> Tensor:
        """Cut and embed."""
        return self.linear(unfold(x, _PATCH, stride=_PATCH).transpose(1, 2))


class Language:
    """Predict the next byte."""

    rate = 2e-3

    def __init__(self, text: Text, trial: Trial) -> None:
        self._text, self._trial = text, trial
        self.steps = trial.pick(smoke=6, default=300, full=20_000)

    def model(self) -> Transformer:
        """Build the dense network; call it with the seed set."""
        width = self._trial.pick(smoke=64, default=64, full=256)
        return Transformer(
            nn.Embedding(256, width),
            width=width,
            layers=self._trial.pick(smoke=1, default=2, full=6),
            length=self._text.held_out.shape[1] - 1,
            outputs=256,
            causal=True,
        )

    def inputs(self) -> Tensor:
        """One input to count operations on."""
        return self._text.held_out[:1, :-1]

    def loss(self, model: nn.Module, draw: torch.Generator) -> Tensor:
        """Mean cross-entropy of a batch, nats a byte."""
        size = self._trial.pick(smoke=2, default=8, full=64)
        length = self._text.held_out.shape[1]
        return self._loss(model, sample_windows(self._text.train, length, size, generator=draw))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Cross-entropy on the held-out windows."""
        parts = self._text.held_out.split(128)
        losses = [float(self._loss(model, part)) * len(part) for part in parts]
        return {"loss": sum(losses) / len(self._text.held_out)}

    def _loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        batch = batch.to(self._trial.device)
        return cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


class Vision:
    """Classify pictures by the mean over the places."""

    rate = 5e-3

    def __init__(self, images: Images, trial: Trial) -> None:
        self._images, self._trial = images, trial
        self.steps = trial.pick(smoke=6, default=250, full=5000)

    def model(self) -> Transformer:
        """Build the dense network; call it with the seed set."""
        width = self._trial.pick(smoke=32, default=32, full=128)
        _, channels, height, wide = self._images.x.shape
        return Transformer(
            Patches(channels, width),
            width=width,
            layers=self._trial.pick(smoke=1, default=2, full=6),
            length=(height // _PATCH) * (wide // _PATCH),
            outputs=self._images.classes,
            causal=False,
        )

    def inputs(self) -> Tensor:
        """One input to count operations on."""
        return self._images.x[:1]

    def loss(self, model: nn.Module, draw: torch.Generator) -> Tensor:
        """Mean cross-entropy of a batch."""
        at = torch.randint(len(self._images.x), (32,), generator=draw)
        x, y = self._images.x[at], self._images.y[at]
        x, y = x.to(self._trial.device), y.to(self._trial.device)
        return cross_entropy(model(x).mean(1), y)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Share of the test pictures that are named rightly, and the cross-entropy."""
        logits = model(self._images.test_x.to(self._trial.device)).mean(1).cpu()
        right = logits.argmax(1) == self._images.test_y
        return {
            "accuracy": float(right.float().mean()),
            "loss": float(cross_entropy(logits, self._images.test_y)),
        }


Task = Language | Vision
