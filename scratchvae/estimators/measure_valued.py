"""The measure-valued gradient (weak derivative). Derived in `derivations/12-measure_valued.md`."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from scratchvae.densities.gaussian import gaussian_sample_forward
from scratchvae.estimators.integrand import Integrand
from scratchvae.randomness import NoiseStream
from scratchvae.validation import check_array

__all__ = ["MeasureValued"]


class MeasureValued:
    """∇ E f(z) = constant · (E₊ f − E₋ f): a difference of values of f, no derivative and no score. (12.1)

    Each coordinate is moved by itself while the others stay at the sample: outwards on both sides for mean,
    outwards against the sample itself for log_var. That is 3 L + 1 evaluations of f for each sample, 2 L of
    them for mean and L + 1 for log_var. The last is at the samples themselves, where an integrand that
    remembers its last evaluation is thereby left.

    Beside the noise that makes the samples this needs more, two or five normals for each of its entries. They
    are `sample_gradients`' last argument; where they are not given they are drawn from a stream whose key is
    a hash of the noise, so that the gradients are a function of the noise alone: the same noise gives the same
    gradients, other noise gives others, and no generator is advanced.

    Parameters
    ----------
    coupled : bool
        Whether the two sides share their random numbers: the same radius on both for mean (12.5), the sample
        as a part of the outer point for log_var (12.6). Not always the quieter choice (12.11).
    """

    needs_gradient = False
    minimum_samples = 1
    looks_elsewhere = True  # evaluates f at points of its own beside the samples

    def __init__(self, coupled: bool = True) -> None:
        self.coupled = coupled
        self.name = "measure-valued" if coupled else "measure-valued-uncoupled"

    @property
    def extra_normals(self) -> int:
        """How many standard normals it takes beside each entry of the noise."""
        return 2 if self.coupled else 5

    def sample_gradients(
        self,
        integrand: Integrand,
        mean: np.ndarray,
        log_var: np.ndarray,
        noise: np.ndarray,
        extra: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Per-sample gradients of E f(z) with respect to mean (12.2) and log_var (12.3).

        Parameters
        ----------
        integrand : Integrand
            Is evaluated at 3 L + 1 points for each sample, never differentiated.
        mean, log_var : ndarray (B, L) or (L,)
        noise : ndarray (S, B, L) or (S, L), standard normal
        extra : ndarray (N, S, B, L) or (N, S, L), standard normal, optional
            N is `extra_normals`. Derived from the noise if not given.

        Returns
        -------
        dmean, dlog_var : ndarray, the shape of noise

        Raises
        ------
        ValueError
            If extra has another shape.
        """
        shape = (self.extra_normals, *noise.shape)
        if extra is None:
            extra = _derived_normals(noise, shape)
        extra = check_array("extra", extra, shape=shape, dtype=noise.dtype)
        z, _ = gaussian_sample_forward(mean, log_var, noise)
        deviation = np.exp(0.5 * log_var)
        upwards, downwards, outwards = self._steps(noise, extra)
        points = [mean + deviation * step for step in (upwards, -downwards, outwards)]

        moved = np.empty((3, *noise.shape))
        for i in range(noise.shape[-1]):
            stacked = np.concatenate([z] * 3)
            stacked[..., i] = np.concatenate([point[..., i] for point in points])
            moved[..., i] = integrand.value(stacked).reshape(3, *noise.shape[:-1])
        # z itself is the inner point of every coordinate, and comes last: see the class.
        at_samples = integrand.value(z)[..., None]

        dmean = (moved[0] - moved[1]) / (math.sqrt(2 * math.pi) * deviation)  # (12.2)
        dlog_var = 0.5 * (moved[2] - at_samples)  # (12.3)
        return dmean.astype(noise.dtype, copy=False), dlog_var.astype(noise.dtype, copy=False)

    def _steps(self, noise: np.ndarray, extra: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Radii up and down for mean, and the signed outer step for log_var, in units of σ."""
        radius = np.hypot(extra[0], extra[1])  # (12.5)
        if self.coupled:
            return radius, radius, np.copysign(np.hypot(noise, radius), noise)  # (12.6)
        other_radius = np.hypot(extra[2], extra[3])
        return radius, other_radius, np.copysign(np.hypot(extra[4], radius), extra[4])


def _derived_normals(noise: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normals from a stream whose key is a hash of the noise: to the eye independent of it."""
    key = int.from_bytes(hashlib.blake2b(noise.tobytes(), digest_size=8).digest(), "little")
    return NoiseStream.from_state((key, 0)).standard_normal(shape, noise.dtype)
