"""A dense layer with its activation, and its gradients, as one kernel each. Derived in `derivations/01-dense.md`.

Matrix products and what is done to their results, while these are still in the cache: bias and activation on the
way forward; on the way back the derivative of the activation, which needs only that activation's output. (2.1)
"""

from __future__ import annotations

import numpy as np

__all__ = ["dense_activation", "dense_input_gradient", "dense_parameter_gradients"]

# Of leaky_relu for negative inputs; the value of Maas, Hannun and Ng (2013), which libraries kept.
LEAKY_SLOPE = 0.01


def dense_activation(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, activation: str, out: np.ndarray | None = None
) -> np.ndarray:
    """φ(x W + b). (1.1)

    Parameters
    ----------
    x : ndarray (B, fan_in)
    weight : ndarray (fan_in, fan_out)
    bias : ndarray (fan_out,)
    activation : str
        One of identity, relu, leaky_relu, tanh, sigmoid, softplus.
    out : ndarray (B, fan_out), optional
        Filled and returned.

    Returns
    -------
    ndarray (B, fan_out)
    """
    out = np.matmul(x, weight, out=out)
    out += bias
    out[...] = _activated(out, activation)
    return out


def dense_input_gradient(
    dy: np.ndarray,
    weight: np.ndarray,
    y: np.ndarray,
    activation: str,
    out: np.ndarray | None = None,
    accumulate: bool = False,
) -> np.ndarray:
    """(dy Wᵀ) φ'(y), or (out + dy Wᵀ) φ'(y): back through a layer and through the activation before it. (1.2)

    Parameters
    ----------
    dy : ndarray (B, fan_out)
    weight : ndarray (fan_in, fan_out)
    y : ndarray (B, fan_in)
        The layer's input, which is the output of the activation before it.
    activation : str
        That activation; identity if there is none.
    out : ndarray (B, fan_in), optional
        Filled and returned.
    accumulate : bool
        Whether to add to what `out` holds, before the derivative is multiplied in.

    Returns
    -------
    ndarray (B, fan_in)
    """
    if out is None:
        out, accumulate = np.empty((len(dy), len(weight)), dy.dtype), False
    product = dy @ weight.T
    out[...] = (out + product if accumulate else product) * _derivative(y, activation)
    return out


def dense_parameter_gradients(
    x: np.ndarray, dy: np.ndarray, dweight: np.ndarray, dbias: np.ndarray, accumulate: bool = False
) -> None:
    """dW = xᵀ dy and db = Σ_B dy, written or added to what is there. (1.3) (1.4)

    Parameters
    ----------
    x : ndarray (B, fan_in)
    dy : ndarray (B, fan_out)
    dweight : ndarray (fan_in, fan_out)
    dbias : ndarray (fan_out,)
    accumulate : bool
    """
    if not accumulate:
        dweight[...], dbias[...] = 0, 0
    dweight += x.T @ dy
    dbias += dy.sum(axis=0)


def _activated(x: np.ndarray, activation: str) -> np.ndarray:
    match activation:
        case "relu":
            return np.maximum(x, 0)  # (2.2)
        case "leaky_relu":
            return np.where(x > 0, x, x.dtype.type(LEAKY_SLOPE) * x)  # (2.3)
        case "tanh":
            return np.tanh(x)
        case "sigmoid":
            decay = np.exp(-np.abs(x))
            return np.where(x >= 0, 1, decay) / (1 + decay)  # (2.5)
        case "softplus":
            return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))  # (2.7)
    return x


def _derivative(y: np.ndarray, activation: str) -> np.ndarray:
    """φ' as a function of φ's output. (2.1)"""
    match activation:
        case "relu":
            return (y > 0).astype(y.dtype)  # (2.2)
        case "leaky_relu":
            return np.where(y > 0, y.dtype.type(1), y.dtype.type(LEAKY_SLOPE))  # (2.3)
        case "tanh":
            return (1 - y) * (1 + y)  # (2.4)
        case "sigmoid":
            return y * (1 - y)  # (2.6)
        case "softplus":
            return -np.expm1(-y)  # (2.8)
    return np.ones_like(y)
