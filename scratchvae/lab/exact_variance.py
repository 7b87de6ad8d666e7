"""Exact mean and variance of a gradient estimator in one dimension, without a random number.

The shipped estimators run with quadrature nodes for noise. Derived in `derivations/16-exact_variance.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from scratchvae.estimators import FunctionIntegrand, make_estimator
from scratchvae.estimators.measure_valued import MeasureValued
from scratchvae.validation import check_array, check_choice, check_number

__all__ = ["EXACT_ESTIMATORS", "Baselines", "ExactVariance", "exact_baselines", "exact_variance"]

# The score function with a mean or an optimal baseline has it from the same quadrature.
EXACT_ESTIMATORS = (
    "pathwise",
    "score-function",
    "score-function-mean",
    "score-function-optimal",
    "measure-valued",
    "measure-valued-uncoupled",
    "antithetic-pathwise",
    "antithetic-score-function",
    "taylor-pathwise",
    "taylor-score-function",
)

_REACH = 12.0  # standard deviations, beyond which a polynomial of degree eight has nothing left (16.2)
_POINTS = 16  # of Gauss and Legendre in each panel
_FEWEST_PANELS = 4  # over the reach, on either side
_FINE_PANELS = 64  # where there is no second look
_MOST_POINTS = 3_000_000
_TOLERANCE = 1e-9


class ExactVariance(NamedTuple):
    """Of one sample's gradients with respect to (mean, log_var), each (2,). (16.1)"""

    mean: np.ndarray
    variance: np.ndarray


class _Rule(NamedTuple):
    """Nodes (N,) and weights (N,) of a quadrature, the density among the weights."""

    nodes: np.ndarray
    weights: np.ndarray


# One of the two gradients at quadrature nodes, (N,), and the weights, (N,), for a number of panels.
_Samples = Callable[[int], tuple[np.ndarray, np.ndarray]]


def exact_variance(
    f: Callable[[np.ndarray], np.ndarray],
    mean: float,
    log_var: float,
    estimator: str = "pathwise",
    gradient: Callable[[np.ndarray], np.ndarray] | None = None,
    hessian_diagonal: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    breaks: Sequence[float] = (),
) -> ExactVariance:
    """Mean and variance of one sample of an estimator of ∇E[f(z)], z ~ N(mean, exp(log_var)), by quadrature.

    The panels are halved until neither changes by more than a billionth. Of estimators that take samples in
    pairs the variance is per sample, twice that of a pair's mean. (16.1) (16.3)

    Parameters
    ----------
    f : callable
        As for `gradient_samples`: z (S, 1) to values (S,). Must be finite twelve deviations from mean.
    mean, log_var : float
        log_var is log σ². With respect to σ the variance is 4 / σ² times that with respect to log_var (16.4).
    estimator : str
        One of `EXACT_ESTIMATORS`; `score-function-mean` and `score-function-optimal` are the score function
        with the exact E f, and with each component's best constant, for a baseline.
    gradient, hessian_diagonal : callable, optional
        z (S, 1) to (S, 1), for estimators that need them.
    breaks : sequence of float
        Values of z where f jumps or has a kink. The measure-valued estimators take none.

    Returns
    -------
    ExactVariance

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, f is not finite, or the integrals do not settle.
    """
    mean, log_var = check_number("mean", mean), check_number("log_var", log_var)
    check_choice("estimator", estimator, EXACT_ESTIMATORS)
    steps = _steps(breaks, mean, log_var)
    case = _Case(FunctionIntegrand(f, gradient, hessian_diagonal), np.array([mean]), np.array([log_var]))
    if estimator.startswith("measure-valued"):
        if len(steps):
            raise ValueError(
                f"breaks has {len(steps)} values, expected none: {estimator} takes f without jumps"
            )
        samples = _measure_valued(case, coupled=estimator == "measure-valued")
    else:
        samples = _of_noise(case, estimator, steps)
    per_sample = 2.0 if estimator.startswith("antithetic") else 1.0
    moments = [
        _settled(one, floor, estimator) for one, floor in zip(samples, _rounding(case, steps), strict=True)
    ]
    return ExactVariance(np.array([m for m, _ in moments]), per_sample * np.array([v for _, v in moments]))


class _Case(NamedTuple):
    integrand: FunctionIntegrand
    mean: np.ndarray  # (1,)
    log_var: np.ndarray  # (1,)


