"""The score function and its baselines: the claims of the note, and that the shipped estimators keep them exactly."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
import sympy

from scratchvae.densities.gaussian import gaussian_score
from scratchvae.estimators import FunctionIntegrand, make_estimator
from scratchvae.estimators.pathwise import Pathwise
from scratchvae.estimators.score_function import RunningMean, ScoreFunction, leave_one_out, no_baseline
from tests.oracles import estimators as oracle
from tests.oracles.complex_step import complex_step_vjp
from tests.oracles.quadrature import (
    gauss_hermite,
    gauss_hermite_product,
    precise_expectation,
    symbolic_expectation,
    symbolic_variance,
    weighted_mean,
)

A, Z = sympy.symbols("a z", real=True)
DEVIATION = sympy.Symbol("sigma", positive=True)
NOISES = sympy.symbols("epsilon1:5", real=True)
COEFFICIENTS = sympy.symbols("c:4", real=True)


def assert_identical(one, other):
    assert sympy.simplify(one - other) == 0


def sample(noise):
    """z = a + σε: `a` stands for the mean."""
    return A + DEVIATION * noise


def cubic(noise):
    """Every polynomial of degree three at once."""
    return sum(coefficient * sample(noise) ** power for power, coefficient in enumerate(COEFFICIENTS))


def square(noise):
    return sample(noise) ** 2


def scores(noise):
    """From the definition: derivatives of log q at fixed z, with ℓ = log σ², so that ∂/∂ℓ = (σ/2) ∂/∂σ."""
    log_density = -sympy.log(DEVIATION) - (Z - A) ** 2 / (2 * DEVIATION**2)
    by_mean = sympy.diff(log_density, A)
    by_log_var = sympy.diff(log_density, DEVIATION) * DEVIATION / 2
    return tuple(sympy.expand(sympy.simplify(s.subs(Z, sample(noise)))) for s in (by_mean, by_log_var))


def exact_gradients(f):
    """Derivatives of E f with respect to the mean and ℓ, of the exact expectation."""
    expected = symbolic_expectation(f(NOISES[0]), NOISES[0])
    return sympy.diff(expected, A), sympy.diff(expected, DEVIATION) * DEVIATION / 2


# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("7.1", "7.2")
@pytest.mark.parametrize("f", [cubic, lambda _noise: sympy.Integer(1)], ids=["cubic", "constant"])
def test_identity_for_the_gaussian(f):
    for score, exact in zip(scores(NOISES[0]), exact_gradients(f), strict=True):
        assert_identical(symbolic_expectation(f(NOISES[0]) * score, NOISES[0]), exact)


@pytest.mark.equation("7.1", "7.2")
def test_identity_away_from_the_gaussian():
    z, rate = sympy.symbols("z lambda", positive=True)
    density = rate * sympy.exp(-rate * z)
    score = sympy.diff(sympy.log(density), rate)
    for f in (z**3, sympy.Integer(1)):
        exact = sympy.diff(sympy.integrate(f * density, (z, 0, sympy.oo)), rate)
        assert_identical(sympy.integrate(sympy.expand(f * score) * density, (z, 0, sympy.oo)), exact)
    # And where nothing can be reparameterized: a Bernoulli variable, f with the arbitrary values f₀ and f₁.
    probability, *values = sympy.symbols("p f0 f1")
    chances = [1 - probability, probability]
    exact = sympy.diff(
        sum(chance * value for chance, value in zip(chances, values, strict=True)), probability
    )
    by_score = sum(
        chance * value * sympy.diff(sympy.log(chance), probability)
        for chance, value in zip(chances, values, strict=True)
    )
    assert_identical(by_score, exact)


@pytest.mark.equation("7.1")
def test_a_step_is_no_obstacle():
    # f(z) = [z > 0.3]: E f is an integral of the density, its derivative the density at the step.
    with mpmath.workdps(50):
        mean, deviation, threshold = mpmath.mpf("0.4"), mpmath.mpf("0.8"), mpmath.mpf("0.3")
        by_score = precise_expectation(
            lambda z: (z - mean) / deviation**2 if z > threshold else mpmath.mpf(0),
            mean,
            deviation,
            breaks=[threshold],
        )
        assert abs(by_score - mpmath.npdf(threshold, mean, deviation)) < mpmath.mpf(10) ** -40


@pytest.mark.equation("7.3")
def test_an_independent_baseline_leaves_the_mean_alone():
    noise, other = NOISES[:2]
    baseline = cubic(other) ** 2 + sympy.Symbol("b")
    for score, exact in zip(scores(noise), exact_gradients(square), strict=True):
        assert_identical(symbolic_expectation((square(noise) - baseline) * score, noise, other), exact)
        dependent = square(noise) - sample(noise) ** 3 * sample(other)
        assert sympy.simplify(symbolic_expectation(dependent * score, noise, other) - exact) != 0


@pytest.mark.equation("7.4", "7.5")
@pytest.mark.parametrize("num_samples", [2, 3])
def test_leave_one_out_and_the_batch_mean(num_samples):
    noises = NOISES[:num_samples]
    f = cubic if num_samples == 2 else square
    values = [f(noise) for noise in noises]
    leave_one = values[0] - sum(values[1:]) / sympy.Integer(num_samples - 1)
    batch_mean = values[0] - sum(values) / sympy.Integer(num_samples)
    for score, exact in zip(scores(noises[0]), exact_gradients(f), strict=True):
        assert_identical(symbolic_expectation(leave_one * score, *noises), exact)
        shrunk = (1 - sympy.Rational(1, num_samples)) * exact
        assert_identical(symbolic_expectation(batch_mean * score, *noises), shrunk)


@pytest.mark.equation("7.9")
def test_centred_form_of_leave_one_out():
    for count in (2, 3, 5):
        values = sympy.symbols(f"f:{count}")
        mean = sum(values) / sympy.Integer(count)
        for s in range(count):
            others = sum(value for t, value in enumerate(values) if t != s) / sympy.Integer(count - 1)
            assert (
                sympy.expand(values[s] - others - sympy.Rational(count, count - 1) * (values[s] - mean)) == 0
            )


@pytest.mark.equation("7.6", "7.10", "7.11", "7.12")
def test_variances_for_the_quadratic():
    # f = (z − k)² with a = μ − k is the square of a + σε.
    noise, variance = NOISES[0], DEVIATION**2
    expected = symbolic_expectation(square(noise), noise)
    claims = {
        0: (A**4 / variance + 14 * A**2 + 15 * variance, 8 * A**2 + 10 * variance, 8 * A**2 + 6 * variance),
        1: (
            A**4 / 2 + 15 * A**2 * variance + sympy.Rational(37, 2) * variance**2,
            variance * (10 * A**2 + 14 * variance),
            variance * (10 * A**2 + 6 * variance),
        ),
    }
    best_claimed = A**2 + 3 * variance, A**2 + 5 * variance
    for parameter, score in enumerate(scores(noise)):
        best = symbolic_expectation(square(noise) * score**2, noise) / symbolic_expectation(score**2, noise)
        assert_identical(best, best_claimed[parameter])
        for baseline, claim in zip((0, expected, best), claims[parameter], strict=True):
            found = symbolic_variance(sympy.expand((square(noise) - baseline) * score), noise)
            assert_identical(found, claim)


@pytest.mark.equation("7.8", "7.13")
def test_variance_is_a_parabola_in_the_baseline():
    noise, baseline = NOISES[0], sympy.Symbol("b", real=True)
    for score in scores(noise):
        weight = symbolic_expectation(score**2, noise)
        best = symbolic_expectation(cubic(noise) * score**2, noise) / weight
        variance = symbolic_variance(sympy.expand((cubic(noise) - baseline) * score), noise)
        assert sympy.solve(sympy.diff(variance, baseline), baseline) == [sympy.expand(sympy.simplify(best))]
        assert_identical(variance, variance.subs(baseline, best) + (baseline - best) ** 2 * weight)


@pytest.mark.equation("7.13")
def test_the_mean_as_a_baseline_can_raise_the_variance():
    # Mohamed et al. (2020): exp(−z²), z ~ N(1, 1), with respect to σ.
    with mpmath.workdps(30):

        def f(z):
            return mpmath.exp(-(z**2))

        def score(z):
            return (z - 1) ** 2 - 1

        def expected(function):
            return precise_expectation(function, 1, 1)

        def variance(baseline):
            gradient = expected(lambda z: f(z) * score(z))
            return expected(lambda z: ((f(z) - baseline) * score(z)) ** 2) - gradient**2

        mean = expected(f)
        weight = expected(lambda z: score(z) ** 2)
        best = expected(lambda z: f(z) * score(z) ** 2) / weight
        assert float(mean) == pytest.approx(0.414, abs=5e-4)
        assert float(best) == pytest.approx(0.179, abs=5e-4)
        assert float(variance(0)) == pytest.approx(0.1767, abs=5e-5)
        assert float(variance(mean)) == pytest.approx(0.2232, abs=5e-5)
        assert abs(variance(mean) - variance(best) - (mean - best) ** 2 * weight) < mpmath.mpf(10) ** -25


@pytest.mark.equation("7.14")
@pytest.mark.parametrize("time", [1, 2, 3])
@pytest.mark.parametrize("num_values", [1, 2])
def test_running_mean_that_learns_before_it_is_used_shrinks_the_gradient(time, num_values):
    decay = sympy.Symbol("rho", positive=True)
    present, past = NOISES[:num_values], sympy.symbols(f"p:{time - 1}")
    moment = sympy.Integer(0)
    for earlier in past:
        moment = decay * moment + (1 - decay) * earlier
    moment = decay * moment + (1 - decay) * sum(square(noise) for noise in present) / num_values
    baseline = moment / (1 - decay**time)
    factor = 1 - (1 - decay) / (1 - decay**time) / num_values
    for score, exact in zip(scores(present[0]), exact_gradients(square), strict=True):
        found = symbolic_expectation(sympy.expand((square(present[0]) - baseline) * score), *present)
        assert_identical(found, factor * exact)
    assert (sympy.simplify(factor) == 0) == (time == 1 and num_values == 1)


@pytest.mark.equation("7.15")
@pytest.mark.parametrize("num_samples", [2, 3])
def test_leave_one_out_gradients_are_correlated(num_samples):
    noises = NOISES[:num_samples]
    values = [square(noise) for noise in noises]
    spread = symbolic_variance(values[0], noises[0])
    for parameter, exact in enumerate(exact_gradients(square)):
        score = [scores(noise)[parameter] for noise in noises]
        gradients = [
            sympy.expand((values[s] - (sum(values) - values[s]) / sympy.Integer(num_samples - 1)) * score[s])
            for s in range(num_samples)
        ]
        centred = sympy.expand((values[0] - symbolic_expectation(values[0], noises[0])) * score[0])
        claimed = symbolic_variance(centred, noises[0]) + spread / (num_samples - 1) * symbolic_expectation(
            score[0] ** 2, noises[0]
        )
        assert_identical(symbolic_variance(gradients[0], *noises), claimed)
        covariance = symbolic_expectation(sympy.expand(gradients[0] * gradients[1]), *noises) - exact**2
        assert_identical(covariance, exact**2 / sympy.Integer(num_samples - 1) ** 2)


@pytest.mark.equation("7.16")
def test_every_coordinate_is_blamed_for_all():
    noises = NOISES[:3]
    values = [square(noises[0]), cubic(noises[1]), 2 * sample(noises[2])]
    centred = [
        value - symbolic_expectation(value, noise) for value, noise in zip(values, noises, strict=True)
    ]
    others = sum(symbolic_variance(value, noise) for value, noise in zip(values[1:], noises[1:], strict=True))
    for score in scores(noises[0]):
        whole = symbolic_variance(sympy.expand(sum(centred) * score), *noises)
        own = symbolic_variance(sympy.expand(centred[0] * score), noises[0])
        assert_identical(whole, own + symbolic_expectation(score**2, noises[0]) * others)


@pytest.mark.equation("7.17", "7.18")
def test_the_score_in_the_noise_and_along_the_sample():
    noise = NOISES[0]
    by_mean, by_log_var = scores(noise)
    assert_identical(by_mean, noise / DEVIATION)
    assert_identical(by_log_var, (noise**2 - 1) / 2)
    assert_identical(symbolic_expectation(by_mean**2, noise), 1 / DEVIATION**2)
    assert_identical(symbolic_expectation(by_log_var**2, noise), sympy.Rational(1, 2))
    log_density = -sympy.log(DEVIATION) - (Z - A) ** 2 / (2 * DEVIATION**2)
    along = sympy.simplify(log_density.subs(Z, sample(noise)))
    assert sympy.diff(along, A) == 0
    assert_identical(sympy.diff(along, DEVIATION) * DEVIATION / 2, -sympy.Rational(1, 2))


@pytest.mark.equation("7.19")
def test_what_the_memory_of_a_running_mean_costs():
    decay = sympy.Symbol("rho", positive=True)
    for time in (1, 2, 5):
        values = sympy.symbols(f"f1:{time + 1}")
        moment = sympy.Integer(0)
        for value in values:
            moment = decay * moment + (1 - decay) * value
        weights = [sympy.diff(moment / (1 - decay**time), value) for value in values]
        assert_identical(sum(weights), 1)
        claimed = (1 - decay) / (1 + decay) * (1 + decay**time) / (1 - decay**time)
        assert_identical(sum(weight**2 for weight in weights), claimed)
    # Three values in time: the third one's baseline holds the first and the second.
    values = [square(noise) for noise in NOISES[:3]]
    past = (decay * values[0] + values[1]) / (1 + decay)
    for parameter, exact in enumerate(exact_gradients(square)):
        second = (values[1] - values[0]) * scores(NOISES[1])[parameter]
        third = (values[2] - past) * scores(NOISES[2])[parameter]
        product = symbolic_expectation(sympy.expand(second * third), *NOISES[:3])
        assert_identical(product - exact**2, 0)


# --- the shipped estimators: expectation ------------------------------------------------------------------

MEANS = np.array([0.7, -0.4])
LOG_VARS = np.array([-0.9, 0.3])
INTEGRANDS = {
    "quadratic": oracle.quadratic(np.array([-1.5, 0.8])),
    "wave": oracle.wave([1.3, -0.8], 0.4),
    "exponential": oracle.exponential([0.6, -0.5]),
    "coupled": oracle.coupled(),
}


def exact_gradient(known, mean, log_var):
    """Gradient of the known expectation with respect to mean and log_var, by complex step."""
    return complex_step_vjp(lambda *at: np.asarray(known.expectation(*at)), (mean, log_var), 1.0)


def no_derivative(z):
    raise AssertionError("the score function asked for a derivative of f")


def assert_exact(gradient, exact):
    np.testing.assert_allclose(gradient, exact, rtol=1e-12, atol=1e-12 * np.abs(exact).max())


@pytest.mark.parametrize("name", INTEGRANDS)
def test_expectation_is_the_gradient_of_the_exact_expectation(name):
    known = INTEGRANDS[name]
    nodes, weights = gauss_hermite_product(36, 2)
    score_function = make_estimator("score-function")
    gradients = score_function.sample_gradients(
        FunctionIntegrand(known.value, no_derivative), MEANS, LOG_VARS, nodes
    )
    pathwise = Pathwise().sample_gradients(
        FunctionIntegrand(known.value, known.gradient), MEANS, LOG_VARS, nodes
    )
    for gradient, other, exact in zip(
        gradients, pathwise, exact_gradient(known, MEANS, LOG_VARS), strict=True
    ):
        assert gradient.shape == nodes.shape
        assert_exact(weighted_mean(weights, gradient), exact)
        assert_exact(weighted_mean(weights, gradient), weighted_mean(weights, other))


def joint_noise(count, num_samples):
    """Noise (S, B, 1) whose examples are the points of a product rule over S samples, and their weights (B,)."""
    nodes, weights = gauss_hermite_product(count, num_samples)
    return nodes.T[..., None], weights


def joint_expectation(estimator, known, num_samples, mean=0.6, log_var=-0.5, count=24):
    """(expectation of each sample's gradients, exact gradients), by the product rule: [(S,), (S,)] and two numbers."""
    noise, weights = joint_noise(count, num_samples)
    mean, log_var = np.array([mean]), np.array([log_var])
    gradients = estimator.sample_gradients(
        FunctionIntegrand(known.value, no_derivative), mean, log_var, noise
    )
    expected = [gradient[..., 0] @ weights for gradient in gradients]
    return expected, [exact.item() for exact in exact_gradient(known, mean, log_var)]


ONE_DIMENSIONAL = {
    "quadratic": oracle.quadratic(-1.5),
    "wave": oracle.wave([1.3], 0.4),
    "exponential": oracle.exponential([0.6]),
}


@pytest.mark.parametrize("num_samples", [2, 3])
@pytest.mark.parametrize("name", ONE_DIMENSIONAL)
def test_leave_one_out_is_unbiased(name, num_samples):
    expected, exact = joint_expectation(
        make_estimator("score-function-leave-one-out"), ONE_DIMENSIONAL[name], num_samples
    )
    for gradient, one in zip(expected, exact, strict=True):
        assert_exact(gradient, np.full(num_samples, one))


def batch_mean(value):
    """The planted mistake: a baseline that contains its own sample."""
    return value - value.mean(axis=0)


@pytest.mark.parametrize("num_samples", [2, 3])
def test_the_batch_mean_shrinks_the_gradient_and_is_seen(num_samples):
    planted = ScoreFunction("batch-mean", batch_mean, 2)
    expected, exact = joint_expectation(planted, ONE_DIMENSIONAL["wave"], num_samples)
    for gradient, one in zip(expected, exact, strict=True):
        assert_exact(gradient, np.full(num_samples, (1 - 1 / num_samples) * one))
        with pytest.raises(AssertionError):
            assert_exact(gradient, np.full(num_samples, one))


def expectation_in_time(make_center, known, num_samples, calls, count):
    """Expectation of every gradient that a fresh baseline gives in `calls` calls of S samples: [(T,), (T,)]."""
    nodes, weights = gauss_hermite_product(count, calls * num_samples)
    mean, log_var = np.array([0.6]), np.array([-0.5])
    integrand = FunctionIntegrand(known.value, no_derivative)
    expected = np.zeros((2, calls * num_samples))
    for path, weight in zip(nodes, weights, strict=True):
        estimator = ScoreFunction("in time", make_center())
        for call in range(calls):
            now = slice(call * num_samples, (call + 1) * num_samples)
            gradients = estimator.sample_gradients(integrand, mean, log_var, path[now, None])
            expected[:, now] += weight * np.stack(gradients)[..., 0]
    return expected, [exact.item() for exact in exact_gradient(known, mean, log_var)]


@pytest.mark.parametrize(("num_samples", "calls"), [(3, 1), (1, 3), (2, 2)])
def test_running_mean_is_unbiased(num_samples, calls):
    # Four points integrate the square times a score exactly.
    expected, exact = expectation_in_time(
        lambda: RunningMean(0.8), ONE_DIMENSIONAL["quadratic"], num_samples, calls, 4
    )
    for gradient, one in zip(expected, exact, strict=True):
        assert_exact(gradient, np.full(num_samples * calls, one))


class LearnsBeforeItIsUsed(RunningMean):
    """The planted mistake: the sample is in its own baseline."""

    def __call__(self, value):
        for mean in value.tolist():
            self.moment = self.decay * self.moment + (1 - self.decay) * mean
            self.count += 1
        return value - self.baseline


def test_running_mean_that_learns_first_is_seen():
    expected, exact = expectation_in_time(
        lambda: LearnsBeforeItIsUsed(0.8), ONE_DIMENSIONAL["quadratic"], 1, 3, 4
    )
    factor = 1 - 0.2 / (1 - 0.8 ** np.arange(1, 4))
    for gradient, one in zip(expected, exact, strict=True):
        assert_exact(gradient, factor * one)
        with pytest.raises(AssertionError):
            assert_exact(gradient, np.full(3, one))


# --- the shipped estimators: variance ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "deviation", "target"), [(1.0, 1.0, -3.0), (0.3, 0.2, 0.5), (-2.0, 1.7, 0.0)]
)
@pytest.mark.parametrize("method", ["score-function", "mean baseline", "optimal baseline"])
def test_variances_are_the_closed_forms(method, mean, deviation, target):
    nodes, weights = gauss_hermite(12)
    known, a = oracle.quadratic(target), mean - target
    published = oracle.quadratic_variances(mean, deviation, target)
    best = {"mean": a**2 + 3 * deviation**2, "log_var": a**2 + 5 * deviation**2}
    for position, parameter in enumerate(("mean", "log_var")):
        baseline = {
            "score-function": 0.0,
            "mean baseline": a**2 + deviation**2,
            "optimal baseline": best[parameter],
        }[method]
        estimator = ScoreFunction(method, lambda value, baseline=baseline: value - baseline)
        gradient = estimator.sample_gradients(
            FunctionIntegrand(known.value, no_derivative),
            np.array([mean]),
            2 * np.log([deviation]),
            nodes[:, None],
        )[position][:, 0]
        variance = weights @ (gradient - weights @ gradient) ** 2
        assert variance == pytest.approx(published[method, parameter], rel=1e-11)


