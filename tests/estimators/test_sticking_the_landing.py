"""Sticking the landing: what the note claims, and that the shipped one does it to a VAE with the sampled KL."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from scratchvae.estimators import FunctionIntegrand, make_estimator
from scratchvae.estimators.antithetic import Antithetic
from scratchvae.estimators.sticking_the_landing import StickingTheLanding
from scratchvae.lab.gradient_samples import gradient_samples
from scratchvae.lab.variance import gradient_variance
from scratchvae.models.decoder_integrand import sample_gradients
from scratchvae.models.vae import VAE
from tests.models.cases import make_case
from tests.oracles import estimators as oracle
from tests.oracles.quadrature import (
    gauss_hermite,
    gauss_hermite_product,
    symbolic_expectation,
    symbolic_variance,
    weighted_mean,
)

A, Z, MEAN = sympy.symbols("a z mu", real=True)
DEVIATION, SPREAD = sympy.symbols("sigma s", positive=True)
NOISE = sympy.Symbol("epsilon", real=True)
RATIO = DEVIATION**2 / SPREAD**2
PATHS = (sympy.Integer(1), DEVIATION * NOISE / 2)
SCORES = (NOISE / DEVIATION, (NOISE**2 - 1) / 2)


def assert_identical(one, other):
    assert sympy.simplify(one - other) == 0


def bound_s_slope():
    """∂/∂z of log p(x, z) − log q(z) at z = μ + σε; a is μ less the posterior's mean, s its deviation."""
    return -(A + DEVIATION * NOISE) / SPREAD**2 + NOISE / DEVIATION


# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("15.1")
def test_the_direct_part_is_the_score_and_has_mean_zero():
    # f = log p(x, z) − β log q(z; μ, σ): the total derivative along z = μ + σε, term by term.
    beta = sympy.Symbol("beta", real=True)
    log_joint = sum(c * Z**power for power, c in enumerate(sympy.symbols("c:4", real=True)))
    log_q = -sympy.log(DEVIATION) - (Z - MEAN) ** 2 / (2 * DEVIATION**2)
    f = log_joint - beta * log_q
    sample = MEAN + DEVIATION * NOISE
    for parameter, scale, path, score in zip(
        (MEAN, DEVIATION), (1, DEVIATION / 2), PATHS, SCORES, strict=True
    ):
        total = sympy.diff(f.subs(Z, sample), parameter) * scale
        along_path = sympy.diff(f, Z).subs(Z, sample) * path
        assert_identical(total - along_path, -beta * score)
        assert symbolic_expectation(sympy.expand(score), NOISE) == 0


@pytest.mark.equation("15.2")
def test_nothing_is_left_at_the_exact_posterior():
    at_posterior = {A: 0, SPREAD: DEVIATION}
    assert sympy.simplify(bound_s_slope().subs(at_posterior)) == 0
    for path, score, claimed in zip(PATHS, SCORES, (1 / DEVIATION**2, sympy.Rational(1, 2)), strict=True):
        total = sympy.expand((bound_s_slope() * path - score).subs(at_posterior))
        assert_identical(symbolic_variance(total, NOISE), claimed)


@pytest.mark.equation("15.3", "15.4", "15.5")
def test_variances_for_a_gaussian_posterior():
    common = A**2 * DEVIATION**2 / (4 * SPREAD**4)
    path_claims = ((1 - RATIO) ** 2 / DEVIATION**2, common + (1 - RATIO) ** 2 / 2)
    total_claims = (RATIO**2 / DEVIATION**2, common + RATIO**2 / 2)
    for path, score, by_path, total in zip(PATHS, SCORES, path_claims, total_claims, strict=True):
        along = sympy.expand(bound_s_slope() * path)
        assert_identical(symbolic_variance(along, NOISE), by_path)
        assert_identical(symbolic_variance(sympy.expand(along - score), NOISE), total)
        # The path is the louder one below σ² = s²/2, whatever a is, and the quieter one above.
        factor = sympy.simplify((by_path - total) / (1 - 2 * RATIO))
        assert factor.is_positive


@pytest.mark.equation("15.6")
def test_variances_with_the_analytic_divergence():
    # Posterior precision 1/s² = 1 + the likelihood's; what is sampled is the likelihood's slope alone.
    slope = (
        bound_s_slope() + (MEAN + DEVIATION * NOISE) - NOISE / DEVIATION
    )  # + z, − (z − μ)/σ²: the KL's own
    by_mean = symbolic_variance(sympy.expand(slope), NOISE)
    assert_identical(by_mean, (RATIO - DEVIATION**2) ** 2 / DEVIATION**2)


