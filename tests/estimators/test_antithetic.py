"""Antithetic pairs: what the note claims, and that pairs of any shipped estimator keep its expectation."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from scratchvae.estimators import FunctionIntegrand, make_estimator
from scratchvae.estimators.antithetic import Antithetic
from scratchvae.estimators.measure_valued import MeasureValued
from scratchvae.lab.gradient_samples import gradient_samples
from tests.models.cases import make_case
from tests.oracles import estimators as oracle
from tests.oracles.complex_step import complex_step_vjp
from tests.oracles.quadrature import (
    chi_rule,
    gauss_hermite,
    gauss_hermite_product,
    symbolic_expectation,
    symbolic_variance,
    weighted_mean,
)

A = sympy.Symbol("a", real=True)
DEVIATION = sympy.Symbol("sigma", positive=True)
NOISE, OTHER = sympy.symbols("epsilon1:3", real=True)
VARIANCE = DEVIATION**2
COEFFICIENTS = sympy.symbols("c:5", real=True)


def assert_identical(one, other):
    assert sympy.simplify(one - other) == 0


def square(noise):
    return (A + DEVIATION * noise) ** 2


def pathwise(noise):
    """Gradients of one sample for f = (z − k)², with a for μ − k."""
    slope = 2 * (A + DEVIATION * noise)
    return slope, sympy.expand(slope * DEVIATION * noise / 2)


def score_function(noise):
    return sympy.expand(square(noise) * noise / DEVIATION), sympy.expand(square(noise) * (noise**2 - 1) / 2)


def per_sample_variance(gradient):
    """Twice the variance of the mean over a pair."""
    pair = (gradient.subs(NOISE, NOISE) + gradient.subs(NOISE, -NOISE)) / 2
    return 2 * symbolic_variance(sympy.expand(pair), NOISE)


# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("13.1", "13.2")
def test_odd_parts_cancel_and_even_parts_double():
    gradient = sum(c * NOISE**power for power, c in enumerate(COEFFICIENTS))  # every quartic in the noise
    even = sum(c * NOISE**power for power, c in enumerate(COEFFICIENTS) if power % 2 == 0)
    pair = (gradient + gradient.subs(NOISE, -NOISE)) / 2
    assert_identical(symbolic_expectation(pair, NOISE), symbolic_expectation(gradient, NOISE))
    assert_identical(symbolic_variance(pair, NOISE), symbolic_variance(even, NOISE))
    odd = symbolic_variance(gradient - even, NOISE)
    assert_identical(symbolic_variance(gradient, NOISE), odd + symbolic_variance(even, NOISE))
    independent = symbolic_variance((gradient + gradient.subs(NOISE, OTHER)) / 2, NOISE, OTHER)
    assert_identical(symbolic_variance(pair, NOISE) - independent, (symbolic_variance(even, NOISE) - odd) / 2)


@pytest.mark.equation("13.3")
def test_variances_of_pathwise_pairs_for_the_quadratic():
    by_mean, by_log_var = pathwise(NOISE)
    assert per_sample_variance(by_mean) == 0
    assert_identical(per_sample_variance(by_log_var), 4 * VARIANCE**2)
    single = symbolic_variance(by_log_var, NOISE)
    assert_identical(per_sample_variance(by_log_var) - single, VARIANCE * (2 * VARIANCE - A**2))


@pytest.mark.equation("13.4")
def test_variances_of_score_function_pairs_for_the_quadratic():
    by_mean, by_log_var = score_function(NOISE)
    assert_identical(per_sample_variance(by_mean), 16 * A**2)
    claimed = A**4 + 10 * A**2 * VARIANCE + 37 * VARIANCE**2
    assert_identical(per_sample_variance(by_log_var), claimed)
    # For μ it always wins, for ℓ it always loses: the differences have no real root.
    for gradient, sign in ((by_mean, -1), (by_log_var, 1)):
        difference = (per_sample_variance(gradient) - symbolic_variance(gradient, NOISE)).subs(DEVIATION, 1)
        assert not sympy.real_roots(sympy.Poly(sympy.expand(difference), A))
        assert sympy.sign(difference.subs(A, 1)) == sign


@pytest.mark.equation("13.5")
def test_leave_one_out_within_a_pair_is_biased():
    f = sum(c * (A + DEVIATION * NOISE) ** power for power, c in enumerate(COEFFICIENTS))
    partner = f.subs(NOISE, -NOISE)
    expected = symbolic_expectation(f, NOISE)
    by_mean, by_log_var = sympy.diff(expected, A), sympy.diff(expected, DEVIATION) * DEVIATION / 2
    found = symbolic_expectation(sympy.expand((f - partner) * NOISE / DEVIATION), NOISE)
    assert_identical(found, 2 * by_mean)
    assert symbolic_expectation(sympy.expand((f - partner) * (NOISE**2 - 1) / 2), NOISE) == 0
    assert by_log_var != 0


# --- the shipped estimator: expectation -------------------------------------------------------------------

MEANS = np.array([0.7, -0.4])
LOG_VARS = np.array([-0.9, 0.3])
INTEGRANDS = {
    "quadratic": oracle.quadratic(np.array([-1.5, 0.8])),
    "wave": oracle.wave([1.3, -0.8], 0.4),
    "exponential": oracle.exponential([0.6, -0.5]),
    "coupled": oracle.coupled(),
}
UNUSED = 1e3  # in the place of the noise that pairs do not use: it would be seen


def exact_gradient(known, mean, log_var):
    """Gradient of the known expectation with respect to mean and log_var, by complex step."""
    return complex_step_vjp(lambda *at: np.asarray(known.expectation(*at)), (mean, log_var), 1.0)


def assert_exact(gradient, exact):
    np.testing.assert_allclose(gradient, exact, rtol=1e-12, atol=1e-12 * np.abs(exact).max())


def paired(nodes):
    """Noise (2 P, B, ...) of nodes (P, B, ...): each followed by noise that is not to be used."""
    return np.stack([nodes, np.full(nodes.shape, UNUSED)], axis=1).reshape(-1, *nodes.shape[1:])


@pytest.mark.parametrize("integrand", INTEGRANDS)
@pytest.mark.parametrize("name", ["pathwise", "score-function"])
def test_expectation_is_the_gradient_of_the_exact_expectation(name, integrand):
    known = INTEGRANDS[integrand]
    nodes, weights = gauss_hermite_product(36, 2)
    gradients = make_estimator(f"antithetic-{name}").sample_gradients(
        FunctionIntegrand(known.value, known.gradient), MEANS, LOG_VARS, paired(nodes)
    )
    for gradient, exact in zip(gradients, exact_gradient(known, MEANS, LOG_VARS), strict=True):
        pairs = gradient.reshape(-1, 2, 2)
        for member in (pairs[:, 0], pairs[:, 1], pairs.mean(axis=1)):
            assert_exact(weighted_mean(weights, member), exact)


def test_each_sample_is_the_other_estimator_s_at_its_noise(rng):
    known = INTEGRANDS["coupled"]
    noise = rng.standard_normal((6, 3, 2))
    own = noise.copy()
    own[1::2] = -own[::2]
    means, log_vars = rng.standard_normal((3, 2)), rng.standard_normal((3, 2))
    for name in ("pathwise", "score-function"):
        found, expected = (
            make_estimator(label).sample_gradients(
                FunctionIntegrand(known.value, known.gradient), means, log_vars, given
            )
            for label, given in ((f"antithetic-{name}", noise), (name, own))
        )
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["score-function-leave-one-out", "score-function-running-mean"])
@pytest.mark.parametrize(
    "known", [oracle.quadratic(-1.5), oracle.wave([1.3], 0.4)], ids=["quadratic", "wave"]
)
def test_what_compares_samples_compares_pairs_and_stays_unbiased(name, known):
    nodes, weights = gauss_hermite_product(24, 2)  # two pairs
    mean, log_var = np.array([0.6]), np.array([-0.5])
    exact = exact_gradient(known, mean, log_var)
    total = np.zeros((2, 4))
    if name.endswith("leave-one-out"):
        gradients = make_estimator(f"antithetic-{name}").sample_gradients(
            FunctionIntegrand(known.value), mean, log_var, paired(nodes.T[..., None])
        )
        total = np.stack([gradient[..., 0] @ weights for gradient in gradients])
    else:  # it averages over a batch, so each pair of pairs is a run of its own
        for path, weight in zip(nodes, weights, strict=True):
            gradients = Antithetic(make_estimator(name)).sample_gradients(
                FunctionIntegrand(known.value), mean, log_var, paired(path[:, None])
            )
            total += weight * np.stack(gradients)[..., 0]
    for found, one in zip(total, exact, strict=True):
        assert_exact(found, np.full(4, one.item()))


def test_leave_one_out_within_pairs_would_be_seen():
    known = oracle.quadratic(-1.5)
    nodes, weights = gauss_hermite(24)
    mean, log_var = np.array([0.6]), np.array([-0.5])
    exact = exact_gradient(known, mean, log_var)
    noise = np.stack([nodes, -nodes])[..., None]
    dmean, dlog_var = make_estimator("score-function-leave-one-out").sample_gradients(
        FunctionIntegrand(known.value), mean, log_var, noise
    )
    np.testing.assert_allclose(dmean[..., 0] @ weights, 2 * exact[0].item(), rtol=1e-12)
    np.testing.assert_allclose(dlog_var[..., 0] @ weights, 0, atol=1e-12)


def test_pairs_of_measure_valued_gradients(monkeypatch):
    # With respect to mean it does not look at its coordinate's noise at all: the radius decides.
    nodes, weights = chi_rule(2)
    known = oracle.wave([1.3], 0.4)
    mean, log_var = np.array([0.6]), np.array([-0.5])
    right = MeasureValued.sample_gradients

    def with_radius(self, integrand, mean, log_var, noise):
        extra = np.zeros((2, *noise.shape))
        extra[0, ..., 0] = nodes[:, None]
        return right(self, integrand, mean, log_var, noise, extra)

    monkeypatch.setattr(MeasureValued, "sample_gradients", with_radius)
    dmean, _ = make_estimator("antithetic-measure-valued").sample_gradients(
        FunctionIntegrand(known.value), mean, log_var, paired(np.ones((len(nodes), 1)))
    )
    for member in dmean.reshape(-1, 2).T:
        assert_exact(weights @ member, exact_gradient(known, mean, log_var)[0].item())


# --- the shipped estimator: variance ----------------------------------------------------------------------


def claimed_variances(name, a, v):
    """Per sample, with respect to mean and log_var. (13.3) (13.4)"""
    if name == "pathwise":
        return 0.0, 4 * v**2
    return 16 * a**2, a**4 + 10 * a**2 * v + 37 * v**2


@pytest.mark.parametrize(
    ("mean", "deviation", "target"), [(1.0, 1.0, -3.0), (0.3, 0.2, 0.5), (-2.0, 1.7, 0.0)]
)
@pytest.mark.parametrize("name", ["pathwise", "score-function"])
def test_variances_are_the_closed_forms(name, mean, deviation, target):
    nodes, weights = gauss_hermite(12)
    known = oracle.quadratic(target)
    gradients = make_estimator(f"antithetic-{name}").sample_gradients(
        FunctionIntegrand(known.value, known.gradient),
        np.array([mean]),
        2 * np.log([deviation]),
        paired(nodes[:, None]),
    )
    claims = claimed_variances(name, mean - target, deviation**2)
    for gradient, claimed in zip(gradients, claims, strict=True):
        pair = gradient.reshape(-1, 2).mean(axis=1)
        assert 2 * weights @ (pair - weights @ pair) ** 2 == pytest.approx(claimed, rel=1e-11, abs=1e-25)


def test_it_loses_near_the_optimum_of_a_quadratic():
    # a² < 2 σ²: the gradient with respect to log_var is louder in pairs than alone.
    for a, loses in ((1.40, True), (1.43, False)):
        alone = 1.0 * (a**2 + 2)
        assert (claimed_variances("pathwise", a, 1.0)[1] > alone) == loses


# --- by sampling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pathwise", "score-function"])
def test_sampled_mean_is_the_exact_gradient(rng, chance, name):
    mean, deviation, target = 0.7, 0.8, 0.2
    a, v = mean - target, deviation**2
    known = oracle.quadratic(target)
    exact, variances = np.array([2 * a, v]), np.array(claimed_variances(name, a, v))
    variances[variances == 0] = 1e-24  # exact in every pair, up to rounding
    pairs = chance.draws_needed(variances / 2, 0.06 * exact)
    gradients = gradient_samples(
        known.value, [mean], [2 * np.log(deviation)], f"antithetic-{name}", 2 * pairs, rng, known.gradient
    )
    draws = np.concatenate(gradients, axis=1).reshape(-1, 2, 2).mean(axis=1)  # a pair is one draw
    chance.assert_unbiased(draws, exact, variances / 2, bias=0.06 * exact)


# --- the shape of the thing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["pathwise", "score-function", "score-function-leave-one-out", "measure-valued"]
)
def test_cost_and_type_are_the_other_estimator_s(rng, name):
    known = INTEGRANDS["coupled"]
    noise = rng.standard_normal((8, 2)).astype(np.float32)
    counts = []
    for label in (name, f"antithetic-{name}"):
        integrand = FunctionIntegrand(known.value, known.gradient)
        estimator = make_estimator(label)
        gradients = estimator.sample_gradients(
            integrand, MEANS.astype(np.float32), LOG_VARS.astype(np.float32), noise
        )
        counts.append((integrand.evaluations, integrand.differentiations, estimator.needs_gradient))
        assert [(g.shape, g.dtype) for g in gradients] == [((8, 2), np.float32)] * 2
    assert counts[0] == counts[1]
    assert estimator.name == f"antithetic-{name}"
    assert estimator.minimum_samples == 2 * make_estimator(name).minimum_samples


@pytest.mark.parametrize("shape", [(6, 2), (6, 3, 2)])
def test_the_other_estimator_sees_the_integrand_at_its_pairs(rng, shape):
    class Probing:
        name, needs_gradient, minimum_samples = "probing", True, 1

        def sample_gradients(self, integrand, mean, log_var, noise):
            assert mean.shape == log_var.shape == noise.shape[2:]
            value = integrand.value(noise)
            np.testing.assert_array_equal(value, (noise**3).sum(axis=-1))
            again, gradient = integrand.value_and_gradient(noise)
            np.testing.assert_array_equal(again, value)
            np.testing.assert_array_equal(gradient, 3 * noise**2)
            np.testing.assert_array_equal(integrand.hessian_diagonal(noise), 6 * noise)
            return noise, 2 * noise

    integrand = FunctionIntegrand(lambda z: (z**3).sum(axis=-1), lambda z: 3 * z**2, lambda z: 6 * z)
    noise = rng.standard_normal(shape)
    dmean, dlog_var = Antithetic(Probing()).sample_gradients(
        integrand, np.zeros(shape[1:]), np.zeros(shape[1:]), noise
    )
    np.testing.assert_array_equal(dmean[::2], noise[::2])
    np.testing.assert_array_equal(dmean[1::2], -noise[::2])
    np.testing.assert_array_equal(dlog_var, 2 * dmean)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("name", ["pathwise", "score-function-leave-one-out", "measure-valued"])
def test_it_trains_a_vae(rng, name, kl):
    case = make_case(rng, num_samples=4, kl=kl)
    own = case.noise.copy()
    own[1::2] = -own[::2]
    loss, gradients = case.vae.loss_and_gradients(case.x, case.noise, estimator=f"antithetic-{name}")
    expected_loss, expected = case.vae.loss_and_gradients(case.x, own)
    assert loss == pytest.approx(expected_loss, rel=1e-14)
    for label, gradient in gradients.items():
        if label.startswith("decoder") or name == "pathwise":
            np.testing.assert_allclose(gradient, expected[label], rtol=1e-9, atol=1e-12)


def test_odd_numbers_of_samples_are_refused():
    known = INTEGRANDS["coupled"]
    with pytest.raises(
        ValueError, match="num_samples is 5, expected an even number: antithetic-pathwise takes"
    ):
        gradient_samples(known.value, MEANS, LOG_VARS, "antithetic-pathwise", 5, 0, known.gradient)
    with pytest.raises(ValueError, match="num_samples is 3, expected at least 4: antithetic-score"):
        gradient_samples(known.value, MEANS, LOG_VARS, "antithetic-score-function-leave-one-out", 3, 0)


@pytest.mark.parametrize("name", ["importance-weighted-pathwise", "importance-weighted-vimco"])
def test_estimators_of_a_shared_bound_take_no_pairs(name):
    with pytest.raises(ValueError, match=f"estimator is '{name}', whose samples share one bound"):
        Antithetic(make_estimator(name))
