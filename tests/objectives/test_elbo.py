"""The ELBO: what the note claims about it, and that the shipped loss and its derivatives are just that."""

from __future__ import annotations

import itertools
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy

from scratchvae.densities.gaussian import (
    gaussian_kl_forward,
    gaussian_sample_backward,
    gaussian_sample_forward,
)
from scratchvae.objectives.elbo import (
    elbo_backward,
    elbo_forward,
    sampled_kl_backward,
    sampled_kl_forward,
)
from scratchvae.objectives.importance_weighted import importance_weighted_forward
from tests.oracles import objectives as oracle
from tests.oracles.complex_step import (
    COMPLEX_STEP_TOLERANCE,
    DIFFERENCE_TOLERANCE,
    assert_close_to_largest,
    complex_step_vjp,
    five_point_vjp,
)
from tests.oracles.quadrature import (
    gauss_hermite,
    gauss_hermite_product,
    precise_expectation,
    symbolic_expectation,
    symbolic_variance,
    weighted_mean,
)

# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("5.2", "5.3")
@pytest.mark.parametrize(("x", "mean", "deviation"), [(1, "0.4", "0.7"), (0, "-1.3", "1.5")])
def test_log_p_is_the_elbo_plus_the_divergence_from_the_posterior(x, mean, deviation):
    # One latent dimension, one pixel: p(z) = N(0, 1), log p(x|z) from the logit 1.7 z − 0.6; 50 digits.
    with mpmath.workdps(50):
        mean, deviation = mpmath.mpf(mean), mpmath.mpf(deviation)

        def likelihood(z):
            logit = mpmath.mpf("1.7") * z - mpmath.mpf("0.6")
            return 1 / (1 + mpmath.exp(-logit if x else logit))

        def q(z):
            return mpmath.npdf(z, mean, deviation)

        def expectation_over_q(function):
            return precise_expectation(function, mean, deviation)

        evidence = precise_expectation(likelihood)  # ∫ p(x|z) p(z) dz
        elbo = expectation_over_q(lambda z: mpmath.log(likelihood(z))) - expectation_over_q(
            lambda z: mpmath.log(q(z) / mpmath.npdf(z))
        )
        gap = expectation_over_q(lambda z: mpmath.log(q(z) / (likelihood(z) * mpmath.npdf(z) / evidence)))
        assert gap > 0
        assert elbo < mpmath.log(evidence)
        assert abs(elbo + gap - mpmath.log(evidence)) < mpmath.mpf(10) ** -40


@pytest.mark.equation("5.5")
def test_derivatives_of_the_loss_are_constants():
    num_samples, num_examples = 2, 3
    beta = sympy.Symbol("beta")
    reconstruction = sympy.Matrix(num_samples, num_examples, lambda s, b: sympy.Symbol(f"r{s}{b}"))
    kl = sympy.Matrix(num_samples, num_examples, lambda s, b: sympy.Symbol(f"k{s}{b}"))
    analytic = sympy.symbols(f"kl:{num_examples}")

    def loss(divergence):
        return -sum(
            sum(reconstruction[s, b] for s in range(num_samples)) / sympy.Integer(num_samples)
            - beta * divergence(b)
            for b in range(num_examples)
        ) / sympy.Integer(num_examples)

    of_analytic = loss(lambda b: analytic[b])
    of_sampled = loss(lambda b: sum(kl[s, b] for s in range(num_samples)) / sympy.Integer(num_samples))
    for symbol in reconstruction:
        assert sympy.diff(of_analytic, symbol) == -sympy.Rational(1, num_samples * num_examples)
    for symbol in analytic:
        assert sympy.diff(of_analytic, symbol) == beta / num_examples
    for symbol in kl:
        assert sympy.expand(sympy.diff(of_sampled, symbol) - beta / (num_samples * num_examples)) == 0


def symbols():
    mean, log_var = sympy.symbols("mu ell", real=True)
    z, noise = sympy.symbols("z epsilon", real=True)
    return mean, log_var, z, noise


