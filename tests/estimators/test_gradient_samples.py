"""`gradient_samples`, which puts noise, integrand and estimator together; and the one place here that samples.

The expectations are settled by quadrature in the neighbouring files. What is left for sampling is the way from
`rng=` to the estimator: that the noise is standard normal, independent, and the one that the estimator uses.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from scratchvae.estimators import ESTIMATORS
from scratchvae.estimators.pathwise import Pathwise
from scratchvae.lab import gradient_samples as module
from scratchvae.lab.gradient_samples import gradient_samples
from tests.oracles import estimators as oracle
from tests.oracles.complex_step import complex_step_vjp
from tests.oracles.quadrature import gauss_hermite_product, weighted_mean

MEAN = np.array([0.7, -0.4])
LOG_VAR = np.array([0.0, 0.3])
KNOWN = oracle.quadratic(np.array([0.2, 0.2]))

# --- one statistical test ---------------------------------------------------------------------------------

# What is to be seen: a gradient that is 6 % wrong in any one entry.
BIAS = 0.06
# One draw is one sample, unless samples of a call know of each other: then it is the mean of a call of so many.
SAMPLES = {"score-function-running-mean": 4000, "score-function-leave-one-out": 4000}


@functools.cache
def exact_gradients():
    return np.stack(complex_step_vjp(lambda *at: np.asarray(KNOWN.expectation(*at)), (MEAN, LOG_VAR), 1.0))


@functools.cache
def variance_of_one_draw(estimator):
    """(2, L): of the gradients with respect to mean and log_var, from the formulas."""
    nodes, weights = gauss_hermite_product(10, 2)
    deviation = np.exp(LOG_VAR / 2)
    z = MEAN + deviation * nodes
    value, slope = KNOWN.value(z)[:, None, None], KNOWN.gradient(z)
    average = weighted_mean(weights, value)
    spread = weighted_mean(weights, (value - average) ** 2)
    score = np.stack([nodes / deviation, (nodes**2 - 1) / 2], axis=1)

    def variance(gradients):
        return weighted_mean(weights, gradients**2) - weighted_mean(weights, gradients) ** 2

    if estimator == "pathwise":
        return variance(np.stack([slope, slope * deviation * nodes / 2], axis=1))
    plain, centred = variance(value * score), variance((value - average) * score)
    if estimator == "score-function":
        return plain
    samples, of_baseline = SAMPLES[estimator], spread * weighted_mean(weights, score**2)
    if estimator == "score-function-leave-one-out":  # (7.15): the variance of each, and the covariances
        return (centred + (of_baseline + exact_gradients() ** 2) / (samples - 1)) / samples
    # (7.19): no covariances; the first has no baseline, the later ones more and more of it
    past = 0.95 ** np.arange(1, samples)
    steady = (0.05 / 1.95 * (1 + past) / (1 - past)).sum()
    return (plain + (samples - 1) * centred + steady * of_baseline) / samples**2


def draws(estimator, chance, rng):
    """As many as it takes to see BIAS, (N, 2, L)."""
    count = chance.draws_needed(variance_of_one_draw(estimator), BIAS * exact_gradients())
    samples = SAMPLES.get(estimator)

    def gradients(size):
        return np.stack(
            gradient_samples(KNOWN.value, MEAN, LOG_VAR, estimator, size, rng, KNOWN.gradient), axis=1
        )

    return (
        gradients(count) if samples is None else np.array([gradients(samples).mean(0) for _ in range(count)])
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_sampled_mean_is_the_exact_gradient(rng, chance, estimator):
    found = draws(estimator, chance, rng)
    assert len(found) * SAMPLES.get(estimator, 1) < 2_500_000
    chance.assert_unbiased(
        found, exact_gradients(), variance_of_one_draw(estimator), bias=BIAS * exact_gradients()
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_noise_that_is_too_wide_is_seen(rng, chance, monkeypatch, estimator):
    # 4 % too wide: the gradient with respect to log σ² is 8 % too large.
    right = module.standard_normal
    monkeypatch.setattr(module, "standard_normal", lambda *arguments: 1.04 * right(*arguments))
    found = draws(estimator, chance, rng)
    assert not chance.check_unbiased(found, exact_gradients(), variance_of_one_draw(estimator)).passed


# --- what comes back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_shapes_types_and_repeatability(estimator):
    def run(seed):
        return gradient_samples(
            KNOWN.value, MEAN.astype(np.float32), list(LOG_VAR), estimator, 5, seed, KNOWN.gradient
        )

    first, again, other = run(1), run(1), run(2)
    for one, same, different in zip(first, again, other, strict=True):
        assert one.shape == (5, 2)
        assert one.dtype == np.float64
        np.testing.assert_array_equal(one, same)
        assert (one != different).any()


def test_a_generator_goes_on(rng):
    first, second = (
        gradient_samples(KNOWN.value, MEAN, LOG_VAR, num_samples=4, rng=rng)[0] for _ in range(2)
    )
    assert (first != second).all()


def test_an_integer_mean_is_a_number():
    dmean, _ = gradient_samples(lambda z: z[:, 0], [1], [0], "pathwise", 3, 0, np.ones_like)
    np.testing.assert_array_equal(dmean, 1.0)


def test_an_estimator_of_one_s_own_is_welcome():
    class Shouting(Pathwise):
        name = "shouting"

        def sample_gradients(self, *arguments):
            return tuple(10 * gradient for gradient in super().sample_gradients(*arguments))

    arguments = (KNOWN.value, MEAN, LOG_VAR)
    loud = gradient_samples(*arguments, Shouting(), 3, 0, KNOWN.gradient)
    plain = gradient_samples(*arguments, "pathwise", 3, 0, KNOWN.gradient)
    np.testing.assert_allclose(loud, 10 * np.array(plain), rtol=1e-15)


# --- at the door ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (
            {"estimator": "reinforce"},
            ValueError,
            "expected one of: pathwise, score-function, score-function-running",
        ),
        ({"estimator": "pathwise", "gradient": None}, ValueError, "pass gradient="),
        ({"estimator": "pathwise", "decay": 0.9}, TypeError, "does not take the options ['decay']"),
        ({"mean": 0.5}, ValueError, "mean has shape (), expected (L,)"),
        ({"mean": np.zeros((2, 2))}, ValueError, "mean has shape (2, 2), expected (L,)"),
        ({"mean": np.zeros(0)}, ValueError, "mean has shape (0,), expected (L,)"),
        ({"mean": [0.0, np.nan]}, ValueError, "nan at index (1,)"),
        ({"mean": "zero"}, TypeError, "mean has dtype"),
        ({"log_var": np.zeros(3)}, ValueError, "log_var has shape (3,), expected (2,)"),
        ({"log_var": [0.0, -np.inf]}, ValueError, "-inf at index (1,)"),
        ({"num_samples": 0}, ValueError, "num_samples is 0, expected an integer of at least 1"),
        ({"num_samples": 2.5}, TypeError, "num_samples is 2.5, expected an integer"),
        (
            {"estimator": "score-function-leave-one-out", "num_samples": 1},
            ValueError,
            "expected at least 2: score-function-leave-one-out compares samples",
        ),
        ({"rng": "seven"}, TypeError, "rng is 'seven'"),
        ({"rng": -1}, ValueError, "rng is the seed -1"),
        ({"f": 3.0}, TypeError, "f is 3.0, expected a function of z"),
        ({"f": lambda z: z}, ValueError, "the result of f has shape (4, 2), expected (4,)"),
        ({"f": lambda z: z[:, 0] * np.nan}, ValueError, "nan at index (0,)"),
    ],
    ids=lambda part: str(part) if isinstance(part, dict) and "f" not in part else None,
)
def test_what_is_wrong_is_refused_in_one_sentence(changes, error, words):
    arguments = {
        "f": KNOWN.value,
        "mean": MEAN,
        "log_var": LOG_VAR,
        "estimator": "score-function",
        "num_samples": 4,
        "rng": 0,
        "gradient": KNOWN.gradient,
    }
    with pytest.raises(error) as caught:
        gradient_samples(**(arguments | changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
