"""The diagonal Gaussian: definitions, two oracles per gradient, values by hand, moments, and far ends.

Statistical tests compare a statistic of known distribution with its quantiles.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import sympy
from scipy import stats

from scratchvae.densities.gaussian import (
    gaussian_entropy_backward,
    gaussian_entropy_forward,
    gaussian_kl_backward,
    gaussian_kl_forward,
    gaussian_likelihood_backward,
    gaussian_likelihood_forward,
    gaussian_log_density_backward,
    gaussian_log_density_forward,
    gaussian_sample_backward,
    gaussian_sample_forward,
    gaussian_score,
)
from tests.oracles import densities as oracle
from tests.oracles.complex_step import (
    COMPLEX_STEP_TOLERANCE,
    DIFFERENCE_TOLERANCE,
    assert_close_to_largest,
    assert_linear,
    complex_step_vjp,
    five_point_vjp,
    unchanged,
)

SCALES = (1e-3, 1.0, 1e3)
each_batch_size = pytest.mark.parametrize("examples", [1, 2, 64])
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])

# ---------------------------------------------------------------- the equations

z, mu, ell, s, eps = sympy.symbols("z mu ell s epsilon", real=True)
variance = sympy.symbols("V", positive=True)  # e^ell, where an integral has to know its sign
log_q = -(sympy.log(2 * sympy.pi) + ell + (z - mu) ** 2 * sympy.exp(-ell)) / 2  # (4.1)
log_p = log_q.subs({mu: 0, ell: 0})


def _expectation_under_q(value):
    """∫ q(z) value(z) dz, as a function of mu and ell."""
    in_variance = {ell: sympy.log(variance)}
    q = sympy.exp(log_q.subs(in_variance))
    integral = sympy.integrate(sympy.expand(q * value.subs(in_variance)), (z, -sympy.oo, sympy.oo))
    return sympy.simplify(integral).subs(variance, sympy.exp(ell))


def _is_zero(expression):
    return sympy.simplify(sympy.expand_log(sympy.expand(expression), force=True)) == 0


def test_the_definition_is_a_density_whose_variance_is_e_to_the_ell():
    assert _is_zero(_expectation_under_q(sympy.Integer(1)) - 1)
    assert _is_zero(_expectation_under_q((z - mu) ** 2) - sympy.exp(ell))


@pytest.mark.equation("4.2", "4.3", "4.4")
def test_derivatives_of_the_log_density():
    assert _is_zero(log_q.diff(z) + (z - mu) * sympy.exp(-ell))
    assert _is_zero(log_q.diff(mu) - (z - mu) * sympy.exp(-ell))
    assert _is_zero(log_q.diff(ell) - ((z - mu) ** 2 * sympy.exp(-ell) - 1) / 2)


@pytest.mark.equation("4.5", "4.6")
def test_entropy_and_its_derivatives():
    entropy = -_expectation_under_q(log_q)
    assert _is_zero(entropy - (sympy.log(2 * sympy.pi * sympy.E) + ell) / 2)
    assert _is_zero(entropy.diff(ell) - sympy.Rational(1, 2))
    assert _is_zero(entropy.diff(mu))


@pytest.mark.equation("4.7", "4.8")
def test_kl_divergence_and_its_derivatives():
    kl = _expectation_under_q(log_q - log_p)
    assert _is_zero(kl - (mu**2 + sympy.exp(ell) - 1 - ell) / 2)
    assert _is_zero(kl.diff(mu) - mu)
    assert _is_zero(kl.diff(ell) - (sympy.exp(ell) - 1) / 2)


@pytest.mark.equation("4.10")
def test_derivatives_of_a_sample():
    loss, at = sympy.Function("f"), sympy.Dummy()
    sample = mu + sympy.exp(ell / 2) * eps
    dz = loss(at).diff(at).subs(at, sample)
    assert sympy.expand((loss(sample).diff(mu) - dz).doit()) == 0
    assert sympy.expand((loss(sample).diff(ell) - dz * sympy.exp(ell / 2) * eps / 2).doit()) == 0


@pytest.mark.equation("4.11")
def test_moments_of_a_sample():
    normal = sympy.exp(-(eps**2) / 2) / sympy.sqrt(2 * sympy.pi)
    sample = mu + sympy.exp(ell / 2) * eps  # (4.9)

    def mean(value):
        return sympy.simplify(sympy.integrate(sympy.expand(value) * normal, (eps, -sympy.oo, sympy.oo)))

    assert _is_zero(mean(sample) - mu)
    assert _is_zero(mean((sample - mu) ** 2) - sympy.exp(ell))
    # they are the moments of the density (4.1) that the rest of the note is about
    assert _is_zero(mean((sample - mu) ** 2) - _expectation_under_q((z - mu) ** 2))


pixels = 3
x_symbols, m_symbols = sympy.symbols(f"x:{pixels}", real=True), sympy.symbols(f"m:{pixels}", real=True)


def _log_likelihood(variance):
    terms = zip(x_symbols, m_symbols, strict=True)
    return -sum((x - m) ** 2 / variance + sympy.log(2 * sympy.pi * variance) for x, m in terms) / 2  # (4.12)


@pytest.mark.equation("4.13")
def test_derivative_of_the_likelihood():
    for x, m in zip(x_symbols, m_symbols, strict=True):
        assert _is_zero(_log_likelihood(variance).diff(m) - (x - m) / variance)


@pytest.mark.equation("4.14")
def test_a_variance_is_a_weight_of_the_kl():
    beta, kl = sympy.symbols("beta", positive=True), sympy.Function("KL")(mu, ell)

    def loss(variance, beta):
        return -_log_likelihood(variance) + beta * kl

    constant = variance * loss(variance, beta) - loss(1, beta * variance)
    assert all(_is_zero(constant.diff(symbol)) for symbol in (*m_symbols, *x_symbols, mu, ell, beta))
    claimed = sympy.Rational(pixels, 2) * (
        variance * sympy.log(2 * sympy.pi * variance) - sympy.log(2 * sympy.pi)
    )
    assert _is_zero(constant - claimed)


@pytest.mark.equation("4.15")
def test_kl_divergence_in_log_sigma():
    kl = _expectation_under_q(log_q - log_p)
    in_log_sigma = kl.subs(ell, 2 * s)
    assert _is_zero(in_log_sigma - (mu**2 + sympy.exp(2 * s) - 1 - 2 * s) / 2)
    assert _is_zero(in_log_sigma.diff(s) - (sympy.exp(2 * s) - 1))
    assert _is_zero(in_log_sigma.diff(s) - 2 * kl.diff(ell).subs(ell, 2 * s))


@pytest.mark.equation("4.16")
def test_best_variance_is_the_mean_square():
    slope = _log_likelihood(variance).diff(variance)
    (best,) = sympy.solve(slope, variance)
    mean_square = sum((x - m) ** 2 for x, m in zip(x_symbols, m_symbols, strict=True)) / pixels
    assert _is_zero(best - mean_square)
    # positive below, negative above: v² times the slope falls in v
    assert sympy.simplify((slope * variance**2).diff(variance) + sympy.Rational(pixels, 2)) == 0


# ---------------------------------------------------------------- gradients against two oracles


def _parameters(rng, examples, latent_dim=2):
    """Means up to 2, standard deviations between 0.55 and 2: inside the range of the oracles' quadrature."""
    return rng.uniform(-2, 2, (examples, latent_dim)), rng.uniform(-1.2, 1.4, (examples, latent_dim))


