"""The Bernoulli likelihood from logits. Derived in `derivations/03-bernoulli.md`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scratchvae.layers.activations import sigmoid_forward, softplus_forward

__all__ = ["BernoulliCache", "bernoulli_likelihood_backward", "bernoulli_likelihood_forward"]


class BernoulliCache(NamedTuple):
    """What the backward pass of the Bernoulli likelihood needs."""

    x: np.ndarray  # (B, D)
    logits: np.ndarray  # (S, B, D)


def bernoulli_likelihood_forward(x: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, BernoulliCache]:
    """log Bernoulli(x; sigmoid(logits)), summed over D, in nats. (3.2)

    For x in {0, 1} a log-probability. For grey x in between it is the negative cross-entropy, the mean of
    the log-probability over dynamic binarizations of x (3.5), and no log-density of x (3.4).

    Parameters
    ----------
    x : ndarray (B, D), in [0, 1]
    logits : ndarray (S, B, D) or (B, D)

    Returns
    -------
    log_likelihood : ndarray (S, B) or (B,)
    cache : BernoulliCache
    """
    log_likelihood = (x * logits - softplus_forward(logits)[0]).sum(axis=-1, dtype=np.float64)
    return log_likelihood, BernoulliCache(x, logits)


def bernoulli_likelihood_backward(dlog_likelihood: np.ndarray, cache: BernoulliCache) -> np.ndarray:
    """Vector–Jacobian product of `bernoulli_likelihood_forward` with respect to the logits. (3.3)

    Parameters
    ----------
    dlog_likelihood : ndarray (S, B) or (B,)

    Returns
    -------
    dlogits : ndarray (S, B, D) or (B, D)
    """
    # log_likelihood = x logits − softplus(logits)    d / d logits = x − sigmoid(logits)     (3.3)
    weight = dlog_likelihood[..., None].astype(cache.logits.dtype)
    return weight * (cache.x - sigmoid_forward(cache.logits)[0])