def symbolic_k(z, mean, log_var):
    def log_density(z, mean, log_var):
        return -(sympy.log(2 * sympy.pi) + log_var + (z - mean) ** 2 * sympy.exp(-log_var)) / 2

    return log_density(z, mean, log_var) - log_density(z, 0, 0)


@pytest.mark.equation("5.6")
def test_expected_sampled_divergence_is_the_closed_form():
    mean, log_var, _, noise = symbols()
    along = symbolic_k(mean + sympy.exp(log_var / 2) * noise, mean, log_var)
    closed = (mean**2 + sympy.exp(log_var) - 1 - log_var) / 2
    assert sympy.simplify(symbolic_expectation(along, noise) - closed) == 0


@pytest.mark.equation("5.7")
def test_partial_derivatives_of_the_sampled_divergence():
    mean, log_var, z, _ = symbols()
    k = symbolic_k(z, mean, log_var)
    scaled = (z - mean) * sympy.exp(-log_var)
    assert sympy.simplify(sympy.diff(k, z) - (z - scaled)) == 0
    assert sympy.simplify(sympy.diff(k, mean) - scaled) == 0
    assert sympy.simplify(sympy.diff(k, log_var) - ((z - mean) * scaled - 1) / 2) == 0


@pytest.mark.equation("5.8")
def test_total_derivatives_along_the_sample():
    mean, log_var, z, noise = symbols()
    deviation = sympy.exp(log_var / 2)
    sample = mean + deviation * noise
    along = symbolic_k(sample, mean, log_var)
    assert sympy.simplify(sympy.diff(along, mean) - sample) == 0
    assert sympy.simplify(sympy.diff(along, log_var) - (sample * deviation * noise - 1) / 2) == 0
    k = symbolic_k(z, mean, log_var)
    for parameter in (mean, log_var):
        direct = sympy.diff(k, parameter).subs(z, sample)
        assert sympy.simplify(symbolic_expectation(direct, noise)) == 0


@pytest.mark.equation("5.9", "5.10")
def test_importance_weighting_by_enumeration():
    # z in {0, 1, 2}: every K-tuple of samples is enumerated, the first claim in exact fractions.
    prior = [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)]
    likelihood = [Fraction(1, 10), Fraction(7, 10), Fraction(2, 5)]
    q = [Fraction(1, 5), Fraction(1, 5), Fraction(3, 5)]
    evidence = sum(p * given for p, given in zip(prior, likelihood, strict=True))
    weights = [p * given / chance for p, given, chance in zip(prior, likelihood, q, strict=True)]
    with mpmath.workdps(50):

        def logarithm(fraction):
            return mpmath.log(mpmath.mpf(fraction.numerator) / fraction.denominator)

        elbo = mpmath.fsum(
            mpmath.mpf(chance.numerator) / chance.denominator * (logarithm(given) - logarithm(chance / p))
            for p, given, chance in zip(prior, likelihood, q, strict=True)
        )
        bounds = []
        for num_samples in (1, 2, 3, 4, 5):
            expected_mean, expected_log = Fraction(0), mpmath.mpf(0)
            for indices in itertools.product(range(3), repeat=num_samples):
                chance = Fraction(1)
                for index in indices:
                    chance *= q[index]
                mean_weight = sum(weights[index] for index in indices) / num_samples
                expected_mean += chance * mean_weight
                expected_log += mpmath.mpf(chance.numerator) / chance.denominator * logarithm(mean_weight)
            assert expected_mean == evidence
            bounds.append(expected_log)
        assert abs(bounds[0] - elbo) < mpmath.mpf(10) ** -45
        assert all(fewer < more for fewer, more in itertools.pairwise(bounds))
        assert bounds[-1] < logarithm(evidence)


@pytest.mark.equation("5.11")
def test_variance_of_the_sampled_divergence():
    noises = sympy.symbols("epsilon1:3", real=True)
    means = sympy.symbols("mu1:3", real=True)
    log_vars = sympy.symbols("ell1:3", real=True)
    k = sum(
        symbolic_k(mean + sympy.exp(log_var / 2) * noise, mean, log_var)
        for mean, log_var, noise in zip(means, log_vars, noises, strict=True)
    )
    claimed = sum(
        mean**2 * sympy.exp(log_var) + (sympy.exp(log_var) - 1) ** 2 / 2
        for mean, log_var in zip(means, log_vars, strict=True)
    )
    assert sympy.simplify(symbolic_variance(k, *noises) - claimed) == 0


