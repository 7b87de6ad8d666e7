"""The decoder's fused pass against the plain one, and its moments against those of single gradients."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.lab.decoder_pass import DecoderPass, LayerSums
from tests.models.cases import ACTIVATIONS, LATENT_DIM, LIKELIHOODS, make_case

ROWS = 6


def plain(case, z):
    """(value, gradient, [(inputs, delta) of each layer]) of samples of the first example, by `DecoderIntegrand`."""
    integrand = case.vae.integrand(case.x[:1], None, None, 1.0)
    value, gradient = integrand.value_and_gradient(z[:, None])
    found, dy = [], integrand.output_gradient()
    for cache in reversed(integrand.decoder_caches):
        delta = cache.activation.backward(dy, cache.y)
        found.append((cache.dense.x, delta))
        dy = delta @ cache.dense.weight.T
    return value[:, 0], gradient[:, 0], found[::-1]


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_it_is_the_plain_pass(rng, depth, activation, likelihood):
    case = make_case(rng, depth=depth, activation=activation, likelihood=likelihood)
    z = rng.standard_normal((ROWS, LATENT_DIM))
    run = DecoderPass(case.vae, ROWS)
    for samples in (z, z[:2], z[3:4]):  # the same memory again, and less of it
        value, gradient, layers = plain(case, samples)
        found = run(case.x[:1], samples)
        np.testing.assert_allclose(found[0], value, rtol=1e-13)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-11, atol=1e-13)
        for inputs, delta, expected in zip(run.inputs, run.deltas, layers, strict=True):
            np.testing.assert_allclose(inputs, expected[0], rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(delta, expected[1], rtol=1e-11, atol=1e-13)


def test_sums_give_means_and_squared_deviations(rng):
    layer = make_case(rng).vae.decoder_layers[0]
    sums = LayerSums(layer)
    for draws in (7, 11):  # the second time after clearing
        sums.clear()
        inputs, delta = (rng.standard_normal((draws, size)) for size in layer.weight.shape)
        for begin in range(0, draws, ROWS):
            sums.add(inputs[begin : begin + ROWS], delta[begin : begin + ROWS])
        gradients = inputs[:, :, None] * delta[:, None]
        for add, single in ((sums.add_weight, gradients), (sums.add_bias, delta)):
            mean, squares = np.ones((2, *single.shape[1:]))
            add(mean, squares)
            np.testing.assert_allclose(mean, 1 + single.mean(axis=0), rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(squares, 1 + draws * single.var(axis=0), rtol=1e-12)


def test_a_bias_loses_nothing_to_a_large_mean(rng):
    # In single precision the squares of 1000 ± 0.01 hold nothing of the 0.01.
    layer = make_case(rng, dtype=np.float32).vae.decoder_layers[0]
    delta = (1000 + 0.01 * rng.standard_normal((500, layer.bias.size))).astype(np.float32)
    sums = LayerSums(layer)
    sums.clear()
    sums.add(np.zeros((500, len(layer.weight)), np.float32), delta)
    mean, squares = np.zeros((2, *layer.bias.shape))
    sums.add_bias(mean, squares)
    exact = delta.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(squares, 500 * exact.var(axis=0), rtol=1e-4)
