"""Models small enough to check entry by entry, with data and noise, at points where nothing vanishes by accident."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from tests.oracles import vae as oracle
from tests.oracles.complex_step import COMPLEX_STEP_TOLERANCE, DIFFERENCE_STEP, assert_close_to_largest

ACTIVATIONS = ("identity", "relu", "leaky_relu", "tanh", "sigmoid", "softplus")
LIKELIHOODS = ("bernoulli", "gaussian")
INPUT_DIM, LATENT_DIM = 5, 2
DEPTHS = {0: (), 1: (4,), 2: (4, 3), 3: (4, 3, 3)}

# No parameter's finite differences, which reach two steps far, may cross a kink.
FAR_FROM_KINKS = 2 * DIFFERENCE_STEP


# Standard deviations of the prior. Beyond, where one case in two thousand lies, the oracles' bare formulas overflow and
# the fifth power of a sample swells the error of finite differences.
FARTHEST_SAMPLE = 50


class Case(NamedTuple):
    """A VAE, a minibatch (B, D) and noise (S, B, L)."""

    vae: VAE
    x: np.ndarray
    noise: np.ndarray

    def oracle_settings(self):
        vae = self.vae
        return {
            "activation": vae.activation.name,
            "likelihood": vae.likelihood.name,
            "variance": vae.likelihood_variance,
            "kl": vae.kl,
            "beta": vae.beta,
        }

    def oracle_loss(self, parameters):
        return oracle.vae_loss(parameters, self.x, self.noise, **self.oracle_settings())


def shake(model, rng, size=0.4):
    """Move every parameter: fresh biases are zero, and a zero hides a missing term."""
    model.theta += (size * rng.standard_normal(model.theta.size)).astype(model.dtype)


def draw_x(rng, likelihood, batch, input_dim=INPUT_DIM):
    """Black and white, grey in the last example; or any numbers for a Gaussian likelihood."""
    if likelihood == "gaussian":
        return rng.standard_normal((batch, input_dim))
    x = rng.integers(0, 2, (batch, input_dim)).astype(np.float64)
    x[-1] = rng.random(input_dim)
    return x


def make_case(rng, *, depth=1, batch=3, num_samples=1, smooth=False, dtype=np.float64, **settings):
    """A random case whose samples are not too far out; `smooth` draws again until every kink is far away."""
    settings = {
        "hidden": DEPTHS[depth],
        "latent_dim": LATENT_DIM,
        "activation": "tanh",
        "likelihood": "bernoulli",
        "likelihood_variance": 0.7,
        "beta": 0.6,
    } | settings
    for _ in range(200):
        vae = VAE(INPUT_DIM, dtype=dtype, rng=rng, **settings)
        shake(vae, rng)
        case = Case(
            vae,
            draw_x(rng, vae.likelihood.name, batch).astype(dtype),
            rng.standard_normal((num_samples, batch, vae.latent_dim)).astype(dtype),
        )
        mean, log_var = vae.encode(case.x)
        if np.abs(mean + np.exp(log_var / 2) * case.noise).max() > FARTHEST_SAMPLE:
            continue
        point = vae.parameters, case.x, case.noise, vae.activation.name
        if not smooth or not oracle.has_kinks_within(*point, FAR_FROM_KINKS):
            return case
    raise AssertionError("no such case found")


def make_autoencoder(rng, *, depth=1, dtype=np.float64, **settings):
    """A random autoencoder."""
    settings = {"latent_dim": LATENT_DIM, "activation": "tanh", "likelihood_variance": 0.7} | settings
    model = Autoencoder(INPUT_DIM, DEPTHS[depth], dtype=dtype, rng=rng, **settings)
    shake(model, rng)
    return model


def assert_gradients(gradients, expected, tolerance=COMPLEX_STEP_TOLERANCE):
    """The same names in the same order, and every tensor within tolerance of its largest entry."""
    assert list(gradients) == list(expected)
    for name, gradient in gradients.items():
        assert_close_to_largest(gradient, expected[name], tolerance, name)


def assert_gradients_are_the_oracle_s(case):
    """The whole backward pass against the complex step of the independent forward; the loss too; twice the same."""
    loss, gradients = case.vae.loss_and_gradients(case.x, case.noise)
    np.testing.assert_allclose(loss, case.oracle_loss(case.vae.parameters), rtol=1e-13)
    exact = oracle.complex_step_gradients(case.oracle_loss, case.vae.parameters)
    assert_gradients(gradients, exact)
    assert_gradients(case.vae.gradients_by_layers(case.x, case.noise), exact)
    again_loss, again = case.vae.loss_and_gradients(case.x, case.noise)
    assert again_loss == loss
    for name, gradient in gradients.items():
        assert gradient.tobytes() == again[name].tobytes(), f"{name}: other bits when run twice"


def assert_refused(error, words, call):
    """The call raises `error` with one sentence that holds the words, which … separates, in that order."""
    with pytest.raises(error) as caught:
        call()
    message, place = str(caught.value), 0
    assert "\n" not in message
    for fragment in words.split(" … "):
        place = message.find(fragment, place)
        assert place >= 0, f"{message!r} does not say {fragment!r}"
        place += len(fragment)
