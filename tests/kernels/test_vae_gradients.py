"""The whole gradient in one call: what the models' tests, which check every entry of it, do not see."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae import kernels
from scratchvae.kernels.layer_table import layer_table


@pytest.mark.parametrize("variance", [1.0, 0.25])
def test_pixels_are_added_up_in_double_whatever_they_are(rng: np.random.Generator, variance: float) -> None:
    # All parameters are zero, and so is the output: what is left of a pixel is the pixel.
    sizes, dtype = (5000, 1), np.float32
    last = layer_table(sizes)[-1]
    theta = np.zeros(int(last[1] + last[3]), dtype)
    x, noise, values = rng.standard_normal((2, 5000)).astype(dtype), np.zeros((2, 1), dtype), np.empty((2, 2))
    kernels.vae_gradients(theta, np.empty_like(theta), sizes, "tanh", variance, 1.0, x, noise, values)
    squares = (x * x).astype(np.float64).sum(axis=1)
    expected = -0.5 * (squares / variance + 5000 * np.log(2 * np.pi * variance))
    np.testing.assert_allclose(values[0], expected, rtol=1e-13)
