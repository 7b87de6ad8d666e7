"""Estimators of ∇E[f(z)] behind one signature, by name.

Given a distribution's parameters, noise and an integrand, an estimator returns per-sample gradients with
respect to the parameters: their mean over samples is the estimate, their spread is its variance. Nothing
here knows what a VAE is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from scratchvae.estimators.integrand import FunctionIntegrand, Integrand
from scratchvae.estimators.pathwise import Pathwise
from scratchvae.estimators.score_function import RunningMean, ScoreFunction, leave_one_out, no_baseline
from scratchvae.validation import check_choice

__all__ = ["ESTIMATORS", "Estimator", "FunctionIntegrand", "Integrand", "make_estimator"]


class Estimator(Protocol):
    """What every estimator offers."""

    name: str
    needs_gradient: bool  # does it differentiate the integrand?
    minimum_samples: int  # the fewest samples of one example that it can work with

    def sample_gradients(
        self, integrand: Integrand, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-sample gradients with respect to mean and log_var, each the shape of noise (S, ..., L)."""


ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "pathwise": Pathwise,
    "score-function": lambda: ScoreFunction("score-function", no_baseline),
    "score-function-running-mean": lambda decay=0.95: ScoreFunction(
        "score-function-running-mean", RunningMean(decay)
    ),
    "score-function-leave-one-out": lambda: ScoreFunction("score-function-leave-one-out", leave_one_out, 2),
}


def make_estimator(estimator: str | Estimator, **options: Any) -> Estimator:
    """A fresh estimator by name, or the given one as it is (a running mean keeps what it has learned).

    Parameters
    ----------
    estimator : str or Estimator
        A key of `ESTIMATORS`; an unknown name raises a ValueError that lists them.
    **options
        The named estimator's own, such as decay= of the running mean.

    Returns
    -------
    Estimator
    """
    if not isinstance(estimator, str):
        if isinstance(estimator, type) or not callable(getattr(estimator, "sample_gradients", None)):
            raise TypeError(f"estimator is {estimator!r}, expected one of: {', '.join(ESTIMATORS)}")
        if options:
            raise TypeError(
                f"the options {sorted(options)} came with an estimator that is already made, expected them with a name"
            )
        return estimator
    factory = ESTIMATORS[check_choice("estimator", estimator, ESTIMATORS)]
    known = inspect.signature(factory).parameters
    if unknown := sorted(options.keys() - known.keys()):
        raise TypeError(
            f"estimator {estimator!r} does not take the options {unknown}, expected: {', '.join(known) or 'none'}"
        )
    return factory(**options)
