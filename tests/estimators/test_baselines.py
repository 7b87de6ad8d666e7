"""Constant baselines, given or estimated from the other samples: what the note claims, and what is shipped."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from scratchvae.estimators import FunctionIntegrand, baselines, make_estimator
from scratchvae.estimators.baselines import OptimalLeaveOneOut
from scratchvae.lab.gradient_samples import gradient_samples
from tests.models.cases import make_case
from tests.oracles import estimators as oracle
from tests.oracles.complex_step import complex_step_vjp
from tests.oracles.quadrature import (
    gauss_hermite,
    gauss_hermite_product,
    symbolic_expectation,
    symbolic_variance,
    weighted_mean,
)

A = sympy.Symbol("a", real=True)
DEVIATION = sympy.Symbol("sigma", positive=True)
NOISES = sympy.symbols("epsilon1:4", real=True)


def assert_identical(one, other):
    assert sympy.simplify(one - other) == 0


def square(noise):
    return (A + DEVIATION * noise) ** 2


def scores(noise):
    return noise / DEVIATION, (noise**2 - 1) / 2


# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("17.2", "17.4")
def test_with_two_samples_the_baseline_is_the_other_value_and_the_gradient_unbiased():
    one, other = NOISES[:2]
    exact = (2 * A, DEVIATION**2)
    for score, own, gradient in zip(scores(other), scores(one), exact, strict=True):
        baseline = sympy.cancel(square(other) * score**2 / score**2)
        assert_identical(baseline, square(other))
        found = symbolic_expectation(sympy.expand((square(one) - baseline) * own), one, other)
        assert_identical(found, gradient)


@pytest.mark.equation("17.2")
def test_with_three_samples_by_enumeration():
    # Three equally likely values with a score of mean zero; every triple of them, exactly.
    values = sympy.symbols("f1:4")
    score = [sympy.Integer(-3), sympy.Integer(1), sympy.Integer(2)]
    exact = sum(f * s for f, s in zip(values, score, strict=True)) / 3
    total = 0
    for own in range(3):
        for i in range(3):
            for j in range(3):
                weights = score[i] ** 2 + score[j] ** 2
                baseline = (values[i] * score[i] ** 2 + values[j] * score[j] ** 2) / weights
                total += (values[own] - baseline) * score[own]
    assert_identical(total / 27, exact)


@pytest.mark.equation("17.3")
def test_what_the_estimation_of_the_constant_costs():
    # K = 2: the baseline is the other's f, of known mean and spread about the best constant.
    one, other = NOISES[:2]
    for score in scores(one):
        weight = symbolic_expectation(score**2, one)
        best = symbolic_expectation(sympy.expand(square(one) * score**2), one) / weight
        optimal = symbolic_variance(sympy.expand((square(one) - best) * score), one)
        distance = symbolic_expectation(sympy.expand((square(other) - best) ** 2), other)
        found = symbolic_variance(sympy.expand((square(one) - square(other)) * score), one, other)
        assert_identical(found, optimal + weight * distance)


@pytest.mark.equation("17.5")
def test_a_constant_added_to_f_drops_out():
    values, score, shift = sympy.symbols("f1:4"), sympy.symbols("s1:4"), sympy.Symbol("c")

    def baseline(values):
        numerator = sum(f * s**2 for f, s in zip(values[1:], score[1:], strict=True))
        return numerator / sum(s**2 for s in score[1:])

    shifted = [value + shift for value in values]
    assert_identical(shifted[0] - baseline(shifted), values[0] - baseline(values))


@pytest.mark.equation("17.6")
def test_when_the_mean_is_worse_than_nothing():
    mean, best, weight = sympy.symbols("m b w", real=True)
    difference = weight * ((mean - best) ** 2 - (0 - best) ** 2)  # (7.13) at b = E f and at b = 0
    assert_identical(difference, weight * mean * (mean - 2 * best))


# --- the shipped estimators: expectation ------------------------------------------------------------------

MEANS = np.array([0.7, -0.4])
LOG_VARS = np.array([-0.9, 0.3])
INTEGRANDS = {
    "quadratic": oracle.quadratic(np.array([-1.5, 0.8])),
    "wave": oracle.wave([1.3, -0.8], 0.4),
    "exponential": oracle.exponential([0.6, -0.5]),
    "coupled": oracle.coupled(),
}
GIVEN = {
    "score-function-constant": {"baseline": 1.7},
    "score-function-optimal": {"baseline_mean": [0.3, -2.0], "baseline_log_var": np.array([1.0, 5.0])},
}


def exact_gradient(known, mean, log_var):
    """Gradient of the known expectation with respect to mean and log_var, by complex step."""
    return complex_step_vjp(lambda *at: np.asarray(known.expectation(*at)), (mean, log_var), 1.0)


def no_derivative(z):
    raise AssertionError("the score function asked for a derivative of f")


def assert_exact(gradient, exact):
    np.testing.assert_allclose(gradient, exact, rtol=1e-12, atol=1e-12 * np.abs(exact).max())


@pytest.mark.parametrize("integrand", INTEGRANDS)
@pytest.mark.parametrize("name", GIVEN)
def test_any_given_constant_leaves_the_expectation_alone(name, integrand):
    known = INTEGRANDS[integrand]
    nodes, weights = gauss_hermite_product(36, 2)
    gradients = make_estimator(name, **GIVEN[name]).sample_gradients(
        FunctionIntegrand(known.value, no_derivative), MEANS, LOG_VARS, nodes
    )
    for gradient, exact in zip(gradients, exact_gradient(known, MEANS, LOG_VARS), strict=True):
        assert_exact(weighted_mean(weights, gradient), exact)


@pytest.mark.parametrize("num_samples", [2, 3])
@pytest.mark.parametrize(
    "known", [oracle.quadratic(-1.5), oracle.wave([1.3], 0.4)], ids=["quadratic", "wave"]
)
def test_optimal_leave_one_out_is_unbiased(known, num_samples):
    # Its baseline is no polynomial, but it is a factor of its own in the product rule, where E s = 0 exactly.
    expected, exact = joint(OptimalLeaveOneOut(), known, num_samples)
    for gradient, one in zip(expected, exact, strict=True):
        assert_exact(gradient, np.full(num_samples, one))


def joint(estimator, known, num_samples):
    """(expectation of each sample's gradients, exact gradients), by the product rule."""
    nodes, weights = gauss_hermite_product(24, num_samples)
    mean, log_var = np.array([0.6]), np.array([-0.5])
    gradients = estimator.sample_gradients(
        FunctionIntegrand(known.value, no_derivative), mean, log_var, nodes.T[..., None]
    )
    exact = [one.item() for one in exact_gradient(known, mean, log_var)]
    return [gradient[..., 0] @ weights for gradient in gradients], exact


def test_a_baseline_that_contains_its_own_sample_is_seen(monkeypatch):
    from scratchvae.estimators import baselines as module

    monkeypatch.setattr(
        module, "_sum_of_others", lambda terms: np.broadcast_to(terms.sum(axis=0), terms.shape)
    )
    expected, exact = joint(OptimalLeaveOneOut(), oracle.quadratic(-1.5), 3)
    for gradient, one in zip(expected, exact, strict=True):
        assert np.abs(gradient / one - 1).min() > 0.05


# --- the shipped estimators: variance ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "deviation", "target"), [(1.0, 1.0, -3.0), (0.3, 0.2, 0.5), (-2.0, 1.7, 0.0)]
)
@pytest.mark.parametrize("method", ["mean baseline", "optimal baseline"])
def test_variances_are_the_closed_forms(method, mean, deviation, target):
    nodes, weights = gauss_hermite(12)
    known, a, v = oracle.quadratic(target), mean - target, deviation**2
    published = oracle.quadratic_variances(mean, deviation, target)
    if method == "mean baseline":
        estimator = make_estimator("score-function-constant", baseline=a**2 + v)
    else:
        estimator = make_estimator(
            "score-function-optimal", baseline_mean=a**2 + 3 * v, baseline_log_var=[a**2 + 5 * v]
        )
    gradients = estimator.sample_gradients(
        FunctionIntegrand(known.value), np.array([mean]), 2 * np.log([deviation]), nodes[:, None]
    )
    for parameter, gradient in zip(("mean", "log_var"), gradients, strict=True):
        variance = weights @ (gradient[:, 0] - weights @ gradient[:, 0]) ** 2
        assert variance == pytest.approx(published[method, parameter], rel=1e-11)


