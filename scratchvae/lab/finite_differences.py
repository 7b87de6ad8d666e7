"""A derivative along a line from differences, with an estimate of its own error.

Derived in `derivations/18-finite_differences.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np

__all__ = ["Difference", "Outputs", "difference", "measured_noise", "power_of_two", "step_scale"]

# What a function gave: one array for each of its outputs.
Outputs: TypeAlias = tuple[np.ndarray, ...]

# Steps of the 5-point formula, relative to the scale: the first is near the best (18.5); the following, each a
# quarter of the one before, are for a narrow feature, a kink or the end of the domain within its reach. Below the last
# one rounding alone is more than a verdict allows.
_LARGEST_STEP = 2.0**-8
_SMALLEST_STEP = 2.0**-20
# What the central formula at the smallest step may leave out, relative to itself, of a feature that is no wider than a
# few hundred such steps.
_TRUNCATED = 1e-3
# What an output is taken to be off by, relative to itself: a few roundings.
_ROUNDING = 4 * float(np.finfo(np.float64).eps)
# Moves, each four times the one before, up to the smallest step of a difference: what is narrower is noise to it.
_NOISE_MOVES = tuple(2.0**-30 * 4**k for k in range(6))


class Difference(NamedTuple):
    """A derivative from differences."""

    value: float
    error: float  # estimated from above; infinite where no step is to be believed
    left: float  # the one-sided slopes at the smallest step that was tried
    right: float
    rounding: float  # the part of the error that rounding explains


class _Pair(NamedTuple):
    """What two points, a step to either side, tell."""

    central: float  # (f(h) − f(−h)) / 2h
    bend: float  # (f(h) − 2 f(0) + f(−h)) / h
    rounding: float  # of the first, of all outputs that move


def step_scale(tensor: np.ndarray) -> float:
    """The scale of a tensor of any shape: its largest entry, or 1 where all are zero."""
    return float(np.abs(tensor).max(initial=0)) or 1.0


def measured_noise(outputs: Callable[[float], Outputs]) -> Outputs:
    """How far each output is from smooth along a line, in its shape: rounding that its own size does not tell. (18.10)

    Parameters
    ----------
    outputs : callable
        t to the function's outputs, arrays of any shape, a distance t along a line whose unit is at most 1.
    """
    origin = outputs(0.0)
    noise = [np.zeros(output.shape) for output in origin]
    with np.errstate(all="ignore"):
        bends = [_second_differences(outputs, origin, move) for move in _NOISE_MOVES]
        for near, far in pairwise(bends):
            for i, (one, other) in enumerate(zip(near, far, strict=True)):
                left = one - other / 4
                noise[i] = np.maximum(noise[i], np.where(np.isfinite(left), left, 0))
    return tuple(noise)


def _second_differences(outputs: Callable[[float], Outputs], origin: Outputs, t: float) -> list[np.ndarray]:
    try:
        above, below = outputs(t), outputs(-t)
    except Exception:  # noqa: BLE001 - beyond the end of its domain a stranger's function may raise anything
        return [np.full(output.shape, np.nan) for output in origin]
    points = zip(above, origin, below, strict=True)
    return [np.abs((up - middle) - (middle - down)) for up, middle, down in points]


def difference(
    outputs: Callable[[float], Outputs],
    cotangents: Outputs,
    scale: float,
    resolution: float,
    noise: Outputs = (),
) -> Difference:
    """d/dt of ⟨cotangents, outputs(t)⟩ at t = 0, by the largest step whose result half of it confirms. (18.3) (18.6)

    The 5-point formula at a falling sequence of steps, each held against the central formula at the smallest of them:
    where a function is flat at a distance, large steps agree with each other and not with it. Differences are taken
    output by output, so that what does not move contributes exactly zero.

    Parameters
    ----------
    outputs : callable
        t to the function's outputs, arrays of any shape, a distance t along the line.
    cotangents : tuple of ndarray
        Shapes as of the outputs.
    scale : float
        Of t, see `step_scale`.
    resolution : float
        An error that is small enough; the search ends there.
    noise : tuple of ndarray, optional
        Shapes as of the outputs: what each is off by where that is more than a few roundings, see `measured_noise`.

    Returns
    -------
    Difference
        The best found; its error may be larger than the resolution.
    """
    step = _LARGEST_STEP * power_of_two(max(scale, 1.0))
    last = _SMALLEST_STEP * power_of_two(min(scale, 1.0))
    line = _Line(outputs, cotangents, last, scale, noise)
    line.pair(step)
    line.pair(last)
    if not line.has_moved():
        unseen = line.unseen(step)
        return Difference(0.0, unseen, 0.0, 0.0, unseen)
    found = [line.five_point(step)]
    while step > last and found[-1].error > resolution:
        step /= 4
        found.append(line.five_point(step))
    best = min(found, key=lambda candidate: candidate.error)
    return best._replace(left=found[-1].left, right=found[-1].right)


def power_of_two(scale: float) -> float:
    """Not above scale and not below half of it: with such steps x + h is exact, or nearly."""
    return 2.0 ** math.floor(math.log2(scale))


class _Line:
    """A function along a line; each pair of points is evaluated once."""

    def __init__(
        self,
        outputs: Callable[[float], Outputs],
        cotangents: Outputs,
        smallest_step: float,
        scale: float,
        noise: Outputs,
    ) -> None:
        self.outputs = outputs
        self.cotangents = cotangents
        self.smallest_step = smallest_step
        self.pairs: dict[float, _Pair] = {}
        self.origin = outputs(0.0)
        self.noise = noise or tuple(np.zeros(output.shape) for output in self.origin)
        self.moved = [np.zeros(output.shape, bool) for output in self.origin]
        # What rounding may swallow where nothing moves: an output may be a difference of numbers as large as those
        # that go in.
        self.hidden = _ROUNDING * scale * max(float(np.abs(u).max(initial=0)) for u in cotangents)

    def pair(self, step: float) -> _Pair:
        if step not in self.pairs:
            self.pairs[step] = self._evaluate(step)
        return self.pairs[step]

    def _evaluate(self, step: float) -> _Pair:
        with np.errstate(all="ignore"):
            try:
                above, below = self.outputs(step), self.outputs(-step)
            except Exception:  # noqa: BLE001 - beyond the end of its domain a stranger's function may raise anything
                return _Pair(math.nan, math.nan, math.inf)
            central = bend = size = 0.0
            moves = False
            for i, (up, middle, down, cotangent) in enumerate(
                zip(above, self.origin, below, self.cotangents, strict=True)
            ):
                central += float((cotangent * (up - down)).sum()) / (2 * step)
                bend += float((cotangent * ((up - middle) - (middle - down))).sum()) / step
                moved = (up != middle) | (down != middle)
                self.moved[i] |= moved
                moves |= bool(moved.any())
                # Rounding of every output that moves at all: one that stays put by rounding is no more exact for it.
                largest = np.maximum(np.maximum(np.abs(up), np.abs(down)), np.abs(middle))
                off = np.maximum(_ROUNDING * largest, self.noise[i])
                size += float((np.abs(cotangent) * off * self.moved[i]).sum())
        return _Pair(central, bend, (size if moves else max(size, self.hidden)) / step)

    def has_moved(self) -> bool:
        """Whether any output has changed so far."""
        return any(moved.any() for moved in self.moved)

    def unseen(self, step: float) -> float:
        """The largest derivative that rounding can hide from this step."""
        total = 0.0
        for cotangent, output, noise in zip(self.cotangents, self.origin, self.noise, strict=True):
            total += float((np.abs(cotangent) * np.maximum(_ROUNDING * np.abs(output), noise)).sum())
        return max(total, self.hidden) / step

    def five_point(self, step: float) -> Difference:
        """The 5-point formula with half the step; its distance from that with the whole is its error. (18.6)"""
        half, one, two = self.pair(step / 2), self.pair(step), self.pair(2 * step)
        fine, coarse = (4 * half.central - one.central) / 3, (4 * one.central - two.central) / 3
        rounding = half.rounding
        error = abs(fine - coarse) + rounding
        # A kink in the point: every step would give the same mean of its two slopes. (18.7)
        error += abs(2 * half.bend - one.bend) / 2
        nearest = self.pair(self.smallest_step)
        if math.isfinite(nearest.central):
            explained = nearest.rounding + _TRUNCATED * abs(nearest.central)
            error += max(0.0, abs(fine - nearest.central) - explained)
        if not math.isfinite(fine + error):
            error = math.inf
        return Difference(fine, error, half.central - half.bend / 2, half.central + half.bend / 2, rounding)
