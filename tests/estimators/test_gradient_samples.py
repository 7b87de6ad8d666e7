"""`gradient_samples`, which puts noise, integrand and estimator together; and the one place here that samples.

The expectations are settled by quadrature in the neighbouring files. What is left for sampling is the way from
`rng=` to the estimator: that the noise is standard normal, independent, and the one that the estimator uses.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm

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

# Of a healthy estimator: one failure in 10⁸ runs, over the four entries of its two gradients together. (The mean is
# taken to be normal; the samples' skewness, 14 at most, makes that one in 5 · 10⁷ at the numbers of samples needed.)
FALSE_FAILURE = 1e-8
ENTRIES = 4
# Of an estimator whose gradient is 6 % wrong in any one entry: at most one escape in 10⁶ runs.
BIAS = 0.06
MISS = 1e-6
THRESHOLD = norm.isf(FALSE_FAILURE / ENTRIES / 2)


@functools.cache
def exact_gradients():
    return np.stack(complex_step_vjp(lambda *at: np.asarray(KNOWN.expectation(*at)), (MEAN, LOG_VAR), 1.0))


@functools.cache
def one_sample_variances(estimator):
    """(2, L): variance of a single sample's gradients with respect to mean and log_var, from the formulas."""
    nodes, weights = gauss_hermite_product(10, 2)
    deviation = np.exp(LOG_VAR / 2)
    z = MEAN + deviation * nodes
    value, slope = KNOWN.value(z)[:, None], KNOWN.gradient(z)
    average = weighted_mean(weights, value)
    spread = weighted_mean(weights, (value - average) ** 2)
    score = np.stack([nodes / deviation, (nodes**2 - 1) / 2], axis=1)
    if estimator == "pathwise":
        gradients = np.stack([slope, slope * deviation * nodes / 2], axis=1)
    else:
        gradients = (value - (0 if estimator == "score-function" else average))[:, None] * score
    variances = weighted_mean(weights, gradients**2) - weighted_mean(weights, gradients) ** 2
    if estimator == "score-function-running-mean":  # its baseline is an average over 39 values
        variances = variances + spread / 39 * weighted_mean(weights, score**2)
    return variances


@functools.cache
def needed_samples(estimator):
    """The fewest samples at which BIAS in the least favourable entry is missed with a probability of MISS."""
    ratio = np.sqrt(one_sample_variances(estimator)) / (BIAS * np.abs(exact_gradients()))
    return math.ceil((ratio.max() * (THRESHOLD + norm.isf(MISS))) ** 2)


def looks_biased(estimator, gradients):
    """Is any entry of the mean further from the exact gradient than chance allows?"""
    means = np.stack([gradient.mean(axis=0) for gradient in gradients])
    errors = np.sqrt(one_sample_variances(estimator) / len(gradients[0]))
    return bool((np.abs(means - exact_gradients()) > THRESHOLD * errors).any())


def sampled(estimator, rng):
    return gradient_samples(
        KNOWN.value, MEAN, LOG_VAR, estimator, needed_samples(estimator), rng, KNOWN.gradient
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_sampled_mean_is_the_exact_gradient(rng, estimator):
    assert needed_samples(estimator) < 1_500_000
    gradients = sampled(estimator, rng)
    assert not looks_biased(estimator, gradients)
    # The same samples with the smallest bias that the test claims to see, up or down, in each entry in turn.
    for position, entry, sign in itertools.product(range(2), range(2), (-1, 1)):
        planted = [gradient.copy() for gradient in gradients]
        planted[position][:, entry] += sign * BIAS * exact_gradients()[position, entry]
        assert looks_biased(estimator, planted)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_noise_that_is_too_wide_is_seen(rng, monkeypatch, estimator):
    # 4 % too wide: the gradient with respect to log σ² is 8 % too large.
    right = module.standard_normal
    monkeypatch.setattr(module, "standard_normal", lambda *arguments: 1.04 * right(*arguments))
    assert looks_biased(estimator, sampled(estimator, rng))


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
            "an integer of at least 2",
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
