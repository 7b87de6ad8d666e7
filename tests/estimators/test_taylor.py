"""Taylor polynomials as control variates: what the note claims, and that the shipped ones keep every expectation."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import sympy

from scratchvae.estimators import FunctionIntegrand, make_estimator
from scratchvae.estimators.taylor import Taylor, _Remainder
from scratchvae.lab.gradient_samples import gradient_samples
from tests.models.cases import make_case
from tests.oracles import estimators as oracle
from tests.oracles import vae as vae_oracle
from tests.oracles.complex_step import assert_close_to_largest, cauchy_second_derivative, complex_step_vjp
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
NOISE = sympy.Symbol("epsilon", real=True)
VARIANCE = DEVIATION**2
SCORES = (NOISE / DEVIATION, (NOISE**2 - 1) / 2)
COEFFICIENTS = sympy.symbols("c:5", real=True)


def assert_identical(one, other):
    assert sympy.simplify(one - other) == 0


def along(expression):
    """At z = a + σε."""
    return sympy.expand(expression.subs(Z, A + DEVIATION * NOISE))


# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("14.1", "14.2")
@pytest.mark.parametrize("order", [1, 2])
def test_what_is_taken_off_comes_back(order):
    # Every quartic, expanded about a: the gradient of the remainder's mean, plus the claimed one, is the whole.
    f = sum(c * Z**power for power, c in enumerate(COEFFICIENTS))
    slope = sympy.diff(f, Z).subs(Z, A)
    curvature = sympy.diff(f, Z, 2).subs(Z, A) if order == 2 else sympy.Integer(0)
    polynomial = f.subs(Z, A) + slope * (Z - A) + curvature * (Z - A) ** 2 / 2
    known = (slope, curvature * VARIANCE / 2)
    expected = symbolic_expectation(along(f), NOISE)
    exact = sympy.diff(expected, A), sympy.diff(expected, DEVIATION) * DEVIATION / 2
    remainder = along(f - polynomial)
    slope_of_remainder = along(sympy.diff(f, Z) - slope - curvature * (Z - A))
    paths = (sympy.Integer(1), DEVIATION * NOISE / 2)
    for score, path, of_polynomial, whole in zip(SCORES, paths, known, exact, strict=True):
        assert_identical(symbolic_expectation(along(polynomial) * score, NOISE), of_polynomial)
        assert_identical(symbolic_expectation(sympy.expand(remainder * score), NOISE) + of_polynomial, whole)
        by_path = symbolic_expectation(sympy.expand(slope_of_remainder * path), NOISE)
        assert_identical(by_path + of_polynomial, whole)


@pytest.mark.equation("14.3", "14.4")
def test_variances_for_the_quadratic():
    # (z − k)² with a for μ − k: to second order nothing is left; to first order σ²ε² is.
    left = VARIANCE * NOISE**2
    claims = (15 * VARIANCE, sympy.Rational(37, 2) * VARIANCE**2)
    for score, claimed in zip(SCORES, claims, strict=True):
        assert_identical(symbolic_variance(sympy.expand(left * score), NOISE), claimed)
    slope_left = 2 * DEVIATION * NOISE
    assert_identical(symbolic_variance(slope_left, NOISE), 4 * VARIANCE)
    assert_identical(symbolic_variance(slope_left * DEVIATION * NOISE / 2, NOISE), 2 * VARIANCE**2)


def cosine_variance(t):
    """σ² times the variance for f = cos kz at μ = 0, with respect to mean, order 2; t = kσ. (14.5)"""
    damped = math.exp(-(t**2) / 2)
    return (
        (1 + (1 - 4 * t**2) * math.exp(-2 * t**2)) / 2
        + 1
        - 3 * t**2
        + 15 * t**4 / 4
        - (2 - 2 * t**2 - t**2 * (3 - 6 * t**2 + t**4)) * damped
    )


@pytest.mark.equation("14.5")
@pytest.mark.parametrize("t", [0.5, 1.0, 3.0])
def test_where_it_loses(t):
    with mpmath.workdps(30):
        found = precise_expectation(lambda e: ((mpmath.cos(t * e) - 1 + (t * e) ** 2 / 2) * e) ** 2)
        assert abs(found - cosine_variance(t)) < 1e-12 * max(1.0, float(found))
        plain = oracle.cosine_variances(0.0, 1.0, t)[1]
        assert (cosine_variance(t) > plain) == (t > 0.9)


def test_the_crossing_that_the_note_states():
    for t, loses in ((0.85, False), (0.855, True)):
        assert (cosine_variance(t) > oracle.cosine_variances(0.0, 1.0, t)[1]) == loses


# --- the shipped estimators -------------------------------------------------------------------------------

MEANS = np.array([0.7, -0.4])
LOG_VARS = np.array([-0.9, 0.3])
FREQUENCIES, RATES = np.array([1.3, -0.8]), np.array([0.6, -0.5])
INTEGRANDS = {
    "quadratic": (oracle.quadratic(np.array([-1.5, 0.8])), lambda z: np.full(z.shape, 2.0)),
    "wave": (
        oracle.wave(FREQUENCIES, 0.4),
        lambda z: -np.cos(z @ FREQUENCIES + 0.4)[..., None] * FREQUENCIES**2,
    ),
    "exponential": (oracle.exponential(RATES), lambda z: np.exp(z @ RATES)[..., None] * RATES**2),
    "coupled": (oracle.coupled(), lambda z: np.stack([2 * z[..., 1], 6 * z[..., 0] * z[..., 1]], axis=-1)),
}
NAMES = ("taylor-pathwise", "taylor-score-function")


def exact_gradient(known, mean, log_var):
    """Gradient of the known expectation with respect to mean and log_var, by complex step."""
    return complex_step_vjp(lambda *at: np.asarray(known.expectation(*at)), (mean, log_var), 1.0)


def assert_exact(gradient, exact):
    np.testing.assert_allclose(gradient, exact, rtol=1e-12, atol=1e-12 * np.abs(exact).max())


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("integrand", INTEGRANDS)
@pytest.mark.parametrize("name", NAMES)
def test_expectation_is_the_gradient_of_the_exact_expectation(name, integrand, order):
    known, curvature = INTEGRANDS[integrand]
    nodes, weights = gauss_hermite_product(36, 2)
    gradients = make_estimator(name, order=order).sample_gradients(
        FunctionIntegrand(known.value, known.gradient, curvature), MEANS, LOG_VARS, nodes
    )
    for gradient, exact in zip(gradients, exact_gradient(known, MEANS, LOG_VARS), strict=True):
        assert gradient.shape == nodes.shape
        assert_exact(weighted_mean(weights, gradient), exact)


def test_leave_one_out_of_the_remainder_is_unbiased():
    nodes, weights = gauss_hermite_product(24, 2)
    known, mean, log_var = oracle.wave([1.3], 0.4), np.array([0.6]), np.array([-0.5])
    integrand = FunctionIntegrand(known.value, known.gradient, lambda z: -1.69 * np.cos(1.3 * z + 0.4))
    gradients = make_estimator("taylor-score-function-leave-one-out").sample_gradients(
        integrand, mean, log_var, nodes.T[..., None]
    )
    for gradient, exact in zip(gradients, exact_gradient(known, mean, log_var), strict=True):
        assert_exact(gradient[..., 0] @ weights, np.full(2, exact.item()))


@pytest.mark.parametrize("name", NAMES)
def test_even_a_wrong_hessian_leaves_the_expectation_alone(name):
    # The polynomial need not be f's own; but what is taken off and what comes back must be the same one.
    known, _ = INTEGRANDS["coupled"]
    nodes, weights = gauss_hermite_product(12, 2)
    integrand = FunctionIntegrand(known.value, known.gradient, lambda z: np.full(z.shape, -3.3))
    gradients = make_estimator(name).sample_gradients(integrand, MEANS, LOG_VARS, nodes)
    for gradient, exact in zip(gradients, exact_gradient(known, MEANS, LOG_VARS), strict=True):
        assert_exact(weighted_mean(weights, gradient), exact)


@pytest.mark.parametrize("slip", ["σ for σ²", "no half", "forgotten"])
def test_a_planted_mistake_in_what_comes_back_is_seen(slip):
    known, curvature = INTEGRANDS["coupled"]
    nodes, weights = gauss_hermite_product(12, 2)
    integrand = FunctionIntegrand(known.value, known.gradient, curvature)
    _, dlog_var = make_estimator("taylor-score-function").sample_gradients(integrand, MEANS, LOG_VARS, nodes)
    right = 0.5 * curvature(MEANS) * np.exp(LOG_VARS)
    wrong = {"σ for σ²": right * np.exp(-LOG_VARS / 2), "no half": 2 * right, "forgotten": 0 * right}[slip]
    planted = weighted_mean(weights, dlog_var - right + wrong)
    assert np.abs(planted / exact_gradient(known, MEANS, LOG_VARS)[1] - 1).max() > 0.1


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    ("mean", "deviation", "target"), [(1.0, 1.0, -3.0), (0.3, 0.2, 0.5), (-2.0, 1.7, 0.0)]
)
@pytest.mark.parametrize("name", NAMES)
def test_variances_are_the_closed_forms(name, mean, deviation, target, order):
    nodes, weights = gauss_hermite(12)
    known, v = oracle.quadratic(target), deviation**2
    integrand = FunctionIntegrand(known.value, known.gradient, lambda z: np.full(z.shape, 2.0))
    gradients = make_estimator(name, order=order).sample_gradients(
        integrand, np.array([mean]), 2 * np.log([deviation]), nodes[:, None]
    )
    claims = {"taylor-pathwise": (4 * v, 2 * v**2), "taylor-score-function": (15 * v, 18.5 * v**2)}[name]
    for gradient, claimed in zip(gradients, claims, strict=True):
        variance = weights @ (gradient[:, 0] - weights @ gradient[:, 0]) ** 2
        assert variance == pytest.approx(claimed if order == 1 else 0, rel=1e-10, abs=1e-24)


def test_variance_for_a_cosine():
    nodes, weights = gauss_hermite(60)
    deviation, k = 0.8, 1.9
    integrand = FunctionIntegrand(
        lambda z: np.cos(k * z[:, 0]), lambda z: -k * np.sin(k * z), lambda z: -(k**2) * np.cos(k * z)
    )
    dmean, _ = make_estimator("taylor-score-function").sample_gradients(
        integrand, np.zeros(1), 2 * np.log([deviation]), nodes[:, None]
    )
    claimed = cosine_variance(k * deviation) / deviation**2
    assert weights @ dmean[:, 0] ** 2 == pytest.approx(claimed, rel=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_sampled_mean_is_the_exact_gradient(rng, chance, name):
    mean, deviation, k = 0.9, 0.5, 1.2
    nodes, weights = gauss_hermite(60)
    z, slope = mean + deviation * nodes, -k * np.sin(k * mean)
    curve = -(k**2) * np.cos(k * mean)
    step = deviation * nodes
    if name == "taylor-pathwise":
        left = -k * np.sin(k * z) - slope - curve * step
        entries = [left, left * step / 2]
    else:
        left = np.cos(k * z) - np.cos(k * mean) - slope * step - curve * step**2 / 2
        entries = [left * nodes / deviation, left * (nodes**2 - 1) / 2]
    variances = [weights @ (entry - weights @ entry) ** 2 for entry in entries]
    damped = np.exp(-(k**2) * deviation**2 / 2)
    exact = damped * np.array([-k * np.sin(k * mean), -0.5 * k**2 * deviation**2 * np.cos(k * mean)])
    samples = chance.draws_needed(variances, 0.06 * exact)
    gradients = gradient_samples(
        lambda z: np.cos(k * z[:, 0]),
        [mean],
        [2 * np.log(deviation)],
        name,
        samples,
        rng,
        lambda z: -k * np.sin(k * z),
        lambda z: -(k**2) * np.cos(k * z),
    )
    chance.assert_unbiased(np.concatenate(gradients, axis=1), exact, variances, bias=0.06 * exact)


# --- the shape of the thing -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_of_double_precision_leave_gradients_in_the_noise_s(rng, name):
    integrand = FunctionIntegrand(
        lambda z: (z**2).sum(axis=-1, dtype=np.float64),
        lambda z: 2 * z.astype(np.float64),
        lambda z: np.full(z.shape, 2.0),
    )
    means, log_vars, noise = (
        part.astype(np.float32) for part in (MEANS, LOG_VARS, rng.standard_normal((4, 2)))
    )
    gradients = make_estimator(name).sample_gradients(integrand, means, log_vars, noise)
    if name != "taylor-pathwise":  # whose own gradient is f's, in f's precision
        assert {gradient.dtype for gradient in gradients} == {np.dtype(np.float32)}


def test_the_remainder_is_f_minus_its_polynomial_by_either_method(rng):
    centre, z = rng.standard_normal((1, 2)), rng.standard_normal((5, 2))
    slope, curvature = rng.standard_normal((2, 1, 2))
    integrand = FunctionIntegrand(lambda z: (z**3).sum(axis=-1), lambda z: 3 * z**2)
    remainder = _Remainder(integrand, centre, np.array([0.7]), slope, curvature)
    step = z - centre
    expected = (z**3).sum(axis=-1) - 0.7 - (slope * step + curvature * step**2 / 2).sum(axis=-1)
    value, gradient = remainder.value_and_gradient(z)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(remainder.value(z), expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, 3 * z**2 - slope - curvature * step, rtol=1e-12)


def test_the_polynomial_is_in_double_precision():
    # 1 + 2⁻¹² is a float32; its square is none. What is linear leaves exactly nothing.
    slope = np.full((1, 1), 1 + 2.0**-12, np.float32)
    integrand = FunctionIntegrand(lambda z: (1 + 2.0**-12) * z[:, 0].astype(np.float64))
    remainder = _Remainder(integrand, np.zeros((1, 1), np.float32), np.zeros(1), slope, np.zeros_like(slope))
    assert remainder.value(slope) == 0


@pytest.mark.parametrize(("name", "cost"), [("taylor-pathwise", (7, 7)), ("taylor-score-function", (7, 1))])
def test_cost_is_one_evaluation_and_one_gradient_more(rng, name, cost):
    known, curvature = INTEGRANDS["coupled"]
    integrand = FunctionIntegrand(known.value, known.gradient, curvature)
    for dtype in (np.float32, np.float64):
        noise = rng.standard_normal((6, 2)).astype(dtype)
        gradients = make_estimator(name).sample_gradients(
            integrand, MEANS.astype(dtype), LOG_VARS.astype(dtype), noise
        )
        assert [(gradient.shape, gradient.dtype) for gradient in gradients] == [((6, 2), dtype)] * 2
    assert (integrand.evaluations, integrand.differentiations) == (2 * cost[0], 2 * cost[1])


def test_examples_of_a_batch_do_not_mix(rng):
    known, curvature = INTEGRANDS["coupled"]
    noise, means, log_vars = (rng.standard_normal(shape) for shape in ((4, 3, 2), (3, 2), (3, 2)))
    integrand = FunctionIntegrand(known.value, known.gradient, curvature)
    for name in NAMES:
        together = make_estimator(name).sample_gradients(integrand, means, log_vars, noise)
        for b in range(3):
            alone = make_estimator(name).sample_gradients(integrand, means[b], log_vars[b], noise[:, b])
            for one, other in zip(together, alone, strict=True):
                np.testing.assert_allclose(one[:, b], other, rtol=1e-11, atol=1e-13)


@pytest.mark.equation("14.8")
def test_second_derivative_of_the_bound_s_terms():
    # λ for a pixel of either likelihood, and the sampled divergence with its parameters held fixed.
    logit, pixel, variance, z = sympy.symbols("a x v z", positive=True)
    probability = 1 / (1 + sympy.exp(-logit))
    bernoulli = pixel * logit - sympy.log(1 + sympy.exp(logit))
    assert_identical(sympy.diff(bernoulli, logit, 2), -probability * (1 - probability))
    assert_identical(sympy.diff(-((pixel - logit) ** 2) / (2 * variance), logit, 2), -1 / variance)
    divergence = -((z - A) ** 2) / (2 * VARIANCE) + z**2 / 2
    assert_identical(sympy.diff(divergence, z, 2), 1 - 1 / VARIANCE)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize(("depth", "activation"), [(0, "identity"), (1, "tanh"), (2, "softplus")])
def test_hessian_of_a_decoder_is_that_of_the_oracle(rng, depth, activation, likelihood, kl):
    case = make_case(rng, depth=depth, activation=activation, likelihood=likelihood, kl=kl, num_samples=2)
    mean, log_var = case.vae.encode(case.x)
    z = rng.standard_normal((2, 3, 2))
    integrand = case.vae.integrand(case.x, mean, log_var, 0.6)
    integrand.value(case.noise)
    found = integrand.hessian_diagonal(z)
    expected = np.empty(z.shape)
    for s, b, i in np.ndindex(z.shape):

        def along(t, s=s, b=b, i=i):
            moved = z[s, b].astype(complex)
            moved[i] = t
            output = vae_oracle.decode(case.vae.parameters, moved, activation)
            value = vae_oracle.log_likelihood(case.x[b], output, likelihood, case.vae.likelihood_variance)
            return value - 0.6 * (kl == "sampled") * vae_oracle.log_ratio(moved, mean[b], np.exp(log_var[b]))

        expected[s, b, i] = cauchy_second_derivative(along, z[s, b, i])
    assert_close_to_largest(found, expected, 1e-10)
    # And what was evaluated last is still what the decoder's own gradients are of.
    fresh = case.vae.integrand(case.x, mean, log_var, 0.6)
    fresh.value(case.noise)
    np.testing.assert_array_equal(integrand.decoder_gradients()[0][0], fresh.decoder_gradients()[0][0])


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_it_trains_a_vae(rng, name, order, kl):
    case = make_case(rng, num_samples=2, kl=kl)
    expected_loss, expected = case.vae.loss_and_gradients(case.x, case.noise)
    estimator = make_estimator(name, order=order)
    loss, gradients = case.vae.loss_and_gradients(case.x, case.noise, estimator=estimator)
    assert loss == expected_loss
    np.testing.assert_array_equal(gradients["decoder.0.weight"], expected["decoder.0.weight"])


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_expectation_for_a_vae_is_the_pathwise_one(rng, name, order, kl):
    # Linear with a Gaussian likelihood: polynomials of degree four in the noise, for which three nodes are exact.
    case = make_case(rng, depth=0, likelihood="gaussian", kl=kl, batch=2)
    nodes, weights = gauss_hermite_product(3, 2)
    means, spreads = [], []
    for estimator in ("pathwise", make_estimator(name, order=order)):
        gradients = []
        for node in nodes:
            case.vae.loss_and_gradients(case.x, np.tile(node, (2, 1)), estimator=estimator)
            gradients.append(case.vae.gradient.copy())
        means.append(weights @ np.array(gradients))
        encoder = [n for n, key in enumerate(case.vae.gradients) if key.startswith("encoder")]
        size = sum(list(case.vae.gradients.values())[n].size for n in encoder)
        spreads.append((weights @ (np.array(gradients) - means[-1]) ** 2)[:size].sum())
    np.testing.assert_allclose(means[1], means[0], rtol=0, atol=1e-12 * np.abs(means[0]).max())
    if name == "taylor-pathwise" and order == 2 and kl == "analytic":
        assert spreads[1] < spreads[0], "only mixed derivatives are left to be noisy"


def test_an_integrand_without_a_hessian_is_refused_at_order_two():
    class Bare:
        evaluations = differentiations = 0

        def value(self, z):
            return z.sum(axis=-1)

        def value_and_gradient(self, z):
            return self.value(z), np.ones_like(z)

    arguments = (Bare(), np.zeros(2), np.zeros(2), np.ones((3, 2)))
    make_estimator("taylor-pathwise", order=1).sample_gradients(*arguments)
    with pytest.raises(ValueError, match="Bare offers no hessian_diagonal: take order=1"):
        make_estimator("taylor-pathwise").sample_gradients(*arguments)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"gradient": None}, ValueError, "pass gradient="),
        ({"hessian_diagonal": None}, ValueError, "pass hessian_diagonal="),
        ({"hessian_diagonal": 2.0}, TypeError, "hessian_diagonal is 2.0, expected a function of z"),
        (
            {"hessian_diagonal": lambda z: z[:, 0]},
            ValueError,
            "hessian_diagonal has shape (1,), expected (1, 2)",
        ),
        ({"hessian_diagonal": lambda z: z * np.nan}, ValueError, "hessian_diagonal has the value nan"),
        ({"order": 3}, ValueError, "order is 3, expected one of: 1, 2"),
    ],
    ids=["no gradient", "no hessian", "a number", "shape", "nan", "order"],
)
def test_what_is_wrong_is_refused_in_one_sentence(changes, error, words):
    known, curvature = INTEGRANDS["coupled"]
    arguments = {"gradient": known.gradient, "hessian_diagonal": curvature, "num_samples": 4, "rng": 0}
    with pytest.raises(error) as caught:
        gradient_samples(known.value, MEANS, LOG_VARS, "taylor-score-function", **(arguments | changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_measure_valued_gradients_too(rng):
    # An expansion of second order of a quadratic leaves nothing, whoever samples it.
    known, curvature = INTEGRANDS["quadratic"]
    noise = rng.standard_normal((5, 2))
    gradients = Taylor(make_estimator("measure-valued")).sample_gradients(
        FunctionIntegrand(known.value, known.gradient, curvature), MEANS, LOG_VARS, noise
    )
    for gradient, exact in zip(gradients, exact_gradient(known, MEANS, LOG_VARS), strict=True):
        np.testing.assert_allclose(gradient, np.tile(exact, (5, 1)), rtol=1e-11)
