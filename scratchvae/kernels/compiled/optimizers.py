"""Compiled twin of `scratchvae.kernels.reference.optimizers`: one pass over memory, which is all that it costs.

No flags: the operations and their order are those of the plain twin, so the results are too, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.kernels.compiled.arrays import plain
from scratchvae.kernels.compiled.mathematics import inline
from scratchvae.kernels.compiled.threads import ParallelKernel

__all__ = ["adam_update", "sgd_update"]

WORTHWHILE = 20_000  # parameters


# The loops count from zero over slices: where a loop's first index is not known to be positive, each access asks
# whether it counts from the end, and nothing vectorises (eight times slower).


@inline
def _adam_part(
    theta: Any,
    gradient: Any,
    first_moment: Any,
    second_moment: Any,
    keep1: Any,
    keep2: Any,
    rate: Any,
    epsilon: Any,
) -> None:
    for i in range(theta.size):
        g = gradient[i]
        m = first_moment[i] + keep1 * (g - first_moment[i])
        v = second_moment[i] + keep2 * (g * g - second_moment[i])
        first_moment[i], second_moment[i] = m, v
        theta[i] -= rate * m / (np.sqrt(v) + epsilon)


def _adam(
    task: int,
    tasks: int,
    theta: np.ndarray,
    gradient: np.ndarray,
    first_moment: np.ndarray,
    second_moment: np.ndarray,
    keep1: np.floating,
    keep2: np.floating,
    step_size: np.floating,
    epsilon: np.floating,
) -> None:
    part = slice(theta.size * task // tasks, theta.size * (task + 1) // tasks)
    _adam_part(
        theta[part],
        gradient[part],
        first_moment[part],
        second_moment[part],
        keep1,
        keep2,
        step_size,
        epsilon,
    )


@inline
def _sgd_part(theta: Any, gradient: Any, velocity: Any, learning_rate: Any, momentum: Any) -> None:
    for i in range(theta.size):
        velocity[i] = velocity[i] * momentum + gradient[i]
        theta[i] -= learning_rate * velocity[i]


def _sgd(
    task: int,
    tasks: int,
    theta: np.ndarray,
    gradient: np.ndarray,
    velocity: np.ndarray,
    learning_rate: np.floating,
    momentum: np.floating,
) -> None:
    part = slice(theta.size * task // tasks, theta.size * (task + 1) // tasks)
    _sgd_part(theta[part], gradient[part], velocity[part], learning_rate, momentum)


adam_kernel, sgd_kernel = ParallelKernel(_adam), ParallelKernel(_sgd)


def adam_update(
    theta: np.ndarray,
    gradient: np.ndarray,
    first_moment: np.ndarray,
    second_moment: np.ndarray,
    beta1: float,
    beta2: float,
    step_size: float,
    epsilon: float,
) -> None:
    """m += (1 − β₁)(g − m); v += (1 − β₂)(g² − v); θ −= step_size m / (√v + epsilon). (8.2) (8.5)"""
    number = theta.dtype.type  # in the arrays' precision: a float64 would make float64 of all that it meets
    adam_kernel(
        theta.size >= WORTHWHILE,
        theta,
        plain(gradient, theta.dtype),
        first_moment,
        second_moment,
        number(1 - beta1),
        number(1 - beta2),
        number(step_size),
        number(epsilon),
    )


def sgd_update(
    theta: np.ndarray, gradient: np.ndarray, velocity: np.ndarray, learning_rate: float, momentum: float
) -> None:
    """velocity ← momentum · velocity + gradient; θ ← θ − learning_rate · velocity. (8.1)"""
    number = theta.dtype.type
    sgd_kernel(
        theta.size >= WORTHWHILE,
        theta,
        plain(gradient, theta.dtype),
        velocity,
        number(learning_rate),
        number(momentum),
    )