def _check(backward, cotangent, names, twin, shipped):
    for scale in SCALES:
        gradients = backward(scale * cotangent)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        for name, actual, exact, difference in zip(names, gradients, twin, shipped, strict=True):
            assert_close_to_largest(actual, scale * exact, COMPLEX_STEP_TOLERANCE, name)
            assert_close_to_largest(actual, scale * difference, DIFFERENCE_TOLERANCE, name)


@each_batch_size
def test_log_density_gradients(rng, examples):
    mean, log_var = _parameters(rng, examples)
    z, dy = rng.standard_normal((3, examples, 2)), rng.standard_normal((3, examples))
    # one mean and log-variance per sample, to see the gradient of each sample
    arguments = (z, *(np.repeat(a[np.newaxis], 3, axis=0) for a in (mean, log_var)))
    y, cache = gaussian_log_density_forward(z, mean, log_var)
    assert_close_to_largest(y, oracle.gaussian_log_density(*arguments), 1e-14, "log_density")
    _check(
        lambda d: gaussian_log_density_backward(d, cache),
        dy,
        ("dz", "dmean", "dlog_var"),
        complex_step_vjp(oracle.gaussian_log_density, arguments, dy),
        five_point_vjp(lambda *a: gaussian_log_density_forward(*a)[0], arguments, dy),
    )
    # what the samples of one example share receives their sum
    _, *shared = five_point_vjp(lambda *a: gaussian_log_density_forward(*a)[0], (z, mean, log_var), dy)
    for gradient, difference in zip(gaussian_log_density_backward(dy, cache)[1:], shared, strict=True):
        assert_close_to_largest(gradient.sum(axis=0), difference, DIFFERENCE_TOLERANCE)


