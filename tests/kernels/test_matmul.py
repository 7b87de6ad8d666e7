"""Matrix products: any shape, any strides, and one chain of roundings per number. Derived in note 10."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from scratchvae import kernels

Product = Callable[..., np.ndarray]

# How each kernel wants its factors, given those of the plain product.
FORMS: dict[str, tuple[Product, bool, bool]] = {
    "matmul": (kernels.matmul, False, False),
    "matmul_transposed_left": (kernels.matmul_transposed_left, True, False),
    "matmul_transposed_right": (kernels.matmul_transposed_right, False, True),
}
forms = pytest.mark.parametrize("form", FORMS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def arranged(form: str, a: np.ndarray, b: np.ndarray) -> tuple[Product, np.ndarray, np.ndarray]:
    product, left, right = FORMS[form]
    return product, np.ascontiguousarray(a.T) if left else a, np.ascontiguousarray(b.T) if right else b


def factors(rows: int, depth: int, columns: int, dtype: type, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, depth)).astype(dtype), rng.normal(size=(depth, columns)).astype(dtype)


def error_bound(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # (10.7); one more unit covers a product rounded on its own, and the second order
    unit = np.finfo(a.dtype).eps / 2
    return (a.shape[1] + 1) * unit * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))


def assert_is_product(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    assert c.dtype == a.dtype
    assert c.shape == exact.shape
    assert (np.abs(c - exact) <= error_bound(a, b)).all()


@pytest.mark.equation("10.7")
@forms
@dtypes
@given(
    rows=st.integers(0, 40), depth=st.integers(0, 40), columns=st.integers(0, 120), seed=st.integers(0, 99)
)
def test_products_of_any_shape(
    form: str, dtype: type, rows: int, depth: int, columns: int, seed: int
) -> None:
    a, b = factors(rows, depth, columns, dtype, seed)
    product, left, right = arranged(form, a, b)
    assert_is_product(product(left, right), a, b)
    out = np.full((rows, columns), np.nan, dtype)
    assert product(left, right, out=out) is out
    assert_is_product(out, a, b)


@forms
@dtypes
@pytest.mark.parametrize(
    "shape",
    [
        (128, 784, 400),
        (784, 128, 20),
        (20, 50, 784),
        (64, 2500, 33),  # a reduction in three pieces
        (600, 65, 97),  # so many rows that a panel is copied
        (513, 1025, 7),  # narrower than a vector, many rows, two pieces
        (1, 784, 400),
        (784, 1, 400),
        (784, 400, 1),
    ],
)
def test_large_products(form: str, dtype: type, shape: tuple[int, int, int], seed: int) -> None:
    a, b = factors(*shape, dtype, seed)
    product, left, right = arranged(form, a, b)
    assert_is_product(product(left, right), a, b)


@forms
@dtypes
def test_any_strides(form: str, dtype: type, seed: int) -> None:
    a, b = factors(23, 31, 45, dtype, seed)
    product, left, right = arranged(form, a, b)
    expected = product(left, right)
    for arrange in (
        np.asfortranarray,
        lambda array: np.repeat(array, 3, axis=1)[:, ::3],
        lambda array: np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1],
    ):
        np.testing.assert_array_equal(product(arrange(left), arrange(right)), expected)
        out = arrange(np.full_like(expected, np.nan))
        assert product(left, right, out=out) is out
        np.testing.assert_array_equal(out, expected)
    read_only = left.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(product(read_only, right), expected)


@forms
def test_mixed_precision_is_computed_in_double(form: str, seed: int) -> None:
    a, b = factors(5, 6, 7, np.float64, seed)
    product, left, right = arranged(form, a.astype(np.float32), b)
    assert_is_product(product(left, right), a.astype(np.float32).astype(np.float64), b)


@forms
def test_what_is_not_finite_spreads(form: str, seed: int) -> None:
    a, b = factors(6, 5, 40, np.float64, seed)
    a[2, 3] = np.nan
    b[1, 17] = np.inf
    product, left, right = arranged(form, a, b)
    with np.errstate(invalid="ignore"):
        c = product(left, right)
    expected = np.zeros(c.shape, bool)
    expected[2, :] = expected[:, 17] = True
    np.testing.assert_array_equal(~np.isfinite(c), expected)


def chain(a: np.ndarray, b: np.ndarray, fused: bool) -> np.float32:
    """Σ_k a_k b_k upwards in float32, with exact rational arithmetic between the roundings."""
    total = np.float32(0)
    for x, y in zip(a, b, strict=True):
        product = Fraction(float(x)) * Fraction(float(y))
        if not fused:
            product = Fraction(float(nearest(product)))
        total = nearest(Fraction(float(total)) + product)
    return total


def nearest(exact: Fraction) -> np.float32:
    """The float32 nearest to a rational number; rounding to float64 first would round twice."""
    guess = np.float32(float(exact))
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(near, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(np.uint32)) & 1))


@pytest.mark.skipif(kernels.BACKEND != "compiled", reason="NumPy's library adds in an order of its own")
@forms
def test_each_number_is_one_chain_of_roundings(form: str, seed: int) -> None:
    a, b = factors(9, 23, 70, np.float32, seed)
    product, left, right = arranged(form, a, b)
    c = product(left, right)
    chains = [
        np.array([[chain(a[i], b[:, j], fused) for j in (0, 15, 16, 69)] for i in (0, 3, 8)])
        for fused in (True, False)
    ]
    assert any(np.array_equal(c[np.ix_([0, 3, 8], [0, 15, 16, 69])], expected) for expected in chains)


@pytest.mark.skipif(kernels.BACKEND != "compiled", reason="NumPy's library adds in an order of its own")
@dtypes
@given(
    rows=st.integers(1, 30), depth=st.integers(1, 1200), columns=st.integers(1, 130), seed=st.integers(0, 99)
)
def test_all_ways_give_the_same_bits(dtype: type, rows: int, depth: int, columns: int, seed: int) -> None:
    a, b = factors(rows, depth, columns, dtype, seed)
    results = [product(left, right) for product, left, right in (arranged(form, a, b) for form in FORMS)]
    # The transposed product swaps the parts that rows and columns play.
    results += [np.ascontiguousarray(kernels.matmul(b.T.copy(), a.T.copy()).T)]
    # Rows do not know of one another.
    results += [np.concatenate([kernels.matmul(a[:1], b), kernels.matmul(a[1:], b)])]
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.equation("10.5")
def test_operations_for_each_number_that_a_tile_loads() -> None:
    rows, columns, depth = 4, 96, 10
    loads = operations = 0
    for _ in range(depth):
        loads += rows + columns
        operations += sum(2 for _ in range(rows) for _ in range(columns))
    r, c = sympy.symbols("R C", positive=True)
    formula = 2 / (1 / r + 1 / c)
    assert formula.subs({r: rows, c: columns}) == sympy.Rational(operations, loads)


@pytest.mark.equation("10.6")
def test_numbers_that_a_blocked_product_moves() -> None:
    M, N, K, panel, depth = 24, 96, 64, 32, 16  # noqa: N806 - the note's letters
    moved = 0
    for _ in range(0, K, depth):
        for _ in range(0, N, panel):
            moved += depth * panel  # the panel of b, once, and from then on in the cache
            moved += M * depth  # a strip of a
            moved += 2 * M * panel  # the result, read and written
    m, n, k, p, d = sympy.symbols("M N K P D", positive=True)
    formula = m * n * k / p + k * n + 2 * m * n * k / d
    assert formula.subs({m: M, n: N, k: K, p: panel, d: depth}) == moved


@dtypes
def test_a_large_left_factor_that_stands_across_is_turned_first(dtype: type, seed: int) -> None:
    a, b = factors(515, 521, 37, dtype, seed)  # which leave incomplete squares at both edges
    product, left, right = arranged("matmul_transposed_left", a, b)
    assert_is_product(product(left, right), a, b)


@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (7, 9), (8, 8), (9, 7), (9, 15), (40, 33)])
def test_transposing_in_squares_that_reach_back_misses_nothing(depth: int, columns: int, seed: int) -> None:
    a, b = factors(3, depth, columns, np.float32, seed)
    product, left, right = arranged("matmul_transposed_right", a, b)
    assert_is_product(product(left, right), a, b)
