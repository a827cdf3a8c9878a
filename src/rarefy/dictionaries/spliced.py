r"""What a language model loses when a dictionary's reconstruction takes the place of a site.

.. math:: \text{loss recovered} = \frac{L_{\text{ablated}} - L_{\text{spliced}}}
    {L_{\text{ablated}} - L_{\text{clean}}}, \qquad
    \text{KL} = E\, \mathrm{KL}(p_{\text{clean}} \| p_{\text{spliced}})

with the site ablated to zero, or to its mean, which is the harder comparison. Special tokens and
the first positions are left as they are in all of them, and all predicted tokens are counted.

Axis letters: n windows, l tokens a window, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rarefy.dictionaries.harvest import Site, content_mask, harvest
from rarefy.dictionaries.splice import splice


class Spliced(NamedTuple):
    """Losses of a language model, in nats a token.

    Attributes
    ----------
    clean, spliced, zero, mean : float
        Cross entropy of the model as it is, with the reconstruction, and with the site at zero or
        at its mean.
    kl : float
        Divergence of the spliced predictions from the clean ones.
    """

    clean: float
    spliced: float
    zero: float
    mean: float
    kl: float

    @property
    def recovered(self) -> float:
        """Loss recovered against zero ablation, 1 where nothing is lost."""
        return (self.zero - self.spliced) / (self.zero - self.clean)

    @property
    def recovered_from_mean(self) -> float:
        """Loss recovered against mean ablation."""
        return (self.mean - self.spliced) / (self.mean - self.clean)


@torch.no_grad()
def evaluate_spliced(
    model: nn.Module,
    windows: Tensor,
    site: Site,
    fn: Callable[[Tensor], Tensor],
    *,
    batch: int = 8,
    exclude: Collection[int] | None = None,
    skip: int = 0,
) -> Spliced:
    """Measure a reconstruction inside its model.

    Parameters
    ----------
    model : nn.Module
        A transformers causal language model.
    windows : int64 Tensor, shape (n, l), l >= 2
    site : str or int
    fn : callable
        From activations of shape (n, l, d) to their reconstruction, such as an autoencoder.
    batch : int, default 8
        Windows a forward pass.
    exclude, skip
        Positions that stay as they are, as for :func:`~rarefy.dictionaries.content_mask`.

    Returns
    -------
    Spliced
    """
    x = harvest(model, windows, site, batch=batch, exclude=exclude, skip=skip, limit=65_536)
    mean = x.mean(0)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "spliced": fn,
        "zero": torch.zeros_like,
        "mean": lambda x: mean.expand_as(x),
    }
    sums = dict.fromkeys(("clean", *ways, "kl"), 0.0)
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        for ids in windows.split(batch):
            ids = ids.to(device)
            mask = content_mask(model, ids, exclude=exclude, skip=skip)
            clean = _log_probabilities(model, ids)
            targets = ids[:, 1:].flatten()
            sums["clean"] += float(_loss(clean, targets))
            for way, change in ways.items():
                with splice(model, site, change, mask=mask):
                    changed = _log_probabilities(model, ids)
                sums[way] += float(_loss(changed, targets))
                if way == "spliced":
                    sums["kl"] += float((clean.exp() * (clean - changed)).sum())
    finally:
        model.train(training)
    predicted = windows.shape[0] * (windows.shape[1] - 1)
    return Spliced(**{name: total / predicted for name, total in sums.items()})


def _log_probabilities(model: nn.Module, ids: Tensor) -> Tensor:
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return logits.flatten(0, 1).float().log_softmax(-1)


def _loss(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    # They are normalised already, so this only picks the targets' entries.
    return cross_entropy(log_probabilities, targets, reduction="sum")
