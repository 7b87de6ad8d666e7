"""What one estimate of a VAE's gradient costs: evaluations of the decoder, and processor time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from scratchvae.estimators import make_estimator
from scratchvae.models.decoder_integrand import sample_gradients
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream, standard_normal

__all__ = ["ROUNDS", "Work", "work_per_estimate"]

# The median of so many is not moved by a few that were disturbed.
ROUNDS = 21
# Steps in one round, so that even a quick one is long beside the clock's own cost. It counts the processor's time, of
# all threads together: what else the machine is doing hardly shows in it.
_STEPS = 4


class Work(NamedTuple):
    """The cost of one estimate of the gradient, per example where it is counted."""

    evaluations: float  # of the decoder, that is of f
    differentiations: float  # points at which ∇f was asked for
    milliseconds: float  # of processor time for a training step on the minibatch, the optimizer left out


def work_per_estimate(
    vae: VAE,
    x: np.ndarray,
    samples: Mapping[str, int],
    *,
    rng: np.random.Generator | int | None = 0,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Work]:
    """Count and time one estimate of each estimator, all of them in turn in every round.

    The diagonal of the Hessian, which a Taylor expansion to second order asks for, is no evaluation of f; it is in
    the time.

    Parameters
    ----------
    vae : VAE
        Its `gradient` is left as it was.
    x : ndarray (B, D)
    samples : mapping of str to int
        Estimators, and how many samples of one example make one estimate.
    rng : Generator, int or None
    advance : callable
        Is called after each round.

    Returns
    -------
    dict of Work
    """
    estimators = {name: make_estimator(name) for name in samples}
    noise = NoiseStream(rng)
    kept = vae.gradient.copy()
    seconds: dict[str, list[float]] = {name: [] for name in samples}
    for name, estimator in estimators.items():  # the first step may compile something
        vae.minibatch_gradients(x, noise, estimator, samples[name], vae.beta)
    for _ in range(ROUNDS):
        for name, estimator in estimators.items():
            start = time.process_time()
            for _ in range(_STEPS):
                vae.minibatch_gradients(x, noise, estimator, samples[name], vae.beta)
            seconds[name].append((time.process_time() - start) / _STEPS)
        advance()
    vae.gradient[...] = kept
    counts = {name: _counts(vae, x, name, samples[name]) for name in samples}
    return {name: Work(*counts[name], 1e3 * float(np.median(seconds[name]))) for name in samples}


def _counts(vae: VAE, x: np.ndarray, name: str, samples: int) -> tuple[float, float]:
    """(evaluations, differentiations) per example, as the integrand counts them."""
    estimator = make_estimator(name)
    mean, log_var, _ = vae.encoder_forward(x)
    integrand = vae.integrand(x, mean, log_var, vae.beta, getattr(estimator, "objective", "elbo"))
    noise = standard_normal(0, (samples, *mean.shape), vae.dtype)
    sample_gradients(integrand, estimator, mean, log_var, noise)
    return integrand.evaluations / len(x), integrand.differentiations / len(x)
