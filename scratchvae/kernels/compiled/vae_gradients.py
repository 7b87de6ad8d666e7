"""Compiled twin of `scratchvae.kernels.reference.vae_gradients`: a whole pass there and back in one call.

Two loops over tasks, with nothing between them that waits. In the first a task takes some rows of the minibatch
all the way forward and back: rows do not meet. In the second it takes a part of each weight, and sums over the
whole minibatch. So each number is still one sum in one order, whatever the number of tasks. No flags, as in
`fused_dense`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable

from scratchvae.kernels.compiled.arrays import plain, workspace
from scratchvae.kernels.compiled.elementwise import _bernoulli_row, _kl_row, _sample_row, _sum
from scratchvae.kernels.compiled.fused_dense import (
    CODES,
    IDENTITY,
    _activate,
    _multiply_by_derivative,
    add_rows,
)
from scratchvae.kernels.compiled.mathematics import exp
from scratchvae.kernels.compiled.matmul import (
    WORTHWHILE,
    matrix,
    multiply_part_within,
    share,
    space_size,
)
from scratchvae.kernels.compiled.sparse_matmul import WORTHWHILE as WORTHWHILE_LISTED
from scratchvae.kernels.compiled.sparse_matmul import list_steps, multiply_listed, steps_size
from scratchvae.kernels.compiled.threads import ParallelKernel, num_threads
from scratchvae.kernels.compiled.tile import ROWS, VECTOR_BYTES
from scratchvae.kernels.layer_table import layer_table
from scratchvae.kernels.polynomials import constants_for

__all__ = ["vae_gradients"]

_INTEGER = np.dtype(np.int32)


class Task(NamedTuple):
    """What one task knows: the parameters, the outputs of all layers, its rows, and memory of its own."""

    theta: Any
    table: Any  # see _table
    work: Any
    first: Any  # rows of the minibatch, from here ...
    last: Any  # ... to the one before this
    terms: Any  # a row's terms, before they are added up
    space: Any  # for `multiply_part_within`
    steps: Any  # for `list_steps`; empty if lists do not pay


@register_jitable
def _weight(vector: Any, table: Any, layer: Any) -> Any:
    return vector[table[layer, 0] : table[layer, 1]].reshape(table[layer, 2], table[layer, 3])


@register_jitable
def _bias(vector: Any, table: Any, layer: Any) -> Any:
    return vector[table[layer, 1] : table[layer, 1] + table[layer, 3]]


@register_jitable
def _output(work: Any, table: Any, layer: Any, rows: Any, which: Any) -> Any:
    # What the layer put out (which = 0), or the derivative of the loss with respect to it (which = 1).
    begin = rows * (table[layer, 4] + which * table[layer, 3])
    return work[begin : begin + rows * table[layer, 3]].reshape(rows, table[layer, 3])


@register_jitable
def _sample(work: Any, table: Any, rows: Any) -> Any:
    # z, behind the outputs; as wide as that of a head.
    begin, width = rows * table[0, 5], table[len(table) // 2 - 1, 3]
    return work[begin : begin + rows * width].reshape(rows, width)


@register_jitable
def _forward(task: Any, layer: Any, activation: Any, x: Any, y: Any) -> None:
    # y = activation(x weight + bias)                                                        (1.1)
    left, right = matrix(x, False), matrix(_weight(task.theta, task.table, layer), False)
    first, last, depth = task.first, task.last, x.shape[1]
    if layer == 0 and task.steps.size and list_steps(left, depth, first, last, task.steps):
        multiply_listed(left, right, y, depth, first, last, task.steps)
    else:
        multiply_part_within(left, right, y, (first, last, 0, y.shape[1]), depth, False, task.space)
    bias = _bias(task.theta, task.table, layer)
    for i in range(first, last):
        _activate(y[i], bias, activation)


@register_jitable
def _backward(task: Any, layer: Any, activation: Any, dy: Any, y: Any, dx: Any, accumulate: Any) -> None:
    # dx = (dy weightᵀ) φ'(y), y being the layer's input and the output of the activation before   (1.2) (2.1)
    right = matrix(_weight(task.theta, task.table, layer), True)
    part = (task.first, task.last, 0, dx.shape[1])
    multiply_part_within(matrix(dy, False), right, dx, part, dy.shape[1], accumulate, task.space)
    for i in range(task.first, task.last):
        _multiply_by_derivative(dx[i], y[i], activation)


# The row by row passes get bare arrays: a loop over fields of a tuple does not vectorise.


@register_jitable
def _gaussian_row(x: Any, output: Any, dvalue: Any, doutput: Any, terms: Any) -> None:
    # −½ (x − output)², and its derivative; the variance is divided out by the caller      (4.12) (4.13)
    c = constants_for(output[0])
    for j in range(output.size):
        residual = x[j] - output[j]
        terms[j] = -c.half * residual * residual
        doutput[j] = dvalue * residual


@register_jitable
def _reconstruction_rows(
    rows: Any, variance: Any, each: Any, x: Any, output: Any, doutput: Any, terms: Any, value: Any
) -> None:
    for i in range(rows[0], rows[1]):
        if variance > 0:
            _gaussian_row(x[i], output[i], -each / variance, doutput[i], terms)
            value[i] = _sum(terms) / variance
        else:
            _bernoulli_row(x[i], output[i], -each, doutput[i], terms)
            value[i] = _sum(terms)


@register_jitable
def _latent_rows(
    rows: Any,
    beta: Any,
    each: Any,
    mean: Any,
    log_var: Any,
    noise: Any,
    dmean: Any,
    dlog_var: Any,
    terms: Any,
    kl: Any,
) -> None:
    # dmean holds dz: back through the sample (4.10), then the KL's own gradient on top (4.8).
    c = constants_for(mean[0, 0])
    for i in range(rows[0], rows[1]):
        log_var_row, dz_row, noise_row, dlog_var_row = log_var[i], dmean[i], noise[i], dlog_var[i]
        for j in range(log_var_row.size):
            dlog_var_row[j] = c.half * exp(c.half * log_var_row[j]) * (dz_row[j] * noise_row[j])
        _kl_row(mean[i], log_var_row, beta * each, dz_row, dlog_var_row, terms)
        kl[i] = 0.5 * _sum(terms)


@register_jitable
def _sample_rows(rows: Any, mean: Any, log_var: Any, noise: Any, z: Any) -> None:
    for i in range(rows[0], rows[1]):
        _sample_row(mean[i], log_var[i], noise[i], z[i])


@register_jitable
def _encoder_forward(task: Any, activation: Any, x: Any) -> None:
    b, depth = len(x), len(task.table) // 2 - 1
    h = x
    for layer in range(depth):
        y = _output(task.work, task.table, layer, b, 0)
        _forward(task, layer, activation, h, y)
        h = y
    for head in (depth, depth + 1):
        _forward(task, head, IDENTITY, h, _output(task.work, task.table, head, b, 0))


@register_jitable
def _encoder_backward(task: Any, activation: Any, b: Any) -> None:
    table, work, depth = task.table, task.work, len(task.table) // 2 - 1
    if depth == 0:
        return
    # Both heads read the same hidden layer: their gradients add, and then go through its activation.
    y, dx = _output(work, table, depth - 1, b, 0), _output(work, table, depth - 1, b, 1)
    _backward(task, depth, IDENTITY, _output(work, table, depth, b, 1), y, dx, False)
    _backward(task, depth + 1, activation, _output(work, table, depth + 1, b, 1), y, dx, True)
    for layer in range(depth - 1, 0, -1):
        dy = dx
        y, dx = _output(work, table, layer - 1, b, 0), _output(work, table, layer - 1, b, 1)
        _backward(task, layer, activation, dy, y, dx, False)


@register_jitable
def _decoder_forward(task: Any, activation: Any, z: Any) -> None:
    last = len(task.table) - 1
    g = z
    for layer in range(len(task.table) // 2 + 1, last + 1):
        y = _output(task.work, task.table, layer, len(z), 0)
        _forward(task, layer, IDENTITY if layer == last else activation, g, y)
        g = y


@register_jitable
def _decoder_backward(task: Any, activation: Any, z: Any, dz: Any) -> None:
    first = len(task.table) // 2 + 1
    for layer in range(len(task.table) - 1, first, -1):
        dy = _output(task.work, task.table, layer, len(z), 1)
        y, dx = (
            _output(task.work, task.table, layer - 1, len(z), 0),
            _output(task.work, task.table, layer - 1, len(z), 1),
        )
        _backward(task, layer, activation, dy, y, dx, False)
    _backward(task, first, IDENTITY, _output(task.work, task.table, first, len(z), 1), z, dz, False)


@register_jitable
def _rows_there_and_back(
    task: Any, activation: Any, variance: Any, each: Any, beta: Any, x: Any, noise: Any, values: Any
) -> None:
    table, work, b, depth = task.table, task.work, len(x), len(task.table) // 2 - 1
    _encoder_forward(task, activation, x)
    rows, last = (task.first, task.last), len(table) - 1
    mean, log_var = _output(work, table, depth, b, 0), _output(work, table, depth + 1, b, 0)
    z = _sample(work, table, b)
    _sample_rows(rows, mean, log_var, noise, z)
    _decoder_forward(task, activation, z)

    output, doutput = _output(work, table, last, b, 0), _output(work, table, last, b, 1)
    _reconstruction_rows(rows, variance, each, x, output, doutput, task.terms[: x.shape[1]], values[0])
    dmean, dlog_var = _output(work, table, depth, b, 1), _output(work, table, depth + 1, b, 1)
    _decoder_backward(task, activation, z, dmean)
    terms = task.terms[: mean.shape[1]]
    _latent_rows(rows, beta, each, mean, log_var, noise, dmean, dlog_var, terms, values[1])
    _encoder_backward(task, activation, b)


@register_jitable
def _input_of(task: Any, layer: Any, x: Any) -> Any:
    # What went into a layer: x, z, or the output of the layer before; the heads share theirs.
    depth = len(task.table) // 2 - 1
    if layer == depth + 2:
        return _sample(task.work, task.table, len(x))
    if layer == 0 or (depth == 0 and layer == 1):
        return x
    before = min(layer, depth) - 1 if layer < depth + 2 else layer - 1
    return _output(task.work, task.table, before, len(x), 0)


@register_jitable
def _parameter_gradients(task: Any, layer: Any, gradient: Any, x: Any, number: Any, tasks: Any) -> None:
    # weight: dW = xᵀ dy (1.3);  bias: db = Σ_B dy (1.4)
    dweight, dbias = _weight(gradient, task.table, layer), _bias(gradient, task.table, layer)
    dy = _output(task.work, task.table, layer, len(x), 1)
    left, right, (fan_in, fan_out) = matrix(x, True), matrix(dy, False), dweight.shape
    if layer == 0 and task.steps.size:
        # By rows, whether this task then takes a list or not: others may choose otherwise, and all must cut alike.
        slabs = -(-fan_in // ROWS)
        begin, end = slabs * number // tasks * ROWS, min(fan_in, slabs * (number + 1) // tasks * ROWS)
        if list_steps(left, len(x), begin, end, task.steps):
            multiply_listed(left, right, dweight, len(x), begin, end, task.steps)
        else:
            part = (begin, end, 0, fan_out)
            multiply_part_within(left, right, dweight, part, len(x), False, task.space)
    else:
        part = share(number, tasks, fan_in, fan_out, VECTOR_BYTES // 2 // dy.itemsize)
        multiply_part_within(left, right, dweight, part, len(x), False, task.space)
    first, last = dbias.size * number // tasks, dbias.size * (number + 1) // tasks
    dbias[first:last] = 0
    add_rows(dy, first, last, dbias)


@register_jitable
def _task(number: Any, tasks: Any, theta: Any, table: Any, b: Any, work: Any, spaces: Any, steps: Any) -> Any:
    slabs = -(-b // ROWS)
    first, last = slabs * number // tasks * ROWS, min(b, slabs * (number + 1) // tasks * ROWS)
    own, widest = spaces[number], table[0, 6]
    return Task(theta, table, work, first, last, own[:widest], own[widest:], steps)


def _rows_pass(
    number: int,
    tasks: int,
    theta: np.ndarray,
    table: np.ndarray,
    activation: int,
    variance: np.floating,
    each: np.floating,
    beta: np.floating,
    x: np.ndarray,
    noise: np.ndarray,
    values: np.ndarray,
    work: np.ndarray,
    spaces: np.ndarray,
    steps: np.ndarray,
) -> None:
    task = _task(number, tasks, theta, table, len(x), work, spaces, steps)
    _rows_there_and_back(task, activation, variance, each, beta, x, noise, values)


def _parameters_pass(
    number: int,
    tasks: int,
    theta: np.ndarray,
    gradient: np.ndarray,
    table: np.ndarray,
    x: np.ndarray,
    work: np.ndarray,
    spaces: np.ndarray,
    steps: np.ndarray,
) -> None:
    task = _task(number, tasks, theta, table, len(x), work, spaces, steps)
    for layer in range(len(table)):
        _parameter_gradients(task, layer, gradient, _input_of(task, layer, x), number, tasks)


rows_kernel, parameters_kernel = ParallelKernel(_rows_pass), ParallelKernel(_parameters_pass)


@lru_cache(maxsize=64)
def _table(sizes: tuple[int, ...]) -> np.ndarray:
    """`layer_table` and, per row of the minibatch, where outputs stand in the workspace; z; the widest layer."""
    table = layer_table(sizes)
    widths = table[:, 3]
    starts = 2 * (np.cumsum(widths) - widths)
    rest = np.broadcast_to([2 * widths.sum(), max(sizes)], (len(table), 2))
    return np.ascontiguousarray(np.column_stack([table, starts, rest]))


@lru_cache(maxsize=64)
def _memory(sizes: tuple[int, ...], b: int, itemsize: int) -> tuple[int, int, int]:
    """Numbers in the workspace for outputs, and in a task's own; integers in the lists of steps."""
    line = 64 // itemsize  # two tasks never write into the same line of a cache
    outputs = b * int(_table(sizes)[0, 5] + sizes[-1])
    own = max(sizes) + space_size(max(*sizes, b), itemsize)
    lists = steps_size(b, sizes[0]) if len(sizes) > 2 and sizes[1] >= WORTHWHILE_LISTED else 0
    return -(-outputs // line) * line, -(-own // line) * line, lists


def vae_gradients(
    theta: np.ndarray,
    gradient: np.ndarray,
    sizes: tuple[int, ...],
    activation: str,
    likelihood_variance: float | None,
    beta: float,
    x: np.ndarray,
    noise: np.ndarray,
    values: np.ndarray,
) -> None:
    """Fill `gradient` with that of −mean over B of (reconstruction − beta kl), and `values` with the terms. (5.5)"""
    dtype, b, table = theta.dtype, len(x), _table(sizes)
    number, worthwhile, x = dtype.type, b * theta.size > WORTHWHILE, plain(x, dtype)
    outputs, own, lists = _memory(sizes, b, dtype.itemsize)
    numbers, steps = workspace(outputs + num_threads() * own, dtype), workspace(lists, _INTEGER)
    work, spaces = numbers[:outputs], numbers[outputs:].reshape(num_threads(), own)
    rows_kernel(
        worthwhile,
        theta,
        table,
        CODES[activation],
        number(0 if likelihood_variance is None else likelihood_variance),
        number(1 / b),
        number(beta),
        x,
        plain(noise, dtype),
        values,
        work,
        spaces,
        steps,
    )
    parameters_kernel(worthwhile, theta, gradient, table, x, work, spaces, steps)
    if likelihood_variance is not None:
        values[0] -= 0.5 * x.shape[1] * np.log(2 * np.pi * likelihood_variance)  # the constant of (4.12)
