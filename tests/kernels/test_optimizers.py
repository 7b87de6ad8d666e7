"""The optimizers' one pass against the formulas, and against the twin bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae import kernels
from scratchvae.kernels import reference

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
counts = pytest.mark.parametrize("count", [0, 1, 17, 50_001])


@dtypes
@counts
def test_adam_is_its_twin_bit_for_bit(dtype: type, count: int, rng: np.random.Generator) -> None:
    theta, gradient, first, second = rng.normal(size=(4, count)).astype(dtype)
    here = [theta, gradient, first, np.abs(second)]
    there = [array.copy() for array in here]
    for step in (1e-3, 2e-3):
        kernels.adam_update(*here, 0.9, 0.999, step, 1e-8)
        reference.adam_update(*there, 0.9, 0.999, step, 1e-8)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one, other)


@dtypes
@counts
def test_sgd_is_its_twin_bit_for_bit(dtype: type, count: int, rng: np.random.Generator) -> None:
    here = list(rng.normal(size=(3, count)).astype(dtype))
    there = [array.copy() for array in here]
    for _ in range(2):
        kernels.sgd_update(*here, 0.01, 0.9)
        reference.sgd_update(*there, 0.01, 0.9)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one, other)


def test_adam_by_hand() -> None:
    theta, gradient, first, second = (np.array([value]) for value in (1.0, 2.0, 0.5, 3.0))
    kernels.adam_update(theta, gradient, first, second, 0.9, 0.99, 0.1, 1.0)
    np.testing.assert_allclose(first, 0.9 * 0.5 + 0.1 * 2)
    np.testing.assert_allclose(second, 0.99 * 3 + 0.01 * 4)
    np.testing.assert_allclose(theta, 1 - 0.1 * 0.65 / (np.sqrt(3.01) + 1))


def test_sgd_by_hand() -> None:
    theta, gradient, velocity = (np.array([value]) for value in (1.0, 2.0, 0.5))
    kernels.sgd_update(theta, gradient, velocity, 0.1, 0.8)
    np.testing.assert_allclose([velocity[0], theta[0]], [2.4, 1 - 0.24])