# --- the shipped estimator --------------------------------------------------------------------------------


class Linear:
    """A linear VAE with one latent dimension: its posterior and the gradients of its bound are known."""

    def __init__(self, rng, batch=2):
        self.vae = VAE(3, (), 1, likelihood="gaussian", kl="sampled", dtype=np.float64, rng=0)
        self.vae.theta += 0.3 * rng.standard_normal(self.vae.theta.size)
        self.x = rng.standard_normal((batch, 3))
        weight, bias = (self.vae.parameters[f"decoder.0.{part}"] for part in ("weight", "bias"))
        self.spread = 1 / (1 + (weight**2).sum())  # the posterior's variance
        self.centre = self.spread * (self.x - bias) @ weight.T  # and its mean, (B, 1)

    def gradients(self, name, mean, log_var, noise):
        integrand = self.vae.integrand(self.x, mean, log_var, 1.0)
        estimator = make_estimator(name) if isinstance(name, str) else name
        return sample_gradients(integrand, estimator, mean, log_var, noise)

    def exact(self, mean, log_var):
        """ELBO = log p(x) − KL(q ‖ posterior): minus the derivatives of the KL."""
        return -(mean - self.centre) / self.spread, 0.5 * (1 - np.exp(log_var) / self.spread)


def test_expectation_is_the_gradient_of_the_bound(rng):
    linear = Linear(rng)
    mean, log_var = rng.standard_normal((2, 1)), rng.standard_normal((2, 1))
    nodes, weights = gauss_hermite(8)
    noise = np.repeat(nodes[:, None, None], 2, axis=1)
    for name in ("sticking-the-landing", "pathwise", Antithetic(StickingTheLanding())):
        given = noise
        if not isinstance(name, str):  # pairs: each node, and a place that is not used
            given = np.stack([noise, noise], axis=1).reshape(-1, 2, 1)
        for found, exact in zip(
            linear.gradients(name, mean, log_var, given), linear.exact(mean, log_var), strict=True
        ):
            average = weighted_mean(weights, found.reshape(8, -1, 2, 1).mean(axis=1))
            np.testing.assert_allclose(average, exact, rtol=1e-12, atol=1e-13)


def test_expectation_is_the_pathwise_one_for_a_network(rng):
    case = make_case(rng, depth=1, kl="sampled", batch=2, activation="softplus")
    case.vae.theta *= 0.5  # smooth, so that few nodes are enough
    nodes, weights = gauss_hermite_product(24, 2)
    found = {}
    for name in ("pathwise", "sticking-the-landing"):
        total = np.zeros(case.vae.theta.shape)
        for node, weight in zip(nodes, weights, strict=True):
            case.vae.loss_and_gradients(case.x, np.tile(node, (2, 1)), estimator=name)
            total += weight * case.vae.gradient
        found[name] = total
    # The two integrate polynomial and score to rounding, and the same function of the decoder.
    scale = np.abs(found["pathwise"]).max()
    np.testing.assert_allclose(found["sticking-the-landing"], found["pathwise"], rtol=0, atol=1e-12 * scale)


