import numpy as np
import pytest
from scipy.sparse import csc_array
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from rarefy.data import open_columns
from rarefy.regression import MutualInfoScreener, clump, mutual_info_screen, screening

ESTIMATORS = ("kde", "binning", "knn", "pearson")


@parametrize_with_checks(
    [MutualInfoScreener(k=2), MutualInfoScreener(k=2, estimator="pearson", clump=0.3)]
)
@pytest.mark.filterwarnings("ignore:.*rows are few")
def test_it_is_a_scikit_learn_citizen(estimator, check):
    check(estimator)


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((120, 23))


@pytest.fixture
def y(x):
    return x[:, 5] ** 2 + np.abs(2 * x[:, 9])


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("classes", [False, True])
def test_blocks_from_disk_give_what_memory_gives_bit_for_bit(
    tmp_path, x, y, estimator, classes, monkeypatch
):
    x = x.astype(np.float32)
    y = (y > 1).astype(int) if classes else y
    whole = mutual_info_screen(x, y, estimator=estimator)
    monkeypatch.setattr(screening, "BLOCK_BYTES", 5 * 8 * 120)
    for order in "CF":
        np.save(tmp_path / "x.npy", np.asarray(x, order=order))
        for source in (open_columns(tmp_path / "x.npy"), np.load(tmp_path / "x.npy", "r")):
            found = mutual_info_screen(source, y, estimator=estimator, n_jobs=2)
            assert np.array_equal(found, whole)
    assert np.array_equal(mutual_info_screen(csc_array(x), y, estimator=estimator), whole)


def test_effects_that_are_not_linear_are_found(x, y):
    assert set(np.argsort(-mutual_info_screen(x, y))[:2]) == {5, 9}
    assert np.argsort(-mutual_info_screen(x, y, estimator="pearson"))[0] != 5


def test_levels_of_any_value_are_counted(x):
    levels = np.random.default_rng(1).integers(0, 3, (120, 4))
    y = levels[:, 1] + 0.1 * x[:, 0]
    expected = mutual_info_screen(levels.astype(np.int8), y)
    odd = np.array([-7.5, 3.0, 1e9])[levels]
    assert np.array_equal(mutual_info_screen(odd, y, discrete_features=True), expected)
    assert np.array_equal(
        mutual_info_screen(levels > 0, y), mutual_info_screen((levels > 0).astype(np.int8), y)
    )


def test_labels_and_a_few_whole_numbers_are_classes(x, y):
    labels = np.where(y > 1, "case", "control")
    expected = mutual_info_screen(x, (y > 1).astype(int), discrete_target=True)
    for target in (labels, y > 1, np.where(y > 1, 2.0, 1.0)):
        assert mutual_info_screen(x, target) == pytest.approx(expected, rel=1e-9)
    counts = np.arange(120) % 11
    for as_number in (counts, np.where(y > 1, 1.0, 1.5)):
        assert np.array_equal(
            mutual_info_screen(x, as_number),
            mutual_info_screen(x, as_number, discrete_target=False),
        )


def test_constant_and_repeated_columns(x, y):
    x[:, 1] = 3.3
    x[:, 2] = x[:, 5]
    for estimator in ESTIMATORS:
        scores = mutual_info_screen(x, y, estimator=estimator)
        assert scores[1] == 0 and scores[2] == scores[5]


def test_a_wild_value_does_not_hide_an_effect(x, y):
    alone = mutual_info_screen(x, y)
    x[0, 5] = 1e9
    assert mutual_info_screen(x, y)[5] < 0.02  # all others share one cell of the standardised axis
    rest = mutual_info_screen(np.delete(x, 5, 1), y)
    assert np.array_equal(rest, np.delete(alone, 5))


def test_progress_comes_once_a_block(x, y, monkeypatch):
    monkeypatch.setattr(screening, "BLOCK_BYTES", 10 * 8 * 120)
    seen = []
    mutual_info_screen(x, y, progress=lambda message, fraction: seen.append((message, fraction)))
    assert seen == [
        ("column 0 of 23", 0.0), ("column 10 of 23", 10 / 23), ("column 20 of 23", 20 / 23)
    ]  # fmt: skip


def greedy(x, order, threshold, k):
    """Clumping as it is defined, one pair at a time."""
    kept = []
    for j in order:
        pairs = [mutual_info_screen(x[:, [j]], x[:, q], discrete_target=False)[0] for q in kept]
        if all(pair <= threshold for pair in pairs) and len(kept) < k:
            kept.append(int(j))
    return kept


