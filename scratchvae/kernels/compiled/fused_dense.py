"""Compiled twin of `scratchvae.kernels.reference.fused_dense`. Derived in `derivations/01-dense.md`.

Each thread computes its part of the product (`multiply_part`) and goes over it at once. No flags: these loops must
give one number the same bits wherever it stands in a row, and contraction could differ between the vectorised
body of a loop and its remainder.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.kernels.compiled.arrays import give_back, plain
from scratchvae.kernels.compiled.mathematics import expm1, inline, sigmoid, softplus, tanh
from scratchvae.kernels.compiled.matmul import (
    WORTHWHILE,
    matrix,
    multiply_part,
    share,
)
from scratchvae.kernels.compiled.sparse_matmul import WORTHWHILE as WORTHWHILE_LISTED
from scratchvae.kernels.compiled.sparse_matmul import has_many_zeros, multiply_listed_rows
from scratchvae.kernels.compiled.threads import ParallelKernel
from scratchvae.kernels.compiled.tile import VECTOR_BYTES
from scratchvae.kernels.polynomials import constants_for

__all__ = ["dense_activation", "dense_input_gradient", "dense_parameter_gradients"]

IDENTITY, RELU, LEAKY_RELU, TANH, SIGMOID, SOFTPLUS = range(6)
CODES = {
    "identity": IDENTITY,
    "relu": RELU,
    "leaky_relu": LEAKY_RELU,
    "tanh": TANH,
    "sigmoid": SIGMOID,
    "softplus": SOFTPLUS,
}


@inline
def _activate(row: Any, bias: Any, activation: Any) -> None:
    # One loop for each activation, so that none has a branch inside.
    c = constants_for(row[0])
    n = row.size
    for j in range(n):
        row[j] += bias[j]
    if activation == RELU:
        for j in range(n):
            row[j] = c.zero if row[j] < c.zero else row[j]  # (2.2); NaN stays
    elif activation == LEAKY_RELU:
        for j in range(n):
            row[j] = row[j] if row[j] > c.zero else c.leaky_slope * row[j]  # (2.3)
    elif activation == TANH:
        for j in range(n):
            row[j] = tanh(row[j])
    elif activation == SIGMOID:
        for j in range(n):
            row[j] = sigmoid(row[j])
    elif activation == SOFTPLUS:
        for j in range(n):
            row[j] = softplus(row[j])


@inline
def _multiply_by_derivative(row: Any, y: Any, activation: Any) -> None:
    c = constants_for(row[0])
    n = row.size
    if activation == RELU:
        for j in range(n):
            row[j] *= c.one if y[j] > c.zero else c.zero  # (2.2)
    elif activation == LEAKY_RELU:
        for j in range(n):
            row[j] *= c.one if y[j] > c.zero else c.leaky_slope  # (2.3)
    elif activation == TANH:
        for j in range(n):
            row[j] *= (c.one - y[j]) * (c.one + y[j])  # (2.4)
    elif activation == SIGMOID:
        for j in range(n):
            row[j] *= y[j] * (c.one - y[j])  # (2.6)
    elif activation == SOFTPLUS:
        for j in range(n):
            row[j] *= -expm1(-y[j])  # (2.8)


@inline
def add_rows(dy: Any, first: Any, last: Any, dbias: Any) -> None:
    """Add the rows of dy (B, fan_out) to dbias, columns `first` to `last`. (1.4)"""
    target = dbias[first:last]
    for i in range(len(dy)):
        row = dy[i, first:last]
        for j in range(target.size):
            target[j] += row[j]


def _dense_activation(
    task: int,
    tasks: int,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    activation: int,
    out: np.ndarray,
) -> None:
    half = VECTOR_BYTES // 2 // out.itemsize
    part = share(task, tasks, out.shape[0], out.shape[1], half)
    begin, end, first, last = part
    # As behind a relu; whichever way, the result has the same bits.
    if last - first >= WORTHWHILE_LISTED and has_many_zeros(x, begin, end):
        multiply_listed_rows(x, weight, out, part)
    else:
        multiply_part(matrix(x, False), matrix(weight, False), out, part, x.shape[1], False)
    for i in range(begin, end):
        _activate(out[i, first:last], bias[first:last], activation)


def _dense_input_gradient(
    task: int,
    tasks: int,
    dy: np.ndarray,
    weight: np.ndarray,
    y: np.ndarray,
    activation: int,
    accumulate: bool,
    out: np.ndarray,
) -> None:
    half = VECTOR_BYTES // 2 // out.itemsize
    part = share(task, tasks, out.shape[0], out.shape[1], half)
    multiply_part(matrix(dy, False), matrix(weight, True), out, part, dy.shape[1], accumulate)
    begin, end, first, last = part
    for i in range(begin, end):
        _multiply_by_derivative(out[i, first:last], y[i, first:last], activation)


def _dense_parameter_gradients(
    task: int,
    tasks: int,
    x: np.ndarray,
    dy: np.ndarray,
    dweight: np.ndarray,
    dbias: np.ndarray,
    accumulate: bool,
) -> None:
    half = VECTOR_BYTES // 2 // dy.itemsize
    part = share(task, tasks, dweight.shape[0], dweight.shape[1], half)
    multiply_part(matrix(x, True), matrix(dy, False), dweight, part, len(x), accumulate)
    first, last = dbias.size * task // tasks, dbias.size * (task + 1) // tasks
    if not accumulate:
        dbias[first:last] = 0
    add_rows(dy, first, last, dbias)


activation_kernel = ParallelKernel(_dense_activation)
input_gradient_kernel = ParallelKernel(_dense_input_gradient)
parameter_gradients_kernel = ParallelKernel(_dense_parameter_gradients)


def dense_activation(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, activation: str, out: np.ndarray | None = None
) -> np.ndarray:
    """φ(x W + b). (1.1)"""
    dtype, depth = weight.dtype, len(weight)
    if out is None:
        out = np.empty((len(x), weight.shape[1]), dtype)
    target = plain(out, dtype)
    if depth == 0:
        target[...] = 0  # what the product would have written
    activation_kernel(
        out.size * depth > WORTHWHILE,
        plain(x, dtype),
        plain(weight, dtype),
        plain(bias, dtype),
        CODES[activation],
        target,
    )
    return give_back(target, out)


def dense_input_gradient(
    dy: np.ndarray,
    weight: np.ndarray,
    y: np.ndarray,
    activation: str,
    out: np.ndarray | None = None,
    accumulate: bool = False,
) -> np.ndarray:
    """(dy Wᵀ) φ'(y), or (out + dy Wᵀ) φ'(y): back through a layer and through the activation before it. (1.2)"""
    dtype, depth = weight.dtype, weight.shape[1]
    if out is None:
        out, accumulate = np.empty((len(dy), len(weight)), dtype), False
    target = plain(out, dtype)
    if depth == 0 and not accumulate:
        target[...] = 0
    input_gradient_kernel(
        out.size * depth > WORTHWHILE,
        plain(dy, dtype),
        plain(weight, dtype),
        plain(y, dtype),
        CODES[activation],
        accumulate,
        target,
    )
    return give_back(target, out)


def dense_parameter_gradients(
    x: np.ndarray, dy: np.ndarray, dweight: np.ndarray, dbias: np.ndarray, accumulate: bool = False
) -> None:
    """dW = xᵀ dy and db = Σ_B dy, written or added to what is there. (1.3) (1.4)"""
    dtype, depth = dweight.dtype, len(x)
    weights, biases = plain(dweight, dtype), plain(dbias, dtype)
    if depth == 0 and not accumulate:
        weights[...] = 0
    parameter_gradients_kernel(
        dweight.size * depth > WORTHWHILE,
        plain(x, dtype),
        plain(dy, dtype),
        weights,
        biases,
        accumulate,
    )
    give_back(weights, dweight)
    give_back(biases, dbias)
