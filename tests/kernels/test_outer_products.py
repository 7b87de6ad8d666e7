"""Sums of outer products and of their squares against the outer products themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchvae import kernels
from scratchvae.kernels import reference

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def sums(a: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From the definition, one outer product after the other, in double precision."""
    products = a[:, :, None].astype(np.float64) * d[:, None, :]
    return products.sum(axis=0), (products**2).sum(axis=0)


@dtypes
@given(
    rows=st.integers(0, 140),  # none, one block of rows, and more
    fan_in=st.integers(0, 9),
    fan_out=st.integers(0, 300),  # none, less than a vector, some panels
    zeros=st.sampled_from([0, 0.5, 0.95, 1]),
    seed=st.integers(0, 99),
)
def test_sums_are_those_of_single_products(
    dtype: type, rows: int, fan_in: int, fan_out: int, zeros: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    a, d = (rng.normal(size=(rows, width)).astype(dtype) for width in (fan_in, fan_out))
    a[rng.random(a.shape) < zeros] = 0
    first, second = (rng.normal(size=(fan_in, fan_out)).astype(dtype) for _ in range(2))
    expected = [start + added for start, added in zip((first, second), sums(a, d), strict=True)]
    kernels.add_outer_products(a, d, first, second)
    sizes = 1 + sums(np.abs(a), np.abs(d))[0], 1 + expected[1]
    for found, right, size in zip((first, second), expected, sizes, strict=True):
        assert (np.abs(found - right) <= 30 * np.finfo(dtype).eps * (size + np.abs(right))).all()


@dtypes
def test_any_strides(dtype: type, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, d = rng.normal(size=(2, 90, 14)).astype(dtype)
    a, d = a[:, ::2], d[::-1, 1:]
    found = np.zeros((2, 7, 26), dtype)[..., ::2]
    kernels.add_outer_products(a, d, *found)
    plain = np.zeros((2, 7, 13), dtype)
    kernels.add_outer_products(np.ascontiguousarray(a), np.ascontiguousarray(d), *plain)
    np.testing.assert_array_equal(found, plain)


@dtypes
def test_a_number_gets_the_same_bits_wherever_it_stands(dtype: type, seed: int) -> None:
    # In whichever vector, whole or half, panel and row.
    rng = np.random.default_rng(seed)
    a, d = (rng.normal(size=(70, width)).astype(dtype) for width in (3, 267))
    whole = np.zeros((2, 3, 267), dtype)
    kernels.add_outer_products(a, d, *whole)
    for column in range(267 - 16):
        part = np.zeros((2, 3, 16), dtype)
        kernels.add_outer_products(a, d[:, column : column + 16], *part)
        np.testing.assert_array_equal(part, whole[..., column : column + 16])


def test_what_is_multiplied_by_zero_is_left_out_and_nothing_else_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, d = (rng.normal(size=(9, width)) for width in (2, 5))
    a[3], a[4, 0] = 0, np.nan
    found = np.zeros((2, 2, 5))
    kernels.add_outer_products(a, d, *found)
    assert np.isnan(found[:, 0]).all(), "NaN is not zero"
    np.testing.assert_allclose(found[:, 1:], np.stack(sums(a[:, 1:], d)), rtol=1e-12)


def test_twins_agree_on_a_whole_layer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, d = (rng.normal(size=(300, width)).astype(np.float32) for width in (400, 784))
    a = np.maximum(a, 0)
    found, plain = np.zeros((2, 2, 400, 784), np.float32)
    kernels.add_outer_products(a, d, *found)
    reference.add_outer_products(a, d, *plain)
    np.testing.assert_allclose(found[1], plain[1], rtol=1e-5)
    np.testing.assert_allclose(found[0], plain[0], atol=1e-6 * np.sqrt(300 * plain[1].max()))


@dtypes
@given(rows=st.integers(0, 9), size=st.integers(0, 70), seed=st.integers(0, 99))
def test_shifted_rows(dtype: type, rows: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    d, (shift, *start) = (rng.integers(-9, 10, (n, size)).astype(dtype) for n in (rows, 3))  # sums are exact
    found = np.array(start)
    kernels.add_shifted_rows(d, shift, *found)
    np.testing.assert_array_equal(found[0], start[0] + (d - shift).sum(axis=0))
    np.testing.assert_array_equal(found[1], start[1] + ((d - shift) ** 2).sum(axis=0))


@dtypes
@given(size=st.integers(0, 70), rows=st.integers(1, 9), seed=st.integers(0, 99))
def test_moments_are_those_of_the_numbers(dtype: type, size: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(-9, 10, (rows, size)).astype(dtype)  # whose sums are exact
    start = rng.normal(size=(2, size))
    found = start.copy()
    kernels.add_mean_and_squares(numbers.sum(axis=0), (numbers**2).sum(axis=0), rows, *found)
    exact = numbers.astype(np.float64)
    np.testing.assert_allclose(found[0], start[0] + exact.mean(axis=0), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(found[1], start[1] + rows * exact.var(axis=0), rtol=1e-12, atol=1e-11)


def test_shifted_rows_of_any_strides(seed: int) -> None:
    d, others = np.random.default_rng(seed).normal(size=(2, 5, 14))[..., ::2]
    found, plain = np.zeros((2, 14))[:, ::2], np.zeros((2, 7))
    kernels.add_shifted_rows(d, others[0], *found)
    kernels.add_shifted_rows(np.ascontiguousarray(d), others[0].copy(), *plain)
    np.testing.assert_array_equal(found, plain)
    assert plain.all()


def test_moments_of_any_strides_and_shape(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sums = rng.normal(size=(2, 5, 14))[..., ::2]
    found, plain = np.zeros((2, 5, 14))[..., ::2], np.zeros((2, 5, 7))
    kernels.add_mean_and_squares(*sums, 3, *found)
    kernels.add_mean_and_squares(*np.ascontiguousarray(sums), 3, *plain)
    np.testing.assert_array_equal(found, plain)
    assert plain.all()
