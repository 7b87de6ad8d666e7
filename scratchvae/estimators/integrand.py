"""What an estimator integrates: a function f(z) that may be evaluated, differentiated, and counts both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from scratchvae.validation import check_array

__all__ = ["FunctionIntegrand", "Integrand"]


class Integrand(Protocol):
    """f(z), one value per sample. The batch axes between S and L are the integrand's own business.

    One attribute more may be there: `features` (B, F), what is known of each example beside its samples.
    """

    evaluations: int  # how many samples f was evaluated at
    differentiations: int  # at how many of them ∇f was asked for

    def value(self, z: np.ndarray) -> np.ndarray:
        """f at z (S, ..., L): values (S, ...)."""

    def value_and_gradient(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f and ∇f at z (S, ..., L): values (S, ...), gradients (S, ..., L)."""


class FunctionIntegrand:
    """Any Python function as an integrand, checked at the door each time that it answers.

    Parameters
    ----------
    function : callable
        z (S, L) to values (S,).
    gradient : callable, optional
        z (S, L) to ∇f (S, L); only estimators that differentiate the integrand need it.
    hessian_diagonal : callable, optional
        z (S, L) to ∂²f/∂z_i² (S, L); only expansions to second order need it.
    """

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        gradient: Callable[[np.ndarray], np.ndarray] | None = None,
        hessian_diagonal: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        optional = {"gradient": gradient, "hessian_diagonal": hessian_diagonal}
        given = {"f": function} | {name: value for name, value in optional.items() if value is not None}
        for name, value in given.items():
            if not callable(value):
                raise TypeError(f"{name} is {value!r}, expected a function of z, an array (S, L)")
        self.function = function
        self.gradient = gradient
        self._hessian_diagonal = hessian_diagonal
        self.evaluations = 0
        self.differentiations = 0

    def value(self, z: np.ndarray) -> np.ndarray:
        """f at z (S, L): values (S,)."""
        self.evaluations += len(z)
        self._z = z
        return check_array("the result of f", self.function(z), shape=z.shape[:-1])

    def value_and_gradient(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f and ∇f at z (S, L): values (S,), gradients (S, L)."""
        value = self.value(z)
        return value, self.pull_back(np.ones(value.shape))

    def pull_back(self, dvalue: np.ndarray) -> np.ndarray:
        """dvalue (S,) times ∇f at the samples of the last `value`: (S, L)."""
        if self.gradient is None:
            raise ValueError(
                "this estimator differentiates f: pass gradient=, a function from z (S, L) to ∇f (S, L)"
            )
        self.differentiations += len(self._z)
        gradient = check_array("the result of gradient", self.gradient(self._z), shape=self._z.shape)
        return dvalue[..., None].astype(gradient.dtype) * gradient

    def hessian_diagonal(self, z: np.ndarray) -> np.ndarray:
        """∂²f/∂z_i² at z (S, L): (S, L)."""
        if self._hessian_diagonal is None:
            raise ValueError(
                "this estimator expands f to second order: pass hessian_diagonal=, a function from z (S, L) to "
                "∂²f/∂z_i² (S, L), or take order=1"
            )
        return check_array("the result of hessian_diagonal", self._hessian_diagonal(z), shape=z.shape)
