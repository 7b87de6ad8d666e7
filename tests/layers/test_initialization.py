"""Initial weights: the variances that note 01 derives, exactly in theory and statistically in the code.

Each statistical test here compares a statistic whose distribution is known with its quantiles.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import sympy
from scipy import stats

from scratchvae.layers.activations import ACTIVATIONS
from scratchvae.layers.initialization import glorot_uniform, he_normal, initial_weight

SCHEMES = (glorot_uniform, he_normal)
each_scheme = pytest.mark.parametrize("scheme", SCHEMES)


def _expectation(function, *distributions):
    """Over independent discrete variables, each a list of (value, probability), exactly."""
    total = 0
    for combination in itertools.product(*distributions):
        probability = Fraction(1)
        for _, one in combination:
            probability *= one
        total += probability * function(*(value for value, _ in combination))
    return total


@pytest.mark.equation("1.5", "1.6")
def test_variance_after_a_layer_by_enumeration():
    # One weight: mean 0, variance 2, and skewed, so that nothing rests on symmetry. The inputs depend on each
    # other, differ in distribution and have means other than 0.
    weight = [(Fraction(-2), Fraction(1, 3)), (Fraction(1), Fraction(2, 3))]
    vectors = [((1, 4, 0), Fraction(1, 2)), ((2, -1, 3), Fraction(1, 3)), ((0, 5, 5), Fraction(1, 6))]
    variance = _expectation(lambda w: w**2, weight)
    assert _expectation(lambda w: w, weight) == 0
    second_moment = _expectation(lambda v: Fraction(sum(entry**2 for entry in v), 3), vectors)

    # y = xW with x (1, 3) and W (3, 2), for each output; and dx = dy Wᵀ with dy (1, 3) and W (2, 3), for each input
    for output in range(2):

        def forward(v, *w, output=output):
            return sum(v[i] * w[2 * i + output] for i in range(3))

        def backward(v, *w, output=output):
            return sum(v[j] * w[3 * output + j] for j in range(3))

        for signal in (forward, backward):
            assert _expectation(signal, vectors, *[weight] * 6) == 0
            actual = _expectation(lambda *a, signal=signal: signal(*a) ** 2, vectors, *[weight] * 6)
            assert actual == 3 * variance * second_moment


@pytest.mark.equation("1.7")
def test_glorot_bound():
    r, fan_in, fan_out, w = sympy.symbols("r m n w", positive=True)
    variance = sympy.integrate(w**2 / (2 * r), (w, -r, r))
    (bound,) = sympy.solve(variance - 2 / (fan_in + fan_out), r)
    assert sympy.simplify(bound - sympy.sqrt(6 / (fan_in + fan_out))) == 0


@pytest.mark.equation("1.8")
def test_he_variance():
    u, s, fan_in, variance = sympy.symbols("u s m V", positive=True)
    densities = [
        (sympy.exp(-(u**2) / (2 * s**2)) / (s * sympy.sqrt(2 * sympy.pi)), sympy.oo),  # normal
        (sympy.exp(-u / s) / (2 * s), sympy.oo),  # Laplace
        (1 / (2 * s), s),  # uniform
    ]
    for density, end in densities:
        # symmetric densities, written for u > 0
        after_relu = sympy.integrate(u**2 * density, (u, 0, end))
        left = sympy.Symbol("t", negative=True)
        before = sympy.integrate((u**2 * density).subs(u, -left), (left, -end, 0)) + after_relu
        assert sympy.simplify(after_relu - before / 2) == 0
        (kept,) = sympy.solve(fan_in * variance * after_relu - before, variance)  # (1.5)
        assert sympy.simplify(kept - 2 / fan_in) == 0


def _variance_is(chance, samples, variance, comparisons, planted):
    """χ², for normal samples of mean 0; the variance times `planted`, or over it, must be another."""
    low, high = chance.between(stats.chi2(samples.size, scale=variance), comparisons)
    found = np.sum(np.asarray(samples, dtype=np.float64) ** 2)
    assert low <= found <= high
    for wrong in (planted, 1 / planted):
        assert not low <= wrong * found <= high


# 60 000 weights: a variance that is wrong by 5 % is thirteen standard errors away for uniform ones, one that is wrong
# by 10 % seventeen for normal ones; fan_in and fan_out exchanged, or a factor 2, is more than a hundred away.
@pytest.mark.parametrize(("fan_in", "fan_out"), [(600, 100), (100, 600)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_glorot_weights(rng, chance, fan_in, fan_out, dtype):
    weight = glorot_uniform(fan_in, fan_out, rng, dtype)
    assert weight.shape == (fan_in, fan_out)
    assert weight.dtype == dtype
    bound = np.sqrt(6 / 700)
    assert np.abs(weight).max() <= bound * (1 + np.finfo(dtype).eps)
    of_one = 2 / 700
    squares = weight.reshape(-1, 1).astype(np.float64) ** 2
    # Of uniform weights Var[w²] = 4/5 Var[w]²; the library's test, and another for the whole distribution.
    chance.assert_unbiased(squares, [of_one], [0.8 * of_one**2], bias=0.05 * of_one, comparisons=2)
    assert chance.allows(stats.kstest(weight.ravel(), stats.uniform(-bound, 2 * bound).cdf).pvalue, 2)
    normal = rng.normal(scale=np.sqrt(of_one), size=weight.size)
    assert not chance.allows(stats.kstest(normal, stats.uniform(-bound, 2 * bound).cdf).pvalue, 2)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(600, 100), (100, 600)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_he_weights(rng, chance, fan_in, fan_out, dtype):
    weight = he_normal(fan_in, fan_out, rng, dtype)
    assert weight.shape == (fan_in, fan_out)
    assert weight.dtype == dtype
    _variance_is(chance, weight, 2 / fan_in, 2, planted=1.1)
    normal = stats.norm(scale=np.sqrt(2 / fan_in)).cdf
    assert chance.allows(stats.kstest(weight.ravel(), normal).pvalue, 2)
    uniform = np.sqrt(6 / fan_in) * rng.uniform(-1, 1, weight.size)
    assert not chance.allows(stats.kstest(uniform, normal).pvalue, 2)


def test_a_signal_through_relu_and_he_weights_keeps_its_variance(rng, chance):
    # Given x, the outputs are independent normals of variance Var[W] Σ x², so 4000 of them notice a variance that is
    # 1.23-fold with a probability above 0.999; a lost factor is 2-fold. The ratio of the variances, not given x, has a
    # standard error of about 0.08; by the Chernoff bound of 800 squares of rectified normals it leaves 1/1.85 to 1.85
    # in one of 10¹⁰ runs.
    u = rng.standard_normal((1, 800))
    for _ in range(3):
        x = np.maximum(u, 0)
        weight = he_normal(x.size, 4000, rng)
        y = (x.T * weight).sum(axis=0, keepdims=True)
        _variance_is(chance, y, 2 / x.size * np.sum(x**2), 4, planted=2)
        assert 1 / 1.85 < np.var(y) / np.var(u) < 1.85
        u = y[:, :800]


def test_which_scheme_stands_before_which_activation():
    for name in ACTIVATIONS:
        scheme = he_normal if name in ("relu", "leaky_relu") else glorot_uniform
        weight = initial_weight(30, 20, name, np.random.default_rng(5), np.float32)
        np.testing.assert_array_equal(weight, scheme(30, 20, np.random.default_rng(5), np.float32))
        assert weight.dtype == np.float32


@each_scheme
def test_randomness_is_an_argument(scheme):
    np.testing.assert_array_equal(scheme(4, 3, 7), scheme(4, 3, 7))
    np.testing.assert_array_equal(scheme(4, 3, 7), scheme(4, 3, np.random.default_rng(7)))
    assert (scheme(4, 3, 7) != scheme(4, 3, 8)).all()
    generator = np.random.default_rng(7)
    assert (scheme(4, 3, generator) != scheme(4, 3, generator)).all()
    assert (scheme(4, 3) != scheme(4, 3)).all()


@each_scheme
def test_both_precisions_are_the_same_draw(scheme):
    np.testing.assert_array_equal(scheme(4, 3, 7, np.float32), scheme(4, 3, 7, np.float64).astype(np.float32))
