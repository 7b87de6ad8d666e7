"""Compiled twin of `scratchvae.kernels.reference.matmul`. Derived in `derivations/10-matmul.md`.

One kernel computes all three products. From the outside in:

- `share` cuts the result into one rectangle for each thread;
- `multiply_part` computes such a rectangle panel by panel: at most 96 columns wide, and all rows;
- `_multiply_panel` goes down a panel in tiles of four rows. The part of the right factor that it needs over and
  over is used where it lies if its columns stand side by side; else, or if the panel is long, it is copied;
- `accumulate_tile` keeps one tile in registers. (10.5)

Which way is taken (copied or not, transposed or not, on how many threads) never changes a bit of the result: each
number is the sum over k, upwards, of the same products, rounded in the same way. (10.4)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from scratchvae.kernels.compiled.arrays import give_back, plain
from scratchvae.kernels.compiled.threads import ParallelKernel
from scratchvae.kernels.compiled.tile import (
    ROWS,
    SQUARE,
    VECTOR_BYTES,
    WIDTH,
    accumulate_tile,
    transpose_square,
)

__all__ = ["matmul", "matmul_transposed_left", "matmul_transposed_right"]

DEPTH = 1024  # of the reduction at a time: so much of a panel stays in the second-level cache. (10.6)
MANY_ROWS = (
    512  # pay for copying what could be used where it lies: a panel, or a left factor that stands across
)
NEITHER, LEFT, RIGHT = 0, 1, 2  # which factor is transposed
WORTHWHILE = 300_000  # multiply-adds take one thread about three times as long as the other needs to wake up


class Matrix(NamedTuple):
    """A matrix inside an array: element (i, j) stands at i · row + j · column."""

    data: Any
    row: Any
    column: Any


class Panel(NamedTuple):
    """Some columns of a product: `halves` half vectors hold them, the last of which may reach too far."""

    begin: Any
    columns: Any
    halves: Any


@register_jitable
def matrix(array: Any, transposed: Any) -> Any:
    """View a C-contiguous array (·, ·) as the matrix that it is, or as its transpose."""
    return Matrix(array, 1, array.shape[1]) if transposed else Matrix(array, array.shape[1], 1)


@register_jitable
def share(task: Any, tasks: Any, rows: Any, columns: Any, half: Any) -> Any:
    """Return a task's part of a result: (first row, last row, first column, last column), the last not included."""
    slabs, strips = -(-rows // ROWS), -(-columns // half)
    # By columns no panel is copied twice; by rows if that is more even, or if the parts would be narrow.
    if strips < 4 * tasks or -(-slabs // tasks) * strips < -(-strips // tasks) * slabs:
        return slabs * task // tasks * ROWS, min(rows, slabs * (task + 1) // tasks * ROWS), 0, columns
    return 0, rows, strips * task // tasks * half, min(columns, strips * (task + 1) // tasks * half)


@register_jitable
def multiply_part(left: Any, right: Any, out: Any, part: Any, depth: Any, accumulate: Any) -> None:
    """out[part] (+)= left @ right, a panel at a time."""
    half = VECTOR_BYTES // 2 // out.itemsize
    rows, columns = part[1] - part[0], part[3] - part[2]
    copies = right.column != 1 or columns < 2 * half or rows >= MANY_ROWS
    size = min(-(-columns // half), WIDTH) * half * (ROWS + min(depth, DEPTH)) if copies else 0
    multiply_part_within(left, right, out, part, depth, accumulate, np.empty(size, out.dtype))


@register_jitable
def multiply_part_within(
    left: Any, right: Any, out: Any, part: Any, depth: Any, accumulate: Any, space: Any
) -> None:
    """The same in memory that is given: for the copy of a panel, and for a tile of a result narrower than a vector."""
    first_row, last_row, first, last = part
    if first_row >= last_row:  # more tasks than rows
        return
    half = VECTOR_BYTES // 2 // out.itemsize
    halves = -(-(last - first) // half)
    panels = -(-halves // WIDTH)
    for k in range(0, depth, DEPTH):
        fresh = k == 0 and not accumulate
        for p in range(panels):
            begin, end = halves * p // panels, halves * (p + 1) // panels
            column = first + begin * half
            panel = Panel(column, min(last, first + end * half) - column, end - begin)
            _multiply_panel(
                left, right, out, first_row, last_row, panel, k, min(DEPTH, depth - k), fresh, space
            )


@register_jitable
def _multiply_panel(
    left: Any,
    right: Any,
    out: Any,
    begin: Any,
    end: Any,
    panel: Any,
    k: Any,
    depth: Any,
    fresh: Any,
    space: Any,
) -> None:
    half = VECTOR_BYTES // 2 // out.itemsize
    width, vector = panel.halves * half, half * (2 - panel.halves % 2)
    narrow = panel.columns < vector  # less than its one vector, which therefore cannot move to the left
    last = (width if narrow else panel.columns) - vector
    tile, copied, numbers = space[: ROWS * width], space[ROWS * width :], out.reshape(-1)
    source, place, step = right.data.reshape(-1), k * right.row + panel.begin * right.column, right.row
    if right.column != 1 or narrow or end - begin >= MANY_ROWS:
        _copy_panel(source, place, right, depth, panel.columns, copied, width)
        source, place, step = copied, 0, width
    target = tile if narrow else numbers
    for i in range(begin, end, ROWS):
        a_rows = four_rows(i, end, left.row, k * left.column)
        rows = four_rows(i, end, out.shape[1], panel.begin)
        count = min(ROWS, end - i)
        if narrow:
            _move(numbers, rows[0], out.shape[1], tile, 0, width, count, panel.columns)
        target_rows = (0, width, 2 * width, 3 * width) if narrow else rows
        accumulate_tile(
            panel.halves,
            last,
            fresh,
            depth,
            left.data,
            a_rows,
            left.column,
            source,
            place,
            step,
            target,
            target_rows,
        )
        if narrow:
            _move(tile, 0, width, numbers, rows[0], out.shape[1], count, panel.columns)


@register_jitable
def four_rows(i: Any, end: Any, step: Any, start: Any) -> Any:
    """Where rows i to i + 3 start; for those below the last row, the last row again, which then gets the same sums."""
    last = end - 1
    return (
        start + i * step,
        start + min(i + 1, last) * step,
        start + min(i + 2, last) * step,
        start + min(i + 3, last) * step,
    )


@register_jitable
def _move(
    source: Any, start: Any, step: Any, target: Any, place: Any, target_step: Any, rows: Any, columns: Any
) -> None:
    for row in range(rows):
        to, of = target[place + row * target_step :], source[start + row * step :]
        for column in range(columns):
            to[column] = of[column]


@register_jitable
def _copy_panel(
    source: Any, start: Any, right: Any, depth: Any, columns: Any, copied: Any, width: Any
) -> None:
    # The columns that make the panel's width full stay what they are: their sums are not used.
    if right.column == 1:
        _move(source, start, right.row, copied, 0, width, depth, columns)
    else:
        _transpose(source, start, right.column, columns, depth, copied, width)


@register_jitable
def _transpose(source: Any, start: Any, step: Any, rows: Any, columns: Any, out: Any, out_step: Any) -> None:
    # out[c, r] = source[r, c]; the last squares reach back over what has been done already.
    if rows < SQUARE or columns < SQUARE:
        for r in range(rows):
            for c in range(columns):
                out[c * out_step + r] = source[start + r * step + c]
        return
    for corner_column in range(0, columns, SQUARE):
        c = min(corner_column, columns - SQUARE)
        for corner_row in range(0, rows, SQUARE):
            r = min(corner_row, rows - SQUARE)
            transpose_square(source, start + r * step + c, step, out, c * out_step + r, out_step)


def _transposed(task: int, tasks: int, a: np.ndarray, out: np.ndarray) -> None:
    first, last = len(out) * task // tasks, len(out) * (task + 1) // tasks
    numbers, target = a.reshape(-1), out.reshape(-1)[first * out.shape[1] :]
    _transpose(numbers, first, a.shape[1], len(a), last - first, target, out.shape[1])


def _multiply(
    task: int,
    tasks: int,
    transposed: int,
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray,
) -> None:
    depth = a.size // out.shape[0]
    half = VECTOR_BYTES // 2 // out.itemsize
    left, right = matrix(a, transposed == LEFT), matrix(b, transposed == RIGHT)
    part = share(task, tasks, out.shape[0], out.shape[1], half)
    multiply_part(left, right, out, part, depth, False)


def space_size(depth: int, itemsize: int) -> int:
    """Return how many numbers `multiply_part_within` may need for a reduction of length `depth`."""
    return WIDTH * (VECTOR_BYTES // 2 // itemsize) * (ROWS + min(depth, DEPTH))


# No flags: the tile alone contracts, as it says itself.
multiply, transpose = ParallelKernel(_multiply), ParallelKernel(_transposed)


def _product(transposed: int, a: np.ndarray, b: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    # The smallest products take a microsecond or two, so here each attribute that is looked up counts.
    if transposed == LEFT:
        depth, rows = a.shape
    else:
        rows, depth = a.shape
    columns = b.shape[0 if transposed == RIGHT else 1]
    if out is None:
        out = np.empty((rows, columns), a.dtype if a.dtype is b.dtype else np.result_type(a, b))
    work = rows * columns * depth
    if not work:
        out[...] = 0
        return out
    dtype, target = out.dtype, out
    kept = a.flags.carray and b.flags.carray and out.flags.carray and a.dtype is dtype and b.dtype is dtype
    if not kept:
        a, b, target = plain(a, dtype), plain(b, dtype), plain(out, dtype)
    if transposed == LEFT and min(rows, depth) >= MANY_ROWS:
        straight = np.empty((rows, depth), dtype)
        transpose(True, a, straight)
        a, transposed = straight, NEITHER
    if work < WORTHWHILE:
        multiply.serial(0, 1, transposed, a, b, target)
    else:
        multiply(True, transposed, a, b, target)
    return out if target is out else give_back(target, out)


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Matrix product a b: the forward pass, y = x W. (10.1)"""
    return _product(NEITHER, a, b, out)


def matmul_transposed_left(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Matrix product aᵀ b: the gradient of a weight, dW = xᵀ dy. (10.2)"""
    return _product(LEFT, a, b, out)


def matmul_transposed_right(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Matrix product a bᵀ: the gradient of a layer's input, dx = dy Wᵀ. (10.3)"""
    return _product(RIGHT, a, b, out)