def test_the_mean_baseline_can_raise_the_variance():
    # Mohamed et al. (2020): exp(−z²), z ~ N(1, 1), with respect to σ: twice ours with respect to log σ² at σ = 1.
    nodes, weights = gauss_hermite(60)

    def f(z):
        return np.exp(-(z[:, 0] ** 2))

    z = 1 + nodes
    mean = weights @ np.exp(-(z**2))
    weight = (nodes**2 - 1) ** 2 / 4
    best = weights @ (np.exp(-(z**2)) * weight) / (weights @ weight)
    found = {}
    for label, name, options in (
        ("none", "score-function", {}),
        ("mean", "score-function-constant", {"baseline": mean}),
        ("best", "score-function-optimal", {"baseline_mean": 0.0, "baseline_log_var": best}),
    ):
        gradients = make_estimator(name, **options).sample_gradients(
            FunctionIntegrand(f), np.ones(1), np.zeros(1), nodes[:, None]
        )
        by_deviation = 2 * gradients[1][:, 0]
        found[label] = weights @ (by_deviation - weights @ by_deviation) ** 2
    assert found["none"] == pytest.approx(0.1767, abs=5e-5)
    assert found["mean"] == pytest.approx(0.2232, abs=5e-5)
    assert found["best"] < found["none"] < found["mean"]
    assert mean > 2 * best, "as (17.6) says"


