"""Exact answers: with hidden=() and a Gaussian likelihood, log p(x) and every expectation have a closed form.

These are the checks that a consistent mistake does not survive: forward and backward may agree with each other
on the wrong noise scale, the wrong weights of importance or the wrong reduction, but not with N(b, WᵀW + v I).
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from scratchvae.lab import likelihood
from scratchvae.lab.likelihood import log_marginal_likelihood
from scratchvae.models.vae import VAE
from tests.oracles import vae as oracle
from tests.oracles.quadrature import gauss_hermite, gauss_hermite_product

VARIANCE = 0.4


def set_decoder(vae, weight, bias):
    vae.parameters["decoder.0.weight"][...] = weight
    vae.parameters["decoder.0.bias"][...] = bias


def set_posterior(vae, weight, bias, log_var):
    """mean = x weight + bias; log_var the same for every example."""
    vae.parameters["encoder.mean.weight"][...] = weight
    vae.parameters["encoder.mean.bias"][...] = bias
    vae.parameters["encoder.log_var.weight"][...] = 0
    vae.parameters["encoder.log_var.bias"][...] = log_var


def linear_vae(rng, latent_dim=2, **settings):
    """(vae, x): nothing special about it, the posterior of the model is not diagonal."""
    settings = {"likelihood": "gaussian", "likelihood_variance": VARIANCE, "dtype": np.float64} | settings
    vae = VAE(3, (), latent_dim, rng=rng, **settings)
    vae.theta[...] = 0.6 * rng.standard_normal(vae.theta.size)
    return vae, rng.standard_normal((4, 3))


def decoder_of(vae):
    return vae.parameters["decoder.0.weight"], vae.parameters["decoder.0.bias"], vae.likelihood_variance


def vae_with_exact_posterior(rng, widen=1.0, shift=0.0, **settings):
    """(vae, x): orthogonal rows of W make p(z|x) diagonal, so that q can be it, or off by a known amount."""
    vae, x = linear_vae(rng, **settings)
    weight = np.linalg.qr(rng.standard_normal((3, vae.latent_dim)))[0].T * np.array(
        [[1.3], [0.5]][: vae.latent_dim]
    )
    set_decoder(vae, weight, bias := rng.standard_normal(3))
    _, covariance = oracle.linear_posterior(x, weight, bias, VARIANCE)
    spread = np.diag(covariance)
    to_mean = weight.T * spread / VARIANCE
    set_posterior(vae, to_mean, shift * np.sqrt(spread) - bias @ to_mean, np.log(widen * spread))
    return vae, x


def expected_terms(vae, x, count=4):
    """The mean over noise of every term of the bound, (B,) each, by Gauss–Hermite through the shipped code."""
    nodes, weights = gauss_hermite_product(count, vae.latent_dim)
    means = []
    for example in x:  # each node as an example of its own, so that its weight can be the quadrature's
        elbo = vae.elbo(np.repeat(example[None], len(nodes), axis=0), nodes)
        means.append([weights @ part for part in elbo])
    return np.array(means).T


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_expected_loss_is_the_closed_form(rng, kl, beta):
    vae, x = linear_vae(rng, kl=kl, beta=beta)
    mean, log_var = vae.encode(x)
    reconstruction = oracle.linear_expected_reconstruction(x, mean, np.exp(log_var), *decoder_of(vae))
    divergence = [
        oracle.divergence_of_gaussians(m, np.diag(np.exp(v)), np.zeros(2), np.eye(2))
        for m, v in zip(mean, log_var, strict=True)
    ]
    value, found_reconstruction, found_divergence = expected_terms(vae, x)
    np.testing.assert_allclose(found_reconstruction, reconstruction, rtol=1e-12)
    np.testing.assert_allclose(found_divergence, divergence, rtol=1e-11)
    np.testing.assert_allclose(value, reconstruction - beta * np.array(divergence), rtol=1e-11)


def test_oracle_s_evidence_is_that_of_scipy(rng):
    vae, x = linear_vae(rng)
    weight, bias, variance = decoder_of(vae)
    expected = multivariate_normal(bias, weight.T @ weight + variance * np.eye(3)).logpdf(x)
    np.testing.assert_allclose(oracle.linear_log_evidence(x, weight, bias, variance), expected, rtol=1e-12)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_the_bound_falls_short_of_log_p_by_the_divergence_from_the_posterior(rng, kl):
    vae, x = linear_vae(rng, kl=kl)
    mean, log_var = vae.encode(x)
    best, covariance = oracle.linear_posterior(x, *decoder_of(vae))
    gap = [
        oracle.divergence_of_gaussians(m, np.diag(np.exp(v)), best_m, covariance)
        for m, v, best_m in zip(mean, log_var, best, strict=True)
    ]
    assert min(gap) > 0.01
    value, *_ = expected_terms(vae, x)
    np.testing.assert_allclose(value, oracle.linear_log_evidence(x, *decoder_of(vae)) - gap, rtol=1e-11)


# --- importance weighting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("num_samples", [1, 2, 9])
def test_at_the_exact_posterior_every_sample_gives_log_p(rng, num_samples):
    # p(x, z) / q(z|x) = p(x) whatever z: no other weights do that, and no number of samples spoils it.
    vae, x = vae_with_exact_posterior(rng)
    expected = oracle.linear_log_evidence(x, *decoder_of(vae))
    np.testing.assert_allclose(log_marginal_likelihood(vae, x, num_samples, rng=0), expected, rtol=1e-12)
    np.testing.assert_allclose(expected_terms(vae, x)[0], expected, rtol=1e-12)
    vae.kl = "sampled"
    np.testing.assert_allclose(vae.elbo(x, rng=0).value, expected, rtol=1e-12)


def expected_bound(monkeypatch, vae, example, num_samples, count):
    """(E L_K, E of its exponential) by the product rule over all K samples, through `log_marginal_likelihood`."""
    nodes, weights = gauss_hermite_product(count, num_samples)
    draws = iter(nodes)
    monkeypatch.setattr(likelihood, "standard_normal", lambda rng, shape, dtype: next(draws).reshape(shape))
    bounds = log_marginal_likelihood(vae, np.repeat(example, len(nodes), axis=0), num_samples)
    return weights @ bounds, weights @ np.exp(bounds)


def test_bounds_rise_with_the_samples_and_stay_below_log_p(rng, monkeypatch):
    # A proposal wider than the posterior, in one latent dimension: bounded weights, which quadrature likes.
    vae, x = vae_with_exact_posterior(rng, latent_dim=1, widen=1.4, shift=0.5)
    example = x[:1]
    (log_p,) = oracle.linear_log_evidence(example, *decoder_of(vae))
    bounds = []
    for num_samples, count in ((1, 30), (2, 30), (3, 16)):
        bound, likelihood_of_x = expected_bound(monkeypatch, vae, example, num_samples, count)
        assert likelihood_of_x == pytest.approx(np.exp(log_p), rel=1e-6)
        bounds.append(bound)
    assert bounds[0] == pytest.approx(expected_terms(vae, example)[0][0], rel=1e-11), "one sample: the ELBO"
    assert all(more - fewer > 1e-3 for fewer, more in itertools.pairwise([*bounds, log_p]))


def test_importance_sampling_converges_to_log_p(rng, chance, monkeypatch):
    # A weight over p(x) has mean 1 and, in each latent dimension, second moment ∫ p(z|x)² / q(z|x) dz.
    widen, shift, num_samples = 1.3, 0.4, 20_000
    vae, x = vae_with_exact_posterior(rng, widen=widen, shift=shift)
    nodes, weights = gauss_hermite(60)
    ratio = np.sqrt(widen) * np.exp(((nodes - shift) ** 2 / widen - nodes**2) / 2)
    # The mean of so many weights, none of them above three times their mean, is normal.
    _, high = chance.between(norm, comparisons=4)
    allowed = high * np.sqrt(((weights @ ratio) ** 2 - 1) / num_samples)
    expected = oracle.linear_log_evidence(x, *decoder_of(vae))
    assert np.abs(log_marginal_likelihood(vae, x, num_samples, rng) - expected).max() < allowed
    # The plant: samples 30 % too widely spread, weighted as if they were not.
    right = likelihood.gaussian_sample_forward
    monkeypatch.setattr(
        likelihood, "gaussian_sample_forward", lambda mean, log_var, noise: right(mean, log_var, 1.3 * noise)
    )
    assert np.abs(log_marginal_likelihood(vae, x, num_samples, rng) - expected).min() > allowed


# --- the optimum ------------------------------------------------------------------------------------------


def at_probabilistic_pca(rng, divisor):
    """(vae, x): all parameters at the solution that one eigendecomposition gives."""
    x = rng.standard_normal((12, 2)) @ rng.standard_normal((2, 5)) + 0.5 * rng.standard_normal((12, 5)) + 1.0
    weight, bias, variance = oracle.probabilistic_pca(x, 2, divisor or len(x))
    vae = VAE(5, (), 2, likelihood="gaussian", likelihood_variance=variance, dtype=np.float64, rng=rng)
    _, covariance = oracle.linear_posterior(x, weight, bias, variance)
    to_mean = weight.T @ covariance / variance
    set_decoder(vae, weight, bias)
    set_posterior(vae, to_mean, -bias @ to_mean, np.log(np.diag(covariance)))
    return vae, x


def expected_gradients(vae, x):
    """(the mean over noise of the gradient vector, the mean of its size) by Gauss–Hermite."""
    nodes, weights = gauss_hermite_product(4, vae.latent_dim)
    gradients = []
    for node in nodes:
        vae.loss_and_gradients(x, np.broadcast_to(node, (len(x), vae.latent_dim)))
        gradients.append(vae.gradient.copy())
    return weights @ np.array(gradients), weights @ np.abs(gradients)


def test_at_probabilistic_pca_the_bound_is_the_likelihood_and_the_gradient_vanishes(rng):
    # Lucas et al. (2019): the best linear VAE is the maximum-likelihood model of probabilistic PCA.
    vae, x = at_probabilistic_pca(rng, None)
    expected = oracle.linear_log_evidence(x, *decoder_of(vae))
    np.testing.assert_allclose(expected_terms(vae, x)[0], expected, rtol=1e-10)
    gradient, size = expected_gradients(vae, x)
    assert size.min() > 1e-3, "single gradients do not vanish"
    assert np.abs(gradient).max() < 1e-12 * size.max()


def test_a_covariance_over_n_minus_1_is_not_the_optimum(rng):
    gradient, size = expected_gradients(*at_probabilistic_pca(rng, 11))
    assert np.abs(gradient).max() > 1e-3 * size.max()
