"""The terms of a VAE's loss, each as an integrand of its own, so that their noise can be measured apart."""

from __future__ import annotations

import numpy as np

from scratchvae.models.decoder_integrand import DecoderIntegrand
from scratchvae.models.vae import VAE
from scratchvae.objectives.elbo import sampled_kl_backward
from scratchvae.validation import check_choice

__all__ = ["TERMS", "KLIntegrand", "make_integrand"]

TERMS = ("loss", "reconstruction", "kl")


class KLIntegrand(DecoderIntegrand):
    """−beta (log q(z|x) − log p(z)) alone; zero with the analytic KL, which depends on no sample. (5.6)"""

    def value(self, z: np.ndarray) -> np.ndarray:
        """f at z (S, ..., B, L): values (S, ..., B), in nats."""
        super().value(z)
        return np.zeros_like(self.reconstruction) if self.kl is None else -self.beta * self.kl

    def pull_back(self, dvalue: np.ndarray) -> np.ndarray:
        """dvalue (S, ..., B) times ∇f at the last evaluation's samples: (S, ..., B, L). (5.7)"""
        self.differentiations += dvalue.size
        if self.posterior is None:
            return np.zeros((*dvalue.shape, self.layers[0].weight.shape[0]), self.x.dtype)
        return sampled_kl_backward(-self.beta * dvalue, self._kl_cache)[0]

    def hessian_diagonal(self, z: np.ndarray) -> np.ndarray:
        """∂²f/∂z_i² at z (S, ..., B, L): (S, ..., B, L). (14.8)"""
        if self.posterior is None:
            return np.zeros_like(z)
        return np.broadcast_to(-self.beta * (1 - np.exp(-self.posterior[1])), z.shape)

    def output_gradient(self, weights: np.ndarray | None = None) -> np.ndarray:
        """The decoder owes nothing to this term: zeros (S, B, D), the first axes as one."""
        return np.zeros_like(super().output_gradient(weights))


def make_integrand(
    vae: VAE, x: np.ndarray, mean: np.ndarray, log_var: np.ndarray, objective: str, term: str
) -> DecoderIntegrand:
    """What an estimator integrates to measure one term of the loss.

    Parameters
    ----------
    vae : VAE
    x : ndarray (B, D)
    mean, log_var : ndarray (B, L)
    objective : {"elbo", "importance-weighted"}
    term : {"loss", "reconstruction", "kl"}

    Raises
    ------
    ValueError
        If the importance-weighted bound is to be taken apart: log mean exp is no sum of terms.
    """
    check_choice("term", term, TERMS)
    whole = vae.integrand(x, mean, log_var, vae.beta, objective)
    if term == "loss":
        return whole
    if objective == "importance-weighted":
        raise ValueError(
            f"term is {term!r}, expected 'loss' for the importance-weighted bound, which is no sum of terms"
        )
    if term == "reconstruction":
        return DecoderIntegrand(whole.layers, whole.likelihood, x, None, vae.beta)
    return KLIntegrand(whole.layers, whole.likelihood, x, whole.posterior, vae.beta)
