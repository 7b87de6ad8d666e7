"""Activations, forward and backward. Derived in `derivations/02-activations.md`.

Every derivative is written in terms of the output y, so y is all that a backward pass needs. At a kink the
derivative is the one from the left. (2.9)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scratchvae.kernels.reference.fused_dense import LEAKY_SLOPE
from scratchvae.validation import check_choice

__all__ = [
    "ACTIVATIONS",
    "LEAKY_SLOPE",
    "Activation",
    "identity_backward",
    "identity_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "make_activation",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "softplus_backward",
    "softplus_forward",
    "tanh_backward",
    "tanh_forward",
]


def identity_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y = x. Takes x of any shape (...); returns y of the same shape and y as the cache. (2.1)"""
    return x, x


def identity_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """dx = dy. Shapes (...) as in the forward pass. (2.1)"""
    return dy


def relu_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y = max(x, 0). Takes x of any shape (...); returns y of the same shape and y as the cache. (2.2)"""
    y = np.maximum(x, 0)
    return y, y


def relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """dx = dy where y > 0, else 0. Shapes (...) as in the forward pass. (2.2)"""
    # y = max(x, 0)                   d y / d x = 1 where y > 0, else 0                (2.2)
    return dy * (y > 0)


def leaky_relu_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y = x where x > 0, else 0.01 x. Takes x (...); returns y (...) and y as the cache. (2.3)"""
    y = np.where(x > 0, x, x.dtype.type(LEAKY_SLOPE) * x)
    return y, y


def leaky_relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """dx = dy where y > 0, else 0.01 dy. Shapes (...) as in the forward pass. (2.3)"""
    # y = x or slope x                y > 0 exactly where x > 0, for the slope is positive    (2.3)
    return dy * np.where(y > 0, y.dtype.type(1), y.dtype.type(LEAKY_SLOPE))


def tanh_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y = tanh(x). Takes x of any shape (...); returns y of the same shape and y as the cache. (2.4)"""
    y = np.tanh(x)
    return y, y


def tanh_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """dx = dy (1 − y²). Shapes (...) as in the forward pass. (2.4)"""
    # y = tanh(x)                     d y / d x = 1 − y² = (1 − y)(1 + y)              (2.4)
    return dy * ((1 - y) * (1 + y))


def sigmoid_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y = 1 / (1 + exp(−x)) without overflow. Takes x (...); returns y (...) and y as the cache. (2.5)"""
    decay = np.exp(-np.abs(x))
    y = np.where(x >= 0, 1, decay) / (1 + decay)
    return y, y


def sigmoid_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """dx = dy y (1 − y). Shapes (...) as in the forward pass. (2.6)"""
    # y = sigmoid(x)                  d y / d x = y (1 − y)                            (2.6)
    return dy * (y * (1 - y))


def softplus_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y = log(1 + exp(x)) without overflow. Takes x (...); returns y (...) and y as the cache. (2.7)"""
    y = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return y, y


def softplus_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """dx = dy sigmoid(x), and sigmoid(x) = 1 − exp(−y). Shapes (...) as in the forward pass. (2.8)"""
    # y = log(1 + exp(x))             d y / d x = exp(x) / (1 + exp(x)) = 1 − exp(−y)  (2.8)
    return dy * -np.expm1(-y)


def _straight(y: np.ndarray) -> np.ndarray:
    """φ″ of identity, relu and leaky_relu, away from a kink. (14.7)"""
    return np.zeros_like(y)


def _tanh_curvature(y: np.ndarray) -> np.ndarray:
    return -2 * y * ((1 - y) * (1 + y))  # (14.7)


def _sigmoid_curvature(y: np.ndarray) -> np.ndarray:
    return y * (1 - y) * (1 - 2 * y)  # (14.7)


def _softplus_curvature(y: np.ndarray) -> np.ndarray:
    return -np.expm1(-y) * np.exp(-y)  # (14.7)


class Activation(NamedTuple):
    """A forward and backward pair under the name that models and run directories use."""

    name: str
    forward: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    backward: Callable[[np.ndarray, np.ndarray], np.ndarray]
    curvature: Callable[[np.ndarray], np.ndarray]  # y (...) -> φ″ (...), for expansions to second order


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("identity", identity_forward, identity_backward, _straight),
        Activation("relu", relu_forward, relu_backward, _straight),
        Activation("leaky_relu", leaky_relu_forward, leaky_relu_backward, _straight),
        Activation("tanh", tanh_forward, tanh_backward, _tanh_curvature),
        Activation("sigmoid", sigmoid_forward, sigmoid_backward, _sigmoid_curvature),
        Activation("softplus", softplus_forward, softplus_backward, _softplus_curvature),
    )
}


def make_activation(name: str) -> Activation:
    """The activation of that name; a ValueError lists the known ones."""
    return ACTIVATIONS[check_choice("activation", name, ACTIVATIONS)]
