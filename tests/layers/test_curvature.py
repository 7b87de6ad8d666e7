"""First and second derivatives of a stack along each input, against Cauchy's integral of an independent forward."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from scratchvae.layers.activations import ACTIVATIONS
from scratchvae.layers.curvature import stack_curvature
from scratchvae.layers.stack import Layer, stack_forward
from tests.oracles.complex_step import assert_close_to_largest, cauchy_second_derivative, complex_step_vjp
from tests.oracles.layers import ACTIVATIONS as ORACLE


def make_layers(rng, activation, sizes=(3, 4, 4, 2)):
    """The last layer is linear, as a decoder's is."""
    names = [activation] * (len(sizes) - 2) + ["identity"]
    return [
        Layer(rng.standard_normal((m, n)), rng.standard_normal(n), ACTIVATIONS[name])
        for m, n, name in zip(sizes[:-1], sizes[1:], names, strict=True)
    ]


def plain(x, layers, activation):
    """One example (fan_in,), real or complex."""
    for i, layer in enumerate(layers):
        x = (x[:, None] * layer.weight).sum(axis=0) + layer.bias
        x = ORACLE[activation](x) if i < len(layers) - 1 else x
    return x


@pytest.mark.equation("14.6")
def test_chain_rule_of_the_second_order():
    z = sympy.Symbol("z")
    a, phi = sympy.Function("a")(z), sympy.Function("phi")
    inner = sympy.Symbol("x")
    first, second = (sympy.diff(phi(inner), inner, order).subs(inner, a) for order in (1, 2))
    claimed = first * sympy.diff(a, z, 2) + second * sympy.diff(a, z) ** 2
    assert sympy.simplify((sympy.diff(phi(a), z, 2) - claimed).doit()) == 0


@pytest.mark.equation("14.7")
def test_second_derivatives_of_activations_in_terms_of_the_output():
    x = sympy.Symbol("x", real=True)
    sigmoid = 1 / (1 + sympy.exp(-x))
    claims = {
        sympy.tanh(x): lambda y: -2 * y * (1 - y**2),
        sigmoid: lambda y: y * (1 - y) * (1 - 2 * y),
        sympy.log(1 + sympy.exp(x)): lambda y: (1 - sympy.exp(-y)) * sympy.exp(-y),
    }
    for y, claimed in claims.items():
        difference = (sympy.diff(y, x, 2) - claimed(y)).rewrite(sympy.exp)
        assert sympy.simplify(difference) == 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_the_oracles(rng, activation):
    layers = make_layers(rng, activation)
    while True:  # with a kink on the circle, or beside it, the oracle would know nothing
        x = rng.standard_normal((4, 3))
        before = [
            cache.dense.x @ cache.dense.weight + layer.bias
            for cache, layer in zip(stack_forward(x, layers)[1], layers, strict=True)
        ]
        if activation not in ("relu", "leaky_relu") or min(np.abs(b).min() for b in before[:-1]) > 0.02:
            break
    y, slope, curvature = stack_curvature(x, layers)
    np.testing.assert_array_equal(y, stack_forward(x, layers)[0])
    assert slope.shape == curvature.shape == (3, 4, 2)
    for b in range(4):
        for d in range(2):
            (expected,) = complex_step_vjp(
                lambda one, d=d: np.asarray(plain(one, layers, activation)[d]), (x[b],), 1.0
            )
            np.testing.assert_allclose(slope[:, b, d], expected, rtol=1e-11)
    expected = np.empty((3, 4, 2))
    for i, b, d in np.ndindex(expected.shape):

        def along(t, i=i, b=b, d=d):
            moved = x[b].astype(complex)
            moved[i] = t
            return plain(moved, layers, activation)[d]

        expected[i, b, d] = cauchy_second_derivative(
            along, x[b, i], radius=1e-3 if "relu" in activation else 0.05
        )
    if activation in ("identity", "relu", "leaky_relu"):
        np.testing.assert_array_equal(curvature, 0)
        assert np.abs(expected).max() < 1e-7, "straight on either side of a kink"
    else:
        assert_close_to_largest(curvature, expected, 1e-10)
        assert np.abs(expected).min() > 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keeps_the_precision(rng, dtype):
    layers = [
        Layer(layer.weight.astype(dtype), layer.bias.astype(dtype), layer.activation)
        for layer in make_layers(rng, "softplus")
    ]
    for part in stack_curvature(rng.standard_normal((2, 3)).astype(dtype), layers):
        assert part.dtype == dtype
