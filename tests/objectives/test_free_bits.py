from __future__ import annotations

import numpy as np
import pytest
import sympy

from scratchvae.objectives.free_bits import free_bits_backward, free_bits_forward
from tests.oracles.complex_step import assert_close_to_largest, complex_step_vjp


def shortfall(mean, log_var, free_bits):
    """(26.1) from its definition, one number at a time; complex arguments are welcome. (26.2)"""
    total = np.zeros(())
    for i in range(mean.shape[1]):
        spent = sum(
            (mean[b, i] ** 2 + np.exp(log_var[b, i]) - 1 - log_var[b, i]) / 2 for b in range(len(mean))
        ) / len(mean)
        charged = spent if spent.real > free_bits else free_bits
        total = total + charged - spent
    return np.asarray(total)


def posterior(rng, batch=5):
    """Four dimensions whose KL grows from nearly nothing to several nats."""
    size = np.array([0.01, 0.3, 1.0, 3.0])
    return size * rng.standard_normal((batch, 4)), size * rng.standard_normal((batch, 4))


@pytest.mark.equation("26.2")
def test_the_maximum_is_the_kl_and_a_shortfall():
    allowed, spent = sympy.symbols("lambda m", real=True)
    for order in (allowed > spent, allowed < spent):
        difference = sympy.Max(allowed, spent) - spent - sympy.Max(allowed - spent, 0)
        piecewise = difference.rewrite(sympy.Piecewise)
        assert sympy.simplify(sympy.refine(piecewise, sympy.Q.is_true(order))) == 0


@pytest.mark.equation("26.3")
@pytest.mark.parametrize("batch", [1, 2, 64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_gradient_against_complex_step(batch, scale, rng):
    mean, log_var = posterior(rng, batch)
    free_bits = 0.1
    value, cache = free_bits_forward(mean, log_var, free_bits)
    assert value == pytest.approx(float(shortfall(mean, log_var, free_bits)), rel=1e-13)
    expected = complex_step_vjp(lambda m, v: shortfall(m, v, free_bits), (mean, log_var), np.asarray(scale))
    for actual, other in zip(free_bits_backward(scale, cache), expected, strict=True):
        assert_close_to_largest(actual, other, 1e-11)
    if batch == 64:  # some dimensions on either side, or nothing is tested
        assert 0 < cache.is_below.sum() < 4


def test_a_value_by_hand():
    """One example spends 2 nats and the other none: on average 1, which the maximum sees; not 2 and 0.5."""
    mean = np.array([[2.0, 0.0], [0.0, 0.0]])
    log_var = np.zeros((2, 2))
    assert free_bits_forward(mean, log_var, 0.5)[0] == 0.5  # the second dimension's alone
    assert free_bits_forward(mean, log_var, 1.5)[0] == 0.5 + 1.5


def test_at_the_allowance_itself_the_kl_is_charged():
    mean, log_var = np.full((3, 1), 1.0), np.zeros((3, 1))
    assert free_bits_backward(1.0, free_bits_forward(mean, log_var, 0.5)[1])[0].tolist() == [[0.0]] * 3


def test_single_precision_is_averaged_in_double_and_gradients_keep_it(rng):
    mean, log_var = (part.astype(np.float32) for part in posterior(rng, 64))
    value, cache = free_bits_forward(mean, log_var, 0.3)
    terms = (mean**2 + np.expm1(log_var) - log_var) / 2
    assert value == np.maximum(0.3 - terms.astype(np.float64).mean(axis=0), 0).sum()
    assert type(value) is float
    assert [gradient.dtype for gradient in free_bits_backward(1.0, cache)] == [np.float32, np.float32]
