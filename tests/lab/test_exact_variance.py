"""Exact means and variances in one dimension: the published closed forms, by quadrature through the shipped code."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import sympy

from scratchvae.estimators import FunctionIntegrand, make_estimator
from scratchvae.lab import exact_variance as module
from scratchvae.lab.exact_variance import EXACT_ESTIMATORS, exact_baselines, exact_variance
from scratchvae.lab.gradient_samples import gradient_samples
from tests.oracles import estimators as oracle
from tests.oracles.complex_step import complex_step_vjp
from tests.oracles.quadrature import gauss_hermite, precise_expectation

SETTINGS = [(1.0, 1.0, -3.0), (0.3, 0.2, 0.5), (-2.0, 1.7, 0.0)]
# The ten published closed forms, by the name under which the lab computes them exactly.
PUBLISHED = {
    "score-function": "score-function",
    "score-function-mean": "mean baseline",
    "score-function-optimal": "optimal baseline",
    "pathwise": "pathwise",
    "measure-valued": "measure-valued",
}


def run(known, mean, deviation, estimator, curvature=None, **options):
    return exact_variance(
        known.value, mean, 2 * math.log(deviation), estimator, known.gradient, curvature, **options
    )


def quadratic_curvature(z):
    return np.full(z.shape, 2.0)


# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("16.2")
def test_nothing_is_left_beyond_twelve_deviations():
    with mpmath.workdps(30):
        for power in range(9):
            tail = 2 * mpmath.quad(lambda x, p=power: x**p * mpmath.npdf(x), [12, 16, 24])
            assert tail < mpmath.mpf(10) ** -22


@pytest.mark.equation("16.3")
def test_a_pair_s_variance_per_sample():
    # Two even powers and two odd ones stand for any function; per sample means at an equal number of evaluations.
    noise = sympy.Symbol("epsilon", real=True)
    density = sympy.exp(-(noise**2) / 2) / sympy.sqrt(2 * sympy.pi)
    even, odd = sympy.symbols("e o", real=True)
    gradient = even * noise**2 + odd * noise**3

    def variance(expression):
        first, second = (
            sympy.integrate(sympy.expand(expression**p) * density, (noise, -sympy.oo, sympy.oo))
            for p in (1, 2)
        )
        return sympy.expand(second - first**2)

    pair = (gradient + gradient.subs(noise, -noise)) / 2
    assert sympy.expand(2 * variance(pair) - 2 * variance(even * noise**2)) == 0


@pytest.mark.equation("16.4")
def test_from_log_var_to_deviation():
    deviation, slope = sympy.symbols("sigma g", positive=True)
    log_var = 2 * sympy.log(deviation)
    # A gradient with respect to σ is that with respect to ℓ times dℓ/dσ; so its variance is the square's times.
    assert sympy.simplify((slope * sympy.diff(log_var, deviation)) ** 2 - 4 / deviation**2 * slope**2) == 0


# --- the closed forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "deviation", "target"), SETTINGS)
@pytest.mark.parametrize("estimator", PUBLISHED)
def test_the_ten_published_closed_forms(estimator, mean, deviation, target):
    found = run(oracle.quadratic(target), mean, deviation, estimator)
    table = oracle.quadratic_variances(mean, deviation, target)
    claimed = [table[PUBLISHED[estimator], parameter] for parameter in ("mean", "log_var")]
    np.testing.assert_allclose(found.variance, claimed, rtol=1e-10)
    np.testing.assert_allclose(found.mean, [2 * (mean - target), deviation**2], rtol=1e-12)


def test_the_published_row_of_numbers():
    found = [run(oracle.quadratic(-3.0), 1.0, 1.0, name).variance[0] for name in PUBLISHED]
    assert found == pytest.approx([495, 138, 134, 4, 17.49], abs=5e-3)


def test_the_classic_toy():
    # N(θ, 1), f = z², θ = 2.
    known = oracle.quadratic(0.0)
    assert run(known, 2.0, 1.0, "score-function").variance[0] == pytest.approx(87, rel=1e-10)
    assert run(known, 2.0, 1.0, "pathwise").variance[0] == pytest.approx(4, rel=1e-10)


@pytest.mark.parametrize(("mean", "deviation", "target"), SETTINGS)
def test_closed_forms_of_the_other_notes(mean, deviation, target):
    a, v = mean - target, deviation**2
    claims = {
        "measure-valued-uncoupled": (a**2 * (8 / math.pi - 2) + 4 * v / math.pi, v * (4 * a**2 + 2 * v)),
        "antithetic-pathwise": (0, 4 * v**2),
        "antithetic-score-function": (16 * a**2, a**4 + 10 * a**2 * v + 37 * v**2),
        "taylor-pathwise": (0, 0),
        "taylor-score-function": (0, 0),
    }
    assert {*claims, *PUBLISHED} == set(EXACT_ESTIMATORS)
    for estimator, claimed in claims.items():
        found = run(oracle.quadratic(target), mean, deviation, estimator, quadratic_curvature)
        np.testing.assert_allclose(found.variance, claimed, rtol=1e-10, atol=1e-20)
        np.testing.assert_allclose(found.mean, [2 * a, v], rtol=1e-12)


@pytest.mark.parametrize(("mean", "deviation", "k"), [(1.0, 1.0, 1.0), (0.4, 0.7, 2.5), (-0.3, 2.0, 5.0)])
def test_cosines_and_bells(mean, deviation, k):
    wave = oracle.wave([k], 0.0)
    bell = oracle.Known(lambda z: np.exp(-k * z[:, 0] ** 2), lambda z: -2 * k * z * np.exp(-k * z**2), None)
    for known, claimed in (
        (wave, oracle.cosine_variances(mean, deviation, k)),
        (bell, oracle.bell_variances(mean, deviation, k)),
    ):
        found = [run(known, mean, deviation, name).variance[0] for name in ("pathwise", "score-function")]
        np.testing.assert_allclose(found, claimed, rtol=1e-9)


def test_the_published_figures_for_a_bell():
    # Mohamed et al. (2020): exp(−z²), z ~ N(1, 1): for μ, and for σ, which is 4/σ² times log σ².
    bell = oracle.Known(lambda z: np.exp(-(z[:, 0] ** 2)), lambda z: -2 * z * np.exp(-(z**2)), None)
    found = {name: run(bell, 1.0, 1.0, name).variance for name in PUBLISHED}
    for name, claimed in {
        "score-function": 0.1758,
        "score-function-optimal": 0.0722,
        "pathwise": 0.2117,
        "measure-valued": 0.0126,
    }.items():
        assert found[name][0] == pytest.approx(claimed, abs=5.1e-5)
    assert 4 * found["score-function"][1] == pytest.approx(0.1767, abs=5.1e-5)
    assert 4 * found["score-function-mean"][1] == pytest.approx(0.2232, abs=5.1e-5)


# --- the instrument ---------------------------------------------------------------------------------------


@pytest.mark.equation("16.1")
@pytest.mark.parametrize("estimator", EXACT_ESTIMATORS)
def test_means_are_the_gradients_of_the_exact_expectation(estimator):
    k = 1.7
    found = run(oracle.wave([k], 0.4), 0.3, 0.6, estimator, lambda z: -(k**2) * np.cos(k * z + 0.4))
    known = oracle.wave([k], 0.4)
    exact = complex_step_vjp(
        lambda *at: np.asarray(known.expectation(*at)), (np.array([0.3]), np.array([2 * np.log(0.6)])), 1.0
    )
    np.testing.assert_allclose(found.mean, np.ravel(exact), rtol=1e-11)


@pytest.mark.equation("16.1")
def test_variance_by_integration_at_thirty_digits():
    # Pathwise for softplus, straight from the definition.
    mean, deviation = 0.4, 0.8
    with mpmath.workdps(30):

        def variance(gradient):
            average = precise_expectation(gradient, mean, deviation)
            return precise_expectation(lambda z: (gradient(z) - average) ** 2, mean, deviation)

        slope = lambda z: 1 / (1 + mpmath.exp(-z))  # noqa: E731 - one line says it
        claimed = [variance(slope), variance(lambda z: slope(z) * (z - mpmath.mpf(mean)) / 2)]
    known = oracle.Known(lambda z: np.logaddexp(0, z[:, 0]), lambda z: 1 / (1 + np.exp(-z)), None)
    np.testing.assert_allclose(
        run(known, mean, deviation, "pathwise").variance, np.array(claimed, float), rtol=1e-11
    )


def fourth_moment(name, options, known, curvature, mean, deviation, variance):
    """Of g − E g, (2,), or a bound on it, for one draw of the gradients."""
    if name.startswith("measure-valued"):
        # |f| ≤ 1 bounds f(z) − f(z') by 2, and the gradients with it: by 2 / (σ √(2π)) and by 1, coupled or not (12.1).
        return np.array([2 * 2 / (deviation * math.sqrt(2 * math.pi)), 2.0]) ** 2 * variance
    nodes, weights = gauss_hermite(100)
    noise = nodes if not name.startswith("antithetic") else np.stack([nodes, -nodes], axis=1).ravel()
    integrand = FunctionIntegrand(known.value, known.gradient, curvature)
    estimator = make_estimator(name, **options)
    gradients = estimator.sample_gradients(
        integrand, np.array([mean]), 2 * np.log([deviation]), noise[:, None]
    )
    draws = np.array([g.reshape(len(nodes), -1).mean(axis=1) for g in gradients])
    return ((draws.T - draws @ weights) ** 4).T @ weights


def test_sampling_agrees(rng, chance):
    # A variance that is 25 % wrong is seen, 80 % for the loudest, whose squares are like the eighth power of the noise.
    k, n = 1.7, 400_000
    known, curvature = oracle.wave([k], 0.4), lambda z: -(k**2) * np.cos(k * z + 0.4)
    baselines = exact_baselines(known.value, 0.3, 2 * math.log(0.6))
    given = {
        "score-function-mean": ("score-function-constant", {"baseline": baselines.average}),
        "score-function-optimal": (
            "score-function-optimal",
            {"baseline_mean": baselines.for_mean, "baseline_log_var": baselines.for_log_var},
        ),
    }
    for estimator in EXACT_ESTIMATORS:
        exact = run(known, 0.3, 0.6, estimator, curvature)
        name, options = given.get(estimator, (estimator, {}))
        gradients = gradient_samples(
            known.value, [0.3], [2 * math.log(0.6)], name, n, rng, known.gradient, curvature, **options
        )
        size = 2 if estimator.startswith("antithetic") else 1
        draws = np.concatenate(gradients, axis=1).reshape(-1, size, 2).mean(axis=1)
        loudness = size**2 * fourth_moment(name, options, known, curvature, 0.3, 0.6, exact.variance)
        wrong = (0.8 if estimator == "taylor-score-function" else 0.25) * exact.variance
        chance.assert_unbiased(
            size * (draws - exact.mean) ** 2, exact.variance, loudness, wrong, len(EXACT_ESTIMATORS)
        )


def test_jumps_and_kinks_are_named():
    # [z > 0.3]: E f² = E f, and the score function's variance follows from truncated moments.
    mean, deviation, threshold = 0.4, 0.8, 0.3
    t = (threshold - mean) / deviation
    density, above = math.exp(-(t**2) / 2) / math.sqrt(2 * math.pi), 0.5 * math.erfc(t / math.sqrt(2))
    claimed = (above + t * density) / deviation**2 - (density / deviation) ** 2

    def step(z):
        return (z[:, 0] > threshold).astype(float)

    found = exact_variance(step, mean, 2 * math.log(deviation), "score-function", breaks=[threshold])
    assert found.variance[0] == pytest.approx(claimed, rel=1e-12)
    assert exact_baselines(step, mean, 2 * math.log(deviation), breaks=[threshold]).average == pytest.approx(
        above, rel=1e-12
    )


def test_estimators_run_as_shipped(monkeypatch):
    # A planted mistake in an estimator shows in its exact mean and variance: nothing here is a formula of its own.
    right = make_estimator("pathwise").sample_gradients
    monkeypatch.setattr(
        "scratchvae.estimators.pathwise.Pathwise.sample_gradients",
        lambda self, *arguments: tuple(1.5 * gradient for gradient in right(*arguments)),
    )
    found = run(oracle.quadratic(-3.0), 1.0, 1.0, "pathwise")
    np.testing.assert_allclose(found.mean, [12, 1.5], rtol=1e-12)
    assert found.variance[0] == pytest.approx(9, rel=1e-11)


def test_a_gradient_that_is_nothing_but_rounding_settles():
    # At the optimum the coupled measure-valued gradient for the mean is zero in every sample, up to rounding.
    found = run(oracle.quadratic(1.0), 1.0, 1.0, "measure-valued")
    assert abs(found.mean[0]) < 1e-14
    assert found.variance[0] < 1e-25


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (
            {"estimator": "reinforce"},
            ValueError,
            "estimator is 'reinforce', expected one of: pathwise, score-function,",
        ),
        ({"mean": "one"}, TypeError, "mean is 'one', expected a number"),
        ({"log_var": np.inf}, ValueError, "log_var is inf, expected a finite number"),
        ({"gradient": None}, ValueError, "pass gradient="),
        ({"estimator": "taylor-pathwise"}, ValueError, "pass hessian_diagonal="),
        ({"f": lambda z: z}, ValueError, "the result of f has shape"),
        ({"f": 3.0}, TypeError, "f is 3.0, expected a function of z"),
        (
            {"f": lambda z: np.where(z[:, 0] > 3, np.nan, 0.0)},
            ValueError,
            "the result of f has the value nan",
        ),
        ({"breaks": [np.nan]}, ValueError, "breaks has the value nan"),
        ({"estimator": "measure-valued", "breaks": [0.0]}, ValueError, "breaks has 1 values, expected none"),
    ],
    ids=["name", "mean", "log_var", "gradient", "hessian", "column", "number", "nan", "breaks", "no breaks"],
)
def test_what_is_wrong_is_refused_in_one_sentence(changes, error, words):
    known = oracle.quadratic(0.0)
    arguments = {
        "f": known.value,
        "mean": 0.5,
        "log_var": 0.0,
        "estimator": "pathwise",
        "gradient": known.gradient,
    }
    with pytest.raises(error) as caught:
        exact_variance(**(arguments | changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_f_that_does_not_settle_is_refused(monkeypatch):
    monkeypatch.setattr(module, "_MOST_POINTS", 10_000)
    with pytest.raises(
        ValueError, match="score-function did not settle at 16384 points, expected an f that is smooth"
    ):
        exact_variance(lambda z: (z[:, 0] > 0.3).astype(float), 0.4, 0.1, "score-function")
