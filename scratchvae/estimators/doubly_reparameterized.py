"""Pathwise gradients of the importance-weighted bound, plain and doubly reparameterized.

Derived in `derivations/22-importance_weighted.md` and `derivations/23-doubly_reparameterized.md`.
"""

from __future__ import annotations

import numpy as np

from scratchvae.densities.gaussian import gaussian_sample_backward, gaussian_sample_forward
from scratchvae.estimators.log_weight import LogWeightIntegrand
from scratchvae.objectives.importance_weighted import (
    importance_weighted_backward,
    importance_weighted_forward,
)

__all__ = ["DoublyReparameterized", "ImportanceWeighted"]


class ImportanceWeighted:
    """The derivative of log mean w(z_k) at the given noise: every sample's, times its share. (22.6)

    References
    ----------
    Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders" (2016).
    """

    name = "importance-weighted-pathwise"
    objective = "importance-weighted"
    needs_gradient = True
    minimum_samples = 1
    path_only = True  # the direct part is in it already

    def sample_gradients(
        self, integrand: LogWeightIntegrand, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What each sample adds to the gradient of the bound of all S samples, times S. (22.6)

        Parameters
        ----------
        integrand : LogWeightIntegrand
            Is differentiated at the S samples.
        mean, log_var : ndarray (B, L) or (L,)
        noise : ndarray (S, B, L) or (S, L), standard normal

        Returns
        -------
        dmean, dlog_var : ndarray, the shape of noise
            Their mean over S is the estimate. They are not independent: each share knows all samples.
        """
        z, sample_cache = gaussian_sample_forward(mean, log_var, noise)
        bound, bound_cache = importance_weighted_forward(integrand.value(z))
        # bound = log mean exp(log_weights)                                                  (22.3)
        shares = importance_weighted_backward(np.ones(bound.shape), bound_cache)
        # log_weights = integrand.value(z)
        dz = integrand.pull_back(shares)
        # z = mean + σ noise                                                                 (4.10)
        dmean, dlog_var = gaussian_sample_backward(dz, sample_cache)
        # log_weights = … − beta log q(z; mean, log_var)                                     (22.6)
        direct = integrand.direct_gradients()
        assert direct is not None
        weight = shares[..., None].astype(noise.dtype)
        return len(noise) * (dmean + weight * direct[0]), len(noise) * (dlog_var + weight * direct[1])


class DoublyReparameterized:
    """The same gradient with its direct part reparameterized once more: shares squared, and no score. (23.3)

    Where q is the exact posterior it is zero in every sample (23.5). With one sample it is sticking the landing
    (23.4), and like that it loses where q is much narrower than the posterior.

    References
    ----------
    Tucker, Lawson, Gu and Maddison, "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives" (2019).
    """

    name = "importance-weighted-doubly-reparameterized"
    objective = "importance-weighted"
    needs_gradient = True
    minimum_samples = 1
    path_only = True

    def sample_gradients(
        self, integrand: LogWeightIntegrand, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What each sample adds to the gradient of the bound of all S samples, times S. (23.3)

        Parameters
        ----------
        integrand : LogWeightIntegrand
            Is differentiated at the S samples.
        mean, log_var : ndarray (B, L) or (L,)
        noise : ndarray (S, B, L) or (S, L), standard normal

        Returns
        -------
        dmean, dlog_var : ndarray, the shape of noise
            Their mean over S is the estimate.
        """
        z, sample_cache = gaussian_sample_forward(mean, log_var, noise)
        bound, bound_cache = importance_weighted_forward(integrand.value(z))
        shares = importance_weighted_backward(np.ones(bound.shape), bound_cache)
        dz = integrand.pull_back(shares)
        # The direct part, −beta shares · score, comes back as −beta shares (1 − shares) along the path.   (23.3)
        factor = len(noise) * (1 - integrand.beta * (1 - shares))
        return gaussian_sample_backward(factor[..., None].astype(noise.dtype) * dz, sample_cache)