@pytest.mark.parametrize("num_samples", [2, 3])
def test_spread_and_correlation_of_leave_one_out(num_samples):
    mean, deviation, target = 0.4, 0.7, -0.9
    a, variance = mean - target, deviation**2
    noise, weights = joint_noise(8, num_samples)
    known = oracle.quadratic(target)
    gradients = make_estimator("score-function-leave-one-out").sample_gradients(
        FunctionIntegrand(known.value, no_derivative), np.array([mean]), 2 * np.log([deviation]), noise
    )
    published = oracle.quadratic_variances(mean, deviation, target)
    spread_of_f = 4 * a**2 * variance + 2 * variance**2
    for parameter, gradient, exact, weight in zip(
        ("mean", "log_var"), gradients, (2 * a, variance), (1 / variance, 0.5), strict=True
    ):
        samples = gradient[..., 0]
        covariance = (samples * weights) @ samples.T - exact**2
        own = published["mean baseline", parameter] + spread_of_f / (num_samples - 1) * weight
        expected = np.full((num_samples, num_samples), exact**2 / (num_samples - 1) ** 2)
        np.fill_diagonal(expected, own)
        np.testing.assert_allclose(covariance, expected, rtol=1e-11)


# --- the shipped baselines --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2,), (7,), (3, 4)])
def test_leave_one_out_is_what_its_name_says(rng, shape):
    values = -100 + rng.standard_normal(shape)
    expected = np.apply_along_axis(lambda column: oracle.leave_one_out(column.tolist()), 0, values)
    np.testing.assert_allclose(leave_one_out(values), expected, rtol=0, atol=1e-11)


