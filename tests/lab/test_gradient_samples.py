"""`gradient_samples` gives the published one-sample variances: the quadratic's table, and where pathwise loses.

What it refuses, and that its means are right, is in `tests/estimators/test_gradient_samples.py`.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from scratchvae.estimators import FunctionIntegrand, make_estimator
from scratchvae.lab.gradient_samples import gradient_samples
from tests.models.cases import assert_refused
from tests.oracles import estimators as oracle
from tests.oracles.quadrature import gauss_hermite, weighted_mean

# A variance that is so much too large or too small is seen, in the gradient with respect to the mean and to σ.
BIAS = 0.25


def assert_variances(rng, chance, f, slope, mean, deviation, estimator, published, rounding=1e-11, **options):
    """The variances (2,) of samples are those of quadrature, and these the published ones; None for any.

    With respect to σ, as it is published: dℓ/dσ = 2/σ.
    """
    log_var, nodes = 2 * math.log(deviation), gauss_hermite(120)
    chosen = make_estimator(estimator, **options)
    integrand = FunctionIntegrand(f, slope)
    gradients = chosen.sample_gradients(integrand, np.array([mean]), np.array([log_var]), nodes[0][:, None])
    exact = np.concatenate(gradients, axis=1)
    centre = weighted_mean(nodes[1], exact)
    variance, fourth = (weighted_mean(nodes[1], (exact - centre) ** power) for power in (2, 4))
    for found, expected in zip(variance * [1, 4 / deviation**2], published, strict=True):
        if expected is not None:
            assert found == pytest.approx(expected, rel=1e-11, abs=rounding)
    spread = np.maximum(fourth - variance**2, 1e-20)
    count = chance.draws_needed(spread, BIAS * variance)
    assert count < 3_000_000
    draws = np.concatenate(gradient_samples(f, [mean], [log_var], chosen, count, rng, slope), axis=1)
    chance.assert_unbiased((draws - centre) ** 2, variance, spread, BIAS * variance)


@pytest.mark.parametrize(
    ("mean", "deviation", "target"), [(1.0, 1.0, -3.0), (2.0, 1.0, 0.0), (0.3, 0.5, 0.9)]
)
@pytest.mark.parametrize("row", ["score-function", "mean baseline", "pathwise"])
def test_variances_of_the_quadratic_are_the_closed_forms(rng, chance, row, mean, deviation, target):
    known, table = oracle.quadratic(target), oracle.quadratic_variances(mean, deviation, target)
    published = [table[row, "mean"], table[row, "log_var"] * 4 / deviation**2]
    estimator, options = row, {}
    if row == "mean baseline":
        estimator, options = "score-function-constant", {"baseline": (mean - target) ** 2 + deviation**2}
    arguments = known.value, known.gradient, mean, deviation, estimator, published
    assert_variances(rng, chance, *arguments, **options)


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
def test_the_classic_toy(rng, chance, estimator, published):
    known = oracle.quadratic(0.0)
    assert_variances(rng, chance, known.value, known.gradient, 2.0, 1.0, estimator, [published, None])


def test_the_optimal_constant_baseline(rng, chance):
    # b* = a² + 3σ² for the mean and a² + 5σ² for log σ²: 134 at μ = σ = 1, k = −3.
    known = oracle.quadratic(-3.0)
    best = {"baseline_mean": 19.0, "baseline_log_var": 21.0}
    arguments = known.value, None, 1.0, 1.0, "score-function-optimal", [134, 40 * 16 + 24]
    assert_variances(rng, chance, *arguments, **best)


def bell(z):
    return np.exp(-(z**2).sum(axis=1))


def slope_of_bell(z):
    return -2 * z * bell(z)[:, None]


@pytest.mark.parametrize(
    ("estimator", "options", "published"),
    [
        ("score-function", {}, [0.1758, 0.1767]),
        ("pathwise", {}, [0.2117, None]),
        ("score-function-optimal", {"baseline_mean": 0.3218, "baseline_log_var": 0.1788}, [0.0722, None]),
        ("score-function-constant", {"baseline": 0.4137}, [None, 0.2232]),
    ],
    ids=["plain", "pathwise loses", "optimal baseline", "a mean baseline that hurts"],
)
def test_where_pathwise_loses_and_where_a_baseline_hurts(rng, chance, estimator, options, published):
    # The published numbers have four digits.
    assert_variances(rng, chance, bell, slope_of_bell, 1.0, 1.0, estimator, published, 6e-5, **options)


@pytest.mark.parametrize(("estimator", "published"), [("pathwise", 12.5), ("score-function", 0.50)])
def test_a_quick_wave_is_loud_for_pathwise(rng, chance, estimator, published):
    def wave(z):
        return np.cos(5 * z[:, 0])

    def slope(z):
        return -5 * np.sin(5 * z)

    assert_variances(rng, chance, wave, slope, 1.0, 1.0, estimator, [published, None], 0.006)


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
