"""A VAE's decoder as the function of z that an estimator integrates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from scratchvae.densities.likelihood import Likelihood
from scratchvae.estimators import Estimator, Integrand
from scratchvae.layers.curvature import stack_curvature
from scratchvae.layers.stack import Layer, stack_backward, stack_forward
from scratchvae.objectives.elbo import sampled_kl_backward, sampled_kl_forward

__all__ = ["DecoderIntegrand", "sample_gradients"]


class DecoderIntegrand:
    """f(z) = log p(x|z), or log p(x|z) − beta (log q(z|x) − log p(z)) with the sampled KL.

    Remembers its last evaluation, so that the decoder is passed once forward and once back whatever the
    estimator: `value_and_gradient` gives ∇f, and the decoder's own gradients come from the same pass.

    Parameters
    ----------
    layers : sequence of Layer
        The decoder.
    likelihood : Likelihood
    x : ndarray (B, D)
    posterior : (mean, log_var) or None
        Each (B, L); given where the KL is sampled.
    beta : float
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        likelihood: Likelihood,
        x: np.ndarray,
        posterior: tuple[np.ndarray, np.ndarray] | None,
        beta: float,
    ) -> None:
        self.layers = layers
        self.likelihood = likelihood
        self.x = self.features = x
        self.posterior = posterior
        self.beta = beta
        self.evaluations = 0
        self.differentiations = 0
        self.kl: np.ndarray | None = None
        self._weights: np.ndarray | None = None  # with which the decoder was last passed backwards
        self._gradients: list[tuple[np.ndarray, np.ndarray]] = []

    def value(self, z: np.ndarray) -> np.ndarray:
        """f at z (S, ..., B, L): values (S, ..., B), in nats. (5.1)"""
        self.evaluations += z[..., 0].size
        output, self.decoder_caches = stack_forward(z.reshape(-1, z.shape[-1]), self.layers)
        parameters = output.reshape(*z.shape[:-1], -1)
        self.reconstruction, self._likelihood_cache = self.likelihood.forward(self.x, parameters)
        self._weights = None
        if self.posterior is None:
            return self.reconstruction
        self.kl, self._kl_cache = sampled_kl_forward(z, *self.posterior)
        return self.reconstruction - self.beta * self.kl

    def value_and_gradient(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f and ∇f at z (S, ..., B, L): values (S, ..., B) and gradients, the shape of z."""
        value = self.value(z)
        return value, self.pull_back(np.ones(value.shape))

    def pull_back(self, dvalue: np.ndarray) -> np.ndarray:
        """dvalue (S, ..., B) times ∇f at the last evaluation's samples: (S, ..., B, L)."""
        self.differentiations += dvalue.size
        # f = log p(x|z) − …
        dz = self._decoder_backward(dvalue, need_dz=True).reshape(*dvalue.shape, -1)
        if self.posterior is not None:
            # f = … − beta kl(z)                                                             (5.7)
            dz = dz + sampled_kl_backward(-self.beta * dvalue, self._kl_cache)[0]
        return dz

    def hessian_diagonal(self, z: np.ndarray) -> np.ndarray:
        """∂²f/∂z_i² at z (S, ..., B, L): (S, ..., B, L). Not an evaluation: the last one is what it was. (14.8)"""
        flat = z.reshape(-1, z.shape[-1])
        output, slope, curvature = stack_curvature(flat, self.layers)
        # f = log p(x|z) − …                             Σ over D of (λ′ ä + λ″ ȧ²)          (14.8)
        parameters = output.reshape(*z.shape[:-1], -1)
        value, cache = self.likelihood.forward(self.x, parameters)
        doutput = self.likelihood.backward(np.ones(value.shape), cache).reshape(output.shape)
        terms = doutput * curvature + self.likelihood.curvature(output) * slope**2
        diagonal = np.ascontiguousarray(terms.sum(axis=-1).T).reshape(z.shape)
        if self.posterior is None:
            return diagonal
        # f = … − beta (½ z² − ½ (z − mean)² / σ² …)                                         (14.8)
        return diagonal - self.beta * (1 - np.exp(-self.posterior[1]))

    def decoder_gradients(self, weights: np.ndarray | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
        """(dweight, dbias) of each decoder layer, of log p(x|z) summed over the last evaluation's samples.

        Parameters
        ----------
        weights : ndarray (S, ..., B), optional
            Of each sample in the sum; by default one.

        Returns
        -------
        list of (dweight, dbias)
            Shapes (fan_in, fan_out) and (fan_out,).
        """
        weights = np.ones(self.reconstruction.shape) if weights is None else weights
        # An estimator that differentiated f with these weights has passed the decoder already.
        if self._weights is None or not np.array_equal(weights, self._weights):
            self._decoder_backward(weights, need_dz=False)
        return self._gradients

    def direct_gradients(self) -> tuple[np.ndarray, np.ndarray] | None:
        """What f depends on mean and log_var for beside z: each (S, ..., B, L), or None with the analytic KL.

        Their expectation is zero. (5.8)
        """
        if self.kl is None:
            return None
        # f = … − beta (log q(z; mean, log_var) − …)                                         (5.7)
        _, dmean, dlog_var = sampled_kl_backward(np.full(self.kl.shape, -self.beta), self._kl_cache)
        return dmean, dlog_var

    def output_gradient(self, weights: np.ndarray | None = None) -> np.ndarray:
        """d log p(x|z) / d output of the decoder at the last evaluation's samples: (S, B, D), its first axes as one.

        Times weights (S, ..., B), if given.
        """
        weights = np.ones(self.reconstruction.shape) if weights is None else weights
        # reconstruction = likelihood.forward(x, parameters)                                 (3.3) (4.13)
        dparameters = self.likelihood.backward(weights, self._likelihood_cache)
        return dparameters.reshape(-1, dparameters.shape[-1])

    def _decoder_backward(self, weights: np.ndarray, need_dz: bool) -> Any:
        """One backward pass of Σ weights log p(x|z): leaves the decoder's gradients behind, returns dz flattened."""
        # output = stack_forward(z, layers)                                                  (1.9)
        dy = self.output_gradient(weights)
        dz, self._gradients = stack_backward(dy, self.decoder_caches, need_dx=need_dz)
        self._weights = weights
        return dz


class _IntegrandOfPosterior(Integrand, Protocol):
    """An integrand that may depend on mean and log_var directly."""

    def direct_gradients(self) -> tuple[np.ndarray, np.ndarray] | None:
        """∂f/∂mean and ∂f/∂log_var at fixed z, each (S, ..., B, L), or None."""


def sample_gradients(
    integrand: _IntegrandOfPosterior,
    estimator: Estimator,
    mean: np.ndarray,
    log_var: np.ndarray,
    noise: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Per-sample gradients of E f(z) with respect to mean and log_var (B, L), by any estimator.

    With the sampled KL, f itself depends on mean and log_var. An estimator that differentiates f follows
    that dependence too, so that its gradient is that of the loss at the given noise; its expectation is zero,
    and an estimator that does not differentiate, or follows the path alone, leaves it out. (5.8) (15.1)

    Parameters
    ----------
    noise : ndarray (S, B, L)

    Returns
    -------
    dmean, dlog_var : ndarray (S, B, L)
    """
    dmean, dlog_var = estimator.sample_gradients(integrand, mean, log_var, noise)
    follows_all = estimator.needs_gradient and not getattr(estimator, "path_only", False)
    direct = integrand.direct_gradients() if follows_all else None
    if direct is None:
        return dmean, dlog_var
    return dmean + direct[0], dlog_var + direct[1]
