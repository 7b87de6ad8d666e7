"""Activations against their definitions, two oracles, values worked out by hand, kinks and far ends."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from scratchvae.layers.activations import ACTIVATIONS, LEAKY_SLOPE, make_activation
from tests.oracles import layers as oracle
from tests.oracles.complex_step import (
    COMPLEX_STEP_TOLERANCE,
    DIFFERENCE_TOLERANCE,
    assert_close_to_largest,
    assert_linear,
    complex_step_vjp,
    five_point_vjp,
    unchanged,
)

NAMES = ("identity", "relu", "leaky_relu", "tanh", "sigmoid", "softplus")
DTYPES = (np.float32, np.float64)
each_activation = pytest.mark.parametrize("name", NAMES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)

x = sympy.symbols("x", real=True)
positive = sympy.symbols("p", positive=True)
negative = sympy.symbols("n", negative=True)


def test_these_are_all():
    assert tuple(ACTIVATIONS) == NAMES
    assert all(make_activation(name).name == name for name in NAMES)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"'swish'.*identity, relu, leaky_relu, tanh, sigmoid, softplus"):
        make_activation("swish")


@pytest.mark.equation("2.2", "2.3")
def test_slopes_of_the_two_relus():
    slope = sympy.Rational(1, 100)
    for phi, left in ((sympy.Max(x, 0), 0), (sympy.Piecewise((x, x > 0), (slope * x, True)), slope)):

        def claimed(y, left=left):
            return sympy.Piecewise((1, y > 0), (left, True))

        for side in (positive, negative):
            assert sympy.simplify(phi.diff(x).subs(x, side) - claimed(phi.subs(x, side))) == 0
        # the policy: at the kink the derivative from the left
        assert sympy.limit((phi.subs(x, 0) - phi.subs(x, negative)) / -negative, negative, 0) == left
        assert claimed(phi.subs(x, 0)) == left
    assert float(slope) == LEAKY_SLOPE


@pytest.mark.equation("2.4", "2.6")
def test_slopes_of_tanh_and_sigmoid():
    y = sympy.tanh(x)
    assert sympy.simplify((y.diff(x) - (1 - y**2)).rewrite(sympy.exp)) == 0
    y = 1 / (1 + sympy.exp(-x))
    assert sympy.simplify(y.diff(x) - y * (1 - y)) == 0


@pytest.mark.equation("2.5", "2.7")
def test_stable_forms_are_the_functions():
    size = sympy.Abs(x)
    on_the_right = 1 / (1 + sympy.exp(-size))
    on_the_left = sympy.exp(-size) / (1 + sympy.exp(-size))
    sigmoid = 1 / (1 + sympy.exp(-x))
    assert sympy.simplify((on_the_right - sigmoid).subs(x, positive)) == 0
    assert sympy.simplify((on_the_left - sigmoid).subs(x, negative)) == 0

    softplus = sympy.log(1 + sympy.exp(x))
    stable = sympy.Max(x, 0) + sympy.log(1 + sympy.exp(-size))
    for side in (positive, negative):
        assert sympy.simplify((sympy.exp(stable) - sympy.exp(softplus)).subs(x, side)) == 0
    # where the branches meet
    assert on_the_right.subs(x, 0) == sigmoid.subs(x, 0)
    assert stable.subs(x, 0) == softplus.subs(x, 0)


@pytest.mark.equation("2.8")
def test_slope_of_softplus():
    y = sympy.log(1 + sympy.exp(x))
    assert sympy.simplify(y.diff(x) - (1 - sympy.exp(-y))) == 0
    assert sympy.simplify(y.diff(x) - 1 / (1 + sympy.exp(-x))) == 0


def _away_from_kinks(rng, shape):
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.05, 4, shape)


@each_activation
@pytest.mark.parametrize("examples", [1, 2, 64])
def test_gradients_against_both_oracles(rng, name, examples):
    activation = make_activation(name)
    x, dy = _away_from_kinks(rng, (examples, 3)), rng.standard_normal((examples, 3))
    y, cache = activation.forward(x)
    (twin,) = complex_step_vjp(oracle.ACTIVATIONS[name], (x,), dy)
    (shipped,) = five_point_vjp(lambda x: activation.forward(x)[0], (x,), dy)
    assert_close_to_largest(y, oracle.ACTIVATIONS[name](x), 1e-14, "y")
    for scale in (1e-3, 1.0, 1e3):
        dx = activation.backward(scale * dy, cache)
        assert_close_to_largest(dx, scale * twin, COMPLEX_STEP_TOLERANCE, "dx")
        assert_close_to_largest(dx, scale * shipped, DIFFERENCE_TOLERANCE, "dx")


# From the definitions at 25 digits: y, then the slope.
BY_HAND = {
    ("identity", -3.0): (-3.0, 1.0),
    ("identity", 0.75): (0.75, 1.0),
    ("relu", -3.0): (0.0, 0.0),
    ("relu", 0.75): (0.75, 1.0),
    ("leaky_relu", -3.0): (-0.03, 0.01),
    ("leaky_relu", 0.75): (0.75, 1.0),
    ("tanh", -3.0): (
        -0.9950547536867304513,
        0.0098660371654401912732,
    ),  # (e⁻³ − e³) / (e⁻³ + e³); 4 / (e³ + e⁻³)²
    ("tanh", 0.75): (0.63514895238728731921, 0.59658580828133142601),
    ("sigmoid", -3.0): (0.047425873177566781, 0.045176659730912132649),  # 1 / (1 + e³); e³ / (1 + e³)²
    ("sigmoid", 2.0): (0.88079707797788244406, 0.10499358540350651735),
    ("softplus", -3.0): (0.048587351573742058759, 0.047425873177566781),  # log(1 + e⁻³); 1 / (1 + e³)
    ("softplus", 2.0): (2.1269280110429724964, 0.88079707797788244406),
}


@pytest.mark.parametrize(("name", "x"), list(BY_HAND), ids=str)
def test_values_by_hand(name, x):
    activation = make_activation(name)
    y, cache = activation.forward(np.array([x]))
    value, slope = BY_HAND[name, x]
    np.testing.assert_allclose(y, [value], rtol=1e-11, atol=0)
    np.testing.assert_allclose(activation.backward(np.ones(1), cache), [slope], rtol=1e-11, atol=0)


@each_dtype
@pytest.mark.parametrize(("name", "left"), [("relu", 0.0), ("leaky_relu", 0.01)])
def test_slope_at_the_kink_is_the_one_from_the_left(name, left, dtype):
    activation = make_activation(name)
    tiniest = np.nextafter(dtype(0), dtype(1))
    x = np.array([0.0, -0.0, tiniest, -tiniest], dtype)
    y, cache = activation.forward(x)
    np.testing.assert_array_equal(y[:3], x[:3])
    dx = activation.backward(np.ones(4, dtype), cache)
    np.testing.assert_array_equal(dx, np.array([left, left, 1, left], dtype))
    # and that is what the shipped forward does on its way to 0
    step = dtype(2**-10)
    before = activation.forward(np.array([-step], dtype))[0]
    np.testing.assert_allclose((y[0] - before) / step, [left], rtol=4 * np.finfo(dtype).eps, atol=0)


# x -> (y, slope) at −10⁴ and +10⁴, correct to the last bit because the true values round to these.
FAR = {
    "identity": ((-1e4, 1.0), (1e4, 1.0)),
    "relu": ((0.0, 0.0), (1e4, 1.0)),
    "leaky_relu": ((-100.0, 0.01), (1e4, 1.0)),
    "tanh": ((-1.0, 0.0), (1.0, 0.0)),
    "sigmoid": ((0.0, 0.0), (1.0, 0.0)),
    "softplus": ((0.0, 0.0), (1e4, 1.0)),
}


@each_dtype
@each_activation
def test_far_ends_without_overflow(name, dtype):
    activation = make_activation(name)
    y, cache = activation.forward(np.array([-1e4, 1e4], dtype))
    slopes = activation.backward(np.ones(2, dtype), cache)
    expected = np.array(FAR[name])
    np.testing.assert_allclose(y, expected[:, 0], rtol=np.finfo(dtype).eps, atol=0)
    np.testing.assert_allclose(slopes, expected[:, 1], rtol=np.finfo(dtype).eps, atol=0)
    # A cotangent as large as a loss's gradient can become does not change that.
    assert np.isfinite(activation.backward(np.full(2, 1e30, dtype), cache)).all()


@each_dtype
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus"])
def test_accuracy_against_fifty_digits(name, dtype):
    activation = make_activation(name)
    magnitudes = [1e-8, 1e-4, 0.01, 0.3, 1, 3, 8, 15, 16.5, 17.5, 30, 36, 38, 80]
    x = np.array([sign * size for size in magnitudes for sign in (-1, 1)], dtype)
    y, cache = activation.forward(x)
    slopes = activation.backward(np.ones_like(x), cache)
    eps = float(np.finfo(dtype).eps)
    with mpmath.workdps(50):
        for at, value, slope in zip(x, y, slopes, strict=True):
            exact, true_slope = _exactly(name, mpmath.mpf(float(at)))
            assert abs(mpmath.mpf(float(value)) - exact) <= 5 * eps * abs(exact), (name, at)
            # sigmoid and tanh lose the distance from ±1 in rounding y: an absolute error, far right (and, for
            # tanh, far left). Everything else has full relative accuracy.
            lost = {"tanh": 2 * eps, "sigmoid": eps if at > 0 else 0.0, "softplus": 0.0}[name]
            assert abs(mpmath.mpf(float(slope)) - true_slope) <= 6 * eps * true_slope + lost, (name, at)


def _exactly(name, x):
    if name == "tanh":
        return mpmath.tanh(x), mpmath.sech(x) ** 2
    sigmoid = 1 / (1 + mpmath.exp(-x))
    if name == "sigmoid":
        return sigmoid, sigmoid / (1 + mpmath.exp(x))
    return mpmath.log1p(mpmath.exp(x)), sigmoid


@given(st.floats(-700, 700))
def test_symmetries(x):
    x = np.array([x, -x])
    for name in ("identity", "tanh"):
        y, _ = make_activation(name).forward(x)
        assert y[0] == -y[1]
    y, _ = make_activation("sigmoid").forward(x)
    assert ((y >= 0) & (y <= 1)).all()
    assert abs(y.sum() - 1) <= 2**-51  # σ(x) + σ(−x) = 1
    y, _ = make_activation("softplus").forward(x)
    assert (y >= np.maximum(x, 0)).all()
    assert abs((y[0] - y[1]) - x[0]) <= 2**-51 * max(abs(x[0]), 1)  # softplus(x) − softplus(−x) = x


@each_dtype
@each_activation
@pytest.mark.parametrize("shape", [(2, 3, 4), (5,), (1, 1), (0, 3)])
def test_shape_dtype_and_arguments_are_kept(rng, name, dtype, shape):
    activation = make_activation(name)
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    with unchanged(x, dy):
        y, cache = activation.forward(x)
        with unchanged(y):
            dx = activation.backward(dy, cache)
    assert y.shape == dx.shape == shape
    assert y.dtype == dx.dtype == dtype


@each_activation
def test_backward_is_linear_in_the_cotangent(rng, name):
    activation = make_activation(name)
    _, cache = activation.forward(rng.standard_normal((4, 3)))
    assert_linear(lambda d: activation.backward(d, cache), *rng.standard_normal((2, 4, 3)))


@each_activation
def test_the_output_is_the_cache(rng, name):
    y, cache = make_activation(name).forward(rng.standard_normal((4, 3)))
    assert cache is y
