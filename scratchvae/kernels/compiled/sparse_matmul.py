"""Matrix products whose left factor has many zeros, as images have: what is multiplied by zero is not added.

Four rows at a time, as `accumulate_tile` takes them, and so a step of the reduction is left out where all four
have a zero. Of binarized handwritten digits that leaves a third in the forward pass and a quarter in the gradient of
the weight. The result is that of the whole sum, bit for bit, as long as the right factor is finite; but for the sign
of a zero that underflowed. (10.8)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from scratchvae.kernels.compiled.listed_row import (
    STEPS,
    accumulate_listed_row,
    copy_panel,
    new_panel,
    panel_of,
    panels_of,
)
from scratchvae.kernels.compiled.matmul import four_rows
from scratchvae.kernels.compiled.tile import ROWS, VECTOR_BYTES, WIDTH, accumulate_listed_tile

__all__ = [
    "WORTHWHILE",
    "has_many_zeros",
    "list_steps",
    "multiply_listed",
    "multiply_listed_rows",
    "steps_size",
]

WORTHWHILE = 128  # columns of the result: making a list takes as long as about a dozen
HALF_FULL = 0.6  # of a factor's numbers: what row by row saves, its shorter loops cost
LOOKED_AT = 64  # rows, for zeros
AT_ONCE = 128  # rows, whose lists stay in the second-level cache
FULL = 0.8  # of the steps: a list that long saves nothing, for its steps take a little longer


def steps_size(rows: int, depth: int) -> int:
    """Return how many integers `list_steps` may fill for a factor (rows, depth), or for its transpose."""
    return max(-(-rows // ROWS) * (depth + 1), -(-depth // ROWS) * (rows + 1))


@register_jitable
def list_steps(left: Any, depth: Any, begin: Any, end: Any, steps: Any) -> Any:
    """For each four rows, from row `begin` (a multiple of 4) to `end`, list the k where one of them is not zero.

    A slab of four rows has depth + 1 integers: how many, and which. Returns whether the lists are there: they are
    not if the first slab has hardly a zero, for then the others will not have many either.
    """
    numbers = left.data.reshape(-1)
    for i in range(begin, end, ROWS):
        r0, r1, r2, r3 = four_rows(i, end, left.row, 0)
        a0, a1 = numbers[r0 :: left.column], numbers[r1 :: left.column]
        a2, a3 = numbers[r2 :: left.column], numbers[r3 :: left.column]
        listed = steps[i // ROWS * (depth + 1) : (i // ROWS + 1) * (depth + 1)]
        count = 0
        for k in range(depth):
            listed[1 + count] = k  # which the next one overwrites, should all be zero: no branch
            count += (a0[k] != 0) | (a1[k] != 0) | (a2[k] != 0) | (a3[k] != 0)
        listed[0] = count
        if i == begin and count > FULL * depth:
            return False
    return True


@register_jitable
def multiply_listed(left: Any, right: Any, out: Any, depth: Any, begin: Any, end: Any, steps: Any) -> None:
    """out[begin:end] = left @ right over listed steps; columns of right stand side by side, a vector or more. (10.8)"""
    half = VECTOR_BYTES // 2 // out.itemsize
    columns = out.shape[1]
    halves = -(-columns // half)
    panels = -(-halves // WIDTH)
    numbers, source = out.reshape(-1), right.data.reshape(-1)
    for p in range(panels):
        column, stop = halves * p // panels * half, halves * (p + 1) // panels * half
        width = min(columns, stop) - column
        count = -(-width // half)
        last = width - half * (2 - count % 2)
        for i in range(begin, end, ROWS):
            rows = four_rows(i, end, columns, column)
            listed = i // ROWS * (depth + 1)
            if steps[listed] == 0:
                for row in rows:
                    numbers[row : row + width] = 0
            else:
                accumulate_listed_tile(
                    count,
                    last,
                    steps,
                    listed + 1,
                    np.int64(steps[listed]),
                    left.data,
                    four_rows(i, end, left.row, 0),
                    left.column,
                    source,
                    column,
                    right.row,
                    numbers,
                    rows,
                )


@register_jitable
def has_many_zeros(left: Any, begin: Any, end: Any) -> Any:
    """Whether in the first of some rows of a factor so many numbers are zero that `multiply_listed_rows` pays."""
    end, count = min(end, begin + LOOKED_AT), 0
    for i in range(begin, end):
        row = left[i]
        for k in range(row.size):
            count += row[k] != 0
    return count <= HALF_FULL * (end - begin) * left.shape[1]


@register_jitable
def _list_row(row: Any, size: Any, steps: Any) -> None:
    # The k where a row is not zero, `size` of them at a time: how many, and which.
    for block in range(len(steps)):
        listed, some, count = steps[block], row[block * size : (block + 1) * size], 0
        for k in range(some.size):
            listed[1 + count] = k
            count += some[k] != 0
        listed[0] = count


@register_jitable
def multiply_listed_rows(left: Any, right: Any, out: Any, part: Any) -> None:
    """out[part] = left @ right, each row of left without its own zeros; a vector of columns at least. (10.8)"""
    first_row, last_row, first, last = part
    depth, columns = right.shape
    blocks = -(-depth // STEPS)
    size = -(-depth // max(blocks, 1))
    steps, panel = np.empty((AT_ONCE, blocks, STEPS + 1), np.int32), new_panel(right)
    lists, numbers, rows, sums = steps.reshape(-1), left.reshape(-1), panel.reshape(-1), out.reshape(-1)
    for begin in range(first_row, last_row, AT_ONCE):
        end = min(begin + AT_ONCE, last_row)
        for i in range(begin, end):
            out[i, first:last] = 0
            _list_row(left[i], size, steps[i - begin])
        for p in range(panels_of(last - first, out.itemsize)):
            column, after, vectors = panel_of(p, last - first, out.itemsize)
            for block in range(blocks):
                k = block * size
                copy_panel(right, k, min(k + size, depth), first + column, first + after, panel)
                for i in range(begin, end):
                    if steps[i - begin, block, 0]:
                        accumulate_listed_row(
                            vectors,
                            after - column - VECTOR_BYTES // out.itemsize,
                            lists,
                            ((i - begin) * blocks + block) * (STEPS + 1) + 1,
                            np.int64(steps[i - begin, block, 0]),
                            numbers,
                            i * depth + k,
                            1,
                            rows,
                            panel.shape[1],
                            i * columns + first + column,
                            sums,
                            None,  # no squares
                        )