@each_batch_size
def test_entropy_gradient(rng, examples):
    mean, log_var = _parameters(rng, examples)
    dy = rng.standard_normal(examples)
    y, cache = gaussian_entropy_forward(log_var)
    # whatever the mean is
    assert_close_to_largest(y, oracle.gaussian_entropy(mean, log_var), 1e-14, "entropy")
    _check(
        lambda d: gaussian_entropy_backward(d, cache),
        dy,
        ("dlog_var",),
        complex_step_vjp(lambda log_var: oracle.gaussian_entropy(mean, log_var), (log_var,), dy),
        five_point_vjp(lambda log_var: gaussian_entropy_forward(log_var)[0], (log_var,), dy),
    )


@each_batch_size
def test_kl_gradients(rng, examples):
    arguments = _parameters(rng, examples)
    dy = rng.standard_normal(examples)
    y, cache = gaussian_kl_forward(*arguments)
    assert_close_to_largest(y, oracle.gaussian_kl(*arguments), 1e-14, "kl")
    _check(
        lambda d: gaussian_kl_backward(d, cache),
        dy,
        ("dmean", "dlog_var"),
        complex_step_vjp(oracle.gaussian_kl, arguments, dy),
        five_point_vjp(lambda *a: gaussian_kl_forward(*a)[0], arguments, dy),
    )


@each_batch_size
def test_sample_gradients(rng, examples):
    mean, log_var = _parameters(rng, examples)
    noise, dz = rng.standard_normal((2, 3, examples, 2))
    arguments = tuple(np.repeat(a[np.newaxis], 3, axis=0) for a in (mean, log_var))
    z, cache = gaussian_sample_forward(mean, log_var, noise)
    assert_close_to_largest(z, oracle.gaussian_sample(*arguments, noise), 1e-15, "z")
    _check(
        lambda d: gaussian_sample_backward(d, cache),
        dz,
        ("dmean", "dlog_var"),
        complex_step_vjp(lambda *a: oracle.gaussian_sample(*a, noise), arguments, dz),
        five_point_vjp(lambda *a: gaussian_sample_forward(*a, noise)[0], arguments, dz),
    )
    shared = five_point_vjp(lambda *a: gaussian_sample_forward(*a, noise)[0], (mean, log_var), dz)
    for gradient, difference in zip(gaussian_sample_backward(dz, cache), shared, strict=True):
        assert_close_to_largest(gradient.sum(axis=0), difference, DIFFERENCE_TOLERANCE)


