"""The elementary functions of the compiled kernels, in units in the last place, against exact ones."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest

numba = pytest.importorskip("numba")

from scratchvae.kernels.compiled import mathematics  # noqa: E402 - numba may be missing


def exact_sigmoid(x: mpmath.mpf) -> mpmath.mpf:
    return 1 / (1 + mpmath.exp(-x))


def exact_softplus(x: mpmath.mpf) -> mpmath.mpf:
    return mpmath.log1p(mpmath.exp(x))


# Function, exact function, where it is tried, and the bound on its error in units in the last place.
FUNCTIONS: dict[str, tuple[Callable, tuple[float, float], float]] = {
    "exp": (mpmath.exp, (-80, 80), 1.0),
    "expm1": (mpmath.expm1, (-30, 80), 2.0),
    "log": (mpmath.log, (1e-9, 1), 2.0),
    "log1p": (mpmath.log1p, (0, 1), 2.0),
    "tanh": (mpmath.tanh, (-10, 10), 2.5),
    "sigmoid": (exact_sigmoid, (-80, 80), 2.5),
    "softplus": (exact_softplus, (-80, 80), 2.5),
}
each_function = pytest.mark.parametrize("name", FUNCTIONS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def over_arrays(name: str) -> Callable[[np.ndarray], np.ndarray]:
    function = getattr(mathematics, name)

    @numba.njit(error_model="numpy")
    def loop(x: np.ndarray, out: np.ndarray) -> np.ndarray:
        for i in range(x.size):
            out[i] = function(x[i])
        return out

    return lambda x: loop(x, np.empty_like(x))


@pytest.fixture(scope="module")
def compiled() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    return {name: over_arrays(name) for name in FUNCTIONS}


@each_function
@dtypes
def test_error_in_units_in_the_last_place(
    name: str, dtype: type, compiled: dict, rng: np.random.Generator
) -> None:
    exact, (low, high), bound = FUNCTIONS[name]
    near_zero = 10.0 ** rng.uniform(-8, 0, 300) * (1 if low >= 0 else rng.choice([-1, 1], 300))
    x = np.concatenate([rng.uniform(low, high, 900), near_zero]).astype(dtype)
    result = compiled[name](x)
    with mpmath.workdps(40):
        expected = [exact(mpmath.mpf(float(value))) for value in x]
        error = [
            abs(mpmath.mpf(float(value)) - reference) / mpmath.mpf(float(np.spacing(dtype(abs(reference)))))
            for value, reference in zip(result, expected, strict=True)
            if abs(reference) > np.finfo(dtype).tiny
        ]
    assert max(error) < bound


@dtypes
def test_sine_and_cosine(dtype: type) -> None:
    @numba.njit(error_model="numpy")
    def loop(x: np.ndarray, sine: np.ndarray, cosine: np.ndarray) -> None:
        for i in range(x.size):
            sine[i], cosine[i] = mathematics.sine_and_cosine(x[i])

    x = np.linspace(-0.5, 0.5, 1001).astype(dtype)
    sine, cosine = np.empty_like(x), np.empty_like(x)
    loop(x, sine, cosine)
    with mpmath.workdps(40):
        for values, exact in ((sine, mpmath.sinpi), (cosine, mpmath.cospi)):
            for argument, value in zip(x, values, strict=True):
                reference = exact(mpmath.mpf(float(argument)) / 2)
                unit = mpmath.mpf(float(np.spacing(dtype(abs(reference)))))
                assert abs(mpmath.mpf(float(value)) - reference) < 2 * unit


@dtypes
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exp", {np.nan: np.nan, np.inf: np.inf, -np.inf: 0, 0: 1, 1e4: np.inf, -1e4: 0}),
        ("expm1", {np.nan: np.nan, np.inf: np.inf, -np.inf: -1, 0: 0, 1e4: np.inf, -1e4: -1}),
        ("tanh", {np.nan: np.nan, np.inf: 1, -np.inf: -1, 0: 0, 1e4: 1, -1e4: -1}),
        ("sigmoid", {np.nan: np.nan, np.inf: 1, -np.inf: 0, 0: 0.5, 1e4: 1, -1e4: 0}),
        ("softplus", {np.nan: np.nan, np.inf: np.inf, -np.inf: 0, 1e4: 1e4, -1e4: 0}),
        ("log1p", {np.nan: np.nan, 0: 0}),
    ],
)
def test_special_values(name: str, expected: dict[float, float], dtype: type, compiled: dict) -> None:
    result = compiled[name](np.array(list(expected), dtype))
    np.testing.assert_array_equal(result, np.array(list(expected.values()), dtype))


@dtypes
def test_exp_reaches_the_smallest_and_largest_numbers(dtype: type, compiled: dict) -> None:
    limits = np.finfo(dtype)
    largest, smallest = np.log(float(limits.max)), np.log(float(limits.smallest_subnormal))
    x = np.array([largest * (1 - 2e-7), smallest + 1, np.log(float(limits.tiny)) - 2], dtype)
    with mpmath.workdps(40):
        expected = np.array([float(mpmath.exp(float(value))) for value in x], dtype)
    np.testing.assert_allclose(
        compiled["exp"](x), expected, rtol=4 * limits.eps, atol=limits.smallest_subnormal
    )
    np.testing.assert_allclose(compiled["expm1"](x)[0], expected[0], rtol=4 * limits.eps)