@pytest.mark.equation("5.12")
def test_at_the_posterior_the_sampled_divergence_is_the_quiet_one():
    # x | z ~ N(w z, v), z ~ N(0, 1): the posterior is N(w x / (w² + v), v / (w² + v)).
    x, weight, noise = sympy.symbols("x w epsilon", real=True)
    variance = sympy.Symbol("v", positive=True)
    mean, spread = weight * x / (weight**2 + variance), variance / (weight**2 + variance)
    z = mean + sympy.sqrt(spread) * noise
    reconstruction = -((x - weight * z) ** 2) / variance / 2  # constants have no variance
    k = z**2 / 2 - (z - mean) ** 2 / spread / 2
    assert sympy.simplify(symbolic_variance(sympy.expand(reconstruction - k), noise)) == 0
    loud, divergence = (symbolic_variance(sympy.expand(part), noise) for part in (reconstruction, k))
    assert sympy.simplify(loud - divergence) == 0
    assert sympy.simplify(divergence) != 0


# --- the loss and its backward pass -----------------------------------------------------------------------

BATCHES = [1, 2, 64]
SCALES = [1e-3, 1.0, 1e3]


def terms(rng, num_samples, num_examples, sampled):
    """Made-up terms of the size that images have."""
    reconstruction = -90 + 10 * rng.standard_normal((num_samples, num_examples))
    kl = 20 + rng.standard_normal((num_samples, num_examples) if sampled else num_examples)
    return reconstruction, kl


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("num_examples", BATCHES)
@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("sampled", [False, True], ids=["analytic", "sampled"])
def test_loss_and_its_gradient(rng, scale, num_examples, num_samples, sampled):
    beta = 0.7
    arguments = terms(rng, num_samples, num_examples, sampled)
    loss, _, cache = elbo_forward(*arguments, beta)
    assert loss == pytest.approx(float(oracle.negative_elbo(*arguments, beta)), rel=1e-13)
    gradients = elbo_backward(scale, cache)
    exact = complex_step_vjp(lambda *at: oracle.negative_elbo(*at, beta), arguments, scale)
    # The loss is linear: a long step costs nothing and keeps the digits of a share of 1/192 in a loss of 100.
    numeric = five_point_vjp(lambda *at: elbo_forward(*at, beta)[0], arguments, scale, step=1.0)
    for name, gradient, one, other in zip(("reconstruction", "kl"), gradients, exact, numeric, strict=True):
        assert_close_to_largest(gradient, one, COMPLEX_STEP_TOLERANCE, name)
        assert_close_to_largest(gradient, other, DIFFERENCE_TOLERANCE, name)


@pytest.mark.parametrize("sampled", [False, True], ids=["analytic", "sampled"])
def test_without_a_weight_the_divergence_has_a_gradient_of_exactly_zero(rng, sampled):
    arguments = terms(rng, 3, 2, sampled)
    _, elbo, cache = elbo_forward(*arguments, 0.0)
    _, dkl = elbo_backward(1.0, cache)
    assert dkl.shape == arguments[1].shape
    assert not dkl.any()
    np.testing.assert_array_equal(elbo.value, elbo.reconstruction)


def test_loss_by_hand():
    reconstruction = np.array([[-1.0, -2.0], [-3.0, -4.5]])
    kl = np.array([0.5, 1.5])
    loss, elbo, cache = elbo_forward(reconstruction, kl, 0.7)
    # −½ [(−2 − 0.35) + (−3.25 − 1.05)]
    assert loss == pytest.approx(3.325, rel=1e-11)
    assert isinstance(loss, float)
    np.testing.assert_allclose(elbo.value, [-2.35, -4.3], rtol=1e-11)
    np.testing.assert_allclose(elbo.reconstruction, [-2.0, -3.25], rtol=1e-11)
    np.testing.assert_allclose(elbo.kl, [0.5, 1.5], rtol=1e-11)  # without beta
    dreconstruction, dkl = elbo_backward(1.0, cache)
    np.testing.assert_allclose(dreconstruction, np.full((2, 2), -0.25), rtol=1e-11)
    np.testing.assert_allclose(dkl, [0.35, 0.35], rtol=1e-11)


