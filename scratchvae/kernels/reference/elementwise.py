"""What a training step does between its matrix products, each in one pass. Derived in notes 03 and 04.

Sums over pixels and latent dimensions are float64 whatever the arrays are; `dvalue` is the derivative of the loss
with respect to each row's sum, so that the gradient is ready as soon as the value is.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "all_finite",
    "bernoulli_value_and_gradient",
    "gaussian_kl_value_and_gradient",
    "reparameterize",
    "reparameterize_gradient",
]


def all_finite(array: np.ndarray) -> bool:
    """Whether no number of `array` is infinite or NaN.

    Parameters
    ----------
    array : ndarray (P,)

    Returns
    -------
    bool
    """
    return bool(np.isfinite(array).all())


def bernoulli_value_and_gradient(
    x: np.ndarray, logits: np.ndarray, dvalue: np.ndarray, dlogits: np.ndarray
) -> np.ndarray:
    """Row sums of x a − softplus(a), and dvalue (x − σ(a)). (3.2) (3.3)

    Parameters
    ----------
    x : ndarray (B, D)
    logits : ndarray (S B, D)
        Row r belongs to example r modulo B.
    dvalue : ndarray (S B,)
    dlogits : ndarray (S B, D)
        Filled.

    Returns
    -------
    ndarray (S B,) of float64
    """
    x = np.tile(x, (len(logits) // len(x), 1))
    decay = np.exp(-np.abs(logits))
    softplus = np.maximum(logits, 0) + np.log1p(decay)
    value = (x * logits - softplus).sum(axis=1, dtype=np.float64)
    sigmoid = np.where(logits >= 0, 1, decay) / (1 + decay)
    dlogits[...] = dvalue[:, None].astype(logits.dtype) * (x - sigmoid)
    return value


def gaussian_kl_value_and_gradient(
    mean: np.ndarray, log_var: np.ndarray, dvalue: np.ndarray, dmean: np.ndarray, dlog_var: np.ndarray
) -> np.ndarray:
    """Row sums of ½ (mean² + expm1(log_var) − log_var), and its gradient times dvalue, added. (4.7) (4.8)

    Parameters
    ----------
    mean, log_var : ndarray (B, L)
    dvalue : ndarray (B,)
    dmean, dlog_var : ndarray (B, L)
        Added to.

    Returns
    -------
    ndarray (B,) of float64
    """
    growth = np.expm1(log_var)
    weight = dvalue[:, None].astype(mean.dtype)
    dmean += weight * mean
    dlog_var += weight * (0.5 * growth)
    return 0.5 * (mean * mean + growth - log_var).sum(axis=1, dtype=np.float64)


def reparameterize(mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray, z: np.ndarray) -> None:
    """z = mean + exp(log_var / 2) noise. (4.9)

    Parameters
    ----------
    mean, log_var : ndarray (B, L)
    noise : ndarray (S B, L)
        Row r belongs to example r modulo B.
    z : ndarray (S B, L)
        Filled.
    """
    shape = (-1, *mean.shape)
    z[...] = (mean + np.exp(0.5 * log_var) * noise.reshape(shape)).reshape(z.shape)


def reparameterize_gradient(
    dz: np.ndarray, log_var: np.ndarray, noise: np.ndarray, dmean: np.ndarray, dlog_var: np.ndarray
) -> None:
    """dmean = dz and dlog_var = ½ dz exp(log_var / 2) noise, summed over the samples. (4.10)

    Parameters
    ----------
    dz, noise : ndarray (S B, L)
    log_var : ndarray (B, L)
    dmean, dlog_var : ndarray (B, L)
        Filled.
    """
    shape = (-1, *log_var.shape)
    dmean[...] = dz.reshape(shape).sum(axis=0)
    dlog_var[...] = 0.5 * np.exp(0.5 * log_var) * (dz * noise).reshape(shape).sum(axis=0)
