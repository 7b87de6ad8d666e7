"""The plain autoencoder: every gradient against two oracles, and what its methods promise."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae import kernels
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.objectives.elbo import ELBO
from tests.models.cases import (
    ACTIVATIONS,
    INPUT_DIM,
    LIKELIHOODS,
    assert_gradients,
    assert_refused,
    draw_x,
    make_autoencoder,
)
from tests.models.test_vae import BAD_X
from tests.oracles import vae as oracle
from tests.oracles.complex_step import (
    DIFFERENCE_TOLERANCE,
    assert_close_to_largest,
    extrapolated_vjp,
    unchanged,
)


def settings_of(model):
    return {
        "activation": model.activation.name,
        "likelihood": model.likelihood.name,
        "variance": model.likelihood_variance,
    }


def assert_gradients_are_the_oracle_s(model, x):
    def loss_at(parameters):
        return oracle.autoencoder_loss(parameters, x, **settings_of(model))

    loss, gradients = model.loss_and_gradients(x)
    np.testing.assert_allclose(loss, loss_at(model.parameters), rtol=1e-13)
    assert_gradients(gradients, oracle.complex_step_gradients(loss_at, model.parameters))
    again_loss, again = model.loss_and_gradients(x)
    assert again_loss == loss
    for name, gradient in gradients.items():
        assert gradient.tobytes() == again[name].tobytes(), f"{name}: other bits when run twice"


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_those_of_the_definition(rng, activation, likelihood, depth):
    model = make_autoencoder(rng, depth=depth, activation=activation, likelihood=likelihood)
    assert_gradients_are_the_oracle_s(model, draw_x(rng, likelihood, 3))


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_gradients_at_any_batch_size(rng, batch):
    assert_gradients_are_the_oracle_s(make_autoencoder(rng), draw_x(rng, "bernoulli", batch))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus"])
def test_gradients_are_those_of_the_shipped_loss(rng, activation, likelihood):
    model = make_autoencoder(rng, activation=activation, likelihood=likelihood)
    x = draw_x(rng, likelihood, 3)
    _, gradients = model.loss_and_gradients(x)

    def loss_at(theta):
        model.theta[...] = theta
        return np.asarray(model.loss(x))

    (slopes,) = extrapolated_vjp(loss_at, (model.theta.copy(),), 1.0)
    assert_gradients(gradients, oracle.by_name(slopes, model.parameters), DIFFERENCE_TOLERANCE)


def test_an_autoencoder_by_hand():
    model = Autoencoder(2, (), 1, likelihood="gaussian", likelihood_variance=0.5, dtype=np.float64, rng=0)
    model.theta[...] = [0.5, -1.0, 0.25, 2.0, -3.0, 0.125, 1.0]
    x = np.array([[1.0, 2.0]])
    # code ½ − 2 + ¼ = −1.25; output (−2.5 + ⅛, 3.75 + 1); residual (3.375, −2.75)
    np.testing.assert_allclose(model.encode(x), [[-1.25]], rtol=1e-11)
    np.testing.assert_allclose(model.reconstruct(x), [[-2.375, 4.75]], rtol=1e-11)
    loss, gradients = model.loss_and_gradients(x)
    # (3.375² + 2.75²) / (2 · ½) + ½ · 2 · log(π)
    assert loss == pytest.approx(18.953125 + 1.1447298858494002, rel=1e-11)
    # the residual over the variance, with its sign turned
    np.testing.assert_allclose(gradients["decoder.0.bias"], [-6.75, 5.5], rtol=1e-11)
    np.testing.assert_allclose(gradients["decoder.0.weight"], [[8.4375, -6.875]], rtol=1e-11)
    # −6.75 · 2 + 5.5 · (−3)
    np.testing.assert_allclose(gradients["encoder.code.bias"], [-30.0], rtol=1e-11)
    np.testing.assert_allclose(gradients["encoder.code.weight"], [[-30.0], [-60.0]], rtol=1e-11)


def test_methods_agree_and_leave_gradients_behind(rng):
    model, x = make_autoencoder(rng, depth=2), draw_x(rng, "bernoulli", 4)
    with unchanged(model.theta, x):
        loss, gradients = model.loss_and_gradients(x)
    assert isinstance(loss, float)
    assert model.loss(x) == loss
    joined = np.concatenate([gradient.ravel() for gradient in gradients.values()])
    np.testing.assert_array_equal(joined, model.gradient)
    assert not any(np.shares_memory(gradient, model.gradient) for gradient in gradients.values())
    np.testing.assert_array_equal(model.code(x), model.encode(x))
    elbo = model.minibatch_elbo(x, noise=None, num_samples=1)
    assert isinstance(elbo, ELBO)
    assert -elbo.value.mean() == pytest.approx(loss, rel=1e-14)
    np.testing.assert_array_equal(elbo.value, elbo.reconstruction)
    assert not elbo.kl.any()
    model.gradient[...] = np.nan
    step = model.minibatch_gradients(x, noise=None, estimator=None, num_samples=1, beta=1.0)
    np.testing.assert_equal(step, (loss, elbo))
    np.testing.assert_array_equal(joined, model.gradient)


def test_a_batch_is_the_mean_of_its_examples(rng):
    model, x = make_autoencoder(rng), draw_x(rng, "bernoulli", 4)
    loss, gradients = model.loss_and_gradients(x)
    single = [model.loss_and_gradients(x[b : b + 1]) for b in range(4)]
    assert loss == pytest.approx(np.mean([each for each, _ in single]), rel=1e-13)
    for name, gradient in gradients.items():
        assert_close_to_largest(gradient, np.mean([each[name] for _, each in single], axis=0), 1e-12, name)


def test_code_and_output_are_those_of_the_definition(rng):
    model, x = make_autoencoder(rng, depth=3), draw_x(rng, "bernoulli", 2)
    code = model.encode(x)
    for b in range(2):
        top = oracle.through_hidden(model.parameters, "encoder", 3, "tanh", x[b])
        np.testing.assert_allclose(code[b], oracle.affine(model.parameters, "encoder.code", top), rtol=1e-12)
        expected = oracle.decode(model.parameters, code[b], "tanh")
        np.testing.assert_allclose(model.decode(code)[b], expected, rtol=1e-11, atol=1e-13)


def test_forward_tensors_are_in_the_order_of_the_data_s_way(rng):
    model, x = make_autoencoder(rng, depth=1), draw_x(rng, "bernoulli", 2)
    tensors = dict(model.forward_tensors(x, None))
    assert list(tensors) == [
        *model.parameters,
        "the output of encoder.0",
        "the output of encoder.1",
        "the output of decoder.0",
        "the output of decoder.1",
    ]
    np.testing.assert_array_equal(tensors["the output of encoder.1"], model.encode(x))


@pytest.mark.parametrize("what", BAD_X)
@pytest.mark.parametrize("method", ["encode", "code", "reconstruct", "loss", "loss_and_gradients"])
def test_bad_data_is_refused_in_one_sentence(method, what):
    x, error, words = BAD_X[what]
    model = Autoencoder(INPUT_DIM, (4,), 2, rng=0)
    assert_refused(error, words, lambda: getattr(model, method)(x))


def test_a_loss_is_a_float(rng):
    model = make_autoencoder(rng, dtype=np.float32)
    x = np.ones((2, INPUT_DIM))
    assert {type(model.loss(x)), type(model.loss_and_gradients(x)[0])} == {float}


def test_data_are_not_differentiated(rng, monkeypatch):
    products = []
    right = kernels.matmul_transposed_right
    monkeypatch.setattr(
        kernels,
        "matmul_transposed_right",
        lambda dy, weight: products.append(weight.shape) or right(dy, weight),
    )
    model = make_autoencoder(rng, depth=0)
    model.loss_and_gradients(np.ones((2, INPUT_DIM)))
    assert products == [model.parameters["decoder.0.weight"].shape]
