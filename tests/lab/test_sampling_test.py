"""The test of unbiasedness: its rates are those that it states, by enumeration; then what it says and refuses."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import sympy

from scratchvae.lab import sampling_test as module
from scratchvae.lab.gradient_samples import gradient_samples
from scratchvae.lab.sampling_test import check_unbiased, draws_needed
from tests.models.cases import assert_refused
from tests.oracles.complex_step import unchanged
from tests.oracles.quadrature import precise_expectation

X, BETA, RATE = sympy.symbols("x beta alpha", positive=True)

# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("20.2")
def test_the_influence_lies_between_its_bounds():
    product = (1 + X + X**2 / 2) * (1 - X + X**2 / 2)
    assert sympy.expand(product) == 1 + X**4 / 4
    x = np.concatenate([-np.logspace(3, -9, 500), [0.0], np.logspace(-9, 3, 500)])
    found = module._influence(x)
    with mpmath.workdps(40):
        for value, one in zip(found.tolist(), x.tolist(), strict=True):
            below = -mpmath.log(1 - mpmath.mpf(one) + mpmath.mpf(one) ** 2 / 2)
            above = mpmath.log(1 + mpmath.mpf(one) + mpmath.mpf(one) ** 2 / 2)
            assert (
                below * (1 - mpmath.sign(below) * 1e-15) <= value <= above * (1 + mpmath.sign(above) * 1e-15)
            )
            assert abs(value - (above if one >= 0 else below)) <= 1e-15 * abs(value)
    np.testing.assert_array_equal(module._influence(-x), -found)


# Three laws with mean 0 and variance 1: light tails, a skewed one, and one whose fourth moment does not exist.
LAWS = {
    "normal": (scipy.stats.norm.pdf, (-math.inf, math.inf)),
    "exponential": (lambda u: math.exp(-(u + 1)), (-1, math.inf)),
    "t with 3 degrees": (scipy.stats.t(3, scale=1 / math.sqrt(3)).pdf, (-math.inf, math.inf)),
}


@pytest.mark.equation("20.4", "20.5")
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.7])
def test_exponential_moments_that_both_rates_rest_on(law, rate):
    density, ends = LAWS[law]

    def moment(sign, shift):
        def integrand(u):
            return float(np.exp(sign * module._influence(np.array(rate * (u + shift))))) * density(u)

        return scipy.integrate.quad(integrand, *ends, limit=500, epsabs=1e-12)[0]

    for sign in (-1, 1):
        assert moment(sign, 0.0) <= math.exp(rate**2 / 2) * (1 + 1e-9)
    for size in (0.05, 0.5, 2.0):
        bound = math.exp(-rate * size + rate**2 * (1 + size**2) / 2)
        assert moment(-1, size) <= bound * (1 + 1e-9)
        assert moment(1, -size) <= bound * (1 + 1e-9)


@pytest.mark.equation("20.6", "20.7", "20.8")
def test_the_best_rate_the_draws_it_takes_and_the_bias_they_see():
    exponent = RATE * BETA - RATE**2 - RATE**2 * BETA**2 / 2
    (best,) = sympy.solve(sympy.diff(exponent, RATE), RATE)
    assert sympy.simplify(best - BETA / (2 + BETA**2)) == 0
    assert sympy.simplify(exponent.subs(RATE, best) - BETA**2 / (2 * (2 + BETA**2))) == 0
    nats, n = sympy.symbols("L n", positive=True)
    needed = sympy.solve(n * exponent.subs(RATE, best) - nats, n)
    assert sympy.simplify(needed[0] - nats * (4 / BETA**2 + 2)) == 0
    size = 2 * sympy.sqrt(nats / (n - 2 * nats))
    assert sympy.simplify(needed[0].subs(BETA, size) - n) == 0
    # and in code
    for variance, bias in ((3.0, 0.1), (0.01, 0.2)):
        total = math.log(2 / 1e-4) + math.log(1 / 1e-3)
        count = draws_needed([variance], [bias], false_failure=1e-4, miss=1e-3)
        assert count == math.floor(total * (4 * variance / bias**2 + 2)) + 1
        for draws, sees in ((count, True), (count - 1, False)):
            report = check_unbiased(np.zeros((draws, 1)), [0.0], [variance], false_failure=1e-4, miss=1e-3)
            assert (report.detectable_bias[0] <= bias) == sees


@pytest.mark.equation("20.9")
def test_what_certainty_costs():
    rate, coordinates = 2.5e-9, 4
    with mpmath.workdps(30):

        def quantile(tail):
            return mpmath.findroot(lambda z: mpmath.log(mpmath.erfc(z / mpmath.sqrt(2)) / 2 / tail), 6)

        total = mpmath.log(2 * coordinates / rate) + mpmath.log(1 / rate)
        normal = quantile(rate / 2 / coordinates) + quantile(rate)
        assert 1.15 < 4 * total / normal**2 < 1.2


# --- the rates, exactly -----------------------------------------------------------------------------------


def chance_to_fail(n, chance_of_up, bias, **rates):
    """Exact: of n draws of a two-point law with variance 1 about its mean, which is `bias` instead of 0."""
    up = math.sqrt((1 - chance_of_up) / chance_of_up) + bias
    down = -math.sqrt(chance_of_up / (1 - chance_of_up)) + bias
    total = 0.0
    for ups, probability in enumerate(scipy.stats.binom(n, chance_of_up).pmf(np.arange(n + 1))):
        draws = np.r_[np.full(ups, up), np.full(n - ups, down)][:, None]
        total += probability * (not check_unbiased(draws, [0.0], [1.0], **rates).passed)
    return total


@pytest.mark.equation("20.4", "20.5")
@pytest.mark.parametrize("chance_of_up", [0.5, 0.1, 0.01])
def test_rates_hold_for_draws_of_two_values_by_enumeration(chance_of_up):
    rates = {"false_failure": 0.05, "miss": 0.1}
    n = 400
    found = chance_to_fail(n, chance_of_up, 0.0, **rates)
    assert 1e-5 < found <= 0.05, "the rate holds, and is no idle one"
    size = check_unbiased(np.zeros((n, 1)), [0.0], [1.0], **rates).detectable_bias[0]
    for bias in (-size, size):
        assert chance_to_fail(n, chance_of_up, bias, **rates) >= 0.9
    # Half of that bias is missed too often, or the test would claim less than it can.
    assert min(chance_to_fail(n, chance_of_up, sign * size / 2, **rates) for sign in (-1, 1)) < 0.9


def test_the_normal_threshold_would_not_hold_where_this_one_does():
    # Rare large values, n = 400 with one in two hundred: 4 deviations of the normal mean happen 40 times too often.
    n, p = 400, 0.005
    ups = np.arange(n + 1)
    deviations = (ups - n * p) / math.sqrt(n * p * (1 - p))
    probabilities = scipy.stats.binom(n, p).pmf(ups)
    tail = 2 * scipy.stats.norm.sf(4)
    assert probabilities[np.abs(deviations) > 4].sum() > 10 * tail
    assert chance_to_fail(n, p, 0.0, false_failure=tail, miss=0.1) <= tail


def test_rate_is_shared_by_the_coordinates():
    # A draw's evidence that fails one coordinate alone does not fail it among a thousand.
    def report(coordinates):
        draws = np.zeros((2000, coordinates))
        draws[:, 0] = np.resize([1.0, -1.0], 2000) + 0.13
        return check_unbiased(
            draws, np.zeros(coordinates), np.ones(coordinates), false_failure=1e-4, miss=0.1
        )

    assert not report(1).passed
    assert report(1000).passed
    bound = 2 * math.exp(-report(1).evidence[0])
    assert report(1).p_value == pytest.approx(bound, rel=1e-12)
    wide = report(1000)
    assert wide.p_value == pytest.approx(2000 * math.exp(-wide.evidence[0]), rel=1e-12)


# --- what it sees -----------------------------------------------------------------------------------------


def test_biases_of_opposite_sign_do_not_cancel(rng):
    draws = rng.standard_normal((20_000, 2, 3))
    draws[:, 0, 1] += 0.2
    draws[:, 1, 2] -= 0.2
    report = check_unbiased(draws, np.zeros((2, 3)), np.ones((2, 3)))
    assert abs(draws.mean()) < 0.02
    assert np.argwhere(report.biased).tolist() == [[0, 1], [1, 2]]
    assert report.worst_index in {(0, 1), (1, 2)}


def test_a_heavy_tailed_estimator_and_its_planted_bias(rng, chance):
    # exp(1.5 z) times a score: the tails are far from a Gaussian's, and the variance is known.
    slope, bias = 1.5, 0.2
    exact = slope * math.exp(slope**2 / 2)
    variance = float(precise_expectation(lambda z: (mpmath.exp(slope * z) * z) ** 2)) - exact**2
    count = chance.draws_needed([variance], [bias * exact])
    draws, _ = gradient_samples(lambda z: np.exp(slope * z[:, 0]), [0.0], [0.0], "score-function", count, rng)
    assert scipy.stats.kurtosis(draws[:, 0]) > 100
    chance.assert_unbiased(draws, [exact], [variance], bias=bias * exact)


def test_a_draw_may_be_one_number(rng):
    draws = rng.standard_normal(5000)
    for variance in (1.0, None):
        report = check_unbiased(draws, 0.5, variance)
        same = check_unbiased(draws[:, None], [0.5], None if variance is None else [variance])
        assert report.evidence.shape == report.mean.shape == report.detectable_bias.shape == ()
        assert report.evidence == pytest.approx(same.evidence[0], rel=1e-12)
        assert report.worst_index == ()
        assert str(report).startswith("biased: at () the mean")


def test_scale_and_place_do_not_matter(rng):
    draws = rng.standard_normal((5000, 2)) + 0.02
    one = check_unbiased(draws, [0.0, 0.0], [1.0, 1.0])
    other = check_unbiased(1e-3 * draws + 7, [7.0, 7.0], [1e-6, 1e-6])
    np.testing.assert_allclose(other.evidence, one.evidence, rtol=1e-9)
    np.testing.assert_allclose(other.detectable_bias, 1e-3 * one.detectable_bias, rtol=1e-12)
    np.testing.assert_allclose(one.mean, draws.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("count", [2**15 - 1, 2**15, 2**15 + 1, 3 * 2**15 + 5])
def test_every_draw_counts_once_however_many_there_are(rng, count):
    draws = rng.standard_normal((count, 1)) ** 3
    report = check_unbiased(draws, [0.1], [15.0])
    size = report.detectable_bias[0] / math.sqrt(15)
    rate = size / (2 + size**2)
    total = module._influence(rate * (draws[:, 0] - 0.1) / math.sqrt(15)).sum()
    assert report.evidence[0] == pytest.approx(abs(total) - count * rate**2 / 2, rel=1e-10)


def test_without_a_variance_it_is_estimated_and_the_report_says_so(rng):
    draws = 3 * rng.standard_normal((10_000, 1)) + 5
    given, estimated = check_unbiased(draws, [5.0], [9.0]), check_unbiased(draws, [5.0])
    assert given.variance_given
    assert not estimated.variance_given
    assert estimated.detectable_bias == pytest.approx(given.detectable_bias, rel=0.1)
    assert "if the variance is what these draws make of it" in str(estimated)
    assert "if the variance" not in str(given)
    assert not check_unbiased(draws, [5.5]).passed
    exact = check_unbiased(np.full((100, 2), 1.5), [1.5, 1.5])
    assert exact.passed
    assert not check_unbiased(np.full((100, 2), 1.5), [1.5, 1.4]).passed


def test_a_draw_that_is_far_out_neither_overflows_nor_decides():
    draws = np.zeros((5000, 1))
    draws[17] = 1e300
    report = check_unbiased(draws, [0.0], [1e-3])
    assert np.isfinite(report.evidence).all()
    assert not check_unbiased(np.full((5000, 1), 1e300), [0.0], [1e-3]).passed


def test_the_report_reads_as_a_sentence():
    draws = np.stack([np.resize([1.0, -1.0], 2000), np.resize([2.0, 0.0], 2000)], axis=1)
    text = str(check_unbiased(draws, [0.0, 0.0], [1.0, 1.0]))
    assert text.startswith("biased: at (1,) the mean of 2,000 draws is 1, expected 0 (p ≤ ")
    assert "is missed with a probability of at most 1e-06" in text
    assert str(check_unbiased(draws, [0.0, 1.0], [1.0, 1.0])).startswith("no bias seen: at (")


def test_arguments_are_left_alone_and_single_precision_is_read_in_double(rng):
    draws, expected, variance = rng.standard_normal((500, 2)), np.zeros(2), np.ones(2)
    with unchanged(draws, expected, variance):
        check_unbiased(draws, expected, variance)
        draws_needed(variance, np.ones(2))
    single = draws.astype(np.float32)
    report = check_unbiased(single, expected, variance)
    np.testing.assert_array_equal(
        report.evidence, check_unbiased(single.astype(float), expected, variance).evidence
    )


# --- at the door ------------------------------------------------------------------------------------------

GOOD = {"draws": np.zeros((500, 2)), "expected": np.zeros(2), "variance": np.ones(2)}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"draws": np.zeros((50, 2))}, ValueError, "draws has 50 rows, expected more than … draws_needed"),
        ({"draws": 1.0}, ValueError, "draws has shape (), expected (N,)"),
        ({"draws": np.full((500, 2), np.nan)}, ValueError, "draws has the value nan at index (0, 0)"),
        ({"draws": "many"}, TypeError, "draws has dtype"),
        ({"expected": 0.0}, ValueError, "expected has shape (), expected (2,)"),
        ({"variance": [1.0]}, ValueError, "variance has shape (1,), expected (2,)"),
        ({"variance": [1.0, 0.0]}, ValueError, "variance has the value 0, expected values in"),
        ({"variance": [1.0, -1.0]}, ValueError, "variance has the value -1"),
        ({"false_failure": 0}, ValueError, "false_failure is 0, expected a finite number greater than 0"),
        ({"miss": 1.5}, ValueError, "miss is 1.5, expected … at most 1"),
        ({"miss": "rarely"}, TypeError, "miss is 'rarely', expected a number"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(changes, error, words):
    assert_refused(error, words, lambda: check_unbiased(**(GOOD | changes)))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([0.0], [1.0]), ValueError, "variance has the value 0"),
        (([1.0], [0.0]), ValueError, "bias has the value 0"),
        (([1.0, 1.0], [1.0]), ValueError, "bias has shape (1,), expected (2,)"),
        ((["a"], [1.0]), TypeError, "variance has dtype"),
        (([1.0], ["a"]), TypeError, "bias has dtype"),
    ],
)
def test_bad_arguments_of_draws_needed_are_refused_in_one_sentence(arguments, error, words):
    assert_refused(error, words, lambda: draws_needed(*arguments))
