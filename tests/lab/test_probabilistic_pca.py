"""Probabilistic PCA: its equations, its maximum, and a linear VAE that is trained to it.

That the ELBO's gradient vanishes there, and not at a covariance over N − 1, is in `tests/models/test_linear_vae.py`.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sympy
from scipy.stats import multivariate_normal, norm

from scratchvae.lab.likelihood import estimate_log_likelihood
from scratchvae.lab.probabilistic_pca import linear_log_likelihood, probabilistic_pca
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.training.data import load_dataset
from scratchvae.training.loop import fit
from tests.models.cases import assert_refused
from tests.models.test_linear_vae import decoder_of, linear_vae, set_decoder, set_posterior
from tests.oracles import vae as oracle


def data(rng, count=40, dim=6):
    return rng.standard_normal((count, 3)) @ rng.standard_normal((3, dim)) + 0.4 * rng.standard_normal(
        (count, dim)
    )


def mean_log_density(x, weight, bias, variance):
    """By SciPy, from the full covariance matrix."""
    covariance = weight.T @ weight + variance * np.eye(x.shape[1])
    return multivariate_normal(bias, covariance).logpdf(x).mean()


# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("25.2")
def test_log_p_of_a_small_matrix_is_that_of_the_large_one(rng):
    # In rational numbers, so that both identities hold exactly or not at all.
    entries = [sympy.Rational(int(i), 7) for i in rng.integers(-20, 20, 9)]
    weight, r, v = sympy.Matrix(2, 3, entries[:6]), sympy.Matrix(1, 3, entries[6:]), sympy.Rational(3, 8)
    large, small = weight.T * weight + v * sympy.eye(3), sympy.eye(2) + weight * weight.T / v
    assert large.det() == v**3 * small.det()
    by_small = (r * r.T)[0] / v - (r * weight.T * small.inv() * weight * r.T)[0] / v**2
    assert (r * large.inv() * r.T)[0] == by_small
    log_p = -(3 * sympy.log(2 * sympy.pi * v) + sympy.log(small.det()) + by_small) / 2
    vae = VAE(3, (), 2, likelihood="gaussian", likelihood_variance=float(v), dtype=np.float64, rng=0)
    set_decoder(vae, np.array(weight, dtype=float), 0)
    assert linear_log_likelihood(vae, np.array(r, dtype=float))[0] == pytest.approx(float(log_p), rel=1e-13)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_log_p_of_a_linear_vae_is_that_of_scipy(rng, dtype):
    vae, x = linear_vae(rng, dtype=dtype)
    x = x.astype(dtype)
    weight, bias, variance = decoder_of(vae)
    covariance = weight.T.astype(np.float64) @ weight + variance * np.eye(3)
    expected = multivariate_normal(bias.astype(np.float64), covariance).logpdf(x)
    found = linear_log_likelihood(vae, x)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.dtype == np.float64


@pytest.mark.equation("25.4")
@pytest.mark.parametrize("variance", [0.3, 2.0])
def test_no_other_weights_make_the_data_more_probable(rng, variance):
    # The gradient of (25.3) vanishes, and every step away from there, or to other components, is a step down.
    x = data(rng)
    best = probabilistic_pca(x, 2, variance)
    covariance = best.weight.T @ best.weight + variance * np.eye(6)
    inverse, sample = np.linalg.inv(covariance), np.cov(x.T, bias=True)
    gradient = best.weight @ (inverse - inverse @ sample @ inverse)
    assert np.abs(gradient).max() < 1e-12
    maximum = mean_log_density(x, best.weight, best.bias, variance)
    for size in (1e-3, 0.1, 1.0):
        for _ in range(20):
            other = best.weight + size * rng.standard_normal(best.weight.shape)
            assert mean_log_density(x, other, best.bias, variance) < maximum
            shifted = best.bias + size * rng.standard_normal(6)
            assert mean_log_density(x, best.weight, shifted, variance) < maximum
    values, vectors = np.linalg.eigh(sample)
    for pair in itertools.combinations(range(6), 2):
        excess = np.maximum(values[list(pair)] - variance, 0)
        other = np.sqrt(excess)[:, None] * vectors[:, list(pair)].T
        assert mean_log_density(x, other, best.bias, variance) <= maximum + 1e-12


@pytest.mark.equation("25.5")
def test_no_other_variance_makes_the_data_more_probable(rng):
    x = data(rng)
    best = probabilistic_pca(x, 2)
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    assert best.variance == pytest.approx(values[:4].mean(), rel=1e-12)
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert probabilistic_pca(x, 2, factor * best.variance).log_likelihood < best.log_likelihood
    v, discarded, count = sympy.symbols("v s n", positive=True)
    derivative = sympy.diff(-(count * sympy.log(v) + discarded / v) / 2, v)
    assert sympy.solve(derivative, v) == [discarded / count]


@pytest.mark.equation("25.6")
@pytest.mark.parametrize("variance", [None, 0.3, 2.0, 50.0])
def test_the_maximum_is_the_likelihood_of_the_model(rng, variance):
    x = data(rng)
    best = probabilistic_pca(x, 2, variance)
    expected = mean_log_density(x, best.weight, best.bias, best.variance)
    assert best.log_likelihood == pytest.approx(expected, rel=1e-12)


def test_all_is_that_of_the_oracle(rng):
    x = data(rng)
    best = probabilistic_pca(x, 3)
    weight, bias, variance = oracle.probabilistic_pca(x, 3, len(x))
    np.testing.assert_allclose(best.weight.T @ best.weight, weight.T @ weight, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(best.bias, bias, rtol=1e-14)
    assert best.variance == pytest.approx(variance, rel=1e-12)


def exact_vae(x, latent_dim, variance=None):
    """The VAE at (25.4) with the encoder of (25.7), and the maximum."""
    best = probabilistic_pca(x, latent_dim, variance)
    settings = {"likelihood": "gaussian", "likelihood_variance": best.variance, "dtype": np.float64}
    vae = VAE(x.shape[1], (), latent_dim, rng=0, **settings)
    spread = 1 / (1 + (best.weight**2).sum(axis=1) / best.variance)
    to_mean = best.weight.T * spread / best.variance
    set_decoder(vae, best.weight, best.bias)
    set_posterior(vae, to_mean, -best.bias @ to_mean, np.log(spread))
    return vae, best


@pytest.mark.equation("25.7")
@pytest.mark.equation("25.8")
@pytest.mark.parametrize("variance", [None, 0.8, 3.0])
def test_at_the_optimum_the_linear_encoder_is_the_posterior_and_all_bounds_are_log_p(rng, variance):
    x = data(rng)
    vae, best = exact_vae(x, 3, variance)
    mean, log_var = vae.encode(x)
    expected, covariance = oracle.linear_posterior(x, best.weight, best.bias, best.variance)
    np.testing.assert_allclose(mean, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose([np.diag(np.exp(row)) for row in log_var], [covariance] * len(x), atol=1e-12)
    found = estimate_log_likelihood(vae, x, 10, 0)
    for bound in found.bounds.values():
        np.testing.assert_allclose(bound, linear_log_likelihood(vae, x), rtol=1e-11)
    assert found.value.mean() == pytest.approx(best.log_likelihood, rel=1e-12)


def test_the_ladder_climbs_from_the_exact_elbo_to_the_exact_log_p(rng, chance):
    # An encoder that is off by a known divergence: 64 examples, 2000 samples; errors of so many are normal. What is
    # 0.02 nats wrong at either end of the ladder is seen.
    low, high = chance.between(norm, comparisons=2)
    x = data(rng, count=64)
    vae, _ = exact_vae(x, 2)
    vae.parameters["encoder.log_var.bias"][...] += 0.4
    found = estimate_log_likelihood(vae, x, 2000, rng)
    exact = linear_log_likelihood(vae, x)
    divergence = 2 * (np.exp(0.4) - 1 - 0.4) / 2
    # log w = log p(x) − ½ (e^0.4 − 1) |ε|² + ½ · 2 · 0.4: its variance is that of two squares, times ¼ (e^0.4 − 1)²
    error = (np.exp(0.4) - 1) / np.sqrt(64 * 2000)
    lowest = (exact - found.bounds[1]).mean() - divergence
    highest, its_error = (found.value - exact).mean(), np.linalg.norm(found.monte_carlo_error) / 64
    for planted in (-0.02, 0, 0.02):
        assert (low < (lowest + planted) / error < high) == (planted == 0)
        assert (low < (highest + planted) / its_error < high) == (planted == 0)
    gaps = [(exact - bound).mean() for bound in found.bounds.values()]
    assert all(wider > closer for wider, closer in itertools.pairwise(gaps))
    assert abs(gaps[-1]) < 0.1 * gaps[0]


# --- a VAE reaches it -------------------------------------------------------------------------------------


def test_training_reaches_the_maximum():
    digits = load_dataset("digits").train[:400]
    best = probabilistic_pca(digits, 2)
    vae = VAE(64, (), 2, likelihood="gaussian", likelihood_variance=best.variance, rng=0)
    for seed, rate in enumerate((3e-2, 1e-2, 3e-3, 1e-3)):
        fit(vae, digits, epochs=250, batch_size=400, learning_rate=rate, rng=seed, progress=False)
    short = best.log_likelihood - linear_log_likelihood(vae, digits).mean()
    assert 0 <= short < 0.01, f"{short} nats below the maximum, which nothing exceeds"
    bounds = estimate_log_likelihood(vae, digits, 50, 0).bounds
    assert best.log_likelihood - bounds[1].mean() < 0.02, "the encoder has followed"
    # Its latent variables are the principal components themselves, not a rotation of them.
    rows = decoder_of(vae)[0]
    cosine = rows[0] @ rows[1] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1])
    assert abs(cosine) < 0.05


# --- the door ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"latent_dim": 5}, "latent_dim is 5, expected less than the 5 columns of x"),
        ({"latent_dim": 3}, "latent_dim is 3, expected less: … all of the 4 examples"),
        ({"latent_dim": 0}, "latent_dim is 0, expected an integer of at least 1"),
        ({"x": np.full((4, 5), np.nan)}, "x has … nan"),
        ({"variance": 0.0}, "variance is 0, expected a finite number greater than 0"),
    ],
    ids=["all columns", "all of it", "none", "NaN", "no variance"],
)
def test_what_has_no_maximum_is_refused_in_one_sentence(rng, arguments, words):
    arguments = {"x": rng.standard_normal((4, 5)), "latent_dim": 2} | arguments
    assert_refused(ValueError, words, lambda: probabilistic_pca(**arguments))


def test_other_models_have_no_closed_form(rng):
    x = np.zeros((2, 3))
    for settings in ({"hidden": (4,), "likelihood": "gaussian"}, {"hidden": (), "likelihood": "bernoulli"}):
        vae = VAE(3, latent_dim=2, rng=0, **settings)
        assert_refused(
            ValueError, "expected hidden=() and 'gaussian'", lambda vae=vae: linear_log_likelihood(vae, x)
        )
    assert_refused(
        TypeError, "expected a VAE", lambda: linear_log_likelihood(Autoencoder(3, (), 2, rng=0), x)
    )