def test_sampled_loss_by_hand():
    reconstruction = np.array([[-1.0, -2.0], [-3.0, -4.5]])
    kl = np.array([[0.5, 1.5], [-0.25, 2.0]])
    loss, elbo, cache = elbo_forward(reconstruction, kl, 2.0)
    # −½ [(−2 − 2 · 0.125) + (−3.25 − 2 · 1.75)]
    assert loss == pytest.approx(4.5, rel=1e-11)
    np.testing.assert_allclose(elbo.kl, [0.125, 1.75], rtol=1e-11)
    _, dkl = elbo_backward(1.0, cache)
    np.testing.assert_allclose(dkl, np.full((2, 2), 0.5), rtol=1e-11)


def test_means_are_accumulated_in_double_precision(rng):
    reconstruction = (-1e4 + rng.standard_normal((3, 64))).astype(np.float32)
    kl = (20 + rng.standard_normal((3, 64))).astype(np.float32)
    loss, elbo, _ = elbo_forward(reconstruction, kl, 1.0)
    exact = -(reconstruction.astype(np.float64).mean() - kl.astype(np.float64).mean())
    assert loss == pytest.approx(exact, rel=1e-13)
    assert {part.dtype for part in elbo} == {np.dtype(np.float64)}


# --- the sampled divergence -------------------------------------------------------------------------------


def draw(rng, num_samples, num_examples, latent_dim=3):
    mean = rng.standard_normal((num_examples, latent_dim))
    log_var = 0.5 * rng.standard_normal((num_examples, latent_dim)) - 0.5
    noise = rng.standard_normal((num_samples, num_examples, latent_dim))
    return mean, log_var, noise


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("num_examples", BATCHES)
@pytest.mark.parametrize("num_samples", [1, 3])
def test_partial_gradients_of_the_sampled_divergence(rng, scale, num_examples, num_samples):
    latent_dim = 3 if num_examples < 64 else 1
    mean, log_var, noise = draw(rng, num_samples, num_examples, latent_dim)
    z = mean + np.exp(log_var / 2) * noise
    cotangent = scale * rng.standard_normal((num_samples, num_examples))
    kl, cache = sampled_kl_forward(z, mean, log_var)
    np.testing.assert_allclose(kl, oracle.sampled_divergence(z, mean, log_var), rtol=1e-11, atol=1e-13)
    dz, dmean, dlog_var = sampled_kl_backward(cotangent, cache)
    assert dz.shape == dmean.shape == dlog_var.shape == z.shape
    gradients = dz, dmean.sum(axis=0), dlog_var.sum(axis=0)
    exact = complex_step_vjp(oracle.sampled_divergence, (z, mean, log_var), cotangent)
    numeric = five_point_vjp(lambda *at: sampled_kl_forward(*at)[0], (z, mean, log_var), cotangent)
    for name, gradient, one, other in zip(("z", "mean", "log_var"), gradients, exact, numeric, strict=True):
        assert_close_to_largest(gradient, one, COMPLEX_STEP_TOLERANCE, name)
        assert_close_to_largest(gradient, other, DIFFERENCE_TOLERANCE, name)


@pytest.mark.parametrize("num_samples", [1, 3])
def test_total_gradient_of_the_sampled_divergence(rng, num_samples):
    # Through the sample and directly, at fixed noise: what the loss's gradient contains.
    mean, log_var, noise = draw(rng, num_samples, 2)
    cotangent = rng.standard_normal((num_samples, 2))
    z, sample_cache = gaussian_sample_forward(mean, log_var, noise)
    _, cache = sampled_kl_forward(z, mean, log_var)
    dz, *direct = sampled_kl_backward(cotangent, cache)
    through = gaussian_sample_backward(dz, sample_cache)
    total = [(one + other).sum(axis=0) for one, other in zip(through, direct, strict=True)]
    exact = complex_step_vjp(
        lambda mean, log_var: oracle.sampled_divergence_of_noise(mean, log_var, noise),
        (mean, log_var),
        cotangent,
    )
    for name, gradient, one in zip(("mean", "log_var"), total, exact, strict=True):
        assert_close_to_largest(gradient, one, COMPLEX_STEP_TOLERANCE, name)


