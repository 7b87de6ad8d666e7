"""The measure-valued gradient: what the note claims, and that the shipped estimator has that expectation and spread."""

from __future__ import annotations

import hashlib

import mpmath
import numpy as np
import pytest
import sympy

from scratchvae.estimators import FunctionIntegrand, make_estimator
from scratchvae.estimators import measure_valued as module
from scratchvae.estimators.measure_valued import MeasureValued
from scratchvae.lab.gradient_samples import gradient_samples
from scratchvae.randomness import NoiseStream
from tests.models.cases import make_case
from tests.oracles import estimators as oracle
from tests.oracles.complex_step import complex_step_vjp
from tests.oracles.quadrature import (
    chi_rule,
    cosine_rule,
    gauss_hermite,
    grid,
    precise_expectation,
)

NAMES = ("measure-valued", "measure-valued-uncoupled")
A, Z = sympy.symbols("a z", real=True)
DEVIATION, W, R, U = sympy.symbols("sigma w r u", positive=True)
X, Y = sympy.symbols("x y", real=True)


def assert_identical(one, other):
    assert sympy.simplify(one - other) == 0


def rayleigh(expression):
    """E over W with density w exp(−w²/2)."""
    return sympy.integrate(sympy.expand(expression) * W * sympy.exp(-(W**2) / 2), (W, 0, sympy.oo))


def maxwell(expression):
    """E over R with density √(2/π) r² exp(−r²/2)."""
    density = sympy.sqrt(2 / sympy.pi) * R**2 * sympy.exp(-(R**2) / 2)
    return sympy.integrate(sympy.expand(expression) * density, (R, 0, sympy.oo))


def density(z):
    return sympy.exp(-((z - A) ** 2) / (2 * DEVIATION**2)) / (DEVIATION * sympy.sqrt(2 * sympy.pi))


def quadratic(step):
    """f at μ + σ step, with a for μ − k."""
    return (A + DEVIATION * step) ** 2


# --- the equations ----------------------------------------------------------------------------------------


@pytest.mark.equation("12.1", "12.2", "12.3")
def test_the_decompositions_are_the_derivatives_of_the_density():
    by_mean = sympy.diff(density(Z), A)
    step = (Z - A) / DEVIATION
    # A Rayleigh step upwards has the density step · exp(−step²/2) / σ above the mean, and none below.
    one_side = sympy.Abs(step) * sympy.exp(-(step**2) / 2) / DEVIATION
    constant = 1 / (DEVIATION * sympy.sqrt(2 * sympy.pi))
    assert_identical(by_mean, constant * sympy.sign(step) * one_side)
    by_log_var = sympy.diff(density(Z), DEVIATION) * DEVIATION / 2
    outer = step**2 * density(Z)
    assert_identical(by_log_var, (outer - density(Z)) / 2)
    for measure in (one_side.subs(Z, A + DEVIATION * X), outer.subs(Z, A + DEVIATION * X)):
        total = sympy.integrate(sympy.simplify(measure * DEVIATION), (X, -sympy.oo, sympy.oo))
        assert sympy.simplify(total) in (1, 2)  # 2: a half on either side, each of mass one


@pytest.mark.equation("12.1", "12.2", "12.3")
def test_the_identities_at_fifty_digits():
    with mpmath.workdps(50):
        mean, deviation = mpmath.mpf("0.4"), mpmath.mpf("0.8")

        def f(z):
            return mpmath.log1p(mpmath.exp(z))

        def logistic(z):
            return 1 / (1 + mpmath.exp(-z))

        edges = list(range(0, 19, 2))

        def radial(function):
            return mpmath.quad(
                lambda w: function(w) * w * mpmath.exp(-w * w / 2), edges, method="gauss-legendre"
            )

        by_mean = precise_expectation(logistic, mean, deviation)
        found = radial(lambda w: f(mean + deviation * w) - f(mean - deviation * w))
        assert abs(found / (deviation * mpmath.sqrt(2 * mpmath.pi)) - by_mean) < mpmath.mpf(10) ** -40
        by_log_var = precise_expectation(lambda z: logistic(z) * (z - mean) / 2, mean, deviation)
        outer = precise_expectation(lambda z: f(z) * ((z - mean) / deviation) ** 2, mean, deviation)
        assert abs((outer - precise_expectation(f, mean, deviation)) / 2 - by_log_var) < mpmath.mpf(10) ** -40


