"""A learned baseline: what the note claims, that the network learns it, and that it never sees its own sample."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import sympy

from scratchvae.estimators import FunctionIntegrand, make_estimator
from scratchvae.estimators.antithetic import Antithetic
from scratchvae.estimators.learned_baseline import (
    LearnedBaseline,
    squared_error_backward,
    squared_error_forward,
)
from scratchvae.lab.gradient_samples import gradient_samples
from scratchvae.lab.variance import gradient_variance
from scratchvae.training.loop import fit
from tests.models.cases import assert_refused, make_case
from tests.oracles import estimators as oracle
from tests.oracles.complex_step import (
    COMPLEX_STEP_TOLERANCE,
    assert_close_to_largest,
    assert_linear,
    complex_step_vjp,
)
from tests.oracles.quadrature import (
    gauss_hermite,
    gauss_hermite_product,
    symbolic_expectation,
    symbolic_variance,
)

A, DELTA, RATE = sympy.symbols("a delta eta", real=True)
DEVIATION = sympy.Symbol("sigma", positive=True)
NOISES = sympy.symbols("epsilon1:4", real=True)
NAME = "score-function-learned-baseline"


def assert_identical(one, other):
    assert sympy.simplify(one - other) == 0


def square(noise):
    return (A + DEVIATION * noise) ** 2


def scores(noise):
    return noise / DEVIATION, (noise**2 - 1) / 2


EXACT = (2 * A, DEVIATION**2)

# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("21.1")
def test_what_was_learned_from_earlier_samples_does_not_bias():
    # Any polynomial in an earlier sample's value and in a feature stands for the network.
    earlier, own = NOISES[:2]
    feature = sympy.Symbol("x", real=True)
    weights = sympy.symbols("psi:4", real=True)
    seen = square(earlier)
    baseline = weights[0] + weights[1] * feature * seen + weights[2] * seen**2 + weights[3] * feature**2
    for score, exact in zip(scores(own), EXACT, strict=True):
        found = symbolic_expectation(sympy.expand((square(own) - baseline) * score), earlier, own)
        assert_identical(found, exact)


@pytest.mark.equation("21.4")
def test_gradient_of_the_regression():
    samples, examples = 3, 2
    outputs = sympy.symbols(f"n:{examples}", real=True)
    targets = [sympy.symbols(f"t{s}_:{examples}", real=True) for s in range(samples)]
    loss = sum((outputs[b] - targets[s][b]) ** 2 for s in range(samples) for b in range(examples))
    for b in range(examples):
        claimed = (outputs[b] - sum(targets[s][b] for s in range(samples)) / samples) / examples
        assert_identical(sympy.diff(loss / (2 * samples * examples), outputs[b]), claimed)


@pytest.mark.equation("21.5")
def test_the_regression_aims_at_the_mean():
    noise, output = NOISES[0], sympy.Symbol("n", real=True)
    target = square(noise)
    expected = symbolic_expectation(sympy.expand((output - target) ** 2 / 2), noise)
    mean, spread = symbolic_expectation(target, noise), symbolic_variance(target, noise)
    assert_identical(expected, ((output - mean) ** 2 + spread) / 2)


@pytest.mark.equation("21.6")
def test_worth_is_the_variance_between_examples():
    # Three examples of their own distance from the target, the same σ; for log_var.
    distances, constant = sympy.symbols("a1:4", real=True), sympy.Symbol("c", real=True)
    noise = NOISES[0]
    score = scores(noise)[1]
    excess, best = 0, []
    for distance in distances:
        f = square(noise).subs(A, distance)
        best.append(symbolic_expectation(sympy.expand(f * score**2), noise) * 2)
        with_constant, with_best = (
            symbolic_variance(sympy.expand((f - b) * score), noise) for b in (constant, best[-1])
        )
        excess += (with_constant - with_best) / 3
    assert_identical(excess, sum((constant - b) ** 2 for b in best) / 6)
    average = sum(best) / 3
    spread = sum((b - average) ** 2 for b in best) / 3
    assert_identical(excess.subs(constant, average), spread / 2)
    assert_identical(excess - spread / 2, (constant - average) ** 2 / 2)  # the least there is


@pytest.mark.equation("21.7")
@pytest.mark.parametrize("num_samples", [1, 3])
def test_learning_before_use_shrinks_the_gradient(num_samples):
    noises, before = NOISES[:num_samples], sympy.Symbol("b", real=True)
    average = sum(square(noise) for noise in noises) / num_samples
    baseline = before - RATE * (before - average)
    for score, exact in zip(scores(noises[0]), EXACT, strict=True):
        found = symbolic_expectation(sympy.expand((square(noises[0]) - baseline) * score), *noises)
        assert_identical(found, (1 - RATE / num_samples) * exact)


@pytest.mark.equation("21.8")
def test_variances_with_a_prediction_that_is_off():
    noise = NOISES[0]
    baseline = A**2 + DEVIATION**2 + DELTA
    claims = (
        8 * A**2 + 6 * DEVIATION**2 + (DELTA - 2 * DEVIATION**2) ** 2 / DEVIATION**2,
        10 * A**2 * DEVIATION**2 + 6 * DEVIATION**4 + (DELTA - 4 * DEVIATION**2) ** 2 / 2,
    )
    for score, claim in zip(scores(noise), claims, strict=True):
        assert_identical(symbolic_variance(sympy.expand((square(noise) - baseline) * score), noise), claim)


# --- the network and its gradient -------------------------------------------------------------------------


def test_squared_error_and_its_gradient(rng):
    by_hand, _ = squared_error_forward(np.array([1.0, 2.0]), np.array([[0.0, 2.0], [3.0, 6.0]]))
    assert by_hand == 21 / 8
    assert type(by_hand) is float
    prediction, target = rng.standard_normal(4), rng.standard_normal((3, 4))
    _, cache = squared_error_forward(prediction, target)

    def loss(p):
        return np.asarray(sum((p[b] - t[b]) ** 2 for t in target for b in range(4)) / 24)

    (expected,) = complex_step_vjp(loss, (prediction,), 0.7)
    assert_close_to_largest(squared_error_backward(0.7, cache), expected, COMPLEX_STEP_TOLERANCE)
    assert_linear(lambda dloss: squared_error_backward(dloss, cache), np.float64(0.7), np.float64(-1.3))


class Quadratics:
    """f(z) = |z − k_b|² + level_b for each example b, which its features describe."""

    def __init__(self, features, targets, levels=0.0):
        self.features = features
        self.targets = targets  # (B, L)
        self.levels = levels
        self.evaluations = self.differentiations = 0

    def value(self, z):
        return ((z - self.targets) ** 2).sum(axis=-1) + self.levels

    def expected(self, mean, log_var):
        return ((mean - self.targets) ** 2 + np.exp(log_var)).sum(axis=-1) + self.levels


def call(estimator, integrand, rng, num_samples=2):
    batch, latent = integrand.targets.shape
    mean, log_var = np.zeros((batch, latent)), np.full((batch, latent), -1.0)
    noise = rng.standard_normal((num_samples, batch, latent))
    return estimator.sample_gradients(integrand, mean, log_var, noise)


def test_gradient_of_the_network_is_that_of_the_regression_loss(rng):
    integrand = Quadratics(rng.standard_normal((5, 3)), rng.standard_normal((5, 2)))
    estimator = LearnedBaseline(hidden=4, learning_rate=0.1)
    call(estimator, integrand, rng)  # away from the zeros of its start
    before = copy.deepcopy(estimator)
    mean, log_var = rng.standard_normal((5, 2)), np.zeros((5, 2))
    noise = rng.standard_normal((3, 5, 2))
    estimator.sample_gradients(integrand, mean, log_var, noise)

    values = integrand.value(mean + noise)
    weights = 0.05 * np.array([0.95, 1.0])  # of the two calls in the running moments
    earlier, second = before._running / 0.05, np.array([values.mean(), (values**2).mean()])
    level, square_level = (weights[0] * earlier + weights[1] * second) / weights.sum()
    targets = (values - level) / np.sqrt(square_level - level**2)

    def loss(theta):
        w0, b0, w1, b1 = np.split(theta, [12, 16, 20])
        hidden = np.tanh((integrand.features[:, :, None] * w0.reshape(3, 4)).sum(axis=1) + b0)
        output = (hidden * w1).sum(axis=1) + b1
        return np.asarray(((output - targets) ** 2).sum() / 30)

    (expected,) = complex_step_vjp(loss, (before.theta,), 1.0)
    assert_close_to_largest(estimator.gradient, expected, COMPLEX_STEP_TOLERANCE)
    np.testing.assert_allclose(estimator._level, level, rtol=1e-13)
    # Adam's second step, as its note writes it.
    moments = before._first_moment, before._second_moment
    first, second = 0.9 * moments[0] + 0.1 * expected, 0.999 * moments[1] + 0.001 * expected**2
    step = 0.1 * (first / (1 - 0.9**2)) / (np.sqrt(second / (1 - 0.999**2)) + 1e-8)
    np.testing.assert_allclose(estimator.theta, before.theta - step, rtol=1e-9, atol=1e-12)


def test_it_learns_what_f_is_expected_to_be(rng):
    # Eight examples at levels far apart, and noise within each: after some hundreds of calls it can tell them apart.
    features = np.eye(8)
    integrand = Quadratics(features, rng.standard_normal((8, 2)), -300 + 40 * rng.standard_normal(8))
    estimator = LearnedBaseline(hidden=20, learning_rate=0.02)
    for _ in range(500):
        call(estimator, integrand, rng)
    expected = integrand.expected(np.zeros((8, 2)), np.full((8, 2), -1.0))
    error = estimator.predict(features) - expected
    assert expected.std() > 15
    assert np.sqrt((error**2).mean()) < expected.std() / 8
    # And so its gradients are far quieter than those with a baseline that is the same for all examples.
    common = make_estimator("score-function-running-mean")
    for _ in range(50):
        call(common, integrand, rng)
    learned, running = (call(e, integrand, rng, 4000)[0].var(axis=0).sum() for e in (estimator, common))
    assert learned < running / 25


def test_before_it_has_learned_it_is_the_plain_score_function_then_a_running_mean(rng):
    integrand = Quadratics(rng.standard_normal((3, 2)), rng.standard_normal((3, 2)), 50.0)
    estimator = LearnedBaseline()
    first, plain = (
        call(e, integrand, np.random.default_rng(3)) for e in (estimator, make_estimator("score-function"))
    )
    np.testing.assert_array_equal(first, plain)
    spread = np.ptp(estimator.predict(integrand.features))
    assert spread < 1.0, "one step from an output layer of zeros"
    assert np.abs(estimator.predict(integrand.features) - 52).max() < 6


def test_without_features_they_are_mean_and_log_var(rng):
    known = oracle.quadratic(0.0)
    mean, log_var = rng.standard_normal((2, 3, 2))
    noise = rng.standard_normal((4, 3, 2))
    estimator = LearnedBaseline(hidden=5, learning_rate=0.1)
    integrand = FunctionIntegrand(lambda z: known.value(z).reshape(z.shape[:-1]))
    for _ in range(3):
        estimator.sample_gradients(integrand, mean, log_var, noise)
    features = np.hstack([mean, log_var])
    baseline = estimator.predict(features)
    assert np.ptp(baseline) > 0.01, "it tells the examples apart"
    value = integrand.value(mean + np.exp(log_var / 2) * noise)
    dmean, _ = estimator.sample_gradients(integrand, mean, log_var, noise)
    expected = (value - baseline)[..., None] * noise * np.exp(-log_var / 2)
    np.testing.assert_allclose(dmean, expected, rtol=1e-11)


def test_an_integrand_that_does_not_vary_has_the_unit_one():
    # With this decay the running moments are exact: 2 and 4, and their variance zero.
    estimator = LearnedBaseline(hidden=2, decay=0.5)
    integrand = FunctionIntegrand(lambda z: np.full(z.shape[:-1], 2.0))
    at = np.array([0.3, 1.0]), np.array([-0.2, 0.4])
    estimator.sample_gradients(integrand, *at, np.ones((4, 2)))
    assert (estimator._level, estimator._scale) == (2.0, 1.0)
    for gradient in estimator.sample_gradients(integrand, *at, np.array([[0.5, -1.0], [2.0, 0.1]])):
        np.testing.assert_array_equal(gradient, 0)


def test_a_small_spread_is_the_unit_too():
    estimator = LearnedBaseline(hidden=2, decay=0.5)
    integrand = FunctionIntegrand(lambda z: 2 + 0.25 * z[:, 0])
    estimator.sample_gradients(integrand, np.zeros(1), np.zeros(1), np.array([[-1.0], [1.0]]))
    assert (estimator._level, estimator._scale) == (2.0, 0.25)


def test_single_precision_is_that_of_the_noise_and_the_baseline_stays_double(rng):
    integrand = Quadratics(rng.standard_normal((5, 3)), rng.standard_normal((5, 2)))
    estimator = LearnedBaseline(hidden=4)
    mean, log_var = np.zeros((2, 5, 2), dtype=np.float32)
    noise = rng.standard_normal((3, 5, 2)).astype(np.float32)
    for _ in range(2):
        gradients = estimator.sample_gradients(integrand, mean, log_var, noise)
        assert [gradient.dtype for gradient in gradients] == [np.float32, np.float32]
    assert estimator.theta.dtype == np.float32
    assert estimator.predict(integrand.features).dtype == np.float64
    single = estimator.predict(integrand.features.astype(np.float32))
    np.testing.assert_array_equal(estimator.predict(integrand.features), single)


# --- expectation: exactly ---------------------------------------------------------------------------------


def two_calls(integrand_of, estimator, count=12):
    """E of the second call's gradients, over the noise of both calls, in one dimension."""
    nodes, weights = gauss_hermite_product(count, 2)
    mean, log_var = np.array([0.6]), np.array([-0.5])
    total = np.zeros(2)
    for (first, second), weight in zip(nodes, weights, strict=True):
        fresh = copy.deepcopy(estimator)
        for noise in (first, second):
            gradients = fresh.sample_gradients(integrand_of(), mean, log_var, np.array([[noise]]))
        total += weight * np.array([gradient.item() for gradient in gradients])
    return total


