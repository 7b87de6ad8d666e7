"""The pathwise gradient: what the note claims, and that the shipped estimator has that expectation and spread."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import sympy

from scratchvae.densities.gaussian import gaussian_sample_forward
from scratchvae.estimators import FunctionIntegrand
from scratchvae.estimators.pathwise import Pathwise
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

MEAN, LOG_VAR, NOISE, Z = sympy.symbols("mu ell epsilon z", real=True)
DEVIATION = sympy.exp(LOG_VAR / 2)
SAMPLE = MEAN + DEVIATION * NOISE
COEFFICIENTS = sympy.symbols("c:5", real=True)
# Every polynomial of degree four at once: the claims are linear in f.
QUARTIC = sum(coefficient * Z**power for power, coefficient in enumerate(COEFFICIENTS))

DIGITS = 50
CLOSE = mpmath.mpf(10) ** -30  # central differences of an integral at 50 digits keep more than 30


def expectation(expression):
    return symbolic_expectation(expression, NOISE)


def assert_identical(one, other):
    assert sympy.simplify(one - other) == 0


def derivative(function, point):
    """Central difference of fourth order, by a step that leaves forty digits of truncation and of rounding."""
    step = mpmath.mpf(10) ** -10

    def slope(h):
        return (function(point + h) - function(point - h)) / (2 * h)

    return (4 * slope(step) - slope(2 * step)) / 3


# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("6.1")
def test_general_theorem_away_from_the_gaussian():
    # z = −log(u)/λ is exponential with rate λ for uniform u; E z³ = 6/λ³ from the density, not from the sampler.
    u, rate, z = sympy.symbols("u lambda z", positive=True)
    from_density = sympy.diff(sympy.integrate(z**3 * rate * sympy.exp(-rate * z), (z, 0, sympy.oo)), rate)
    sample = -sympy.log(u) / rate
    inside = (3 * z**2).subs(z, sample) * sympy.diff(sample, rate)
    assert_identical(sympy.integrate(sympy.expand(inside), (u, 0, 1)), from_density)
    # z = σ tan(π (u − ½)) is Cauchy with scale σ; f bounded with a kink at 1: conditions (a) to (c) hold.
    with mpmath.workdps(30):
        scale = mpmath.mpf("0.7")
        kink = mpmath.atan(1 / scale)  # as an angle, uniform on (−π/2, π/2)

        def expected(scale):
            cuts = [-mpmath.pi / 2, -mpmath.atan(1 / scale), 0, mpmath.atan(1 / scale), mpmath.pi / 2]
            return mpmath.quad(lambda t: min(abs(scale * mpmath.tan(t)), 1), cuts) / mpmath.pi

        inside = mpmath.quad(lambda t: abs(mpmath.tan(t)), [-kink, 0, kink]) / mpmath.pi
        assert abs(derivative(expected, scale) - inside) < mpmath.mpf(10) ** -15


@pytest.mark.equation("6.2", "6.3")
def test_gaussian_gradients_for_every_quartic():
    expected = expectation(QUARTIC.subs(Z, SAMPLE))
    slope = sympy.diff(QUARTIC, Z).subs(Z, SAMPLE)
    assert_identical(sympy.diff(expected, MEAN), expectation(slope))
    assert_identical(sympy.diff(expected, LOG_VAR), expectation(slope * DEVIATION * NOISE / 2))


def softplus(z):
    return mpmath.log1p(mpmath.exp(z))


def logistic(z):
    return 1 / (1 + mpmath.exp(-z))


@pytest.mark.equation("6.2", "6.3", "6.4", "6.5")
def test_gaussian_gradients_at_fifty_digits():
    with mpmath.workdps(DIGITS):
        mean, variance = mpmath.mpf("0.4"), mpmath.mpf("0.6")
        deviation = mpmath.sqrt(variance)

        def expected(mean, variance):
            return precise_expectation(softplus, mean, mpmath.sqrt(variance))

        def over_q(function):
            return precise_expectation(function, mean, deviation)

        by_mean = derivative(lambda m: expected(m, variance), mean)
        assert abs(over_q(logistic) - by_mean) < CLOSE
        assert abs(over_q(lambda z: softplus(z) * (z - mean) / variance) - by_mean) < CLOSE
        by_log_var = derivative(lambda ell: expected(mean, mpmath.exp(ell)), mpmath.log(variance))
        assert abs(over_q(lambda z: logistic(z) * (z - mean) / 2) - by_log_var) < CLOSE
        by_variance = derivative(lambda v: expected(mean, v), variance)
        assert abs(over_q(lambda z: logistic(z) * (1 - logistic(z))) / 2 - by_variance) < CLOSE


@pytest.mark.equation("6.4", "6.5")
def test_stein_and_price_for_every_quartic():
    f = QUARTIC.subs(Z, SAMPLE)
    first = sympy.diff(QUARTIC, Z).subs(Z, SAMPLE)
    second = sympy.diff(QUARTIC, Z, 2).subs(Z, SAMPLE)
    assert_identical(expectation(first), expectation(f * (SAMPLE - MEAN) / DEVIATION**2))
    variance = sympy.Symbol("v", positive=True)
    by_variance = sympy.diff(expectation(QUARTIC.subs(Z, MEAN + sympy.sqrt(variance) * NOISE)), variance)
    assert_identical(by_variance.subs(variance, sympy.exp(LOG_VAR)), expectation(second) / 2)


@pytest.mark.equation("6.6")
def test_variances_for_the_quadratic():
    target = sympy.Symbol("k", real=True)
    slope = sympy.diff((Z - target) ** 2, Z).subs(Z, SAMPLE)
    a, variance = MEAN - target, sympy.exp(LOG_VAR)
    assert_identical(symbolic_variance(slope, NOISE), 4 * variance)
    assert_identical(
        symbolic_variance(slope * DEVIATION * NOISE / 2, NOISE), variance * (a**2 + 2 * variance)
    )


@pytest.mark.equation("6.7")
def test_wrong_scale_has_another_variance():
    wrong = MEAN + sympy.exp(LOG_VAR) * NOISE
    assert_identical(symbolic_variance(wrong, NOISE), sympy.exp(2 * LOG_VAR))
    right = symbolic_variance(SAMPLE, NOISE)
    assert_identical(right, sympy.exp(LOG_VAR))
    assert sympy.solveset(sympy.exp(2 * LOG_VAR) - right, LOG_VAR, sympy.S.Reals) == sympy.FiniteSet(0)


SETTINGS = [("1", "1", "0.5"), ("1", "1", "5"), ("-0.3", "0.6", "2.5")]


def precise_variances(f, slope, mean, deviation):
    """(pathwise, score function) variance with respect to the mean, from the definition of variance."""
    score = lambda z: f(z) * (z - mean) / deviation**2  # noqa: E731 - one line says it

    def variance(function):
        centre = precise_expectation(function, mean, deviation)
        return precise_expectation(lambda z: (function(z) - centre) ** 2, mean, deviation)

    return variance(slope), variance(score)


@pytest.mark.equation("6.8")
@pytest.mark.parametrize(("mean", "deviation", "k"), SETTINGS)
def test_variances_for_cosine(mean, deviation, k):
    with mpmath.workdps(30):
        mean, deviation, k = map(mpmath.mpf, (mean, deviation, k))
        found = precise_variances(
            lambda z: mpmath.cos(k * z), lambda z: -k * mpmath.sin(k * z), mean, deviation
        )
        claimed = oracle.cosine_variances(*map(float, (mean, deviation, k)))
        for one, other in zip(found, claimed, strict=True):
            assert abs(one - other) < 1e-13 * abs(one)


@pytest.mark.equation("6.10")
@pytest.mark.parametrize(("mean", "deviation", "k"), SETTINGS)
def test_variances_for_a_bell(mean, deviation, k):
    with mpmath.workdps(30):
        mean, deviation, k = map(mpmath.mpf, (mean, deviation, k))
        found = precise_variances(
            lambda z: mpmath.exp(-k * z * z), lambda z: -2 * k * z * mpmath.exp(-k * z * z), mean, deviation
        )
        claimed = oracle.bell_variances(*map(float, (mean, deviation, k)))
        for one, other in zip(found, claimed, strict=True):
            assert abs(one - other) < 1e-12 * abs(one)


@pytest.mark.equation("6.8", "6.10")
def test_where_pathwise_loses():
    # Mohamed et al. (2020), Figures 2 and 3: z ~ N(1, 1), a hundred values of k in equal ratios. Pathwise is worse
    # from one of them on, and at all that follow.
    for variances, low, high, first, crossing in (
        (oracle.cosine_variances, 0.5, 5.0, 1.08, 1.06378),
        (oracle.bell_variances, 0.1, 10.0, 0.89, 0.86995),
    ):
        grid = np.geomspace(low, high, 100)
        worse = [pathwise > score for pathwise, score in (variances(1.0, 1.0, k) for k in grid.tolist())]
        assert worse == sorted(worse)
        assert grid[worse.index(True)] == pytest.approx(first, abs=0.005)
        below, above = (variances(1.0, 1.0, crossing * factor) for factor in (0.9999, 1.0001))
        assert below[0] < below[1]
        assert above[0] > above[1]
    assert oracle.cosine_variances(1.0, 1.0, 5.0) == pytest.approx((12.5, 0.50), abs=0.005)
    assert oracle.bell_variances(1.0, 1.0, 1.0) == pytest.approx((0.2117, 0.1758), abs=5e-5)


@pytest.mark.equation("6.9")
def test_a_step_is_invisible_to_the_pathwise_gradient():
    with mpmath.workdps(DIGITS):
        mean, deviation = mpmath.mpf("0.4"), mpmath.mpf("0.8")

        def expected(mean):  # ∫₀^∞ N(z; mean, deviation²) dz
            return mpmath.quad(
                lambda z: mpmath.npdf(z, mean, deviation), range(0, 16, 2), method="gauss-legendre"
            )

        claimed = mpmath.npdf(mean / deviation) / deviation
        assert claimed > 0
        assert abs(derivative(expected, mean) - claimed) < CLOSE
    step = FunctionIntegrand(lambda z: (z[:, 0] > 0).astype(float), np.zeros_like)
    dmean, dlog_var = Pathwise().sample_gradients(
        step, np.array([0.4]), np.log([0.64]), gauss_hermite(20)[0][:, None]
    )
    assert not dmean.any()
    assert not dlog_var.any()


@pytest.mark.equation("6.11")
def test_redrawn_noise_leaves_nothing_for_the_log_variance():
    redrawn = sympy.Symbol("redrawn", real=True)
    slope = sympy.diff(QUARTIC, Z).subs(Z, SAMPLE)
    assert symbolic_expectation(slope * DEVIATION * redrawn / 2, NOISE, redrawn) == 0
    assert expectation(slope * DEVIATION * NOISE / 2) != 0


@pytest.mark.equation("6.12")
def test_noise_shared_by_the_latent_dimensions_is_another_distribution():
    means, log_vars = sympy.symbols("mu1:3", real=True), sympy.symbols("ell1:3", real=True)
    other = sympy.Symbol("other", real=True)
    first = means[0] + sympy.exp(log_vars[0] / 2) * NOISE
    shared = symbolic_expectation(first * (means[1] + sympy.exp(log_vars[1] / 2) * NOISE), NOISE)
    product_of_deviations = sympy.exp(log_vars[0] / 2) * sympy.exp(log_vars[1] / 2)
    assert_identical(shared, means[0] * means[1] + product_of_deviations)
    assert_identical(sympy.diff(shared, log_vars[0]), product_of_deviations / 2)
    independent = symbolic_expectation(first * (means[1] + sympy.exp(log_vars[1] / 2) * other), NOISE, other)
    assert sympy.diff(independent, log_vars[0]) == 0


@pytest.mark.equation("6.13")
def test_the_collapsed_model_is_a_stationary_point():
    constant, weight, offset, x = sympy.symbols("c w c0 x", real=True)
    divergence = (MEAN**2 + sympy.exp(LOG_VAR) - 1 - LOG_VAR) / 2
    objective = constant - divergence
    stationary = sympy.solve([sympy.diff(objective, MEAN), sympy.diff(objective, LOG_VAR)], [MEAN, LOG_VAR])
    assert stationary in ([(0, 0)], {MEAN: 0, LOG_VAR: 0})
    logit = weight * Z + offset
    log_likelihood = x * logit - sympy.log(1 + sympy.exp(logit))
    by_weight = sympy.diff(log_likelihood, weight).subs(weight, 0)
    logistic_of_offset = 1 / (1 + sympy.exp(-offset))
    expected = expectation(sympy.expand(sympy.simplify(by_weight).subs(Z, SAMPLE)))
    assert_identical(expected, MEAN * (x - logistic_of_offset))
    assert sympy.simplify(expected.subs(MEAN, 0)) == 0


# --- the shipped estimator --------------------------------------------------------------------------------

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


@pytest.mark.parametrize("name", INTEGRANDS)
def test_expectation_is_the_gradient_of_the_exact_expectation(name):
    known = INTEGRANDS[name]
    nodes, weights = gauss_hermite_product(32, 2)
    gradients = Pathwise().sample_gradients(
        FunctionIntegrand(known.value, known.gradient), MEANS, LOG_VARS, nodes
    )
    for gradient, exact in zip(gradients, exact_gradient(known, MEANS, LOG_VARS), strict=True):
        assert gradient.shape == nodes.shape
        np.testing.assert_allclose(weighted_mean(weights, gradient), exact, rtol=1e-12, atol=1e-13)


def test_examples_of_a_batch_do_not_mix():
    # (S, B, L) with a different distribution for each example, noise the same for all: each is exact by itself.
    known = INTEGRANDS["coupled"]
    means, log_vars = np.stack([MEANS, -2 * MEANS, MEANS + 1]), np.stack([LOG_VARS, LOG_VARS - 1, LOG_VARS])
    nodes, weights = gauss_hermite_product(8, 2)
    noise = np.repeat(nodes[:, None, :], 3, axis=1)
    gradients = Pathwise().sample_gradients(
        FunctionIntegrand(known.value, known.gradient), means, log_vars, noise
    )
    for b in range(3):
        exact = exact_gradient(known, means[b], log_vars[b])
        for gradient, expected in zip(gradients, exact, strict=True):
            np.testing.assert_allclose(
                weighted_mean(weights, gradient[:, b]), expected, rtol=1e-12, atol=1e-13
            )


@pytest.mark.parametrize(
    ("mean", "deviation", "target"), [(1.0, 1.0, -3.0), (0.3, 0.2, 0.5), (-2.0, 1.7, 0.0)]
)
def test_variances_are_the_closed_forms(mean, deviation, target):
    nodes, weights = gauss_hermite(12)
    known = oracle.quadratic(target)
    gradients = Pathwise().sample_gradients(
        FunctionIntegrand(known.value, known.gradient),
        np.array([mean]),
        2 * np.log([deviation]),
        nodes[:, None],
    )
    published = oracle.quadratic_variances(mean, deviation, target)
    for parameter, gradient in zip(("mean", "log_var"), gradients, strict=True):
        centre = weights @ gradient[:, 0]
        variance = weights @ (gradient[:, 0] - centre) ** 2
        assert variance == pytest.approx(published["pathwise", parameter], rel=1e-11)


def test_samples_are_those_of_the_declared_distribution():
    # The one thing that neither finite differences nor complex step can see: moments of z, by the sampler's own noise.
    nodes, weights = gauss_hermite(6)
    seen = []

    def record(z):
        seen.append(z)
        return z[:, 0]

    Pathwise().sample_gradients(
        FunctionIntegrand(record, np.ones_like), MEANS[:1], LOG_VARS[:1], nodes[:, None]
    )
    (z,) = seen
    assert weights @ z[:, 0] == pytest.approx(MEANS[0], rel=1e-13)
    assert weights @ (z[:, 0] - MEANS[0]) ** 2 == pytest.approx(np.exp(LOG_VARS[0]), rel=1e-12)


def test_dtype_is_kept():
    noise = np.linspace(-2, 2, 10, dtype=np.float32).reshape(5, 2)
    known = oracle.quadratic(0.0)
    gradients = Pathwise().sample_gradients(
        FunctionIntegrand(known.value, known.gradient),
        MEANS.astype(np.float32),
        LOG_VARS.astype(np.float32),
        noise,
    )
    assert [gradient.dtype for gradient in gradients] == [np.float32, np.float32]


# --- what the checks above would not let through ----------------------------------------------------------


class Planted(Pathwise):
    """Pathwise with a mistake that public code makes; `slip` maps the two right gradients to wrong ones."""

    def __init__(self, slip):
        self.slip = slip

    def sample_gradients(self, integrand, mean, log_var, noise):
        return self.slip(*super().sample_gradients(integrand, mean, log_var, noise), noise)


SLIPS = {
    "σε for ½σε": lambda dmean, dlog_var, _noise: (dmean, 2 * dlog_var),
    "noise redrawn": lambda dmean, dlog_var, noise: (dmean, dlog_var / noise * np.roll(noise, 7, axis=0)),
    "a factor 1.00001": lambda dmean, dlog_var, _noise: (dmean, 1.00001 * dlog_var),
    "exchanged": lambda dmean, dlog_var, _noise: (dlog_var, dmean),
    "sign": lambda dmean, dlog_var, _noise: (-dmean, -dlog_var),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_planted_mistake_is_seen_by_quadrature(slip):
    known = INTEGRANDS["coupled"]
    nodes, weights = gauss_hermite_product(32, 2)
    integrand = FunctionIntegrand(known.value, known.gradient)
    gradients = Planted(SLIPS[slip]).sample_gradients(integrand, MEANS, LOG_VARS, nodes)
    errors = [
        np.abs(weighted_mean(weights, gradient) / exact - 1).max()
        for gradient, exact in zip(gradients, exact_gradient(known, MEANS, LOG_VARS), strict=True)
    ]
    assert max(errors) > 1e-6


def test_the_wrong_scale_is_seen_although_it_is_consistent():
    # z = μ + e^ℓ ε on both ways is the right estimator of 2ℓ: its own finite differences would agree with it.
    known = INTEGRANDS["coupled"]
    nodes, weights = gauss_hermite_product(32, 2)
    integrand = FunctionIntegrand(known.value, known.gradient)
    _, dlog_var = Pathwise().sample_gradients(integrand, MEANS, 2 * LOG_VARS, nodes)
    consistent = exact_gradient(known, MEANS, 2 * LOG_VARS)
    np.testing.assert_allclose(weighted_mean(weights, dlog_var), consistent[1], rtol=1e-12)
    _, exact = exact_gradient(known, MEANS, LOG_VARS)
    assert np.abs(weighted_mean(weights, 2 * dlog_var) / exact - 1).max() > 0.1
    z, _ = gaussian_sample_forward(MEANS, 2 * LOG_VARS, nodes)
    assert not np.allclose(weighted_mean(weights, (z - MEANS) ** 2), np.exp(LOG_VARS), rtol=0.1)