@pytest.mark.equation("12.4")
def test_other_coordinates_stay_at_the_sample():
    # z₁² z₂² + z₁ z₂³ with z₂ ~ N(0, 1): move the first coordinate alone, average over the second.
    def f(first, second):
        return first**2 * second**2 + first * second**3 + first**2

    normal = sympy.exp(-(Y**2) / 2) / sympy.sqrt(2 * sympy.pi)
    difference = f(A + DEVIATION * W, Y) - f(A - DEVIATION * W, Y)
    inner = rayleigh(difference) / (DEVIATION * sympy.sqrt(2 * sympy.pi))
    found = sympy.integrate(sympy.expand(inner) * normal, (Y, -sympy.oo, sympy.oo))
    both = sympy.integrate(
        sympy.integrate(sympy.expand(f(A + DEVIATION * X, Y)) * normal, (Y, -sympy.oo, sympy.oo))
        * normal.subs(Y, X),
        (X, -sympy.oo, sympy.oo),
    )
    assert_identical(found, sympy.diff(both, A))


@pytest.mark.equation("12.5", "12.6")
def test_radii_of_normals():
    # Polar coordinates of two and of three independent normals: the density, times the Jacobian, factorizes.
    angle = sympy.Symbol("theta", real=True)
    point = sympy.Matrix([R * sympy.cos(angle), R * sympy.sin(angle)])
    jacobian = sympy.simplify(point.jacobian([R, angle]).det())
    normals = sympy.exp(-sympy.simplify(point.dot(point)) / 2) / (2 * sympy.pi)
    assert_identical(
        sympy.integrate(normals * jacobian, (angle, 0, 2 * sympy.pi)), R * sympy.exp(-(R**2) / 2)
    )
    # (ε, W) → (R, V): ε = R V, W = R √(1 − V²); W is Rayleigh. V must come out uniform on (−1, 1), R Maxwell.
    v = sympy.Symbol("v", real=True)
    noise, radius = R * v, R * sympy.sqrt(1 - v**2)
    jacobian = sympy.Matrix([noise, radius]).jacobian([R, v]).det()
    joint = sympy.exp(-(noise**2) / 2) / sympy.sqrt(2 * sympy.pi) * radius * sympy.exp(-(radius**2) / 2)
    claimed = sympy.Rational(1, 2) * sympy.sqrt(2 / sympy.pi) * R**2 * sympy.exp(-(R**2) / 2)
    assert_identical(sympy.simplify(joint * -jacobian), claimed)


@pytest.mark.equation("12.7", "12.8")
def test_variances_of_the_coupled_pair_for_the_quadratic():
    constant = 1 / (DEVIATION * sympy.sqrt(2 * sympy.pi))
    pair = constant * (quadratic(W) - quadratic(-W))
    assert_identical(rayleigh(pair**2) - rayleigh(pair) ** 2, A**2 * (16 / sympy.pi - 4))
    pair = sympy.Rational(1, 2) * (quadratic(R * X) - quadratic(R * X * U))  # X is the sign

    def expectation(expression):
        either = (expression.subs(X, 1) + expression.subs(X, -1)) / 2
        return maxwell(sympy.integrate(sympy.expand(either), (U, 0, 1)))

    variance = expectation(pair**2) - expectation(pair) ** 2
    assert_identical(variance, DEVIATION**2 * (A**2 + DEVIATION**2))
    # As published, with respect to σ:
    assert_identical(4 / DEVIATION**2 * variance, 4 * A**2 + 4 * DEVIATION**2)