def test_leave_one_out_by_hand():
    np.testing.assert_allclose(leave_one_out(np.array([1.0, 2.0, 6.0])), [-3.0, -1.5, 4.5], rtol=1e-11)


def test_running_mean_by_hand():
    center = RunningMean(0.9)
    # Baselines: 0; 4; (0.9 · 0.1 · 4 + 0.1 · 6) / (1 − 0.81) = 0.96 / 0.19; (0.9 · 0.96 + 0.1 · 2) / 0.271.
    np.testing.assert_allclose(center(np.array([4.0, 6.0])), [4.0, 2.0], rtol=1e-11)
    np.testing.assert_allclose(center(np.array([2.0])), [2.0 - 0.96 / 0.19], rtol=1e-11)
    assert center.baseline == pytest.approx(1.064 / 0.271, rel=1e-11)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("cuts", [[12], [1] * 12, [5, 4, 3]], ids=str)
def test_running_mean_remembers_over_calls(rng, decay, cuts):
    values = -100 + rng.standard_normal(12)
    center = RunningMean(decay)
    found = np.concatenate([center(part) for part in np.split(values, np.cumsum(cuts)[:-1])])
    np.testing.assert_allclose(found, oracle.running_mean(values.tolist(), decay), rtol=0, atol=1e-11)


