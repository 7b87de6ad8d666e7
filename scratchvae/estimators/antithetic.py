"""Antithetic pairs, noise and −noise, for any estimator. Derived in `derivations/13-antithetic.md`."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.estimators.estimator import Estimator
from scratchvae.estimators.integrand import Integrand

__all__ = ["Antithetic"]


class Antithetic:
    """Another estimator at pairs of samples, mean + σ noise and mean − σ noise: unbiased as it is. (13.1)

    Samples 2 p and 2 p + 1 are a pair. The first has the noise that was given, the second its negative instead
    of its own, so that S samples still cost S evaluations. The mean over a pair is free of all that is odd in
    the noise and twice as loud in what is even, compared with two samples that know nothing of each other
    (13.2): it may lose. Spread over samples is not what it seems; spread over means of pairs is.

    The other estimator sees pairs as a batch: what it compares, or remembers, it compares between pairs and
    never within one, where a baseline would not be independent of its sample (13.5).

    Parameters
    ----------
    estimator : Estimator
        Of E f: those of the importance-weighted bound, which weigh the samples of an estimate, take no pairs.
    """

    looks_elsewhere = True  # half of its samples are not those of the given noise

    def __init__(self, estimator: Estimator) -> None:
        if getattr(estimator, "objective", "elbo") != "elbo":
            raise ValueError(
                f"estimator is {estimator.name!r}, whose samples share one bound, expected an estimator of E f: leave "
                "the pairs out"
            )
        self.estimator = estimator
        self.name = f"antithetic-{estimator.name}"
        self.needs_gradient = estimator.needs_gradient
        self.minimum_samples = 2 * estimator.minimum_samples
        self.path_only = getattr(estimator, "path_only", False)

    def sample_gradients(
        self, integrand: Integrand, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-sample gradients of E f(z) with respect to mean and log_var, pair by pair. (13.1)

        Parameters
        ----------
        integrand : Integrand
            Is treated as by the other estimator, at S samples.
        mean, log_var : ndarray (B, L) or (L,)
        noise : ndarray (S, B, L) or (S, L), standard normal
            S is even; every second sample of it is not used.

        Returns
        -------
        dmean, dlog_var : ndarray, the shape of noise

        Raises
        ------
        ValueError
            If S is odd.
        """
        if len(noise) % 2:
            raise ValueError(
                f"num_samples is {len(noise)}, expected an even number: {self.name} takes samples in pairs"
            )
        pairs = np.stack([noise[::2], -noise[::2]], axis=1)  # (P, 2, B, L), P = S / 2
        gradients = self.estimator.sample_gradients(_Flattened(integrand), mean, log_var, pairs)
        dmean, dlog_var = (gradient.reshape(noise.shape) for gradient in gradients)
        return dmean, dlog_var


class _Flattened:
    """The integrand at pairs z (P, 2, ..., L), asked at samples (2 P, ..., L), which is all that it knows."""

    def __init__(self, integrand: Integrand) -> None:
        self._integrand = integrand
        self.features = getattr(integrand, "features", None)
        self.evaluations = self.differentiations = 0  # the integrand itself counts

    def value(self, z: np.ndarray) -> np.ndarray:
        return self._integrand.value(_flat(z)).reshape(z.shape[:-1])

    def value_and_gradient(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, gradient = self._integrand.value_and_gradient(_flat(z))
        return value.reshape(z.shape[:-1]), gradient.reshape(z.shape)

    def __getattr__(self, name: str) -> Any:
        """What else the integrand offers, a method of z (S, ..., L) with a result of that shape."""
        method = getattr(self._integrand, name)
        return lambda z: method(_flat(z)).reshape(z.shape)


def _flat(z: np.ndarray) -> np.ndarray:
    return z.reshape(-1, *z.shape[2:])
