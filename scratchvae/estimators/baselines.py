"""Constant baselines of the score function: given, or the best one of each component.

Derived in `derivations/17-baselines.md`.
"""

from __future__ import annotations

import numpy as np

from scratchvae.densities.gaussian import gaussian_sample_forward, gaussian_score
from scratchvae.estimators.integrand import Integrand
from scratchvae.validation import check_array, check_number

__all__ = ["Constant", "OptimalBaseline", "OptimalLeaveOneOut"]


class Constant:
    """Values minus one given number, such as the exact E f: for `ScoreFunction`. (7.3) (7.11)

    E f is not the best constant, and can be worse than none. (7.13)

    Parameters
    ----------
    baseline : float
    """

    def __init__(self, baseline: float) -> None:
        self.baseline = check_number("baseline", baseline)

    def __call__(self, value: np.ndarray) -> np.ndarray:
        """Subtract the baseline from values (S, ...)."""
        return value - self.baseline


class OptimalBaseline:
    """The score function with a given constant for each component, at best E[f s²] / E[s²]. (7.8) (7.12)

    Parameters
    ----------
    baseline_mean, baseline_log_var : array_like (B, L), (L,) or ()
        What is subtracted from f in the gradient with respect to each entry of mean and of log_var.
    """

    name = "score-function-optimal"
    needs_gradient = False
    minimum_samples = 1

    def __init__(self, baseline_mean: np.ndarray | float, baseline_log_var: np.ndarray | float) -> None:
        self.baseline_mean = check_array("baseline_mean", baseline_mean, dtype=np.float64)
        self.baseline_log_var = check_array("baseline_log_var", baseline_log_var, dtype=np.float64)

    def sample_gradients(
        self, integrand: Integrand, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-sample gradients of E f(z) with respect to mean and log_var. (7.3)

        Parameters
        ----------
        integrand : Integrand
            Is evaluated at the S samples, never differentiated.
        mean, log_var : ndarray (B, L) or (L,)
        noise : ndarray (S, B, L) or (S, L), standard normal

        Returns
        -------
        dmean, dlog_var : ndarray, the shape of noise

        Raises
        ------
        ValueError
            If a baseline's shape does not go with that of mean.
        """
        for name, baseline in (
            ("baseline_mean", self.baseline_mean),
            ("baseline_log_var", self.baseline_log_var),
        ):
            shape = mean.shape[mean.ndim - baseline.ndim :] if baseline.ndim <= mean.ndim else mean.shape
            check_array(name, baseline, shape=shape)
        z, _ = gaussian_sample_forward(mean, log_var, noise)
        value = integrand.value(z)[..., None]
        score_mean, score_log_var = gaussian_score(noise, log_var)
        return (
            _times(value - self.baseline_mean, score_mean),
            _times(value - self.baseline_log_var, score_log_var),
        )


class OptimalLeaveOneOut:
    """The score function with each component's best constant, estimated from the other samples. (17.1)

    The other S − 1 samples of the same example know nothing of this one, so the gradient is unbiased (17.2);
    with two samples it is that of leave-one-out (17.4).
    """

    name = "score-function-optimal-leave-one-out"
    needs_gradient = False
    minimum_samples = 2

    def sample_gradients(
        self, integrand: Integrand, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-sample gradients of E f(z) with respect to mean and log_var. (17.2)

        Parameters
        ----------
        integrand : Integrand
            Is evaluated at the S samples, never differentiated.
        mean, log_var : ndarray (B, L) or (L,)
        noise : ndarray (S, B, L) or (S, L), standard normal; S is at least two

        Returns
        -------
        dmean, dlog_var : ndarray, the shape of noise
        """
        z, _ = gaussian_sample_forward(mean, log_var, noise)
        value = integrand.value(z)[..., None]
        score_mean, score_log_var = gaussian_score(noise, log_var)
        return (
            _times(value - _baseline_of_others(value, score_mean), score_mean),
            _times(value - _baseline_of_others(value, score_log_var), score_log_var),
        )


def _times(centred: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Centred in float64, like the values; rounded to the score's precision only then."""
    return centred.astype(score.dtype) * score


def _baseline_of_others(value: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Σ f s² / Σ s² over the other samples: value (S, ..., 1) and score (S, ..., L) to (S, ..., L). (17.1)"""
    weight = score.astype(np.float64) ** 2
    weights = _sum_of_others(weight)
    # If the score of all others is exactly zero they say nothing: then any baseline will do, and zero is taken.
    return np.divide(_sum_of_others(weight * value), weights, out=np.zeros_like(weight), where=weights > 0)


def _sum_of_others(terms: np.ndarray) -> np.ndarray:
    """For each entry of the first axis (S, ...), the sum of all others; never a difference of large sums."""
    total = np.zeros(terms.shape)
    total[1:] += np.cumsum(terms[:-1], axis=0)
    total[:-1] += np.cumsum(terms[:0:-1], axis=0)[::-1]
    return total
