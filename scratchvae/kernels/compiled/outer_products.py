"""Compiled twin of `scratchvae.kernels.reference.outer_products`. Derived in `derivations/11-variance.md`.

One pass for both sums: a product a_i d_j is made once, and added, and squared and added. Rows where a_i is zero are
left out: behind a relu they are half of all. Tasks share the rows of the result, and each number is one sum in the
order of the rows of a and d.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.kernels.compiled.arrays import give_back, plain
from scratchvae.kernels.compiled.listed_row import (
    STEPS,
    accumulate_listed_row,
    copy_panel,
    new_panel,
    panel_of,
    panels_of,
)
from scratchvae.kernels.compiled.mathematics import inline
from scratchvae.kernels.compiled.matmul import WORTHWHILE
from scratchvae.kernels.compiled.threads import ParallelKernel
from scratchvae.kernels.compiled.tile import VECTOR_BYTES

__all__ = ["add_mean_and_squares", "add_outer_products", "add_shifted_rows"]

WORTHWHILE_NUMBERS = 20_000  # where each takes about a quarter of a nanosecond


@inline
def _list_nonzero(a: Any, unit: Any, begin: Any, end: Any, listed: Any) -> None:
    # Which rows of column `unit` are not zero: how many, and which, from `begin` on.
    count = 0
    for r in range(end - begin):
        listed[1 + count] = r  # the next one overwrites a zero: no branch
        count += a[begin + r, unit] != 0
    listed[0] = count


@inline
def _add_narrow(a: Any, d: Any, unit: Any, begin: Any, listed: Any, first: Any, second: Any) -> None:
    for n in range(1, listed[0] + 1):
        factor, row = a[begin + listed[n], unit], d[begin + listed[n]]
        for j in range(first.size):
            product = factor * row[j]
            first[j] += product
            second[j] += product * product


def _add_outer_products(
    task: int, tasks: int, a: np.ndarray, d: np.ndarray, first: np.ndarray, second: np.ndarray
) -> None:
    begin, end, columns = a.shape[1] * task // tasks, a.shape[1] * (task + 1) // tasks, d.shape[1]
    panels, panel = panels_of(columns, d.itemsize), new_panel(d)
    steps = np.empty((end - begin, STEPS + 1), np.int32)
    lists, numbers, rows = steps.reshape(-1), a.reshape(-1), panel.reshape(-1)
    sums, squares = first.reshape(-1), second.reshape(-1)
    for row in range(0, len(a), STEPS):
        stop = min(row + STEPS, len(a))
        for unit in range(begin, end):
            _list_nonzero(a, unit, row, stop, steps[unit - begin])
            if panels == 0:
                _add_narrow(a, d, unit, row, steps[unit - begin], first[unit], second[unit])
        for p in range(panels):
            column, after, vectors = panel_of(p, columns, d.itemsize)
            copy_panel(d, row, stop, column, after, panel)
            for unit in range(begin, end):
                if steps[unit - begin, 0]:
                    accumulate_listed_row(
                        vectors,
                        after - column - VECTOR_BYTES // d.itemsize,
                        lists,
                        (unit - begin) * (STEPS + 1) + 1,
                        np.int64(steps[unit - begin, 0]),
                        numbers,
                        row * a.shape[1] + unit,
                        a.shape[1],
                        rows,
                        panel.shape[1],
                        unit * columns + column,
                        sums,
                        squares,
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
