r"""Estimates of KL(policy || reference) from the tokens that the policy sampled.

With d = log pi_ref - log pi at a sampled token,

.. math:: k_1 = -d, \qquad k_2 = d^2 / 2, \qquad k_3 = e^d - d - 1

k1 and k3 are unbiased, k3 is never negative and varies less. Added to a *loss*, what counts is the
gradient: on policy that of k2 is the exact gradient of the reverse KL, that of k1 is zero on
average, and that of k3 is the forward KL's (GRPO). k3 times the importance ratio of the tokens has
the reverse KL's again, off policy too (DeepSeek-V3.2; TRL's default). Added to a *reward*, take k1.

Source: Schulman 2020, "Approximating KL divergence" (joschu.net/blog/kl-approx.html). Departures:
for k3, d is clamped to +-20 and the estimate to 10, as verl does, so that one token which the
reference finds a thousand times likelier cannot be the whole loss; no gradient passes a clamp.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

MAX_LOG_RATIO = 20.0
MAX_K3 = 10.0


def kl_estimate(
    logps: Tensor, ref_logps: Tensor, *, kind: Literal["k1", "k2", "k3"] = "k3"
) -> Tensor:
    """Estimate the KL divergence from the reference, token by token.

    Parameters
    ----------
    logps, ref_logps : Tensor, shape (B, T)
        Log-probabilities of the sampled tokens under the policy and the reference.
    kind : {"k1", "k2", "k3"}, default "k3"
        GRPO's is k3, DLER's k2; see the head of this module.

    Returns
    -------
    Tensor, shape (B, T)

    Examples
    --------
    >>> import torch
    >>> p, q = torch.tensor([-1.0]), torch.tensor([-2.0])
    >>> [round(float(kl_estimate(p, q, kind=k)), 4) for k in ("k1", "k2", "k3")]
    [1.0, 0.5, 0.3679]
    """
    d = ref_logps - logps
    if kind == "k1":
        return -d
    if kind == "k2":
        return d.square() / 2
    if kind == "k3":
        d = d.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        return (d.exp() - d - 1).clamp(max=MAX_K3)
    raise ValueError(f'kind must be "k1", "k2" or "k3", got {kind!r}')
