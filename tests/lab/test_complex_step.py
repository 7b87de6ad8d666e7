"""The complex step: exact where it holds, and caught where it does not."""

from __future__ import annotations

from fractions import Fraction
from math import sqrt

import mpmath
import numpy as np
import pytest
import sympy

from scratchvae.lab.complex_step import IMAGINARY_STEP, UNDERFLOW, complex_step, why_not_complex


def at(f, *x):
    """Outputs of f a step into the imaginary direction of its first argument."""
    return f(x[0] + 1j * IMAGINARY_STEP, *x[1:])


# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("19.1")
def test_the_step_along_a_direction_gives_the_directional_derivative():
    x, v = sympy.symbols("x:2", real=True), sympy.symbols("v:2", real=True)
    u, h = sympy.symbols("u:2", real=True), sympy.symbols("h", real=True)
    f = sympy.Matrix([x[0] ** 2 * x[1] ** 3, x[0] ** 3 - 2 * x[0] * x[1]])
    moved = f.subs({xi: xi + sympy.I * h * vi for xi, vi in zip(x, v, strict=True)}, simultaneous=True)
    found = sympy.expand(sympy.im(sympy.expand((sympy.Matrix([u]) * moved)[0])) / h)
    exact = (sympy.Matrix([u]) * f.jacobian(x) * sympy.Matrix(v))[0]
    assert sympy.expand(found.subs(h, 0) - exact) == 0
    assert found.coeff(h, 1) == 0


@pytest.mark.equation("19.2")
def test_products_carry_the_product_rule_along():
    a, b, c, d, h = sympy.symbols("a b c d h", real=True)
    product = sympy.expand((a + sympy.I * h * b) * (c + sympy.I * h * d))
    assert sympy.expand(sympy.im(product) / h - (a * d + b * c)) == 0
    assert sympy.expand(sympy.re(product) - (a * c - h**2 * b * d)) == 0


@pytest.mark.equation("19.3")
def test_the_error_of_a_sum_that_cancels_is_told(rng):
    for size in (2, 10, 1000):
        terms = rng.standard_normal(size)
        terms[-1] = -terms[:-1].sum()
        value, error = complex_step((1j * IMAGINARY_STEP * terms,), (np.ones(size),))
        exact = sum(map(Fraction, terms), Fraction(0))
        unit = 2.0**-53
        bound = size * unit / (1 - size * unit) * np.abs(terms).sum()
        assert abs(Fraction(value) - exact) <= Fraction(bound)
        assert abs(Fraction(value) - exact) <= Fraction(error)
        assert error > 1e-11 * abs(float(exact)), "nothing of it is to be believed"


@pytest.mark.equation("19.4")
def test_what_is_not_analytic_gives_a_wrong_number():
    x, h = sympy.symbols("x h", real=True, nonzero=True)
    assert sympy.simplify(sympy.im(sympy.Abs(x + sympy.I * h)) / h) == 0
    assert sympy.simplify(sympy.im(sympy.conjugate(x + sympy.I * h)) / h) == -1
    assert sympy.simplify(sympy.im((x + sympy.I * h) * sympy.conjugate(x + sympy.I * h)) / h) == 0
    vector = np.array([0.3, -1.2]) + 1j * IMAGINARY_STEP
    for wrong in (np.abs(vector), np.linalg.norm(vector), np.var(vector)):
        assert not np.imag(wrong).any()


@pytest.mark.equation("19.5")
def test_a_direction_misses_an_error_as_rarely_as_claimed(rng):
    e = rng.standard_normal(6)
    size = np.linalg.norm(e)
    inner = rng.standard_normal((200_000, 6)) @ e
    for threshold in (0.05, 0.5, 1.5):
        exact = float(mpmath.erf(threshold / (sqrt(2) * size)))
        spread = sqrt(exact * (1 - exact) / len(inner))
        assert (np.abs(inner) <= threshold).mean() == pytest.approx(exact, abs=5 * spread)
        assert exact <= sqrt(2 / np.pi) * threshold / size
    # the figures of the note
    miss = sqrt(2 / np.pi) * 1e-11 / (1e-5 / sqrt(3e5))
    assert miss == pytest.approx(4e-4, rel=0.15)
    assert miss**8 < 1e-26


