# mypy: ignore-errors
# (numba and llvmlite hand around objects that their type hints do not know.)
"""One row of a result in the processor's registers, while listed steps of a reduction are added to it.

Behind a relu half of all numbers are zero, but no two rows have their zeros at the same places, and the four rows of a
tile of `tile.py` hardly ever have one in common. One row alone can leave out each of its zeros. What it needs of the
other factor should then lie in the first-level cache, for every step loads it again: in a panel of 64 rows. As there a
loop in the compiler's intermediate language, for the same reason. (10.8) (11.3)
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

from scratchvae.kernels.compiled.tile import (
    _CONTRACT,
    _INDEX,
    VECTOR_BYTES,
    _broadcast,
    _bytes_of,
    _carried,
)

__all__ = [
    "STEPS",
    "accumulate_listed_row",
    "copy_panel",
    "new_panel",
    "panel_of",
    "panels_of",
]

# Vectors of a row: two sums of each leave room in the 32 or 16 registers for what is being multiplied.
ROW_WIDTH = 7 if VECTOR_BYTES == 64 else 6
STEPS = 64  # of a list at most: so many rows of a panel fit into the first-level cache


@register_jitable
def panels_of(columns: Any, itemsize: Any) -> Any:
    """Return how many panels of at most ROW_WIDTH vectors there are in so many columns: none in less than a vector."""
    vector = VECTOR_BYTES // itemsize
    return -(-columns // (ROW_WIDTH * vector)) if columns >= vector else 0


@register_jitable
def panel_of(number: Any, columns: Any, itemsize: Any) -> Any:
    """Return a panel's first column, the one after its last, and how many vectors it has."""
    vector = VECTOR_BYTES // itemsize
    vectors, panels = -(-columns // vector), panels_of(columns, itemsize)
    first, last = vectors * number // panels, vectors * (number + 1) // panels
    return first * vector, min(columns, last * vector), last - first


@register_jitable
def new_panel(like: Any) -> Any:
    """Return memory for a panel, (STEPS, ROW_WIDTH vectors), where no vector crosses a line of the cache."""
    width = ROW_WIDTH * VECTOR_BYTES // like.itemsize
    space = np.empty((STEPS + 1) * width, like.dtype)
    start = -space.ctypes.data % VECTOR_BYTES // like.itemsize
    return space[start : start + STEPS * width].reshape(STEPS, width)


@register_jitable
def copy_panel(source: Any, first_row: Any, last_row: Any, begin: Any, end: Any, panel: Any) -> None:
    """Copy rows `first_row` to `last_row` of a matrix, columns `begin` to `end`, to the top left of a panel."""
    for row in range(first_row, last_row):
        of, to = source[row, begin:end], panel[row - first_row]
        for j in range(of.size):
            to[j] = of[j]


@intrinsic
def accumulate_listed_row(
    typing_context: Any,
    vectors: Any,
    last: Any,
    steps: Any,
    first_step: Any,
    num_steps: Any,
    a: Any,
    a_start: Any,
    a_step: Any,
    b: Any,
    b_step: Any,
    start: Any,
    out: Any,
    squares: Any,
) -> Any:
    """out[j] += Σ_k a[k] b[k, j] for listed k and a row of columns j; squares[j] += Σ_k (a[k] b[k, j])². (10.8) (11.3)

    Parameters
    ----------
    vectors : int
        1 to ROW_WIDTH, of columns.
    last : int
        The first column of the last vector, which at the right edge of a matrix moves to the left: columns that then
        belong to two vectors get the same sums twice.
    steps : ndarray of int32
        The list: k upwards.
    first_step, num_steps : int
        Where the list begins, and its length, at least 1.
    a, b, out : ndarray
        Of one dtype, C-contiguous; the columns of b stand side by side.
    a_start, a_step, b_step, start : int
        Where a[0] stands, from a[k] to a[k + 1], from b[k, j] to b[k + 1, j], and where the row of the sums starts.
    squares : ndarray or None
        As `out`; None if they are not wanted.
    """
    i = types.int64
    return types.void(i, i, steps, i, i, a, i, i, b, i, i, out, squares), _generate


def _generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
    """Write the loops for all widths, and the choice among them."""

    def pointer(index: int, start: ir.Value) -> ir.Value:
        array = context.make_array(signature.args[index])(context, builder, arguments[index])
        return builder.gep(array.data, [start])

    vectors, last, _, first_step, count, _, a_start, a_step, _, b_step, start, *_ = arguments
    results = [11] if signature.args[12] == types.none else [11, 12]
    b_first = pointer(8, ir.Constant(_INDEX, 0))
    factors = pointer(2, first_step), count, pointer(5, a_start), a_step, b_first, b_step
    sums = [pointer(result, start) for result in results]
    done = builder.append_basic_block("done")
    choice = builder.switch(vectors, done)
    for number in range(1, ROW_WIDTH + 1):
        block = builder.append_basic_block(f"vectors{number}")
        choice.add_case(ir.Constant(vectors.type, number), block)
        builder.position_at_end(block)
        _emit_row(builder, number, last, factors, sums)
        builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()


def _emit_row(
    builder: ir.IRBuilder,
    vectors: int,
    last: ir.Value,
    factors: tuple[ir.Value, ...],
    sums: list[ir.Value],
) -> None:
    """Write the loop over the list for a row of so many vectors, of one sum or of two."""
    steps, count, a_first, a_step, b_first, b_step = factors
    scalar = b_first.type.pointee
    size = _bytes_of(scalar)
    lanes = VECTOR_BYTES // size
    kind, columns = ir.VectorType(scalar, lanes), range(vectors)

    def vector_at(row: ir.Value, v: int) -> ir.Value:
        offset = last if v == columns[-1] else ir.Constant(_INDEX, v * lanes)
        return builder.bitcast(builder.gep(row, [offset]), kind.as_pointer())

    loaded = [[builder.load(vector_at(row, v), align=size) for v in columns] for row in sums]
    entry = builder.basic_block
    loop, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.branch(loop)

    # One step: a number of a, the vectors of a row of b; each product is added to the sum, and its square to the other.
    builder.position_at_end(loop)

    carried = partial(_carried, builder, entry)
    left, step = carried(count), carried(steps)
    now = [[carried(value) for value in row] for row in loaded]
    k = builder.sext(builder.load(step), _INDEX)
    number = builder.load(builder.gep(a_first, [builder.mul(k, a_step)]))
    b_row = builder.gep(b_first, [builder.mul(k, b_step)])
    new: list[list[ir.Value]] = [[] for _ in sums]
    contracted = _CONTRACT if len(sums) == 1 else ()  # a product that is squared too is rounded once for both
    for v in columns:
        vector = builder.load(vector_at(b_row, v), align=size)
        product = builder.fmul(_broadcast(builder, number, kind), vector, flags=contracted)
        new[0].append(builder.fadd(now[0][v], product, flags=contracted))
        if len(sums) == 2:
            square = builder.fmul(product, product, flags=_CONTRACT)
            new[1].append(builder.fadd(now[1][v], square, flags=_CONTRACT))
    for row, values in zip(now, new, strict=True):
        for v in columns:
            row[v].add_incoming(values[v], loop)
    left_after = builder.sub(left, ir.Constant(_INDEX, 1))
    left.add_incoming(left_after, loop)
    step.add_incoming(builder.gep(step, [ir.Constant(_INDEX, 1)]), loop)
    builder.cbranch(builder.icmp_signed(">", left_after, ir.Constant(_INDEX, 0)), loop, after)

    builder.position_at_end(after)
    for row, values in zip(sums, new, strict=True):
        for v in columns:
            builder.store(values[v], vector_at(row, v), align=size)
