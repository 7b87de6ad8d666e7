"""Free bits: KL that a latent dimension may spend without paying. Derived in `derivations/26-free_bits.md`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["FreeBitsCache", "free_bits_backward", "free_bits_forward"]


class FreeBitsCache(NamedTuple):
    """What the backward pass needs: the posterior, and which dimensions are forgiven anything."""

    mean: np.ndarray  # (B, L)
    log_var: np.ndarray  # (B, L)
    is_below: np.ndarray  # (L,), bool


def free_bits_forward(mean: np.ndarray, log_var: np.ndarray, free_bits: float) -> tuple[float, FreeBitsCache]:
    """What the loss gains on top of the KL: Σ over L of max(free_bits − KL of the dimension, 0). (26.1) (26.2)

    The KL of a dimension is its mean over the minibatch.

    Parameters
    ----------
    mean, log_var : ndarray (B, L)
    free_bits : float
        In nats per latent dimension.

    Returns
    -------
    shortfall : float
        In nats, without beta.
    cache : FreeBitsCache
    """
    by_dimension = 0.5 * (mean**2 + np.expm1(log_var) - log_var).mean(axis=0, dtype=np.float64)
    missing = free_bits - by_dimension
    return float(np.maximum(missing, 0).sum()), FreeBitsCache(mean, log_var, missing > 0)


def free_bits_backward(dshortfall: float, cache: FreeBitsCache) -> tuple[np.ndarray, np.ndarray]:
    """Vector–Jacobian product of `free_bits_forward`. (26.3)

    Parameters
    ----------
    dshortfall : float

    Returns
    -------
    dmean, dlog_var : ndarray (B, L)
    """
    # shortfall = Σ max(free_bits − mean over B of kl, 0)     −1/B where the dimension is below, else 0    (26.3)
    weight: np.ndarray = np.where(cache.is_below, -dshortfall / len(cache.mean), 0).astype(cache.mean.dtype)
    # kl = ½ (mean² + …)                                      d kl / d mean = mean                          (4.8)
    dmean = weight * cache.mean
    # kl = ½ (… + expm1(log_var) − log_var)                   d kl / d log_var = ½ expm1(log_var)           (4.8)
    dlog_var = weight * (0.5 * np.expm1(cache.log_var))
    return dmean, dlog_var
