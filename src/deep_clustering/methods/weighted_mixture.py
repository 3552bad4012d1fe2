"""EM of a Gaussian mixture for rows that count more or less: a row of weight 2 is the row twice.

scikit-learn's `GaussianMixture` knows no weights. Its M-step is linear in the responsibilities, so that weighted ones
will do, but for tied covariances, where it takes their sums for ones.
"""

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.mixture import GaussianMixture


def fit_weighted(mixture: GaussianMixture, rows: np.ndarray, weights: np.ndarray) -> GaussianMixture:
    """Fit a mixture to weighted rows; only its starts, by k-means, do not know the weights.

    Args:
        mixture: The options.
        rows: Shape (n_samples, n_features), float64.
        weights: Of each row, shape (n_samples,), above 0.

    Returns:
        The fitted mixture.

    Raises:
        ValueError: if its covariances are tied.
    """
    if mixture.covariance_type == "tied":
        raise ValueError("gmm: covariance tied knows no weights of rows; use full, diag or spherical")
    fitted = _Weighted(**clone(mixture).get_params())
    fitted.row_weights = weights / weights.mean()
    return fitted.fit(rows)


class _Weighted(GaussianMixture):
    """The steps of EM with weighted responsibilities; names and arguments are scikit-learn's."""

    row_weights: np.ndarray

    def _initialize(self, X: np.ndarray, resp: np.ndarray, **rest: Any) -> None:  # noqa: ANN401, N803
        super()._initialize(X, resp * self.row_weights[:, None], **rest)

    def _m_step(self, X: np.ndarray, log_resp: np.ndarray, **rest: Any) -> None:  # noqa: ANN401, N803
        super()._m_step(X, log_resp + np.log(self.row_weights)[:, None], **rest)

    def _e_step(self, X: np.ndarray, **rest: Any) -> tuple[Any, np.ndarray]:  # noqa: ANN401, N803
        log_likelihoods, log_resp = self._estimate_log_prob_resp(X, **rest)
        if len(log_likelihoods) != len(self.row_weights):
            return np.mean(log_likelihoods), log_resp
        return np.average(log_likelihoods, weights=self.row_weights), log_resp