def test_sampled_divergence_by_hand():
    # log N(1.2; 0.5, e^0.3) − log N(1.2; 0, 1) = −0.15 − 0.245 e^−0.3 + 0.72
    kl, cache = sampled_kl_forward(np.array([[[1.2]]]), np.array([[0.5]]), np.array([[0.3]]))
    assert kl.item() == pytest.approx(0.388499535932979, rel=1e-11)
    dz, dmean, dlog_var = sampled_kl_backward(np.ones((1, 1)), cache)
    assert dz.item() == pytest.approx(0.681427245522797, rel=1e-11)  # 1.2 − 0.7 e^−0.3
    assert dmean.item() == pytest.approx(0.518572754477203, rel=1e-11)  # 0.7 e^−0.3
    assert dlog_var.item() == pytest.approx(-0.318499535932979, rel=1e-11)  # ½ (0.49 e^−0.3 − 1)


def test_sampled_divergence_of_the_prior_from_itself_is_exactly_zero(rng):
    z = rng.standard_normal((3, 2, 4))
    kl, cache = sampled_kl_forward(z, np.zeros((2, 4)), np.zeros((2, 4)))
    dz, *_ = sampled_kl_backward(np.ones((3, 2)), cache)
    assert not kl.any()
    assert not dz.any()


def test_expected_sampled_divergence_and_its_gradient_by_quadrature():
    mean = np.array([[0.7, -1.2], [0.0, 3.0]])
    log_var = np.array([[-1.5, 0.4], [0.0, -4.0]])
    nodes, weights = gauss_hermite_product(6, 2)  # k has degree 2 in the noise, its derivatives too
    noise = np.repeat(nodes[:, None, :], 2, axis=1)
    z, sample_cache = gaussian_sample_forward(mean, log_var, noise)
    kl, cache = sampled_kl_forward(z, mean, log_var)
    closed = oracle.divergence(mean, log_var)
    np.testing.assert_allclose(weighted_mean(weights, kl), closed, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gaussian_kl_forward(mean, log_var)[0], closed, rtol=1e-13)
    dz, *direct = sampled_kl_backward(np.ones(kl.shape), cache)
    through = gaussian_sample_backward(dz, sample_cache)
    for gradient, expected in zip(through, (mean, 0.5 * np.expm1(log_var)), strict=True):
        np.testing.assert_allclose(weighted_mean(weights, gradient), expected, rtol=1e-12, atol=1e-13)
    for score in direct:
        np.testing.assert_allclose(weighted_mean(weights, score), 0, atol=1e-12)
    assert kl.min() < 0, "single values may be negative: clipping them would bias the estimate"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("log_var", [-60.0, 60.0])
def test_sampled_divergence_survives_extremes(dtype, log_var):
    mean = np.array([[3.0, 0.0]], dtype)
    log_vars = np.full((1, 2), log_var, dtype)
    noise = np.array([[[0.5, -1.5]], [[-0.25, 2.0]]], dtype)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        z, _ = gaussian_sample_forward(mean, log_vars, noise)
        kl, cache = sampled_kl_forward(z, mean, log_vars)
        gradients = sampled_kl_backward(np.ones(kl.shape), cache)
    assert kl.dtype == np.float64
    assert np.isfinite(kl).all()
    for gradient in gradients:
        assert gradient.dtype == dtype
        assert np.isfinite(gradient).all()


# --- bounds -----------------------------------------------------------------------------------------------

# x | z ~ N(w z, v), z ~ N(0, 1), one dimension each, so that x ~ N(0, w² + v).
OBSERVED, WEIGHT, VARIANCE = 1.3, 0.8, 0.5


