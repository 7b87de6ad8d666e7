"""What kind of mistake a wrong gradient looks like: found from its entries and the right ones alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import permutations
from math import isclose

import numpy as np

__all__ = ["describe_batches", "describe_factor", "diagnose"]

# Two gradients are alike if they differ by so little of the largest entry. Oracles are at least as exact as this.
_ALIKE = 1e-9
# Entries that were computed in float32 are off by a few of its roundings (6e-8), sums of them by some more.
_SINGLE_PRECISION = (1e-10, 3e-6)
_NEAR_ONE = 1e-6  # factors that nine digits would not tell from one
_MOST_AXES = 4  # beyond which permutations of axes are too many to try

_FORMS: dict[str, Callable[[int], float]] = {
    "a factor B: a sum instead of a mean over examples": lambda n: n,
    "a factor 1/B: divided by the batch size once too often": lambda n: 1 / n,
    "a factor B/(B − 1)": lambda n: n / (n - 1),
    "a factor (B − 1)/B": lambda n: (n - 1) / n,
}


def diagnose(analytic: np.ndarray, oracle: np.ndarray, sizes: Iterable[int] = ()) -> str:
    """The kind of mistake that turns the oracle's gradient into the analytic one.

    Parameters
    ----------
    analytic, oracle : ndarray (...)
        The wrong gradient and the right one, of the same shape; NaN in the oracle where it was not computed.
    sizes : iterable of int
        Numbers that a forgotten or doubled reduction may have left behind: sizes of axes, B, S.

    Returns
    -------
    str
        Such as "a constant factor 2"; empty if it looks like nothing known.
    """
    known = np.isfinite(oracle)
    a, o = analytic[known].astype(np.float64), oracle[known].astype(np.float64)
    scale = float(np.abs(o).max(initial=0))
    if scale == 0:
        return "not zero where it should be exactly zero" if a.any() else ""
    if not a.any():
        return "a missing term: zero everywhere"
    factor = float(a @ o / (o @ o))
    if _alike(a, factor * o, abs(factor) * scale) and not isclose(factor, 1, rel_tol=_ALIKE):
        return describe_factor(factor, sizes)
    wrong = np.zeros(oracle.shape, bool)
    off = np.abs(a - o)
    wrong[known] = off > min(_ALIKE * scale, 0.1 * float(off.max()))
    if _alike(a, o, scale):  # off by less than differences could tell: the complex step has found it
        return _in_places(analytic, oracle, wrong, known, sizes)
    return (
        _rearranged(analytic, oracle, scale, known)
        or _single_precision(a, o, scale)
        or _in_places(analytic, oracle, wrong, known, sizes)
    )


def _alike(one: np.ndarray, other: np.ndarray, scale: float) -> bool:
    return bool(np.abs(one - other).max(initial=0) <= _ALIKE * scale)


def describe_factor(factor: float, sizes: Iterable[int] = ()) -> str:
    """A constant factor in words; `sizes` are numbers that it may be made of."""
    if isclose(factor, -1, rel_tol=_ALIKE):
        return "the sign"
    sign = "the sign and a constant" if factor < 0 else "a constant"
    name = next((text for value, text in _named(sizes) if isclose(abs(factor), value, rel_tol=_ALIKE)), "")
    off = abs(factor) - 1
    number = f"1 {'−' if off < 0 else '+'} {abs(off):.2g}" if abs(off) < _NEAR_ONE else f"{abs(factor):.9g}"
    return f"{sign} factor {name or number}"


def _named(sizes: Iterable[int]) -> Iterator[tuple[float, str]]:
    yield from ((2.0, "2"), (0.5, "1/2"))
    for n in sorted({size for size in sizes if size > 1}):
        yield n, f"{n}: a sum instead of a mean over {n}"
        yield 1 / n, f"1/{n}: a mean instead of a sum over {n}"
        yield n / (n - 1), f"{n}/{n - 1}: n − 1 for n = {n}"
        yield (n - 1) / n, f"{n - 1}/{n}: n for n − 1, n = {n}"
    # After the sizes: four examples forgotten are likelier than two halves.
    yield from ((4.0, "4"), (0.25, "1/4"))


def _rearranged(analytic: np.ndarray, oracle: np.ndarray, scale: float, known: np.ndarray) -> str:
    """The right numbers in wrong places."""
    if not known.all():
        return ""
    if 1 < oracle.ndim <= _MOST_AXES:
        for axes in list(permutations(range(oracle.ndim)))[1:]:
            moved = oracle.transpose(axes)
            if moved.size and _alike(moved.reshape(-1), analytic.reshape(-1), scale):
                return "transposed" if oracle.ndim == 2 else f"axes in the order {axes}"
    for axis in range(oracle.ndim):
        if _alike(np.flip(oracle, axis), analytic, scale):
            return f"reversed along axis {axis}"
        for shift in (1, -1):
            if _alike(np.roll(oracle, shift, axis), analytic, scale):
                return f"shifted by {shift} along axis {axis}"
        mean = oracle.mean(axis=axis, keepdims=True)
        if oracle.shape[axis] > 1 and _alike(np.broadcast_to(mean, oracle.shape), analytic, scale):
            return f"averaged along axis {axis}"
    return ""


def _single_precision(a: np.ndarray, o: np.ndarray, scale: float) -> str:
    """Errors of both signs, none larger than float32's; or values that float32 holds exactly."""
    error = float(np.abs(a - o).max()) / scale
    low, high = _SINGLE_PRECISION
    if not low < error < high:
        return ""
    with np.errstate(over="ignore", under="ignore"):
        rounded = a.astype(np.float32).astype(np.float64) == a
    relative = np.abs(a - o)[o != 0] / np.abs(o[o != 0])
    both_signs = (a > o).any() and (a < o).any() and (relative > low / 10).mean() > 0.5
    return "float32 inside: errors of its size" if rounded.all() or both_signs else ""


