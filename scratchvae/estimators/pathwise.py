"""The pathwise (reparameterized) gradient. Derived in `derivations/06-pathwise.md`."""

from __future__ import annotations

import numpy as np

from scratchvae.densities.gaussian import gaussian_sample_backward, gaussian_sample_forward
from scratchvae.estimators.integrand import Integrand

__all__ = ["Pathwise"]


class Pathwise:
    """∇ E f(z) = E[∇f(z) · dz/dφ] along z = mean + σ noise. (6.1)"""

    name = "pathwise"
    needs_gradient = True
    minimum_samples = 1

    def sample_gradients(
        self, integrand: Integrand, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-sample gradients of E f(z) with respect to mean (6.2) and log_var (6.3).

        Parameters
        ----------
        integrand : Integrand
            Is differentiated at the S samples.
        mean, log_var : ndarray (B, L) or (L,)
        noise : ndarray (S, B, L) or (S, L), standard normal

        Returns
        -------
        dmean, dlog_var : ndarray, the shape of noise
        """
        z, cache = gaussian_sample_forward(mean, log_var, noise)
        _, dz = integrand.value_and_gradient(z)
        return gaussian_sample_backward(dz, cache)
