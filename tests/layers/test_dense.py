"""The dense layer against its definition, two oracles, and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from scratchvae.layers.dense import dense_backward, dense_forward
from tests.oracles import layers as oracle
from tests.oracles.complex_step import (
    COMPLEX_STEP_TOLERANCE,
    DIFFERENCE_TOLERANCE,
    assert_close_to_largest,
    assert_linear,
    complex_step_vjp,
    five_point_vjp,
    unchanged,
)

NAMES = ("dx", "dweight", "dbias")
SCALES = (1e-3, 1.0, 1e3)


@pytest.mark.equation("1.2", "1.3", "1.4")
def test_backward_is_the_derivative_of_the_definition():
    examples, fan_in, fan_out = 2, 3, 2
    x = sympy.Matrix(examples, fan_in, sympy.symbols("x:6"))
    weight = sympy.Matrix(fan_in, fan_out, sympy.symbols("w:6"))
    bias = sympy.Matrix(1, fan_out, sympy.symbols("b:2"))
    y = sympy.Matrix(examples, fan_out, sympy.symbols("y:4"))
    # a loss in which every output has its own, non-linear part
    loss = sum(sympy.exp(n * entry) * y[0] + entry**3 for n, entry in enumerate(y, start=1))

    definition = sympy.Matrix(
        examples, fan_out, lambda n, j: sum(x[n, i] * weight[i, j] for i in range(fan_in)) + bias[j]
    )
    inside = dict(zip(y, definition, strict=True))
    composed = loss.subs(inside)
    dy = sympy.Matrix(examples, fan_out, lambda n, j: loss.diff(y[n, j])).subs(inside)

    def is_zero(matrix):
        return all(sympy.expand(entry) == 0 for entry in matrix)

    assert is_zero(dy * weight.T - x.applyfunc(composed.diff))
    assert is_zero(x.T * dy - weight.applyfunc(composed.diff))
    assert is_zero(sympy.ones(1, examples) * dy - bias.applyfunc(composed.diff))


def _arguments(rng, examples, fan_in=5, fan_out=3):
    shapes = ((examples, fan_in), (fan_in, fan_out), (fan_out,), (examples, fan_out))
    return [rng.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("examples", [1, 2, 64])
def test_gradients_against_both_oracles(rng, examples):
    *arguments, dy = _arguments(rng, examples)
    _, cache = dense_forward(*arguments)
    twin = complex_step_vjp(oracle.dense, arguments, dy)
    shipped = five_point_vjp(lambda *a: dense_forward(*a)[0], arguments, dy)
    for scale in SCALES:
        gradients = dense_backward(scale * dy, cache)
        for name, actual, exact, difference in zip(NAMES, gradients, twin, shipped, strict=True):
            assert_close_to_largest(actual, scale * exact, COMPLEX_STEP_TOLERANCE, name)
            assert_close_to_largest(actual, scale * difference, DIFFERENCE_TOLERANCE, name)


def test_values_by_hand():
    # Square and unsymmetric, so that a transposed weight shows; two examples, so that sum and mean differ.
    x = np.array([[1.0, 2.0], [-3.0, 0.5]])
    weight = np.array([[2.0, -1.0], [4.0, 0.25]])
    bias = np.array([10.0, -20.0])
    y, cache = dense_forward(x, weight, bias)
    # 1·2 + 2·4 + 10 = 20      1·(−1) + 2·0.25 − 20 = −20.5      −6 + 2 + 10 = 6      3 + 0.125 − 20 = −16.875
    np.testing.assert_array_equal(y, [[20.0, -20.5], [6.0, -16.875]])

    dx, dweight, dbias = dense_backward(np.array([[1.0, 2.0], [4.0, -8.0]]), cache)
    # row 1: 1·2 + 2·(−1) = 0, 1·4 + 2·0.25 = 4.5; row 2: 4·2 + (−8)(−1) = 16, 4·4 − 8·0.25 = 14
    np.testing.assert_array_equal(dx, [[0.0, 4.5], [16.0, 14.0]])
    # row 1: 1·1 − 3·4 = −11, 1·2 + (−3)(−8) = 26; row 2: 2·1 + 0.5·4 = 4, 2·2 + 0.5·(−8) = 0
    np.testing.assert_array_equal(dweight, [[-11.0, 26.0], [4.0, 0.0]])
    np.testing.assert_array_equal(dbias, [5.0, -6.0])


@given(
    sizes=st.tuples(*[st.integers(1, 11)] * 3),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape_and_precision_within_the_rounding_of_the_sums(sizes, dtype, seed):
    examples, fan_in, fan_out = sizes
    rng = np.random.default_rng(seed)
    x, weight, bias, dy = (a.astype(dtype) for a in _arguments(rng, examples, fan_in, fan_out))
    y, cache = dense_forward(x, weight, bias)
    dx, dweight, dbias = dense_backward(dy, cache)

    # |error| <= n u Σ|terms|, with u half a unit in the last place and n the number of terms, once more for slack
    unit = float(np.finfo(dtype).eps)
    wide_x, wide_weight, wide_bias, wide_dy = (a.astype(np.float64) for a in (x, weight, bias, dy))
    ones = np.ones((1, examples))
    for actual, left, right, added in (
        (y, wide_x, wide_weight, wide_bias),
        (dx, wide_dy, wide_weight.T, np.zeros(1)),
        (dweight, wide_x.T, wide_dy, np.zeros(1)),
        (dbias[np.newaxis], ones, wide_dy, np.zeros(1)),
    ):
        exact = oracle.dense(left, right, added)
        bound = (left.shape[1] + 1) * unit * oracle.dense(np.abs(left), np.abs(right), np.abs(added))
        assert actual.shape == exact.shape
        assert actual.dtype == dtype
        assert (np.abs(actual - exact) <= bound).all()


def test_without_dx(rng):
    *arguments, dy = _arguments(rng, 4)
    _, cache = dense_forward(*arguments)
    _, dweight, dbias = dense_backward(dy, cache)
    nothing, same_dweight, same_dbias = dense_backward(dy, cache, need_dx=False)
    assert nothing is None
    np.testing.assert_array_equal(same_dweight, dweight)
    np.testing.assert_array_equal(same_dbias, dbias)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arguments_are_left_alone(rng, dtype):
    x, weight, bias, dy = (a.astype(dtype) for a in _arguments(rng, 7))
    with unchanged(x, weight, bias, dy):
        y, cache = dense_forward(x, weight, bias)
        dense_backward(dy, cache)
    assert not any(np.shares_memory(y, argument) for argument in (x, weight, bias))


def test_backward_is_linear_in_the_cotangent(rng):
    *arguments, dy = _arguments(rng, 6)
    _, cache = dense_forward(*arguments)
    assert_linear(lambda d: dense_backward(d, cache), dy, rng.standard_normal(dy.shape))


def test_strided_arguments_give_what_contiguous_ones_give(rng):
    *arguments, dy = _arguments(rng, 6)
    strided = [np.repeat(argument, 2, axis=0)[::2] for argument in arguments]
    strided[1] = np.asfortranarray(arguments[1])
    y, cache = dense_forward(*arguments)
    strided_y, strided_cache = dense_forward(*strided)
    assert_close_to_largest(strided_y, y, 1e-14)
    transposed = np.ascontiguousarray(dy.T).T
    for name, one, two in zip(
        NAMES, dense_backward(dy, cache), dense_backward(transposed, strided_cache), strict=True
    ):
        assert_close_to_largest(two, one, 1e-14, name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_arguments_stay_finite(dtype):
    x, weight = np.full((3, 4), 1e4, dtype), np.full((4, 2), -1e4, dtype)
    y, cache = dense_forward(x, weight, np.full(2, 1e4, dtype))
    np.testing.assert_allclose(y, -4e8 + 1e4, rtol=1e-6)
    for gradient in dense_backward(np.full((3, 2), 1e4, dtype), cache):
        assert np.isfinite(gradient).all()


def test_shapes_that_clash_are_refused() -> None:
    # A compiled product would read beyond the smaller array.
    with pytest.raises(ValueError, match=r"x has shape \(3, 8\), expected \(B, 5\)"):
        dense_forward(np.ones((3, 8)), np.ones((5, 4)), np.ones(4))
    _, cache = dense_forward(np.ones((3, 5)), np.ones((5, 4)), np.ones(4))
    with pytest.raises(ValueError, match=r"dy has shape \(2, 4\), expected \(3, 4\)"):
        dense_backward(np.ones((2, 4)), cache)
