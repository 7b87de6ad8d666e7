"""What an estimator is: one signature for all."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from scratchvae.estimators.integrand import Integrand

__all__ = ["Estimator"]


class Estimator(Protocol):
    """What every estimator offers.

    Two attributes more may be there, and are False where they are not: `looks_elsewhere`, whether f is
    evaluated at other points than the samples of the given noise; and `path_only`, whether an f that depends
    on mean and log_var for beside z is to be differentiated along z alone. One that learns from call to call
    has two methods more, by which a checkpoint keeps what it has learned: `state()`, a dict of arrays, and
    `load_state(state)`.
    """

    name: str
    needs_gradient: bool  # does it differentiate the integrand?
    minimum_samples: int  # the fewest samples of one example that it can work with

    def sample_gradients(
        self, integrand: Integrand, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-sample gradients with respect to mean and log_var, each the shape of noise (S, ..., L)."""
