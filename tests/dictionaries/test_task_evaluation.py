"""A task whose answer is known: linear readout of orthogonal attribute vectors."""

import pytest
import torch

from rarefy.dictionaries.task_evaluation import Task

VALUES, SITES, N = 4, 2, 60


@pytest.fixture(scope="module")
def prompts():
    g = torch.Generator().manual_seed(0)
    right = torch.randint(VALUES, (N,), generator=g)
    return right, (right + 1 + torch.randint(VALUES - 1, (N,), generator=g)) % VALUES


def activations(values):
    """One-hot vectors of the value at every site."""
    return torch.eye(VALUES)[values][:, None].repeat(1, SITES, 1)


@pytest.fixture(scope="module")
def task(prompts):
    return Task(activations(prompts[0]), lambda a: a.sum(1), *prompts)


def test_perfect_and_empty_reconstructions(task):
    assert task.approximation(task.activations) == pytest.approx((1, 1, 1))
    # The mean keeps nothing, and what it leaves out is everything.
    sufficiency, necessity, recovered = task.approximation(task.mean)
    assert sufficiency == pytest.approx(task.ablated / task.clean)
    assert (necessity, recovered) == pytest.approx((0, 0))


def test_half_the_way_is_half(task):
    half = (task.activations + task.mean) / 2
    assert task.approximation(half)[1:] == pytest.approx((0.5, 0.5))


def test_logit_difference_is_the_mean_over_prompts(task, prompts):
    noise = torch.randn(N, SITES, VALUES, generator=torch.Generator().manual_seed(1))
    logits = noise.sum(1)
    wanted = sum(logits[i, r] - logits[i, w] for i, (r, w) in enumerate(zip(*prompts))) / N  # noqa: B905
    assert task.logit_difference(noise) == pytest.approx(float(wanted), abs=1e-5)


def test_agreement_is_with_the_patch(task, prompts):
    target = activations(prompts[1])
    assert task.agreement(target, target) == 1
    assert task.agreement(task.activations, target) == 0
    some = torch.where(torch.arange(N)[:, None, None] < 15, target, task.activations)
    assert task.agreement(some, target) == 15 / N


def test_control_of_the_true_dictionary(task, prompts):
    # One change per site takes out the old value or puts in the new one: a tie, or not; two do it.
    target = activations(prompts[1])
    codes = [task.activations[:, i] for i in range(SITES)]
    wanted = [target[:, i] for i in range(SITES)]
    decoders = [torch.eye(VALUES)] * SITES
    two = task.control(target, codes, wanted, decoders, k=2)
    assert two.agreement == 1
    # All of the source's reconstruction is changed.
    assert two.weight == pytest.approx(1)


def test_a_task_that_does_not_need_its_sites_is_refused(prompts):
    with pytest.raises(ValueError, match="the task does not depend on these sites"):
        Task(activations(prompts[0]), lambda a: torch.eye(VALUES)[prompts[0]], *prompts)
