"""Compiled twin of `scratchvae.kernels.reference.outer_products`. Derived in `derivations/11-variance.md`.

One pass for both sums: a product a_i d_j is made once, and added, and squared and added. Rows where a_i is zero are
left out: behind a relu they are half of all. Tasks share the rows of the result, and each number is one sum in the
order of the rows of a and d. No flags: a number must get the same bits wherever it stands in a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.kernels.compiled.arrays import give_back, plain
from scratchvae.kernels.compiled.mathematics import inline
from scratchvae.kernels.compiled.matmul import WORTHWHILE
from scratchvae.kernels.compiled.threads import ParallelKernel

__all__ = ["add_mean_and_squares", "add_outer_products", "add_shifted_rows"]

AT_ONCE = (
    64  # rows of d: with a thousand columns they stay in the second-level cache while all of a passes by
)
WORTHWHILE_NUMBERS = 20_000  # where each takes about a quarter of a nanosecond
STEP = 4  # products per load and store of the sums; the registers hold no more


@inline
def _list_nonzero(a: Any, i: Any, begin: Any, end: Any, rows: Any, factors: Any) -> Any:
    # Of column i: which rows from `begin` to `end` are not zero, and what they hold. Filled up to whole steps.
    count = 0
    for r in range(begin, end):
        rows[count], factors[count] = r, a[r, i]  # the next one overwrites a zero: no branch
        count += a[r, i] != 0
    for extra in range(count, count + STEP - 1):
        rows[extra], factors[extra] = rows[0], 0
    return count


@inline
def _add_four(factors: Any, d0: Any, d1: Any, d2: Any, d3: Any, first: Any, second: Any) -> None:
    a0, a1, a2, a3 = factors[0], factors[1], factors[2], factors[3]
    for j in range(first.size):
        p0, p1, p2, p3 = a0 * d0[j], a1 * d1[j], a2 * d2[j], a3 * d3[j]
        first[j] += (p0 + p1) + (p2 + p3)
        second[j] += (p0 * p0 + p1 * p1) + (p2 * p2 + p3 * p3)


def _add_outer_products(
    task: int, tasks: int, a: np.ndarray, d: np.ndarray, first: np.ndarray, second: np.ndarray
) -> None:
    units = a.shape[1]
    rows = np.empty(AT_ONCE + STEP, np.int64)
    factors = np.empty(AT_ONCE + STEP, a.dtype)
    for begin in range(0, len(a), AT_ONCE):
        end = min(begin + AT_ONCE, len(a))
        for i in range(units * task // tasks, units * (task + 1) // tasks):
            count = _list_nonzero(a, i, begin, end, rows, factors)
            for n in range(0, count, STEP):
                _add_four(
                    factors[n:],
                    d[rows[n]],
                    d[rows[n + 1]],
                    d[rows[n + 2]],
                    d[rows[n + 3]],
                    first[i],
                    second[i],
                )


@inline
def _add_shifted_row(row: Any, shift: Any, first: Any, second: Any) -> None:
    for j in range(shift.size):
        difference = row[j] - shift[j]
        first[j] += difference
        second[j] += difference * difference


def _add_shifted_rows(
    task: int, tasks: int, d: np.ndarray, shift: np.ndarray, first: np.ndarray, second: np.ndarray
) -> None:
    begin, end = shift.size * task // tasks, shift.size * (task + 1) // tasks
    for r in range(len(d)):
        _add_shifted_row(d[r, begin:end], shift[begin:end], first[begin:end], second[begin:end])


def _add_mean_and_squares(
    task: int,
    tasks: int,
    first: np.ndarray,
    second: np.ndarray,
    rows: float,
    mean: np.ndarray,
    squares: np.ndarray,
) -> None:
    for n in range(first.size * task // tasks, first.size * (task + 1) // tasks):
        average = first[n] / rows
        mean[n] += average
        squares[n] += second[n] - rows * (average * average)


outer_products_kernel = ParallelKernel(_add_outer_products)
rows_kernel = ParallelKernel(_add_shifted_rows)
moments_kernel = ParallelKernel(_add_mean_and_squares)


def add_outer_products(a: np.ndarray, d: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """first += aᵀ d and second += (a ∘ a)ᵀ (d ∘ d): over rows, the sums of a_i d_j and of (a_i d_j)². (11.3)"""
    dtype, sums = first.dtype, (plain(first, first.dtype), plain(second, first.dtype))
    if a.size and d.size:
        worthwhile = first.size * len(a) > WORTHWHILE
        outer_products_kernel(worthwhile, plain(a, dtype), plain(d, dtype), *sums)
    give_back(sums[0], first)
    give_back(sums[1], second)


def add_shifted_rows(d: np.ndarray, shift: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Add the rows of d less a shift to first, and their squares to second: a = 1, and little cancels. (11.3)"""
    dtype, sums = first.dtype, (plain(first, first.dtype), plain(second, first.dtype))
    rows_kernel(d.size >= WORTHWHILE_NUMBERS, plain(d, dtype), plain(shift, dtype), *sums)
    give_back(sums[0], first)
    give_back(sums[1], second)


def add_mean_and_squares(
    first: np.ndarray, second: np.ndarray, rows: int, mean: np.ndarray, squares: np.ndarray
) -> None:
    """mean += first / rows and squares += second − first² / rows: the squared deviations from that mean. (11.3)"""
    sums = [plain(array, first.dtype).reshape(-1) for array in (first, second)]
    results = plain(mean, mean.dtype), plain(squares, squares.dtype)
    flat = [array.reshape(-1) for array in results]
    moments_kernel(first.size >= WORTHWHILE_NUMBERS, *sums, float(rows), *flat)
    give_back(results[0], mean)
    give_back(results[1], squares)
