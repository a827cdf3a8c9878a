r"""Sparse linear, logistic and Poisson regression with any separable penalty.

.. math:: \min_{b, b_0} \sum_i \omega_i f(y_i, x_i^\top b + b_0) + \sum_j \varphi(b_j), \qquad
    \textstyle\sum_i \omega_i = 1

with f half the squared error, the logistic or the Poisson loss, and :math:`\omega` the normalised
sample weights. Every estimator comes twice: at the strength of its penalty, and with the strength
chosen by cross-validation along a path. The solver is in ``_solver``.

Source: Friedman, Hastie and Tibshirani 2010 for the models. Departures: several classes are
fitted one against the rest, not as one multinomial model.
"""

from __future__ import annotations

from rarefy.regression._cross_validation import CrossValidated
from rarefy.regression._model import AtStrength
from rarefy.regression._targets import Classes, Counts, Numbers


class SparseLinearRegression(Numbers, AtStrength):
    """Least squares with a sparsity penalty.

    Parameters
    ----------
    penalty : Penalty, default L1(1.0)
        From :mod:`rarefy.operators`; with ``L1`` and ``ElasticNet`` the objective is that of
        scikit-learn's estimators of that name, ``lam`` their ``alpha``.
    fit_intercept : bool, default True
        The intercept is not penalised.
    tol : float, default 1e-6
        For l1 and elastic net: the duality gap over the null model's loss. Else: the largest KKT
        violation over that of the null model.
    max_iter : int, default 10,000
        Epochs of coordinate descent on a working set, at most.
    path_length : int, optional
        Strengths walked through, from the largest useful one down to the penalty's. Default: 1 for
        a convex penalty, 20 for another, which has many stationary points and finds better ones
        that way.

    Attributes
    ----------
    coef_ : ndarray, shape (p,)
        Of X's float type.
    intercept_ : float
    n_iter_ : int
        Epochs at the last strength.
    dual_gap_ : float
        Duality gap, in the loss's unit; NaN where the penalty is not convex.
    kkt_violation_ : float
        Largest KKT violation, in the gradient's unit.
    n_features_in_ : int
    feature_names_in_ : ndarray, shape (p,)
        Where X has string column names.

    Warns
    -----
    ConvergenceWarning
        If the tolerance is not reached; the message says what was.

    Examples
    --------
    >>> import numpy as np
    >>> from rarefy.operators import MCP
    >>> X = np.random.default_rng(0).normal(size=(50, 200))
    >>> y = 3 * X[:, 0] - 2 * X[:, 7]
    >>> model = SparseLinearRegression(MCP(0.5)).fit(X, y)
    >>> model.coef_[[0, 7]].round(6).tolist(), int(np.count_nonzero(model.coef_))
    ([3.0, -2.0], 2)
    """


class SparseLinearRegressionCV(Numbers, CrossValidated):
    """Least squares with a sparsity penalty, its strength by cross-validation.

    Parameters
    ----------
    penalty : Penalty, default L1(1.0)
        From :mod:`rarefy.operators`; its ``lam`` is replaced, everything else kept.
    strengths : sequence of floats, optional
        Default: a geometric grid from the least strength at which every coefficient is zero.
    n_strengths : int, default 100
        Length of the grid.
    eps : float, default 1e-3
        Its last strength over its first.
    cv : int, splitter or iterable, default 5
        As in scikit-learn; splits of rows.
    fit_intercept : bool, default True
        The intercept is not penalised.
    tol, max_iter
        As in :class:`SparseLinearRegression`, for each strength.
    n_jobs : int, optional
        Folds at a time, in threads.

    Attributes
    ----------
    coef_ : ndarray, shape (p,)
        Of X's float type.
    intercept_ : float
    n_iter_ : int
        Epochs at the last strength.
    dual_gap_ : float
        Duality gap, in the loss's unit; NaN where the penalty is not convex.
    kkt_violation_ : float
        Largest KKT violation, in the gradient's unit.
    strengths_ : ndarray, shape (m,)
    loss_path_ : ndarray, shape (m, folds)
        Mean held-out loss.
    penalty_ : Penalty
        At the strength chosen.
    n_features_in_ : int
    feature_names_in_ : ndarray, shape (p,)
        Where X has string column names.

    Warns
    -----
    ConvergenceWarning
        If the tolerance is not reached; the message says what was.

    Examples
    --------
    >>> import numpy as np
    >>> from rarefy.operators import MCP
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(80, 100))
    >>> y = 3 * X[:, 0] - 2 * X[:, 7] + rng.normal(size=80)
    >>> model = SparseLinearRegressionCV(MCP(1.0), n_strengths=20, eps=0.05).fit(X, y)
    >>> bool(model.coef_[[0, 7]].all()), model.loss_path_.shape
    (True, (20, 5))
    """


