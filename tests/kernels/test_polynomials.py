"""The polynomials: where their coefficients come from, how far they are off, and the identities they serve."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import sympy

from scratchvae.kernels.polynomials import FLOAT32, FLOAT64, Constants


def log_remainder(z: mpmath.mpf) -> mpmath.mpf:
    s = mpmath.sqrt(z)
    return 2 * (mpmath.atanh(s) / s - 1) / z


def scaled_sine(z: mpmath.mpf) -> mpmath.mpf:
    return mpmath.sin(mpmath.pi / 2 * mpmath.sqrt(z)) / mpmath.sqrt(z)


def cosine(z: mpmath.mpf) -> mpmath.mpf:
    return mpmath.cos(mpmath.pi / 2 * mpmath.sqrt(z))


def exponential_remainder(r: mpmath.mpf) -> mpmath.mpf:
    if abs(r) < mpmath.mpf(10) ** -20:  # where the difference would cancel
        return mpmath.mpf(1) / 2 + r / 6
    return (mpmath.expm1(r) - r) / r**2


def largest_s() -> mpmath.mpf:
    return (mpmath.sqrt(2) - 1) / (mpmath.sqrt(2) + 1)


# Function, interval, and the weight that turns an error of the polynomial into a relative one of its use.
POLYNOMIALS: dict[str, tuple[Callable, Callable, Callable]] = {
    "log": (log_remainder, lambda: (0, largest_s() ** 2), lambda z: z / 2),
    "sine": (scaled_sine, lambda: (0, mpmath.mpf(1) / 4), lambda z: 1 / scaled_sine(z)),
    "cosine": (cosine, lambda: (0, mpmath.mpf(1) / 4), lambda z: 1 / cosine(z)),
    "expm1": (
        exponential_remainder,
        lambda: (-mpmath.log(2) / 2, mpmath.log(2) / 2),
        lambda r: abs(r**2 / mpmath.expm1(r)) if r else 0,
    ),
}
each_polynomial = pytest.mark.parametrize("name", POLYNOMIALS)
each_precision = pytest.mark.parametrize("constants", [FLOAT32, FLOAT64], ids=["float32", "float64"])


def chebyshev_interpolation(function: Callable, interval: tuple, count: int) -> list[mpmath.mpf]:
    middle, radius = (interval[0] + interval[1]) / 2, (interval[1] - interval[0]) / 2
    nodes = [middle + radius * mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    powers = mpmath.matrix([[node**j for j in range(count)] for node in nodes])
    return list(mpmath.lu_solve(powers, mpmath.matrix([function(node) for node in nodes])))


@each_polynomial
@each_precision
def test_coefficients_interpolate_at_chebyshev_nodes(name: str, constants: Constants) -> None:
    function, interval, _ = POLYNOMIALS[name]
    coefficients = getattr(constants, name)
    with mpmath.workdps(60):
        expected = chebyshev_interpolation(function, interval(), len(coefficients))
        for coefficient, value in zip(coefficients, expected, strict=True):
            assert coefficient == type(coefficient)(mpmath.nstr(value, 30))


@each_polynomial
@each_precision
def test_polynomials_are_off_by_less_than_the_rounding(name: str, constants: Constants) -> None:
    function, interval, weight = POLYNOMIALS[name]
    coefficients = getattr(constants, name)
    with mpmath.workdps(50):
        low, high = interval()
        points = [low + (high - low) * mpmath.mpf(i) / 500 for i in range(1, 500)]
        polynomial = [mpmath.mpf(float(c)) for c in coefficients[::-1]]
        error = max(abs(weight(z) * (mpmath.polyval(polynomial, z) - function(z))) for z in points)
    assert error < 0.6 * float(np.finfo(type(constants.one)).eps) / 2


@each_precision
def test_log_two_is_split_so_that_multiples_are_exact(constants: Constants) -> None:
    with mpmath.workdps(50):
        high, low = (mpmath.mpf(float(part)) for part in (constants.log_two_high, constants.log_two_low))
        precision = np.finfo(type(constants.one)).nmant + 1
        assert abs(high + low - mpmath.log(2)) < mpmath.log(2) * mpmath.mpf(2) ** -(precision + 8)
        significant = int(high * 2**precision)
    assert significant & -significant >= 2**11, "high has 11 zero bits at its end"


@pytest.mark.equation("9.8")
def test_logarithm_of_the_mantissa() -> None:
    m, u = sympy.symbols("m u", positive=True)
    s = (m - 1) / (m + 1)
    assert sympy.simplify(sympy.diff(sympy.log(m) - 2 * sympy.atanh(s), m)) == 0
    assert (sympy.log(m) - 2 * sympy.atanh(s)).subs(m, 1) == 0
    assert sympy.expand_log(sympy.log(2**3 * u)) == 3 * sympy.log(2) + sympy.log(u)
    series = sympy.series(2 * sympy.atanh(u), u, 0, 8).removeO()
    assert (
        sympy.expand(series - (2 * u + u**3 * (sympy.Rational(2, 3) + sympy.Rational(2, 5) * u**2)))
        .as_poly(u)
        .degree()
        == 7
    )


@pytest.mark.equation("9.9")
def test_quarter_turns() -> None:
    x = sympy.Symbol("x", real=True)
    c, s = sympy.cos(sympy.pi * x / 2), sympy.sin(sympy.pi * x / 2)
    for quadrant, (cosine_, sine) in enumerate([(c, s), (-s, c), (-c, -s), (s, -c)]):
        angle = sympy.pi / 2 * (quadrant + x)
        assert sympy.simplify(sympy.expand_trig(sympy.cos(angle)) - cosine_) == 0
        assert sympy.simplify(sympy.expand_trig(sympy.sin(angle)) - sine) == 0


@pytest.mark.equation("9.10")
def test_exponential_by_powers_of_two() -> None:
    k, r = sympy.symbols("k r", real=True)
    x = k * sympy.log(2) + r
    assert sympy.simplify(sympy.exp(x) - 2**k * sympy.exp(r)) == 0
    assert sympy.simplify(2**k * (sympy.exp(r) - 1) + (2**k - 1) - (sympy.exp(x) - 1)) == 0


@pytest.mark.equation("9.11")
def test_tanh_by_expm1() -> None:
    x = sympy.Symbol("x", nonnegative=True)
    u = sympy.exp(2 * x) - 1
    assert sympy.simplify((u / (u + 2) - sympy.tanh(x)).rewrite(sympy.exp)) == 0