@pytest.mark.parametrize(
    "known", [oracle.quadratic(-1.5), oracle.wave([1.3], 0.4)], ids=["quadratic", "wave"]
)
def test_expectation_over_two_calls_is_exact(known):
    # No polynomial in the first call's noise, but in the product rule E s = 0 is a factor of its own.
    estimator = LearnedBaseline(hidden=3, learning_rate=0.5)
    exact = complex_step_vjp(
        lambda *at: np.asarray(known.expectation(*at)), (np.array([0.6]), np.array([-0.5])), 1.0
    )
    found = two_calls(lambda: FunctionIntegrand(known.value), estimator)
    np.testing.assert_allclose(found, np.ravel(exact), rtol=1e-11)


def test_a_baseline_that_learns_before_its_use_is_seen(monkeypatch):
    # Planted: the order of use and learning exchanged.
    right = LearnedBaseline.sample_gradients

    def learns_first(self, integrand, mean, log_var, noise):
        right(self, integrand, mean, log_var, noise)
        calls, self._learn = self._learn, lambda *arguments: None
        gradients = right(self, integrand, mean, log_var, noise)
        self._learn = calls
        return gradients

    known = oracle.quadratic(-1.5)
    monkeypatch.setattr(LearnedBaseline, "sample_gradients", learns_first)
    found = two_calls(lambda: FunctionIntegrand(known.value), LearnedBaseline(hidden=3, learning_rate=0.5))
    assert (np.abs(found / np.array([2 * 2.1, np.exp(-0.5)]) - 1) > 0.02).all()


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_expectation_is_the_pathwise_one_for_a_vae(rng, kl):
    # Linear with a Gaussian likelihood: polynomials of degree four in the noise, for which three nodes are exact.
    case = make_case(rng, depth=0, likelihood="gaussian", kl=kl, batch=2)
    learned = LearnedBaseline(hidden=5, learning_rate=0.05)
    for seed in range(4):
        case.vae.loss_and_gradients(case.x, rng=seed, estimator=learned, num_samples=2)
    assert np.ptp(learned.predict(case.x)) > 1e-3, "it tells the examples apart"
    nodes, weights = gauss_hermite_product(3, 2)
    found = {}
    for name in ("pathwise", NAME):
        total = np.zeros(case.vae.theta.shape)
        for node, weight in zip(nodes, weights, strict=True):
            estimator = name if name == "pathwise" else copy.deepcopy(learned)
            case.vae.loss_and_gradients(case.x, np.tile(node, (2, 1)), estimator=estimator)
            total += weight * case.vae.gradient
        found[name] = total
    scale = np.abs(found["pathwise"]).max()
    np.testing.assert_allclose(found[NAME], found["pathwise"], rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("offset", [-1.0, 0.0, 0.8, 3.0])
def test_variances_are_the_closed_forms(offset):
    a, v = 1.3, 0.5
    nodes, weights = gauss_hermite(12)
    integrand = FunctionIntegrand(oracle.quadratic(0.0).value)
    mean, log_var = np.array([a]), np.log([v])
    estimator = LearnedBaseline(hidden=2)
    estimator.sample_gradients(integrand, mean, log_var, nodes[:, None])
    estimator._parameters["1.bias"] += (a**2 + v + offset - estimator.predict(np.array([[a, np.log(v)]]))) / (
        estimator._scale
    )
    claims = (
        8 * a**2 + 6 * v + (offset - 2 * v) ** 2 / v,
        10 * a**2 * v + 6 * v**2 + (offset - 4 * v) ** 2 / 2,
    )
    gradients = estimator.sample_gradients(integrand, mean, log_var, nodes[:, None])
    for gradient, claim in zip(gradients, claims, strict=True):
        variance = weights @ (gradient[:, 0] - weights @ gradient[:, 0]) ** 2
        assert variance == pytest.approx(claim, rel=1e-10)


# --- expectation: by sampling -----------------------------------------------------------------------------


def test_sampled_mean_is_the_exact_gradient(rng, chance):
    a, v = 1.3, 0.5
    known, mean, log_var = oracle.quadratic(0.0), np.array([a]), np.log([v])
    integrand = FunctionIntegrand(known.value)
    estimator = LearnedBaseline(hidden=8, learning_rate=0.02)
    for _ in range(300):
        estimator.sample_gradients(integrand, mean, log_var, rng.standard_normal((16, 1)))
    off = float(estimator.predict(np.array([[a, np.log(v)]]))[0]) - (a**2 + v)
    assert abs(off) < 1.0
    variances = (8 * a**2 + 6 * v + (off - 2 * v) ** 2 / v, 10 * a**2 * v + 6 * v**2 + (off - 4 * v) ** 2 / 2)
    exact = np.array([2 * a, v])
    draws = chance.draws_needed(variances, 0.06 * exact)
    assert draws < 2_500_000
    noise = rng.standard_normal((draws, 1))

    def sampled(learned, integrand):
        return np.concatenate(learned.sample_gradients(integrand, mean, log_var, noise), axis=1)

    chance.assert_unbiased(sampled(copy.deepcopy(estimator), integrand), exact, variances, bias=0.06 * exact)
    # Planted: a tenth of each sample's own value in its baseline.
    own = FunctionIntegrand(lambda z: 0.9 * known.value(z))
    assert not chance.check_unbiased(sampled(estimator, own), exact, variances).passed


# --- state, training, the lab -----------------------------------------------------------------------------


def trained(dtype=np.float32):
    """(vae, its estimator) after a few steps."""
    case = make_case(np.random.default_rng(5), dtype=dtype, batch=6)
    estimator = LearnedBaseline(hidden=7, learning_rate=0.01, rng=4)
    fit(case.vae, case.x, epochs=3, batch_size=2, rng=1, estimator=estimator, progress=False)
    return case, estimator


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_going_on_from_a_saved_state_gives_the_same_bits(dtype, tmp_path):
    case, estimator = trained(dtype)
    assert estimator.calls == 9
    assert estimator.theta.dtype == dtype
    np.savez(tmp_path / "state.npz", **estimator.state())
    with np.load(tmp_path / "state.npz") as file:
        restored = LearnedBaseline(hidden=7, learning_rate=0.01)
        restored.load_state(dict(file))
    for _ in range(2):
        one, other = (
            case.vae.loss_and_gradients(case.x, case.noise, estimator=e)[1] for e in (estimator, restored)
        )
        for name, gradient in one.items():
            assert gradient.tobytes() == other[name].tobytes()
    assert estimator.theta.tobytes() == restored.theta.tobytes()
    estimator.theta[...] = 0
    assert restored.theta.any(), "a copy, not a view"


def test_a_state_is_a_copy_of_all_that_was_learned():
    case, estimator = trained()
    state = estimator.state()
    kept = copy.deepcopy(state)
    assert all(entry.any() for entry in state.values())
    case.vae.loss_and_gradients(case.x, case.noise, estimator=estimator)
    for name, entry in kept.items():
        np.testing.assert_array_equal(state[name], entry)
        assert (estimator.state()[name] != entry).any(), name


def test_a_copy_has_its_options_and_learns_on_its_own():
    case, estimator = trained()
    other = copy.deepcopy(estimator)
    for name in ("hidden", "learning_rate", "decay"):
        assert getattr(other, name) == getattr(estimator, name)
    assert other._rng.bit_generator.state == estimator._rng.bit_generator.state
    before = estimator.theta.copy()
    case.vae.loss_and_gradients(case.x, case.noise, estimator=other)
    np.testing.assert_array_equal(estimator.theta, before)
    assert (other.theta != before).any()


def test_a_state_from_before_the_first_call():
    restored = LearnedBaseline(hidden=3)
    restored.load_state(LearnedBaseline(hidden=3).state())
    assert restored.calls == 0
    gradient_samples(lambda z: z[:, 0], [0.0], [0.0], restored, 4, 0)
    assert restored.calls == 1


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            lambda s: s.pop("running"),
            ValueError,
            "state lacks running, expected what LearnedBaseline.state()",
        ),
        (lambda s: s.update(theta=s["theta"][1:]), ValueError, "state['theta'] has … 7 hidden units"),
        (lambda s: s.update(theta=s["theta"][:8]), ValueError, "state['theta'] has 8 … 7 hidden units"),
        (lambda s: s.update(first_moment=s["theta"][1:]), ValueError, "state['first_moment'] has shape"),
        (lambda s: s.update(second_moment=s["theta"][:1]), ValueError, "state['second_moment'] has shape"),
        (lambda s: s.update(running=s["running"][:1]), ValueError, "state['running'] has shape"),
        (
            lambda s: s.update(running=np.array([np.nan, 1.0])),
            ValueError,
            "state['running'] has the value nan",
        ),
        (lambda s: s.update(calls=np.asarray(-1)), ValueError, "state['calls'] is -1, expected"),
    ],
)
def test_a_state_that_does_not_fit(change, error, words):
    _, estimator = trained()
    state = estimator.state()
    change(state)
    before = estimator.theta.copy()
    assert_refused(error, words, lambda: estimator.load_state(state))
    np.testing.assert_array_equal(estimator.theta, before)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"hidden": 0}, ValueError, "hidden is 0, expected an integer of at least 1"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate is 0, expected a finite number greater than 0"),
        ({"decay": 1.0}, ValueError, "decay is 1, expected a finite number"),
    ],
)
def test_options_that_it_refuses(options, error, words):
    assert_refused(error, words, lambda: make_estimator(NAME, **options))