@each_batch_size
@pytest.mark.parametrize("variance", [1.0, 0.04, 7.5])
def test_likelihood_gradient(rng, examples, variance):
    x, mean = rng.uniform(size=(examples, 3)), rng.standard_normal((2, examples, 3))
    dy = rng.standard_normal((2, examples))
    y, cache = gaussian_likelihood_forward(x, mean, variance)
    assert_close_to_largest(y, oracle.gaussian_likelihood(x, mean, variance), 1e-14, "log_likelihood")
    _check(
        lambda d: gaussian_likelihood_backward(d, cache),
        dy,
        ("dmean",),
        complex_step_vjp(lambda mean: oracle.gaussian_likelihood(x, mean, variance), (mean,), dy),
        five_point_vjp(lambda mean: gaussian_likelihood_forward(x, mean, variance)[0], (mean,), dy),
    )


# ---------------------------------------------------------------- values by hand, at 30 digits

MEAN, LOG_VAR = np.array([[0.3, -1.2]]), np.array([[0.5, -0.7]])


def _close(actual, by_hand):
    np.testing.assert_allclose(actual, by_hand, rtol=1e-11, atol=0)


def test_log_density_by_hand():
    # −½ (2 log 2π + 0.5 − 0.7 + 0.8² e^−0.5 + 0.8² e^0.7)
    y, cache = gaussian_log_density_forward(np.array([[1.1, -0.4]]), MEAN, LOG_VAR)
    _close(y, [-2.57636774390794066603])
    dz, dmean, dlog_var = gaussian_log_density_backward(np.ones(1), cache)
    # 0.8 e^−0.5, 0.8 e^0.7; ½ (0.64 e^−0.5 − 1), ½ (0.64 e^0.7 − 1)
    _close(dz, [[-0.485224527770106738883, -1.61100216597638121730]])
    _close(dmean, [[0.485224527770106738883, 1.61100216597638121730]])
    _close(dlog_var, [[-0.305910188891957304447, 0.144400866390552486920]])


def test_score_by_hand():
    # ε e^−ℓ/2: 0.5 e^−0.25, −1.5 e^0.35; ½ (ε² − 1): ½ (0.25 − 1), ½ (2.25 − 1)
    score_mean, score_log_var = gaussian_score(np.array([[0.5, -1.5]]), LOG_VAR)
    _close(score_mean, [[0.389400391535702434123, -2.12860132288988587241]])
    np.testing.assert_array_equal(score_log_var, [[-0.375, 0.625]])


def test_entropy_by_hand():
    # ½ (2 log 2πe + 0.5 − 0.7)
    y, cache = gaussian_entropy_forward(LOG_VAR)
    _close(y, [2.73787706640934548356])
    np.testing.assert_array_equal(gaussian_entropy_backward(np.array([3.0]), cache), [[1.5, 1.5]])


def test_kl_by_hand():
    # ½ (0.09 + 1.44 + e^0.5 + e^−0.7 − 2 − 0.5 + 0.7)
    y, cache = gaussian_kl_forward(MEAN, LOG_VAR)
    _close(y, [0.937653287245768830777])
    dmean, dlog_var = gaussian_kl_backward(np.ones(1), cache)
    np.testing.assert_array_equal(dmean, MEAN)
    # ½ (e^0.5 − 1), ½ (e^−0.7 − 1); with log σ for log σ² they would be e^1 − 1 and e^−1.4 − 1
    _close(dlog_var, [[0.324360635350064073424, -0.251707348104295242648]])


def test_sample_by_hand():
    # 0.3 + 0.5 e^0.25, −1.2 − 1.5 e^−0.35; with the variance for the standard deviation: 0.3 + 0.5 e^0.5, …
    z, cache = gaussian_sample_forward(MEAN, LOG_VAR, np.array([[0.5, -1.5]]))
    _close(z, [[0.942012708343870742037, -2.25703213457807015153]])
    dmean, dlog_var = gaussian_sample_backward(np.array([[2.0, 1.0]]), cache)
    np.testing.assert_array_equal(dmean, [[2.0, 1.0]])
    # 2 · ½ · 0.5 e^0.25, ½ · (−1.5) e^−0.35
    _close(dlog_var, [[0.642012708343870742037, -0.528516067289035075766]])


