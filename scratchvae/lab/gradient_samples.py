"""Per-sample gradients of E[f(z)] for any integrand f, by any estimator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scratchvae.estimators import Estimator, FunctionIntegrand, LogWeight, make_estimator
from scratchvae.randomness import standard_normal
from scratchvae.validation import check_array, check_integer

__all__ = ["gradient_samples"]


def gradient_samples(
    f: Callable[[np.ndarray], np.ndarray],
    mean: np.ndarray,
    log_var: np.ndarray,
    estimator: str | Estimator = "score-function",
    num_samples: int = 1000,
    rng: np.random.Generator | int | None = None,
    gradient: Callable[[np.ndarray], np.ndarray] | None = None,
    hessian_diagonal: Callable[[np.ndarray], np.ndarray] | None = None,
    **options: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Per-sample gradients of E[f(z)], z ~ N(mean, exp(log_var)), in float64.

    Their mean over S is the estimate; their spread is what an estimator is judged by. All S samples make
    up one group: leave-one-out compares each with the S − 1 others. (6.1) (7.1) The importance-weighted
    estimators take f for log p(x, z), and give what each sample adds to the gradient of
    E[log mean exp(f(z) − log q(z))] over all S, times S. (22.6)

    Parameters
    ----------
    f : callable
        The integrand: z (S, L) to values (S,).
    mean, log_var : array_like (L,)
        log_var is log σ².
    estimator : str or Estimator
        A name in `scratchvae.estimators.ESTIMATORS` or `FURTHER_ESTIMATORS`.
    num_samples : int
        S.
    rng : Generator, int or None
        Source of the noise.
    gradient : callable, optional
        ∇f: z (S, L) to (S, L); for estimators that differentiate f.
    hessian_diagonal : callable, optional
        ∂²f/∂z_i²: z (S, L) to (S, L); for expansions to second order.
    **options
        The estimator's own.

    Returns
    -------
    d_mean, d_log_var : ndarray (S, L)

    Raises
    ------
    ValueError, TypeError
        If a shape is wrong, a value is not finite, the estimator is unknown, needs a gradient that was not
        given or more samples than asked for.
    """
    mean = check_array("mean", mean, shape=("L",), dtype=np.float64)
    log_var = check_array("log_var", log_var, shape=mean.shape, dtype=np.float64)
    chosen = make_estimator(estimator, **options)
    num_samples = check_integer("num_samples", num_samples)
    if num_samples < chosen.minimum_samples:
        raise ValueError(
            f"num_samples is {num_samples}, expected at least {chosen.minimum_samples}: {chosen.name} compares samples "
            "with each other"
        )
    noise = standard_normal(rng, (num_samples, *mean.shape), np.float64)
    integrand: Any = FunctionIntegrand(f, gradient, hessian_diagonal)
    if getattr(chosen, "objective", "elbo") == "importance-weighted":
        integrand = LogWeight(integrand, mean, log_var)
    return chosen.sample_gradients(integrand, mean, log_var, noise)
