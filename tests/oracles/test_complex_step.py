"""The oracles themselves: right on functions whose derivatives are known, and not to be fooled."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from tests.oracles.complex_step import (
    COMPLEX_STEP_TOLERANCE,
    DIFFERENCE_TOLERANCE,
    assert_close_to_largest,
    assert_linear,
    complex_step_vjp,
    five_point_vjp,
    unchanged,
)


@pytest.mark.equation("0.5", "0.6")
def test_backward_passes_chain_in_reverse_and_are_adjoints():
    x = sympy.Matrix(sympy.symbols("x:3", real=True))
    u = sympy.Matrix(sympy.symbols("u:2", real=True))
    t = sympy.Matrix(sympy.symbols("t:3", real=True))
    dy = sympy.Matrix(sympy.symbols("dy:4", real=True))
    inner = sympy.Matrix([x[0] * sympy.exp(x[1]), sympy.sin(x[1] * x[2]) + x[0] ** 2])
    outer = sympy.Matrix([u[0] * u[1], sympy.cos(u[0]), u[1] ** 3, u[0] - 2 * u[1]])
    inside = dict(zip(u, inner, strict=True))
    composed = outer.subs(inside)

    of_the_composition = composed.jacobian(x).T * dy
    in_two_passes = inner.jacobian(x).T * (outer.jacobian(u).T * dy).subs(inside)
    assert sympy.simplify(of_the_composition - in_two_passes) == sympy.zeros(3, 1)

    # The right side without any Jacobian: the derivative of the loss along x + s t.
    s = sympy.symbols("s")
    along = composed.subs(dict(zip(x, x + s * t, strict=True)), simultaneous=True)
    assert sympy.simplify((t.T * in_two_passes)[0] - (along.T * dy)[0].diff(s).subs(s, 0)) == 0


@pytest.mark.equation("0.7", "0.8")
def test_truncation_errors_of_both_oracles():
    x, h = sympy.symbols("x h", real=True)
    # a general polynomial of degree 6: on it the Taylor expansions end
    coefficients = sympy.symbols("c:7", real=True)
    f = sympy.Lambda(x, sum(c * x**n for n, c in enumerate(coefficients)))

    of_complex_step = sympy.im(sympy.expand(f(x + sympy.I * h))) / h
    error = sympy.expand(f(x).diff(x) - of_complex_step)
    assert sympy.expand(error.coeff(h, 2) - f(x).diff(x, 3) / 6) == 0
    assert error.coeff(h, 0) == error.coeff(h, 1) == error.coeff(h, 3) == 0

    of_five_points = (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h)
    error = sympy.expand(f(x).diff(x) - of_five_points)
    assert sympy.expand(error.coeff(h, 4) - f(x).diff(x, 5) / 30) == 0
    assert all(error.coeff(h, power) == 0 for power in (0, 1, 2, 3, 5))


@pytest.mark.parametrize(
    ("oracle", "tolerance"),
    [(complex_step_vjp, 1e-15), (five_point_vjp, 1e-11)],
    ids=["complex", "differences"],
)
def test_oracles_on_known_derivatives(oracle, tolerance):
    x, y = np.array([0.3, -1.1]), np.array([[0.7, 2.0]])

    def function(x, y):
        return np.exp(x) * y, (x**3).sum()

    dx, dy = oracle(function, (x, y), (np.array([[1.5, -2.0]]), np.array(0.25)))
    assert_close_to_largest(dx, np.array([1.5, -2.0]) * np.exp(x) * y[0] + 0.75 * x**2, tolerance)
    assert_close_to_largest(dy, np.array([[1.5, -2.0]]) * np.exp(x), tolerance)


def test_an_output_that_does_not_move_gives_exactly_zero():
    for oracle in (complex_step_vjp, five_point_vjp):
        (dx,) = oracle(
            lambda x: np.array([np.pi, 1e9]) + 0 * x[0] + x[1] ** 2, (np.array([0.1, 0.3]),), np.ones(2)
        )
        assert dx[0] == 0
        assert dx[1] != 0


@pytest.mark.parametrize("tolerance", [COMPLEX_STEP_TOLERANCE, DIFFERENCE_TOLERANCE])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_comparison_has_no_absolute_tolerance(tolerance, scale):
    expected = scale * np.array([[1.0, -3.0], [0.0, 2.0]])
    assert_close_to_largest(expected * (1 + 0.9 * tolerance), expected, tolerance)
    with pytest.raises(AssertionError, match=r"\[0, 1\]"):
        assert_close_to_largest(expected * (1 + 1.1 * tolerance), expected, tolerance)
    almost_zero = expected.copy()
    almost_zero[1, 0] = 1e-300
    with pytest.raises(AssertionError, match="exactly zero"):
        assert_close_to_largest(almost_zero, expected, tolerance)
    with pytest.raises(AssertionError):
        assert_close_to_largest(np.full(2, 1e-300), np.zeros(2), tolerance)
    with pytest.raises(AssertionError, match="shape"):
        assert_close_to_largest(expected[0], expected, tolerance)
    with pytest.raises(AssertionError, match="not finite"):
        assert_close_to_largest(expected * np.nan, expected, tolerance)


def test_linearity_and_mutation_are_noticed():
    dy, other = np.array([1.0, -2.0]), np.array([0.5, 3.0])
    assert_linear(lambda d: (3 * d, d.sum()), dy, other)
    for not_linear in (lambda d: d + 1e-9, lambda d: d**3, np.abs, lambda d: d / np.linalg.norm(d)):
        with np.errstate(invalid="ignore"), pytest.raises(AssertionError):
            assert_linear(not_linear, dy, other)
    with pytest.raises(AssertionError, match=r"\[1\]"), unchanged(other, dy):
        dy += 1e-15
