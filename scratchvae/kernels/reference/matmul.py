"""The three matrix products that a dense layer needs. Derived in `derivations/10-matmul.md`."""

from __future__ import annotations

import numpy as np

__all__ = ["matmul", "matmul_transposed_left", "matmul_transposed_right"]


def matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Matrix product a b: the forward pass, y = x W. (10.1)

    Parameters
    ----------
    a : ndarray (M, K)
    b : ndarray (K, N)
    out : ndarray (M, N), optional
        Filled and returned; shares no memory with `a` and `b`.

    Returns
    -------
    ndarray (M, N)
    """
    return np.matmul(a, b, out=out)


def matmul_transposed_left(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Matrix product aᵀ b: the gradient of a weight, dW = xᵀ dy. (10.2)

    Parameters
    ----------
    a : ndarray (K, M)
    b : ndarray (K, N)
    out : ndarray (M, N), optional
        Filled and returned; shares no memory with `a` and `b`.

    Returns
    -------
    ndarray (M, N)
    """
    return np.matmul(a.T, b, out=out)


def matmul_transposed_right(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Matrix product a bᵀ: the gradient of a layer's input, dx = dy Wᵀ. (10.3)

    Parameters
    ----------
    a : ndarray (M, K)
    b : ndarray (N, K)
    out : ndarray (M, N), optional
        Filled and returned; shares no memory with `a` and `b`.

    Returns
    -------
    ndarray (M, N)
    """
    return np.matmul(a, b.T, out=out)