def log_evidence():
    return float(oracle.log_normal(OBSERVED, 0.0, WEIGHT**2 + VARIANCE))


def posterior():
    total = WEIGHT**2 + VARIANCE
    return np.array([[WEIGHT * OBSERVED / total]]), np.log([[VARIANCE / total]])


def bound_terms(mean, log_var, noise):
    """Reconstruction and sampled divergence at noise (S, B, 1), by the shipped code where it is under test."""
    z, _ = gaussian_sample_forward(mean, log_var, noise)
    return oracle.log_normal(OBSERVED, WEIGHT * z[..., 0], VARIANCE), sampled_kl_forward(z, mean, log_var)[0]


@pytest.mark.parametrize(("mean", "log_var"), [(0.0, 0.0), (0.9, -1.0), (-0.5, 0.5)])
def test_expected_elbo_falls_short_by_the_divergence_from_the_posterior(mean, log_var):
    mean, log_var = np.array([[mean]]), np.array([[log_var]])
    nodes, weights = gauss_hermite(12)
    reconstruction, sampled = bound_terms(mean, log_var, nodes[:, None, None])
    # Each node as an example of its own, so that the weights can be the quadrature's.
    of_sampled = elbo_forward(reconstruction.T, sampled.T, 1.0)[1].value
    analytic = np.repeat(gaussian_kl_forward(mean, log_var)[0], len(nodes))
    of_analytic = elbo_forward(reconstruction.T, analytic, 1.0)[1].value
    (best,), (best_log_var,) = posterior()
    ratio = np.exp(log_var - best_log_var)
    gap = 0.5 * (ratio - 1 - np.log(ratio) + (mean - best) ** 2 / np.exp(best_log_var)).item()
    assert weights @ of_sampled == pytest.approx(log_evidence() - gap, rel=1e-12)
    assert weights @ of_analytic == pytest.approx(log_evidence() - gap, rel=1e-12)


def test_at_the_posterior_every_sample_of_the_elbo_is_log_p():
    nodes, _ = gauss_hermite(12)
    reconstruction, sampled = bound_terms(*posterior(), nodes[:, None, None])
    np.testing.assert_allclose(reconstruction - sampled, log_evidence(), rtol=1e-12)
    bound, _ = importance_weighted_forward(reconstruction - sampled)
    np.testing.assert_allclose(bound, log_evidence(), rtol=1e-12)


def test_expected_importance_weight_is_p_and_the_bounds_are_in_order():
    # A proposal a little wider than the posterior: the weights are bounded, quadrature converges at once.
    mean, log_var = np.array([[0.6]]), np.array([[-0.6]])
    bounds = []
    for num_samples in (1, 2, 3):
        nodes, weights = gauss_hermite_product(40 if num_samples < 3 else 30, num_samples)
        noise = nodes.T[..., None]  # (S, one example per point of the product rule, 1)
        reconstruction, sampled = bound_terms(mean, log_var, noise)
        bound, _ = importance_weighted_forward(reconstruction - sampled)
        assert bound.shape == (len(weights),)
        assert weights @ np.exp(bound) == pytest.approx(np.exp(log_evidence()), rel=1e-12)
        bounds.append(weights @ bound)
    assert bounds[0] < bounds[1] < bounds[2] < log_evidence()
    assert bounds[0] == pytest.approx(weighted_mean(*reversed(_elbo_nodes(mean, log_var))), rel=1e-12)


def _elbo_nodes(mean, log_var):
    nodes, weights = gauss_hermite(12)
    reconstruction, _ = bound_terms(mean, log_var, nodes[:, None, None])
    return reconstruction[:, 0] - oracle.divergence(mean, log_var), weights


@pytest.mark.parametrize("sampled", [False, True])
def test_a_loss_is_a_float_and_its_terms_are_double_whatever_came(rng, sampled):
    reconstruction, kl = (
        rng.random(shape).astype(np.float32) for shape in ((2, 3), (2, 3) if sampled else (3,))
    )
    loss, elbo, _ = elbo_forward(reconstruction, kl, 0.5)
    assert type(loss) is float
    assert {term.dtype for term in elbo} == {np.dtype(np.float64)}