@pytest.mark.equation("12.9", "12.10", "12.11")
def test_variances_of_the_uncoupled_pair_for_the_quadratic():
    constant = 1 / (DEVIATION * sympy.sqrt(2 * sympy.pi))
    sides = [constant * quadratic(sign * W) for sign in (1, -1)]
    by_mean = sum(rayleigh(side**2) - rayleigh(side) ** 2 for side in sides)
    assert_identical(by_mean, A**2 * (8 / sympy.pi - 2) + 4 * DEVIATION**2 / sympy.pi)
    both = [(maxwell(quadratic(R) ** p) + maxwell(quadratic(-R) ** p)) / 2 for p in (1, 2)]
    normal = sympy.exp(-(X**2) / 2) / sympy.sqrt(2 * sympy.pi)
    inner = [
        sympy.integrate(sympy.expand(quadratic(X) ** p) * normal, (X, -sympy.oo, sympy.oo)) for p in (1, 2)
    ]
    by_log_var = (both[1] - both[0] ** 2 + inner[1] - inner[0] ** 2) / 4
    assert_identical(by_log_var, DEVIATION**2 * (4 * A**2 + 2 * DEVIATION**2))
    # Coupling the pair for μ pays as long as f at the two points is positively correlated.
    covariance = rayleigh(sides[0] * sides[1]) - rayleigh(sides[0]) * rayleigh(sides[1])
    assert_identical(by_mean - 2 * covariance, A**2 * (16 / sympy.pi - 4))
    crossing = sympy.sqrt(2 / (4 - sympy.pi)) * DEVIATION
    assert_identical(covariance.subs(A, crossing), 0)
    assert covariance.subs({A: 2, DEVIATION: 1}) < 0 < covariance.subs({A: 1, DEVIATION: 1})


# --- the shipped estimator --------------------------------------------------------------------------------

MEANS = np.array([0.7, -0.4])
LOG_VARS = np.array([-0.9, 0.3])
INTEGRANDS = {
    "quadratic": oracle.quadratic(np.array([-1.5, 0.8])),
    "wave": oracle.wave([1.3, -0.8], 0.4),
    "exponential": oracle.exponential([0.6, -0.5]),
    "coupled": oracle.coupled(),
}


def exact_gradient(known, mean, log_var):
    """Gradient of the known expectation with respect to mean and log_var, by complex step."""
    return complex_step_vjp(lambda *at: np.asarray(known.expectation(*at)), (mean, log_var), 1.0)


def no_derivative(z):
    raise AssertionError("the measure-valued estimator asked for a derivative of f")


def expected_gradient(name, known, coordinate):
    """E of the gradients of one of two coordinates, by quadrature over all that they depend on."""
    estimator, other = make_estimator(name), 1 - coordinate

    def run(noise, extra):
        return estimator.sample_gradients(
            FunctionIntegrand(known.value, no_derivative), MEANS, LOG_VARS, noise, extra
        )

    # With respect to mean: the radius (two of them, if uncoupled, which f sees one at a time) and the other coordinate.
    (radius, others), weights = grid(chi_rule(2), gauss_hermite(36))
    noise, extra = np.zeros((len(weights), 2)), np.zeros((estimator.extra_normals, len(weights), 2))
    noise[:, other], extra[0, :, coordinate] = others, radius
    if name.endswith("uncoupled"):
        extra[2, :, coordinate] = radius
    by_mean = weights @ run(noise, extra)[0][:, coordinate]
    # With respect to log_var: Maxwell's radius and the cosine, which together are the noise and the Rayleigh radius.
    (radius, cosine, others), weights = grid(chi_rule(3, 12), cosine_rule(16), gauss_hermite(36))
    noise, extra = np.zeros((len(weights), 2)), np.zeros((estimator.extra_normals, len(weights), 2))
    noise[:, other], noise[:, coordinate] = others, radius * cosine
    extra[0, :, coordinate] = radius * np.sqrt(1 - cosine**2)
    if name.endswith("uncoupled"):
        extra[4, :, coordinate] = radius * cosine
    by_log_var = weights @ run(noise, extra)[1][:, coordinate]
    return by_mean, by_log_var


