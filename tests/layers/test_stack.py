"""Stacks of dense layers: the chain of backward passes against the composition that it belongs to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sympy

from scratchvae import kernels
from scratchvae.layers.activations import make_activation
from scratchvae.layers.stack import Layer, stack_backward, stack_forward
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

# Each activation is inside a stack, and last in one, at least once; no two layers of a stack have the same shape.
STACKS = {
    "tanh": (4, 3),
    "relu identity": (4, 5, 2),
    "softplus sigmoid": (4, 5, 2),
    "leaky_relu tanh identity": (4, 6, 5, 3),
    "sigmoid relu softplus": (4, 3, 5, 2),
    "identity leaky_relu relu": (4, 3, 5, 2),
}
each_stack = pytest.mark.parametrize("names", list(STACKS))


@pytest.mark.equation("1.9")
def test_chain_of_backward_passes_is_the_derivative_of_the_composition():
    # x_0 (2, 2) -> u_1 (2, 2) -> x_1 = φ_1(u_1) -> u_2 (2, 1) -> x_2 = φ_2(u_2), with any φ
    x0 = sympy.Matrix(2, 2, sympy.symbols("x:4"))
    weight1, bias1 = sympy.Matrix(2, 2, sympy.symbols("w:4")), sympy.Matrix(1, 2, sympy.symbols("b:2"))
    weight2, bias2 = sympy.Matrix(2, 1, sympy.symbols("v:2")), sympy.Matrix(1, 1, sympy.symbols("c:1"))
    cotangent = sympy.Matrix(2, 1, sympy.symbols("d:2"))
    rows = sympy.ones(2, 1)

    first, second, at = sympy.Function("phi1"), sympy.Function("phi2"), sympy.Dummy()

    def slope(function):
        return lambda u: function(at).diff(at).subs(at, u)

    u1 = x0 * weight1 + rows * bias1
    x1 = u1.applyfunc(first)
    u2 = x1 * weight2 + rows * bias2
    x2 = u2.applyfunc(second)
    loss = (cotangent.T * x2)[0]

    du2 = cotangent.multiply_elementwise(u2.applyfunc(slope(second)))
    dx1 = du2 * weight2.T
    du1 = dx1.multiply_elementwise(u1.applyfunc(slope(first)))
    claims = [
        (weight2, x1.T * du2),
        (bias2, rows.T * du2),
        (weight1, x0.T * du1),
        (bias1, rows.T * du1),
        (x0, du1 * weight1.T),
    ]
    for parameters, claimed in claims:
        for symbol, entry in zip(parameters, claimed, strict=True):
            assert sympy.expand((loss.diff(symbol) - entry).doit()) == 0, symbol


def _stack(rng, names, examples, dtype=np.float64):
    """Data, parameters and cotangent of a stack whose relus are all well away from their kinks."""
    sizes, activations = STACKS[names], names.split()
    while True:
        x = rng.standard_normal((examples, sizes[0]))
        parameters = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            parameters.append(rng.standard_normal((fan_in, fan_out)) / np.sqrt(fan_in))
            parameters.append(rng.standard_normal(fan_out))
        if oracle.distance_to_kinks(x, *parameters, activations=activations) > 2e-3:
            break
    dy = rng.standard_normal((examples, sizes[-1]))
    return x.astype(dtype), [parameter.astype(dtype) for parameter in parameters], dy.astype(dtype)


def _layers(names, parameters):
    return [
        Layer(weight, bias, make_activation(name))
        for weight, bias, name in zip(parameters[::2], parameters[1::2], names.split(), strict=True)
    ]


@each_stack
@pytest.mark.parametrize("examples", [1, 2, 64])
def test_gradients_against_both_oracles(rng, names, examples):
    x, parameters, dy = _stack(rng, names, examples)
    y, caches = stack_forward(x, _layers(names, parameters))

    def twin(*arguments):
        return oracle.stack(*arguments, activations=names.split())

    def shipped(x, *parameters):
        return stack_forward(x, _layers(names, parameters))[0]

    assert_close_to_largest(y, twin(x, *parameters), 1e-14, "y")
    exact = complex_step_vjp(twin, (x, *parameters), dy)
    # a shorter step than usual, for a step through several layers must not reach a kink
    differences = five_point_vjp(shipped, (x, *parameters), dy, step=2.0**-13)
    for scale in (1e-3, 1.0, 1e3):
        dx, gradients = stack_backward(scale * dy, caches)
        actual = [dx, *(gradient for pair in gradients for gradient in pair)]
        for position, (one, two, three) in enumerate(zip(actual, exact, differences, strict=True)):
            name = "dx" if position == 0 else f"d{('bias', 'weight')[position % 2]} {(position - 1) // 2}"
            assert_close_to_largest(one, scale * two, COMPLEX_STEP_TOLERANCE, name)
            assert_close_to_largest(one, scale * three, DIFFERENCE_TOLERANCE, name)


def test_values_by_hand():
    x = np.array([[1.0, -2.0]])
    first = Layer(np.array([[2.0, 0.0], [1.0, 3.0]]), np.array([1.0, 2.0]), make_activation("relu"))
    second = Layer(np.array([[5.0], [7.0]]), np.array([-4.0]), make_activation("identity"))
    # u₁ = (2 − 2 + 1, 0 − 6 + 2) = (1, −4); x₁ = (1, 0); y = 5 + 0 − 4 = 1
    y, caches = stack_forward(x, [first, second])
    np.testing.assert_array_equal(y, [[1.0]])
    # dy = 2: dx₁ = (10, 14); du₁ = (10, 0), for the second unit is off
    dx, ((dweight1, dbias1), (dweight2, dbias2)) = stack_backward(np.array([[2.0]]), caches)
    np.testing.assert_array_equal(dweight2, [[2.0], [0.0]])
    np.testing.assert_array_equal(dbias2, [2.0])
    np.testing.assert_array_equal(dweight1, [[10.0, 0.0], [-20.0, 0.0]])
    np.testing.assert_array_equal(dbias1, [10.0, 0.0])
    np.testing.assert_array_equal(dx, [[20.0, 10.0]])


@each_stack
def test_without_dx_all_other_gradients_are_the_same(rng, names):
    x, parameters, dy = _stack(rng, names, 5)
    _, caches = stack_forward(x, _layers(names, parameters))
    _, gradients = stack_backward(dy, caches)
    nothing, same_gradients = stack_backward(dy, caches, need_dx=False)
    assert nothing is None
    for pair, same_pair in zip(gradients, same_gradients, strict=True):
        for one, two in zip(pair, same_pair, strict=True):
            np.testing.assert_array_equal(one, two)


def test_an_empty_stack_is_the_identity(rng):
    x, dy = rng.standard_normal((2, 3, 4))
    y, caches = stack_forward(x, [])
    dx, gradients = stack_backward(dy, caches)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dx, dy)
    assert gradients == []
    assert stack_backward(dy, caches, need_dx=False) == (None, [])


@each_stack
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_arguments_are_kept(rng, names, dtype):
    x, parameters, dy = _stack(rng, names, 3, dtype)
    with unchanged(x, *parameters, dy):
        y, caches = stack_forward(x, _layers(names, parameters))
        with unchanged(y):
            dx, gradients = stack_backward(dy, caches)
    assert y.dtype == dx.dtype == dtype
    for (dweight, dbias), weight, bias in zip(gradients, parameters[::2], parameters[1::2], strict=True):
        assert dweight.dtype == dbias.dtype == dtype
        assert (dweight.shape, dbias.shape) == (weight.shape, bias.shape)


@each_stack
def test_backward_is_linear_in_the_cotangent(rng, names):
    x, parameters, dy = _stack(rng, names, 4)
    _, caches = stack_forward(x, _layers(names, parameters))

    def backward(dy):
        dx, gradients = stack_backward(dy, caches)
        return (dx, *(gradient for pair in gradients for gradient in pair))

    assert_linear(backward, dy, rng.standard_normal(dy.shape))


def test_an_example_does_not_depend_on_its_neighbours(rng):
    names = "leaky_relu tanh identity"
    x, parameters, dy = _stack(rng, names, 8)
    y, caches = stack_forward(x, _layers(names, parameters))
    dx, _ = stack_backward(dy, caches)
    for n in range(8):
        alone, alone_caches = stack_forward(x[n : n + 1], _layers(names, parameters))
        assert_close_to_largest(alone[0], y[n], 1e-14)
        assert_close_to_largest(stack_backward(dy[n : n + 1], alone_caches)[0][0], dx[n], 1e-13)


@pytest.mark.parametrize("need_dx", [False, True])
def test_the_gradient_of_data_is_not_computed_unless_it_is_needed(rng, monkeypatch, need_dx):
    products = []
    right = kernels.matmul_transposed_right
    monkeypatch.setattr(
        kernels,
        "matmul_transposed_right",
        lambda dy, weight: products.append(weight.shape) or right(dy, weight),
    )
    layers = [
        Layer(rng.standard_normal(shape), rng.standard_normal(shape[1]), make_activation("tanh"))
        for shape in ((4, 3), (3, 5), (5, 2))
    ]
    y, caches = stack_forward(rng.standard_normal((6, 4)), layers)
    stack_backward(np.ones_like(y), caches, need_dx=need_dx)
    assert products == [(5, 2), (3, 5), *[(4, 3)] * need_dx]