def test_other_features_than_it_has_learned_from(rng):
    estimator = LearnedBaseline(hidden=2)
    call(estimator, Quadratics(rng.standard_normal((3, 4)), np.zeros((3, 2))), rng)
    other = Quadratics(rng.standard_normal((3, 5)), np.zeros((3, 2)))
    assert_refused(
        ValueError,
        "features has shape (3, 5), expected (B, 4): the baseline has learned from so many",
        lambda: call(estimator, other, rng),
    )


def test_same_seed_same_bits():
    one, other = (trained()[1].theta for _ in range(2))
    assert one.tobytes() == other.tobytes()


def test_wrapped_estimators_hand_the_features_on(rng):
    # Pairs: the network of the pair's estimator sees the images and not mean and log_var.
    case = make_case(rng, batch=3)
    inner = LearnedBaseline(hidden=2)
    case.vae.loss_and_gradients(case.x, rng=1, estimator=Antithetic(inner), num_samples=4)
    assert len(inner._parameters["0.weight"]) == case.vae.input_dim


def test_its_variance_in_the_lab(rng):
    case = make_case(rng, batch=4)
    result = gradient_variance(case.vae, case.x, ("pathwise", "score-function", NAME), 400)
    assert result.total(NAME, "encoder") < result.total("score-function", "encoder")