def test_it_is_exact_in_every_sample_at_the_posterior(rng):
    linear = Linear(rng)
    noise = rng.standard_normal((50, 2, 1))
    log_var = np.full((2, 1), np.log(linear.spread))
    for gradient in linear.gradients("sticking-the-landing", linear.centre, log_var, noise):
        np.testing.assert_allclose(gradient, 0, atol=1e-12)
    total = linear.gradients("pathwise", linear.centre, log_var, noise)
    np.testing.assert_allclose(total[0], -noise / np.sqrt(linear.spread), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(total[1], -(noise**2 - 1) / 2, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("shift", "ratio"), [(0.0, 1.3), (0.7, 0.2), (-1.5, 0.5)])
def test_variances_are_the_closed_forms(rng, shift, ratio):
    linear = Linear(rng)
    s = linear.spread
    v = ratio * s
    nodes, weights = gauss_hermite(12)
    noise = np.repeat(nodes[:, None, None], 2, axis=1)
    common = shift**2 * v / (4 * s**2)
    claims = {
        "sticking-the-landing": ((1 - ratio) ** 2 / v, common + (1 - ratio) ** 2 / 2),
        "pathwise": (ratio**2 / v, common + ratio**2 / 2),
    }
    found = {}
    for name, claim in claims.items():
        gradients = linear.gradients(name, linear.centre + shift, np.full((2, 1), np.log(v)), noise)
        variances = [weights @ (g[:, 0, 0] - weights @ g[:, 0, 0]) ** 2 for g in gradients]
        np.testing.assert_allclose(variances, claim, rtol=1e-9, atol=1e-20)
        found[name] = variances[0]
    if ratio != 0.5:
        assert (found["sticking-the-landing"] > found["pathwise"]) == (ratio < 0.5)


def test_sampled_mean_is_the_exact_gradient(rng, chance):
    linear = Linear(rng, batch=1)
    s = linear.spread
    v, shift = 0.3 * s, 0.7
    mean, log_var = linear.centre + shift, np.full((1, 1), np.log(v))
    exact = np.ravel(linear.exact(mean, log_var))
    variances = np.ravel([0.7**2 / v, shift**2 * v / (4 * s**2) + 0.7**2 / 2])
    draws = chance.draws_needed(variances, 0.06 * exact)
    assert draws < 1_500_000
    noise = rng.standard_normal((draws, 1, 1))

    def gradients(noise):
        return np.concatenate(linear.gradients("sticking-the-landing", mean, log_var, noise), axis=1)[..., 0]

    chance.assert_unbiased(gradients(noise), exact, variances, bias=0.06 * exact)
    # Noise that is a tenth too wide.
    assert not chance.check_unbiased(gradients(1.1 * noise), exact, variances).passed


def test_a_direct_part_of_the_wrong_expectation_would_be_seen(rng, monkeypatch):
    # Planted: the divergence's partial derivative with the parameters frozen, so that z's own part is missing.
    linear = Linear(rng)
    nodes, weights = gauss_hermite(8)
    mean, log_var = rng.standard_normal((2, 1)), rng.standard_normal((2, 1))
    noise = np.repeat(nodes[:, None, None], 2, axis=1)
    from scratchvae.models import decoder_integrand as module

    right = module.sampled_kl_backward
    monkeypatch.setattr(module, "sampled_kl_backward", lambda *a: tuple(0 * part for part in right(*a)))
    dmean, _ = linear.gradients("sticking-the-landing", mean, log_var, noise)
    assert np.abs(weighted_mean(weights, dmean) / linear.exact(mean, log_var)[0] - 1).min() > 0.01


# --- the shape of the thing -------------------------------------------------------------------------------


def test_with_the_analytic_divergence_it_is_pathwise(rng):
    case = make_case(rng, num_samples=2, kl="analytic")
    one, other = (
        case.vae.loss_and_gradients(case.x, case.noise, estimator=name)[1]
        for name in ("pathwise", "sticking-the-landing")
    )
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_for_any_other_function_it_is_pathwise():
    known = oracle.coupled()
    one, other = (
        gradient_samples(known.value, [0.1, 0.2], [0.0, 0.3], name, 5, 0, known.gradient)
        for name in ("pathwise", "sticking-the-landing")
    )
    np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="pass gradient="):
        gradient_samples(known.value, [0.1, 0.2], [0.0, 0.3], "sticking-the-landing", 5)
    assert make_estimator("sticking-the-landing").needs_gradient
    assert FunctionIntegrand(known.value).gradient is None


@pytest.mark.parametrize("name", ["taylor-pathwise", "taylor-score-function"])
def test_wrapped_estimators_say_what_they_follow(name):
    inner = make_estimator(name.removeprefix("taylor-"))
    assert make_estimator(name, order=1).path_only == (not inner.needs_gradient)
    assert Antithetic(StickingTheLanding()).path_only
    assert not Antithetic(make_estimator("pathwise")).path_only


def test_its_variance_in_the_lab(rng):
    # At the posterior of a linear VAE the encoder's gradient has no noise at all; the total derivative's has.
    linear = Linear(rng)
    head = linear.vae.parameters
    weight, bias = (linear.vae.parameters[f"decoder.0.{part}"] for part in ("weight", "bias"))
    head["encoder.mean.weight"][...] = linear.spread * weight.T
    head["encoder.mean.bias"][...] = -linear.spread * bias @ weight.T
    head["encoder.log_var.weight"][...] = 0
    head["encoder.log_var.bias"][...] = np.log(linear.spread)
    result = gradient_variance(linear.vae, linear.x, ("pathwise", "sticking-the-landing"), 200)
    assert result.total("sticking-the-landing", "encoder") < 1e-20
    assert result.total("pathwise", "encoder") > 0.1
