"""What an estimator is: one signature for all."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

__all__ = ["Estimator"]


class Estimator(Protocol):
    """What every estimator offers.

    Attributes more may be there. `looks_elsewhere` and `path_only` are False where they are not: whether f is
    evaluated at other points than the samples of the given noise; and whether what an f that depends on mean
    and log_var owes to them directly is to be left alone. `objective` is "importance-weighted" where the
    integrand is a log-weight and what is differentiated is the expectation of log mean exp of it over all
    samples of an example, and otherwise "elbo": E f. One that learns from call to call has two methods more, by
    which a checkpoint keeps what it has learned: `state()`, a dict of arrays, and `load_state(state)`.
    """

    name: str
    needs_gradient: bool  # does it differentiate the integrand?
    minimum_samples: int  # the fewest samples of one example that it can work with

    def sample_gradients(
        self, integrand: Any, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-sample gradients with respect to mean and log_var, each the shape of noise (S, ..., L).

        integrand is an `Integrand`, or a `LogWeightIntegrand` for the importance-weighted objective.
        """
