"""Checks at the door: each failure is one sentence that says which argument, what came, what was expected."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

__all__ = ["check_array", "check_choice", "check_integer", "check_number"]


def check_array(
    name: str,
    value: Any,
    *,
    shape: tuple[int | str, ...] | None = None,
    dtype: DTypeLike | None = None,
    low: float = -math.inf,
    high: float = math.inf,
    why: str = "",
) -> np.ndarray:
    """Return `value` as a finite floating-point array of the expected shape, or say what is wrong with it.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : array_like
        What the caller passed.
    shape : tuple of int or str, optional
        Expected sizes, such as `("B", 784)`; a letter stands for any size of at least one.
    dtype : dtype, optional
        float32 or float64 to convert to; by default float32 and float64 stay and the rest becomes float64.
    low, high : float
        Values must lie in [low, high].
    why : str
        What the domain is good for, added to the message about a value outside it.

    Returns
    -------
    ndarray
        Shape as expected.

    Raises
    ------
    TypeError
        If `value` is not an array of real numbers, or is one of bytes, which stand for pixels 0 to 255.
    ValueError
        If the shape, a value's finiteness or the domain is not as expected.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} is not a rectangular array of numbers: {error}") from None
    if array.dtype == np.uint8:
        raise TypeError(
            f"{name} holds bytes (uint8), expected numbers of type float32 or float64: convert pixels with "
            "scratchvae.pixels(...), which divides by 255"
        )
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} has dtype {array.dtype}, expected real numbers such as float32 or float64")
    if shape is not None:
        _check_shape(name, array, shape)
    if dtype is None:
        dtype = array.dtype if array.dtype in (np.float32, np.float64) else np.float64
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which the next check reports
        converted = array.astype(dtype, copy=False)
    _check_values(name, converted, low, high, why)
    return converted


def _check_shape(name: str, array: np.ndarray, shape: tuple[int | str, ...]) -> None:
    expected = "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
    fits = array.ndim == len(shape) and all(
        size >= 1 if isinstance(want, str) else size == want
        for size, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} has shape {array.shape}, expected {expected}")


def _check_values(name: str, array: np.ndarray, low: float, high: float, why: str) -> None:
    if array.size == 0:
        return
    # The extremes answer all three questions at once: a NaN makes both of them NaN.
    smallest, largest = float(array.min()), float(array.max())
    if not (math.isfinite(smallest) and math.isfinite(largest)):
        where = np.argwhere(~np.isfinite(array))[0]
        index = tuple(int(i) for i in where)
        raise ValueError(f"{name} has the value {array[index]} at index {index}, expected finite numbers")
    if smallest < low or largest > high:
        worst = smallest if smallest < low else largest
        reason = f": {why}" if why else ""
        raise ValueError(f"{name} has the value {worst:.9g}, expected values in [{low:g}, {high:g}]{reason}")


def check_integer(name: str, value: Any, *, low: int = 1) -> int:
    """Return `value` as an int of at least `low`, or raise TypeError or ValueError in one sentence."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected an integer of at least {low}")
    if value < low:
        raise ValueError(f"{name} is {value}, expected an integer of at least {low}")
    return int(value)


def check_number(
    name: str, value: Any, *, low: float = -math.inf, high: float = math.inf, above: float = -math.inf
) -> float:
    """Return `value` as a finite float in [low, high] and greater than `above`, or raise in one sentence."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}, expected a number")
    number = float(value)
    if not (math.isfinite(number) and low <= number <= high and number > above):
        bounds = [f"greater than {above:g}"] if above > -math.inf else []
        bounds += [f"at least {low:g}"] if low > -math.inf else []
        bounds += [f"at most {high:g}"] if high < math.inf else []
        expected = "a finite number" + (" " + " and ".join(bounds) if bounds else "")
        raise ValueError(f"{name} is {number:g}, expected {expected}")
    return number


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> Any:
    """Return `value` if it is one of `choices`, or raise a ValueError that lists them."""
    known = list(choices)
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in known):
        raise ValueError(f"{name} is {value!r}, expected one of: {', '.join(map(str, known))}")
    return value
