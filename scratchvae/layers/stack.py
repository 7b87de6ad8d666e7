"""A stack of dense layers, each followed by an activation. Derived in `derivations/01-dense.md`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from scratchvae.layers.activations import Activation
from scratchvae.layers.dense import DenseCache, dense_backward, dense_forward

__all__ = ["Layer", "LayerCache", "stack_backward", "stack_forward"]


class Layer(NamedTuple):
    """One dense layer and the activation that follows it."""

    weight: np.ndarray  # (fan_in, fan_out)
    bias: np.ndarray  # (fan_out,)
    activation: Activation


class LayerCache(NamedTuple):
    """What the backward pass of one layer of a stack needs."""

    dense: DenseCache
    y: np.ndarray  # (B, fan_out), after the activation: the activation's derivative is a function of it
    activation: Activation


def stack_forward(x: np.ndarray, layers: Sequence[Layer]) -> tuple[np.ndarray, list[LayerCache]]:
    """Pass x through the layers in order. (1.9)

    Parameters
    ----------
    x : ndarray (B, fan_in of the first layer)
    layers : sequence of Layer
        May be empty; then y is x.

    Returns
    -------
    y : ndarray (B, fan_out of the last layer)
    caches : list of LayerCache, one per layer
    """
    caches = []
    for layer in layers:
        before_activation, dense_cache = dense_forward(x, layer.weight, layer.bias)
        x, y = layer.activation.forward(before_activation)
        caches.append(LayerCache(dense_cache, y, layer.activation))
    return x, caches


def stack_backward(
    dy: np.ndarray, caches: Sequence[LayerCache], *, need_dx: bool = True
) -> tuple[Any, list[tuple[np.ndarray, np.ndarray]]]:
    """Vector–Jacobian product of `stack_forward`: the same layers in reverse. (1.9)

    Parameters
    ----------
    dy : ndarray (B, fan_out of the last layer)
    caches : sequence of LayerCache
    need_dx : bool
        False where x is data, whose gradient nobody asks for.

    Returns
    -------
    dx : ndarray (B, fan_in of the first layer), or None
    gradients : list of (dweight, dbias), in the order of the layers
        Shapes (fan_in, fan_out) and (fan_out,).
    """
    gradients = []
    dx = dy
    for index, cache in reversed(list(enumerate(caches))):
        # x, y = activation.forward(before_activation)                                 (2.1)
        dbefore_activation = cache.activation.backward(dx, cache.y)
        # before_activation = dense_forward(x, weight, bias)                           (1.2) (1.3) (1.4)
        dx, dweight, dbias = dense_backward(dbefore_activation, cache.dense, need_dx=need_dx or index > 0)
        gradients.append((dweight, dbias))
    return (dx if need_dx else None), gradients[::-1]