@pytest.mark.parametrize("integrand", INTEGRANDS)
@pytest.mark.parametrize("name", NAMES)
def test_expectation_is_the_gradient_of_the_exact_expectation(name, integrand):
    known = INTEGRANDS[integrand]
    exact = exact_gradient(known, MEANS, LOG_VARS)
    for coordinate in range(2):
        for found, expected in zip(expected_gradient(name, known, coordinate), exact, strict=True):
            np.testing.assert_allclose(found, expected[coordinate], rtol=1e-12, atol=1e-13)


def test_a_step_is_no_obstacle():
    # E [z > 0] = Φ(μ/σ): where the pathwise gradient is zero and wrong, this one sees the jump.
    nodes, weights = chi_rule(2)
    extra = np.stack([nodes[:, None], np.zeros((len(nodes), 1))])
    step = FunctionIntegrand(lambda z: (z[:, 0] > 0).astype(float))
    dmean, _ = MeasureValued().sample_gradients(
        step, np.zeros(1), np.zeros(1), np.ones((len(nodes), 1)), extra
    )
    assert weights @ dmean[:, 0] == pytest.approx(1 / np.sqrt(2 * np.pi), rel=1e-12)


@pytest.mark.parametrize(
    ("mean", "deviation", "target"), [(1.0, 1.0, -3.0), (0.3, 0.2, 0.5), (-2.0, 1.7, 0.0)]
)
@pytest.mark.parametrize("name", NAMES)
def test_variances_are_the_closed_forms(name, mean, deviation, target):
    known, a, v = oracle.quadratic(target), mean - target, deviation**2
    published = oracle.quadratic_variances(mean, deviation, target)
    claimed = [published["measure-valued", parameter] for parameter in ("mean", "log_var")]
    if name.endswith("uncoupled"):
        claimed = [a**2 * (8 / np.pi - 2) + 4 * v / np.pi, v * (4 * a**2 + 2 * v)]

    def run(noise, extra):
        found = make_estimator(name).sample_gradients(
            FunctionIntegrand(known.value), np.array([mean]), 2 * np.log([deviation]), noise, extra
        )
        return [gradient[:, 0] for gradient in found]

    if name == "measure-valued":
        nodes, weights = chi_rule(2)
        by_mean = run(np.ones((len(nodes), 1)), np.stack([nodes[:, None], np.zeros((len(nodes), 1))]))[0]
    else:
        (up, down), weights = grid(chi_rule(2, 10), chi_rule(2, 10))
        extra = np.zeros((5, len(weights), 1))
        extra[0, :, 0], extra[2, :, 0] = up, down
        by_mean = run(np.ones((len(weights), 1)), extra)[0]
    assert weights @ (by_mean - weights @ by_mean) ** 2 == pytest.approx(claimed[0], rel=1e-11)

    if name == "measure-valued":
        (radius, cosine), weights = grid(chi_rule(3), cosine_rule())
        noise = (radius * cosine)[:, None]
        extra = np.stack([(radius * np.sqrt(1 - cosine**2))[:, None], np.zeros((len(radius), 1))])
    else:
        (inner, radius, cosine), weights = grid(gauss_hermite(12), chi_rule(3, 8), cosine_rule(4))
        noise, extra = inner[:, None], np.zeros((5, len(weights), 1))
        extra[0, :, 0], extra[4, :, 0] = radius * np.sqrt(1 - cosine**2), radius * cosine
    by_log_var = run(noise, extra)[1]
    assert weights @ (by_log_var - weights @ by_log_var) ** 2 == pytest.approx(claimed[1], rel=1e-10)


# --- by sampling: the extra noise that the estimator derives itself ---------------------------------------

TARGET = np.array([0.2, 0.2])


def sampling_case(name):
    """(exact gradients, one-sample variances), each (2, L): of a separable f, so the other coordinate cancels."""
    a, v = MEANS - TARGET, np.exp(LOG_VARS)
    exact = np.array([2 * a, v])
    if name.endswith("measure-valued"):  # alone, or in pairs: then the mean of two is at most as loud
        return exact, np.array([a**2 * (16 / np.pi - 4), v * (a**2 + v)])
    return exact, np.array([a**2 * (8 / np.pi - 2) + 4 * v / np.pi, v * (4 * a**2 + 2 * v)])


