"""A Taylor expansion of f as a control variate, for any estimator. Derived in `derivations/14-taylor.md`."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.estimators.estimator import Estimator
from scratchvae.estimators.integrand import Integrand
from scratchvae.validation import check_choice

__all__ = ["Taylor"]


class Taylor:
    """Another estimator at f minus its Taylor polynomial about mean, plus the polynomial's exact gradient. (14.2)

    The polynomial's expectation is known in closed form, so only what the expansion leaves over is sampled:
    little where f is smooth on the scale of σ, and more than f itself where it is not (14.5).

    Beside what the other estimator wants, this needs ∇f at mean, once per call, and at order 2 the diagonal of
    the Hessian there, from an integrand that offers `hessian_diagonal`. Mixed second derivatives are not
    used: they remain in what is sampled, and the gradient is unbiased without them.

    Parameters
    ----------
    estimator : Estimator
    order : 1 or 2
    """

    needs_gradient = True
    looks_elsewhere = True  # evaluates f at mean, beside the samples

    def __init__(self, estimator: Estimator, order: int = 2) -> None:
        self.estimator = estimator
        self.order = check_choice("order", order, (1, 2))
        self.name = f"taylor-{estimator.name}"
        self.minimum_samples = estimator.minimum_samples
        # An estimator that does not differentiate f has no use for what f owes to mean and log_var directly.
        self.path_only = not estimator.needs_gradient or getattr(estimator, "path_only", False)

    def sample_gradients(
        self, integrand: Integrand, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-sample gradients of E f(z) with respect to mean and log_var. (14.2)

        Parameters
        ----------
        integrand : Integrand
            Is differentiated at mean, and then treated as by the other estimator.
        mean, log_var : ndarray (B, L) or (L,)
        noise : ndarray (S, B, L) or (S, L), standard normal

        Returns
        -------
        dmean, dlog_var : ndarray, the shape of noise

        Raises
        ------
        ValueError
            If the integrand offers no gradient, or at order 2 no diagonal of its Hessian.
        """
        centre = np.broadcast_to(mean, (1, *noise.shape[1:]))
        value, slope = integrand.value_and_gradient(centre)
        curvature = self._hessian_diagonal(integrand, centre)
        remainder = _Remainder(integrand, centre, value, slope, curvature)
        dmean, dlog_var = self.estimator.sample_gradients(remainder, mean, log_var, noise)
        # What was taken off f comes back as its expectation's gradient: slope, and ½ curvature σ².      (14.1)
        from_curvature = 0.5 * curvature * np.exp(log_var)
        return (
            dmean + slope.astype(noise.dtype, copy=False),
            dlog_var + from_curvature.astype(noise.dtype, copy=False),
        )

    def _hessian_diagonal(self, integrand: Any, centre: np.ndarray) -> np.ndarray:
        if self.order == 1:
            return np.zeros_like(centre)
        hessian_diagonal = getattr(integrand, "hessian_diagonal", None)
        if hessian_diagonal is None:
            raise ValueError(
                f"{self.name} expands f to second order, which needs the diagonal of its Hessian, and "
                f"{type(integrand).__name__} offers no hessian_diagonal: take order=1"
            )
        return np.asarray(hessian_diagonal(centre))


class _Remainder:
    """f minus its Taylor polynomial, as one more integrand: z (S, ..., L) to values (S, ...)."""

    def __init__(
        self,
        integrand: Integrand,
        centre: np.ndarray,
        value: np.ndarray,
        slope: np.ndarray,
        curvature: np.ndarray,
    ) -> None:
        self._integrand = integrand
        self._centre = centre
        self._value = value
        self._slope = slope
        self._curvature = curvature
        self.features = getattr(integrand, "features", None)
        self.evaluations = self.differentiations = 0  # the integrand itself counts

    def value(self, z: np.ndarray) -> np.ndarray:
        return self._integrand.value(z) - self._polynomial(z - self._centre)

    def value_and_gradient(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, gradient = self._integrand.value_and_gradient(z)
        step = z - self._centre
        return value - self._polynomial(step), gradient - (self._slope + self._curvature * step)

    def _polynomial(self, step: np.ndarray) -> np.ndarray:
        # In float64, as values of f are.
        terms = (self._slope + 0.5 * self._curvature * step).astype(np.float64) * step
        return self._value + terms.sum(axis=-1)