def _of_noise(case: _Case, estimator: str, steps: np.ndarray) -> tuple[_Samples, _Samples]:
    """Estimators that are functions of the noise alone."""

    def both(panels: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        rule = _normal(panels, steps)
        noise = rule.nodes[:, None]
        if estimator in ("score-function-mean", "score-function-optimal"):
            return _with_baseline(case, rule, optimal=estimator.endswith("optimal")), rule.weights
        if estimator.startswith("antithetic"):
            noise = np.repeat(noise, 2, axis=0)  # every second one is not used
        gradients = make_estimator(estimator).sample_gradients(case.integrand, case.mean, case.log_var, noise)
        dmean, dlog_var = (g.reshape(len(rule.nodes), -1).mean(axis=1) for g in gradients)
        return (dmean, dlog_var), rule.weights

    return _pick(both, 0), _pick(both, 1)


def _pick(
    both: Callable[[int], tuple[tuple[np.ndarray, np.ndarray], np.ndarray]], parameter: int
) -> _Samples:
    def one(panels: int) -> tuple[np.ndarray, np.ndarray]:
        gradients, weights = both(panels)
        return gradients[parameter], weights

    return one


def _with_baseline(case: _Case, rule: _Rule, *, optimal: bool) -> tuple[np.ndarray, np.ndarray]:
    """The score function's gradients with E f, or with E[f s²] / E[s²], taken off. (7.8) (7.11)"""
    noise = rule.nodes[:, None]
    value = case.integrand.value(case.mean + np.exp(0.5 * case.log_var) * noise)
    baselines = _baselines(rule, value)
    if optimal:
        estimator = make_estimator(
            "score-function-optimal", baseline_mean=baselines.for_mean, baseline_log_var=baselines.for_log_var
        )
    else:
        estimator = make_estimator("score-function-constant", baseline=baselines.average)
    dmean, dlog_var = estimator.sample_gradients(case.integrand, case.mean, case.log_var, noise)
    return dmean[:, 0], dlog_var[:, 0]


class Baselines(NamedTuple):
    """Constants to take off f."""

    average: float  # E f
    for_mean: float  # E[f s²] / E[s²] with the score for mean
    for_log_var: float  # and with that for log_var


def exact_baselines(
    f: Callable[[np.ndarray], np.ndarray], mean: float, log_var: float, *, breaks: Sequence[float] = ()
) -> Baselines:
    """The mean of f, and the variance-optimal constant for each parameter, by quadrature. (7.8)

    Parameters
    ----------
    f, mean, log_var, breaks
        As for `exact_variance`; f takes z (S, 1).

    Returns
    -------
    Baselines
    """
    mean, log_var = check_number("mean", mean), check_number("log_var", log_var)
    rule = _normal(_FINE_PANELS, _steps(breaks, mean, log_var))
    return _baselines(rule, FunctionIntegrand(f).value((mean + np.exp(0.5 * log_var) * rule.nodes)[:, None]))


def _steps(breaks: Sequence[float], mean: float, log_var: float) -> np.ndarray:
    """Where f breaks, in deviations from mean."""
    points = check_array("breaks", list(breaks), dtype=np.float64)
    return (points - mean) * np.exp(-0.5 * log_var)


def _baselines(rule: _Rule, value: np.ndarray) -> Baselines:
    by_mean, by_log_var = (rule.weights * s**2 for s in (rule.nodes, rule.nodes**2 - 1))
    return Baselines(
        float(rule.weights @ value),
        float(by_mean @ value / by_mean.sum()),
        float(by_log_var @ value / by_log_var.sum()),
    )


def _measure_valued(case: _Case, *, coupled: bool) -> tuple[_Samples, _Samples]:
    """In the variables in which f is looked at: a radius, or a radius and a cosine. (12.5) (12.6)"""
    estimator = MeasureValued(coupled)

    def run(noise: np.ndarray, extra: dict[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        normals = np.zeros((estimator.extra_normals, len(noise), 1))
        for which, values in extra.items():
            normals[which, :, 0] = values
        gradients = estimator.sample_gradients(
            case.integrand, case.mean, case.log_var, noise[:, None], normals
        )
        return gradients[0][:, 0], gradients[1][:, 0]

    def by_mean(panels: int) -> tuple[np.ndarray, np.ndarray]:
        up = _rayleigh(panels)
        if coupled:
            return run(np.zeros(len(up.nodes)), {0: up.nodes})[0], up.weights
        (one, other), weights = _product(up, up)
        return run(np.zeros(len(weights)), {0: one, 2: other})[0], weights

    def by_log_var(panels: int) -> tuple[np.ndarray, np.ndarray]:
        if coupled:
            (radius, cosine), weights = _product(_maxwell(panels), _uniform(panels))
            return run(radius * cosine, {0: radius * np.sqrt(1 - cosine**2)})[1], weights
        (inner, outer), weights = _product(_normal(panels), _double_maxwell(panels))
        return run(inner, {4: outer})[1], weights

    return by_mean, by_log_var


def _rounding(case: _Case, steps: np.ndarray) -> tuple[float, float]:
    """What of either gradient is surely rounding: 1e-12 of f's size, times the scores'."""
    deviation = np.exp(0.5 * case.log_var)
    rule = _normal(_FINE_PANELS, steps)
    size = float(
        np.sqrt(rule.weights @ case.integrand.value(case.mean + deviation * rule.nodes[:, None]) ** 2)
    )
    return 1e-12 * size / float(deviation[0]), 1e-12 * size


def _settled(samples: _Samples, floor: float, name: str) -> tuple[float, float]:
    """Mean and variance, by as many panels as it takes."""
    panels, before = _FEWEST_PANELS, None
    while True:
        gradient, weights = samples(panels)
        mean = float(weights @ gradient)
        now = np.array([mean, weights @ (gradient - mean) ** 2])
        square = float(weights @ gradient**2)
        # A variance of zero has no relative error: it is compared with the mean square, and with rounding.
        allowed = np.array(
            [
                max(_TOLERANCE * float(np.sqrt(square)), floor),
                max(_TOLERANCE * max(float(now[1]), 1e-6 * square), floor**2),
            ]
        )
        if before is not None and (np.abs(now - before) <= allowed).all():
            return float(now[0]), float(now[1])
        if len(weights) > _MOST_POINTS:
            raise ValueError(
                f"the integrals for {name} did not settle at {len(weights)} points, expected an f that is smooth "
                "between its breaks: pass breaks=, the values of z at which it jumps or has a kink"
            )
        panels, before = 2 * panels, now


# --- rules: nodes for the noise, and the density among the weights ----------------------------------------


def _panels(low: float, high: float, panels: int, breaks: np.ndarray | None = None) -> _Rule:
    edges = np.linspace(low, high, panels + 1)
    if breaks is not None:
        edges = np.unique([*edges, *breaks[(breaks > low) & (breaks < high)]])
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    half = np.diff(edges)[:, None] / 2
    return _Rule((edges[:-1, None] + half * (1 + nodes)).ravel(), (half * weights).ravel())


def _weighted(rule: _Rule, density: Callable[[np.ndarray], np.ndarray]) -> _Rule:
    return _Rule(rule.nodes, rule.weights * density(rule.nodes))


def _normal(panels: int, breaks: np.ndarray | None = None) -> _Rule:
    rule = _panels(-_REACH, _REACH, 2 * panels, breaks)
    return _weighted(rule, lambda x: np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi))


def _rayleigh(panels: int) -> _Rule:
    return _weighted(_panels(0, _REACH, panels), lambda w: w * np.exp(-0.5 * w**2))


def _maxwell(panels: int) -> _Rule:
    return _weighted(_panels(0, _REACH, panels), lambda r: np.sqrt(2 / np.pi) * r**2 * np.exp(-0.5 * r**2))


def _double_maxwell(panels: int) -> _Rule:
    rule = _normal(panels)
    return _Rule(rule.nodes, rule.weights * rule.nodes**2)


def _uniform(panels: int) -> _Rule:
    """On (−1, 1), with an edge at zero, where the outer point changes sides."""
    return _weighted(_panels(-1, 1, max(2, panels // 2)), lambda u: np.full(u.shape, 0.5))


def _product(one: _Rule, other: _Rule) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    first, second = np.meshgrid(one.nodes, other.nodes, indexing="ij")
    return (first.ravel(), second.ravel()), np.multiply.outer(one.weights, other.weights).ravel()
