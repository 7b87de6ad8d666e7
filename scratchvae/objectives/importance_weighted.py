"""The importance-weighted bound and its backward pass. Derived in `derivations/22-importance_weighted.md`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scratchvae.objectives.elbo import ELBO

__all__ = [
    "OBJECTIVES",
    "ImportanceWeightedCache",
    "effective_sample_size",
    "importance_weighted_backward",
    "importance_weighted_elbo",
    "importance_weighted_forward",
    "monte_carlo_error",
]

# What a model can be trained to raise; which of them follows from the estimator of its gradient.
OBJECTIVES = ("elbo", "importance-weighted")


class ImportanceWeightedCache(NamedTuple):
    """What the backward pass of the bound needs."""

    shares: np.ndarray  # (S, B), each weight over the sum of its example's weights


def importance_weighted_forward(log_weights: np.ndarray) -> tuple[np.ndarray, ImportanceWeightedCache]:
    """bound = log of the mean over S of the importance weights, without overflow. (22.1) (22.2)

    Parameters
    ----------
    log_weights : ndarray (S, B)
        log p(x, z) − log q(z|x) at each sample of each example, in nats: reconstruction − sampled KL.

    Returns
    -------
    bound : ndarray (B,)
        Its expectation is at most log p(x), and approaches it as S grows. (5.10)
    cache : ImportanceWeightedCache
    """
    largest = log_weights.max(axis=0)
    scaled = np.exp(log_weights - largest)
    return largest + np.log(scaled.mean(axis=0)), ImportanceWeightedCache(scaled / scaled.sum(axis=0))


def importance_weighted_backward(dbound: np.ndarray, cache: ImportanceWeightedCache) -> np.ndarray:
    """Vector–Jacobian product of `importance_weighted_forward`: (B,) to (S, B). (22.3)"""
    # bound = log mean exp(log_weights)               d bound / d log_weights = the sample's share   (22.3)
    return dbound * cache.shares


def importance_weighted_elbo(
    reconstruction: np.ndarray, kl: np.ndarray, beta: float
) -> tuple[float, ELBO, np.ndarray]:
    """loss = −mean over B of the bound; with one sample it is that of the sampled KL. (22.4) (22.5)

    Parameters
    ----------
    reconstruction, kl : ndarray (S, B)
        log p(x|z) and log q(z|x) − log p(z) for each sample z of each example, in nats. Never the analytic
        KL: exp(reconstruction − kl) would not be an importance weight (22.8).
    beta : float
        Weight of kl in the log-weights; only 1 makes the negative loss a lower bound on log p(x).

    Returns
    -------
    loss : float
        In nats per example.
    elbo : ELBO
        Per example: the bound, and the plain means over S of its two terms.
    shares : ndarray (S, B)
        What each sample's log-weight counts in its example's bound. (22.3)
    """
    bound, cache = importance_weighted_forward(reconstruction - beta * kl)
    shares = importance_weighted_backward(np.ones(bound.shape), cache)
    elbo = ELBO(bound, reconstruction.mean(axis=0, dtype=np.float64), kl.mean(axis=0, dtype=np.float64))
    return -float(bound.mean()), elbo, shares


def effective_sample_size(shares: np.ndarray) -> np.ndarray:
    """How many samples of equal weight would be as good: from 1, where one has all the weight, to S. (22.9)

    Parameters
    ----------
    shares : ndarray (S, ...)
        Each weight over the sum over S.

    Returns
    -------
    ndarray (...)
    """
    return 1 / (shares**2).sum(axis=0)


def monte_carlo_error(shares: np.ndarray) -> np.ndarray:
    """Standard error of the log of the mean weight over S, to first order in 1/S, in nats. (22.10)

    Parameters
    ----------
    shares : ndarray (S, ...)
        Each weight over the sum over S.

    Returns
    -------
    ndarray (...)
        NaN where there is one sample, which says nothing about its error.
    """
    count = len(shares)
    if count == 1:
        return np.full(shares.shape[1:], np.nan)
    # Σ (share − 1/S)² is 1 / effective size − 1/S without the cancellation where all weights are nearly equal.
    return np.sqrt(count / (count - 1) * ((shares - 1 / count) ** 2).sum(axis=0))
