"""Measurements beyond accuracy, against scikit-learn, scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import log_loss, recall_score, roc_auc_score
from torch import nn

from rarefy.weights import calibration_error, evaluate_suite, fast_gradient_sign
from rarefy.weights.diagnosis.beyond import blurred


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def task():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(36, 24), nn.Dropout(), nn.ReLU(), nn.Linear(24, 4)
    )
    return model, torch.randn(200, 1, 6, 6, generator=gen()), torch.arange(200) % 4


def test_equals_scikit_learn(task):
    model, x, y = task
    dense, strange = nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), 3 * x.flip(3)
    found = evaluate_suite(model, x, y, dense=dense, strange=strange, generator=gen())
    assert model.training and model[2].training
    with torch.no_grad():
        model.eval()
        p, q = (model(at).softmax(1).numpy() for at in (x, strange))
        before = dense(x).argmax(1).numpy()
    answers = p.argmax(1)
    assert found["accuracy"] == pytest.approx((answers == y.numpy()).mean())
    assert found["nll"] == pytest.approx(log_loss(y, p), rel=1e-5)
    assert found["brier"] == pytest.approx(((p - np.eye(4)[y]) ** 2).sum(1).mean(), rel=1e-5)
    recalls, old = (recall_score(y, a, average=None) for a in (answers, before))
    assert found["worst_recall"] == pytest.approx(recalls.min())
    assert found["recall_drop"] == pytest.approx((old - recalls).max())
    assert found["churn"] == pytest.approx((answers != before).mean())
    truth = np.repeat([1, 0], 200)
    auc = roc_auc_score(truth, np.concatenate([p.max(1), q.max(1)]))
    assert found["ood_auc"] == pytest.approx(auc)


def test_calibration_error_bin_by_bin():
    confidence, right = torch.rand(500, generator=gen()), torch.rand(500, generator=gen(1)) < 0.6
    wanted = 0.0
    for low in range(15):
        inside = (confidence >= low / 15) & (confidence < (low + 1) / 15)
        if inside.any():
            gap = right[inside].float().mean() - confidence[inside].mean()
            wanted += float(inside.float().mean() * gap.abs())
    assert calibration_error(confidence, right) == pytest.approx(wanted, rel=1e-4)


def test_the_attack_on_a_linear_model_is_known_in_closed_form():
    model, x = nn.Linear(3, 2), torch.randn(50, 3, generator=gen())
    y = torch.arange(50) % 2
    away = (model.weight[1 - y] - model.weight[y]).sign()
    attacked = fast_gradient_sign(model, x, y, epsilon=0.2)
    torch.testing.assert_close(attacked, x + 0.2 * away)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("sigma", [0.4, 1.2])
def test_blur_is_scipys(sigma):
    x = torch.randn(2, 3, 9, 11, generator=gen(), dtype=torch.float64)
    wanted = gaussian_filter(x.numpy(), sigma, mode="nearest", axes=(2, 3), truncate=4)
    np.testing.assert_allclose(blurred(x, sigma).numpy(), wanted, atol=1e-9)


def test_corruptions_hurt_what_reads_them_and_spare_what_does_not():
    stripes = torch.tensor([[1.0, -1.0] * 4] * 8)
    bright = torch.stack([stripes, -stripes])  # told apart by single pixels alone
    y = torch.arange(60) % 2
    x = bright[y][:, None]
    by_pixel = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    with torch.no_grad():
        by_pixel[1].weight.zero_()
        by_pixel[1].weight[:, 0] = torch.tensor([1.0, -1.0])
    found = evaluate_suite(by_pixel, x, y, generator=gen())
    assert found["accuracy"] == found["contrast"] == 1.0
    assert found["noise"] < 1.0
    assert found["fgsm"] == 1.0
    assert evaluate_suite(by_pixel, x, y, epsilon=1.1, generator=gen())["fgsm"] == 0.0


def test_a_model_that_says_nothing_and_bad_requests(task):
    _, x, y = task
    silent = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    nn.init.zeros_(silent[1].weight)
    nn.init.zeros_(silent[1].bias)
    found = evaluate_suite(silent, x, y, dense=silent, strange=x, generator=gen())
    assert found["nll"] == pytest.approx(math.log(4))
    assert (found["churn"], found["recall_drop"], found["ood_auc"]) == (0, 0, 0.5)
    assert found["worst_recall"] == 0 and found["brier"] == pytest.approx(0.75)
    with pytest.raises(ValueError, match="as many examples, one or more, got 200 and"):
        evaluate_suite(silent, x, y[:3], generator=gen())
    with pytest.raises(ValueError, match="labels must be from 0 to 3, .* got 0 to 4"):
        evaluate_suite(silent, x, torch.arange(200) % 5, generator=gen())