@pytest.mark.parametrize("name", [*NAMES, "antithetic-measure-valued"])
def test_sampled_mean_is_the_exact_gradient(rng, chance, monkeypatch, name):
    known = oracle.quadratic(TARGET)
    exact, variances = sampling_case(name)
    draws = chance.draws_needed(variances, 0.06 * exact)
    group = 2 if name.startswith("antithetic") else 1
    assert draws < 3_000_000

    def gradients():
        samples = gradient_samples(known.value, MEANS, LOG_VARS, name, group * draws, rng)
        return np.stack(samples, axis=1).reshape(draws, group, 2, 2).mean(axis=1)

    chance.assert_unbiased(gradients(), exact, variances, bias=0.06 * exact)
    # Extra noise that is 10 % too wide.
    right = module._derived_normals
    monkeypatch.setattr(module, "_derived_normals", lambda *arguments: 1.1 * right(*arguments))
    assert not chance.check_unbiased(gradients(), exact, variances).passed


def test_derived_noise_is_a_function_of_the_noise_and_uncorrelated_with_it(rng, chance):
    known = oracle.quadratic(TARGET)
    noise = rng.standard_normal((40_000, 2))

    def run(noise):
        return np.stack(
            MeasureValued().sample_gradients(FunctionIntegrand(known.value), MEANS, LOG_VARS, noise)
        )

    first = run(noise)
    np.testing.assert_array_equal(first, run(noise.copy()))
    moved = noise.copy()
    moved[-1, -1] += 1e-9
    assert (first[0] != run(moved)[0]).mean() > 0.99, "another hash, another stream"
    extra = module._derived_normals(noise, (2, *noise.shape)).reshape(2, -1)
    # Products of independent normal numbers, one of them squared or not, have the mean zero and these variances: a
    # correlation of 0.05 is seen.
    one, other = extra
    given = noise.ravel()
    products = [one * given, one * (given**2 - 1), other * given, other * (given**2 - 1), one * other]
    variances = np.array([1.0, 2.0, 1.0, 2.0, 1.0])
    chance.assert_unbiased(np.stack(products, axis=1), np.zeros(5), variances, bias=0.05 * np.sqrt(variances))


# --- the shape of the thing -------------------------------------------------------------------------------


