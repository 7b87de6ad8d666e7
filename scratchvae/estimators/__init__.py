"""Estimators of ∇E[f(z)] behind one signature, by name.

Given a distribution's parameters, noise and an integrand, an estimator returns per-sample gradients with
respect to the parameters: their mean over samples is the estimate, their spread is its variance. Nothing
here knows what a VAE is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from scratchvae.estimators.antithetic import Antithetic
from scratchvae.estimators.baselines import Constant, OptimalBaseline, OptimalLeaveOneOut
from scratchvae.estimators.doubly_reparameterized import DoublyReparameterized, ImportanceWeighted
from scratchvae.estimators.estimator import Estimator
from scratchvae.estimators.integrand import FunctionIntegrand, Integrand
from scratchvae.estimators.learned_baseline import LearnedBaseline
from scratchvae.estimators.log_weight import LogWeight
from scratchvae.estimators.measure_valued import MeasureValued
from scratchvae.estimators.pathwise import Pathwise
from scratchvae.estimators.score_function import RunningMean, ScoreFunction, leave_one_out, no_baseline
from scratchvae.estimators.sticking_the_landing import StickingTheLanding
from scratchvae.estimators.taylor import Taylor
from scratchvae.estimators.vimco import VIMCO
from scratchvae.validation import check_choice

__all__ = [
    "ESTIMATORS",
    "FURTHER_ESTIMATORS",
    "Estimator",
    "FunctionIntegrand",
    "Integrand",
    "LogWeight",
    "make_estimator",
]

# The four that every comparison begins with: one evaluation of f at each sample and nowhere else.
ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "pathwise": Pathwise,
    "score-function": lambda: ScoreFunction("score-function", no_baseline),
    "score-function-running-mean": lambda decay=0.95: ScoreFunction(
        "score-function-running-mean", RunningMean(decay)
    ),
    "score-function-leave-one-out": lambda: ScoreFunction("score-function-leave-one-out", leave_one_out, 2),
}

# Those that look elsewhere too, want more from the integrand, or from their caller.
FURTHER_ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "sticking-the-landing": StickingTheLanding,
    "score-function-constant": lambda baseline: ScoreFunction("score-function-constant", Constant(baseline)),
    "score-function-optimal": OptimalBaseline,
    "score-function-optimal-leave-one-out": OptimalLeaveOneOut,
    "score-function-learned-baseline": LearnedBaseline,
    "measure-valued": lambda: MeasureValued(coupled=True),
    "measure-valued-uncoupled": lambda: MeasureValued(coupled=False),
    "antithetic-pathwise": lambda: Antithetic(Pathwise()),
    "antithetic-score-function": lambda: Antithetic(make_estimator("score-function")),
    "antithetic-score-function-leave-one-out": lambda: Antithetic(
        make_estimator("score-function-leave-one-out")
    ),
    "antithetic-measure-valued": lambda: Antithetic(MeasureValued()),
    "taylor-pathwise": lambda order=2: Taylor(Pathwise(), order),
    "taylor-score-function": lambda order=2: Taylor(make_estimator("score-function"), order),
    "taylor-score-function-leave-one-out": lambda order=2: Taylor(
        make_estimator("score-function-leave-one-out"), order
    ),
    "importance-weighted-pathwise": ImportanceWeighted,
    "importance-weighted-doubly-reparameterized": DoublyReparameterized,
    "importance-weighted-vimco": VIMCO,
}


def make_estimator(estimator: str | Estimator, **options: Any) -> Estimator:
    """A fresh estimator by name, or the given one as it is (a running mean keeps what it has learned).

    Parameters
    ----------
    estimator : str or Estimator
        A key of `ESTIMATORS` or `FURTHER_ESTIMATORS`; an unknown name raises a ValueError that lists them.
    **options
        The named estimator's own, such as decay= of the running mean.

    Returns
    -------
    Estimator
    """
    known_names = ESTIMATORS | FURTHER_ESTIMATORS
    if not isinstance(estimator, str):
        if isinstance(estimator, type) or not callable(getattr(estimator, "sample_gradients", None)):
            raise TypeError(f"estimator is {estimator!r}, expected one of: {', '.join(known_names)}")
        if options:
            raise TypeError(
                f"the options {sorted(options)} came with an estimator that is already made, expected them with a name"
            )
        return estimator
    factory = known_names[check_choice("estimator", estimator, known_names)]
    known = inspect.signature(factory).parameters
    if unknown := sorted(options.keys() - known.keys()):
        raise TypeError(
            f"estimator {estimator!r} does not take the options {unknown}, expected: {', '.join(known) or 'none'}"
        )
    needed = [name for name, parameter in known.items() if parameter.default is parameter.empty]
    if missing := [name for name in needed if name not in options]:
        raise TypeError(
            f"estimator {estimator!r} came without the options {missing}, expected: {', '.join(known)}"
        )
    return factory(**options)
