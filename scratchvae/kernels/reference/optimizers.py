"""One update of all parameters. Derived in `derivations/08-adam.md`."""

from __future__ import annotations

import numpy as np

__all__ = ["adam_update", "sgd_update"]


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
    """m += (1 − β₁)(g − m); v += (1 − β₂)(g² − v); θ −= step_size m / (√v + epsilon). (8.2) (8.5)

    Parameters
    ----------
    theta, gradient, first_moment, second_moment : ndarray (P,)
        Of one dtype. All but the gradient are changed in place.
    beta1, beta2 : float
    step_size, epsilon : float
        With the corrections of both moments folded into them.
    """
    first_moment += (1 - beta1) * (gradient - first_moment)
    second_moment += (1 - beta2) * (gradient * gradient - second_moment)
    theta -= step_size * first_moment / (np.sqrt(second_moment) + epsilon)


def sgd_update(
    theta: np.ndarray, gradient: np.ndarray, velocity: np.ndarray, learning_rate: float, momentum: float
) -> None:
    """velocity ← momentum · velocity + gradient; θ ← θ − learning_rate · velocity. (8.1)

    Parameters
    ----------
    theta, gradient, velocity : ndarray (P,)
        Of one dtype. All but the gradient are changed in place.
    learning_rate, momentum : float
    """
    velocity *= momentum
    velocity += gradient
    theta -= learning_rate * velocity
