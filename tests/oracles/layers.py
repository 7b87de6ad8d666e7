"""Layers once more, as plainly as possible: formulas of the definitions, for real and complex arrays.

No matrix product, no stable form, no shortcut. Meant for moderate arguments; branches look at real parts.
"""

from __future__ import annotations

import numpy as np


def dense(x, weight, bias):
    """y_nj = Σ_i x_ni weight_ij + bias_j, the sum spelled out. (1.1)"""
    return (x[:, :, np.newaxis] * weight[np.newaxis, :, :]).sum(axis=1) + bias


def identity(x):
    return x


def relu(x):
    return np.where(x.real > 0, x, 0.0)


def leaky_relu(x):
    return np.where(x.real > 0, x, x / 100)


def tanh(x):
    return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log(1 + np.exp(x))


ACTIVATIONS = {
    "identity": identity,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
}

KINKED = ("relu", "leaky_relu")


def stack(x, *parameters, activations):
    """Dense layers and activations in turn; parameters are weight, bias, weight, bias, …"""
    for weight, bias, name in zip(parameters[::2], parameters[1::2], activations, strict=True):
        x = ACTIVATIONS[name](dense(x, weight, bias))
    return x


def distance_to_kinks(x, *parameters, activations):
    """How near the argument of any relu or leaky_relu of the stack is to 0; infinite if there is none."""
    nearest = np.inf
    for weight, bias, name in zip(parameters[::2], parameters[1::2], activations, strict=True):
        before = dense(x, weight, bias)
        if name in KINKED:
            nearest = min(nearest, np.abs(before).min())
        x = ACTIVATIONS[name](before)
    return nearest
