"""Stochastic gradient descent, with momentum. Derived in `derivations/08-adam.md`."""

from __future__ import annotations

import numpy as np

from scratchvae import kernels
from scratchvae.training.optimizer import Optimizer
from scratchvae.validation import check_number

__all__ = ["SGD"]


class SGD(Optimizer):
    """velocity ← momentum · velocity + gradient;  theta ← theta − learning_rate · velocity. (8.1)

    Parameters
    ----------
    theta : ndarray (P,)
        The parameters, changed in place by `update`.
    learning_rate : float
        May be set between updates.
    momentum : float in [0, 1)

    Attributes
    ----------
    velocity : ndarray (P,)
    step : int
        Updates so far.
    """

    name = "sgd"

    def __init__(self, theta: np.ndarray, learning_rate: float = 1e-2, momentum: float = 0.0) -> None:
        super().__init__(theta, learning_rate)
        self.momentum = check_number("momentum", momentum, low=0, high=1 - 1e-9)
        self.velocity = np.zeros_like(theta)

    def update(self, gradient: np.ndarray) -> None:
        """Change theta in place by one step against gradient (P,). (8.1)"""
        gradient = self._checked(gradient)
        self.step += 1
        kernels.sgd_update(self.theta, gradient, self.velocity, self.learning_rate, self.momentum)