def test_steps_by_hand():
    # Hypotenuses of 3 and 4, of 8 and 15, and of the noise 12 or of a normal of its own, −12, with the radius 5.
    noise = np.array([[12.0], [-12.0]])
    up, down, out = MeasureValued(coupled=True)._steps(noise, np.array([[[3.0], [3.0]], [[4.0], [4.0]]]))
    for radius in (up, down):
        np.testing.assert_array_equal(radius, [[5.0], [5.0]])
    np.testing.assert_array_equal(out, [[13.0], [-13.0]])
    extra = np.array([3.0, 4.0, 8.0, 15.0, -12.0]).reshape(5, 1, 1)
    steps = MeasureValued(coupled=False)._steps(noise[:1], extra)
    np.testing.assert_array_equal(np.ravel(steps), [5.0, 17.0, -13.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derived_noise_is_the_stream_whose_key_is_the_hash_of_the_noise(rng, dtype):
    # A stream's normals have their own tests; one that is scaled or moved here would bias every gradient a little.
    noise = rng.standard_normal((4, 2)).astype(dtype)
    key = int.from_bytes(hashlib.blake2b(noise.tobytes(), digest_size=8).digest(), "little")
    expected = NoiseStream.from_state((key, 0)).standard_normal((2, 4, 2), dtype)
    np.testing.assert_array_equal(module._derived_normals(noise, (2, 4, 2)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_points_have_the_noise_s_precision_even_if_more_was_given(rng, name):
    seen = set()
    noise = rng.standard_normal((3, 2)).astype(np.float32)
    estimator = make_estimator(name)

    def value(z):
        seen.add(z.dtype)
        return (z**2).sum(axis=-1)

    extra = rng.standard_normal((estimator.extra_normals, 3, 2))
    estimator.sample_gradients(
        FunctionIntegrand(value), MEANS.astype(np.float32), LOG_VARS.astype(np.float32), noise, extra
    )
    assert seen == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(5, 3), (5, 4, 3)])
def test_evaluations_are_counted_and_end_at_the_samples(rng, name, shape):
    seen = []

    class Watching:
        evaluations = differentiations = 0

        def value(self, z):
            seen.append(z.copy())
            return (z**2).sum(axis=-1)

        def value_and_gradient(self, _z):
            raise AssertionError("asked for a derivative of f")

    mean, log_var = rng.standard_normal(shape[1:]), rng.standard_normal(shape[1:])
    noise = rng.standard_normal(shape)
    gradients = make_estimator(name).sample_gradients(Watching(), mean, log_var, noise)
    assert [gradient.shape for gradient in gradients] == [shape, shape]
    assert sum(len(z) for z in seen) == 5 * (3 * 3 + 1)
    z = mean + np.exp(log_var / 2) * noise
    np.testing.assert_allclose(seen[-1], z, rtol=1e-14)
    # Coordinate i alone is moved.
    for i, stacked in enumerate(seen[:-1]):
        moved = np.abs(stacked.reshape(3, *shape) - z) > 1e-12
        assert moved[..., i].all()
        assert not np.delete(moved, i, axis=-1).any()


@pytest.mark.parametrize("name", NAMES)
def test_dtype_is_the_noise_s(rng, name):
    noise = rng.standard_normal((6, 2)).astype(np.float32)
    gradients = make_estimator(name).sample_gradients(
        FunctionIntegrand(INTEGRANDS["coupled"].value),
        MEANS.astype(np.float32),
        LOG_VARS.astype(np.float32),
        noise,
    )
    assert [gradient.dtype for gradient in gradients] == [np.float32, np.float32]


def test_it_trains_a_vae(rng):
    # The loss and the decoder's gradients are those of every other estimator: the last evaluation is at the samples.
    case = make_case(rng, num_samples=2)
    loss, gradients = case.vae.loss_and_gradients(case.x, case.noise, estimator="measure-valued")
    expected_loss, expected = case.vae.loss_and_gradients(case.x, case.noise)
    assert loss == expected_loss
    for name in gradients:
        same = np.array_equal(gradients[name], expected[name])
        assert same == name.startswith("decoder")


def test_extra_noise_of_another_shape_is_refused(rng):
    noise = rng.standard_normal((4, 2))
    integrand = FunctionIntegrand(INTEGRANDS["coupled"].value)
    for coupled, count in ((True, 2), (False, 5)):
        with pytest.raises(ValueError, match=rf"extra has shape \(3, 4, 2\), expected \({count}, 4, 2\)"):
            MeasureValued(coupled).sample_gradients(integrand, MEANS, LOG_VARS, noise, np.zeros((3, 4, 2)))


@pytest.mark.parametrize("slip", ["sigma for log sigma²", "a half forgotten", "sign", "wrong radius"])
def test_a_planted_mistake_is_seen_by_quadrature(monkeypatch, slip):
    known = INTEGRANDS["coupled"]
    right = MeasureValued.sample_gradients
    deviation = np.exp(LOG_VARS / 2)

    def wrong(self, integrand, mean, log_var, noise, extra=None):
        dmean, dlog_var = right(self, integrand, mean, log_var, noise, extra)
        return {
            "sigma for log sigma²": lambda: (dmean, dlog_var * 2 / deviation),
            "a half forgotten": lambda: (dmean * 2, dlog_var),
            "sign": lambda: (dmean, -dlog_var),
            "wrong radius": lambda: right(self, integrand, mean, log_var, noise, 1.001 * extra),
        }[slip]()

    monkeypatch.setattr(MeasureValued, "sample_gradients", wrong)
    exact = exact_gradient(known, MEANS, LOG_VARS)
    found = expected_gradient("measure-valued", known, 0)
    errors = [abs(one / other[0] - 1) for one, other in zip(found, exact, strict=True)]
    assert max(errors) > 1e-4
