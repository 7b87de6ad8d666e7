"""A VAE's loss and all its gradients in one call: the way that `scratchvae.models.vae` goes, for the usual case.

One sample of z per example, the pathwise estimator, the closed-form KL. The model spells this way out room by
room, for every estimator; here it is one function of the flat parameter vector, so that the compiled twin has
nothing to allocate and no Python between one layer and the next.
"""

from __future__ import annotations

import numpy as np

from scratchvae.kernels.layer_table import layer_table
from scratchvae.kernels.reference.elementwise import (
    bernoulli_value_and_gradient,
    gaussian_kl_value_and_gradient,
    reparameterize,
    reparameterize_gradient,
)
from scratchvae.kernels.reference.fused_dense import (
    dense_activation,
    dense_input_gradient,
    dense_parameter_gradients,
)

__all__ = ["vae_gradients"]


def _layers(vector: np.ndarray, sizes: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Views (fan_in, fan_out) and (fan_out,) of each layer's weight and bias."""
    return [
        (vector[weight:bias].reshape(fan_in, fan_out), vector[bias : bias + fan_out])
        for weight, bias, fan_in, fan_out in layer_table(sizes).tolist()
    ]


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
    """Fill `gradient` with that of −mean over B of (reconstruction − beta kl), and `values` with the terms. (5.5)

    Parameters
    ----------
    theta, gradient : ndarray (P,)
    sizes : tuple of int
        D, the encoder's hidden sizes, L.
    activation : str
        After each hidden layer.
    likelihood_variance : float or None
        Of the Gaussian likelihood; None for the Bernoulli one.
    beta : float
    x : ndarray (B, D)
    noise : ndarray (B, L)
    values : ndarray (2, B) of float64
        Filled with reconstruction and kl per example.
    """
    layers, gradients = _layers(theta, sizes), _layers(gradient, sizes)
    depth, num_examples = len(sizes) - 2, len(x)
    each = np.full(num_examples, 1 / num_examples)

    # x → encoder → mean, log_var → z → decoder
    encoded = [x]
    for weight, bias in layers[:depth]:
        encoded.append(dense_activation(encoded[-1], weight, bias, activation))
    mean, log_var = (dense_activation(encoded[-1], *layers[head], "identity") for head in (depth, depth + 1))
    z = np.empty_like(mean)
    reparameterize(mean, log_var, noise, z)
    decoded = [z]
    for weight, bias in layers[depth + 2 : -1]:
        decoded.append(dense_activation(decoded[-1], weight, bias, activation))
    output = dense_activation(decoded[-1], *layers[-1], "identity")

    # … → log p(x|z), and the same way back
    delta = np.empty_like(output)
    if likelihood_variance is None:
        values[0] = bernoulli_value_and_gradient(x, output, -each, delta)
    else:
        residual = x - output
        constant = x.shape[1] * np.log(2 * np.pi * likelihood_variance)
        square = (residual**2).sum(axis=1, dtype=np.float64)
        values[0] = -0.5 * (square / likelihood_variance + constant)  # (4.12)
        delta[...] = (-1 / num_examples / likelihood_variance) * residual  # (4.13)
    for i in range(depth, -1, -1):
        layer = depth + 2 + i
        dense_parameter_gradients(decoded[i], delta, *gradients[layer])
        delta = dense_input_gradient(delta, layers[layer][0], decoded[i], activation if i else "identity")
    dmean, dlog_var = np.empty_like(mean), np.empty_like(mean)
    reparameterize_gradient(delta, log_var, noise, dmean, dlog_var)
    values[1] = gaussian_kl_value_and_gradient(mean, log_var, beta * each, dmean, dlog_var)
    dense_parameter_gradients(encoded[-1], dmean, *gradients[depth])
    dense_parameter_gradients(encoded[-1], dlog_var, *gradients[depth + 1])
    if not depth:
        return
    delta = dense_input_gradient(dmean, layers[depth][0], encoded[-1], "identity")
    delta = dense_input_gradient(
        dlog_var, layers[depth + 1][0], encoded[-1], activation, delta, accumulate=True
    )
    for i in range(depth - 1, -1, -1):
        dense_parameter_gradients(encoded[i], delta, *gradients[i])
        if i:
            delta = dense_input_gradient(delta, layers[i][0], encoded[i], activation)