def test_running_mean_averages_over_examples(rng):
    values = rng.standard_normal((4, 3))
    averages = values.mean(axis=1)
    baselines = averages - oracle.running_mean(averages.tolist(), 0.7)
    np.testing.assert_allclose(RunningMean(0.7)(values), values - baselines[:, None], rtol=0, atol=1e-13)


def test_running_mean_of_a_constant_is_the_constant_at_once():
    # Constant values: from the second on the baseline is the value itself, which is what the correction is for.
    found = RunningMean(0.95)(np.full(50, -105.7))
    np.testing.assert_allclose(found[1:], 0, atol=1e-11)
    assert found[0] == -105.7


def test_a_running_mean_goes_on_from_its_state_with_the_same_bits(rng):
    estimator, restored = (make_estimator("score-function-running-mean", decay=0.7) for _ in range(2))
    integrand = FunctionIntegrand(INTEGRANDS["coupled"].value)
    estimator.sample_gradients(integrand, MEANS, LOG_VARS, rng.standard_normal((4, 2)))
    restored.load_state(estimator.state())
    assert restored.center.baseline == estimator.center.baseline != 0
    assert type(restored.center.baseline) is float
    noise = rng.standard_normal((3, 2))
    expected = estimator.sample_gradients(integrand, MEANS, LOG_VARS, noise)
    np.testing.assert_array_equal(restored.sample_gradients(integrand, MEANS, LOG_VARS, noise), expected)


