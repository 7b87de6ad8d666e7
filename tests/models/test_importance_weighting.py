"""A VAE under the importance-weighted bound: gradients against the oracle, expectations, training."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.estimators import make_estimator
from scratchvae.models import decoder_integrand as module
from scratchvae.models.decoder_integrand import sample_gradients
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream
from scratchvae.training.loop import average_terms, fit
from tests.models.cases import assert_gradients, assert_refused, make_case
from tests.models.test_linear_vae import vae_with_exact_posterior
from tests.oracles import vae as oracle
from tests.oracles.complex_step import DIFFERENCE_TOLERANCE, assert_close_to_largest, five_point_vjp
from tests.oracles.quadrature import gauss_hermite_product

PATHWISE = "importance-weighted-pathwise"
DOUBLY = "importance-weighted-doubly-reparameterized"
VIMCO = "importance-weighted-vimco"
ALL = (PATHWISE, DOUBLY, VIMCO)


def oracle_loss(case, parameters):
    settings = {name: value for name, value in case.oracle_settings().items() if name != "kl"}
    return oracle.importance_weighted_loss(parameters, case.x, case.noise, **settings)


# --- the gradient at given noise --------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize(("batch", "num_samples"), [(1, 1), (2, 3), (4, 3)])
@pytest.mark.parametrize(("depth", "beta"), [(0, 1.0), (1, 0.6), (2, 1.7)])
def test_gradients_are_the_oracle_s(rng, depth, beta, batch, num_samples, likelihood):
    case = make_case(rng, depth=depth, beta=beta, batch=batch, num_samples=num_samples, likelihood=likelihood)
    loss, gradients = case.vae.loss_and_gradients(case.x, case.noise, estimator=PATHWISE)
    assert loss == pytest.approx(float(oracle_loss(case, case.vae.parameters)), rel=1e-13)
    assert case.vae.loss(case.x, case.noise, objective="importance-weighted") == pytest.approx(
        loss, rel=1e-14
    )
    exact = oracle.complex_step_gradients(lambda p: oracle_loss(case, p), case.vae.parameters)
    assert_gradients(gradients, exact)
    # The decoder's gradient does not depend on how the encoder's is estimated.
    for name in (DOUBLY, VIMCO) if num_samples > 1 else (DOUBLY,):
        other_loss, other = case.vae.loss_and_gradients(case.x, case.noise, estimator=name)
        assert other_loss == loss
        for parameter, gradient in other.items():
            same = gradient.tobytes() == gradients[parameter].tobytes()
            assert same == parameter.startswith("decoder"), (name, parameter)


def test_gradients_are_differences_of_the_shipped_loss(rng):
    case = make_case(rng, depth=1, num_samples=3, kl="analytic")
    _, gradients = case.vae.loss_and_gradients(case.x, case.noise, estimator=PATHWISE)

    def loss(theta):
        case.vae.theta[...] = theta
        return np.asarray(case.vae.loss(case.x, case.noise, objective="importance-weighted"))

    (expected,) = five_point_vjp(loss, (case.vae.theta.copy(),), 1.0)
    found = np.concatenate([gradient.ravel() for gradient in gradients.values()])
    assert_close_to_largest(found, expected, DIFFERENCE_TOLERANCE)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_the_model_s_choice_of_divergence_does_not_matter(rng, kl):
    case = make_case(rng, num_samples=3, kl=kl)
    sampled = VAE(**{k: v for k, v in case.vae.config().items() if k != "model"} | {"kl": "sampled"}, rng=0)
    sampled.theta[...] = case.vae.theta
    for name in ALL:
        one, other = (
            vae.loss_and_gradients(case.x, case.noise, estimator=name) for vae in (case.vae, sampled)
        )
        np.testing.assert_equal(one, other)


def test_with_one_sample_it_is_the_elbo_with_the_sampled_divergence(rng):
    case = make_case(rng, kl="sampled")
    assert case.vae.loss(case.x, case.noise) == case.vae.loss(
        case.x, case.noise, objective="importance-weighted"
    )
    for name, of_elbo in ((PATHWISE, "pathwise"), (DOUBLY, "sticking-the-landing")):
        loss, gradients = case.vae.loss_and_gradients(case.x, case.noise, estimator=name)
        expected_loss, expected = case.vae.loss_and_gradients(case.x, case.noise, estimator=of_elbo)
        assert loss == expected_loss
        for parameter, gradient in gradients.items():
            np.testing.assert_allclose(gradient, expected[parameter], rtol=1e-13, err_msg=parameter)


# --- expectation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1.0, 0.6])
def test_expectation_of_the_whole_gradient_is_the_pathwise_one(rng, beta):
    # Near to where the log-weight is flat, so that few nodes are enough.
    vae, x = vae_with_exact_posterior(rng, latent_dim=1, widen=1.1 * beta, shift=0.1, beta=beta)
    nodes, weights = gauss_hermite_product(16, 2)
    expected = {}
    for name in ALL:
        total = np.zeros(vae.theta.shape)
        for node, weight in zip(nodes, weights, strict=True):
            noise = np.repeat(node[:, None, None], 2, axis=1)
            vae.loss_and_gradients(x[:2], noise, estimator=name)
            total += weight * vae.gradient
        expected[name] = total
    for name in (DOUBLY, VIMCO):
        scale = np.abs(expected[PATHWISE]).max()
        np.testing.assert_allclose(expected[name], expected[PATHWISE], rtol=0, atol=1e-11 * scale)


# --- its cost ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_decoder_is_passed_once_each_way(rng, monkeypatch, name):
    case = make_case(rng, num_samples=3)
    passes = {"forward": 0, "backward": 0}
    for way in passes:
        right = getattr(module, f"stack_{way}")

        def counted(*arguments, right=right, way=way, **options):
            passes[way] += 1
            return right(*arguments, **options)

        monkeypatch.setattr(module, f"stack_{way}", counted)
    case.vae.loss_and_gradients(case.x, case.noise, estimator=name)
    assert passes == {"forward": 1, "backward": 1}


def test_vimco_never_differentiates_the_decoder_with_respect_to_z(rng):
    case = make_case(rng, num_samples=3)
    mean, log_var = case.vae.encode(case.x)
    integrand = case.vae.integrand(case.x, mean, log_var, 1.0, "importance-weighted")
    sample_gradients(integrand, make_estimator(VIMCO), mean, log_var, case.noise)
    integrand.decoder_gradients(np.full((3, 3), 1 / 3))
    assert (integrand.evaluations, integrand.differentiations) == (9, 0)


def test_weighted_gradients_of_the_decoder_are_those_of_the_weighted_sum(rng):
    case = make_case(rng, num_samples=3)
    mean, log_var = case.vae.encode(case.x)
    integrand = case.vae.integrand(case.x, mean, log_var, 1.0)
    weights = rng.standard_normal((3, 3))
    integrand.value(mean + case.noise)
    once = [dweight.copy() for dweight, _ in integrand.decoder_gradients(weights)]
    twice = [dweight.copy() for dweight, _ in integrand.decoder_gradients(2 * weights)]
    for one, two in zip(once, twice, strict=True):
        np.testing.assert_array_equal(two, 2 * one)
    assert any((a != b[0]).any() for a, b in zip(once, integrand.decoder_gradients(), strict=True))


# --- extremes, training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("log_var", [-60.0, 60.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_posteriors_give_finite_gradients(rng, dtype, log_var, name):
    case = make_case(rng, num_samples=3, dtype=dtype, depth=0)
    case.vae.parameters["encoder.log_var.weight"][...] = 0
    case.vae.parameters["encoder.log_var.bias"][...] = log_var
    loss, gradients = case.vae.loss_and_gradients(case.x, case.noise, estimator=name)
    assert np.isfinite(loss)
    for parameter, gradient in gradients.items():
        assert gradient.dtype == dtype
        assert np.isfinite(gradient).all(), parameter


@pytest.mark.parametrize("name", ALL)
def test_training_raises_the_bound_and_tells_it(rng, name):
    x = (rng.random((60, 6)) < [0.9, 0.1, 0.8, 0.2, 0.7, 0.5]).astype(np.float32)

    def train():
        vae = VAE(6, (8,), 2, rng=1)
        history = fit(
            vae,
            x,
            epochs=15,
            batch_size=20,
            learning_rate=0.02,
            rng=2,
            estimator=name,
            num_samples=4,
            validation=x,
            progress=False,
        )
        return vae, history

    vae, history = train()
    first, last = history.epochs[0], history.epochs[-1]
    assert last.loss < first.loss - 0.3
    # What is told is the bound of four samples: for the training set after training, nearly what validation saw.
    bound = -vae.elbo(x, rng=3, num_samples=4, objective="importance-weighted").value.mean()
    elbo = -vae.elbo(x, rng=3, num_samples=4).value.mean()
    assert bound < elbo
    assert last.validation_loss == average_terms(vae, x, _validation_seed(2), 4, "importance-weighted")[0]
    again, _ = train()
    assert again.theta.tobytes() == vae.theta.tobytes()


def _validation_seed(seed):
    from scratchvae.randomness import as_generator, spawn

    return int(spawn(as_generator(seed), 4)[3].integers(2**63))


def test_a_warm_up_s_weight_is_that_of_the_log_weights(rng):
    case = make_case(rng, beta=1.0)
    other = VAE(**{k: v for k, v in case.vae.config().items() if k != "model"} | {"beta": 0.3}, rng=0)
    other.theta[...] = case.vae.theta
    noise = NoiseStream(5).standard_normal((3, 3, 2))
    loss, gradients = other.loss_and_gradients(case.x, noise, estimator=DOUBLY)
    step = case.vae.minibatch_gradients(case.x, NoiseStream(5), make_estimator(DOUBLY), 3, beta=0.3)
    assert step[0] == loss
    np.testing.assert_equal(dict(case.vae.gradients), gradients)


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (
            "objective is 'iwae', expected one of: elbo, importance-weighted",
            lambda v, x: v.loss(x, objective="iwae"),
        ),
        ("objective is None, expected one of", lambda v, x: v.elbo(x, objective=None)),
        (
            "num_samples is 1, expected at least 2: importance-weighted-vimco compares",
            lambda v, x: v.loss_and_gradients(x, estimator=VIMCO),
        ),
    ],
)
def test_what_is_refused(rng, words, call):
    case = make_case(rng)
    assert_refused(ValueError, words, lambda: call(case.vae, case.x))
