"""Adam: the claims of the note, three steps by hand, a hundred against an independent implementation."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import sympy

from scratchvae.training.adam import Adam

# --- the equations ----------------------------------------------------------------------------------------

BETA1, BETA2, EPSILON, RATE, G = sympy.symbols("beta1 beta2 epsilon alpha g", positive=True)


def moments(gradients, beta1=BETA1, beta2=BETA2):
    """(8.2), from zero."""
    first = second = sympy.Integer(0)
    for gradient in gradients:
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
    return first, second


def symbolic_step(gradients, epsilon=EPSILON):
    """θ_t − θ_{t−1} after the given gradients. (8.4)"""
    time = len(gradients)
    first, second = moments(gradients)
    return -RATE * (first / (1 - BETA1**time)) / (sympy.sqrt(second / (1 - BETA2**time)) + epsilon)


@pytest.mark.equation("8.3")
@pytest.mark.parametrize("time", [1, 2, 5])
def test_the_correction_makes_the_moments_unbiased(time):
    # Linear in g and in g²: expectations may be put in for the gradients one by one.
    gradients = sympy.symbols(f"g1:{time + 1}")
    mean, square = sympy.symbols("mean square")
    first, second = moments(gradients)
    expected_first = sympy.expand(first).subs(dict.fromkeys(gradients, mean))
    expected_second = sympy.expand(second).subs({gradient**2: square for gradient in gradients})
    assert sympy.simplify(expected_first - (1 - BETA1**time) * mean) == 0
    assert sympy.simplify(expected_second - (1 - BETA2**time) * square) == 0


@pytest.mark.equation("8.5")
def test_folded_form_is_the_same_update():
    first = sympy.Symbol("m", real=True)
    second, time = sympy.symbols("v t", positive=True)
    plain = RATE * (first / (1 - BETA1**time)) / (sympy.sqrt(second / (1 - BETA2**time)) + EPSILON)
    root = sympy.sqrt(1 - BETA2**time)
    folded = RATE * root / (1 - BETA1**time) * first / (sympy.sqrt(second) + EPSILON * root)
    # √(v / c) = √v / √c needs c > 0, which SymPy cannot know of 1 − β₂^t.
    correction = sympy.Symbol("c", positive=True)
    assert sympy.simplify((plain / folded).subs(1 - BETA2**time, correction)) == 1


@pytest.mark.equation("8.6", "8.10")
def test_the_first_step():
    correction = sympy.Symbol("c", positive=True)  # 1 − β₂
    step = symbolic_step([G]).subs(1 - BETA2, correction)
    assert sympy.simplify(step + RATE * G / (G + EPSILON)) == 0
    first, second = (moment.subs(BETA2, 1 - correction) for moment in moments([G]))
    unscaled = -RATE * sympy.sqrt(correction) / (1 - BETA1) * first / (sympy.sqrt(second) + EPSILON)
    assert sympy.simplify(unscaled + RATE * G / (G + EPSILON / sympy.sqrt(correction))) == 0


@pytest.mark.equation("8.9")
def test_steps_do_not_depend_on_the_scale():
    factor = sympy.Symbol("c", positive=True)
    gradients = sympy.symbols("g1:4", real=True)
    scaled = symbolic_step([factor * gradient for gradient in gradients], factor * EPSILON)
    plain = symbolic_step(list(gradients))
    values = dict(zip(gradients, map(sympy.Rational, ("1/3", "-2", "5/7")), strict=True))
    values |= {BETA1: sympy.Rational(9, 10), BETA2: sympy.Rational(999, 1000), EPSILON: sympy.Rational(1, 10)}
    assert sympy.simplify((scaled / plain).subs(values)) == 1
    # Not so if ε stays as it is.
    unscaled = symbolic_step([factor * gradient for gradient in gradients])
    assert sympy.simplify((unscaled / plain).subs(values)) != 1


def longest_step(time, beta1, beta2):
    """The bound on |θ_t − θ_{t−1}| / α."""
    series = mpmath.fsum((beta1**2 / beta2) ** j for j in range(time))
    return mpmath.sqrt((1 - beta1) ** 2 * (1 - beta2**time) / ((1 - beta2) * (1 - beta1**time) ** 2) * series)


def relative_step(gradients, beta1, beta2):
    """|θ_t − θ_{t−1}| / α for ε = 0, from (8.2) and (8.4)."""
    time = len(gradients)
    first, second = mpmath.mpf(0), mpmath.mpf(0)
    for gradient in gradients:
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
    return abs(first / (1 - beta1**time)) / mpmath.sqrt(second / (1 - beta2**time))


@pytest.mark.equation("8.7")
def test_the_longest_step(rng):
    with mpmath.workdps(50):
        beta1, beta2 = mpmath.mpf("0.9"), mpmath.mpf("0.999")
        for time in (1, 2, 7, 40):
            bound = longest_step(time, beta1, beta2)
            extremal = [(beta2 / beta1) ** i for i in range(time)]
            assert abs(relative_step(extremal, beta1, beta2) - bound) < mpmath.mpf(10) ** -45
            for _ in range(20):
                gradients = [mpmath.mpf(g) for g in rng.standard_normal(time).tolist()]
                assert relative_step(gradients, beta1, beta2) <= bound * (1 + mpmath.mpf(10) ** -45)
        limit = (1 - beta1) / mpmath.sqrt((1 - beta2) * (1 - beta1**2 / beta2))
        assert abs(longest_step(40_000, beta1, beta2) - limit) < 1e-15
        assert float(limit) == pytest.approx(7.27, abs=0.005)
        lone = relative_step([0] * 39_999 + [1], beta1, beta2)
        assert float(lone) == pytest.approx(3.16, abs=0.005)


# --- the shipped optimizer --------------------------------------------------------------------------------


def plain_adam(theta, gradients, learning_rates, beta1, beta2, epsilon):
    """(8.4) with numbers, one parameter at a time; the moments as the weighted sums that they are."""
    theta = list(theta)
    for entry in range(len(theta)):
        history = []
        for t, rate in enumerate(learning_rates, start=1):
            history.append(gradients[t - 1][entry])
            first = sum((1 - beta1) * beta1 ** (t - i) * g for i, g in enumerate(history, start=1))
            second = sum((1 - beta2) * beta2 ** (t - i) * g * g for i, g in enumerate(history, start=1))
            corrected = math.sqrt(second / (1 - beta2**t)) + epsilon
            theta[entry] -= rate * first / (1 - beta1**t) / corrected
    return theta


def test_three_steps_by_hand():
    # (8.4) in 40 digits. The second entry has gradients of the size of ε, the third is silent at first.
    theta = np.array([0.5, -1.0, 2.0])
    optimizer = Adam(theta, learning_rate=0.1)
    for gradient, expected in (
        ([0.3, 1e-8, 0.0], [0.40000000333333322, -1.05, 2.0]),
        ([-0.2, 2e-8, 0.0], [0.38554795092859671, -1.1091279894641719, 2.0]),
        ([0.5, -3e-8, 4.0], [0.32718779559383506, -1.1045750753632843, 1.9361186403366245]),
    ):
        optimizer.update(np.array(gradient))
        np.testing.assert_allclose(theta, expected, rtol=1e-11)
    assert optimizer.step == 3


def test_three_steps_by_hand_with_other_constants():
    theta = np.array([1.0, -1.0])
    optimizer = Adam(theta, learning_rate=0.2, beta1=0.5, beta2=0.75, epsilon=0.01)
    for gradient, first, second, expected in (
        ([1.0, 0.02], [0.5, 0.01], [0.25, 0.0001], [0.80198019801980198, -1.1333333333333333]),
        ([-2.0, 0.01], [-0.75, 0.01], [1.1875, 0.0001], [0.92264319712683009, -1.2394964516817293]),
        ([3.0, 0.03], [1.125, 0.02], [3.140625, 0.0003], [0.812788668341316, -1.378955194606181]),
    ):
        optimizer.update(np.array(gradient))
        np.testing.assert_allclose(optimizer.first_moment, first, rtol=1e-11)
        np.testing.assert_allclose(optimizer.second_moment, second, rtol=1e-11)
        np.testing.assert_allclose(theta, expected, rtol=1e-11)


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1.0, 1e3])
def test_hundred_steps_against_an_independent_implementation(rng, scale):
    gradients = scale * rng.standard_normal((100, 5))
    gradients[:, 0] *= rng.random(100) < 0.1  # an entry that is mostly silent
    rates = np.geomspace(1e-2, 1e-4, 100)  # and a learning rate that is set before each update
    theta = rng.standard_normal(5)
    expected = plain_adam(theta.tolist(), gradients.tolist(), rates.tolist(), 0.9, 0.999, 1e-8)
    optimizer = Adam(theta)
    for gradient, rate in zip(gradients, rates.tolist(), strict=True):
        optimizer.learning_rate = rate
        optimizer.update(gradient)
    np.testing.assert_allclose(theta, expected, rtol=0, atol=1e-12)


def test_defaults_are_the_paper_s():
    optimizer = Adam(np.ones(1))
    assert (optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (
        1e-3,
        0.9,
        0.999,
        1e-8,
    )


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_gradient_s_scale_does_not_matter(rng, factor):
    gradients = rng.standard_normal((20, 4))
    plain, scaled = np.zeros(4), np.zeros(4)
    one, other = Adam(plain, epsilon=1e-8), Adam(scaled, epsilon=factor * 1e-8)
    for gradient in gradients:
        one.update(gradient)
        other.update(factor * gradient)
    np.testing.assert_allclose(scaled, plain, rtol=1e-11)


def test_the_longest_step_is_reached():
    theta = np.zeros(1)
    optimizer = Adam(theta, learning_rate=1e-3, epsilon=1e-300)
    for i in range(300):
        before = theta.item()
        optimizer.update(np.array([(0.999 / 0.9) ** i]))
        bound = float(longest_step(i + 1, 0.9, 0.999))
        # The step is the difference of two parameters near one: twelve of its digits are left.
        assert before - theta.item() == pytest.approx(1e-3 * bound, rel=1e-10)


def test_zero_gradients_make_no_step():
    theta = np.array([1.0, -2.0])
    optimizer = Adam(theta)
    for _ in range(5):
        optimizer.update(np.zeros(2))
    np.testing.assert_array_equal(theta, [1.0, -2.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_changes_the_very_array_in_its_own_precision(dtype):
    parameters = np.ones((2, 3), dtype)
    theta = parameters.reshape(-1)
    optimizer = Adam(theta, learning_rate=0.5)
    gradient = np.full(6, 2.0)
    optimizer.update(gradient)
    assert optimizer.theta is theta
    np.testing.assert_allclose(parameters, 0.5, rtol=1e-6)
    np.testing.assert_array_equal(gradient, 2.0)
    assert optimizer.theta.dtype == optimizer.first_moment.dtype == optimizer.second_moment.dtype == dtype
    moments = optimizer.first_moment, optimizer.second_moment
    optimizer.update(gradient)
    assert optimizer.first_moment is moments[0]
    assert optimizer.second_moment is moments[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_long_vector_is_updated_entry_by_entry(rng, dtype):
    # Long enough for a kernel to share it out among threads; the pieces are not.
    start = rng.standard_normal(50_001).astype(dtype)
    whole, pieces = start.copy(), start.copy()
    one = Adam(whole)
    others = [Adam(piece) for piece in np.array_split(pieces, 11)]
    for _ in range(3):
        gradient = rng.standard_normal(start.size).astype(dtype)
        one.update(gradient)
        for other, piece in zip(others, np.array_split(gradient, 11), strict=True):
            other.update(piece)
        if one.step == 1:  # later an entry may be back where it was
            assert (whole != start).all()
    np.testing.assert_array_equal(whole, pieces)


def test_a_view_with_gaps_is_changed_in_place():
    buffer = np.zeros(10)
    optimizer = Adam(buffer[::2], learning_rate=0.5)
    optimizer.update(np.ones(10)[::2])
    np.testing.assert_allclose(buffer[::2], -0.5, rtol=1e-6)
    assert not buffer[1::2].any()


def test_single_precision_follows_double(rng):
    gradients = rng.standard_normal((100, 5))
    start = rng.standard_normal(5)
    single, double = start.astype(np.float32), start.copy()
    one, other = Adam(single), Adam(double)
    for gradient in gradients:
        one.update(gradient.astype(np.float32))
        other.update(gradient)
    # A hundred steps of 10⁻³, each rounded in the last place of a parameter near one.
    np.testing.assert_allclose(single, double, rtol=0, atol=100 * 2.0**-24 * 4)


def test_extreme_gradients_in_single_precision():
    theta = np.zeros(4, np.float32)
    optimizer = Adam(theta)
    for _ in range(3):
        optimizer.update(np.array([1e-30, -1e-20, 1e15, 1e-45], np.float32))
    assert np.isfinite(theta).all()
    assert theta[2] == pytest.approx(-3e-3, rel=1e-5)
    assert np.abs(theta[[0, 1, 3]]).max() < 1e-12


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"theta": [1.0]}, TypeError, "theta is of type list"),
        ({"theta": np.ones(2, int)}, TypeError, "expected an ndarray of float32 or float64"),
        ({"theta": np.float32(3)}, TypeError, "expected an ndarray of float32 or float64"),
        ({"theta": np.ones((2, 3))}, ValueError, "expected a writeable vector"),
        ({"theta": np.broadcast_to(1.0, 3)}, ValueError, "expected a writeable vector"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate is 0"),
        ({"learning_rate": -1e-3}, ValueError, "learning_rate is -0.001"),
        ({"learning_rate": np.inf}, ValueError, "learning_rate is inf"),
        ({"beta1": 1.0}, ValueError, "beta1 is 1"),
        ({"beta1": -0.1}, ValueError, "beta1 is -0.1"),
        ({"beta2": 1.0}, ValueError, "beta2 is 1"),
        ({"beta2": "0.999"}, TypeError, "beta2 is '0.999'"),
        ({"epsilon": 0.0}, ValueError, "epsilon is 0"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options, error, words):
    with pytest.raises(error) as caught:
        Adam(**({"theta": np.ones(2)} | options))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("gradient", "words"),
    [(np.ones(3), "(3,), expected (2,)"), (np.ones((2, 1)), "(2, 1)"), ([1.0, np.nan], "nan")],
)
def test_wrong_gradients_are_refused_and_change_nothing(gradient, words):
    theta = np.ones(2)
    optimizer = Adam(theta)
    with pytest.raises(ValueError, match="gradient has") as caught:
        optimizer.update(gradient)
    assert words in str(caught.value)
    np.testing.assert_array_equal(theta, 1.0)
    assert optimizer.step == 0
    assert not optimizer.first_moment.any()
