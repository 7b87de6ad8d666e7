"""The loss of a VAE and of an autoencoder once more, in one breath, for complex numbers: an independent oracle.

Imports nothing from the rest of the package. Where every operation is analytic, a parameter moved by i·h gives
the derivative as the loss's imaginary part over h, without a difference and so without cancellation: h = 1e-30
leaves no error but rounding (Squire and Trapp 1998).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["autoencoder_loss", "vae_loss"]


def _activate(name: str, x: np.ndarray) -> np.ndarray:
    """The activation, continued to complex numbers beside the real axis; branches look at the real part."""
    positive = x.real > 0
    match name:
        case "identity":
            return x
        case "relu":
            return np.where(positive, x, 0)
        case "leaky_relu":
            return np.where(positive, x, 0.01 * x)
        case "tanh":
            return np.tanh(x)
        case "sigmoid":
            return np.where(positive, 1, np.exp(np.where(positive, 0, x))) / (
                1 + np.exp(np.where(positive, -x, x))
            )
        case "softplus":
            return np.where(positive, x, 0) + np.log1p(np.exp(np.where(positive, -x, x)))
    raise ValueError(f"activation is {name!r}, which this oracle does not know")


def _affine(parameters: Mapping[str, np.ndarray], layer: str, x: np.ndarray) -> np.ndarray:
    return x @ parameters[f"{layer}.weight"] + parameters[f"{layer}.bias"]


def _hidden_layers(
    parameters: Mapping[str, np.ndarray], prefix: str, depth: int, activation: str, x: np.ndarray
) -> np.ndarray:
    for i in range(depth):
        x = _activate(activation, _affine(parameters, f"{prefix}.{i}", x))
    return x


def _log_likelihood(name: str, variance: float, x: np.ndarray, output: np.ndarray) -> np.ndarray:
    if name == "bernoulli":
        return (x * output - _activate("softplus", output)).sum(axis=-1)
    return (-((x - output) ** 2) / (2 * variance) - 0.5 * np.log(2 * np.pi * variance)).sum(axis=-1)


def _decode(parameters: Mapping[str, np.ndarray], depth: int, activation: str, z: np.ndarray) -> np.ndarray:
    hidden = _hidden_layers(parameters, "decoder", depth, activation, z)
    return _affine(parameters, f"decoder.{depth}", hidden)


def vae_loss(
    parameters: Mapping[str, np.ndarray],
    x: np.ndarray,
    noise: np.ndarray,
    *,
    depth: int,
    activation: str,
    likelihood: str,
    likelihood_variance: float,
    beta: float,
    kl: str,
    free_bits: float = 0.0,
) -> complex:
    """−mean over B and S of (log p(x|z) − beta KL), for real or complex parameters. (5.4) (26.1)

    Parameters
    ----------
    parameters : mapping of str to ndarray
        By name, in the shapes of `VAE.parameters`.
    x : ndarray (B, D)
    noise : ndarray (S, B, L)
    depth : int
        Hidden layers of the encoder, and of the decoder.
    activation, likelihood, likelihood_variance, beta, kl, free_bits
        As for `VAE`.
    """
    hidden = _hidden_layers(parameters, "encoder", depth, activation, x)
    mean, log_var = (_affine(parameters, f"encoder.{head}", hidden) for head in ("mean", "log_var"))
    sigma = np.sqrt(np.exp(log_var))
    z = mean + sigma * noise
    reconstruction = _log_likelihood(
        likelihood, likelihood_variance, x, _decode(parameters, depth, activation, z)
    )
    if kl == "analytic":
        by_dimension = ((sigma**2 + mean**2 - 1) / 2 - np.log(sigma)).mean(axis=0)
        divergence = np.where(by_dimension.real > free_bits, by_dimension, free_bits).sum()
    else:
        log_posterior = -((z - mean) ** 2) / (2 * sigma**2) - np.log(sigma)
        divergence = (log_posterior + z**2 / 2).sum(axis=-1)
    return complex(-(reconstruction - beta * divergence).mean())


def autoencoder_loss(
    parameters: Mapping[str, np.ndarray],
    x: np.ndarray,
    *,
    depth: int,
    activation: str,
    likelihood: str,
    likelihood_variance: float,
) -> complex:
    """−mean over B of log p(x | code), for real or complex parameters; x is (B, D), arguments as for `vae_loss`."""
    code = _affine(parameters, "encoder.code", _hidden_layers(parameters, "encoder", depth, activation, x))
    output = _decode(parameters, depth, activation, code)
    return complex(-_log_likelihood(likelihood, likelihood_variance, x, output).mean())
