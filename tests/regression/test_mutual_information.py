"""Every estimator against what it must equal: closed forms, exact tables, sums, scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gaussian_kde
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from sklearn.metrics import mutual_info_score

from rarefy.kernels.cpu.information import (
    REACH,
    best_bins,
    kde_information,
    kde_information_reference,
)
from rarefy.regression import isj_bandwidth, linfoot, mutual_info_screen
from rarefy.regression.bandwidths import rule_of_thumb
from rarefy.regression.mutual_information import Settings, Target, _side

ESTIMATORS = ("kde", "binning", "knn", "pearson")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal_pair(rng, r, n):
    x, e = rng.standard_normal((2, n))
    return x[:, None], r * x + np.sqrt(1 - r * r) * e


@pytest.mark.parametrize("r", [0.3, 0.9])
@pytest.mark.parametrize(
    ("estimator", "tolerance"), [("pearson", 0.02), ("knn", 0.04), ("binning", 0.06)]
)
def test_a_bivariate_normal_has_the_closed_form(rng, r, estimator, tolerance):
    x, y = normal_pair(rng, r, 4000)
    truth = -0.5 * np.log(1 - r * r)
    assert mutual_info_screen(x, y, estimator=estimator) == pytest.approx(truth, abs=tolerance)


@pytest.mark.parametrize("bandwidth", [1.0, 0.5])
def test_a_smoothed_bivariate_normal_has_the_closed_form_too(rng, bandwidth):
    # independent noise of variance h^2 on both sides lowers the correlation to r / (1 + h^2), but
    # an Epanechnikov kernel adds no normal noise: the law is only close to a normal one
    x, y = normal_pair(rng, 0.9, 20_000)
    r = 0.9 / (1 + bandwidth**2)
    found = mutual_info_screen(x, y, bandwidth=bandwidth)
    assert found == pytest.approx(-0.5 * np.log(1 - r * r), rel=0.06)


@pytest.mark.parametrize("classes", [0, 3])
def test_densities_equal_the_products_of_matrices(rng, classes):
    columns = rng.standard_normal((4, 150)) * np.array([[1.0], [5.0], [0.1], [1.0]])
    columns[3] = np.exp(3 * columns[3])  # some beyond the limit
    y = rng.integers(0, classes, 150).astype(float) if classes else rng.standard_normal(150)
    side = _side(Target(y, classes), Settings(grid=40, bandwidth=0.7))
    widths = rng.uniform(0.3, 1, (4, classes or 1))
    ours = kde_information(columns, *side, widths, 40)
    plain = kde_information_reference(columns, *side, widths, 40)
    assert ours == pytest.approx(plain, rel=1e-10, abs=1e-13)


def by_direct_sums(x, y, bandwidth, grid, classes=0):
    """Kernel density by its definition at every grid point, without binning."""
    z = [(v - v.mean()) / v.std() for v in (x, y)]
    width = REACH * bandwidth
    points = [np.linspace(v.min() - width, v.max() + width, grid) for v in z]
    kernel = [
        np.maximum(0, 1 - ((v[:, None] - p) / width) ** 2) for v, p in zip(z, points, strict=True)
    ]
    if classes:
        kernel[1] = y[:, None] == np.arange(classes)
    p = kernel[0].T @ kernel[1]
    p = p / p.sum()
    outer = np.outer(p.sum(1), p.sum(0))
    return (p[p > 0] * np.log(p[p > 0] / outer[p > 0])).sum()


@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("bandwidth", [1.0, 0.4])
def test_linear_binning_costs_little_accuracy(rng, classes, bandwidth):
    x = rng.standard_normal(300)
    y = x**2 + rng.standard_normal(300)
    y = (y > 1).astype(float) if classes else y
    found = mutual_info_screen(x[:, None], y, bandwidth=bandwidth, grid=128)[0]
    assert found == pytest.approx(by_direct_sums(x, y, bandwidth, 128, classes), rel=0.01)


def test_neighbours_of_two_continuous_variables_equal_scikit_learns(rng):
    x = rng.standard_normal((200, 6))
    x[:, 1] = rng.integers(0, 3, 200) + rng.uniform(0, 0.01, 200)
    y = x[:, 0] ** 2 + x[:, 1]
    for k in (1, 3, 10):
        ours = mutual_info_screen(x, y, estimator="knn", n_neighbors=k)
        theirs = mutual_info_regression(x, y, n_neighbors=k, random_state=0)
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_neighbours_and_classes_equal_scikit_learns(rng):
    x = rng.standard_normal((150, 5))
    # with classes of at most 2 k + 1 scikit-learn takes distances by a formula that rounds
    y = np.digitize(x[:, 0] + x[:, 1] ** 2, [0, 1])
    y[3] = 9  # a class of one is left out
    ours = mutual_info_screen(x, y, estimator="knn")
    theirs = mutual_info_classif(x, y, random_state=0)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_neighbours_and_levels_equal_scikit_learns(rng):
    x = rng.integers(0, 3, (150, 5)).astype(np.int8)
    y = x[:, 0] + rng.standard_normal(150)
    ours = mutual_info_screen(x, y, estimator="knn")
    theirs = mutual_info_regression(x, y, discrete_features=True, random_state=0)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_equal_values_are_parted(rng):
    x = rng.integers(0, 4, (300, 1)).astype(float)
    y = x[:, 0] + rng.standard_normal(300)
    ours = mutual_info_screen(x, y, estimator="knn")
    theirs = [mutual_info_regression(x, y, random_state=seed)[0] for seed in range(3)]
    assert ours[0] == pytest.approx(np.mean(theirs), abs=0.08)


@pytest.mark.parametrize("estimator", ["kde", "binning", "knn"])
def test_genotypes_and_classes_have_exact_tables(rng, estimator):
    x = rng.integers(0, 3, (400, 4)).astype(np.int8)
    y = (x[:, 1] + rng.integers(0, 3, 400)) % 3
    ours = mutual_info_screen(x, y, estimator=estimator)
    assert ours == pytest.approx([mutual_info_score(column, y) for column in x.T], abs=1e-12)


def test_the_table_of_a_known_law_has_its_information():
    # p(x, y) on 2 x 2 by repetition: 3/8 and 1/8
    x = np.repeat([0, 0, 1, 1], [3, 1, 1, 3]).astype(np.int8)[:, None]
    y = np.repeat([0, 1, 0, 1], [3, 1, 1, 3])
    truth = 2 * (3 / 8) * np.log((3 / 8) / (1 / 4)) + 2 * (1 / 8) * np.log((1 / 8) / (1 / 4))
    with pytest.warns(UserWarning, match="8 rows are few"):
        assert mutual_info_screen(x, y)[0] == pytest.approx(truth, abs=1e-15)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("classes", [False, True])
def test_a_missing_genotype_leaves_its_pair_out(rng, estimator, classes):
    x = rng.integers(0, 3, (200, 1)).astype(np.int8)
    y = x[:, 0] + rng.standard_normal(200)
    y = (y > 1).astype(int) if classes else y
    missing = x.copy()
    missing[:60] = -1
    whole = mutual_info_screen(missing, y, estimator=estimator)
    if estimator == "pearson":
        assert whole == pytest.approx(mutual_info_screen(x[60:], y[60:], estimator="pearson"))
    elif classes:
        assert whole == pytest.approx(mutual_info_score(x[60:, 0], y[60:]), abs=1e-12)
    else:
        # the target's grid or order is that of all rows, so only close
        part = mutual_info_screen(x[60:], y[60:], estimator=estimator)
        assert whole == pytest.approx(part, abs=0.06)
        assert whole != pytest.approx(mutual_info_screen(x, y, estimator=estimator), abs=1e-6)


def test_a_density_given_a_level_equals_direct_sums(rng):
    x = rng.integers(0, 3, (300, 1)).astype(np.int8)
    y = x[:, 0] + rng.standard_normal(300)
    ours = mutual_info_screen(x, y, grid=128)[0]
    # mutual information is symmetric: y as the column, the level as the class
    theirs = by_direct_sums(y, x[:, 0].astype(float), 1.0, 128, classes=3)
    assert ours == pytest.approx(theirs, rel=0.01)


def test_bins_maximise_the_penalised_likelihood(rng):
    for x in (rng.standard_normal(500), rng.uniform(size=60), rng.exponential(size=2000)):
        n = len(x)

        def value(bins, x=x, n=n):
            counts = np.histogram(x, bins)[0]
            likelihood = sum(c * np.log(bins * c / n) for c in counts if c)
            return likelihood - (bins - 1 + np.log(bins) ** 2.5)

        table = np.array([0.0, *(c * np.log(c) for c in range(1, n + 1))])
        ours = best_bins(x, x.min(), x.max(), 99, table)
        assert value(ours) == pytest.approx(max(value(bins) for bins in range(2, 100)))


def test_binning_is_the_information_of_the_histogram(rng):
    x = rng.standard_normal(400)
    y = x + rng.standard_normal(400)
    table = np.array([0.0, *(c * np.log(c) for c in range(1, 401))])
    bins = [best_bins(v, v.min(), v.max(), 99, table) for v in (x, y)]
    counts = np.histogram2d(x, y, bins)[0]
    ours = mutual_info_screen(x[:, None], y, estimator="binning")
    assert ours == pytest.approx(mutual_info_score(None, None, contingency=counts), abs=1e-12)


def test_pearson_with_two_classes_is_their_correlation_and_with_more_the_best_coding(rng):
    x = rng.standard_normal((300, 2))
    y = np.digitize(x[:, 0] + rng.standard_normal(300), [-0.5, 0.8])
    for target in ((y > 0).astype(int), y):
        coding = np.eye(target.max() + 1)[target]
        fitted = coding @ np.linalg.lstsq(coding, x, rcond=None)[0]
        share = fitted.var(0) / x.var(0)
        ours = mutual_info_screen(x, target, estimator="pearson")
        assert ours == pytest.approx(-0.5 * np.log(1 - share), rel=1e-9)


def test_linfoot_of_a_normal_is_its_correlation():
    assert linfoot(-0.5 * np.log(1 - 0.6**2)) == pytest.approx(0.6)
    assert linfoot(1e-20) == pytest.approx(np.sqrt(2e-20))


def test_rules_of_thumb_are_scipys(rng):
    for d in (1, 2):
        for rule in ("scott", "silverman"):
            factor = gaussian_kde(rng.standard_normal((d, 77)), rule).factor
            assert rule_of_thumb(rule, 77, d) == pytest.approx(factor)


def test_isj_is_near_the_best_for_a_normal_and_does_not_smooth_two_modes_away(rng):
    x = rng.standard_normal(4000)
    best = (4 / 3 / 4000) ** 0.2
    assert isj_bandwidth(x) == pytest.approx(best, rel=0.2)
    assert isj_bandwidth(100 * x + 7) == pytest.approx(100 * isj_bandwidth(x))
    modes = np.concatenate([x[:2000], x[2000:] + 40])
    assert isj_bandwidth(modes) == pytest.approx((4 / 3 / 2000) ** 0.2, rel=0.25)
    with pytest.raises(ValueError, match="constant"):
        isj_bandwidth(np.ones(9))


@pytest.mark.parametrize("rule", ["silverman", "scott", "isj"])
def test_a_rule_is_used(rng, rule):
    x, y = normal_pair(rng, 0.7, 500)
    width = isj_bandwidth(x) / x.std() if rule == "isj" else rule_of_thumb(rule, 500, 2)
    found = mutual_info_screen(x, y, bandwidth=rule)
    if rule != "isj":
        assert found == mutual_info_screen(x, y, bandwidth=width)
    else:
        wide, narrow = (mutual_info_screen(x, y, bandwidth=b) for b in (1.5 * width, width / 1.5))
        assert wide < found < narrow


def test_a_rule_with_classes_gives_each_class_its_own(rng):
    y = np.repeat([0, 1], 250)
    x = np.where(y == 0, rng.standard_normal(500), 10 * rng.standard_normal(500))[:, None]
    widths = np.array(
        [[x[y == c, 0].std() * rule_of_thumb("scott", 250, 1) / x.std() for c in (0, 1)]]
    )
    side = _side(Target(y.astype(float), 2), Settings())
    expected = kde_information_reference(x.T.copy(), *side, widths, 64)
    assert mutual_info_screen(x, y, bandwidth="scott") == pytest.approx(expected, rel=1e-10)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(ESTIMATORS),
    st.booleans(),
    st.sampled_from(["normal", "levels", "heavy"]),
)
@settings(max_examples=60, deadline=None)
def test_properties(seed, estimator, classes, kind):
    """Never negative, the same in any order of rows, 0 for a constant, unmoved by scale."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, 3)) if kind != "heavy" else rng.standard_cauchy((40, 3))
    if kind == "levels":
        x = rng.integers(0, 3, (40, 3)).astype(np.int8)
    x[:, 2] = 1
    y = rng.integers(0, 2, 40) if classes else rng.standard_normal(40)
    y[:2] = (0, 1)
    scores = mutual_info_screen(x, y, estimator=estimator)
    assert (scores >= 0).all() and np.isfinite(scores).all()
    assert scores[2] == pytest.approx(0, abs=1e-12)
    order = rng.permutation(40)
    assert mutual_info_screen(x[order], y[order], estimator=estimator) == pytest.approx(
        scores, abs=1e-9
    )
    if kind != "levels" and not classes:
        moved = mutual_info_screen(2.0 * x, 4.0 * y, estimator=estimator)
        assert moved == pytest.approx(scores, abs=1e-9)
