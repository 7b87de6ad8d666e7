"""Gradient descent with momentum: three steps by hand, and in place."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from scratchvae.training.sgd import SGD


@pytest.mark.equation("8.8")
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_velocity_under_a_constant_gradient(steps):
    momentum, gradient = sympy.symbols("gamma g")
    velocity = sympy.Integer(0)
    for _ in range(steps):
        velocity = momentum * velocity + gradient
    assert sympy.simplify(velocity - (1 - momentum**steps) / (1 - momentum) * gradient) == 0


def test_three_steps_by_hand():
    theta = np.array([0.5, -1.0])
    optimizer = SGD(theta, learning_rate=0.1, momentum=0.9)
    # Velocities: (1, −2); (0.9 − 2, −1.8 + 0.5) = (−1.1, −1.3); (−0.99 + 3, −1.17 + 0) = (2.01, −1.17).
    for gradient, velocity, expected in (
        ([1.0, -2.0], [1.0, -2.0], [0.4, -0.8]),
        ([-2.0, 0.5], [-1.1, -1.3], [0.51, -0.67]),
        ([3.0, 0.0], [2.01, -1.17], [0.309, -0.553]),
    ):
        optimizer.update(np.array(gradient))
        np.testing.assert_allclose(optimizer.velocity, velocity, rtol=1e-11)
        np.testing.assert_allclose(theta, expected, rtol=1e-11)
    assert optimizer.step == 3


def test_without_momentum_it_has_no_memory():
    theta = np.array([1.0])
    optimizer = SGD(theta, learning_rate=0.5)
    for gradient, expected in ((1.0, 0.5), (-3.0, 2.0), (0.0, 2.0)):
        optimizer.update(np.array([gradient]))
        assert theta.item() == pytest.approx(expected, rel=1e-11)


def test_hundred_steps_against_an_independent_implementation(rng):
    gradients = rng.standard_normal((100, 5))
    theta = rng.standard_normal(5)
    optimizer = SGD(theta, learning_rate=0.01, momentum=0.9)
    # Unrolled: every earlier gradient acts on, weakened by a power of the momentum.
    expected = theta - 0.01 * sum(0.9 ** (t - i) * gradients[i] for t in range(100) for i in range(t + 1))
    for gradient in gradients:
        optimizer.update(gradient)
    np.testing.assert_allclose(theta, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_learning_rate_may_be_set_between_updates():
    theta = np.array([0.0])
    optimizer = SGD(theta, learning_rate=0.1, momentum=0.5)
    optimizer.update(np.array([1.0]))
    optimizer.learning_rate = 1.0
    optimizer.update(np.array([1.0]))  # velocity 1.5: the new rate applies to the whole of it
    assert theta.item() == pytest.approx(-1.6, rel=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_changes_the_very_array_in_its_own_precision(dtype):
    parameters = np.ones((2, 3), dtype)
    theta = parameters.reshape(-1)
    optimizer = SGD(theta, learning_rate=0.5, momentum=0.9)
    gradient = np.full(6, 2.0)
    optimizer.update(gradient)
    assert optimizer.theta is theta
    np.testing.assert_array_equal(parameters, 0.0)
    np.testing.assert_array_equal(gradient, 2.0)
    gradient[:] = 99.0  # the velocity is a copy
    np.testing.assert_array_equal(optimizer.velocity, 2.0)
    assert optimizer.theta.dtype == optimizer.velocity.dtype == dtype


def test_a_long_vector_is_updated_entry_by_entry(rng):
    # Long enough for a kernel to share it out among threads; the pieces are not.
    start = rng.standard_normal(50_001)
    whole, pieces = start.copy(), start.copy()
    one = SGD(whole, momentum=0.9)
    others = [SGD(piece, momentum=0.9) for piece in np.array_split(pieces, 11)]
    for _ in range(3):
        gradient = rng.standard_normal(start.size)
        one.update(gradient)
        for other, piece in zip(others, np.array_split(gradient, 11), strict=True):
            other.update(piece)
    np.testing.assert_array_equal(whole, pieces)
    assert (whole != start).all()


def test_a_view_with_gaps_is_changed_in_place():
    buffer = np.zeros(10)
    SGD(buffer[::2], learning_rate=0.5).update(np.ones(10)[::2])
    np.testing.assert_array_equal(buffer, [-0.5, 0.0] * 5)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"theta": [1.0]}, TypeError, "theta is of type list"),
        ({"theta": np.ones(2, int)}, TypeError, "expected an ndarray of float32 or float64"),
        ({"theta": np.float32(3)}, TypeError, "expected an ndarray of float32 or float64"),
        ({"theta": np.ones((2, 3))}, ValueError, "expected a writeable vector"),
        ({"theta": np.broadcast_to(1.0, 3)}, ValueError, "expected a writeable vector"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate is 0"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate is nan"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate is 'fast'"),
        ({"momentum": 1.0}, ValueError, "momentum is 1"),
        ({"momentum": -0.1}, ValueError, "momentum is -0.1"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options, error, words):
    with pytest.raises(error) as caught:
        SGD(**({"theta": np.ones(2)} | options))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("gradient", "words"),
    [(np.ones(3), "(3,), expected (2,)"), (np.ones((2, 1)), "(2, 1)"), ([1.0, np.nan], "nan")],
)
def test_wrong_gradients_are_refused_and_change_nothing(gradient, words):
    theta = np.ones(2)
    optimizer = SGD(theta, momentum=0.9)
    with pytest.raises(ValueError, match="gradient has") as caught:
        optimizer.update(gradient)
    assert words in str(caught.value)
    np.testing.assert_array_equal(theta, 1.0)
    assert optimizer.step == 0
    assert not optimizer.velocity.any()
