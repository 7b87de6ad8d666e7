"""Products over lists of steps against full ones: the same bits, however many zeros there are."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from scratchvae import kernels
from scratchvae.kernels import reference
from scratchvae.kernels.compiled import arrays, sparse_matmul, threads
from scratchvae.kernels.compiled.compilation import compile_kernel
from scratchvae.kernels.compiled.matmul import matrix
from scratchvae.models.vae import VAE


def _listed_product(
    transposed: bool, left: np.ndarray, right: np.ndarray, steps: np.ndarray, out: np.ndarray
) -> bool:
    factor, depth = matrix(left, transposed), left.shape[0 if transposed else 1]
    listed = sparse_matmul.list_steps(factor, depth, 0, out.shape[0], steps)
    if listed:
        sparse_matmul.multiply_listed(factor, matrix(right, False), out, depth, 0, out.shape[0], steps)
    return listed


vae_gradients = importlib.import_module("scratchvae.kernels.compiled.vae_gradients")  # not its function
listed_product = compile_kernel(_listed_product)


def zeros_and_others(
    rng: np.random.Generator, shape: tuple[int, int], density: float, dtype: type
) -> np.ndarray:
    return (rng.normal(size=shape) * (rng.random(shape) < density)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    rows=st.integers(1, 140),  # one piece of rows, and more
    depth=st.integers(1, 140),  # one panel, and more
    columns=st.integers(128, 300),
    density=st.sampled_from([0.0, 0.02, 0.5]),
)
def test_leaving_out_each_rows_zeros_changes_no_bit(
    dtype: type, rows: int, depth: int, columns: int, density: float
) -> None:
    rng = np.random.default_rng(rows + 100 * depth)
    a, b = (
        zeros_and_others(rng, (rows, depth), density, dtype),
        rng.normal(size=(depth, columns)).astype(dtype),
    )
    out = np.full((rows, columns), np.nan, dtype)
    kernels.dense_activation(a, b, np.zeros(columns, dtype), "identity", out)
    np.testing.assert_array_equal(out, kernels.matmul(a, b))


@pytest.mark.parametrize(("density", "pays"), [(0.0, True), (0.5, True), (0.8, False), (1.0, False)])
def test_rows_are_listed_where_enough_is_zero(density: float, pays: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.random((100, 200)) < density
    a[64:] = not density  # below what is looked at
    assert sparse_matmul.has_many_zeros(a.astype(np.float32), 0, 100) == pays


@pytest.mark.equation("10.8")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    rows=st.integers(1, 30),
    depth=st.integers(1, 60),
    columns=st.integers(64, 260),  # no panel of which is narrow, as `accumulate_listed_tile` asks
    density=st.sampled_from([0.0, 0.02, 0.2, 0.4, 1.0]),
    transposed=st.booleans(),
)
def test_leaving_out_zeros_changes_no_bit(
    dtype: type, rows: int, depth: int, columns: int, density: float, transposed: bool
) -> None:
    rng = np.random.default_rng(rows + 100 * depth)
    a, b = (
        zeros_and_others(rng, (rows, depth), density, dtype),
        rng.normal(size=(depth, columns)).astype(dtype),
    )
    steps = np.full(sparse_matmul.steps_size(rows, depth), -7, np.int32)
    out = np.full((rows, columns), np.nan, dtype)
    left = np.ascontiguousarray(a.T) if transposed else a
    listed = listed_product(transposed, left, b, steps, out)
    first_slab = (a[:4] != 0).any(axis=0).mean()
    assert listed == (first_slab <= sparse_matmul.FULL)
    if listed:
        np.testing.assert_array_equal(out.view(np.uint8), kernels.matmul(a, b).view(np.uint8))


def test_what_meets_only_zeros_is_not_looked_at() -> None:
    # The one difference to the full product, and why only a minibatch of finite pixels comes here.
    a, b = np.zeros((4, 3), np.float32), np.ones((3, 64), np.float32)
    a[:, 0], b[1] = 1, np.nan
    steps, out = np.empty(sparse_matmul.steps_size(4, 3), np.int32), np.empty((4, 64), np.float32)
    assert listed_product(False, a, b, steps, out)
    np.testing.assert_array_equal(out, 1)
    assert np.isnan(kernels.matmul(a, b)).all()


@pytest.mark.parametrize("likelihood_variance", [None, 0.5])
@pytest.mark.parametrize(("batch_size", "hidden"), [(21, (128,)), (128, (400, 64)), (3, (130,))])
def test_a_whole_gradient_has_the_same_bits_with_lists_and_without(
    batch_size: int,
    hidden: tuple[int, ...],
    likelihood_variance: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(batch_size)
    sizes = (301, *hidden, 5)
    theta = VAE(301, hidden, 5, rng=rng).theta
    x = (rng.random((batch_size, sizes[0])) < 0.15).astype(np.float32)
    x[:, :40] = 0  # whole slabs of dark pixels
    noise = rng.normal(size=(batch_size, 5)).astype(np.float32)
    results = []
    for worthwhile in (1, 10**9):
        monkeypatch.setattr(vae_gradients, "WORTHWHILE_LISTED", worthwhile)
        vae_gradients._memory.cache_clear()
        gradient, values = np.full_like(theta, np.nan), np.empty((2, batch_size))
        kernels.vae_gradients(theta, gradient, sizes, "tanh", likelihood_variance, 0.7, x, noise, values)
        results.append((gradient, values))
    vae_gradients._memory.cache_clear()
    for listed, full in zip(*results, strict=True):
        np.testing.assert_array_equal(listed, full)
    assert (results[0][0][: 40 * hidden[0]] == 0).all()


@given(
    input_dim=st.one_of(st.integers(1, 5), st.integers(20, 40)),
    batch_size=st.one_of(st.integers(1, 9), st.integers(30, 40)),
    slabs=st.lists(st.sampled_from(["black", "sparse", "white"]), min_size=10, max_size=10),
    tasks=st.integers(2, 5),
)
def test_tasks_that_choose_otherwise_leave_nothing_out(
    input_dim: int, batch_size: int, slabs: list[str], tasks: int
) -> None:
    # Each task sees its own first slab, and one may take lists where another does not.
    rng = np.random.default_rng(input_dim + 50 * batch_size)
    sizes = (input_dim, 130, 2)
    theta = VAE(input_dim, (130,), 2, rng=rng).theta
    density = np.repeat([{"black": 0.0, "sparse": 0.2, "white": 1.0}[slab] for slab in slabs], 4)[:input_dim]
    x = (rng.random((batch_size, input_dim)) < density).astype(np.float32)
    noise = rng.normal(size=(batch_size, 2)).astype(np.float32)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vae_gradients, "WORTHWHILE", 0)
        for number in (1, tasks):
            patch.setattr(threads, "_threads", number)
            gradient, values = np.full_like(theta, np.nan), np.empty((2, batch_size))
            kernels.vae_gradients(theta, gradient, sizes, "relu", None, 1.0, x, noise, values)
            found.append(gradient)
    expected, values = np.empty_like(theta), np.empty((2, batch_size))
    reference.vae_gradients(theta, expected, sizes, "relu", None, 1.0, x, noise, values)
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_workspace_is_one_s_own_and_grows() -> None:
    kind = np.dtype(np.float32)
    first = arrays.workspace(10, kind)
    assert first.size == 10
    assert first.ctypes.data % 64 == 0
    assert arrays.workspace(5, kind).ctypes.data == first.ctypes.data
    larger = arrays.workspace(first.base.size * 4, kind)
    assert larger.size == first.base.size * 4
    assert not np.shares_memory(larger, arrays.workspace(10, np.dtype(np.float64)))


def test_a_workspace_that_is_very_large_is_given_back() -> None:
    kind = np.dtype(np.float32)
    kept = arrays.workspace(10, kind)
    assert arrays.workspace(arrays._KEPT_BYTES, kind).size == arrays._KEPT_BYTES
    assert arrays.workspace(10, kind).ctypes.data == kept.ctypes.data