@pytest.mark.parametrize("num_samples", [2, 3])
def test_variance_of_optimal_leave_one_out(num_samples):
    mean, deviation, target = 0.4, 0.7, -0.9
    a, v = mean - target, deviation**2
    nodes, weights = gauss_hermite_product(24, num_samples)
    known = oracle.quadratic(target)
    gradients = OptimalLeaveOneOut().sample_gradients(
        FunctionIntegrand(known.value), np.array([mean]), 2 * np.log([deviation]), nodes.T[..., None]
    )
    published = oracle.quadratic_variances(mean, deviation, target)
    z = mean + deviation * nodes[:, 1:]
    for parameter, gradient, best, weight, score in zip(
        ("mean", "log_var"),
        gradients,
        (a**2 + 3 * v, a**2 + 5 * v),
        (1 / v, 0.5),
        (nodes[:, 1:] / deviation, (nodes[:, 1:] ** 2 - 1) / 2),
        strict=True,
    ):
        baseline = ((z - target) ** 2 * score**2).sum(axis=1) / (score**2).sum(axis=1)
        claimed = published["optimal baseline", parameter] + weight * (weights @ (baseline - best) ** 2)
        first = gradient[0, :, 0]
        assert weights @ first**2 - (weights @ first) ** 2 == pytest.approx(claimed, rel=1e-11)


def test_two_samples_make_it_leave_one_out(rng):
    noise = rng.standard_normal((2, 5, 2))
    known = INTEGRANDS["coupled"]
    for one, other in zip(
        *(
            make_estimator(name).sample_gradients(FunctionIntegrand(known.value), MEANS, LOG_VARS, noise)
            for name in ("score-function-leave-one-out", "score-function-optimal-leave-one-out")
        ),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


# --- by sampling ------------------------------------------------------------------------------------------


def variances_of_three(mean, deviation, target):
    """Of the mean over three samples whose baselines (17.1) are made of each other, (2,), by quadrature."""
    nodes, weights = gauss_hermite_product(24, 3)
    value = (mean + deviation * nodes - target) ** 2
    found = []
    for score in (nodes / deviation, (nodes**2 - 1) / 2):
        others = (value * score**2) @ (1 - np.eye(3)), score**2 @ (1 - np.eye(3))
        gradient = ((value - others[0] / others[1]) * score).mean(axis=1)
        found.append(weights @ gradient**2 - (weights @ gradient) ** 2)
    return np.array(found)


@pytest.mark.parametrize(
    "name", ["score-function-constant", "score-function-optimal", "score-function-optimal-leave-one-out"]
)
def test_sampled_mean_is_the_exact_gradient(rng, chance, name):
    mean, deviation, target = 0.7, 0.8, 0.2
    a, v = mean - target, deviation**2
    known = oracle.quadratic(target)
    options, method = {
        "score-function-constant": ({"baseline": a**2 + v}, "mean baseline"),
        "score-function-optimal": (
            {"baseline_mean": a**2 + 3 * v, "baseline_log_var": a**2 + 5 * v},
            "optimal baseline",
        ),
        "score-function-optimal-leave-one-out": ({}, None),
    }[name]
    exact = np.array([2 * a, v])
    if (
        method is None
    ):  # one draw is the mean of a group; where no sample has a score the ratio (17.1) jumps: + 5 %
        group, variances = 3, 1.05 * variances_of_three(mean, deviation, target)
    else:
        published = oracle.quadratic_variances(mean, deviation, target)
        group, variances = 1, np.array([published[method, parameter] for parameter in ("mean", "log_var")])
    noise = rng.standard_normal((group, chance.draws_needed(variances, 0.06 * exact), 1))
    gradients = make_estimator(name, **options).sample_gradients(
        FunctionIntegrand(known.value), np.array([mean]), 2 * np.log([deviation]), noise
    )
    draws = np.concatenate(gradients, axis=-1).mean(axis=0)
    chance.assert_unbiased(draws, exact, variances, bias=0.06 * exact)


# --- the shape of the thing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["score-function-constant", "score-function-optimal", "score-function-optimal-leave-one-out"]
)
@pytest.mark.parametrize("shape", [(6, 2), (6, 3, 2)])
def test_needs_values_only_each_once_and_keeps_the_dtype(rng, name, shape):
    estimator = make_estimator(name, **GIVEN.get(name, {}))

    class BlackBox:
        evaluations = differentiations = 0

        def value(self, z):
            self.evaluations += len(z)
            return np.floor(z).sum(axis=-1)

        def value_and_gradient(self, _z):
            raise AssertionError("asked for a derivative of f")

    for dtype in (np.float32, np.float64):
        integrand = BlackBox()
        noise = rng.standard_normal(shape).astype(dtype)
        gradients = estimator.sample_gradients(integrand, MEANS.astype(dtype), LOG_VARS.astype(dtype), noise)
        assert [(g.shape, g.dtype) for g in gradients] == [(shape, dtype)] * 2
        assert integrand.evaluations == 6


