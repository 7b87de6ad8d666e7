"""The equations of `derivations/11-variance.md`, by enumeration and by symbols: no sampling."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import sympy

# Every draw is equally likely and is one of few, so that expectations are finite sums.
DRAWS = (-1.3, 0.2, 0.7, 2.1)


def one_example(draw: float, shift: float) -> np.ndarray:
    """The gradient (2, 3) of a weight for one example: input times delta, both moved by the draw."""
    inputs = np.array([1 + draw * shift, draw**2 - shift])
    delta = np.array([draw, shift - draw**3, np.cos(draw + shift)])
    return np.outer(inputs, delta)


@pytest.mark.equation("11.2")
def test_variances_of_examples_add() -> None:
    shifts = (0.4, -1.1, 2.0)
    together = [
        sum(one_example(d, s) for d, s in zip(draws, shifts, strict=True))
        for draws in product(DRAWS, repeat=3)
    ]
    one_at_a_time = sum(np.var([one_example(d, s) for d in DRAWS], axis=0) for s in shifts)
    np.testing.assert_allclose(np.var(together, axis=0), one_at_a_time, rtol=1e-12)


@pytest.mark.equation("11.3")
def test_the_second_moment_identity_is_the_sample_variance() -> None:
    draws = sympy.symbols("a:6 d:6", real=True)
    a, d = np.reshape(draws[:6], (3, 2)), np.reshape(draws[6:], (3, 2))  # three draws, 2 × 2 weights
    mean = a.T @ d / sympy.Integer(3)
    identity = ((a**2).T @ d**2 - 3 * mean**2) / 2
    for i, j in product(range(2), repeat=2):
        gradients = [a[s, i] * d[s, j] for s in range(3)]
        center = sum(gradients) / 3
        definition = sum((g - center) ** 2 for g in gradients) / 2
        assert sympy.simplify(identity[i, j] - definition) == 0


@pytest.mark.equation("11.4")
def test_inputs_without_noise_leave_the_variance_squared() -> None:
    inputs = np.array([[0.5, -2.0], [1.5, 0.3]])  # (B, fan_in)
    deltas = np.array([[[d, d**2], [np.sin(d), 1 - d]] for d in DRAWS])  # (S, B, fan_out)
    gradients = np.einsum("bi,sbj->sbij", inputs, deltas)
    definition = gradients.var(axis=0, ddof=1).sum(axis=0)
    np.testing.assert_allclose(
        (inputs**2).T @ deltas.var(axis=0, ddof=1).reshape(2, 2), definition, rtol=1e-12
    )


@pytest.mark.equation("11.5")
def test_the_backward_pass_of_the_mean_is_the_mean_of_backward_passes() -> None:
    j = sympy.Matrix(2, 3, sympy.symbols("j:6"))
    draws = [sympy.Matrix(sympy.symbols(f"d{s}_:2")) for s in range(3)]
    mean = sum(draws, sympy.zeros(2, 1)) / 3
    mean_of_passes = sum((j.T * d for d in draws), sympy.zeros(3, 1)) / 3
    assert sympy.simplify(j.T * mean - mean_of_passes) == sympy.zeros(3, 1)


@pytest.mark.equation("11.6")
def test_the_variance_per_sample_does_not_depend_on_the_group() -> None:
    values = [one_example(d, 0.4) for d in DRAWS]
    for k in (2, 3):
        means = [np.mean(group, axis=0) for group in product(values, repeat=k)]
        np.testing.assert_allclose(k * np.var(means, axis=0), np.var(values, axis=0), rtol=1e-12)


@pytest.mark.equation("11.7")
def test_the_spread_of_blocks_is_the_standard_error() -> None:
    # Blocks of two draws; all 4² equally likely blocks, and all 16³ triples of them.
    blocks = [np.var(pair, ddof=1) for pair in product(DRAWS, repeat=2)]
    triples = np.array(list(product(blocks, repeat=3)))
    variance_of_mean = triples.mean(axis=1).var()
    np.testing.assert_allclose(variance_of_mean, np.var(blocks) / 3, rtol=1e-12)
    np.testing.assert_allclose((triples.var(axis=1, ddof=1) / 3).mean(), variance_of_mean, rtol=1e-12)
    np.testing.assert_allclose(np.mean(blocks), np.var(DRAWS), rtol=1e-12)


@pytest.mark.equation("11.8")
def test_squares_of_estimates_add_up_to_the_trace() -> None:
    inputs = np.array([[0.5, -2.0], [1.5, 0.3]])  # (B, fan_in)
    deltas = np.array([[[d, d**2], [np.sin(d), 1 - d]] for d in DRAWS])  # (S, B, fan_out)
    centred = deltas - deltas.mean(axis=0)
    squares = ((1 + (inputs**2).sum(axis=1)) * (centred**2).sum(axis=2)).sum(axis=1)
    with_ones = np.concatenate(
        [inputs, np.ones((2, 1))], axis=1
    )  # the bias is the weight of a constant input
    gradients = np.einsum("bi,sbj->sbij", with_ones, deltas)
    trace = gradients.var(axis=0, ddof=1).sum()
    np.testing.assert_allclose(squares.mean() * len(DRAWS) / (len(DRAWS) - 1), trace, rtol=1e-12)


@pytest.mark.equation("11.9")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_second_moment_of_a_sum_is_a_sum_over_pairs(count: int) -> None:
    a, d = (sympy.symbols(f"{letter}:{count}", real=True) for letter in "ad")
    square = (sum(x * y for x, y in zip(a, d, strict=True)) / sympy.Integer(count)) ** 2
    pairs = [(k, m) for k in range(count) for m in range(k, count)]
    expanded = sum((2 - (k == m)) * a[k] * a[m] * d[k] * d[m] for k, m in pairs) / sympy.Integer(count) ** 2
    assert sympy.expand(square - expanded) == 0


@pytest.mark.equation("11.10")
def test_the_square_of_a_mean_exceeds_by_its_variance() -> None:
    means = np.array(
        [np.mean([one_example(d, 0.4) for d in draws], axis=0) for draws in product(DRAWS, repeat=3)]
    )
    truth = np.mean([one_example(d, 0.4) for d in DRAWS], axis=0)
    excess = (means**2).sum(axis=(1, 2)).mean() - means.var(axis=0).sum()
    np.testing.assert_allclose(excess, (truth**2).sum(), rtol=1e-12)


@pytest.mark.equation("11.11")
def test_the_law_of_total_variance() -> None:
    shifts = (0.4, -1.1, 2.0)  # the minibatches, one as likely as the other
    every = np.array([[one_example(d, s) for d in DRAWS] for s in shifts])
    parts = every.var(axis=1).mean(axis=0) + every.mean(axis=1).var(axis=0)
    np.testing.assert_allclose(every.reshape(-1, 2, 3).var(axis=0), parts, rtol=1e-12)


@pytest.mark.equation("11.12")
def test_variances_and_squares_come_from_one_covariance() -> None:
    gradients = np.array([[d, d**2 - 1, np.cos(d)] for d in DRAWS])  # (S, 2 L)
    jacobian = np.array([[0.5, -2.0], [1.5, 0.3], [-0.7, 1.1]])  # (2 L, fan_out)
    deltas = gradients @ jacobian
    covariance = np.cov(gradients.T)
    np.testing.assert_allclose(
        np.diag(jacobian.T @ covariance @ jacobian), deltas.var(axis=0, ddof=1), rtol=1e-12
    )
    centred = gradients - gradients.mean(axis=0)
    squares = ((deltas - deltas.mean(axis=0)) ** 2).sum(axis=1)
    metric = jacobian @ jacobian.T
    np.testing.assert_allclose([c @ metric @ c for c in centred], squares, rtol=1e-12)
