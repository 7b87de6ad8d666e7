"""Two numerical vector-Jacobian products, and what every gradient test asserts.

Nothing here knows scratchvae. Both oracles take a function from arrays to one array (or a tuple of
arrays), the point, and the cotangents of the outputs (one per output), and return one array per
argument. An entry that is to be zero comes out as exactly zero: differences and imaginary parts are
taken output by output, before the contraction with the cotangent, so that an output that does not
move contributes nothing, not a rounding error.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager

import numpy as np

# A power of two, so that dividing by it is exact; its square is lost beside 1, so no truncation error is left.
COMPLEX_STEP = 2.0**-100

# Near the fifth root of the rounding unit, where the truncation error h⁴ and the rounding error u/h meet.
DIFFERENCE_STEP = 2.0**-10

COMPLEX_STEP_TOLERANCE = 1e-11
DIFFERENCE_TOLERANCE = 1e-8


def _as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def complex_step_vjp(function, arguments, cotangents):
    """Im f(x + ih) / h, contracted with the cotangents: one forward per entry, correct to rounding. (0.7)

    `function` must accept complex arrays and must branch on real parts only.
    """
    cotangents = [np.asarray(cotangent, dtype=np.float64) for cotangent in _as_tuple(cotangents)]
    points = [np.asarray(argument, dtype=np.complex128) for argument in arguments]
    gradients = []
    for position, point in enumerate(points):
        gradient = np.zeros(point.shape)
        for index in np.ndindex(point.shape):
            moved = point.copy()
            moved[index] += 1j * COMPLEX_STEP
            outputs = _as_tuple(function(*points[:position], moved, *points[position + 1 :]))
            assert len(outputs) == len(cotangents), (len(outputs), len(cotangents))
            for output, cotangent in zip(outputs, cotangents, strict=True):
                assert np.shape(output) == cotangent.shape, (np.shape(output), cotangent.shape)
                gradient[index] += np.sum(cotangent * (np.imag(output) / COMPLEX_STEP))
        gradients.append(gradient)
    return gradients


def five_point_vjp(function, arguments, cotangents, step=DIFFERENCE_STEP):
    """(8 [f(x+h) - f(x-h)] - [f(x+2h) - f(x-2h)]) / 12h, contracted with the cotangents. (0.8)

    For forwards that accept real arrays only. The function has to be smooth within 2 `step` of the point.
    """
    cotangents = [np.asarray(cotangent, dtype=np.float64) for cotangent in _as_tuple(cotangents)]
    points = [np.asarray(argument, dtype=np.float64) for argument in arguments]
    gradients = []
    for position, point in enumerate(points):
        gradient = np.zeros(point.shape)
        for index in np.ndindex(point.shape):

            def outputs_at(offset, position=position, point=point, index=index):
                moved = point.copy()
                moved[index] += offset
                outputs = _as_tuple(function(*points[:position], moved, *points[position + 1 :]))
                return [np.array(output, dtype=np.float64) for output in outputs]

            points_around = (outputs_at(offset * step) for offset in (1, -1, 2, -2))
            for one_right, one_left, two_right, two_left, cotangent in zip(
                *points_around, cotangents, strict=True
            ):
                assert one_right.shape == cotangent.shape, (one_right.shape, cotangent.shape)
                slope = (8 * (one_right - one_left) - (two_right - two_left)) / (12 * step)
                gradient[index] += np.sum(cotangent * slope)
        gradients.append(gradient)
    return gradients


def extrapolated_vjp(function, arguments, cotangents):
    """The 5-point formula at two larger steps, whose h⁴ cancels: for functions with large fifth derivatives. (18.6)

    The function has to be smooth within 8 steps of the point.
    """
    step = 2 * DIFFERENCE_STEP
    fine = five_point_vjp(function, arguments, cotangents, step)
    coarse = five_point_vjp(function, arguments, cotangents, 2 * step)
    return [(16 * one - other) / 15 for one, other in zip(fine, coarse, strict=True)]


def assert_close_to_largest(actual, expected, tolerance, name="gradient"):
    """Largest error of the tensor <= tolerance times its largest entry; no absolute tolerance at all. (0.9)

    A tensor whose expectation is zero everywhere has to be zero everywhere, and so has a single
    entry whose expectation is exactly zero.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{name}: shape {actual.shape}, expected {expected.shape}"
    assert np.isfinite(expected).all(), f"{name}: the oracle itself is not finite"
    assert np.isfinite(actual).all(), f"{name}: not finite"
    if actual.size == 0:
        return
    error = np.abs(actual.astype(np.float64) - expected)
    largest = np.abs(expected).max()
    worst = np.unravel_index(np.argmax(error), error.shape)
    assert error[worst] <= tolerance * largest, (
        f"{name}{list(map(int, worst))}: {actual[worst]!r}, oracle {expected[worst]!r}; error {error[worst]:.3g} is "
        f"{error[worst] / largest if largest else np.inf:.3g} of the largest entry, {tolerance:g} allowed"
    )
    not_zero = (expected == 0) & (actual != 0)
    assert not not_zero.any(), (
        f"{name}: {int(not_zero.sum())} entries that are exactly zero in the oracle are not zero"
    )


@contextmanager
def unchanged(*arrays):
    """Inside the `with`, none of these arrays may change by a single bit."""
    before = [array.tobytes() for array in arrays]
    yield
    changed = [index for index, array in enumerate(arrays) if array.tobytes() != before[index]]
    assert not changed, f"arguments number {changed} were changed in place"


def assert_linear(backward, cotangent, other):
    """A backward pass is linear in the cotangent: doubling to the bit, addition to rounding, zero to zero."""
    single, second = _as_tuple(backward(cotangent)), _as_tuple(backward(other))
    doubled, added = _as_tuple(backward(2 * cotangent)), _as_tuple(backward(cotangent + other))
    nothing = _as_tuple(backward(np.zeros_like(cotangent)))
    for name, one, two, twice, total, zero in zip(
        itertools.count(), single, second, doubled, added, nothing, strict=False
    ):
        np.testing.assert_array_equal(
            twice, 2 * one, err_msg=f"gradient {name}: not twice for twice the cotangent"
        )
        assert np.abs(total - (one + two)).max() <= 1e-13 * np.abs(np.stack([one, two])).max(), (
            f"gradient {name}"
        )
        assert not np.any(zero), f"gradient {name}: not zero for a zero cotangent"


def cauchy_second_derivative(function, point, radius=0.05, count=24):
    """f″(x) = 2/(n r²) Σ f(x + r e^{iθ}) e^{−2iθ}: Cauchy's integral on a circle, for f analytic within it.

    No difference of nearby numbers: what is left is rounding of f over r². `point` is one number.
    """
    turns = np.exp(2j * np.pi * np.arange(count) / count)
    values = np.array([function(point + radius * turn) for turn in turns])
    return float(np.real(2 * (values / turns**2).mean() / radius**2))
