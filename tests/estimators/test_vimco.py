"""VIMCO: what the note claims, exactly by enumeration and quadrature, and the shipped estimator."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
import sympy

from scratchvae.estimators import make_estimator
from scratchvae.estimators.vimco import bound_of_others
from scratchvae.lab.gradient_samples import gradient_samples
from tests.estimators.test_doubly_reparameterized import (
    LOG_VAR,
    MEAN,
    PATHWISE,
    VIMCO,
    estimates,
    exact_gradient,
    rule,
)
from tests.models.cases import assert_refused
from tests.oracles import estimators as oracle

# --- the equations: three values of z, q a softmax of their logits, every tuple of samples ----------------

LOG_JOINT = [mpmath.mpf(value) for value in ("-1.3", "0.4", "-2.1")]
LOGITS = [mpmath.mpf(value) for value in ("0.3", "-0.5", "0.1")]


def log_q(logits):
    total = mpmath.log(mpmath.fsum(map(mpmath.exp, logits)))
    return [logit - total for logit in logits]


def log_mean_exp(values):
    return mpmath.log(mpmath.fsum(map(mpmath.exp, values)) / len(values))


def bound(chosen, logits, beta):
    densities = log_q(logits)
    return log_mean_exp([LOG_JOINT[z] - beta * densities[z] for z in chosen])


def without(log_weights, k):
    """(24.2), as it is written."""
    others = [w for j, w in enumerate(log_weights) if j != k]
    return log_mean_exp([*others, mpmath.fsum(others) / len(others)])


def expected(logits, num_samples, beta, of):
    densities = log_q(logits)
    return mpmath.fsum(
        mpmath.exp(mpmath.fsum(densities[z] for z in chosen)) * of(chosen, logits, beta)
        for chosen in itertools.product(range(3), repeat=num_samples)
    )


def score(z, logits, entry):
    """∂ log q(z) / ∂ logit."""
    return (1 if z == entry else 0) - mpmath.exp(log_q(logits)[entry])


@pytest.mark.equation("24.1", "24.3")
@pytest.mark.parametrize("num_samples", [2, 3])
@pytest.mark.parametrize("beta", ["1", "0.6"])
def test_expectation_by_enumeration(num_samples, beta):
    with mpmath.workdps(40):
        beta = mpmath.mpf(beta)
        for entry in range(3):

            def estimate(chosen, logits, beta, entry=entry, leave_out=True):
                densities = log_q(logits)
                log_weights = [LOG_JOINT[z] - beta * densities[z] for z in chosen]
                whole, total = log_mean_exp(log_weights), mpmath.fsum(map(mpmath.exp, log_weights))
                return mpmath.fsum(
                    (
                        whole
                        - (without(log_weights, k) if leave_out else 0)
                        - beta * mpmath.exp(log_weights[k]) / total
                    )
                    * score(z, logits, entry)
                    for k, z in enumerate(chosen)
                )

            def moved(value, entry=entry):
                logits = [value if i == entry else logit for i, logit in enumerate(LOGITS)]
                return expected(logits, num_samples, beta, bound)

            exact = mpmath.diff(moved, LOGITS[entry])
            for leave_out in (False, True):
                found = expected(
                    LOGITS,
                    num_samples,
                    beta,
                    lambda c, g, b, e=entry, out=leave_out: estimate(c, g, b, e, out),
                )
                assert abs(found - exact) < mpmath.mpf(10) ** -15 * abs(exact)


@pytest.mark.equation("24.4", "24.5")
def test_what_all_weights_share_drops_out_and_two_samples():
    first, second, shift = sympy.symbols("l1 l2 c", real=True)

    def signal(one, other):
        whole = sympy.log((sympy.exp(one) + sympy.exp(other)) / 2)
        substitute = other  # the only other weight is its own geometric mean
        return whole - sympy.log((sympy.exp(other) + sympy.exp(substitute)) / 2)

    ratio = sympy.exp(signal(first, second) - sympy.log((1 + sympy.exp(first - second)) / 2))
    assert sympy.simplify(ratio) == 1
    moved = sympy.exp(signal(first + shift, second + shift) - signal(first, second))
    assert sympy.simplify(sympy.powsimp(sympy.expand(sympy.simplify(moved)))) == 1


@pytest.mark.equation("24.4")
def test_a_shift_of_all_log_weights_shifts_the_bounds_of_others(rng):
    log_weights = 3 * rng.standard_normal((5, 4))
    np.testing.assert_allclose(
        bound_of_others(log_weights + 200), bound_of_others(log_weights) + 200, rtol=1e-13
    )


@pytest.mark.equation("24.6")
def test_blame_is_bounded():
    with mpmath.workdps(40):
        others = [mpmath.mpf(v) for v in ("-0.7", "1.1", "0.2")]
        useless = [mpmath.mpf(-1000), *others]
        signal = log_mean_exp(useless) - without(useless, 0)
        geometric = mpmath.exp(mpmath.fsum(others) / 3)
        claimed = -mpmath.log(1 + geometric / mpmath.fsum(map(mpmath.exp, others)))
        assert mpmath.almosteq(signal, claimed, rel_eps=mpmath.mpf(10) ** -35)
        assert signal > -mpmath.log(mpmath.mpf(4) / 3)
        same = [mpmath.mpf(-1000), *[mpmath.mpf(2)] * 3]  # where it is attained
        assert mpmath.almosteq(log_mean_exp(same) - without(same, 0), -mpmath.log(mpmath.mpf(4) / 3))


@pytest.mark.equation("24.7")
@pytest.mark.parametrize("num_samples", [2, 3])
def test_at_the_exact_posterior_only_the_direct_part_remains(num_samples):
    noise, weights = rule(num_samples, 6)
    v = np.exp(LOG_VAR[0])
    target = oracle.gaussian_target(MEAN[0], np.sqrt(v))
    scores = (noise[..., 0] / np.sqrt(v), (noise[..., 0] ** 2 - 1) / 2)
    for found, one, variance in zip(estimates(VIMCO, noise, target), scores, (1 / v, 0.5), strict=True):
        np.testing.assert_allclose(found, -one.mean(axis=0), rtol=1e-11, atol=1e-13)
        assert weights @ found**2 == pytest.approx(variance / num_samples, rel=1e-12)


# --- the shipped estimator --------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_samples", "count"), [(2, 100), (3, 44)])
@pytest.mark.parametrize("beta", [1.0, 0.6])
def test_expectation_is_the_gradient_of_the_expected_bound(num_samples, count, beta):
    noise, weights = rule(num_samples, count)
    found = [weights @ estimate for estimate in estimates(VIMCO, noise, beta=beta)]
    np.testing.assert_allclose(
        found, exact_gradient(num_samples, count, beta), rtol=1e-12 if num_samples == 2 else 1e-11
    )


@pytest.mark.parametrize(
    "planted",
    [
        lambda w: np.broadcast_to(
            w.mean(axis=0), w.shape
        ),  # a geometric mean of all, its own weight included
        lambda w: bound_of_others(w) + 0.1 * w,
    ],
    ids=["geometric mean of all", "a tenth of itself"],
)
def test_a_baseline_that_knows_its_sample_is_seen(monkeypatch, planted):
    from scratchvae.estimators import vimco as module

    noise, weights = rule(2, 60)
    monkeypatch.setattr(module, "bound_of_others", planted)
    found = np.array([weights @ estimate for estimate in estimates(VIMCO, noise)])
    assert (np.abs(found / exact_gradient(2, 60) - 1) > 0.02).all()


@pytest.mark.parametrize("num_samples", [2, 3, 7])
def test_bound_of_others_against_forty_digits(rng, num_samples):
    log_weights = -90 + 8 * rng.standard_normal((num_samples, 3))
    found = bound_of_others(log_weights)
    with mpmath.workdps(40):
        for b in range(3):
            column = [mpmath.mpf(w) for w in log_weights[:, b].tolist()]
            expected_column = [float(without(column, k)) for k in range(num_samples)]
            np.testing.assert_allclose(found[:, b], expected_column, rtol=1e-14)


def test_one_weight_that_is_nearly_the_whole_sum():
    # A difference of sums would leave rounding; the others' bound is about −60.
    found = bound_of_others(np.array([[0.0], [-60.0], [-60.0]]))
    assert found[0, 0] == pytest.approx(-60.0, rel=1e-14)


def test_it_never_differentiates(rng):
    def no_derivative(z):
        raise AssertionError("VIMCO asked for a derivative of f")

    target = oracle.logistic_target()
    gradient_samples(target.value, MEAN, LOG_VAR, VIMCO, 4, 0, no_derivative)
    assert not make_estimator(VIMCO).needs_gradient


def test_louder_than_the_path_in_many_dimensions_and_quieter_in_one(rng):
    target = oracle.gaussian_target(1.0, 0.7)
    noise = rng.standard_normal((5, 20_000, 10))
    zeros = np.zeros(10)
    many = {name: estimates(name, noise, target, zeros, zeros)[0].var() for name in (VIMCO, PATHWISE)}
    assert many[VIMCO] > 3 * many[PATHWISE]
    mean, log_var = np.array([0.4]), np.array([-0.3])
    one = {n: estimates(n, noise[..., :1], mean=mean, log_var=log_var)[0].var() for n in (VIMCO, PATHWISE)}
    assert one[VIMCO] < 0.6 * one[PATHWISE]


def test_one_sample_is_refused():
    assert_refused(
        ValueError,
        "num_samples is 1, expected at least 2: importance-weighted-vimco compares samples",
        lambda: gradient_samples(lambda z: z[:, 0], MEAN, LOG_VAR, VIMCO, 1),
    )
