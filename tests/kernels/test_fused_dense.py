"""Dense layers in one kernel against the products and activations that they are made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchvae import kernels
from scratchvae.kernels import reference
from scratchvae.layers.activations import ACTIVATIONS

activations = pytest.mark.parametrize("activation", ACTIVATIONS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
sizes = {
    "batch": st.integers(0, 9),
    "fan_in": st.integers(0, 30),
    "fan_out": st.integers(0, 70),
    "seed": st.integers(0, 99),
}


def arrays(dtype: type, seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def assert_close(result: np.ndarray, expected: np.ndarray) -> None:
    tolerance = 60 * np.finfo(expected.dtype).eps
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance * 10)


@activations
@dtypes
@given(**sizes)
def test_forward(activation: str, dtype: type, batch: int, fan_in: int, fan_out: int, seed: int) -> None:
    x, weight, bias = arrays(dtype, seed, (batch, fan_in), (fan_in, fan_out), (fan_out,))
    expected, _ = ACTIVATIONS[activation].forward(x @ weight + bias)
    assert_close(kernels.dense_activation(x, weight, bias, activation), expected)
    out = np.full_like(expected, np.nan)
    assert kernels.dense_activation(x, weight, bias, activation, out) is out
    assert_close(out, expected)


@activations
@dtypes
@given(**sizes, accumulate=st.booleans())
def test_gradient_of_the_input(
    activation: str, dtype: type, batch: int, fan_in: int, fan_out: int, seed: int, accumulate: bool
) -> None:
    dy, weight, before, start = arrays(
        dtype, seed, (batch, fan_out), (fan_in, fan_out), (batch, fan_in), (batch, fan_in)
    )
    y, _ = ACTIVATIONS[activation].forward(before)
    product = dy @ weight.T + (start if accumulate else 0)
    expected = ACTIVATIONS[activation].backward(product.astype(dtype), y)
    out = start.copy()
    assert kernels.dense_input_gradient(dy, weight, y, activation, out, accumulate) is out
    assert_close(out, expected)
    if not accumulate:
        assert_close(kernels.dense_input_gradient(dy, weight, y, activation), expected)


@dtypes
@given(**sizes, accumulate=st.booleans())
def test_gradients_of_the_parameters(
    dtype: type, batch: int, fan_in: int, fan_out: int, seed: int, accumulate: bool
) -> None:
    x, dy, dweight, dbias = arrays(
        dtype, seed, (batch, fan_in), (batch, fan_out), (fan_in, fan_out), (fan_out,)
    )
    expected = [x.T @ dy + (dweight if accumulate else 0), dy.sum(axis=0) + (dbias if accumulate else 0)]
    kernels.dense_parameter_gradients(x, dy, dweight, dbias, accumulate)
    assert_close(dweight, expected[0])
    assert_close(dbias, expected[1])


@dtypes
def test_any_strides(dtype: type, seed: int) -> None:
    x, weight, bias, dy = arrays(dtype, seed, (5, 14), (7, 66), (66,), (5, 33))
    strided = x[:, ::2], weight[:, ::2], bias[::2]
    plain = tuple(np.ascontiguousarray(array) for array in strided)
    expected = kernels.dense_activation(*plain, "tanh")
    np.testing.assert_array_equal(kernels.dense_activation(*strided, "tanh"), expected)
    out = np.zeros((5, 14), dtype)[:, ::2]
    kernels.dense_input_gradient(dy, strided[1], strided[0], "relu", out)
    expected = kernels.dense_input_gradient(dy, plain[1], plain[0], "relu")
    np.testing.assert_array_equal(out, expected)
    gradients = np.zeros((7, 66), dtype)[:, ::2], np.zeros(66, dtype)[::2]
    kernels.dense_parameter_gradients(strided[0], dy, *gradients)
    contiguous = np.empty((7, 33), dtype), np.empty(33, dtype)
    kernels.dense_parameter_gradients(plain[0], dy, *contiguous)
    for gradient, same in zip(gradients, contiguous, strict=True):
        np.testing.assert_array_equal(gradient, same)


@activations
def test_activations_pass_nan_on(activation: str, seed: int) -> None:
    x, weight, bias = arrays(np.float64, seed, (3, 4), (4, 20), (20,))
    x[1, 2] = np.nan
    y = kernels.dense_activation(x, weight, bias, activation)
    np.testing.assert_array_equal(np.isnan(y).all(axis=1), [False, True, False])


@activations
def test_twins_agree_on_a_whole_layer(activation: str, seed: int) -> None:
    x, weight, bias, dy = arrays(np.float32, seed, (128, 400), (400, 100), (100,), (128, 100))
    weight /= 20
    y = kernels.dense_activation(x, weight, bias, activation)
    assert_close(y, reference.dense_activation(x, weight, bias, activation))
    for accumulate in (False, True):
        outs = [np.ones((128, 400), np.float32) for _ in range(2)]
        kernels.dense_input_gradient(dy, weight, x, activation, outs[0], accumulate)
        reference.dense_input_gradient(dy, weight, x, activation, outs[1], accumulate)
        np.testing.assert_allclose(outs[0], outs[1], rtol=1e-4, atol=1e-5 * np.abs(outs[1]).max())


@pytest.mark.parametrize(("activation", "slope"), [("relu", 0.0), ("leaky_relu", 0.01)])
def test_at_a_kink_the_derivative_is_the_one_from_the_left(activation: str, slope: float) -> None:
    y, dy, weight = np.zeros((1, 3)), np.ones((1, 1)), np.ones((3, 1))
    np.testing.assert_array_equal(
        kernels.dense_input_gradient(dy, weight, y, activation), slope * np.ones((1, 3))
    )
