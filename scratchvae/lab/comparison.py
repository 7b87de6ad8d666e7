"""Gradients against two oracles, entry by entry or along random directions: what models and layers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from scratchvae.lab.complex_step import UNDERFLOW, complex_step, imaginary_step
from scratchvae.lab.diagnosis import diagnose
from scratchvae.lab.finite_differences import Difference, Outputs, difference, step_scale
from scratchvae.lab.gradient_report import (
    COMPLEX_STEP_TOLERANCE,
    FINITE_DIFFERENCE_TOLERANCE,
    TensorCheck,
)
from scratchvae.training.progress import Progress

__all__ = ["COTANGENT_SCALES", "Problem", "check_directions", "check_entries"]

# A backward pass is linear, so that these tell nothing new, unless it has an absolute threshold somewhere.
COTANGENT_SCALES = (1.0, 1e-3, 1e3)
# Where differences alone decide: as sharp as they are exact, with a margin, but no sharper than this.
_SHARPEST = 1e-10
_MARGIN = 10
# So many times its estimated error a difference may be off, and what is further away from it is wrong.
_FURTHEST = 3
# The error of a difference, if all of it is rounding, in units of that of its smallest step: 1 for itself, 2¼ for what
# its steps disagree by, 5 for the bend, 1½ for its distance from the nearest pair. (18.3) (18.7)
_ALL_ROUNDINGS = 9.75
# A complex step is confirmed by a difference that knows a tenth of it, if none contradicts: where it fails, it fails
# by a whole term. (19.4)
_KNOWN = 0.1
# Entries that are looked at one by one where directions cannot tell, or tell that something is wrong.
_SAMPLE = 64


@dataclass(frozen=True)
class Problem:
    """A function of several tensors, and what its gradient is said to be."""

    point: dict[str, np.ndarray]  # float64; moved in place, and put back, while differences are taken
    ways: Mapping[str, Mapping[str, np.ndarray]]  # gradients by name, for every way to compute them
    cotangents: Outputs
    outputs: Callable[[], Outputs]  # of the shipped function, at the point as it is
    complex_outputs: (
        Callable[[str, np.ndarray], Outputs] | None
    )  # with one tensor replaced by complex numbers
    # Whether the complex step differentiates another program than differences do, so that either must agree.
    independent: bool
    sizes: tuple[int, ...]  # numbers that a wrong constant may be made of
    # Of the outputs, by the tensor that moves, where it was measured.
    noise: Mapping[str, Outputs] = field(default_factory=dict)

    def complex_slope(self, name: str, direction: np.ndarray | tuple[int, ...]) -> tuple[float, float]:
        """Derivative and error along a direction (shape as of the tensor), or of the entry with that index."""
        assert self.complex_outputs is not None
        moved = self.point[name].astype(np.complex128)
        step = imaginary_step(self.point[name], direction)
        if isinstance(direction, tuple):
            moved[direction] += 1j * step
        else:
            moved += 1j * step * direction
        return complex_step(self.complex_outputs(name, moved), self.cotangents, step)

    def slope(self, name: str, direction: np.ndarray | tuple[int, ...], resolution: float) -> Difference:
        """The same from differences; a direction, shape as of the tensor, has the length 1."""
        tensor = self.point[name]
        place = direction if isinstance(direction, tuple) else ...
        by = 1.0 if isinstance(direction, tuple) else direction
        kept = tensor[place].copy()

        def outputs(t: float) -> Outputs:
            tensor[place] = kept + t * by
            try:
                return self.outputs()
            finally:
                tensor[place] = kept

        return difference(outputs, self.cotangents, step_scale(tensor), resolution, self.noise.get(name, ()))


@dataclass
class _Columns:
    """One number from each source for every entry, or every direction."""

    analytic: np.ndarray  # (ways, K)
    exact: np.ndarray  # (K,) of the complex step, NaN without one
    exact_error: np.ndarray
    differences: np.ndarray
    difference_error: np.ndarray
    left: np.ndarray
    right: np.ndarray
    rounding: np.ndarray  # the part of the differences' error that rounding explains


def check_entries(
    name: str,
    problem: Problem,
    entries: np.ndarray,
    bar: Progress,
    asked: tuple[int, ...] | None = None,
) -> tuple[TensorCheck, np.ndarray]:
    """Compare these entries (K,), numbers into the flat tensor; with the relative errors, shape as of the tensor.

    Where nothing is wrong, the values told are those of the entry that was asked for.
    """
    tensor = problem.point[name]
    index = [tuple(int(i) for i in np.unravel_index(entry, tensor.shape)) for entry in entries]
    columns = _empty([way[name].reshape(-1)[entries] for way in problem.ways.values()])
    order = np.argsort(-np.abs(columns.analytic[0]), kind="stable")  # the largest first: they set the scale
    if problem.complex_outputs is not None:
        for k in order:
            columns.exact[k], columns.exact_error[k] = problem.complex_slope(name, index[k])
    largest = float(np.nanmax(np.abs(columns.exact), initial=0))
    for k in order:
        found = problem.slope(name, index[k], _resolution(problem, largest))
        _fill(columns, k, found)
        if np.isfinite(found.error):
            largest = max(largest, abs(found.value))
        bar.advance(name)
    judged = _Judged(columns, problem.independent)
    worst_way, worst = judged.worst()
    errors: np.ndarray = np.full(tensor.shape, np.nan)
    errors.reshape(-1)[entries] = judged.errors
    check = judged.tensor_check(name, tensor.size, index[worst], worst_way, worst)
    check = replace(check, way=_way(problem, worst_way))
    if check.passed and asked is not None:
        check = judged.tensor_check(name, tensor.size, asked, worst_way, index.index(asked))
    if check.passed:
        return check, errors
    oracle: np.ndarray = np.full(tensor.shape, np.nan)
    oracle.reshape(-1)[entries] = judged.oracle
    wrong_way = list(problem.ways.values())[worst_way][name]
    return replace(check, diagnosis=diagnose(wrong_way, oracle, problem.sizes)), errors


def _resolution(problem: Problem, largest: float) -> float:
    """How exact differences should be: sharper for a layer, for which they may have to decide alone."""
    return (FINITE_DIFFERENCE_TOLERANCE / 2 if problem.independent else _SHARPEST / 10) * largest


def _way(problem: Problem, number: int) -> str:
    return list(problem.ways)[number]


def _empty(analytic: list[np.ndarray]) -> _Columns:
    stacked = np.stack(analytic)
    return _Columns(stacked, *(np.full(stacked.shape[1], np.nan) for _ in range(7)))


def _fill(columns: _Columns, k: int, found: Difference) -> None:
    columns.differences[k], columns.difference_error[k] = found.value, found.error
    columns.left[k], columns.right[k], columns.rounding[k] = found.left, found.right, found.rounding


class _Judged:
    """Who is to be believed, and what follows."""

    def __init__(self, columns: _Columns, independent: bool, weights: np.ndarray | None = None) -> None:
        self.columns = columns
        # Along a direction the gradient's own size is the measure: its terms may cancel.
        self.scale_floor = 0.0 if weights is None else float(weights.max(initial=0))
        self.independent = independent
        error = columns.difference_error
        scale = self._scale(columns.differences[np.isfinite(error)])
        # Nothing moves, and nothing is expected to: there rounding has nothing to hide.
        still = (columns.left == 0) & (columns.right == 0) & (columns.analytic == 0).all(axis=0)
        still &= (columns.differences == 0) & ((columns.exact == 0) | np.isnan(columns.exact))
        error[still & np.isfinite(error)] = 0
        conclusive = error <= FINITE_DIFFERENCE_TOLERANCE / 2 * scale
        believed = columns.exact_error <= COMPLEX_STEP_TOLERANCE / 2 * self._scale(
            columns.exact[np.isfinite(columns.exact)]
        )
        self.contradicted = self.unconfirmed = False
        zero = np.zeros(conclusive.shape, bool)
        if not independent:
            self.conclusive = conclusive
            zero = self._zeros()
            believed &= self._is_confirmed(scale, zero) & ~self._at_kinks()
            # What cannot tell right from nearly right can still tell it from what is far away.
            off = np.abs(columns.analytic - columns.differences).max(axis=0)
            conclusive |= ~believed & ~zero & np.isfinite(error) & (off > _FURTHEST * error)
        self.conclusive, self.believed, self.zero = conclusive, believed, zero
        self.alone = not believed.any()
        self.oracle = np.where(believed, columns.exact, np.where(conclusive, columns.differences, np.nan))
        self.tolerance = FINITE_DIFFERENCE_TOLERANCE
        known = conclusive & (error <= FINITE_DIFFERENCE_TOLERANCE / 2 * scale)
        if self.alone and known.any() and scale > 0:
            sharp = _MARGIN * float(error[known].max()) / scale
            self.tolerance = min(max(sharp, _SHARPEST), FINITE_DIFFERENCE_TOLERANCE)
        tiny = np.full(believed.shape, UNDERFLOW)
        self.exact_errors = self._errors(columns.exact, believed, tiny, self._scale(columns.exact[believed]))
        # By the scale that made them conclusive: the largest entry of the tensor itself need not be.
        self.difference_errors = self._errors(columns.differences, conclusive, error, scale)
        self.undecided = ~(believed | conclusive | zero)
        telling = (believed | conclusive) & ((columns.analytic != 0).any(axis=0) | (self.oracle != 0))
        if self.undecided.any() and not telling.any():
            self.undecided[:] = True  # zeros tell nothing of the formula that the others would show

    def _zeros(self) -> np.ndarray:
        """Entries that gradient and complex step call exactly zero, and differences zero but for their rounding."""
        columns = self.columns
        flat = columns.difference_error <= _ALL_ROUNDINGS * columns.rounding
        flat &= np.abs(columns.differences) <= _FURTHEST * columns.rounding
        nothing = (columns.analytic == 0).all(axis=0)
        return (
            flat & nothing & ((columns.exact == 0) | (np.isnan(columns.exact) & (columns.differences == 0)))
        )

    def _is_confirmed(self, scale: float, zero: np.ndarray) -> bool:
        """Whether the complex step differentiates what differences do: it fails where a function is not analytic."""
        columns = self.columns
        error = columns.difference_error + columns.exact_error
        known = np.isfinite(error) & ~zero
        apart = np.abs(columns.exact - columns.differences)
        allowed = np.maximum(FINITE_DIFFERENCE_TOLERANCE * scale, _FURTHEST * error)
        self.contradicted = bool((apart > allowed)[known].any())
        confirmed = known & (columns.difference_error <= _KNOWN * np.abs(columns.exact))
        self.unconfirmed = not self.contradicted and not confirmed.any()
        return not self.contradicted and bool(confirmed.any())

    def _scale(self, values: np.ndarray) -> float:
        return max(float(np.abs(values).max(initial=0)), self.scale_floor)

    def _at_kinks(self) -> np.ndarray:
        """Where the function has a kink in the very point, any slope between those on its sides is right."""
        columns = self.columns
        low, high = np.minimum(columns.left, columns.right), np.maximum(columns.left, columns.right)
        slack = 1e-3 * (high - low)  # the slopes are one-sided differences
        between = (columns.analytic >= low - slack) & (columns.analytic <= high + slack)
        bent = high - low > 1e-3 * np.abs(np.stack([low, high])).max(axis=0)
        disagrees = (
            np.abs(columns.analytic - columns.exact) > COMPLEX_STEP_TOLERANCE * np.abs(columns.exact)
        ).any(axis=0)
        return ~self.conclusive & bent & between.all(axis=0) & disagrees

    def _errors(self, oracle: np.ndarray, judged: np.ndarray, tiny: np.ndarray, scale: float) -> np.ndarray:
        """Relative error (ways, K); infinite where zero is expected and something else is there. (0.9)"""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error = np.abs(self.columns.analytic - oracle)
            relative = np.where(error == 0, 0.0, error / scale if scale > 0 else np.inf)
        if self.scale_floor == 0:
            not_zero = (oracle == 0) & (np.abs(self.columns.analytic) > tiny)
            relative = np.where(not_zero, np.inf, relative)
        return np.where(judged, relative, np.nan)

    @property
    def errors(self) -> np.ndarray:
        """The relative error of each entry (K,), against the sharper oracle; NaN where none can judge."""
        sharper = np.where(self.believed, self.exact_errors, self.difference_errors)
        return np.where(self.zero, 0.0, sharper.max(axis=0))

    @property
    def beneath_rounding(self) -> bool:
        """Whether differences, which have looked everywhere, found nothing but rounding."""
        columns = self.columns
        seen = np.abs(np.vstack([columns.differences, *columns.analytic]))
        beneath = (seen <= _FURTHEST * columns.rounding).all(axis=0)
        beneath &= columns.difference_error <= _ALL_ROUNDINGS * columns.rounding
        return not self.independent and bool(beneath.all())

    def worst(self) -> tuple[int, int]:
        """Way and number of the entry that is furthest off."""
        sharper = np.where(self.believed, self.exact_errors, self.difference_errors)
        ranked = np.where(np.isnan(sharper), -1.0, sharper)
        if not (ranked > self._least()).any():  # right by the sharper oracle: perhaps not by the other
            other = np.where(np.isnan(self.difference_errors), -1.0, self.difference_errors)
            ranked = other if (other > self.tolerance).any() else ranked
        # The first of ways that are equally wrong, but for rounding.
        of_ways = ranked.max(axis=1)
        way = int((of_ways >= of_ways.max() * (1 - COMPLEX_STEP_TOLERANCE)).argmax())
        return way, int(ranked[way].argmax())

    def _least(self) -> float:
        return self.tolerance if self.alone else COMPLEX_STEP_TOLERANCE

    def tensor_check(
        self, name: str, size: int, index: tuple[int, ...], worst_way: int, worst: int
    ) -> TensorCheck:
        columns = self.columns
        exact, differences = (
            float(values[worst]) if judged[worst] else None
            for values, judged in (
                (columns.exact, self.believed),
                (columns.differences, self.conclusive),
            )
        )
        # Differences of another program than the complex step's are a test of their own.
        return TensorCheck(
            name,
            size,
            self.conclusive.size,
            None if self.alone else float(np.nanmax(self.exact_errors)),
            float(np.nanmax(self.difference_errors, initial=0)),
            int((~self.conclusive).sum()),
            index,
            float(columns.analytic[worst_way, worst]),
            exact,
            differences,
            undecided=int(self.undecided.sum()),
            finite_difference_tolerance=self.tolerance,
            confirmed=not self.independent and not self.undecided.all(),
            dismissed="contradicted" if self.contradicted else "unconfirmed" if self.unconfirmed else "",
            beneath_rounding=self.beneath_rounding,
        )


def check_directions(
    name: str, problem: Problem, count: int, rng: np.random.Generator, bar: Progress
) -> tuple[TensorCheck, np.ndarray]:
    """Compare ⟨v, Jᵀu⟩ with ⟨Jv, u⟩ for random v; the second is each direction's error (count,). (0.6)

    Where they differ, halving the direction finds the entry, and some entries are looked at for a diagnosis.
    """
    tensor = problem.point[name]
    gradients = [way[name] for way in problem.ways.values()]
    directions, weights = [], np.zeros(count)
    columns = _empty([np.zeros(count) for _ in gradients])
    for k in range(count):
        direction = rng.standard_normal(tensor.shape)
        direction /= np.linalg.norm(direction)
        directions.append(direction)
        columns.analytic[:, k] = [float((gradient * direction).sum()) for gradient in gradients]
        weights[k] = max(float(np.linalg.norm(gradient * direction)) for gradient in gradients)
        if problem.complex_outputs is not None:
            columns.exact[k], columns.exact_error[k] = problem.complex_slope(name, direction)
        largest = max(weights[k], float(np.nan_to_num(np.abs(columns.exact[k]))))
        _fill(columns, k, problem.slope(name, direction, _resolution(problem, largest)))
        bar.advance(name)
    judged = _Judged(columns, problem.independent, weights)
    if judged.undecided.all() and not judged.beneath_rounding:
        # Rounding of all that moves drowns every direction; one entry moves little.
        return check_entries(name, problem, _some(tensor, gradients[0], rng), bar)
    way, worst = judged.worst()
    check = judged.tensor_check(name, tensor.size, (), way, worst)
    check = replace(check, checked=tensor.size, directions=count, way=_way(problem, way))
    if check.passed or np.isnan(judged.oracle[worst]):
        return check, judged.errors
    entry = _locate(name, problem, gradients[way], directions[worst], exact=not judged.alone)
    some = np.unique(np.append(_some(tensor, gradients[way], rng), entry))
    closer, _ = check_entries(name, problem, some, Progress(name, 0, visible=False))
    if closer.passed:  # what is off is too small beside the largest entry to be seen in one entry
        return check, judged.errors
    return (
        replace(
            check,
            worst_index=closer.worst_index,
            analytic=closer.analytic,
            complex_step=closer.complex_step,
            finite_difference=closer.finite_difference,
            way=closer.way,
            diagnosis=closer.diagnosis,
        ),
        judged.errors,
    )


def _some(tensor: np.ndarray, gradient: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the largest entry and of others drawn at random."""
    some = rng.choice(tensor.size, min(_SAMPLE, tensor.size), replace=False)
    return np.unique(np.append(some, int(np.abs(gradient).argmax())))


def _locate(name: str, problem: Problem, gradient: np.ndarray, direction: np.ndarray, *, exact: bool) -> int:
    """The number of an entry that is wrong, by halving the direction."""
    entries: np.ndarray = np.arange(direction.size)
    while len(entries) > 1:
        off = []
        halves = np.array_split(entries, 2)
        for half in halves:
            part = np.zeros(direction.shape)
            part.reshape(-1)[half] = direction.reshape(-1)[half]
            right = problem.complex_slope(name, part)[0] if exact else problem.slope(name, part, 0.0).value
            off.append(abs(float((gradient * part).sum()) - right))
        entries = halves[int(off[1] > off[0])]
    return int(entries[0])
