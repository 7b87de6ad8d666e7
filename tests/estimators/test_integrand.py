"""An integrand answers with the right shapes or says what is wrong, and counts what it was asked."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.estimators import FunctionIntegrand, make_estimator


def quadratic():
    return FunctionIntegrand(lambda z: (z**2).sum(axis=-1), lambda z: 2 * z)


def test_counts_what_it_was_asked(rng):
    integrand = quadratic()
    z = rng.standard_normal((5, 2))
    integrand.value(z)
    assert (integrand.evaluations, integrand.differentiations) == (5, 0)
    value, gradient = integrand.value_and_gradient(z[:3])
    assert (integrand.evaluations, integrand.differentiations) == (8, 3)
    integrand.pull_back(np.ones(3))
    assert (integrand.evaluations, integrand.differentiations) == (8, 6)
    np.testing.assert_array_equal(value, (z[:3] ** 2).sum(axis=-1))
    np.testing.assert_array_equal(gradient, 2 * z[:3])


@pytest.mark.parametrize(
    ("name", "cost"),
    [
        ("pathwise", (7, 7)),
        ("score-function", (7, 0)),
        ("score-function-running-mean", (7, 0)),
        ("score-function-leave-one-out", (7, 0)),
    ],
)
def test_cost_of_each_estimator(rng, name, cost):
    integrand = quadratic()
    make_estimator(name).sample_gradients(integrand, np.zeros(2), np.zeros(2), rng.standard_normal((7, 2)))
    assert (integrand.evaluations, integrand.differentiations) == cost


def test_values_of_any_real_type_are_numbers(rng):
    z = rng.standard_normal((4, 2))
    for answer in (z[:, 0] > 0, (z[:, 0] > 0).astype(int), [1.0, 2.0, 3.0, 4.0]):
        value = FunctionIntegrand(lambda _, answer=answer: answer).value(z)
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value, np.asarray(answer, dtype=np.float64))


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (np.zeros(3), ValueError, "the result of f has shape (3,), expected (4,)"),
        (np.zeros((4, 1)), ValueError, "the result of f has shape (4, 1), expected (4,)"),
        (np.zeros((4, 2)), ValueError, "the result of f has shape (4, 2), expected (4,)"),
        (1.0, ValueError, "the result of f has shape (), expected (4,)"),
        (np.array([0.0, np.nan, 0.0, 0.0]), ValueError, "nan at index (1,)"),
        (np.zeros(4, dtype=complex), TypeError, "the result of f has dtype complex128"),
        (None, TypeError, "the result of f has dtype object"),
    ],
    ids=["too few", "column", "one per dimension", "one number", "nan", "complex", "nothing"],
)
def test_wrong_values_are_refused(answer, error, words):
    with pytest.raises(error) as caught:
        FunctionIntegrand(lambda _: answer).value(np.zeros((4, 2)))
    assert words in str(caught.value)


def test_wrong_gradients_are_refused():
    z = np.ones((4, 2))
    for answer, words in (
        (z[:, 0], "(4,), expected (4, 2)"),
        (z.T, "(2, 4), expected (4, 2)"),
        (z * np.inf, "inf at index (0, 0)"),
    ):
        integrand = FunctionIntegrand(lambda z: z[:, 0], lambda _, answer=answer: answer)
        with pytest.raises(ValueError, match="the result of gradient") as caught:
            integrand.value_and_gradient(z)
        assert words in str(caught.value)


def test_a_missing_gradient_is_asked_for():
    with pytest.raises(ValueError, match="pass gradient="):
        FunctionIntegrand(lambda z: z[:, 0]).value_and_gradient(np.ones((4, 2)))


def test_pulls_back_what_each_sample_weighs_in_the_gradient_s_precision(rng):
    integrand = quadratic()
    z = rng.standard_normal((4, 2))
    dvalue = rng.standard_normal(4)
    integrand.value(z)
    np.testing.assert_array_equal(integrand.pull_back(dvalue), dvalue[:, None] * (2 * z))
    integrand.value(z.astype(np.float32))
    assert integrand.pull_back(dvalue).dtype == np.float32


def test_second_derivatives_are_checked_and_asked_for(rng):
    z = rng.standard_normal((4, 2))

    def integrand(curvature):
        return FunctionIntegrand(lambda z: z[:, 0], hessian_diagonal=curvature)

    np.testing.assert_array_equal(integrand(lambda z: 6 * z).hessian_diagonal(z), 6 * z)
    with pytest.raises(
        ValueError, match=r"the result of hessian_diagonal has shape \(4,\), expected \(4, 2\)"
    ):
        integrand(lambda z: z[:, 0]).hessian_diagonal(z)
    with pytest.raises(ValueError, match="pass hessian_diagonal="):
        integrand(None).hessian_diagonal(z)


@pytest.mark.parametrize(
    ("arguments", "name"), [((3.0,), "f"), ((np.sin, "cos"), "gradient"), ((None,), "f")]
)
def test_what_is_no_function_is_refused(arguments, name):
    with pytest.raises(TypeError, match=f"^{name} is "):
        FunctionIntegrand(*arguments)
