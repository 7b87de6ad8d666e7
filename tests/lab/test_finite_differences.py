"""Differences: the formulas, the best step, and an error estimate that holds."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import sympy

from scratchvae.lab import finite_differences as module
from scratchvae.lab.finite_differences import difference, measured_noise, step_scale

X, H = sympy.symbols("x h", real=True)
# On a general polynomial of degree 7 Taylor expansions end.
COEFFICIENTS = sympy.symbols("c:8", real=True)
F = sympy.Lambda(X, sum(c * X**n for n, c in enumerate(COEFFICIENTS)))
ONE = (np.ones(()),)


def central(h):
    return (F(X + h) - F(X - h)) / (2 * h)


def five_point(k):
    return (8 * (F(X + k) - F(X - k)) - (F(X + 2 * k) - F(X - 2 * k))) / (12 * k)


def along(f):
    return lambda t: (np.asarray(f(t), dtype=np.float64),)


# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("18.1", "18.3", "18.6")
def test_truncation_errors():
    def error(formula, known):
        rest = sympy.expand(sympy.expand(formula) - known)
        return [sympy.expand(rest.coeff(H, power)) for power in range(6)] == [0] * 6

    d = [F(X).diff(X, n) if n else F(X) for n in range(6)]
    assert error(central(H), d[1] + H**2 / 6 * d[3] + H**4 / 120 * d[5])
    richardson = (4 * central(H / 2) - central(H)) / 3
    assert sympy.expand(richardson - five_point(H / 2)) == 0
    assert error(five_point(H), d[1] - H**4 / 30 * d[5])
    assert error(five_point(2 * H) - five_point(H), -sympy.Rational(15, 30) * H**4 * d[5])
    assert error(15 * (five_point(H) - d[1]), -sympy.Rational(15, 30) * H**4 * d[5])


@pytest.mark.equation("18.2", "18.4", "18.5")
def test_best_steps_minimise_the_bound_and_the_bound_holds():
    epsilon, third, fifth, k = sympy.symbols("epsilon M_3 M_5 k", positive=True)
    bound = third * k**2 / 6 + epsilon / k
    best = (3 * epsilon / third) ** sympy.Rational(1, 3)
    assert sympy.simplify(bound.diff(k).subs(k, best)) == 0
    assert sympy.simplify(bound.subs(k, best) - third * best**2 / 2) == 0
    assert sympy.simplify((third * best**2 / 2) ** 3 - 9 * epsilon**2 * third / 8) == 0
    assert bound.diff(k, 2).subs(k, best).is_positive is not False
    bound_of_five = fifth * k**4 / 30 + (8 * 2 + 2) * epsilon / (12 * k)
    best_of_five = (45 * epsilon / (4 * fifth)) ** sympy.Rational(1, 5)
    assert sympy.simplify(bound_of_five.diff(k).subs(k, best_of_five)) == 0
    assert sympy.simplify(bound_of_five.subs(k, best_of_five) - fifth * best_of_five**4 / 6) == 0
    numbers = {epsilon: 1e-15, third: 1, fifth: 1}
    values = [
        float(e.subs(numbers)) for e in (best, third * best**2 / 2, best_of_five, fifth * best_of_five**4 / 6)
    ]
    assert values == pytest.approx([1.4e-5, 1.0e-10, 1.6e-3, 1.1e-12], rel=0.05)
    # The bound, for sin, with roundings measured against 40 digits.
    with mpmath.workdps(40):
        for step in 2.0 ** -np.arange(4, 40, 3):
            points = 0.7 + step, 0.7 - step
            off = max(abs(mpmath.sin(point) - math.sin(point)) for point in points)
            found = (math.sin(points[0]) - math.sin(points[1])) / (2 * step)
            allowed = step**2 / 6 + (float(off) + 2.0**-53) / step
            assert abs(found - math.cos(0.7)) <= allowed + 2.0**-52


@pytest.mark.equation("18.7")
def test_the_bend_halves_with_the_step_or_stays():
    bend = sympy.expand((F(X + H) - 2 * F(X) + F(X - H)) / H)
    assert [bend.coeff(H, power) for power in (0, 2)] == [0, 0]
    assert sympy.expand(bend.coeff(H, 1) - F(X).diff(X, 2)) == 0
    jump = sympy.expand(2 * bend.subs(H, H / 2) - bend)
    assert [jump.coeff(H, power) for power in (0, 1, 2)] == [0, 0, 0]
    assert sympy.expand(jump.coeff(H, 3) + F(X).diff(X, 4) / 16) == 0
    left, right = sympy.symbols("l r", real=True)
    step = sympy.symbols("s", positive=True)
    kinked = (right * step + 3 * step**2 - left * step + 5 * step**2) / step
    assert sympy.limit(kinked, step, 0) == right - left
    assert sympy.expand(2 * kinked.subs(step, step / 2) - kinked - (right - left)).coeff(step, 0) == 0


@pytest.mark.parametrize("place", [0.0, 1e-12, 1e-9])
def test_a_small_kink_in_a_curved_function_is_not_taken_for_smooth(place):
    # The bend is mostly curvature, and the kink's slopes differ by a thousandth.
    def f(t):
        return math.exp(t) + 1e-3 * max(t - place, 0.0)

    found = difference(along(f), ONE, 1.0, 1e-8)
    assert found.error > 4e-4


@pytest.mark.equation("18.8")
def test_float32_and_float64_are_far_apart_after_a_tiny_move():
    move = sympy.Rational(1, 2**30)
    assert sympy.Rational(1, 2**53) / move == sympy.Rational(1, 2**23)
    assert sympy.Rational(1, 2**24) / move == 2**6
    tiny = 2.0**-30
    for x in np.linspace(0.3, 1.5, 40):
        slope = (np.sin(x + tiny) - np.sin(x - tiny)) / (2 * tiny)
        assert abs(slope - np.cos(x)) <= 2 * 2.0**-53 / tiny
        single = [float(np.float32(np.sin(x + sign * tiny))) for sign in (1, -1)]
        slope = (single[0] - single[1]) / (2 * tiny)
        assert slope == 0 or abs(slope) > 10, "it does not move, or jumps"
        assert abs(slope - np.cos(x)) <= 2.0**-24 / tiny + 1e-6


@pytest.mark.equation("18.10")
def test_what_two_second_differences_leave_is_noise():
    def second(h):
        return sympy.expand(F(X + h) - 2 * F(X) + F(X - h))

    left = sympy.expand(second(H) - second(4 * H) / 4)
    assert [left.coeff(H, power) for power in (0, 1, 3)] == [0, 0, 0]
    assert sympy.expand(left.coeff(H, 2) + 3 * F(X).diff(X, 2)) == 0
    # A kink with curved sides, its slopes b and a, and four values that are off by e, each to the worse side.
    a, b, h, e = sympy.symbols("a b h e", positive=True)
    kinked = sympy.expand((a + b) * h + 2 * h**2 - ((a + b) * 4 * h + 2 * (4 * h) ** 2) / 4)
    assert kinked == -6 * h**2
    assert sympy.expand(4 * e - (-4 * e) / 4) == 5 * e


@pytest.mark.parametrize("small", [1e-3, 1e-6, 1e-8])
def test_rounding_of_large_numbers_that_cancel_is_measured(small):
    # Each value is a multiple of the rounding of 30: far more than four roundings of itself.
    def f(t):
        return (30.0 + small * math.exp(t)) - 30.0

    (noise,) = measured_noise(along(f))
    assert 2.0**-49 <= noise <= 5 * 2.0**-49
    found = difference(along(f), ONE, 1.0, 0.0, (noise,))
    assert abs(found.value - small) <= found.error <= 1e-10


@pytest.mark.parametrize(
    "f",
    [math.exp, abs, lambda t: 1 + 1e-3 * abs(t), lambda t: math.exp(abs(t - 1e-8))],
    ids=["smooth", "kink", "small kink", "kink near by"],
)
def test_neither_curvature_nor_a_kink_is_taken_for_noise(f):
    (noise,) = measured_noise(along(f))
    assert noise <= 5 * 2.0**-52


@pytest.mark.equation("18.9")
def test_an_absolute_tolerance_is_passed_by_a_small_enough_loss():
    s, tolerance, g = sympy.symbols("s tau g", positive=True)
    factor = sympy.symbols("delta", positive=True)
    for delta in (factor, -factor):
        off = sympy.Abs(s * (1 + delta) * g - s * g)
        assert sympy.simplify(off.subs(s, tolerance / (factor * g)) - tolerance) == 0
        assert sympy.simplify(sympy.simplify(off).diff(s) - factor * g) == 0
    assert 1e-3 <= 1e-5 / (1 * 1e-2)


# --- the code ---------------------------------------------------------------------------------------------

SMOOTH = [
    (math.sin, math.cos, 0.7),
    (math.exp, math.exp, -2.0),
    (lambda x: x**5, lambda x: 5 * x**4, 3.0),
    (lambda x: math.tanh(30 * x), lambda x: 30 / math.cosh(30 * x) ** 2, 0.01),
    (lambda x: 1e-9 * math.sin(x), lambda x: 1e-9 * math.cos(x), 1.1),
    (math.log, lambda x: 1 / x, 0.003),
    (lambda x: math.sin(1e6 * x), lambda x: 1e6 * math.cos(1e6 * x), 3e-7),
]


@pytest.mark.parametrize(("f", "df", "x"), SMOOTH, ids=range(len(SMOOTH)))
def test_the_estimate_bounds_the_error_and_is_small(f, df, x):
    found = difference(along(lambda t: f(x + t)), ONE, step_scale(np.array([x])), 0.0)
    assert abs(found.value - df(x)) <= found.error
    assert found.error <= 1e-9 * abs(df(x))
    enough = difference(along(lambda t: f(x + t)), ONE, step_scale(np.array([x])), 1e-8 * abs(df(x)))
    assert abs(enough.value - df(x)) <= enough.error <= 1e-8 * abs(df(x))


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_steps_follow_the_scale_of_the_tensor(scale):
    x = 0.7 * scale
    found = difference(along(lambda t: math.sin((x + t) / scale)), ONE, scale, 1e-10 / scale)
    assert found.value == pytest.approx(math.cos(0.7) / scale, rel=1e-9)
    assert step_scale(np.zeros((2, 2))) == 1
    assert step_scale(np.array([[-3.0, 2.0]])) == 3


def test_what_does_not_move_is_exactly_zero():
    big = np.array([math.pi * 1e9, 0.0])
    found = difference(lambda t: (big + np.array([0.0, t**2 * 0]),), (np.ones(2),), 1.0, 0.0)
    assert (found.value, found.left, found.right) == (0, 0, 0)
    assert 1e-5 < found.error < 1e-2, "and what rounding can hide is told"
    found = difference(lambda t: (np.array([math.pi * 1e9, math.sin(t)]),), (np.ones(2),), 1.0, 0.0)
    assert abs(found.value - 1) <= found.error < 1e-10, "what does not move brings no rounding with it"


def test_a_derivative_below_rounding_is_not_believed():
    for slope in 10.0 ** -np.arange(10, 22):
        found = difference(along(lambda t, slope=slope: 1.7 + slope * t), ONE, 1.0, 0.0)
        assert abs(found.value - slope) <= found.error


def test_a_function_that_is_flat_at_a_distance_is_looked_at_from_near_by():
    # Steps that suit another entry of the tensor, ten orders of magnitude larger: all see the same nothing.
    found = difference(along(lambda t: math.tanh(0.3 + t)), ONE, 1e10, 1e-5)
    assert abs(found.value - 1 + math.tanh(0.3) ** 2) <= found.error <= 1e-5


def test_rounding_is_that_of_the_points_and_not_only_of_the_middle():
    # Far larger values a step away cancel, and what is left of them is rounding.
    found = difference(along(lambda t: 1 + 1e20 * (1e-20 + t) ** 2), ONE, 1.0, 0.0)
    assert abs(found.value - 2) <= found.error


def test_whatever_a_function_raises_beyond_its_domain_a_smaller_step_is_taken():
    def f(t):
        if abs(t) > 1e-4:
            raise RuntimeError("too far")
        return math.exp(t)

    found = difference(along(f), ONE, 1.0, 1e-8)
    assert abs(found.value - 1) <= found.error < 1e-8


@pytest.mark.parametrize("place", [0.0, 1e-9, 4e-7])
@pytest.mark.parametrize(
    "f", [lambda x: max(x, 0.0), abs, lambda x: max(x, 0.0) + math.sin(x)], ids=["relu", "abs", "bent"]
)
def test_a_kink_is_inconclusive_and_the_slopes_beside_it_are_told(f, place):
    found = difference(along(lambda t: f(place + t)), ONE, 1.0, 1e-9)
    assert found.error > 1e-3
    if place == 0:
        assert found.right - found.left == pytest.approx(1 + (f is abs), rel=1e-4)


@pytest.mark.parametrize("place", [1e-4, 3e-6])
def test_a_kink_that_is_a_little_away_is_avoided(place):
    found = difference(along(lambda t: max(place + t, 0.0) + math.exp(t)), ONE, 1.0, 1e-8)
    assert found.value == pytest.approx(2, abs=1e-8)
    assert found.error <= 1e-8


def test_noise_is_part_of_the_estimate(rng):
    # Values that are known to fifteen digits, of which a large constant takes most.
    for x in rng.random(20):
        found = difference(along(lambda t, x=x: 1e6 + math.sin(x + t)), ONE, 1.0, 0.0)
        assert 1e-11 < found.error < 1e-5
        assert abs(found.value - math.cos(x)) <= found.error


def test_pairs_of_points_are_evaluated_once():
    seen = []

    def outputs(t):
        seen.append(t)
        return (np.asarray(abs(t)),)

    difference(outputs, ONE, 1.0, 0.0)
    assert len(seen) == len(set(seen))
    assert len(seen) < 40


def test_the_first_step_is_near_the_best():
    best = (45 * 1e-15 / 4) ** 0.2
    assert best / 4 < module._LARGEST_STEP / 2 < 4 * best
    # and from the smallest on, rounding of one value near one is more than half of what a verdict allows
    assert 1e-15 / (module._SMALLEST_STEP / 4) < 5e-9 < 1e-15 / (module._SMALLEST_STEP / 16)