class SparseLogisticRegression(Classes, AtStrength):
    """Logistic regression with a sparsity penalty.

    More than two classes are one against the rest each.

    Parameters
    ----------
    penalty : Penalty, default L1(1.0)
        From :mod:`rarefy.operators`; the loss is the mean over the rows, so that
        ``L1(lam)`` is scikit-learn's ``C = 1 / (n * lam)``.
    fit_intercept : bool, default True
        The intercept is not penalised.
    tol : float, default 1e-6
        For l1 and elastic net: the duality gap over the null model's loss. Else: the largest KKT
        violation over that of the null model.
    max_iter : int, default 10,000
        Epochs of coordinate descent on a working set, at most.
    path_length : int, optional
        Strengths walked through, from the largest useful one down to the penalty's. Default: 1 for
        a convex penalty, 20 for another, which has many stationary points and finds better ones
        that way.

    Attributes
    ----------
    coef_ : ndarray, shape (1, p) or (classes, p)
        Of X's float type.
    intercept_ : ndarray, shape (1,) or (classes,)
    n_iter_ : int ndarray, shape (1,) or (classes,)
        Epochs at the last strength.
    dual_gap_ : ndarray, shape (1,) or (classes,)
        Duality gap, in the loss's unit; NaN where the penalty is not convex.
    kkt_violation_ : ndarray, shape (1,) or (classes,)
        Largest KKT violation, in the gradient's unit.
    classes_ : ndarray, shape (classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray, shape (p,)
        Where X has string column names.

    Warns
    -----
    ConvergenceWarning
        If the tolerance is not reached; the message says what was.

    Examples
    --------
    >>> import numpy as np
    >>> from rarefy.operators import L1
    >>> X = np.random.default_rng(0).normal(size=(100, 30))
    >>> model = SparseLogisticRegression(L1(0.1)).fit(X, X[:, 3] > 0)
    >>> np.flatnonzero(model.coef_[0]).tolist(), model.score(X, X[:, 3] > 0)
    ([3], 0.92)
    """


class SparseLogisticRegressionCV(Classes, CrossValidated):
    """Logistic regression with a sparsity penalty, its strength by cross-validation.

    More than two classes are one against the rest each.

    Parameters
    ----------
    penalty : Penalty, default L1(1.0)
        From :mod:`rarefy.operators`; its ``lam`` is replaced, everything else kept.
    strengths : sequence of floats, optional
        Default: a geometric grid from the least strength at which every coefficient is zero.
    n_strengths : int, default 100
        Length of the grid.
    eps : float, default 1e-3
        Its last strength over its first.
    cv : int, splitter or iterable, default 5
        As in scikit-learn; splits of rows.
    fit_intercept : bool, default True
        The intercept is not penalised.
    tol, max_iter
        As in :class:`SparseLogisticRegression`, for each strength.
    n_jobs : int, optional
        Folds at a time, in threads.

    Attributes
    ----------
    coef_ : ndarray, shape (1, p) or (classes, p)
        Of X's float type.
    intercept_ : ndarray, shape (1,) or (classes,)
    n_iter_ : int ndarray, shape (1,) or (classes,)
        Epochs at the last strength.
    dual_gap_ : ndarray, shape (1,) or (classes,)
        Duality gap, in the loss's unit; NaN where the penalty is not convex.
    kkt_violation_ : ndarray, shape (1,) or (classes,)
        Largest KKT violation, in the gradient's unit.
    strengths_ : ndarray, shape (m,)
    loss_path_ : ndarray, shape (m, folds)
        Mean held-out loss.
    penalty_ : Penalty
        At the strength chosen.
    classes_ : ndarray, shape (classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray, shape (p,)
        Where X has string column names.

    Warns
    -----
    ConvergenceWarning
        If the tolerance is not reached; the message says what was.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(100, 30))
    >>> model = SparseLogisticRegressionCV(n_strengths=10, eps=0.05).fit(X, X[:, 3] > 0)
    >>> bool(model.coef_[0, 3] > 0), model.score(X, X[:, 3] > 0) > 0.95
    (True, True)
    """


