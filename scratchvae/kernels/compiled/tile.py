# mypy: ignore-errors
# (numba and llvmlite hand around objects that their type hints do not know.)
"""The innermost piece of a matrix product: a tile of the result that lives in the processor's registers.

This is the one place where plain Python is not enough. A tile of 4 rows by 6 vectors keeps 24 running sums in
registers over the whole reduction, and reads 10 numbers or vectors for every 24 multiply-adds; loops written
in Python compile to code that loads and stores the sums every time. So here the compiler's intermediate
language is written out: a loop of a few dozen instructions. Derived in `derivations/10-matmul.md`. (10.5)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from llvmlite import binding, ir
from numba import config, types
from numba.extending import intrinsic

__all__ = [
    "ROWS",
    "SQUARE",
    "VECTOR_BYTES",
    "WIDTH",
    "accumulate_listed_tile",
    "accumulate_tile",
    "transpose_square",
]


def _vector_bytes() -> int:
    """Return the bytes in a vector register of the processor that is compiled for."""
    processor = config.CPU_NAME or binding.get_host_cpu_name()
    features = config.CPU_FEATURES or binding.get_host_cpu_features().flatten()
    if processor == "generic":
        return 16
    return 64 if "+avx512f" in features else 32 if "+avx" in features else 16


# A tile is 4 rows by up to 6 or 3 vectors: with what is being multiplied it fills the 32 or 16 registers. Widths
# count half vectors, so that a matrix of 200 columns is 12½ vectors of 16 numbers and nothing is wasted. The
# shape decides the speed and never the result: each number's sum runs over the reduction in the same order.
ROWS = 4
VECTOR_BYTES = _vector_bytes()
WIDTH = 12 if VECTOR_BYTES == 64 else 6
SQUARE = 8  # rows and columns that `transpose_square` exchanges

_INDEX = ir.IntType(64)
_LANE = ir.IntType(32)
_CONTRACT = ("contract",)  # a multiplication and its addition may be rounded once instead of twice


@intrinsic
def accumulate_tile(
    typing_context: Any,
    width: Any,
    last: Any,
    fresh: Any,
    depth: Any,
    a: Any,
    a_rows: Any,
    a_step: Any,
    b: Any,
    b_start: Any,
    b_step: Any,
    out: Any,
    out_rows: Any,
) -> Any:
    """out[r, j] (+)= Σ_k a[r, k] b[k, j] for 4 rows r and `width` half vectors of columns j; k runs upwards.

    Places in arrays are counted in elements from the array's first.

    Parameters
    ----------
    width : int
        1 to WIDTH half vectors: whole ones, and a half at the end if odd.
    last : int
        The first column of the last vector. At the right edge of a matrix it moves to the left, and columns that
        then belong to two vectors get the same sums twice.
    fresh : bool
        Whether the sums start at zero; else at what `out` holds.
    depth : int
        Length of the reduction, at least 1.
    a, b, out : ndarray
        Of one dtype, C-contiguous.
    a_rows : tuple of 4 int
        Where each row of a starts.
    a_step : int
        From a[r, k] to a[r, k + 1].
    b_start : int
        Where b[0, 0] stands; the columns stand side by side.
    b_step : int
        From b[k, j] to b[k + 1, j].
    out_rows : tuple of 4 int
        Where each row of the result starts; its columns stand side by side.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        width, last, fresh, depth, *factors = arguments
        places = _places(context, builder, signature.args[4:], factors)
        _emit_tiles(builder, width, range(1, WIDTH + 1), _Reduction(last, fresh, depth, None, *places))
        return context.get_dummy_value()

    i, four = types.int64, types.UniTuple(types.int64, ROWS)
    return types.void(i, i, types.boolean, i, a, four, i, b, i, i, out, four), generate


