"""Adam. Derived in `derivations/08-adam.md`."""

from __future__ import annotations

import math

import numpy as np

from scratchvae import kernels
from scratchvae.training.optimizer import Optimizer
from scratchvae.validation import check_number

__all__ = ["Adam"]


class Adam(Optimizer):
    """Steps of a size near `learning_rate`, whatever the gradient's scale. (8.2) (8.4)

    Parameters
    ----------
    theta : ndarray (P,)
        The parameters, changed in place by `update`.
    learning_rate : float
        May be set between updates.
    beta1, beta2 : float in [0, 1)
        Decay of the running means of the gradient and of its square.
    epsilon : float
        Added to the root of the corrected second moment, so that a zero gradient makes a zero step.

    Attributes
    ----------
    first_moment, second_moment : ndarray (P,)
    step : int
        Updates so far.

    References
    ----------
    Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), whose defaults these are.
    """

    name = "adam"

    def __init__(
        self,
        theta: np.ndarray,
        learning_rate: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(theta, learning_rate)
        self.beta1 = check_number("beta1", beta1, low=0, high=1 - 1e-9)
        self.beta2 = check_number("beta2", beta2, low=0, high=1 - 1e-9)
        self.epsilon = check_number("epsilon", epsilon, above=0)
        self.first_moment = np.zeros_like(theta)
        self.second_moment = np.zeros_like(theta)

    def update(self, gradient: np.ndarray) -> None:
        """Change theta in place by one step against gradient (P,). (8.2) (8.5)"""
        gradient = self._checked(gradient)
        self.step += 1
        # Both bias corrections of (8.4) folded into two scalars (8.5): no corrected copies of the moments.
        root_correction = math.sqrt(1 - self.beta2**self.step)
        step_size = self.learning_rate * root_correction / (1 - self.beta1**self.step)
        kernels.adam_update(
            self.theta,
            gradient,
            self.first_moment,
            self.second_moment,
            self.beta1,
            self.beta2,
            step_size,
            self.epsilon * root_correction,
        )
