"""The dense layer, forward and backward. Derived in `derivations/01-dense.md`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from scratchvae import kernels

__all__ = ["DenseCache", "dense_backward", "dense_forward"]


class DenseCache(NamedTuple):
    """What the backward pass of a dense layer needs."""

    x: np.ndarray  # (B, fan_in), for the gradient of the weight
    weight: np.ndarray  # (fan_in, fan_out), for the gradient of x


def dense_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, DenseCache]:
    """y = x W + b. (1.1)

    Parameters
    ----------
    x : ndarray (B, fan_in)
    weight : ndarray (fan_in, fan_out)
    bias : ndarray (fan_out,)

    Returns
    -------
    y : ndarray (B, fan_out)
    cache : DenseCache
    """
    if x.shape[-1] != len(weight):
        raise ValueError(
            f"x has shape {x.shape}, expected (B, {len(weight)}) for a weight of shape {weight.shape}"
        )
    y = kernels.matmul(x, weight)
    y += bias
    return y, DenseCache(x, weight)


def dense_backward(
    dy: np.ndarray, cache: DenseCache, *, need_dx: bool = True
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Vector–Jacobian product of `dense_forward`. (1.2) (1.3) (1.4)

    Parameters
    ----------
    dy : ndarray (B, fan_out)
    cache : DenseCache
    need_dx : bool
        False for a layer whose input is data: its gradient is a third of the work and nobody asks for it.

    Returns
    -------
    dx : ndarray (B, fan_in), or None
    dweight : ndarray (fan_in, fan_out)
    dbias : ndarray (fan_out,)
    """
    if dy.shape != (len(cache.x), cache.weight.shape[1]):
        raise ValueError(
            f"dy has shape {dy.shape}, expected {(len(cache.x), cache.weight.shape[1])} as y had"
        )
    # y += bias                       every row received the same bias                (1.4)
    dbias = dy.sum(axis=0)
    # y = x @ weight                  d y_bj / d weight_ij = x_bi                      (1.3)
    dweight = kernels.matmul_transposed_left(cache.x, dy)
    # y = x @ weight                  d y_bj / d x_bi = weight_ij                      (1.2)
    dx = kernels.matmul_transposed_right(dy, cache.weight) if need_dx else None
    return dx, dweight, dbias