@intrinsic
def accumulate_listed_tile(
    typing_context: Any,
    width: Any,
    last: Any,
    steps: Any,
    first_step: Any,
    num_steps: Any,
    a: Any,
    a_rows: Any,
    a_step: Any,
    b: Any,
    b_start: Any,
    b_step: Any,
    out: Any,
    out_rows: Any,
) -> Any:
    """out[r, j] = Σ_k a[r, k] b[k, j] as `accumulate_tile`, for those k only that a list gives. (10.8)

    Parameters
    ----------
    width : int
        WIDTH // 2 to WIDTH: panels of a wide matrix, cut evenly, are no narrower.
    last : int
    steps : ndarray of int32
        The list: k upwards.
    first_step, num_steps : int
        Where the list begins, and its length, at least 1.
    a, a_rows, a_step, b, b_start, b_step, out, out_rows
        As in `accumulate_tile`.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        width, last, steps, first_step, num_steps, *factors = arguments
        listed = context.make_array(signature.args[2])(context, builder, steps).data
        places = _places(context, builder, signature.args[5:], factors)
        fresh = ir.Constant(ir.IntType(1), 1)
        reduction = _Reduction(last, fresh, num_steps, builder.gep(listed, [first_step]), *places)
        _emit_tiles(builder, width, range(WIDTH // 2, WIDTH + 1), reduction)
        return context.get_dummy_value()

    i, four = types.int64, types.UniTuple(types.int64, ROWS)
    return types.void(i, i, steps, i, i, a, four, i, b, i, i, out, four), generate


class _Reduction(NamedTuple):
    """What a tile sums: how often, from where, to where. `steps` lists the k that count, or is None for all."""

    last: ir.Value
    fresh: ir.Value
    count: ir.Value
    steps: ir.Value | None
    a_rows: list[ir.Value]
    a_step: ir.Value
    b_row: ir.Value
    b_step: ir.Value
    out_rows: list[ir.Value]


def _places(context: Any, builder: ir.IRBuilder, kinds: Any, factors: Any) -> tuple[Any, ...]:
    """Pointers to where the rows of both factors and of the result start, and the steps between their numbers."""
    a, a_rows, a_step, b, b_start, b_step, out, out_rows = factors

    def data(index: int, array: Any) -> ir.Value:
        return context.make_array(kinds[index])(context, builder, array).data

    def rows(base: ir.Value, starts: ir.Value) -> list[ir.Value]:
        return [builder.gep(base, [builder.extract_value(starts, row)]) for row in range(ROWS)]

    b_row = builder.gep(data(3, b), [b_start])
    return rows(data(0, a), a_rows), a_step, b_row, b_step, rows(data(6, out), out_rows)


def _emit_tiles(builder: ir.IRBuilder, width: ir.Value, widths: range, reduction: _Reduction) -> None:
    """Write a loop for each of the widths, and the choice among them."""
    done = builder.append_basic_block("done")
    choice = builder.switch(width, done)
    for number in widths:
        block = builder.append_basic_block(f"width{number}")
        choice.add_case(ir.Constant(width.type, number), block)
        builder.position_at_end(block)
        _emit_tile(builder, number, reduction)
        builder.branch(done)
    builder.position_at_end(done)


def _emit_tile(builder: ir.IRBuilder, width: int, reduction: _Reduction) -> None:
    """Write the loop over the reduction for a tile of `width` half vectors."""
    last, fresh, count, steps, a_rows, a_step, b_row, b_step, out_rows = reduction
    scalar = b_row.type.pointee
    size = _bytes_of(scalar)
    lanes = VECTOR_BYTES // size
    kinds = [ir.VectorType(scalar, lanes)] * (width // 2) + [ir.VectorType(scalar, lanes // 2)] * (width % 2)
    columns = range(len(kinds))

    def vector_at(row: ir.Value, v: int) -> ir.Value:
        offset = last if v == columns[-1] else ir.Constant(_INDEX, v * lanes)
        return builder.bitcast(builder.gep(row, [offset]), kinds[v].as_pointer())

    def tile_of(action: Callable[[int, int], ir.Value]) -> list[list[ir.Value]]:
        return [[action(row, v) for v in columns] for row in range(ROWS)]

    # The sums start at zero or at what `out` holds.
    start = builder.basic_block
    load, entry, loop, after = (
        builder.append_basic_block(name) for name in ("load", "entry", "loop", "after")
    )
    builder.cbranch(fresh, entry, load)
    builder.position_at_end(load)
    loaded = tile_of(lambda row, v: builder.load(vector_at(out_rows[row], v), align=size))
    builder.branch(entry)
    builder.position_at_end(entry)
    first = tile_of(lambda _, v: builder.phi(kinds[v]))
    for row in range(ROWS):
        for v in columns:
            first[row][v].add_incoming(ir.Constant(kinds[v], None), start)
            first[row][v].add_incoming(loaded[row][v], load)
    builder.branch(loop)

    # One step of the reduction: a few vectors of b, four numbers of a, a multiply-add for each pair of them.
    builder.position_at_end(loop)

    carried = partial(_carried, builder, entry)
    left, sums = carried(count), tile_of(lambda row, v: carried(first[row][v]))
    if steps is None:
        b_now, a_now = carried(b_row), [carried(pointer) for pointer in a_rows]
    else:
        step_now = carried(steps)
        k = builder.sext(builder.load(step_now), _INDEX)
        b_now = builder.gep(b_row, [builder.mul(k, b_step)])
        a_now = [builder.gep(pointer, [builder.mul(k, a_step)]) for pointer in a_rows]
    b_vectors = [builder.load(vector_at(b_now, v), align=size) for v in columns]
    a_numbers = [builder.load(pointer) for pointer in a_now]

    def multiply_add(row: int, v: int) -> ir.Value:
        product = builder.fmul(_broadcast(builder, a_numbers[row], kinds[v]), b_vectors[v], flags=_CONTRACT)
        return builder.fadd(sums[row][v], product, flags=_CONTRACT)

    new_sums = tile_of(multiply_add)
    for row in range(ROWS):
        for v in columns:
            sums[row][v].add_incoming(new_sums[row][v], loop)
    if steps is None:
        b_now.add_incoming(builder.gep(b_now, [b_step]), loop)
        for pointer in a_now:
            pointer.add_incoming(builder.gep(pointer, [a_step]), loop)
    else:
        step_now.add_incoming(builder.gep(step_now, [ir.Constant(_INDEX, 1)]), loop)
    fewer = builder.sub(left, ir.Constant(_INDEX, 1))
    left.add_incoming(fewer, loop)
    builder.cbranch(builder.icmp_signed(">", fewer, ir.Constant(_INDEX, 0)), loop, after)

    builder.position_at_end(after)
    for row in range(ROWS):
        for v in columns:
            builder.store(new_sums[row][v], vector_at(out_rows[row], v), align=size)


def _bytes_of(scalar: ir.Type) -> int:
    return 4 if isinstance(scalar, ir.FloatType) else 8


def _carried(builder: ir.IRBuilder, entry: Any, before: ir.Value) -> ir.Value:
    """Return what a loop takes round: at first, from the block `entry`, the value before it."""
    value = builder.phi(before.type)
    value.add_incoming(before, entry)
    return value


def _broadcast(builder: ir.IRBuilder, value: ir.Value, kind: ir.VectorType) -> ir.Value:
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_LANE, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_LANE, kind.count), None))


@intrinsic
def transpose_square(
    typing_context: Any, source: Any, start: Any, step: Any, out: Any, out_start: Any, out_step: Any
) -> Any:
    """out[c, r] = source[r, c] for a square of 8 × 8 numbers, in registers: a seventh of the time of a loop.

    Parameters
    ----------
    source, out : ndarray
        Of one dtype, C-contiguous.
    start, out_start : int
        Where the square starts, in elements.
    step, out_step : int
        From one row of it to the next.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        def row(array: int, index: int) -> ir.Value:
            base = context.make_array(signature.args[array])(context, builder, arguments[array]).data
            start, step = arguments[array + 1 : array + 3]
            pointer = builder.gep(base, [builder.add(start, builder.mul(step, ir.Constant(_INDEX, index)))])
            return builder.bitcast(pointer, ir.VectorType(base.type.pointee, SQUARE).as_pointer())

        size = signature.args[0].dtype.bitwidth // 8
        rows = [builder.load(row(0, r), align=size) for r in range(SQUARE)]
        for distance in (
            1,
            2,
            4,
        ):  # exchange what is that far off the diagonal, in squares of twice that size
            for low in range(SQUARE):
                if not low & distance:
                    high = low | distance
                    rows[low], rows[high] = _exchange(builder, rows[low], rows[high], distance)
        for r in range(SQUARE):
            builder.store(rows[r], row(3, r), align=size)
        return context.get_dummy_value()

    i = types.int64
    return types.void(source, i, i, out, i, i), generate


def _exchange(
    builder: ir.IRBuilder, low: ir.Value, high: ir.Value, distance: int
) -> tuple[ir.Value, ir.Value]:
    def pick(lanes: list[int]) -> ir.Value:  # lanes of the low vector, then of the high one
        mask = ir.Constant(ir.VectorType(_LANE, SQUARE), [ir.Constant(_LANE, lane) for lane in lanes])
        return builder.shuffle_vector(low, high, mask)

    return (
        pick([SQUARE + c - distance if c & distance else c for c in range(SQUARE)]),
        pick([SQUARE + c if c & distance else c + distance for c in range(SQUARE)]),
    )
