"""The score function's gradient of a whole VAE is the pathwise one in expectation: first exactly, then sampled."""

from __future__ import annotations

import copy
import functools
import itertools

import numpy as np
import pytest

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
    case.vae.theta *= 0.4  # smooth, so that few nodes are enough
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
# each of three examples, and J is the linear way back. Whether the mean of c over many calls is the exact one is asked
# in each entry, and in the direction in which a gradient that is too small in all of them shows most; quadrature gives
# the exact one, and the covariance.
EXAMPLES = 3
SAMPLES = 10  # of each example in one call, for an estimator that compares them
CALLS = 200  # each is one draw; copies of the minibatch make it as quiet as is needed
# What is to be seen: a gradient that is 10 % too small, as a batch mean over ten samples makes it.
BIAS = 1 / SAMPLES
ENTRIES = 4 * EXAMPLES


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
        # A running mean is that of all examples: as it begins with their exact mean, it keeps that expectation.
        baseline = {"score-function": 0.0, "score-function-running-mean": means.mean()}.get(name, means[b])
        gradient = (values[:, b] - baseline)[:, None] * score
        average = weights @ gradient
        covariance = (weights * gradient.T) @ gradient - np.outer(average, average)
        if name == "score-function-leave-one-out":  # (7.15), the two terms of it
            noise_of_baseline = spread[b] * (weights * score.T) @ score
            covariance += (noise_of_baseline + np.outer(average, average)) / (SAMPLES - 1)
        if name == "score-function-running-mean":  # at most that of one average over the examples, (7.19)
            covariance += spread.sum() / EXAMPLES**2 * (weights * score.T) @ score
        matrix[:, b, :, :, b] = covariance.reshape(2, 2, 2, 2)
    return matrix.reshape(ENTRIES, ENTRIES) / EXAMPLES**2


@functools.cache
def directions(name):
    """(13, 12): each entry of c, and Σ⁻¹c, which of all directions shows a common factor best."""
    return np.vstack([np.eye(ENTRIES), np.linalg.solve(covariance_of_one_draw(name), exact_derivatives())])


def variances_of_one_draw(name):
    """Of one sample of each example, in each direction (13,)."""
    return np.einsum("di,ij,dj->d", directions(name), covariance_of_one_draw(name), directions(name))


def needed_copies(name, chance):
    """Copies of the minibatch in one call, so that CALLS calls tell a gradient that is too small by BIAS."""
    variance = variances_of_one_draw(name)
    bias = np.sqrt(variance)
    # Only the last direction has to see as little as this; for the others it is the same number of deviations.
    bias *= BIAS * directions(name)[-1] @ exact_derivatives() / bias[-1]
    return next(n for n in itertools.count(1) if chance.draws_needed(variance / n / SAMPLES, bias) <= CALLS)


def fresh(name):
    """An estimator by name; one that remembers has the exact mean in its memory."""
    estimator = make_estimator(name)
    if name == "score-function-running-mean":
        _, weights, values = nodes_and_values()
        estimator.center(np.array([(weights @ values).mean()]))
    return estimator


def sampled_derivatives(make, copies, rng):
    """c (CALLS, 12) of each call, averaged over copies and samples, as the shipped VAE's gradients tell it."""
    vae, x, _ = small_vae()
    many = np.tile(x, (copies, 1))
    found = np.empty((CALLS, ENTRIES))
    for call in range(CALLS):
        vae.loss_and_gradients(many, rng=rng, estimator=make(), num_samples=SAMPLES)
        gradient = encoder_part(vae)
        found[call], *_ = np.linalg.lstsq(way_back(), gradient)
        error = way_back() @ found[call] - gradient
        assert np.abs(error).max() < 1e-11 * np.abs(gradient).max(), "not on the way back"
    return found


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
def test_sampled_gradient_of_the_encoder_is_the_exact_one(rng, chance, name):
    copies = needed_copies(name, chance)
    assert copies <= 400
    expected = directions(name) @ exact_derivatives()
    variance = variances_of_one_draw(name) / copies / SAMPLES

    def draws(make):
        return sampled_derivatives(make, copies, rng) @ directions(name).T

    # An unseen bias of either sign in any single entry is smaller than `detectable_bias`, which is planted in each.
    chance.assert_unbiased(draws(lambda: fresh(name)), expected, variance)

    def biased():
        return ScoreFunction(name, batch_mean, 2) if name.endswith("leave-one-out") else Shrunk(fresh(name))

    assert chance.check_unbiased(draws(biased), expected, variance).biased[-1]
