"""The score function's gradient of a whole VAE is the pathwise one in expectation: first exactly, then sampled."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import chi2, ncx2

from scratchvae.estimators import make_estimator
from scratchvae.estimators.score_function import ScoreFunction
from tests.models.cases import make_case
from tests.oracles import vae as oracle
from tests.oracles.complex_step import complex_step_vjp
from tests.oracles.quadrature import gauss_hermite_product

SCORE_FUNCTIONS = ("score-function", "score-function-running-mean", "score-function-leave-one-out")

# --- exactly, by quadrature -------------------------------------------------------------------------------


def expected_gradient(vae, x, estimator, num_samples, count):
    """The mean over all noise of the gradient vector.

    Examples do not mix in it, so all of them may have the same noise; the product rule runs over samples and
    latent dimensions. An estimator with a memory starts from the same memory at each node.
    """
    nodes, weights = gauss_hermite_product(count, num_samples * vae.latent_dim)
    total = np.zeros(vae.theta.shape)
    for node, weight in zip(nodes, weights, strict=True):
        noise = np.repeat(node.reshape(num_samples, 1, vae.latent_dim), len(x), axis=1)
        vae.loss_and_gradients(x, noise, estimator=copy.deepcopy(estimator))
        total += weight * vae.gradient
    return total


def with_a_memory(name):
    """An estimator by name; one that remembers has seen two values already."""
    estimator = make_estimator(name)
    if name == "score-function-running-mean":
        estimator.center(np.array([-3.0, -7.0]))
    return estimator


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize(
    ("name", "num_samples"),
    [
        ("score-function", 1),
        ("score-function", 2),
        ("score-function-running-mean", 2),
        ("score-function-leave-one-out", 2),
        ("score-function-leave-one-out", 3),
    ],
)
def test_expectation_is_the_pathwise_one_for_a_quadratic_model(rng, name, num_samples, kl):
    # Linear with a Gaussian likelihood: polynomials of degree four in the noise, for which three nodes are exact.
    case = make_case(rng, depth=0, likelihood="gaussian", kl=kl, batch=2)
    exact = expected_gradient(case.vae, case.x, make_estimator("pathwise"), 1, 3)
    found = expected_gradient(case.vae, case.x, with_a_memory(name), num_samples, 3)
    scale = np.abs(exact).max()
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("name", ["score-function", "score-function-running-mean"])
def test_expectation_is_the_pathwise_one_for_a_network(rng, name, kl):
    case = make_case(rng, depth=1, kl=kl, batch=2, activation="softplus")
    case.vae.theta *= 0.5  # smooth, so that few nodes are enough
    exact = expected_gradient(case.vae, case.x, make_estimator("pathwise"), 1, 24)
    found = expected_gradient(case.vae, case.x, with_a_memory(name), 1, 24)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-8 * np.abs(exact).max())


def batch_mean(values):
    """The baseline that must not be: its own value is in it."""
    return values - values.mean(axis=0)


def test_a_batch_mean_baseline_shrinks_the_encoder_s_gradient_by_one_over_the_samples(rng):
    case = make_case(rng, depth=0, likelihood="gaussian", batch=2, beta=0.0)
    biased = ScoreFunction("batch-mean", batch_mean, 2)
    exact = expected_gradient(case.vae, case.x, make_estimator("pathwise"), 1, 3)
    for num_samples in (2, 3):
        found = expected_gradient(case.vae, case.x, biased, num_samples, 3)
        encoder = np.concatenate(
            [np.full(p.size, n.startswith("encoder")) for n, p in case.vae.parameters.items()]
        )
        expected = np.where(encoder, 1 - 1 / num_samples, 1.0) * exact
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(exact).max())


# --- by sampling ------------------------------------------------------------------------------------------

# The whole encoder's gradient is J c: c, with 12 entries, holds the derivatives with respect to mean and log_var of
# each of three examples, and J is the linear way back. A χ² test asks whether the mean of c over many draws is the
# exact one; quadrature gives that, and the covariance of one draw.
EXAMPLES = 3
SAMPLES = 10  # of each example in one call, for an estimator that compares them
CALLS = 10
# Of a healthy estimator: one failure in 10⁷ runs. Of one whose gradient is 10 % too small, as a batch mean over
# ten samples makes it: one escape in 10⁶ runs. The number of draws follows from these, for each estimator.
FALSE_FAILURE = 1e-7
BIAS = 1 / SAMPLES
MISS = 1e-6
ENTRIES = 4 * EXAMPLES
THRESHOLD = chi2.isf(FALSE_FAILURE, ENTRIES)


@functools.cache
def small_vae():
    """The model under test: fixed, for the numbers of samples depend on it. β = 0: the KL has no noise."""
    return make_case(np.random.default_rng(5), depth=1, batch=EXAMPLES, beta=0.0)


@functools.cache
def way_back():
    """J (encoder's parameters, 12): what each derivative with respect to mean and log_var adds to the gradient."""
    vae, x, _ = small_vae()
    _, _, cache = vae.encoder_forward(x)
    columns = []
    for index in np.ndindex(2, EXAMPLES, vae.latent_dim):
        one = np.zeros((2, EXAMPLES, vae.latent_dim))
        one[index] = 1
        vae.encoder_backward(*one, cache)
        columns.append(encoder_part(vae))
    return np.array(columns).T


def encoder_part(vae):
    return np.concatenate([g.ravel() for name, g in vae.gradients.items() if name.startswith("encoder")])


@functools.cache
def nodes_and_values():
    """The quadrature's noise (N, 2), its weights, and log p(x|z) (N, B) there."""
    vae, x, _ = small_vae()
    mean, log_var = vae.encode(x)
    nodes, weights = gauss_hermite_product(32, 2)
    values = [value_at(b, mean[b], log_var[b], nodes) for b in range(EXAMPLES)]
    return nodes, weights, np.array(values).T


def value_at(b, mean, log_var, noise):
    vae, x, _ = small_vae()
    output = oracle.decode(vae.parameters, mean + np.exp(log_var / 2) * noise, "tanh")
    return oracle.log_likelihood(x[b], output, "bernoulli", None)


@functools.cache
def exact_derivatives():
    """c (12,) of the loss, by complex step of the expectation, which quadrature gives."""
    vae, x, _ = small_vae()
    nodes, weights = gauss_hermite_product(32, 2)
    c = np.empty((2, EXAMPLES, 2))
    for b, (mean, log_var) in enumerate(zip(*vae.encode(x), strict=True)):

        def expected(mean, log_var, b=b):
            return np.asarray(weights @ value_at(b, mean, log_var, nodes))

        c[:, b] = complex_step_vjp(expected, (mean, log_var), -1 / EXAMPLES)
    return c.ravel()


@functools.cache
def covariance_of_one_draw(name):
    """Of c, for one sample of each example: (f − baseline) times the score, by quadrature."""
    vae, x, _ = small_vae()
    _, log_var = vae.encode(x)
    nodes, weights, values = nodes_and_values()
    means = weights @ values
    spread = weights @ (values - means) ** 2
    matrix = np.zeros((2, EXAMPLES, 2, 2, EXAMPLES, 2))
    for b in range(EXAMPLES):
        score = np.stack([nodes * np.exp(-log_var[b] / 2), (nodes**2 - 1) / 2], axis=1).reshape(-1, 4)
        # A running mean is that of all examples, and steady because many copies are averaged in it.
        baseline = {"score-function": 0.0, "score-function-running-mean": means.mean()}.get(name, means[b])
        gradient = (values[:, b] - baseline)[:, None] * score
        average = weights @ gradient
        covariance = (weights * gradient.T) @ gradient - np.outer(average, average)
        if name == "score-function-leave-one-out":  # (7.15), the two terms of it
            noise_of_baseline = spread[b] * (weights * score.T) @ score
            covariance += (noise_of_baseline + np.outer(average, average)) / (SAMPLES - 1)
        matrix[:, b, :, :, b] = covariance.reshape(2, 2, 2, 2)
    return matrix.reshape(ENTRIES, ENTRIES) / EXAMPLES**2


@functools.cache
def needed_copies(name):
    """Copies of the minibatch in one call, so that a gradient too small by BIAS is missed with probability MISS."""
    c = BIAS * exact_derivatives()
    information = c @ np.linalg.solve(covariance_of_one_draw(name), c)

    def missed(noncentrality):
        return np.log(ncx2.cdf(THRESHOLD, ENTRIES, noncentrality)) - np.log(MISS)

    return int(np.ceil(brentq(missed, 50, 500) / information / CALLS / SAMPLES))


def sampled_derivatives(estimator, copies, rng):
    """The mean of c (12,) over CALLS × copies × SAMPLES draws, as the shipped VAE's gradients tell it."""
    vae, x, _ = small_vae()
    many = np.tile(x, (copies, 1))
    total = np.zeros(ENTRIES)
    for call in range(CALLS + 1):
        vae.loss_and_gradients(many, rng=rng, estimator=estimator, num_samples=SAMPLES)
        gradient = encoder_part(vae)
        c, *_ = np.linalg.lstsq(way_back(), gradient)
        assert np.abs(way_back() @ c - gradient).max() < 1e-11 * np.abs(gradient).max(), "not on the way back"
        if call:  # the first is for a running mean to settle
            total += c
    return total / CALLS


def looks_biased(name, derivatives):
    """Is the mean further from the exact one than chance allows?"""
    error = derivatives - exact_derivatives()
    draws = CALLS * needed_copies(name) * SAMPLES
    return draws * error @ np.linalg.solve(covariance_of_one_draw(name), error) > THRESHOLD


class Shrunk:
    """An estimator whose gradients are too small."""

    def __init__(self, estimator):
        self.estimator = estimator
        self.name = estimator.name
        self.needs_gradient = estimator.needs_gradient
        self.minimum_samples = estimator.minimum_samples

    def sample_gradients(self, *arguments):
        return tuple((1 - BIAS) * gradient for gradient in self.estimator.sample_gradients(*arguments))


@pytest.mark.parametrize("name", SCORE_FUNCTIONS)
def test_sampled_gradient_of_the_encoder_is_the_exact_one(rng, name):
    copies = needed_copies(name)
    assert 30 <= copies <= 4000
    assert not looks_biased(name, sampled_derivatives(make_estimator(name), copies, rng))
    biased = (
        ScoreFunction(name, batch_mean, 2) if name.endswith("leave-one-out") else Shrunk(make_estimator(name))
    )
    assert looks_biased(name, sampled_derivatives(biased, copies, rng))