def test_likelihood_by_hand():
    # −½ ((0.25² + 0.8² + 0.3²) / v + 3 log 2πv) with v = 0.04, and with v = 1, constants included
    x, mean = np.array([[0.25, 1.0, 0.0]]), np.array([[0.5, 0.2, -0.3]])
    y, cache = gaussian_likelihood_forward(x, mean, 0.04)
    _close(y, [-7.83475186231171710154])
    _close(gaussian_likelihood_backward(np.ones(1), cache), [[-6.25, 20.0, 7.5]])
    _close(gaussian_likelihood_forward(x, mean)[0], [-3.15306559961401822534])


# ---------------------------------------------------------------- what gradient checks cannot see


def test_densities_integrate_to_one():
    # A constant left out, or a variance that is not the one in the exponent, changes the mass.
    grid = np.linspace(-40, 40, 4001)[:, np.newaxis]
    for mean, log_var in ((0.5, 1.3), (-1.0, -0.8)):
        log_density, _ = gaussian_log_density_forward(grid, np.full(1, mean), np.full(1, log_var))
        np.testing.assert_allclose(0.02 * np.exp(log_density).sum(), 1, rtol=1e-13)
        log_likelihood, _ = gaussian_likelihood_forward(grid, np.full(1, mean), np.exp(log_var))
        np.testing.assert_allclose(0.02 * np.exp(log_likelihood).sum(), 1, rtol=1e-13)


def test_moments_of_two_point_noise_are_exact():
    # ±1 has the mean 0 and the variance 1, so z has the mean μ and the variance e^ℓ, without any randomness.
    mean, log_var = np.array([[0.7, -1.5, 0.0]]), np.array([[-2.0, 0.5, 1.5]])
    two_points = np.array([[[1.0] * 3], [[-1.0] * 3]])
    z, _ = gaussian_sample_forward(mean, log_var, two_points)
    np.testing.assert_allclose(z.mean(axis=0), mean, rtol=0, atol=1e-15)
    np.testing.assert_allclose(z.var(axis=0), np.exp(log_var), rtol=1e-14)


def _moments_fit(chance, z, mean, log_var):
    """Mean and variance of each of three columns against their exact distributions, two comparisons per column."""
    count = len(z)
    in_standard_errors = (z.mean(axis=0) - mean) / np.sqrt(np.exp(log_var) / count)
    scaled_variance = z.var(axis=0, ddof=1) * (count - 1) / np.exp(log_var)
    low, high = chance.between(stats.chi2(count - 1), comparisons=6)
    mean_fits = np.abs(in_standard_errors) <= chance.between(stats.norm(), comparisons=6)[1]
    return bool(np.all(mean_fits & (low <= scaled_variance) & (scaled_variance <= high)))


@each_dtype
def test_moments_of_samples(rng, chance, dtype):
    # 4000 draws in 3 dimensions. A variance that is 1.23 times too large, or a mean that is off by 0.15 σ, is noticed
    # with a probability above 0.999.
    mean, log_var = np.array([0.7, -1.5, 0.0], dtype), np.array([-2.0, 0.5, 1.5], dtype)
    noise = rng.standard_normal((4000, 3), dtype)
    z, _ = gaussian_sample_forward(mean, log_var, noise)
    assert _moments_fit(chance, z.astype(np.float64), mean, log_var)
    # the mistakes that no gradient check can see, planted: σ² for σ, 1/σ for σ, and log_var read as log σ
    for wrong_scale in (np.exp(log_var), np.exp(-0.5 * log_var), np.exp(2 * log_var)):
        for column in range(3):  # each dimension alone is enough
            wrong = mean[column] + wrong_scale[column] * noise[:, column]
            found = wrong[:, np.newaxis].astype(np.float64)
            assert not _moments_fit(chance, found, mean[column], log_var[column])


