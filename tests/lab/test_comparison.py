"""Comparing gradients with two oracles: what an error is measured against, and whom to believe."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.lab.comparison import Problem, check_directions, check_entries
from scratchvae.training.progress import Progress

BAR = Progress("comparing", 0, visible=False)
SMALL = 1e-6


def problem(analytic: list[float]) -> Problem:
    """100 + relu(w₀) + SMALL · w₁ + w₂² at w₀ = 0, in its kink, where the oracle's convention is a slope of 1.

    The large constant leaves differences along w₁ four to seven digits of the derivative, and ten of the largest.
    """
    point = {"w": np.array([0.0, 0.7, 0.25])}

    def shipped() -> tuple[np.ndarray, ...]:
        w = point["w"]
        return (np.asarray(100 + max(w[0], 0.0) + SMALL * w[1] + w[2] ** 2),)

    def oracle(_name: str, w: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.asarray(100 + w[0] + SMALL * w[1] + w[2] ** 2),)

    return Problem(
        point, {"": {"w": np.array(analytic)}}, (np.ones(()),), shipped, oracle, independent=True, sizes=()
    )


def test_differences_of_a_small_entry_are_measured_by_the_largest():
    # The kink takes the largest entry away from the differences; what is left of them is no more exact for it.
    check, errors = check_entries("w", problem([1.0, SMALL, 0.5]), np.array([0, 1]), BAR)
    assert check.passed, check
    assert check.inconclusive == 1
    assert check.finite_difference_error < 1e-8
    assert np.isnan(errors[2])


@pytest.mark.parametrize(
    ("analytic", "index"),
    [
        ([1.0, SMALL * (1 + 1e-4), 0.5], (1,)),
        ([1.0, SMALL, 0.5 * (1 + 1e-9)], (2,)),
        ([0.999, SMALL, 0.5], (0,)),
    ],
    ids=["small", "large", "in its kink"],
)
def test_the_complex_step_sees_what_differences_cannot(analytic, index):
    check, _ = check_entries("w", problem(analytic), np.arange(3), BAR)
    assert not check.passed
    assert check.worst_index == index
    assert check.finite_difference_error < 1e-8


def test_directions_are_measured_by_the_gradient_along_them(rng):
    right = problem([1.0, SMALL, 0.5])
    assert check_directions("w", right, 4, rng, BAR)[0].passed
    check, _ = check_directions("w", problem([1.0, SMALL * (1 + 1e-2), 0.5]), 4, rng, BAR)
    assert not check.passed


@pytest.mark.parametrize("slope", [0.0, 3.0], ids=["nothing moves", "another entry moves"])
@pytest.mark.parametrize("wrong", [1e-250, -1e-12])
def test_an_expected_zero_is_exactly_zero(slope, wrong):
    point = {"w": np.array([0.7, 0.25])}

    def shipped() -> tuple[np.ndarray, ...]:
        return (np.asarray(100 + slope * point["w"][0]),)

    def oracle(_name: str, w: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.asarray(100 + slope * w[0]),)

    for second, error in ((0.0, 0.0), (wrong, np.inf)):
        ways = {"": {"w": np.array([slope, second])}}
        zero = Problem(point, ways, (np.ones(()),), shipped, oracle, independent=True, sizes=())
        check, errors = check_entries("w", zero, np.arange(2), BAR)
        assert check.passed == (second == 0)
        assert errors[1] == error
