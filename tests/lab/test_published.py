"""Published settings: curves, crossings, and the map of reversals, each with what is known of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scratchvae.lab.published import (
    COMPARED,
    FAMILIES,
    crossing,
    published_curves,
    reversal_map,
    variances,
)
from tests.oracles import estimators as oracle


@pytest.mark.parametrize("family", FAMILIES)
def test_derivatives_are_those_of_the_value(family):
    # Complex step, twice: the second derivative as the first one of the gradient.
    chosen = FAMILIES[family]
    z, step = np.linspace(-2, 3, 11), 1e-30
    for k in (chosen.low, 0.5 * (chosen.low + chosen.high), chosen.high):
        for value, derivative in ((chosen.value, chosen.gradient), (chosen.gradient, chosen.curvature)):
            by_step = value(z + 1j * step, k).imag / step
            np.testing.assert_allclose(derivative(z, k), by_step, rtol=1e-12, atol=1e-300)


def test_curves_are_the_closed_forms():
    curves = published_curves(7)
    assert set(curves) == set(FAMILIES)
    names = dict(
        zip(
            COMPARED,
            ("score-function", "mean baseline", "optimal baseline", "pathwise", "measure-valued"),
            strict=True,
        )
    )
    for i, k in enumerate(curves["quadratic"].k.tolist()):
        table = oracle.quadratic_variances(1.0, 1.0, k)
        for estimator, label in names.items():
            claimed = [table[label, "mean"], 4 * table[label, "log_var"]]
            np.testing.assert_allclose(
                curves["quadratic"].variance[estimator][:, i], claimed, rtol=1e-9, atol=1e-20
            )
    for family, exact in (("cosine", oracle.cosine_variances), ("bell", oracle.bell_variances)):
        for i, k in enumerate(curves[family].k.tolist()):
            found = [curves[family].variance[name][0, i] for name in ("pathwise", "score-function")]
            np.testing.assert_allclose(found, exact(1.0, 1.0, k), rtol=1e-9)


def test_curves_have_the_published_range():
    for family, (low, high) in {"quadratic": (-3, 3), "bell": (0.1, 10), "cosine": (0.5, 5)}.items():
        k = published_curves(100, ("pathwise",), (family,))[family].k
        assert len(k) == 100
        assert (k[0], k[-1]) == pytest.approx((low, high), rel=1e-12)


def test_where_pathwise_loses():
    bell = crossing("bell", "pathwise", "score-function", 0.1, 10)
    cosine = crossing("cosine", "pathwise", "score-function", 0.5, 5)
    assert (bell, cosine) == pytest.approx((0.86995, 1.06378), abs=5e-6)
    # Among a hundred values in equal ratios, the first that lie beyond, as published.
    for family, at, first in (("bell", bell, 0.89), ("cosine", cosine, 1.08)):
        grid = FAMILIES[family].grid(100)
        assert grid[grid > at][0] == pytest.approx(first, abs=0.005)
    assert variances("cosine", 5.0, "pathwise")[0] == pytest.approx(12.5, abs=0.05)
    assert variances("cosine", 5.0, "score-function")[0] == pytest.approx(0.50, abs=0.005)


def test_where_the_mean_baseline_hurts():
    at = crossing("bell", "score-function-mean", "score-function", 0.1, 1.0, "deviation")
    for k, hurts in ((0.99 * at, False), (1.01 * at, True)):
        mean, none = (variances("bell", k, name)[1] for name in ("score-function-mean", "score-function"))
        assert (mean > none) == hurts


def test_the_map_of_reversals():
    k, deviation = np.array([0.5, 2.0, 5.0]), np.array([0.3, 1.0])
    found = reversal_map("cosine", k, deviation, "deviation", ("pathwise", "score-function"), mean=0.7)
    assert found.variance.shape == (2, 3, 2)
    quietest = found.quietest()
    assert quietest.shape == (3, 2)
    for (i, x), (j, y) in itertools.product(enumerate(k.tolist()), enumerate(deviation.tolist())):
        both = [variances("cosine", x, name, 0.7, y)[1] for name in found.estimators]
        np.testing.assert_array_equal(found.variance[:, i, j], both)
        assert quietest[i, j] == int(both[1] < both[0])
    assert set(quietest.ravel().tolist()) == {0, 1}, "there is a reversal to be seen"


def test_the_map_per_evaluation_charges_for_both_sides():
    # a² (16/π − 4) against 4 σ²: at a² = 2.9 σ² measure-valued is quieter, and twice its variance is not.
    found = reversal_map("quadratic", [1 - 2.9**0.5], [1.0], "mean", ("pathwise", "measure-valued"))
    assert found.quietest().tolist() == [[1]]
    assert found.quietest(per_evaluation=True).tolist() == [[0]]


def test_ties_go_to_the_one_named_first():
    # A baseline has nothing to take off a wave so fast that its mean is zero.
    names = ("score-function-optimal", "score-function")
    for order in (names, names[::-1]):
        found = reversal_map("cosine", [5.0], [3.0], "mean", order)
        assert found.quietest().tolist() == [[0]]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: variances("parabola", 1.0, "pathwise"),
            ValueError,
            "family is 'parabola', expected one of: quadratic",
        ),
        (lambda: variances("bell", 1.0, "pathwise", 0.0, 0.0), ValueError, "deviation is 0, expected"),
        (lambda: published_curves(0), ValueError, "points is 0, expected an integer of at least 1"),
        (lambda: published_curves(3, families=("x",)), ValueError, "families is 'x', expected one of"),
        (
            lambda: crossing("bell", "pathwise", "score-function", 2.0, 3.0),
            ValueError,
            "score-function is the quieter at both low=2 and high=3, expected a crossing",
        ),
        (
            lambda: crossing("bell", "pathwise", "score-function", 0.1, 0.2),
            ValueError,
            "pathwise is the quieter at both",
        ),
        (lambda: crossing("bell", "pathwise", "score-function", 3, 2), ValueError, "high is 2, expected"),
        (
            lambda: crossing("bell", "pathwise", "score-function", 0.1, 10, "sigma"),
            ValueError,
            "parameter is 'sigma', expected one of: mean, deviation",
        ),
        (lambda: reversal_map("bell", 1.0, [1.0]), ValueError, "k has shape (), expected (K,)"),
    ],
    ids=["family", "deviation", "points", "families", "both", "both too", "order", "parameter", "shape"],
)
def test_what_is_wrong_is_refused_in_one_sentence(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
