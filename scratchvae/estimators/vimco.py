"""VIMCO: the score function for the importance-weighted bound. Derived in `derivations/24-vimco.md`."""

from __future__ import annotations

import numpy as np

from scratchvae.densities.gaussian import gaussian_sample_forward, gaussian_score
from scratchvae.estimators.log_weight import LogWeightIntegrand
from scratchvae.objectives.importance_weighted import (
    importance_weighted_backward,
    importance_weighted_forward,
)

__all__ = ["VIMCO", "bound_of_others"]


class VIMCO:
    """The score function for log mean w(z_k), each sample credited with what it adds to the bound. (24.3)

    Needs no derivative of the log-weight with respect to z.

    References
    ----------
    Mnih and Rezende, "Variational Inference for Monte Carlo Objectives" (2016).
    """

    name = "importance-weighted-vimco"
    objective = "importance-weighted"
    needs_gradient = False
    minimum_samples = 2

    def sample_gradients(
        self, integrand: LogWeightIntegrand, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What each sample adds to the gradient of the bound of all S samples, times S. (24.3)

        Parameters
        ----------
        integrand : LogWeightIntegrand
            Is evaluated at the S samples, never differentiated with respect to z.
        mean, log_var : ndarray (B, L) or (L,)
        noise : ndarray (S, B, L) or (S, L), standard normal; S is at least two

        Returns
        -------
        dmean, dlog_var : ndarray, the shape of noise
            Their mean over S is the estimate.
        """
        z, _ = gaussian_sample_forward(mean, log_var, noise)
        log_weights = integrand.value(z)
        bound, cache = importance_weighted_forward(log_weights)
        shares = importance_weighted_backward(np.ones(bound.shape), cache)
        # The multiplier is a constant: nothing is differentiated through it. The shares are what the bound owes to
        # log q directly.
        multiplier = bound - bound_of_others(log_weights) - integrand.beta * shares
        weight = (len(noise) * multiplier)[..., None].astype(noise.dtype)
        score_mean, score_log_var = gaussian_score(noise, log_var)
        return weight * score_mean, weight * score_log_var


def bound_of_others(log_weights: np.ndarray) -> np.ndarray:
    """The bound with each weight in turn replaced by the geometric mean of the others: (S, B) to (S, B). (24.2)

    Sums of the others are running log-sums from either end, never a difference: where one weight is nearly the
    whole sum, the rest would be its rounding error.
    """
    num_samples = len(log_weights)
    others = np.full(log_weights.shape, -np.inf)
    others[1:] = np.logaddexp.accumulate(log_weights[:-1], axis=0)
    others[:-1] = np.logaddexp(others[:-1], np.logaddexp.accumulate(log_weights[:0:-1], axis=0)[::-1])
    substitute = (log_weights.sum(axis=0) - log_weights) / (num_samples - 1)
    return np.logaddexp(others, substitute) - np.log(num_samples)
