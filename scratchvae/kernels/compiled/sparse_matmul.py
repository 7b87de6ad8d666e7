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

from scratchvae.kernels.compiled.matmul import four_rows
from scratchvae.kernels.compiled.tile import ROWS, VECTOR_BYTES, WIDTH, accumulate_listed_tile

__all__ = ["WORTHWHILE", "list_steps", "multiply_listed", "steps_size"]

WORTHWHILE = 128  # columns of the result: making a list takes as long as about a dozen
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
