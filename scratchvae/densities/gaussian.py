"""The diagonal Gaussian: log-density, score, entropy, KL, sampling. Derived in `derivations/04-gaussian.md`.

`log_var` is log σ², never log σ. Sums run over the last axis, the latent dimensions or pixels, in nats; they
are float64 whatever the arrays are, and gradients have the arrays' own dtype.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = [
    "GaussianEntropyCache",
    "GaussianKLCache",
    "GaussianLikelihoodCache",
    "GaussianLogDensityCache",
    "GaussianSampleCache",
    "gaussian_entropy_backward",
    "gaussian_entropy_forward",
    "gaussian_kl_backward",
    "gaussian_kl_forward",
    "gaussian_likelihood_backward",
    "gaussian_likelihood_forward",
    "gaussian_log_density_backward",
    "gaussian_log_density_forward",
    "gaussian_sample_backward",
    "gaussian_sample_forward",
    "gaussian_score",
]

_LOG_2_PI = math.log(2 * math.pi)


class GaussianLogDensityCache(NamedTuple):
    """What the backward pass of the log-density needs."""

    scaled: np.ndarray  # (..., L), (z − mean) / σ: all three derivatives are simple in it
    inverse_scale: np.ndarray  # (..., L), 1 / σ


def gaussian_log_density_forward(
    z: np.ndarray, mean: np.ndarray, log_var: np.ndarray
) -> tuple[np.ndarray, GaussianLogDensityCache]:
    """log N(z; mean, exp(log_var)), summed over L, in nats. (4.1)

    Parameters
    ----------
    z : ndarray (S, B, L) or any (..., L)
    mean, log_var : ndarray (B, L), or what broadcasts against z

    Returns
    -------
    log_density : ndarray (S, B)
    cache : GaussianLogDensityCache
    """
    inverse_scale = np.exp(-0.5 * log_var)
    scaled = (z - mean) * inverse_scale
    log_density = -0.5 * (_LOG_2_PI + log_var + scaled**2).sum(axis=-1, dtype=np.float64)
    return log_density, GaussianLogDensityCache(scaled, inverse_scale)


def gaussian_log_density_backward(
    dlog_density: np.ndarray, cache: GaussianLogDensityCache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vector–Jacobian product of `gaussian_log_density_forward`. (4.2) (4.3) (4.4)

    Gradients have the shape of z, one for each sample: where mean and log_var were broadcast over samples,
    summing over them is left to the caller.

    Parameters
    ----------
    dlog_density : ndarray (S, B)

    Returns
    -------
    dz, dmean, dlog_var : ndarray (S, B, L)
    """
    # log_density = −½ (… + scaled²)                  scaled² = (z − mean)² / σ²
    weight = dlog_density[..., None].astype(cache.scaled.dtype)
    dmean = weight * cache.scaled * cache.inverse_scale  # (4.3)
    dz = -dmean  # (4.2)
    # log_density = −½ (… + log_var + scaled²)        d scaled² / d log_var = −scaled²
    dlog_var = weight * (0.5 * (cache.scaled**2 - 1))  # (4.4)
    return dz, dmean, dlog_var


