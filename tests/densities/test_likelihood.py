"""The table of likelihoods: right pairs under the right names, means, draws, and bad arguments."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scratchvae.densities.bernoulli import bernoulli_likelihood_backward, bernoulli_likelihood_forward
from scratchvae.densities.gaussian import gaussian_likelihood_backward, gaussian_likelihood_forward
from scratchvae.densities.likelihood import LIKELIHOODS, make_likelihood
from tests.oracles import densities as oracle
from tests.oracles.complex_step import (
    COMPLEX_STEP_TOLERANCE,
    DIFFERENCE_TOLERANCE,
    assert_close_to_largest,
    complex_step_vjp,
    five_point_vjp,
    unchanged,
)

VARIANCE = 0.3
each_likelihood = pytest.mark.parametrize("name", LIKELIHOODS)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def _oracle(name):
    if name == "bernoulli":
        return oracle.bernoulli_likelihood
    return lambda x, mean: oracle.gaussian_likelihood(x, mean, VARIANCE)


@each_likelihood
@pytest.mark.parametrize("examples", [1, 2, 64])
def test_gradient_against_both_oracles(rng, name, examples):
    likelihood = make_likelihood(name, variance=VARIANCE)
    x, parameters = rng.uniform(size=(examples, 3)), rng.uniform(-3, 3, (2, examples, 3))
    dy = rng.standard_normal((2, examples))
    y, cache = likelihood.forward(x, parameters)
    assert_close_to_largest(y, _oracle(name)(x, parameters), 1e-14, "log_likelihood")
    (twin,) = complex_step_vjp(lambda p: _oracle(name)(x, p), (parameters,), dy)
    (shipped,) = five_point_vjp(lambda p: likelihood.forward(x, p)[0], (parameters,), dy)
    for scale in (1e-3, 1.0, 1e3):
        dparameters = likelihood.backward(scale * dy, cache)
        assert_close_to_largest(dparameters, scale * twin, COMPLEX_STEP_TOLERANCE, "dparameters")
        assert_close_to_largest(dparameters, scale * shipped, DIFFERENCE_TOLERANCE, "dparameters")


def test_names_and_functions(rng):
    assert LIKELIHOODS == ("bernoulli", "gaussian")
    x, parameters, dy = rng.uniform(size=(4, 3)), rng.standard_normal((4, 3)), rng.standard_normal(4)
    for name, forward, backward in (
        ("bernoulli", bernoulli_likelihood_forward, bernoulli_likelihood_backward),
        ("gaussian", gaussian_likelihood_forward, gaussian_likelihood_backward),
    ):
        likelihood = make_likelihood(name)  # of unit variance, if it has one
        assert likelihood.name == name
        y, cache = likelihood.forward(x, parameters)
        expected, expected_cache = forward(x, parameters)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(likelihood.backward(dy, cache), backward(dy, expected_cache))


def test_domains():
    bernoulli, gaussian = make_likelihood("bernoulli"), make_likelihood("gaussian")
    assert (bernoulli.low, bernoulli.high) == (0, 1)
    assert (gaussian.low, gaussian.high) == (-np.inf, np.inf)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"'poisson'.*bernoulli, gaussian"):
        make_likelihood("poisson")


@pytest.mark.parametrize("variance", [0.0, -1.0, np.nan, np.inf])
def test_a_variance_is_a_positive_number(variance):
    with pytest.raises(ValueError, match="likelihood_variance"):
        make_likelihood("gaussian", variance=variance)


@pytest.mark.parametrize("variance", ["1", None, True])
def test_a_variance_is_a_number(variance):
    with pytest.raises(TypeError, match="likelihood_variance"):
        make_likelihood("gaussian", variance=variance)


@each_dtype
def test_means(dtype):
    logits = np.array([[0.0, 2.0, -1e4, 1e4]], dtype)
    # σ(2) = 0.880797077977882444059729…
    expected = np.array([[0.5, 0.88079707797788244406, 0.0, 1.0]])
    mean = make_likelihood("bernoulli").mean(logits)
    np.testing.assert_allclose(mean, expected, rtol=2 * np.finfo(dtype).eps, atol=0)
    assert mean.dtype == dtype

    same = make_likelihood("gaussian", variance=9.0).mean(logits)
    np.testing.assert_array_equal(same, logits)
    assert same.dtype == dtype
    assert not np.shares_memory(same, logits)


@each_dtype
def test_bernoulli_draws(rng, chance, dtype):
    # 20 000 draws per logit. Counts are binomial: the quantiles are at most 0.022 away, the standard error is 0.0035,
    # so a probability that is off by 0.045 is missed with a probability below 1e-10.
    logits, count = np.array([-2.0, 0.0, 1.5], dtype), 20_000
    draws = make_likelihood("bernoulli").sample(np.broadcast_to(logits, (count, 3)), rng)
    assert draws.dtype == dtype
    assert set(np.unique(draws)) == {0, 1}
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    low, high = chance.between(stats.binom(count, probability), comparisons=3)
    assert ((low <= draws.sum(axis=0)) & (draws.sum(axis=0) <= high)).all()
    # exchanged zeros and ones, planted
    exchanged = (1 - draws).sum(axis=0)
    assert ((exchanged < low) | (exchanged > high))[[0, 2]].all()
    # certain pixels are certain
    certain = make_likelihood("bernoulli").sample(np.array([[-1e4, 1e4]] * 1000, dtype), rng)
    np.testing.assert_array_equal(certain, [[0, 1]] * 1000)


@each_dtype
@pytest.mark.parametrize("variance", [0.09, 4.0])
def test_gaussian_draws(rng, chance, variance, dtype):
    # 4000 draws: a variance wrong by a factor 1.23 is noticed with a probability above 0.999; the planted mistake,
    # the variance used as a standard deviation, makes it 0.09 or 4 times what it should be.
    mean, count = np.array([0.4, -3.0], dtype), 4000
    draws = make_likelihood("gaussian", variance=variance).sample(np.broadcast_to(mean, (count, 2)), rng)
    assert draws.dtype == dtype
    deviations = draws.astype(np.float64) - mean
    low, high = chance.between(stats.norm(scale=np.sqrt(variance / count)), comparisons=4)
    assert (low <= deviations.mean(axis=0)).all()
    assert (deviations.mean(axis=0) <= high).all()

    low, high = chance.between(stats.chi2(count), comparisons=4)

    def fits(deviations):
        scaled = (deviations**2).sum(axis=0) / variance
        return (low <= scaled) & (scaled <= high)

    assert fits(deviations).all()
    assert not fits(deviations * np.sqrt(variance)).any()


@each_likelihood
def test_a_draw_uses_the_generator_that_it_is_given(name):
    likelihood, parameters = make_likelihood(name), np.zeros((5, 40))
    one, same = (likelihood.sample(parameters, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    generator = np.random.default_rng(3)
    likelihood.sample(parameters, generator)
    assert (likelihood.sample(parameters, generator) != one).any()


@each_likelihood
def test_arguments_are_left_alone(rng, name):
    likelihood, parameters = make_likelihood(name), rng.standard_normal((5, 4))
    with unchanged(parameters):
        likelihood.mean(parameters)[:] = 7
        likelihood.sample(parameters, rng)[:] = 7
