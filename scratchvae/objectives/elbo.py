"""The evidence lower bound: its terms, sign, reduction and backward pass. Derived in `derivations/05-elbo.md`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scratchvae.densities.gaussian import (
    GaussianLogDensityCache,
    gaussian_log_density_backward,
    gaussian_log_density_forward,
)

__all__ = [
    "ELBO",
    "ELBOCache",
    "SampledKLCache",
    "elbo_backward",
    "elbo_forward",
    "sampled_kl_backward",
    "sampled_kl_forward",
]


class ELBO(NamedTuple):
    """The bound and its two terms, one number per example, in nats."""

    value: np.ndarray  # (B,), reconstruction − beta · kl
    reconstruction: np.ndarray  # (B,), log p(x|z), averaged over the samples of z
    kl: np.ndarray  # (B,), without beta


class ELBOCache(NamedTuple):
    """What the backward pass of the loss needs: how many terms each mean ran over, and beta."""

    reconstruction_shape: tuple[int, ...]  # (S, B)
    kl_shape: tuple[int, ...]  # (B,), or (S, B) for the sampled KL
    beta: float


def elbo_forward(reconstruction: np.ndarray, kl: np.ndarray, beta: float) -> tuple[float, ELBO, ELBOCache]:
    """loss = −mean over B of (mean over S of reconstruction − beta kl). (5.1) (5.4)

    Parameters
    ----------
    reconstruction : ndarray (S, B)
        log p(x|z) for each sample z of each example, in nats.
    kl : ndarray (B,) or (S, B)
        Analytic, one for each example, or sampled, one for each sample.
    beta : float
        Weight of the KL term; 1 makes the negative loss a lower bound on log p(x).

    Returns
    -------
    loss : float
        In nats per example.
    elbo : ELBO
        Per example.
    cache : ELBOCache
    """
    cache = ELBOCache(reconstruction.shape, kl.shape, beta)
    # Terms of single precision are accumulated in double, like all losses.
    kl_per_example = kl.astype(np.float64) if kl.ndim == 1 else kl.mean(axis=0, dtype=np.float64)
    reconstruction_per_example = reconstruction.mean(axis=0, dtype=np.float64)
    value = reconstruction_per_example - beta * kl_per_example
    return -float(value.mean()), ELBO(value, reconstruction_per_example, kl_per_example), cache


def elbo_backward(dloss: float, cache: ELBOCache) -> tuple[np.ndarray, np.ndarray]:
    """Vector–Jacobian product of `elbo_forward` with respect to the two terms. (5.5)

    Parameters
    ----------
    dloss : float

    Returns
    -------
    dreconstruction : ndarray (S, B)
    dkl : ndarray (B,) or (S, B)
    """
    # loss = −mean over B of mean over S of (… − beta kl)           one term among B, or among S B   (5.5)
    dkl = np.full(cache.kl_shape, dloss * cache.beta / np.prod(cache.kl_shape))
    # loss = −mean over B of mean over S of (reconstruction − …)    one term among S B               (5.5)
    dreconstruction = np.full(cache.reconstruction_shape, -dloss / np.prod(cache.reconstruction_shape))
    return dreconstruction, dkl


class SampledKLCache(NamedTuple):
    """What the backward pass of the sampled KL needs."""

    z: np.ndarray  # (S, B, L)
    posterior: GaussianLogDensityCache  # of log q(z|x)


def sampled_kl_forward(
    z: np.ndarray, mean: np.ndarray, log_var: np.ndarray
) -> tuple[np.ndarray, SampledKLCache]:
    """log q(z|x) − log p(z) at each sample: an unbiased one-sample estimate of the KL. (5.6)

    Parameters
    ----------
    z : ndarray (S, B, L), drawn from q
    mean, log_var : ndarray (B, L)

    Returns
    -------
    kl : ndarray (S, B), in nats; single values may be negative
    cache : SampledKLCache
    """
    log_posterior, posterior_cache = gaussian_log_density_forward(z, mean, log_var)
    standard = np.zeros((), z.dtype)
    log_prior, _ = gaussian_log_density_forward(z, standard, standard)
    return log_posterior - log_prior, SampledKLCache(z, posterior_cache)


def sampled_kl_backward(dkl: np.ndarray, cache: SampledKLCache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Partial derivatives of `sampled_kl_forward`, one for each sample. (5.7)

    dz flows on through the sample; dmean and dlog_var are the direct part, whose expectation is zero. (5.8)

    Parameters
    ----------
    dkl : ndarray (S, B)

    Returns
    -------
    dz, dmean, dlog_var : ndarray (S, B, L)
    """
    # kl = log q(z|x) − …                             the score, and minus it for z          (5.7)
    dz, dmean, dlog_var = gaussian_log_density_backward(dkl, cache.posterior)
    # kl = … − log p(z)                               −d log p / d z = z                     (5.7)
    dz = dz + dkl[..., None].astype(cache.z.dtype) * cache.z
    return dz, dmean, dlog_var
