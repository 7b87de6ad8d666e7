"""What the optimizers share: the parameters that they change in place, and a learning rate that may change."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae import kernels
from scratchvae.validation import check_array, check_number

__all__ = ["Optimizer"]


class Optimizer:
    """The base of `Adam` and `SGD`.

    Parameters
    ----------
    theta : ndarray (P,)
        The parameters, changed in place.
    learning_rate : float
    """

    def __init__(self, theta: Any, learning_rate: float) -> None:
        if not isinstance(theta, np.ndarray) or theta.dtype not in (np.float32, np.float64):
            raise TypeError(f"theta is {_described(theta)}, expected an ndarray of float32 or float64")
        if theta.ndim != 1 or not theta.flags.writeable:
            raise ValueError(
                f"theta is {_described(theta)}, expected a writeable vector (P,), for it is changed in place"
            )
        self.theta = theta
        self.learning_rate = check_number("learning_rate", learning_rate, above=0)
        self.step = 0

    @property
    def learning_rate(self) -> float:
        """May be set between updates; finite and not negative, and 0 stands still."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        """Check and keep it."""
        self._learning_rate = check_number("learning_rate", value, low=0)

    def _checked(self, gradient: Any) -> np.ndarray:
        """`gradient` (P,) if it is finite and fits theta."""
        if (
            isinstance(gradient, np.ndarray)
            and gradient.dtype == self.theta.dtype
            and gradient.shape == self.theta.shape
            and kernels.all_finite(gradient)
        ):
            return gradient  # as in training, where a tenth of a millisecond in each step would be missed
        return check_array("gradient", gradient, shape=self.theta.shape, dtype=self.theta.dtype)


def _described(value: object) -> str:
    if not isinstance(value, np.ndarray):
        return f"of type {type(value).__name__}"
    read_only = "" if value.flags.writeable else " read-only"
    return f"a{read_only} {value.dtype} array of shape {value.shape}"