@pytest.mark.equation("19.6")
def test_noise_scaled_by_the_variance_passes_differences_and_fails_a_moment():
    mean, log_var, noise = sympy.symbols("mu l epsilon", real=True)
    z = mean + sympy.exp(log_var) * noise
    assert z.diff(log_var) == sympy.exp(log_var) * noise
    density = sympy.exp(-(noise**2) / 2) / sympy.sqrt(2 * sympy.pi)
    moment = sympy.integrate(sympy.expand((z - mean) ** 2) * density, (noise, -sympy.oo, sympy.oo))
    assert sympy.simplify(moment - sympy.exp(2 * log_var)) == 0
    assert sympy.solveset(sympy.exp(2 * log_var) - sympy.exp(log_var), log_var, sympy.S.Reals) == {0}


# --- the code ---------------------------------------------------------------------------------------------


def test_it_is_exact_to_rounding():
    for f, df in ((np.sin, np.cos), (np.exp, np.exp), (np.sqrt, lambda x: 0.5 / np.sqrt(x))):
        x = np.array([0.3, 2.0, 17.0])
        value, error = complex_step((at(f, x),), (np.ones(3),))
        assert abs(value - df(x).sum()) <= error < 1e-14 * df(x).sum()


def test_several_outputs_are_contracted():
    outputs = (np.array([1 + 2j * IMAGINARY_STEP, 3.0]), np.array(5j * IMAGINARY_STEP), np.ones(2))
    assert complex_step(outputs, (np.array([10.0, 1.0]), np.array(-1.0), np.ones(2)))[0] == 15


def test_derivatives_below_the_underflow_are_lost_and_those_above_are_not():
    for size in (1e3 * UNDERFLOW, 10 * UNDERFLOW):
        assert complex_step((np.array(1j * (size * IMAGINARY_STEP)),), (np.ones(()),))[0] == size


def _into_zeros(x):
    y = np.zeros(x.shape)
    y[...] = x
    return y


def _refuse(x):
    if np.iscomplexobj(x):
        raise ValueError("real numbers only\nand more")
    return x


REFUSED = {
    "cast": (lambda x: x.astype(np.float64) ** 2, "casts complex numbers to real ones"),
    "written into real numbers": (
        lambda x: np.add(x, 0, out=np.empty(x.shape)), "refuses complex numbers (UFuncTypeError",
    ),
    "put into real numbers": (_into_zeros, "casts complex numbers to real ones"),
    "logaddexp": (lambda x: np.logaddexp(0, x), "refuses complex numbers (TypeError"),
    "float": (lambda x: np.array([float(v) for v in x.tolist()]), "refuses complex numbers (TypeError"),
    "norm": (np.linalg.norm, "outputs are real for complex inputs"),
    "real part": (lambda x: x.real**2, "outputs are real for complex inputs"),
    "another branch": (lambda x: x + 1 * np.iscomplexobj(x), "another branch"),
    "another shape": (lambda x: x[:1] if np.iscomplexobj(x) else x, "other shapes"),
    "its own refusal": (_refuse, "(ValueError: real numbers only)"),
}  # fmt: skip


@pytest.mark.parametrize("how", REFUSED)
def test_it_says_why_there_is_none(how):
    f, words = REFUSED[how]
    x = np.array([0.3, -1.2])
    real = (np.asarray(f(x)),)
    assert words in why_not_complex(lambda: (f(x + 1j * IMAGINARY_STEP),), real)


@pytest.mark.parametrize(
    "f",
    [np.exp, lambda x: np.maximum(x, 0), lambda x: np.where(x.real > 0, x, 0.1 * x), lambda x: x @ x],
    ids=["exp", "maximum", "where", "product"],
)
def test_nothing_speaks_against_arithmetic_and_branches_on_real_parts(f):
    x = np.array([0.3, -1.2])
    assert why_not_complex(lambda: (f(x + 1j * IMAGINARY_STEP),), (np.asarray(f(x)),)) == ""