def test_optimal_leave_one_out_by_hand():
    # f = 1, 2, 6 with scores for the mean 1, −1, 2 at σ = 1: for the first sample (2·1 + 6·4) / 5 = 5.2, and so on.
    integrand = FunctionIntegrand(lambda _z: np.array([1.0, 2.0, 6.0]))
    noise = np.array([[1.0], [-1.0], [2.0]])
    dmean, dlog_var = OptimalLeaveOneOut().sample_gradients(integrand, np.zeros(1), np.zeros(1), noise)
    np.testing.assert_allclose(dmean[:, 0], [(1 - 5.2) * 1, (2 - 5.0) * -1, (6 - 1.5) * 2], rtol=1e-12)
    # The score for log_var is zero at ±1: the first two learn from the third alone, the third from nobody.
    np.testing.assert_allclose(dlog_var[:, 0], [0, 0, 6 * 1.5], rtol=1e-12)


def test_they_train_a_vae(rng):
    case = make_case(rng, num_samples=3)
    expected_loss, expected = case.vae.loss_and_gradients(case.x, case.noise)
    for name in ("score-function-constant", "score-function-optimal-leave-one-out"):
        estimator = make_estimator(name, **GIVEN.get(name, {}))
        loss, gradients = case.vae.loss_and_gradients(case.x, case.noise, estimator=estimator)
        assert loss == expected_loss
        np.testing.assert_array_equal(gradients["decoder.0.weight"], expected["decoder.0.weight"])


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        (
            "score-function-constant",
            {},
            TypeError,
            "came without the options ['baseline'], expected: baseline",
        ),
        ("score-function-constant", {"baseline": "high"}, TypeError, "baseline is 'high', expected a number"),
        (
            "score-function-constant",
            {"baseline": np.nan},
            ValueError,
            "baseline is nan, expected a finite number",
        ),
        ("score-function-optimal", {"baseline_mean": 1.0}, TypeError, "the options ['baseline_log_var']"),
        (
            "score-function-optimal",
            {"baseline_mean": [np.inf], "baseline_log_var": 0.0},
            ValueError,
            "baseline_mean has the value inf",
        ),
        (
            "score-function-optimal",
            {"baseline_mean": 0.0, "baseline_log_var": np.zeros(3)},
            ValueError,
            "baseline_log_var has shape (3,), expected (2,)",
        ),
        (
            "score-function-optimal",
            {"baseline_mean": np.zeros((4, 2)), "baseline_log_var": 0.0},
            ValueError,
            "baseline_mean has shape (4, 2), expected (2,)",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused_in_one_sentence(name, options, error, words):
    with pytest.raises(error) as caught:
        gradient_samples(INTEGRANDS["coupled"].value, MEANS, LOG_VARS, name, 4, 0, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match="num_samples is 1, expected at least 2: score-function-optimal"):
        gradient_samples(
            INTEGRANDS["coupled"].value, MEANS, LOG_VARS, "score-function-optimal-leave-one-out", 1
        )


def test_a_baseline_with_more_axes_than_the_mean_is_refused_with_the_whole_shape_that_fits():
    estimator = make_estimator(
        "score-function-optimal", baseline_mean=np.zeros((1, 3, 2)), baseline_log_var=0.0
    )
    known = INTEGRANDS["coupled"]
    with pytest.raises(ValueError, match=r"baseline_mean has shape \(1, 3, 2\), expected \(3, 2\)"):
        estimator.sample_gradients(
            FunctionIntegrand(known.value), np.zeros((3, 2)), np.zeros((3, 2)), np.ones((4, 3, 2))
        )


def test_sums_of_others_by_hand():
    terms = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [8.0, 80.0]])
    np.testing.assert_array_equal(
        baselines._sum_of_others(terms), np.array([[14.0, 140.0], [13.0, 130.0], [11.0, 110.0], [7.0, 70.0]])
    )


def test_weights_of_single_precision_are_squared_in_double(rng):
    score = rng.standard_normal((5, 3)).astype(np.float32)
    value = rng.standard_normal((5, 1))
    found = baselines._baseline_of_others(value, score)
    np.testing.assert_allclose(
        found, baselines._baseline_of_others(value, score.astype(np.float64)), rtol=1e-13
    )