@pytest.mark.parametrize("k", [2, 5, 12, 40])
def test_clumping_walks_in_the_order_of_scores(x, k):
    rng = np.random.default_rng(3)
    copies = np.column_stack([x, x[:, :10] + 0.3 * rng.standard_normal((120, 10))])
    scores = rng.permutation(33).astype(float)
    order = np.argsort(-scores)
    found = clump(copies, scores, threshold=0.05, k=k)
    assert found.tolist() == greedy(copies, order, 0.05, k)
    assert clump(copies, scores, threshold=9.0, k=k).tolist() == order[:k].tolist()


def test_clumping_genotypes_and_constants():
    g = np.random.default_rng(0).integers(-1, 3, (200, 4)).astype(np.int8)
    g[:, 3] = g[:, 0]
    g = np.column_stack([g, np.ones((200, 2), np.int8)])
    assert clump(g, [6, 5, 4, 3, 2, 1], threshold=0.2, k=6).tolist() == [0, 1, 2, 4, 5]


def test_the_screener_keeps_the_best_in_order(x, y):
    screener = MutualInfoScreener(k=3).fit(x, y)
    assert screener.selected_.tolist() == np.argsort(-screener.scores_)[:3].tolist()
    assert np.array_equal(screener.transform(x), x[:, np.sort(screener.selected_)])
    assert screener.transform(x.astype(np.float32)).dtype == np.float32
    x[:, 6] = x[:, 5]
    clumped = MutualInfoScreener(k=3, clump=0.15).fit(x, y)
    assert len({5, 6} & set(clumped.selected_)) == 1 and len(clumped.selected_) == 3


def test_the_screener_reads_a_memory_map_from_its_file(tmp_path, x, y, monkeypatch):
    np.save(tmp_path / "x.npy", x)
    read = []
    monkeypatch.setattr(
        screening,
        "array_columns",
        lambda source, original=screening.array_columns: read.append(source) or original(source),
    )
    MutualInfoScreener(k=3).fit(np.load(tmp_path / "x.npy", "r"), y)
    assert isinstance(read[0], np.memmap)


def test_it_works_in_a_pipeline_under_a_grid_search():
    x, y = load_breast_cancer(return_X_y=True)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MutualInfoScreener(), LogisticRegression()),
        {"mutualinfoscreener__k": [1, 5]},
        cv=3,
    ).fit(x, y)
    assert search.best_params_ == {"mutualinfoscreener__k": 5} and search.best_score_ > 0.93


def test_bad_input_is_one_clear_sentence(x, y):
    def refused(sentence, *arguments, error=ValueError, **options):
        with pytest.raises(error, match=sentence):
            mutual_info_screen(*arguments, **options)

    refused(r"y has shape \(119,\), X has 120 rows", x, y[1:])
    refused("y is constant", x, np.ones(120))
    refused("y holds NaN", x, np.where(np.arange(120) == 3, np.nan, y))
    refused("numbers are wanted", x, np.where(y > 1, "a", "b"), discrete_target=False)
    refused("120 classes in 120 rows", x, [f"id{i}" for i in range(120)])
    refused("no column to screen", x[:, :0], y)
    refused("estimator is 'svm'", x, y, estimator="svm")
    refused("bandwidth is 'wide'", x, y, bandwidth="wide")
    refused("bandwidth is 0", x, y, bandwidth=0)
    refused("grid is 3", x, y, grid=3)
    refused("between 1 and 119", x, y, estimator="knn", n_neighbors=120)
    refused("n_jobs == 0", x, y, n_jobs=0)
    x[4, 17] = np.inf
    refused("column 17 of X holds NaN or infinity", x, y)
    refused("column 17", x, y, estimator="knn")
    x[4, 17] = 0
    with pytest.raises(ValueError, match="k is 0"):
        MutualInfoScreener(k=0).fit(x, y)
    with pytest.raises(ValueError, match="threshold is -1"):
        clump(x, np.ones(23), threshold=-1, k=2)
    with pytest.raises(ValueError, match="X has 23 columns"):
        clump(x, np.ones(4), threshold=1, k=2)
    with pytest.warns(UserWarning, match="12 rows are few"):
        mutual_info_screen(x[:12], y[:12])


def test_a_target_with_many_classes_and_few_rows_each():
    x, y = make_classification(120, 5, n_informative=4, n_redundant=0, n_classes=8, random_state=0,
                               n_clusters_per_class=1)  # fmt: skip
    for estimator in ESTIMATORS:
        assert mutual_info_screen(x, y, estimator=estimator).max() > 0.05
