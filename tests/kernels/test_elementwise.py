"""The fused passes against the densities' own functions, and in hand-computed and extreme places."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchvae import kernels
from scratchvae.densities import bernoulli, gaussian

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
sizes = {"samples": st.integers(1, 3), "batch": st.integers(1, 6), "width": st.integers(1, 40)}


def assert_close(result: np.ndarray, expected: np.ndarray, dtype: type) -> None:
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(
        result, expected, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps * scale
    )


@dtypes
@given(**sizes, seed=st.integers(0, 99))
def test_bernoulli(dtype: type, samples: int, batch: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.random((batch, width)).astype(dtype)
    logits = (5 * rng.normal(size=(samples, batch, width))).astype(dtype)
    dvalue = rng.normal(size=(samples, batch))
    expected, cache = bernoulli.bernoulli_likelihood_forward(x, logits)
    dlogits = np.full((samples * batch, width), np.nan, dtype)
    value = kernels.bernoulli_value_and_gradient(x, logits.reshape(-1, width), dvalue.reshape(-1), dlogits)
    assert value.dtype == np.float64
    assert_close(value.reshape(samples, batch), expected, dtype)
    expected = bernoulli.bernoulli_likelihood_backward(dvalue, cache)
    assert_close(dlogits.reshape(logits.shape), expected, dtype)


@dtypes
def test_bernoulli_in_hand_computed_and_extreme_places(dtype: type) -> None:
    logits = np.array([[0.0], [0.0], [1e4], [1e4], [-1e4], [-1e4]], dtype)
    x = np.array([[0.0], [1], [0], [1], [0], [1]], dtype)
    dlogits = np.empty_like(logits)
    value = kernels.bernoulli_value_and_gradient(x, logits, np.ones(6), dlogits)
    np.testing.assert_allclose(value, [-math.log(2), -math.log(2), -1e4, 0, 0, -1e4], rtol=1e-7)
    np.testing.assert_array_equal(dlogits[:, 0], [-0.5, 0.5, -1, 0, 0, 1])


@dtypes
@given(batch=st.integers(1, 6), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_gaussian_kl(dtype: type, batch: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, log_var, *start = rng.normal(size=(4, batch, width)).astype(dtype)
    dvalue = rng.normal(size=batch)
    expected, cache = gaussian.gaussian_kl_forward(mean, log_var)
    gradients = [array.copy() for array in start]
    value = kernels.gaussian_kl_value_and_gradient(mean, log_var, dvalue, *gradients)
    assert value.dtype == np.float64
    assert_close(value, expected, dtype)
    for result, before, change in zip(
        gradients, start, gaussian.gaussian_kl_backward(dvalue, cache), strict=True
    ):
        assert_close(result, before + change, dtype)


@dtypes
def test_gaussian_kl_is_exactly_zero_at_the_prior(dtype: type) -> None:
    zeros = [np.zeros((2, 5), dtype) for _ in range(4)]
    value = kernels.gaussian_kl_value_and_gradient(zeros[0], zeros[1], np.ones(2), zeros[2], zeros[3])
    assert not value.any()
    assert not zeros[2].any()
    assert not zeros[3].any()


@dtypes
@given(**sizes, seed=st.integers(0, 99))
def test_reparameterization(dtype: type, samples: int, batch: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean, log_var = rng.normal(size=(2, batch, width)).astype(dtype)
    noise, dz = rng.normal(size=(2, samples, batch, width)).astype(dtype)
    expected, cache = gaussian.gaussian_sample_forward(mean, log_var, noise)
    z = np.full((samples * batch, width), np.nan, dtype)
    kernels.reparameterize(mean, log_var, noise.reshape(z.shape), z)
    assert_close(z.reshape(noise.shape), expected, dtype)
    gradients = [np.full_like(mean, np.nan) for _ in range(2)]
    kernels.reparameterize_gradient(dz.reshape(z.shape), log_var, noise.reshape(z.shape), *gradients)
    for result, each in zip(gradients, gaussian.gaussian_sample_backward(dz, cache), strict=True):
        assert_close(result, each.sum(axis=0), dtype)


@dtypes
def test_variances_as_extreme_as_a_network_may_ask_for(dtype: type) -> None:
    log_var = np.array([[60.0, -60.0, 0.0]], dtype)
    mean, noise, z = np.zeros_like(log_var), np.ones_like(log_var), np.empty_like(log_var)
    kernels.reparameterize(mean, log_var, noise, z)
    np.testing.assert_allclose(z, np.exp([[30, -30, 0]]), rtol=4 * np.finfo(dtype).eps)
    gradients = np.zeros_like(mean), np.zeros_like(mean)
    value = kernels.gaussian_kl_value_and_gradient(mean, log_var, np.ones(1), *gradients)
    np.testing.assert_allclose(value, 0.5 * (math.exp(60) - 1 - 60 + 60 - 1), rtol=1e-6)
    np.testing.assert_allclose(gradients[1], 0.5 * np.expm1([[60, -60, 0]]), rtol=4 * np.finfo(dtype).eps)


def test_any_strides(rng: np.random.Generator) -> None:
    x, logits = rng.random((3, 8)), rng.normal(size=(6, 8))
    contiguous, strided = np.empty((6, 4)), np.zeros((6, 8))[:, ::2]
    dvalue = np.ones(6)
    first = kernels.bernoulli_value_and_gradient(x[:, ::2].copy(), logits[:, ::2].copy(), dvalue, contiguous)
    second = kernels.bernoulli_value_and_gradient(x[:, ::2], logits[:, ::2], dvalue, strided)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(contiguous, strided)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 63, 200_003])  # the last is shared among threads
def test_one_infinity_or_nan_anywhere_is_found(dtype: type, size: int) -> None:
    array = np.random.default_rng(0).normal(size=size).astype(dtype)
    array[-1] = -np.finfo(dtype).max
    assert kernels.all_finite(array) is True
    for place in {0, size // 2, size - 1}:
        for value in (np.inf, -np.inf, np.nan, -np.nan):
            spoilt = array.copy()
            spoilt[place] = value
            assert kernels.all_finite(spoilt) is False


def test_nothing_is_finite_and_gaps_are_not_looked_at() -> None:
    assert kernels.all_finite(np.empty(0)) is True
    assert kernels.all_finite(np.array([1.0, np.nan, 2.0, np.inf])[::2]) is True
