"""First and second derivatives of a stack of dense layers along each input. Derived in `derivations/14-taylor.md`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scratchvae import kernels
from scratchvae.layers.dense import dense_forward
from scratchvae.layers.stack import Layer

__all__ = ["stack_curvature"]


def stack_curvature(x: np.ndarray, layers: Sequence[Layer]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, ∂y/∂x_i and ∂²y/∂x_i² for every input i, carried forward through the layers together. (14.6)

    At a kink the second derivative is that of either side, zero.

    Parameters
    ----------
    x : ndarray (B, fan_in)
    layers : sequence of Layer

    Returns
    -------
    y : ndarray (B, fan_out)
    slope, curvature : ndarray (fan_in, B, fan_out)
        One for each input, where mixed derivatives have no place.
    """
    y, num_inputs = x, x.shape[1]
    slope = np.repeat(np.eye(num_inputs, dtype=x.dtype)[:, None], len(x), axis=1)
    curvature = np.zeros_like(slope)
    for layer in layers:
        before_activation, _ = dense_forward(y, layer.weight, layer.bias)
        slope, curvature = _times(slope, layer.weight), _times(curvature, layer.weight)
        _, y = layer.activation.forward(before_activation)
        # φ″ ȧ² + φ′ ä, before ȧ itself goes through                                          (14.6)
        bend = layer.activation.curvature(y) * slope**2
        curvature = layer.activation.backward(curvature, y) + bend
        slope = layer.activation.backward(slope, y)
    return y, slope, curvature


def _times(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """rows (fan_in, B, n) @ weight (n, m)."""
    return kernels.matmul(rows.reshape(-1, rows.shape[-1]), weight).reshape(*rows.shape[:-1], -1)
