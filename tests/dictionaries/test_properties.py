"""F1 scores against scikit-learn's, one feature and one property at a time."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score

from rarefy.dictionaries.properties import coverage, feature_f1, interpret_features, union_f1


@pytest.fixture(scope="module")
def active():
    found = torch.rand(120, 9, generator=torch.Generator().manual_seed(0)) < 0.2
    found[:, 3] = False
    found[:, 4] = True
    return found


@pytest.fixture(scope="module")
def labels():
    return torch.randint(6, (120,), generator=torch.Generator().manual_seed(1))


def test_scores_are_scikit_learn_s(active, labels):
    found = feature_f1(active, labels)
    for scores, peer in zip(found, (f1_score, precision_score, recall_score), strict=True):
        wanted = [
            [peer(labels == v, active[:, j], zero_division=0.0) for v in range(6)] for j in range(9)
        ]
        np.testing.assert_allclose(scores, wanted, atol=1e-6)


def test_properties_that_overlap(active, labels):
    has = torch.stack([labels < 3, labels > 1], dim=1)
    found = feature_f1(active, has).f1
    for j in range(9):
        assert found[j, 1] == pytest.approx(f1_score(has[:, 1], active[:, j], zero_division=0.0))


def test_union_is_the_best_prefix_of_the_sorted_values(active, labels):
    scores, values = union_f1(active, labels, unions=4)
    single = feature_f1(active, labels).f1
    for j in range(9):
        order = single[j].argsort(descending=True)[:4]
        joined = [
            f1_score(np.isin(labels, order[: i + 1]), active[:, j], zero_division=0.0)
            for i in range(4)
        ]
        assert scores.f1[j] == pytest.approx(max(joined))
        has = np.isin(labels, values[j].nonzero()[:, 0])
        assert scores.f1[j] == pytest.approx(f1_score(has, active[:, j], zero_division=0.0))
        assert scores.recall[j] == pytest.approx(recall_score(has, active[:, j]))
        assert scores.f1[j] >= single[j].max()


def test_a_union_of_one_is_the_best_value(active, labels):
    scores, values = union_f1(active, labels, unions=1)
    torch.testing.assert_close(scores.f1, feature_f1(active, labels).f1.amax(1))
    assert values.sum(1).eq(1).all()


def test_planted_features_are_described(labels):
    other = torch.arange(120) % 2
    active = torch.stack(
        [labels == 2, (labels == 1) | (labels == 4), other == 1, (labels == 0) & (other == 0)], 1
    )
    families = {
        "number": labels,
        "parity": other,
        "both": torch.stack([(labels == 0) & (other == 0), labels == 5], dim=1),
    }
    found = interpret_features(active, families)
    assert found.family == ["number", "number", "parity", "both"]
    assert found.scores.f1.eq(1).all()
    assert [row.nonzero()[:, 0].tolist() for row in found.values] == [[2], [1, 4], [1], [0]]


def test_coverage_counts_values_with_a_feature(labels):
    active = torch.stack([labels == 0, labels == 0, labels == 3, labels < 2], dim=1)
    assert coverage(active, labels, threshold=0.9) == pytest.approx(2 / 6)
    # The last feature speaks of 1 as well, half the time.
    assert coverage(active, labels, threshold=0.5) == pytest.approx(3 / 6)


def test_bad_input(active, labels):
    with pytest.raises(ValueError, match="are wanted"):
        feature_f1(active, labels[1:])
    with pytest.raises(ValueError, match="unions is 0, expected at least 1"):
        union_f1(active, labels, unions=0)
    with pytest.raises(ValueError, match="expected one value for each prompt"):
        union_f1(active, torch.ones(120, 2).bool())
    with pytest.raises(ValueError, match="properties is empty"):
        interpret_features(active, {})