def test_samples_have_the_density_that_is_declared(rng):
    # Change of variables: log q(z) = log N(ε; 0, 1) − Σ log σ. The sampler and the density must mean the same log_var.
    mean, log_var = _parameters(rng, 5, 3)
    noise = rng.standard_normal((4, 5, 3))
    z, _ = gaussian_sample_forward(mean, log_var, noise)
    log_q, cache = gaussian_log_density_forward(z, mean, log_var)
    expected = stats.norm.logpdf(noise).sum(axis=-1) - 0.5 * log_var.sum(axis=-1)
    np.testing.assert_allclose(log_q, expected, rtol=1e-13)
    # and the score in terms of the noise is the score at the sample
    for score, derivative in zip(
        gaussian_score(noise, log_var), gaussian_log_density_backward(np.ones((4, 5)), cache)[1:], strict=True
    ):
        assert_close_to_largest(score, derivative, 1e-13)


def test_score_keeps_its_digits_where_z_minus_mean_has_lost_them():
    # In float32, with σ = e⁻⁸ beside a mean of 1, z − mean is good to three digits. The score at the noise is exact.
    noise, log_var = np.array([[0.3], [-1.7]], np.float32), np.full((2, 1), -16, np.float32)
    score_mean, score_log_var = gaussian_score(noise, log_var)
    np.testing.assert_allclose(score_mean, noise.astype(np.float64) * np.exp(8), rtol=1e-6)
    np.testing.assert_allclose(score_log_var, 0.5 * (noise.astype(np.float64) ** 2 - 1), rtol=1e-6)


def test_mean_of_the_sampled_difference_is_the_kl(rng):
    # log q − log p averaged with Gauss–Hermite weights: exact for a quadratic, and no closed form in it
    mean, log_var = _parameters(rng, 6)
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    z, _ = gaussian_sample_forward(mean, log_var, nodes[:, np.newaxis, np.newaxis] * np.ones(2))
    log_q, _ = gaussian_log_density_forward(z, mean, log_var)
    log_p, _ = gaussian_log_density_forward(z, np.zeros(2), np.zeros(2))
    # a sum over dimensions is averaged dimension by dimension, so one set of nodes serves all
    expected = weights / weights.sum() @ (log_q - log_p)
    np.testing.assert_allclose(gaussian_kl_forward(mean, log_var)[0], expected, rtol=1e-13)
    entropy = -(weights / weights.sum() @ log_q)
    np.testing.assert_allclose(gaussian_entropy_forward(log_var)[0], entropy, rtol=1e-13)


# ---------------------------------------------------------------- limits and far ends


@each_dtype
def test_kl_of_the_standard_normal_is_exactly_zero(dtype):
    zeros = np.zeros((2, 3), dtype)
    y, cache = gaussian_kl_forward(zeros, zeros)
    assert not y.any()
    assert not any(gradient.any() for gradient in gaussian_kl_backward(np.ones(2), cache))


@each_dtype
@pytest.mark.parametrize("log_var", [-60.0, -1.0, -1e-3, -1e-8, -1e-12, 1e-12, 1e-8, 1e-3, 1.0, 60.0])
def test_kl_against_fifty_digits(log_var, dtype):
    log_var = np.array([[log_var]], dtype)
    y, cache = gaussian_kl_forward(np.zeros((1, 1), dtype), log_var)
    _, dlog_var = gaussian_kl_backward(np.ones(1), cache)
    eps, exactly = float(np.finfo(dtype).eps), mpmath.mpf(float(log_var[0, 0]))
    with mpmath.workdps(50):
        kl, slope = (mpmath.expm1(exactly) - exactly) / 2, mpmath.expm1(exactly) / 2
        # the last difference, e^ℓ − 1 − ℓ, has an absolute error: that of its terms
        assert abs(float(y[0]) - kl) <= 5 * eps * (abs(mpmath.expm1(exactly)) + abs(exactly))
        assert abs(float(dlog_var[0, 0]) - slope) <= 5 * eps * abs(slope)
    assert float(y[0]) >= -eps * abs(exactly)