def gaussian_score(noise: np.ndarray, log_var: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The score, ∇ log N(z; mean, σ²) with respect to mean and log_var, at z = mean + σ noise. (4.3) (4.4)

    Written in the noise, where the difference z − mean and its rounding never arise.

    Parameters
    ----------
    noise : ndarray (S, B, L) or any (..., L), standard normal
    log_var : ndarray (B, L), or what broadcasts against noise

    Returns
    -------
    score_mean, score_log_var : ndarray (S, B, L)
    """
    return noise * np.exp(-0.5 * log_var), 0.5 * (noise**2 - 1)


class GaussianEntropyCache(NamedTuple):
    """What the backward pass of the entropy needs; the derivative depends on no value."""

    shape: tuple[int, ...]  # (B, L)
    dtype: np.dtype


def gaussian_entropy_forward(log_var: np.ndarray) -> tuple[np.ndarray, GaussianEntropyCache]:
    """Entropy of N(·, exp(log_var)), summed over L, in nats; the mean does not matter. (4.5)

    Parameters
    ----------
    log_var : ndarray (B, L)

    Returns
    -------
    entropy : ndarray (B,)
    cache : GaussianEntropyCache
    """
    entropy = 0.5 * (_LOG_2_PI + 1 + log_var).sum(axis=-1, dtype=np.float64)
    return entropy, GaussianEntropyCache(log_var.shape, log_var.dtype)


def gaussian_entropy_backward(dentropy: np.ndarray, cache: GaussianEntropyCache) -> np.ndarray:
    """Vector–Jacobian product of `gaussian_entropy_forward`: (B,) to (B, L). (4.6)"""
    # entropy = ½ (… + log_var)                       d entropy / d log_var = ½        (4.6)
    return np.broadcast_to(0.5 * dentropy[..., None], cache.shape).astype(cache.dtype)


class GaussianKLCache(NamedTuple):
    """What the backward pass of the KL divergence needs: its own arguments."""

    mean: np.ndarray  # (B, L)
    log_var: np.ndarray  # (B, L)


def gaussian_kl_forward(mean: np.ndarray, log_var: np.ndarray) -> tuple[np.ndarray, GaussianKLCache]:
    """KL(N(mean, exp(log_var)) ‖ N(0, I)) per example, in nats. (4.7)

    Parameters
    ----------
    mean, log_var : ndarray (B, L)

    Returns
    -------
    kl : ndarray (B,)
    cache : GaussianKLCache
    """
    kl = 0.5 * (mean**2 + np.expm1(log_var) - log_var).sum(axis=-1, dtype=np.float64)
    return kl, GaussianKLCache(mean, log_var)


def gaussian_kl_backward(dkl: np.ndarray, cache: GaussianKLCache) -> tuple[np.ndarray, np.ndarray]:
    """Vector–Jacobian product of `gaussian_kl_forward`. (4.8)

    Parameters
    ----------
    dkl : ndarray (B,)

    Returns
    -------
    dmean, dlog_var : ndarray (B, L)
    """
    # kl = ½ (mean² + …)                              d kl / d mean = mean                   (4.8)
    weight = dkl[..., None].astype(cache.mean.dtype)
    dmean = weight * cache.mean
    # kl = ½ (… + expm1(log_var) − log_var)           d kl / d log_var = ½ expm1(log_var)    (4.8)
    dlog_var = weight * (0.5 * np.expm1(cache.log_var))
    return dmean, dlog_var


class GaussianSampleCache(NamedTuple):
    """What the backward pass of the sampler needs: the very noise that the forward pass used."""

    scaled_noise: np.ndarray  # (S, B, L), σ noise = z − mean before rounding


def gaussian_sample_forward(
    mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, GaussianSampleCache]:
    """z = mean + σ noise with σ = exp(log_var / 2): the reparameterized sample. (4.9)

    Parameters
    ----------
    mean, log_var : ndarray (B, L)
    noise : ndarray (S, B, L) or (B, L), standard normal

    Returns
    -------
    z : ndarray, the shape of noise
    cache : GaussianSampleCache
    """
    scaled_noise = np.exp(0.5 * log_var) * noise
    return mean + scaled_noise, GaussianSampleCache(scaled_noise)


def gaussian_sample_backward(dz: np.ndarray, cache: GaussianSampleCache) -> tuple[np.ndarray, np.ndarray]:
    """Vector–Jacobian product of `gaussian_sample_forward`, one for each sample. (4.10)

    Parameters
    ----------
    dz : ndarray (S, B, L) or (B, L)

    Returns
    -------
    dmean, dlog_var : ndarray, the shape of dz
        Not summed over S: the spread over samples is what an estimator's variance is made of.
    """
    # z = mean + …                                    d z / d mean = 1                       (4.10)
    dmean = dz
    # z = … + exp(log_var / 2) noise                  d z / d log_var = ½ σ noise            (4.10)
    dlog_var = dz * (0.5 * cache.scaled_noise)
    return dmean, dlog_var


class GaussianLikelihoodCache(NamedTuple):
    """What the backward pass of the Gaussian likelihood needs."""

    residual: np.ndarray  # (S, B, D), x − mean
    variance: float


def gaussian_likelihood_forward(
    x: np.ndarray, mean: np.ndarray, variance: float = 1.0
) -> tuple[np.ndarray, GaussianLikelihoodCache]:
    """log N(x; mean, variance I), summed over D, in nats, its constant included. (4.12)

    The L2 reconstruction loss as the likelihood that it is, with the variance that it leaves unsaid.

    Parameters
    ----------
    x : ndarray (B, D)
    mean : ndarray (S, B, D) or (B, D), the decoder's output
    variance : float, greater than 0

    Returns
    -------
    log_likelihood : ndarray (S, B) or (B,)
    cache : GaussianLikelihoodCache
    """
    residual = x - mean
    constant = x.shape[-1] * (_LOG_2_PI + math.log(variance))
    log_likelihood = -0.5 * ((residual**2).sum(axis=-1, dtype=np.float64) / variance + constant)
    return log_likelihood, GaussianLikelihoodCache(residual, variance)


def gaussian_likelihood_backward(dlog_likelihood: np.ndarray, cache: GaussianLikelihoodCache) -> np.ndarray:
    """Vector–Jacobian product of `gaussian_likelihood_forward` with respect to the mean. (4.13)

    Parameters
    ----------
    dlog_likelihood : ndarray (S, B) or (B,)

    Returns
    -------
    dmean : ndarray (S, B, D) or (B, D)
    """
    # log_likelihood = −½ residual² / variance + …    d / d mean = residual / variance       (4.13)
    return (dlog_likelihood / cache.variance)[..., None].astype(cache.residual.dtype) * cache.residual
