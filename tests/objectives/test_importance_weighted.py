"""The importance-weighted bound: its value, its backward pass, its place between the ELBO and log p(x)."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
import sympy
from scipy.stats import norm

from scratchvae.lab.likelihood import bound_ladder
from scratchvae.objectives.elbo import elbo_forward
from scratchvae.objectives.importance_weighted import (
    effective_sample_size,
    importance_weighted_backward,
    importance_weighted_elbo,
    importance_weighted_forward,
    monte_carlo_error,
)
from tests.models.test_linear_vae import decoder_of, vae_with_exact_posterior
from tests.oracles import estimators as oracle
from tests.oracles import vae as vae_oracle
from tests.oracles.complex_step import (
    COMPLEX_STEP_TOLERANCE,
    assert_close_to_largest,
    assert_linear,
    complex_step_vjp,
    unchanged,
)
from tests.oracles.quadrature import gauss_hermite, gauss_hermite_product

# --- the equations ----------------------------------------------------------------------------------------

LOG_WEIGHTS = sympy.symbols("l1:5", real=True)


def symbolic_bound(log_weights):
    return sympy.log(sum(map(sympy.exp, log_weights)) / len(log_weights))


def assert_identical(one, other):
    assert sympy.simplify(one - other) == 0


@pytest.mark.equation("22.2")
def test_a_common_factor_comes_out():
    shift = sympy.Symbol("m", real=True)
    shifted = sum(sympy.exp(w - shift) for w in LOG_WEIGHTS)
    ratio = sympy.exp(shift) * shifted / sum(map(sympy.exp, LOG_WEIGHTS))
    assert_identical(sympy.expand(ratio.expand(), power_exp=True), 1)


@pytest.mark.equation("22.3")
def test_derivatives_are_the_shares():
    total = sum(map(sympy.exp, LOG_WEIGHTS))
    shares = [sympy.diff(symbolic_bound(LOG_WEIGHTS), w) for w in LOG_WEIGHTS]
    for share, w in zip(shares, LOG_WEIGHTS, strict=True):
        assert_identical(share, sympy.exp(w) / total)
    assert_identical(sum(shares), 1)


@pytest.mark.equation("22.6")
def test_total_derivative_along_the_samples():
    mean, noise = sympy.Symbol("mu", real=True), sympy.symbols("epsilon1:3", real=True)
    deviation, beta, z = sympy.Symbol("sigma", positive=True), sympy.Symbol("beta"), sympy.Symbol("z")
    log_joint = sum(c * z**power for power, c in enumerate(sympy.symbols("c:4", real=True)))
    log_q = -sympy.log(deviation) - (z - mean) ** 2 / (2 * deviation**2)
    log_weight = log_joint - beta * log_q
    samples = [mean + deviation * e for e in noise]
    total = symbolic_bound([log_weight.subs(z, sample) for sample in samples])
    weights = [sympy.exp(log_weight.subs(z, sample)) for sample in samples]
    for parameter, path in ((mean, lambda e: 1), (deviation, lambda e: e)):
        claimed = sum(
            (w / sum(weights))
            * (sympy.diff(log_weight, z) * path(e) - beta * sympy.diff(log_q, parameter)).subs(z, sample)
            for w, e, sample in zip(weights, noise, samples, strict=True)
        )
        numbers = {mean: 0.3, deviation: 0.8, beta: 0.6, noise[0]: -0.4, noise[1]: 1.1}
        numbers |= {c: 0.2 * i - 0.3 for i, c in enumerate(sympy.symbols("c:4", real=True))}
        difference = (sympy.diff(total, parameter) - claimed).subs(numbers)
        assert abs(sympy.N(difference, 40)) < 1e-14


@pytest.mark.equation("22.8")
def test_the_analytic_divergence_inside_overshoots():
    with mpmath.workdps(30):
        for mean, deviation in ((0.7, 0.6), (0.0, 1.2), (-1.3, 0.9)):
            m, s = mpmath.mpf(mean), mpmath.mpf(deviation)

            def excess(noise, m=m, s=s):
                return mpmath.exp(m * s * noise + (s**2 - 1) * (noise**2 - 1) / 2) * mpmath.npdf(noise)

            found = mpmath.log(mpmath.quad(excess, [-40, -10, -3, 0, 3, 10, 40]))
            claimed = -mpmath.log(2 - s**2) / 2 + m**2 * s**2 / (2 * (2 - s**2)) - (s**2 - 1) / 2
            assert mpmath.almosteq(found, claimed, rel_eps=mpmath.mpf(10) ** -15)
            assert claimed > 0.01


# --- forward ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, -1000.0, 1000.0])
def test_value_against_fifty_digits(rng, offset):
    log_weights = offset + 5 * rng.standard_normal((7, 3))
    with np.errstate(over="raise", divide="raise", invalid="raise"), unchanged(log_weights):
        bound, cache = importance_weighted_forward(log_weights)
    with mpmath.workdps(50):
        for b in range(3):
            weights = [mpmath.exp(mpmath.mpf(w)) for w in log_weights[:, b].tolist()]
            assert bound[b] == pytest.approx(
                float(mpmath.log(mpmath.fsum(weights) / 7)), rel=1e-14, abs=1e-13
            )
            shares = [float(w / mpmath.fsum(weights)) for w in weights]
            np.testing.assert_allclose(cache.shares[:, b], shares, rtol=1e-13)
    assert (bound >= log_weights.mean(axis=0)).all()


def test_weights_that_underflow():
    # e⁻⁸⁰⁰ is zero and its logarithm is not; a share too small for a double is zero, and no warning.
    with np.errstate(all="raise", under="ignore"):
        bound, cache = importance_weighted_forward(np.array([[-800.0], [-2000.0]]))
    assert bound[0] == pytest.approx(-800 - np.log(2), rel=1e-15)
    np.testing.assert_array_equal(cache.shares, [[1.0], [0.0]])


def test_examples_far_apart_do_not_share_a_scale():
    # Beside the first example's weights the second's would all be zero.
    log_weights = np.array([[0.0, -2000.0], [0.0, -2000.0], [0.0, -2000.0]])
    bound, cache = importance_weighted_forward(log_weights)
    np.testing.assert_array_equal(bound, [0.0, -2000.0])
    np.testing.assert_array_equal(cache.shares, np.full((3, 2), 1 / 3))


@pytest.mark.equation("22.4")
def test_one_sample_is_the_elbo_with_the_sampled_divergence(rng):
    reconstruction, kl = -50 + rng.standard_normal((1, 4)), rng.standard_normal((1, 4))
    loss, elbo, shares = importance_weighted_elbo(reconstruction, kl, 0.6)
    expected_loss, expected, _ = elbo_forward(reconstruction, kl, 0.6)
    assert loss == expected_loss
    np.testing.assert_array_equal(elbo, expected)
    np.testing.assert_array_equal(shares, np.ones((1, 4)))
    log_weight = LOG_WEIGHTS[0]
    assert_identical(symbolic_bound([log_weight]), log_weight)


# --- backward ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (5, 64)])
def test_backward_is_the_complex_step(rng, shape, scale):
    log_weights = -90 + 2 * rng.standard_normal(shape)
    dbound = scale * rng.standard_normal(shape[1])

    def naive(w):
        return np.log(np.exp(w + 90).sum(axis=0) / len(w)) - 90

    _, cache = importance_weighted_forward(log_weights)
    (expected,) = complex_step_vjp(naive, (log_weights,), dbound)
    found = importance_weighted_backward(dbound, cache)
    assert_close_to_largest(found, expected, COMPLEX_STEP_TOLERANCE)
    assert_linear(lambda d: importance_weighted_backward(d, cache), dbound, rng.standard_normal(shape[1]))


def test_loss_and_its_derivatives_by_the_definition(rng):
    reconstruction, kl, beta = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), 0.6
    loss, elbo, shares = importance_weighted_elbo(reconstruction, kl, beta)

    def definition(r, k):
        return np.asarray(-np.log(np.exp(r - beta * k).sum(axis=0) / 3).sum() / 4)

    assert loss == pytest.approx(float(definition(reconstruction, kl)), rel=1e-14)
    by_reconstruction, by_kl = complex_step_vjp(definition, (reconstruction, kl), 1.0)
    assert_close_to_largest(-shares / 4, by_reconstruction, COMPLEX_STEP_TOLERANCE)
    assert_close_to_largest(beta * shares / 4, by_kl, COMPLEX_STEP_TOLERANCE)
    np.testing.assert_allclose(elbo.reconstruction, reconstruction.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(elbo.kl, kl.mean(axis=0), rtol=1e-14)


def test_terms_of_single_precision_are_averaged_in_double(rng):
    reconstruction, kl = rng.standard_normal((2, 3, 4)).astype(np.float32)
    loss, elbo, _ = importance_weighted_elbo(reconstruction, kl, 1.0)
    assert type(loss) is float
    np.testing.assert_array_equal(elbo.reconstruction, reconstruction.astype(np.float64).mean(axis=0))
    np.testing.assert_array_equal(elbo.kl, kl.astype(np.float64).mean(axis=0))


# --- the ladder, through a whole VAE whose log p(x) is known ----------------------------------------------


def expected_value(vae, example, num_samples, count, objective):
    """E of the bound of one example over all noise, by the product rule through `VAE.elbo`."""
    nodes, weights = gauss_hermite_product(count, num_samples)
    noise = nodes.T[..., None]  # (K, one example per point of the rule, 1)
    return weights @ vae.elbo(np.repeat(example, len(nodes), axis=0), noise, objective=objective).value


def test_elbo_below_importance_weighted_below_log_p(rng):
    vae, x = vae_with_exact_posterior(rng, latent_dim=1, widen=1.4, shift=0.5)
    example = x[:1]
    (log_p,) = vae_oracle.linear_log_evidence(example, *decoder_of(vae))
    elbo = expected_value(vae, example, 1, 30, "elbo")
    bounds = [
        expected_value(vae, example, k, count, "importance-weighted")
        for k, count in ((1, 30), (2, 30), (3, 20))
    ]
    assert bounds[0] == pytest.approx(elbo, rel=1e-12)
    assert all(more - fewer > 1e-3 for fewer, more in itertools.pairwise([*bounds, log_p]))


def test_at_the_exact_posterior_the_bound_is_log_p_in_every_sample(rng):
    vae, x = vae_with_exact_posterior(rng)
    assert vae.kl == "analytic"
    expected = vae_oracle.linear_log_evidence(x, *decoder_of(vae))
    for num_samples in (1, 2, 7):
        value = vae.elbo(x, rng=0, num_samples=num_samples, objective="importance-weighted").value
        np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_the_bound_with_the_analytic_divergence_is_seen(rng, chance, monkeypatch):
    # Planted: the closed form in the log-weights. At the posterior its limit is above log p(x), by (22.8).
    from scratchvae.densities.gaussian import gaussian_kl_forward
    from scratchvae.models import decoder_integrand as module

    vae, x = vae_with_exact_posterior(rng, latent_dim=1)
    monkeypatch.setattr(
        module,
        "sampled_kl_forward",
        lambda z, mean, log_var: (np.broadcast_to(gaussian_kl_forward(mean, log_var)[0], z.shape[:-1]), None),
    )
    value = vae.elbo(x, rng=0, num_samples=20_000, objective="importance-weighted").value
    mean, log_var = vae.encode(x)
    v = np.exp(log_var[:, 0])
    excess = -np.log(2 - v) / 2 + mean[:, 0] ** 2 * v / (2 * (2 - v)) - (v - 1) / 2
    found = value - vae_oracle.linear_log_evidence(x, *decoder_of(vae))
    assert (np.abs(found) > 0.005).all()
    # Weights exp(k − E k) have a variance of their own, and the mean of so many is normal.
    nodes, weights = gauss_hermite(80)
    k = mean * np.sqrt(v)[:, None] * nodes + (v[:, None] - 1) * (nodes**2 - 1) / 2
    spread = np.sqrt((np.exp(2 * k) @ weights) / (np.exp(k) @ weights) ** 2 - 1)
    _, high = chance.between(norm, comparisons=len(x))
    assert (np.abs(found - excess) < high * spread / np.sqrt(20_000)).all()


def test_oracle_and_shipped_agree_on_the_value(rng):
    target = oracle.logistic_target()
    noise = rng.standard_normal((4, 3, 1))
    mean, log_var = np.array([0.3]), np.array([-0.7])
    z = mean + np.exp(log_var / 2) * noise
    log_q = -(noise[..., 0] ** 2 + log_var + np.log(2 * np.pi)) / 2
    found, _ = importance_weighted_forward(target.value(z) - log_q)
    expected = oracle.log_mean_weight(target.value, mean, log_var, noise)
    np.testing.assert_allclose(
        found, expected, rtol=1e-14, atol=1e-14
    )  # sums of terms near one, which may cancel


# --- how sure it is ---------------------------------------------------------------------------------------


def shares_of(weights):
    return weights / weights.sum(axis=0)


@pytest.mark.equation("22.10")
def test_the_error_of_a_logarithm_is_a_function_of_the_shares():
    weights = sympy.symbols("w1:5", positive=True)
    count, total = len(weights), sum(weights)
    mean = total / count
    first = sum((w - mean) ** 2 for w in weights) / (count - 1) / (count * mean**2)
    second = sympy.Rational(count, count - 1) * sum(
        (w / total - sympy.Rational(1, count)) ** 2 for w in weights
    )
    size = total**2 / sum(w**2 for w in weights)
    third = sympy.Rational(count, count - 1) * (1 / size - sympy.Rational(1, count))
    assert_identical(first, second)
    assert_identical(first, third)


def test_effective_sample_size_and_error_by_hand(rng):
    # Weights 1, 1, 2: (4)² / 6, and 3/2 (6/16 − 1/3) = 1/16.
    shares = shares_of(np.array([[1.0], [1.0], [2.0]]))
    np.testing.assert_allclose(effective_sample_size(shares), [16 / 6], rtol=1e-15)
    np.testing.assert_allclose(monte_carlo_error(shares), [0.25], rtol=1e-15)
    equal = np.full((7, 2), 1 / 7)
    np.testing.assert_allclose(effective_sample_size(equal), [7, 7], rtol=1e-15)
    assert (monte_carlo_error(equal) == 0).all(), "no cancellation where all weights are equal"
    lonely = np.eye(7)[:, :1]
    np.testing.assert_array_equal(effective_sample_size(lonely), [1])
    assert np.isnan(monte_carlo_error(np.ones((1, 3)))).all(), "one sample says nothing about its error"


def test_the_error_is_the_spread_of_repeated_estimates(rng):
    # 4000 estimates tell their standard deviation to 1.1 %; the first order is right to about 1/K times the kurtosis.
    weights = np.exp(0.5 * rng.standard_normal((400, 4000)))
    estimates = importance_weighted_forward(np.log(weights))[0]
    told = np.sqrt((monte_carlo_error(shares_of(weights)) ** 2).mean())
    assert told == pytest.approx(estimates.std(), rel=0.07)


@pytest.mark.equation("22.11")
def test_every_rung_has_the_expectation_of_its_bound_and_none_is_out_of_order(rng):
    # Ten weights of two values each: all 2¹⁰ draws with their probabilities.
    values, probabilities = np.log([0.3, 4.0]), np.array([0.8, 0.2])
    draws = np.array(list(itertools.product((0, 1), repeat=10)))
    chances = probabilities[draws].prod(axis=1)
    ladders = [bound_ladder(values[draw]) for draw in draws]
    assert list(ladders[0]) == [1, 5]
    for k in (1, 5):
        few = np.array(list(itertools.product((0, 1), repeat=k)))
        expected = probabilities[few].prod(axis=1) @ importance_weighted_forward(values[few].T)[0]
        assert chances @ [ladder[k] for ladder in ladders] == pytest.approx(expected, rel=1e-12)
    whole = importance_weighted_forward(values[draws].T)[0]
    assert all(
        ladder[1] <= ladder[5] + 1e-12 and ladder[5] <= top + 1e-12
        for ladder, top in zip(ladders, whole, strict=True)
    )
    wild = bound_ladder(30 * rng.standard_normal(1000))
    assert list(wild) == [1, 5, 50, 500]
    assert all(low < high for low, high in itertools.pairwise(wild.values()))
    assert list(bound_ladder(np.zeros(60))) == [1, 5], "50 does not divide 60"
    assert not bound_ladder(np.zeros(1))
