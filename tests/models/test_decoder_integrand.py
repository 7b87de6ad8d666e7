"""The decoder as an integrand: its value, its derivatives, and that it is passed no more often than needed."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.estimators import ESTIMATORS, make_estimator
from scratchvae.models import decoder_integrand as module
from scratchvae.models.decoder_integrand import DecoderIntegrand, sample_gradients
from tests.models.cases import LIKELIHOODS, assert_gradients, make_case
from tests.oracles import vae as oracle
from tests.oracles.complex_step import COMPLEX_STEP_TOLERANCE, assert_close_to_largest, complex_step_vjp

BETA = 0.6


def make(rng, kl="analytic", likelihood="bernoulli", num_samples=3):
    """(case, mean, log_var, z, integrand)."""
    case = make_case(rng, depth=2, num_samples=num_samples, kl=kl, likelihood=likelihood)
    mean, log_var = case.vae.encode(case.x)
    z = mean + np.exp(log_var / 2) * case.noise
    return case, mean, log_var, z, case.vae.integrand(case.x, mean, log_var, BETA)


def value_at(case, z, mean, log_var, parameters=None):
    """f by the oracle, (S, B)."""
    parameters = case.vae.parameters if parameters is None else parameters
    variance = np.exp(log_var)
    rows = []
    for z_of_sample in z:
        rows.append([])
        for x_b, z_b, mean_b, variance_b in zip(case.x, z_of_sample, mean, variance, strict=True):
            output = oracle.decode(parameters, z_b, "tanh")
            value = oracle.log_likelihood(x_b, output, case.vae.likelihood.name, case.vae.likelihood_variance)
            if case.vae.kl == "sampled":
                value = value - BETA * oracle.log_ratio(z_b, mean_b, variance_b)
            rows[-1].append(value)
    return np.array(rows)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_value_and_every_derivative_are_those_of_the_definition(rng, kl, likelihood):
    case, mean, log_var, z, integrand = make(rng, kl, likelihood)
    value, dz = integrand.value_and_gradient(z)
    np.testing.assert_allclose(value, value_at(case, z, mean, log_var), rtol=1e-12)
    np.testing.assert_array_equal(integrand.value(z), value)
    exact = complex_step_vjp(
        lambda z, mean, log_var: value_at(case, z, mean, log_var), (z, mean, log_var), np.ones(value.shape)
    )
    assert_close_to_largest(dz, exact[0], COMPLEX_STEP_TOLERANCE, "dz")
    direct = integrand.direct_gradients()
    if kl == "analytic":
        assert direct is None
        assert integrand.kl is None
    else:
        for name, gradient, expected in zip(("mean", "log_var"), direct, exact[1:], strict=True):
            assert gradient.shape == z.shape, "one for each sample"
            assert_close_to_largest(gradient.sum(axis=0), expected, COMPLEX_STEP_TOLERANCE, name)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_decoder_gradients_are_those_of_the_summed_log_likelihood(rng, kl):
    # Without the divergence, which no parameter of the decoder is in.
    case, *_, z, integrand = make(rng, kl)
    integrand.value(z)
    found = {}
    for i, (dweight, dbias) in enumerate(integrand.decoder_gradients()):
        found |= {f"decoder.{i}.weight": dweight, f"decoder.{i}.bias": dbias}
    parameters = {name: value for name, value in case.vae.parameters.items() if name.startswith("decoder")}

    def summed(parameters):
        total = 0.0
        for z_of_sample in z:
            for x_b, z_b in zip(case.x, z_of_sample, strict=True):
                total = total + oracle.log_likelihood(
                    x_b, oracle.decode(parameters, z_b, "tanh"), "bernoulli", None
                )
        return total

    assert_gradients(found, oracle.complex_step_gradients(summed, parameters))


def test_output_gradient_is_per_sample_and_in_the_order_of_the_rows(rng):
    case, *_, z, integrand = make(rng)
    integrand.value(z)
    output = case.vae.decode(z.reshape(-1, 2)).reshape(3, 3, -1)
    expected = case.x - 1 / (1 + np.exp(-output))
    np.testing.assert_allclose(integrand.output_gradient(), expected.reshape(9, -1), rtol=1e-12, atol=1e-15)


def test_samples_may_be_arranged_in_groups(rng):
    # (K, groups, B, L), as an estimator that compares K samples gets them.
    *_, z, integrand = make(rng, "sampled", num_samples=4)
    flat = integrand.value_and_gradient(z)
    grouped = integrand.value_and_gradient(z.reshape(2, 2, 3, 2))
    np.testing.assert_array_equal(grouped[0], flat[0].reshape(2, 2, 3))
    np.testing.assert_array_equal(grouped[1], flat[1].reshape(2, 2, 3, 2))
    for gradient in integrand.direct_gradients():
        assert gradient.shape == (2, 2, 3, 2)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_decoder_is_passed_once_each_way_whatever_the_estimator(rng, monkeypatch, name, kl):
    case, mean, log_var, _, integrand = make(rng, kl)
    passes = {"forward": 0, "backward": 0}
    for way in passes:
        right = getattr(module, f"stack_{way}")

        def counted(*arguments, right=right, way=way, **options):
            passes[way] += 1
            return right(*arguments, **options)

        monkeypatch.setattr(module, f"stack_{way}", counted)
    sample_gradients(integrand, make_estimator(name), mean, log_var, case.noise)
    integrand.decoder_gradients()
    integrand.decoder_gradients()
    assert passes == {"forward": 1, "backward": 1}
    assert integrand.evaluations == 9
    assert integrand.differentiations == (9 if name == "pathwise" else 0)


def test_what_is_counted_adds_up(rng):
    *_, z, integrand = make(rng)
    integrand.value(z)
    integrand.value_and_gradient(z)
    integrand.value_and_gradient(z)
    samples = z[..., 0].size
    assert (integrand.evaluations, integrand.differentiations) == (3 * samples, 2 * samples)


def test_a_new_evaluation_forgets_the_gradients_of_the_last(rng):
    case, *_, z, integrand = make(rng)
    integrand.value(z)
    first = [dweight.copy() for dweight, _ in integrand.decoder_gradients()]
    integrand.value(-z)
    second = [dweight for dweight, _ in integrand.decoder_gradients()]
    fresh = DecoderIntegrand(case.vae.decoder_layers, case.vae.likelihood, case.x, None, BETA)
    fresh.value(-z)
    for one, other, expected in zip(first, second, fresh.decoder_gradients(), strict=True):
        assert (one != other).any()
        np.testing.assert_array_equal(other, expected[0])


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_pathwise_follows_the_direct_dependence_and_the_score_function_leaves_it_out(rng, kl):
    case, mean, log_var, z, integrand = make(rng, kl)
    dmean, dlog_var = sample_gradients(integrand, make_estimator("pathwise"), mean, log_var, case.noise)

    def along(mean, log_var):
        return value_at(case, mean + np.exp(log_var / 2) * case.noise, mean, log_var)

    exact = complex_step_vjp(along, (mean, log_var), np.ones((3, 3)))
    assert_close_to_largest(dmean.sum(axis=0), exact[0], COMPLEX_STEP_TOLERANCE, "mean")
    assert_close_to_largest(dlog_var.sum(axis=0), exact[1], COMPLEX_STEP_TOLERANCE, "log_var")
    dmean, dlog_var = sample_gradients(integrand, make_estimator("score-function"), mean, log_var, case.noise)
    value = value_at(case, z, mean, log_var)[..., None]
    np.testing.assert_allclose(dmean, value * case.noise * np.exp(-log_var / 2), rtol=1e-11)
    np.testing.assert_allclose(dlog_var, value * 0.5 * (case.noise**2 - 1), rtol=1e-10)
