"""Random initial weights whose scale keeps signals alive. Derived in `derivations/01-dense.md`."""

from __future__ import annotations

import math

import numpy as np

from scratchvae.randomness import as_generator

__all__ = ["glorot_uniform", "he_normal", "initial_weight"]


def glorot_uniform(
    fan_in: int, fan_out: int, rng: np.random.Generator | int | None = None, dtype: type = np.float64
) -> np.ndarray:
    """Weights uniform in ±sqrt(6 / (fan_in + fan_out)), variance 2 / (fan_in + fan_out). (1.7)

    A compromise between keeping the variance of the signal going forward (1.5) and of the gradient coming
    back (1.6), for activations with slope 1 at 0 (Glorot and Bengio 2010).

    Returns
    -------
    ndarray (fan_in, fan_out)
    """
    bound = math.sqrt(6 / (fan_in + fan_out))
    return as_generator(rng).uniform(-bound, bound, (fan_in, fan_out)).astype(dtype)


def he_normal(
    fan_in: int, fan_out: int, rng: np.random.Generator | int | None = None, dtype: type = np.float64
) -> np.ndarray:
    """Weights normal with variance 2 / fan_in: relu halves the second moment, the 2 restores it. (1.8)

    Source: He, Zhang, Ren and Sun (2015).

    Returns
    -------
    ndarray (fan_in, fan_out)
    """
    return (as_generator(rng).standard_normal((fan_in, fan_out)) * math.sqrt(2 / fan_in)).astype(dtype)


def initial_weight(
    fan_in: int, fan_out: int, activation: str, rng: np.random.Generator | int | None, dtype: type
) -> np.ndarray:
    """He's weights before relu and leaky_relu, Glorot's before every other activation.

    Returns
    -------
    ndarray (fan_in, fan_out)
    """
    scheme = he_normal if activation in ("relu", "leaky_relu") else glorot_uniform
    return scheme(fan_in, fan_out, rng, dtype)
