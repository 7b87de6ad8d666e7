"""The Bernoulli likelihood: definition, two oracles, values by hand, far logits, and what grey pixels mean."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
import sympy

from scratchvae.densities.bernoulli import bernoulli_likelihood_backward, bernoulli_likelihood_forward
from tests.oracles import densities as oracle
from tests.oracles.complex_step import (
    COMPLEX_STEP_TOLERANCE,
    DIFFERENCE_TOLERANCE,
    assert_close_to_largest,
    assert_linear,
    complex_step_vjp,
    five_point_vjp,
    unchanged,
)

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])

a = sympy.symbols("a", real=True)
x = sympy.symbols("x", positive=True)
positive = sympy.symbols("p", positive=True)
negative = sympy.symbols("n", negative=True)
sigmoid = 1 / (1 + sympy.exp(-a))
softplus = sympy.log(1 + sympy.exp(a))
definition = x * sympy.log(sigmoid) + (1 - x) * sympy.log(1 - sigmoid)  # (3.1)


@pytest.mark.equation("3.2")
def test_stable_form_is_the_definition():
    stable = x * a - sympy.Max(a, 0) - sympy.log(1 + sympy.exp(-sympy.Abs(a)))
    for side in (positive, negative):
        # equal slopes in x and equal values at x = 0: both are linear in x. Logarithms are compared as numbers > 0.
        difference = (stable - definition).subs(a, side)
        assert sympy.expand(difference).diff(x, 2) == 0
        for pixel in (0, 1):
            here = {a: side, x: pixel}
            assert sympy.simplify(sympy.exp(stable.subs(here)) / sympy.exp(definition.subs(here))) == 1
    assert sympy.expand((stable - definition).subs(a, 0), log=True) == 0


@pytest.mark.equation("3.3")
def test_slope_in_the_logit():
    assert sympy.simplify(definition.diff(a) - (x - sigmoid)) == 0


@pytest.mark.equation("3.4")
def test_grey_pixels_have_no_density():
    mass = sympy.integrate(sympy.exp(x * positive) / (1 + sympy.exp(positive)), (x, 0, 1))
    claimed = sympy.tanh(positive / 2) / positive
    assert sympy.simplify((mass - claimed).rewrite(sympy.exp)) == 0
    assert sympy.limit(claimed, positive, 0) == sympy.Rational(1, 2)
    # tanh(t)/t falls for t > 0, since its slope has the sign of t − sinh(t) cosh(t) = t − sinh(2t)/2 < 0
    slope = claimed.diff(positive) * positive**2 * sympy.cosh(positive / 2) ** 2
    assert sympy.simplify((slope - (positive - sympy.sinh(positive)) / 2).rewrite(sympy.exp)) == 0

    # and the shipped function, integrated over grey values by Gauss–Legendre quadrature
    nodes, weights = np.polynomial.legendre.leggauss(40)
    for logit in (-7.0, -0.5, 3.0):
        grey = (nodes[:, np.newaxis] + 1) / 2
        log_value, _ = bernoulli_likelihood_forward(grey, np.full_like(grey, logit))
        np.testing.assert_allclose(weights / 2 @ np.exp(log_value), np.tanh(logit / 2) / logit, rtol=1e-12)


@pytest.mark.equation("3.5")
def test_grey_value_is_the_mean_over_binarizations():
    mean = x * definition.subs(x, 1) + (1 - x) * definition.subs(x, 0)
    assert sympy.simplify(mean - definition) == 0
    assert sympy.simplify(sympy.expand_log(mean - (x * a - softplus), force=True).diff(a)) == 0
    assert sympy.expand((mean - (x * a - softplus)).subs(a, 0), log=True) == 0

    # and the shipped function, over all binarizations of an image of four pixels
    grey, logits = np.array([0.1, 0.5, 0.85, 1.0]), np.array([[1.5, -0.3, 4.0, -2.0]])
    total = 0.0
    for bits in itertools.product([0.0, 1.0], repeat=4):
        b = np.array(bits)
        probability = np.prod(np.where(b == 1, grey, 1 - grey))
        total += probability * bernoulli_likelihood_forward(b[np.newaxis], logits)[0][0]
    np.testing.assert_allclose(bernoulli_likelihood_forward(grey[np.newaxis], logits)[0], [total], rtol=1e-14)


@pytest.mark.equation("3.6")
def test_best_value_of_a_grey_pixel():
    odds = sympy.symbols("o", positive=True)
    grey = odds / (1 + odds)  # any number in (0, 1)
    value = grey * a - softplus
    best = sympy.log(odds)
    assert sympy.simplify(sigmoid.subs(a, best) - grey) == 0
    assert sympy.simplify(value.diff(a).subs(a, best)) == 0
    assert sympy.simplify(value.diff(a, 2) + sigmoid * (1 - sigmoid)) == 0  # concave, so it is the maximum
    minus_entropy = grey * sympy.log(grey) + (1 - grey) * sympy.log(sympy.simplify(1 - grey))
    assert sympy.simplify(sympy.expand_log(value.subs(a, best) - minus_entropy)) == 0


@pytest.mark.equation("3.7")
def test_where_a_clipped_probability_has_no_gradient():
    clip, edge = sympy.Rational(1, 10**7), sympy.Dummy()
    (above,) = sympy.solve(sigmoid.subs(a, edge) - (1 - clip), edge)
    (below,) = sympy.solve(sigmoid.subs(a, edge) - clip, edge)
    claimed = sympy.log((1 - clip) / clip)
    assert sympy.simplify(above - claimed) == 0
    assert sympy.simplify(below + claimed) == 0
    assert round(float(claimed), 1) == 16.1
    clipped = sympy.Min(sympy.Max(sigmoid, clip), 1 - clip)
    for pixel in (0, 1):
        value = pixel * sympy.log(clipped) + (1 - pixel) * sympy.log(1 - clipped)
        for logit, gradient_is_lost in ((16, False), (17, True), (-16, False), (-17, True)):
            slope = value.diff(a).subs(a, logit).doit()
            assert (slope == 0) == gradient_is_lost


def _arguments(rng, examples, samples=3, pixels=4):
    """A third of the pixels 0, a third 1, a third grey."""
    x = rng.choice([0.0, 1.0, 2.0], (examples, pixels))
    x = np.where(x == 2, rng.uniform(size=x.shape), x)
    logits = rng.uniform(-5, 5, (samples, examples, pixels))
    return x, logits, rng.standard_normal((samples, examples))


@pytest.mark.parametrize("examples", [1, 2, 64])
def test_gradient_against_both_oracles(rng, examples):
    x, logits, dy = _arguments(rng, examples)
    y, cache = bernoulli_likelihood_forward(x, logits)
    assert_close_to_largest(y, oracle.bernoulli_likelihood(x, logits), 1e-14, "log_likelihood")
    (twin,) = complex_step_vjp(lambda logits: oracle.bernoulli_likelihood(x, logits), (logits,), dy)
    (shipped,) = five_point_vjp(lambda logits: bernoulli_likelihood_forward(x, logits)[0], (logits,), dy)
    for scale in (1e-3, 1.0, 1e3):
        dlogits = bernoulli_likelihood_backward(scale * dy, cache)
        assert_close_to_largest(dlogits, scale * twin, COMPLEX_STEP_TOLERANCE, "dlogits")
        assert_close_to_largest(dlogits, scale * shipped, DIFFERENCE_TOLERANCE, "dlogits")


def test_values_by_hand():
    # x a − log(1 + e^a), at 30 digits:  x = 1, a = 0.5: −0.474076984180106680872997…   (= −log(1 + e^−0.5))
    #   x = 0, a = −2: −0.126928011042972496443726…   x = 0, a = 3: −3.048587351573742058758925…
    #   x = ¼, a = −1: −¼ − 0.313261687518222834048995… = −0.563261687518222834048995…
    # and their sum, −4.212854034315044070124645…
    x, logits = np.array([[1.0, 0.0, 0.0, 0.25]]), np.array([[0.5, -2.0, 3.0, -1.0]])
    y, cache = bernoulli_likelihood_forward(x, logits)
    np.testing.assert_allclose(y, [-4.21285403431504407012], rtol=1e-11, atol=0)
    # x − 1 / (1 + e^−a)
    expected = [
        0.37754066879814543536,
        -0.11920292202211755594,
        -0.95257412682243321912,
        -0.01894142136999512075,
    ]
    np.testing.assert_allclose(
        bernoulli_likelihood_backward(np.ones(1), cache), [expected], rtol=1e-11, atol=0
    )
    # in nats, not bits: a fair coin costs log 2 = 0.693147180559945309417232…
    y, _ = bernoulli_likelihood_forward(np.ones((1, 3)), np.zeros((1, 3)))
    np.testing.assert_allclose(y, [-3 * 0.69314718055994530942], rtol=1e-15, atol=0)


def test_probabilities_of_all_images_add_up_to_one(rng):
    images = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    logits = np.broadcast_to(rng.uniform(-6, 6, 5), images.shape)
    y, _ = bernoulli_likelihood_forward(images, logits)
    np.testing.assert_allclose(np.exp(y).sum(), 1, rtol=1e-14)


@each_dtype
def test_far_logits(dtype):
    x = np.array([[0.0], [1.0], [0.0], [1.0], [0.25], [0.25]], dtype)
    logits = np.array([[-1e4], [1e4], [1e4], [-1e4], [1e4], [-1e4]], dtype)
    y, cache = bernoulli_likelihood_forward(x, logits)
    np.testing.assert_array_equal(y, [0, 0, -1e4, -1e4, -7500, -2500])
    dlogits = bernoulli_likelihood_backward(np.ones(6), cache)
    np.testing.assert_array_equal(dlogits[:, 0], [0, 0, -1, 1, -0.75, 0.25])


@each_dtype
@pytest.mark.parametrize("size", [17.0, 20.0, 50.0])
def test_a_confidently_wrong_pixel_keeps_its_cost_and_its_gradient(size, dtype):
    # A clipped probability would cost 16.1 nats here, with no gradient at all. (3.7)
    x, logits = np.array([[0.0], [1.0]], dtype), np.array([[size], [-size]], dtype)
    y, cache = bernoulli_likelihood_forward(x, logits)
    with mpmath.workdps(50):
        cost = float(-mpmath.log1p(mpmath.exp(size)))
        slope = float(1 / (1 + mpmath.exp(-size)))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y, [cost, cost], rtol=eps, atol=0)
    np.testing.assert_allclose(
        bernoulli_likelihood_backward(np.ones(2), cache)[:, 0], [-slope, slope], rtol=eps, atol=0
    )


def test_pixels_are_added_up_in_float64():
    # One pixel costs 2²⁴ nats, a thousand cost log 2 each: in float32, whose spacing there is 2, most would be lost.
    logits = np.zeros((1, 1001), np.float32)
    logits[0, 0] = 2.0**24
    y, _ = bernoulli_likelihood_forward(np.zeros_like(logits), logits)
    assert y.dtype == np.float64
    assert abs(y[0] + 2.0**24 + 1000 * np.log(2)) < 1e-4


@each_dtype
@pytest.mark.parametrize("samples", [None, 1, 3])
def test_shape_dtype_and_arguments_are_kept(rng, samples, dtype):
    x, logits, dy = _arguments(rng, 5, samples or 1)
    if samples is None:
        logits, dy = logits[0], dy[0]
    x, logits = x.astype(dtype), logits.astype(dtype)
    with unchanged(x, logits, dy):
        y, cache = bernoulli_likelihood_forward(x, logits)
        dlogits = bernoulli_likelihood_backward(dy, cache)
    assert y.shape == dy.shape
    assert y.dtype == np.float64
    assert dlogits.shape == logits.shape
    assert dlogits.dtype == dtype


def test_backward_is_linear_in_the_cotangent(rng):
    x, logits, dy = _arguments(rng, 5)
    _, cache = bernoulli_likelihood_forward(x, logits)
    assert_linear(lambda d: bernoulli_likelihood_backward(d, cache), dy, rng.standard_normal(dy.shape))