def test_what_does_not_learn_has_no_state():
    for name in ("score-function", "score-function-leave-one-out"):
        estimator = make_estimator(name)
        assert estimator.state() == {}
        estimator.load_state({})


def test_plain_values_are_left_alone(rng):
    values = rng.standard_normal((3, 2))
    np.testing.assert_array_equal(no_baseline(values), values)


# --- the shape of the thing -------------------------------------------------------------------------------


class BlackBox:
    """An integrand that answers and nothing more."""

    evaluations = 0
    differentiations = 0

    def value(self, z):
        self.evaluations += len(z)
        return np.floor(z).sum(axis=-1)  # it jumps

    def value_and_gradient(self, _z):
        raise AssertionError("the score function asked for a derivative of f")


@pytest.mark.parametrize(
    "name", ["score-function", "score-function-running-mean", "score-function-leave-one-out"]
)
@pytest.mark.parametrize("shape", [(6, 2), (6, 3, 2)])
def test_needs_values_only_and_each_once(rng, name, shape):
    estimator, integrand = make_estimator(name), BlackBox()
    assert not estimator.needs_gradient
    assert estimator.name == name
    gradients = estimator.sample_gradients(integrand, MEANS, LOG_VARS, rng.standard_normal(shape))
    assert [gradient.shape for gradient in gradients] == [shape, shape]
    assert integrand.evaluations == 6


