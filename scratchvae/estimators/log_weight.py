"""What the estimators of a many-sample bound integrate: a log-weight, which depends on mean and log_var directly."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from scratchvae.densities.gaussian import gaussian_log_density_backward, gaussian_log_density_forward
from scratchvae.estimators.integrand import FunctionIntegrand

__all__ = ["LogWeight", "LogWeightIntegrand"]


class LogWeightIntegrand(Protocol):
    """log w(z) = f(z) − beta log q(z), as a forward pass and the two ways back from it. (22.1)"""

    beta: float

    def value(self, z: np.ndarray) -> np.ndarray:
        """log w at z (S, ..., L): (S, ...)."""

    def pull_back(self, dvalue: np.ndarray) -> np.ndarray:
        """dvalue (S, ...) times ∂ log w / ∂z at the samples of the last `value`: (S, ..., L)."""

    def direct_gradients(self) -> tuple[np.ndarray, np.ndarray] | None:
        """∂ log w / ∂mean and ∂ log w / ∂log_var there, at fixed z: each (S, ..., L)."""


class LogWeight:
    """log w(z) = f(z) − log q(z) of any function f, such as log p(x, z): what importance sampling weighs by. (22.1)

    Parameters
    ----------
    integrand : FunctionIntegrand
        f.
    mean, log_var : ndarray (B, L) or (L,)
        Of q.
    """

    beta = 1.0

    def __init__(self, integrand: FunctionIntegrand, mean: np.ndarray, log_var: np.ndarray) -> None:
        self.integrand = integrand
        self.mean = mean
        self.log_var = log_var

    def value(self, z: np.ndarray) -> np.ndarray:
        """log w at z (S, ..., L): (S, ...)."""
        log_density, self._cache = gaussian_log_density_forward(z, self.mean, self.log_var)
        return self.integrand.value(z) - log_density

    def pull_back(self, dvalue: np.ndarray) -> np.ndarray:
        """dvalue (S, ...) times ∂ log w / ∂z at the samples of the last `value`: (S, ..., L)."""
        # value = … − log q(z)                                                               (4.2)
        dz, _, _ = gaussian_log_density_backward(-dvalue, self._cache)
        # value = f(z) − …
        return dz + self.integrand.pull_back(dvalue)

    def direct_gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """∂ log w / ∂mean and ∂ log w / ∂log_var there, minus the score: each (S, ..., L). (4.3) (4.4)"""
        # value = … − log q(z; mean, log_var)                                                (4.3) (4.4)
        ones = np.ones(self._cache.scaled.shape[:-1])
        _, dmean, dlog_var = gaussian_log_density_backward(-ones, self._cache)
        return dmean, dlog_var
