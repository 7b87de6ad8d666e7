"""The likelihoods that a decoder can end in, behind one signature."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from scratchvae.densities.bernoulli import bernoulli_likelihood_backward, bernoulli_likelihood_forward
from scratchvae.densities.gaussian import gaussian_likelihood_backward, gaussian_likelihood_forward
from scratchvae.layers.activations import sigmoid_forward
from scratchvae.validation import check_choice, check_number

__all__ = ["LIKELIHOODS", "Likelihood", "make_likelihood"]

LIKELIHOODS = ("bernoulli", "gaussian")


class Likelihood(NamedTuple):
    """p(x | z) given the decoder's output, its natural parameters."""

    name: str
    # (x (B, D), parameters (S, B, D)) -> (log p(x|z) (S, B), cache)
    forward: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, Any]]
    # (dlog_likelihood (S, B), cache) -> dparameters (S, B, D)
    backward: Callable[[np.ndarray, Any], np.ndarray]
    # parameters (..., D) -> second derivative of log p(x|z) with respect to each of them (..., D); x does not matter
    curvature: Callable[[np.ndarray], np.ndarray]
    # parameters (..., D) -> mean of x (..., D)
    mean: Callable[[np.ndarray], np.ndarray]
    # (parameters (..., D), generator) -> a draw of x (..., D)
    sample: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    # the values that x may take, for the check at the door
    low: float
    high: float


def make_likelihood(name: str, variance: float = 1.0) -> Likelihood:
    """The likelihood of that name.

    Parameters
    ----------
    name : {"bernoulli", "gaussian"}
        Logits and cross-entropy, or means and L2.
    variance : float
        Of the Gaussian likelihood, the same for every pixel; greater than 0.

    Raises
    ------
    ValueError
        If the name is unknown (the message lists the known ones) or the variance is not positive.
    """
    check_choice("likelihood", name, LIKELIHOODS)
    variance = check_number("likelihood_variance", variance, above=0, low=1e-30, high=1e30)
    if name == "bernoulli":
        return Likelihood(
            name,
            bernoulli_likelihood_forward,
            bernoulli_likelihood_backward,
            _bernoulli_curvature,
            _sigmoid,
            _bernoulli_draw,
            0.0,
            1.0,
        )
    return Likelihood(
        name,
        partial(gaussian_likelihood_forward, variance=variance),
        gaussian_likelihood_backward,
        partial(_gaussian_curvature, variance=variance),
        np.copy,
        partial(_gaussian_draw, variance=variance),
        -np.inf,
        np.inf,
    )


def _bernoulli_curvature(logits: np.ndarray) -> np.ndarray:
    probability = _sigmoid(logits)
    return -probability * (1 - probability)  # (14.8)


def _gaussian_curvature(mean: np.ndarray, variance: float) -> np.ndarray:
    return np.full_like(mean, -1 / variance)  # (14.8)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return sigmoid_forward(logits)[0]


def _bernoulli_draw(logits: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return (generator.random(logits.shape) < _sigmoid(logits)).astype(logits.dtype)


def _gaussian_draw(mean: np.ndarray, generator: np.random.Generator, variance: float) -> np.ndarray:
    return mean + (np.sqrt(variance) * generator.standard_normal(mean.shape)).astype(mean.dtype)
