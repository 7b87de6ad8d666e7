"""`gradient_samples` gives the published one-sample variances: the quadratic's table, and where pathwise loses.

What it refuses, and that its means are right, is in `tests/estimators/test_gradient_samples.py`.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from scratchvae.estimators.score_function import ScoreFunction
from scratchvae.lab.gradient_samples import gradient_samples
from tests.models.cases import assert_refused
from tests.oracles import estimators as oracle

DRAWS = 1_200_000
# Standard errors of a sample variance, from the samples' own fourth moment. Of the comparisons below each fails by
# chance about once in 10⁹ runs, and lets a variance that is BIAS off pass no more often.
ALLOWED = 6
BIAS = 0.25

LEAVE_ONE_OUT = "score-function-leave-one-out"  # all draws in one group: as good as the mean baseline


def assert_variance(samples, expected, rounding=0.0):
    """The variance of samples (N, 1) is the expected one, known to `rounding`."""
    samples = samples[:, 0] - samples[:, 0].mean()
    variance = (samples**2).mean()
    error = math.sqrt(((samples**4).mean() - variance**2) / len(samples))
    assert error < BIAS * expected / (2 * ALLOWED), "so many samples could not tell"
    assert abs(variance - expected) <= ALLOWED * error + rounding


def with_respect_to(quantity, f, slope, mean, deviation, estimator, rng):
    """Samples (N, 1) of the gradient with respect to the mean or to σ, as it is published: dℓ/dσ = 2/σ."""
    dmean, dlog_var = gradient_samples(
        f, [mean], [2 * math.log(deviation)], estimator, DRAWS, rng, gradient=slope
    )
    return dmean if quantity == "mean" else dlog_var * 2 / deviation


@pytest.mark.parametrize(
    ("mean", "deviation", "target"), [(1.0, 1.0, -3.0), (2.0, 1.0, 0.0), (0.3, 0.5, 0.9)]
)
@pytest.mark.parametrize("quantity", ["mean", "deviation"])
@pytest.mark.parametrize(
    ("row", "estimator"),
    [("score-function", "score-function"), ("mean baseline", LEAVE_ONE_OUT), ("pathwise", "pathwise")],
)
def test_variances_of_the_quadratic_are_the_closed_forms(
    rng, row, estimator, quantity, mean, deviation, target
):
    known = oracle.quadratic(target)
    samples = with_respect_to(quantity, known.value, known.gradient, mean, deviation, estimator, rng)
    parameter = "mean" if quantity == "mean" else "log_var"
    closed = oracle.quadratic_variances(mean, deviation, target)[row, parameter]
    assert_variance(samples, closed * (1 if quantity == "mean" else 4 / deviation**2))


@pytest.mark.parametrize(("row", "quantity", "published"), [
    ("score-function", "mean", 495), ("mean baseline", "mean", 138), ("pathwise", "mean", 4),
    ("score-function", "deviation", 2 * 256 + 60 * 16 + 74), ("mean baseline", "deviation", 40 * 16 + 56),
    ("pathwise", "deviation", 72),
])  # fmt: skip
def test_closed_forms_are_the_published_numbers(row, quantity, published):
    parameter, factor = ("mean", 1) if quantity == "mean" else ("log_var", 4)
    assert factor * oracle.quadratic_variances(1.0, 1.0, -3.0)[row, parameter] == pytest.approx(
        published, rel=1e-12
    )


@pytest.mark.parametrize(("estimator", "published"), [("score-function", 87), ("pathwise", 4)])
def test_the_classic_toy(rng, estimator, published):
    known = oracle.quadratic(0.0)
    assert_variance(with_respect_to("mean", known.value, known.gradient, 2.0, 1.0, estimator, rng), published)


def test_the_optimal_constant_baseline(rng):
    # b* = a² + 3σ² for the mean and a² + 5σ² for log σ²: 134 at μ = σ = 1, k = −3.
    known = oracle.quadratic(-3.0)
    for quantity, baseline, published in (("mean", 19.0, 134), ("deviation", 21.0, 40 * 16 + 24)):
        estimator = ScoreFunction("optimal", lambda value, b=baseline: value - b)
        assert_variance(with_respect_to(quantity, known.value, None, 1.0, 1.0, estimator, rng), published)


def bell(z):
    return np.exp(-(z**2).sum(axis=1))


def slope_of_bell(z):
    return -2 * z * bell(z)[:, None]


@pytest.mark.parametrize(
    ("estimator", "quantity", "published"),
    [
        ("score-function", "mean", 0.1758),
        ("pathwise", "mean", 0.2117),
        (ScoreFunction("optimal", lambda value: value - 0.3443), "mean", 0.0722),
        ("score-function", "deviation", 0.1767),
        (LEAVE_ONE_OUT, "deviation", 0.2232),
    ],
    ids=["plain", "pathwise loses", "optimal baseline", "plain for σ", "a mean baseline that hurts"],
)
def test_where_pathwise_loses_and_where_a_baseline_hurts(rng, estimator, quantity, published):
    samples = with_respect_to(quantity, bell, slope_of_bell, 1.0, 1.0, estimator, rng)
    assert_variance(samples, published, rounding=6e-5)


@pytest.mark.parametrize(("estimator", "published"), [("pathwise", 12.5), ("score-function", 0.50)])
def test_a_quick_wave_is_loud_for_pathwise(rng, estimator, published):
    samples = with_respect_to(
        "mean", lambda z: np.cos(5 * z[:, 0]), lambda z: -5 * np.sin(5 * z), 1.0, 1.0, estimator, rng
    )
    assert_variance(samples, published, rounding=0.006)


# --- what the integrand answers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gradient", "error", "words"),
    [
        (lambda z: z[:, 0], ValueError, "the result of gradient has shape (4,), expected (4, 2)"),
        (lambda z: z * np.inf, ValueError, "the result of gradient has … inf"),
        (lambda z: "steep", TypeError, "the result of gradient has dtype"),
        (3.0, TypeError, "gradient is 3.0, expected a function of z"),
    ],
    ids=["shape", "infinite", "a word", "no function"],
)
def test_a_gradient_that_answers_wrongly_is_refused(gradient, error, words):
    def ask():
        with np.errstate(invalid="ignore"):
            gradient_samples(lambda z: z[:, 0], [0.0, 0.0], [0.0, 0.0], "pathwise", 4, 0, gradient=gradient)

    assert_refused(error, words, ask)


def test_a_thousand_samples_by_default():
    for gradient in gradient_samples(lambda z: z[:, 0], [0.0], [0.0]):
        assert gradient.shape == (1000, 1)


def test_an_error_inside_the_integrand_is_the_integrand_s_own():
    def broken(z):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        gradient_samples(broken, [0.0], [0.0])