@each_dtype
@pytest.mark.parametrize("log_var", [-60.0, 60.0])
@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_far_log_variances_stay_finite(mean, log_var, dtype):
    # e^30 magnifies the rounding of its argument 30 times
    rtol = 40 * float(np.finfo(dtype).eps)
    mean, log_var = np.full((2, 1), mean, dtype), np.full((2, 1), log_var, dtype)
    noise = np.array([[1.5], [-0.5]], dtype)
    sigma = np.exp(log_var.astype(np.float64) / 2)
    ones = np.ones(2)

    scaled, cache = gaussian_sample_forward(np.zeros_like(mean), log_var, noise)
    np.testing.assert_allclose(scaled, sigma * noise, rtol=rtol)
    _, dlog_var = gaussian_sample_backward(np.ones_like(noise), cache)
    np.testing.assert_allclose(dlog_var, sigma * noise / 2, rtol=rtol)

    score_mean, _ = gaussian_score(noise, log_var)
    np.testing.assert_allclose(score_mean, noise / sigma, rtol=rtol)

    y, cache = gaussian_log_density_forward(scaled, np.zeros_like(mean), log_var)
    np.testing.assert_allclose(y, -(np.log(2 * np.pi) + log_var[:, 0] + noise[:, 0] ** 2) / 2, rtol=rtol)
    _, dmean, dlog_var = gaussian_log_density_backward(ones, cache)
    np.testing.assert_allclose(dmean, noise / sigma, rtol=rtol)
    np.testing.assert_allclose(dlog_var, (noise**2 - 1) / 2, rtol=rtol)

    # a point that is one, or ten thousand, away from the mean: at σ = e⁻³⁰ the density is e to the minus 10³⁴
    y, cache = gaussian_log_density_forward(mean + 1, np.zeros_like(mean), log_var)
    gradients = gaussian_log_density_backward(ones, cache)
    distance = mean.astype(np.float64) + 1
    expected = -(np.log(2 * np.pi) + log_var + (distance / sigma) ** 2) / 2
    np.testing.assert_allclose(y, expected[:, 0], rtol=rtol)
    np.testing.assert_allclose(gradients[1], distance / sigma**2, rtol=rtol)

    kl, cache = gaussian_kl_forward(mean, log_var)
    np.testing.assert_allclose(kl, (mean**2.0 + np.expm1(2 * np.log(sigma)) - log_var)[:, 0] / 2, rtol=rtol)
    dmean, dlog_var = gaussian_kl_backward(ones, cache)
    np.testing.assert_array_equal(dmean, mean)
    np.testing.assert_allclose(dlog_var, np.expm1(2 * np.log(sigma)) / 2, rtol=rtol)

    entropy, cache = gaussian_entropy_forward(log_var)
    np.testing.assert_allclose(entropy, (np.log(2 * np.pi) + 1 + log_var[:, 0]) / 2, rtol=rtol)
    np.testing.assert_array_equal(gaussian_entropy_backward(ones, cache), np.full((2, 1), 0.5))


@each_dtype
@pytest.mark.parametrize("variance", [1e-6, 1e6])
def test_far_residuals_of_the_likelihood_stay_finite(variance, dtype):
    x, mean = np.zeros((1, 2), dtype), np.array([[1e4, -1e4]], dtype)
    y, cache = gaussian_likelihood_forward(x, mean, variance)
    np.testing.assert_allclose(y, [-(1e8 / variance + np.log(2 * np.pi * variance))], rtol=1e-6)
    np.testing.assert_allclose(gaussian_likelihood_backward(np.ones(1), cache), -mean / variance, rtol=1e-6)


def test_residual_zero_has_gradient_exactly_zero(rng):
    x = rng.uniform(size=(3, 4))
    _, cache = gaussian_likelihood_forward(x, x, 0.3)
    assert not gaussian_likelihood_backward(rng.standard_normal(3), cache).any()
    mean, log_var = _parameters(rng, 3)
    _, cache = gaussian_log_density_forward(mean, mean, log_var)
    dz, dmean, dlog_var = gaussian_log_density_backward(np.ones(3), cache)
    assert not dz.any()
    assert not dmean.any()
    np.testing.assert_array_equal(dlog_var, np.full((3, 2), -0.5))


