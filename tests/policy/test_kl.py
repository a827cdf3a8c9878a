"""By enumeration over a small vocabulary: expectations are exact sums, not samples."""

import pytest
import torch

from rarefy.policy import importance_ratio, kl_estimate


@pytest.fixture
def policies():
    generator = torch.Generator().manual_seed(0)
    logits, reference = torch.randn(2, 7, dtype=torch.float64, generator=generator)
    return logits.requires_grad_(), reference.log_softmax(0)


def kl(p, q):
    return (p.exp() * (p - q)).sum()


def expected_gradient(logits, reference, kind):
    """Gradient of the estimate in the loss, averaged over what the policy samples."""
    logps = logits.log_softmax(0)
    loss = (logps.exp().detach() * kl_estimate(logps, reference, kind=kind)).sum()
    return torch.autograd.grad(loss, logits)[0]


def test_k1_and_k3_are_unbiased_and_k3_is_never_negative(policies):
    logits, reference = policies
    logps = logits.log_softmax(0).detach()
    for kind in ("k1", "k3"):
        estimate = kl_estimate(logps, reference, kind=kind)
        torch.testing.assert_close((logps.exp() * estimate).sum(), kl(logps, reference))
    assert (kl_estimate(logps, reference) >= 0).all()


def test_k2_has_the_gradient_of_the_reverse_kl_k3_of_the_forward_one_and_k1_none(policies):
    logits, reference = policies
    logps = logits.log_softmax(0)
    (reverse,) = torch.autograd.grad(kl(logps, reference), logits, retain_graph=True)
    (forward,) = torch.autograd.grad(kl(reference, logps), logits)
    torch.testing.assert_close(expected_gradient(*policies, "k2"), reverse)
    torch.testing.assert_close(expected_gradient(*policies, "k3"), forward)
    assert expected_gradient(*policies, "k1").abs().max() < 1e-12


def test_k3_times_the_ratio_has_the_gradient_of_the_reverse_kl_off_policy_too(policies):
    logits, reference = policies
    old = torch.linspace(-1, 1, 7, dtype=torch.float64).log_softmax(0)
    logps = logits.log_softmax(0)
    ratio = importance_ratio(logps[None], old[None], torch.ones(1, 7))[0]
    loss = (old.exp() * ratio * kl_estimate(logps, reference)).sum()
    (got,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (reverse,) = torch.autograd.grad(kl(logps, reference), logits)
    torch.testing.assert_close(got, reverse)


def test_one_token_cannot_be_the_whole_loss():
    logps = torch.tensor([-200.0, -200.0, -1.0], requires_grad=True)
    estimate = kl_estimate(logps, torch.tensor([-1.0, -197.0, -200.0]))
    assert estimate.tolist()[0] == 10.0
    assert estimate.tolist()[2] == 10.0
    estimate.sum().backward()
    assert logps.grad.isfinite().all()


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match='kind must be "k1", "k2" or "k3", got \'k4\''):
        kl_estimate(torch.zeros(1), torch.zeros(1), kind="k4")