@pytest.mark.parametrize(
    "name", ["score-function", "score-function-running-mean", "score-function-leave-one-out"]
)
def test_dtype_is_the_noise_s(rng, name):
    noise = rng.standard_normal((6, 2)).astype(np.float32)
    gradients = make_estimator(name).sample_gradients(
        BlackBox(), MEANS.astype(np.float32), LOG_VARS.astype(np.float32), noise
    )
    assert [gradient.dtype for gradient in gradients] == [np.float32, np.float32]


def test_small_differences_of_large_values_survive_single_precision():
    # Values of −10⁵ that differ by a thousandth: centred in their own double precision, before the rounding to single.
    values = -1e5 + 1e-3 * np.array([1.0, 2.0, 6.0])
    noise = np.array([[1.0], [-1.0], [0.5]], np.float32)
    dmean, _ = make_estimator("score-function-leave-one-out").sample_gradients(
        FunctionIntegrand(lambda _z: values), np.zeros(1, np.float32), np.zeros(1, np.float32), noise
    )
    np.testing.assert_allclose(dmean[:, 0], np.array([-3e-3, 1.5e-3, 2.25e-3]), rtol=1e-6)


def test_every_sample_s_gradient_is_multiplier_times_score(rng):
    # What is left to see when expectations agree: each sample with its own score, in every axis.
    noise = rng.standard_normal((5, 3, 2))
    means, log_vars = rng.standard_normal((3, 2)), rng.standard_normal((3, 2))
    known = INTEGRANDS["coupled"]
    gradients = make_estimator("score-function").sample_gradients(
        FunctionIntegrand(known.value), means, log_vars, noise
    )
    for s, b, i in itertools.product(range(5), range(3), range(2)):
        deviation = np.exp(log_vars[b, i] / 2)
        z = means[b] + np.exp(log_vars[b] / 2) * noise[s, b]
        value = known.value(z)
        assert gradients[0][s, b, i] == pytest.approx(value * noise[s, b, i] / deviation, rel=1e-11)
        assert gradients[1][s, b, i] == pytest.approx(value * (noise[s, b, i] ** 2 - 1) / 2, rel=1e-11)


def test_score_at_extreme_variances():
    # 1/σ overflows nowhere that 1/σ² would not.
    for dtype, log_var in itertools.product((np.float32, np.float64), (-60.0, 60.0)):
        score_mean, score_log_var = gaussian_score(np.array([[1.5]], dtype), np.array([log_var], dtype))
        assert score_mean.item() == pytest.approx(1.5 * np.exp(-log_var / 2), rel=1e-5)
        assert score_log_var.item() == 0.625
        assert score_mean.dtype == dtype