class SparsePoissonRegression(Counts, AtStrength):
    """Poisson regression, with a logarithmic link and a sparsity penalty.

    Parameters
    ----------
    penalty : Penalty, default L1(1.0)
        From :mod:`rarefy.operators`; the loss is the mean over the rows.
    fit_intercept : bool, default True
        The intercept is not penalised.
    tol : float, default 1e-6
        For l1 and elastic net: the duality gap over the null model's loss. Else: the largest KKT
        violation over that of the null model.
    max_iter : int, default 10,000
        Epochs of coordinate descent on a working set, at most.
    path_length : int, optional
        Strengths walked through, from the largest useful one down to the penalty's. Default: 1 for
        a convex penalty, 20 for another, which has many stationary points and finds better ones
        that way.

    Attributes
    ----------
    coef_ : ndarray, shape (p,)
        Of X's float type.
    intercept_ : float
    n_iter_ : int
        Epochs at the last strength.
    dual_gap_ : float
        Duality gap, in the loss's unit; NaN where the penalty is not convex.
    kkt_violation_ : float
        Largest KKT violation, in the gradient's unit.
    n_features_in_ : int
    feature_names_in_ : ndarray, shape (p,)
        Where X has string column names.

    Warns
    -----
    ConvergenceWarning
        If the tolerance is not reached; the message says what was.

    Examples
    --------
    >>> import numpy as np
    >>> from rarefy.operators import L1
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 30))
    >>> model = SparsePoissonRegression(L1(0.3)).fit(X, rng.poisson(np.exp(X[:, 3])))
    >>> np.flatnonzero(model.coef_).tolist()
    [3]
    """


class SparsePoissonRegressionCV(Counts, CrossValidated):
    """Poisson regression with a logarithmic link; the strength by cross-validation.

    Parameters
    ----------
    penalty : Penalty, default L1(1.0)
        From :mod:`rarefy.operators`; its ``lam`` is replaced, everything else kept.
    strengths : sequence of floats, optional
        Default: a geometric grid from the least strength at which every coefficient is zero.
    n_strengths : int, default 100
        Length of the grid.
    eps : float, default 1e-3
        Its last strength over its first.
    cv : int, splitter or iterable, default 5
        As in scikit-learn; splits of rows.
    fit_intercept : bool, default True
        The intercept is not penalised.
    tol, max_iter
        As in :class:`SparsePoissonRegression`, for each strength.
    n_jobs : int, optional
        Folds at a time, in threads.

    Attributes
    ----------
    coef_ : ndarray, shape (p,)
        Of X's float type.
    intercept_ : float
    n_iter_ : int
        Epochs at the last strength.
    dual_gap_ : float
        Duality gap, in the loss's unit; NaN where the penalty is not convex.
    kkt_violation_ : float
        Largest KKT violation, in the gradient's unit.
    strengths_ : ndarray, shape (m,)
    loss_path_ : ndarray, shape (m, folds)
        Mean held-out loss.
    penalty_ : Penalty
        At the strength chosen.
    n_features_in_ : int
    feature_names_in_ : ndarray, shape (p,)
        Where X has string column names.

    Warns
    -----
    ConvergenceWarning
        If the tolerance is not reached; the message says what was.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 30))
    >>> y = rng.poisson(np.exp(X[:, 3]))
    >>> model = SparsePoissonRegressionCV(n_strengths=10, eps=0.05).fit(X, y)
    >>> bool(model.coef_[3] > 0.5), model.score(X, y) > 0.3
    (True, True)
    """
