"""A derivative along a line from an imaginary step, and why there is none where there is none.

Derived in `derivations/19-complex_step.md`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np

from scratchvae.lab.finite_differences import Outputs

__all__ = ["IMAGINARY_STEP", "UNDERFLOW", "complex_step", "imaginary_step", "why_not_complex"]

# A power of two, so that dividing by it is exact; its square is lost beside 1, so that no truncation is left. (19.1)
IMAGINARY_STEP = 2.0**-100
_SMALLEST_STEP = 2.0**-900  # which leaves derivatives a hundred binary orders before they underflow
# Derivatives below this are lost: times the step they are no normal numbers any more.
UNDERFLOW = float(np.finfo(np.float64).tiny) / IMAGINARY_STEP
_ROUNDING = 4 * float(np.finfo(np.float64).eps)


def imaginary_step(tensor: np.ndarray, direction: np.ndarray | tuple[int, ...]) -> float:
    """h for x + i h v: small beside 1, and beside the smallest entry (but zeros) of the tensor that moves. (19.2)

    Parameters
    ----------
    tensor : ndarray
        x, of any shape.
    direction : ndarray or tuple of int
        v, in the shape of the tensor, or the index of the one entry that moves.

    Returns
    -------
    float
        A power of two.
    """
    if isinstance(direction, tuple):
        ratios = np.abs(np.atleast_1d(tensor[direction]))
    else:
        moves = (direction != 0) & (tensor != 0)
        ratios = np.abs(tensor[moves] / direction[moves])
    smallest = float(ratios[ratios > 0].min(initial=1.0))
    return max(IMAGINARY_STEP * 2.0 ** math.floor(math.log2(smallest)), _SMALLEST_STEP)


def complex_step(outputs: Outputs, cotangents: Outputs, step: float = IMAGINARY_STEP) -> tuple[float, float]:
    """d/dt of ⟨cotangents, f(x + t v)⟩ at t = 0, from the outputs f(x + i h v). (19.1)

    Parameters
    ----------
    outputs : tuple of ndarray
        Complex, of any shape, at the point that was moved by i h.
    cotangents : tuple of ndarray
        Shapes as of the outputs.
    step : float
        h, a power of two.

    Returns
    -------
    value, error : float
        The error is rounding alone: that of the sum over outputs, whose terms may cancel. (19.3)
    """
    value = size = 0.0
    for output, cotangent in zip(outputs, cotangents, strict=True):
        terms = cotangent * (np.imag(output) / step)
        value += float(terms.sum())
        size += float(np.abs(terms).sum())
    return value, _ROUNDING * size


def why_not_complex(call: Callable[[], Outputs], real: Outputs) -> str:
    """Why a function cannot be differentiated by an imaginary step; empty if nothing speaks against it.

    A function that takes an absolute value on the way passes unnoticed here: only differences tell. (19.4)

    Parameters
    ----------
    call : callable
        Evaluates the function at a point with imaginary parts.
    real : tuple of ndarray
        Its outputs, of any shape, at the real point.

    Returns
    -------
    str
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            outputs = call()
        except np.exceptions.ComplexWarning:
            return "it casts complex numbers to real ones"
        except Exception as error:  # noqa: BLE001 - a stranger's function may raise anything; it is told
            first_line = (str(error).splitlines() or [""])[0].strip()
            return f"it refuses complex numbers ({type(error).__name__}: {first_line[:120]})"
    if [np.shape(output) for output in outputs] != [output.shape for output in real]:
        return "its outputs have other shapes for complex numbers"
    if not any(np.iscomplexobj(output) for output in outputs):
        return "its outputs are real for complex inputs (it takes .real, an absolute value, a norm or a variance)"
    for output, expected in zip(outputs, real, strict=True):
        if np.abs(np.real(output) - expected).max(initial=0) > 1e-9 * np.abs(expected).max(initial=0):
            return "it takes another branch for complex numbers (its real part differs)"
    return ""
