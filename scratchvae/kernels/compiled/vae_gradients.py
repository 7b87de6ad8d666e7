"""Compiled twin of `scratchvae.kernels.reference.vae_gradients`: a whole pass there and back in one call.

Two loops over tasks, with nothing between them that waits. In the first a task takes some rows of the minibatch
all the way forward and back: rows do not meet. In the second it takes a part of each weight, and sums over the
whole minibatch. So each number is still one sum in one order, whatever the number of tasks. No flags, as in
`fused_dense`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import prange
from numba.extending import register_jitable

from scratchvae.kernels.compiled.arrays import plain
from scratchvae.kernels.compiled.elementwise import _bernoulli_row, _kl_row, _sample_row, _sum
from scratchvae.kernels.compiled.fused_dense import (
    CODES,
    IDENTITY,
    _activate,
    _multiply_by_derivative,
    add_rows,
)
from scratchvae.kernels.compiled.mathematics import exp
from scratchvae.kernels.compiled.matmul import WORTHWHILE, matrix, multiply_part, share
from scratchvae.kernels.compiled.threads import ParallelKernel
from scratchvae.kernels.compiled.tile import ROWS, VECTOR_BYTES
from scratchvae.kernels.layer_table import layer_table
from scratchvae.kernels.polynomials import constants_for

__all__ = ["vae_gradients"]


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
def _forward(x: Any, theta: Any, table: Any, layer: Any, activation: Any, y: Any, part: Any) -> None:
    # y = activation(x weight + bias)                                                        (1.1)
    weight, bias = _weight(theta, table, layer), _bias(theta, table, layer)
    multiply_part(matrix(x, False), matrix(weight, False), y, part, x.shape[1], False)
    for i in range(part[0], part[1]):
        _activate(y[i], bias, activation)


@register_jitable
def _backward(
    dy: Any, theta: Any, table: Any, layer: Any, activation: Any, y: Any, dx: Any, rows: Any, more: Any
) -> None:
    # dx = (dy weightᵀ) φ'(y), y being the layer's input and the output of the activation before   (1.2) (2.1)
    weight = _weight(theta, table, layer)
    part = (rows[0], rows[1], 0, dx.shape[1])
    multiply_part(matrix(dy, False), matrix(weight, True), dx, part, dy.shape[1], more)
    for i in range(rows[0], rows[1]):
        _multiply_by_derivative(dx[i], y[i], activation)


@register_jitable
def _gaussian_row(x: Any, output: Any, dvalue: Any, doutput: Any, terms: Any) -> None:
    # −½ (x − output)², and its derivative; the variance is divided out by the caller      (4.12) (4.13)
    c = constants_for(output[0])
    for j in range(output.size):
        residual = x[j] - output[j]
        terms[j] = -c.half * residual * residual
        doutput[j] = dvalue * residual


@register_jitable
def _latent_row(
    mean: Any, log_var: Any, noise: Any, each: Any, beta: Any, dmean: Any, dlog_var: Any, terms: Any
) -> Any:
    # dmean holds dz: back through the sample (4.10), then the KL's own gradient on top (4.8); returns the KL.
    c = constants_for(mean[0])
    for j in range(mean.size):
        dlog_var[j] = c.half * exp(c.half * log_var[j]) * (dmean[j] * noise[j])
    _kl_row(mean, log_var, beta * each, dmean, dlog_var, terms)
    return 0.5 * _sum(terms)


@register_jitable
def _rows_there_and_back(
    theta: Any,
    table: Any,
    activation: Any,
    variance: Any,
    beta: Any,
    x: Any,
    noise: Any,
    values: Any,
    work: Any,
    rows: Any,
    terms: Any,
) -> None:
    b, last, depth = len(x), len(table) - 1, (len(table) - 3) // 2
    each = (
        constants_for(theta[0]).one / np.float32(b)
        if theta.itemsize == 4
        else constants_for(theta[0]).one / b
    )

    h = x
    for layer in range(depth):
        y = _output(work, table, layer, b, 0)
        _forward(h, theta, table, layer, activation, y, (rows[0], rows[1], 0, y.shape[1]))
        h = y
    mean, log_var = _output(work, table, depth, b, 0), _output(work, table, depth + 1, b, 0)
    part = (rows[0], rows[1], 0, mean.shape[1])
    _forward(h, theta, table, depth, IDENTITY, mean, part)
    _forward(h, theta, table, depth + 1, IDENTITY, log_var, part)
    z = work[b * table[0, 5] : b * table[0, 5] + mean.size].reshape(mean.shape)
    for i in range(rows[0], rows[1]):
        _sample_row(mean[i], log_var[i], noise[i], z[i])
    g = z
    for layer in range(depth + 2, last + 1):
        y = _output(work, table, layer, b, 0)
        code = IDENTITY if layer == last else activation
        _forward(g, theta, table, layer, code, y, (rows[0], rows[1], 0, y.shape[1]))
        g = y

    output, doutput = _output(work, table, last, b, 0), _output(work, table, last, b, 1)
    for i in range(rows[0], rows[1]):
        if variance > 0:
            _gaussian_row(x[i], output[i], -each / variance, doutput[i], terms)
            values[0, i] = _sum(terms[: output.shape[1]]) / variance
        else:
            _bernoulli_row(x[i], output[i], -each, doutput[i], terms)
            values[0, i] = _sum(terms[: output.shape[1]])
    dmean, dlog_var = _output(work, table, depth, b, 1), _output(work, table, depth + 1, b, 1)
    for layer in range(last, depth + 2, -1):
        y, dy = _output(work, table, layer - 1, b, 0), _output(work, table, layer, b, 1)
        dx = _output(work, table, layer - 1, b, 1)
        _backward(dy, theta, table, layer, activation, y, dx, rows, False)
    _backward(_output(work, table, depth + 2, b, 1), theta, table, depth + 2, IDENTITY, z, dmean, rows, False)
    for i in range(rows[0], rows[1]):
        values[1, i] = _latent_row(
            mean[i], log_var[i], noise[i], each, beta, dmean[i], dlog_var[i], terms[: mean.shape[1]]
        )
    if depth == 0:
        return
    y, dx = _output(work, table, depth - 1, b, 0), _output(work, table, depth - 1, b, 1)
    _backward(dmean, theta, table, depth, IDENTITY, y, dx, rows, False)
    _backward(dlog_var, theta, table, depth + 1, activation, y, dx, rows, True)
    for layer in range(depth - 1, 0, -1):
        y, dy = _output(work, table, layer - 1, b, 0), _output(work, table, layer, b, 1)
        _backward(dy, theta, table, layer, activation, y, _output(work, table, layer - 1, b, 1), rows, False)


@register_jitable
def _parameter_gradients(
    gradient: Any, table: Any, layer: Any, x: Any, dy: Any, task: Any, tasks: Any
) -> None:
    # weight: dW = xᵀ dy (1.3);  bias: db = Σ_B dy (1.4)
    dweight, dbias = _weight(gradient, table, layer), _bias(gradient, table, layer)
    part = share(task, tasks, dweight.shape[0], dweight.shape[1], VECTOR_BYTES // 2 // dy.itemsize)
    multiply_part(matrix(x, True), matrix(dy, False), dweight, part, len(x), False)
    first, last = dbias.size * task // tasks, dbias.size * (task + 1) // tasks
    dbias[first:last] = 0
    add_rows(dy, first, last, dbias)


def _vae_gradients(
    tasks: int,
    theta: np.ndarray,
    gradient: np.ndarray,
    table: np.ndarray,
    activation: int,
    variance: np.floating,
    beta: np.floating,
    x: np.ndarray,
    noise: np.ndarray,
    values: np.ndarray,
    work: np.ndarray,
) -> None:
    b, depth = len(x), (len(table) - 3) // 2
    slabs = -(-b // ROWS)
    for task in prange(tasks):
        rows = slabs * task // tasks * ROWS, min(b, slabs * (task + 1) // tasks * ROWS)
        terms = np.empty(table[0, 6], theta.dtype)
        _rows_there_and_back(theta, table, activation, variance, beta, x, noise, values, work, rows, terms)
    for task in prange(tasks):
        for layer in range(len(table)):
            dy = _output(work, table, layer, b, 1)
            if layer == 0 or (depth == 0 and layer < 2):
                _parameter_gradients(gradient, table, layer, x, dy, task, tasks)
            else:
                before = min(layer, depth) - 1 if layer < depth + 2 else layer - 1
                h = _output(work, table, before, b, 0)
                if layer == depth + 2:
                    h = work[b * table[0, 5] : b * table[0, 5] + noise.size].reshape(noise.shape)
                _parameter_gradients(gradient, table, layer, h, dy, task, tasks)


kernel = ParallelKernel(_vae_gradients)


@lru_cache(maxsize=64)
def _table(sizes: tuple[int, ...]) -> np.ndarray:
    """`layer_table` and, per row of the minibatch, where outputs stand in the workspace; z; the widest layer."""
    table = layer_table(sizes)
    widths = table[:, 3]
    starts = 2 * (np.cumsum(widths) - widths)
    rest = np.broadcast_to([2 * widths.sum(), max(sizes)], (len(table), 2))
    return np.ascontiguousarray(np.column_stack([table, starts, rest]))


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
    table, dtype, b = _table(sizes), theta.dtype, len(x)
    number = dtype.type
    kernel(
        b * theta.size > WORTHWHILE,
        theta,
        gradient,
        table,
        CODES[activation],
        number(0 if likelihood_variance is None else likelihood_variance),
        number(beta),
        plain(x, dtype),
        plain(noise, dtype),
        values,
        np.empty(b * int(table[0, 5] + sizes[-1]), dtype),
    )
    if likelihood_variance is not None:
        values[0] -= 0.5 * x.shape[1] * np.log(2 * np.pi * likelihood_variance)  # the constant of (4.12)