def test_dimensions_are_added_up_in_float64():
    # 2²³ and a thousand times ½: float32, whose spacing is 1 there, would lose most of the halves.
    mean = np.zeros((1, 1001), np.float32)
    mean[0, 0] = 2.0**12
    mean[0, 1:] = 1
    kl, _ = gaussian_kl_forward(mean, np.zeros_like(mean))
    np.testing.assert_allclose(kl, [2.0**23 + 500], rtol=1e-12)
    log_density, _ = gaussian_log_density_forward(mean, np.zeros_like(mean), np.zeros_like(mean))
    # within the rounding of the largest term itself
    assert abs(log_density[0] + 2.0**23 + 500 + 1001 * np.log(2 * np.pi) / 2) < 0.6
    log_likelihood, _ = gaussian_likelihood_forward(mean, np.zeros_like(mean))
    np.testing.assert_allclose(log_likelihood, [-(2.0**23 + 500) - 1001 * np.log(2 * np.pi) / 2], rtol=1e-12)


# ---------------------------------------------------------------- manners


@each_dtype
@pytest.mark.parametrize("samples", [(), (1,), (3,)], ids=str)
def test_shape_dtype_and_arguments_are_kept(rng, samples, dtype):
    mean, log_var = (parameter.astype(dtype) for parameter in _parameters(rng, 4))
    noise = rng.standard_normal((*samples, 4, 2), dtype)
    per_sample, per_example = rng.standard_normal((*samples, 4)), rng.standard_normal(4)

    def has(arrays, shape, dtype):
        assert all((array.shape, array.dtype) == (shape, dtype) for array in arrays)

    with unchanged(mean, log_var, noise, per_sample, per_example):
        z, sample_cache = gaussian_sample_forward(mean, log_var, noise)
        has([z], noise.shape, dtype)
        with unchanged(z):
            has(gaussian_sample_backward(z, sample_cache), noise.shape, dtype)

            log_density, cache = gaussian_log_density_forward(z, mean, log_var)
            has([log_density], per_sample.shape, np.float64)
            has(gaussian_log_density_backward(per_sample, cache), noise.shape, dtype)

            log_likelihood, cache = gaussian_likelihood_forward(mean, z, 0.5)
            has([log_likelihood], per_sample.shape, np.float64)
            has([gaussian_likelihood_backward(per_sample, cache)], noise.shape, dtype)

        has(gaussian_score(noise, log_var), noise.shape, dtype)

        kl, cache = gaussian_kl_forward(mean, log_var)
        has([kl], (4,), np.float64)
        has(gaussian_kl_backward(per_example, cache), (4, 2), dtype)

        entropy, cache = gaussian_entropy_forward(log_var)
        has([entropy], (4,), np.float64)
        has([gaussian_entropy_backward(per_example, cache)], (4, 2), dtype)


def test_backward_passes_are_linear_in_the_cotangent(rng):
    mean, log_var = _parameters(rng, 4)
    noise, dz, other_dz = rng.standard_normal((3, 3, 4, 2))
    z, cache = gaussian_sample_forward(mean, log_var, noise)
    assert_linear(lambda d: gaussian_sample_backward(d, cache), dz, other_dz)
    per_sample = rng.standard_normal((2, 3, 4))
    _, density_cache = gaussian_log_density_forward(z, mean, log_var)
    assert_linear(lambda d: gaussian_log_density_backward(d, density_cache), *per_sample)
    _, likelihood_cache = gaussian_likelihood_forward(mean, z, 0.3)
    assert_linear(lambda d: gaussian_likelihood_backward(d, likelihood_cache), *per_sample)
    per_example = rng.standard_normal((2, 4))
    _, kl_cache = gaussian_kl_forward(mean, log_var)
    assert_linear(lambda d: gaussian_kl_backward(d, kl_cache), *per_example)
    _, entropy_cache = gaussian_entropy_forward(log_var)
    assert_linear(lambda d: gaussian_entropy_backward(d, entropy_cache), *per_example)
