"""Minibatch noise against sampling noise: the law of total variance, both parts and the whole measured by themselves.

Derived in the last part of `derivations/11-variance.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scratchvae.estimators import make_estimator
from scratchvae.lab.variance import gradient_variance
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream, spawn
from scratchvae.training.minibatch import check_data, minibatch
from scratchvae.validation import check_integer

__all__ = ["GRADIENTS", "MINIBATCHES", "Measured", "TotalVariance", "total_variance"]

# Minibatches from which the parts are measured, and gradients from which the whole is: they know the variance
# between to about a seventh and the whole to a few per cent.
MINIBATCHES = 100
GRADIENTS = 2000
# What these subtract was learned from earlier minibatches, so that no two of them have the same distribution.
_REMEMBERING = ("score-function-running-mean", "score-function-learned-baseline")
# Draws for each estimate within a minibatch: as few as `gradient_variance` takes, for the spread between
# minibatches is what more of them tell.
_ESTIMATES = 40


class Measured(NamedTuple):
    """A number and its standard error."""

    value: float
    standard_error: float

    @classmethod
    def mean_of(cls, numbers: Sequence[float] | np.ndarray) -> Measured:
        """The mean of independent measurements (N,)."""
        return cls(float(np.mean(numbers)), float(np.std(numbers, ddof=1) / math.sqrt(len(numbers))))


@dataclass(frozen=True)
class TotalVariance:
    """Traces of the covariance of one estimate of the encoder's gradient. (11.11)

    Attributes
    ----------
    sampling : Measured
        E Var: over the noise, averaged over minibatches.
    minibatch : Measured
        Var E: over minibatches, of the mean over the noise.
    whole : Measured
        Of gradients each with a minibatch and noise of its own; knows nothing of the other two.
    """

    sampling: Measured
    minibatch: Measured
    whole: Measured

    @property
    def sum(self) -> Measured:
        """What the law says the whole is. Its parts come from the same minibatches: their errors may go together."""
        error = self.sampling.standard_error + self.minibatch.standard_error
        return Measured(self.sampling.value + self.minibatch.value, error)


def total_variance(
    vae: VAE,
    train: np.ndarray,
    estimators: Sequence[str],
    *,
    batch_size: int,
    num_minibatches: int = MINIBATCHES,
    num_gradients: int = GRADIENTS,
    samples_per_estimate: int = 10,
    rng: np.random.Generator | int | None = 0,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, TotalVariance]:
    """Take the variance of a minibatch's gradient apart into that of the noise and that of the minibatch.

    A minibatch is `batch_size` images drawn with replacement, and binarized as in training.

    Parameters
    ----------
    vae : VAE
    train : ndarray (N, D)
    estimators : sequence of str
        Without those that carry what they learned from minibatch to minibatch.
    batch_size : int
    num_minibatches : int
        From which the two parts are measured, with 40 estimates in each.
    num_gradients : int
        From which the whole is measured, each on a minibatch of its own.
    samples_per_estimate : int
        As for `gradient_variance`.
    rng : Generator, int or None
    advance : callable
        Is called after each minibatch, and as often for the whole of each estimator.

    Returns
    -------
    dict of TotalVariance
        By estimator.
    """
    train = check_data("train", train, vae)
    check_integer("num_minibatches", num_minibatches, low=2)
    check_integer("num_gradients", num_gradients, low=2)
    for name in estimators:
        if name in _REMEMBERING:
            raise ValueError(
                f"estimators has {name!r}, which carries a baseline from minibatch to minibatch, expected estimators "
                "without a memory: leave it out"
            )
    image_rng, pixel_rng, noise_rng, whole_rng = spawn(rng, 4)
    pixels = NoiseStream(pixel_rng)

    def draw() -> np.ndarray:
        return minibatch(train[image_rng.integers(len(train), size=batch_size)], vae, pixels)

    within: dict[str, list[float]] = {name: [] for name in estimators}
    of_mean: dict[str, list[float]] = {name: [] for name in estimators}
    means: dict[str, list[np.ndarray]] = {name: [] for name in estimators}
    samples: dict[str, int] = {}
    for _ in range(num_minibatches):
        draws = _ESTIMATES * math.lcm(samples_per_estimate, 2)  # whole pairs, beside groups of an odd size
        result = gradient_variance(
            vae, draw(), estimators, draws, noise_rng, samples_per_estimate=samples_per_estimate
        )
        samples = result.samples
        for name in estimators:
            total = result.total(name, "encoder")
            within[name].append(total / samples[name])
            of_mean[name].append(total / result.num_samples)
            mean = [m.ravel() for key, m in result.mean[name].items() if key.startswith("encoder")]
            means[name].append(np.concatenate(mean))
        advance()
    found = {}
    for name in estimators:
        centre = np.mean(means[name], axis=0)
        distances = np.array([((mean - centre) ** 2).sum() for mean in means[name]])
        # The means' own noise is no difference between minibatches.
        between = distances * (num_minibatches / (num_minibatches - 1)) - of_mean[name]
        whole = _whole(vae, draw, name, samples[name], num_gradients, NoiseStream(whole_rng), centre)
        found[name] = TotalVariance(Measured.mean_of(within[name]), Measured.mean_of(between), whole)
        advance()
    return found


def _whole(
    vae: VAE,
    draw: Callable[[], np.ndarray],
    name: str,
    samples: int,
    count: int,
    noise: NoiseStream,
    near: np.ndarray,
) -> Measured:
    """The variance of single estimates, each with a minibatch of its own; `near` (P,) is a place near their mean."""
    estimator = make_estimator(name)
    distances = np.empty(count)
    total = np.zeros_like(near)
    for i in range(count):
        vae.minibatch_gradients(draw(), noise, estimator, samples, vae.beta)
        gradient = [g.ravel() for key, g in vae.gradients.items() if key.startswith("encoder")]
        away = np.concatenate(gradient) - near
        distances[i] = (away**2).sum()
        total += away
    # Σ (g − ḡ)² = Σ (g − c)² − N (ḡ − c)², for any c
    correction = float(((total / count) ** 2).sum())
    return Measured.mean_of((distances - correction) * (count / (count - 1)))