def _in_places(
    analytic: np.ndarray, oracle: np.ndarray, wrong: np.ndarray, known: np.ndarray, sizes: Iterable[int]
) -> str:
    """Right in some places and wrong in others."""
    if not wrong.any():
        return ""
    a, o = analytic[wrong], oracle[wrong]
    what = _of_the_wrong_ones(a, o, sizes)
    count, total = int(wrong.sum()), int(known.sum())
    if count == total:
        return what
    where = f"in {count} of {total} entries"
    if count == 1:
        index = tuple(int(i[0]) for i in np.nonzero(wrong))
        where = f"in the entry {index} alone"
    elif known.all() and oracle.ndim > 1:
        for axis in range(oracle.ndim):
            places = np.unique(np.nonzero(wrong)[axis])
            if len(places) == 1 and oracle.shape[axis] > 1:
                name = ("row", "column")[axis] if oracle.ndim == 2 else f"index of axis {axis}, number"
                where = f"in the {name} {places[0]} alone"
    return f"{what or 'wrong'} {where}"


def _of_the_wrong_ones(a: np.ndarray, o: np.ndarray, sizes: Iterable[int]) -> str:
    if not a.any():
        return "a missing term: zero"
    if not o.any():
        return "not zero where it should be exactly zero,"
    scale = float(np.abs(o).max())
    factor = float(a @ o / (o @ o))
    if _alike(a, factor * o, abs(factor) * scale):
        return describe_factor(factor, sizes)
    if _alike(np.abs(a), np.abs(o), scale):
        return "the sign"
    off = a - o
    if len(a) > 1 and _alike(off, np.full_like(off, off[0]), 100 * float(np.abs(off).max())):
        return f"a constant {float(off.mean()):.6g} added"
    return ""


def describe_batches(ratios: dict[int, float], errors: dict[int, float], tolerance: float) -> str:
    """How a mistake depends on the batch size B.

    Parameters
    ----------
    ratios, errors : dict of int to float
        By batch size, along a random direction: the analytic derivative over the right one, and its error.
    tolerance : float
        An error that is none.
    """
    wrong = {size: ratio for size, ratio in ratios.items() if not errors[size] <= tolerance}
    if len(ratios) < 2 or not wrong or (set(wrong) == set(ratios) and len(set(ratios.values())) == 1):
        return ""
    larger = {size: ratio for size, ratio in ratios.items() if size > 1}
    for text, form in _FORMS.items():
        if all(isclose(ratio, form(size), rel_tol=1e-6) for size, ratio in larger.items()):
            return text
    if set(wrong) == set(ratios):
        return ""
    return f"right for batches of {', '.join(str(size) for size in ratios if size not in wrong)}"
