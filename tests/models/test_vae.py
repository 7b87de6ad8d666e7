"""The VAE's loss and every gradient, against oracles that share no code with it; and what its methods promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scratchvae import kernels
from scratchvae.estimators import ESTIMATORS, make_estimator
from scratchvae.models.vae import VAE
from scratchvae.objectives.elbo import ELBO
from scratchvae.randomness import NoiseStream, standard_normal
from tests.models.cases import (
    ACTIVATIONS,
    INPUT_DIM,
    LATENT_DIM,
    LIKELIHOODS,
    assert_gradients,
    assert_gradients_are_the_oracle_s,
    assert_refused,
    draw_x,
    make_case,
)
from tests.oracles import vae as oracle
from tests.oracles.complex_step import (
    DIFFERENCE_TOLERANCE,
    assert_close_to_largest,
    five_point_vjp,
    unchanged,
)

# --- gradients of the whole model -------------------------------------------------------------------------


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_those_of_the_definition(rng, activation, likelihood, depth, num_samples):
    for kl, beta in itertools.product(("analytic", "sampled"), (0.0, 1.0, 4.0)):
        case = make_case(
            rng,
            depth=depth,
            num_samples=num_samples,
            activation=activation,
            likelihood=likelihood,
            kl=kl,
            beta=beta,
        )
        assert_gradients_are_the_oracle_s(case)


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("batch", [1, 2, 64])
def test_gradients_at_any_batch_size(rng, batch, kl):
    assert_gradients_are_the_oracle_s(make_case(rng, batch=batch, num_samples=2, kl=kl))


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_those_of_the_shipped_loss(rng, activation, likelihood, depth):
    for kl in ("analytic", "sampled"):
        settings = {"activation": activation, "likelihood": likelihood, "kl": kl}
        case = make_case(rng, depth=depth, batch=2, num_samples=2, smooth=True, **settings)
        start = case.vae.theta.copy()
        _, gradients = case.vae.loss_and_gradients(case.x, case.noise)

        def loss_at(theta, case=case):
            case.vae.theta[...] = theta
            return np.asarray(case.vae.loss(case.x, case.noise))

        (slopes,) = five_point_vjp(loss_at, (start,), 1.0)
        assert_gradients(gradients, oracle.by_name(slopes, case.vae.parameters), DIFFERENCE_TOLERANCE)


def test_terms_of_single_precision_are_added_up_in_double(rng):
    # Squares that single precision holds exactly, and their sum not. All weights are zero: the decoder says 0.
    vae = VAE(3000, (), 1, likelihood="gaussian", dtype="float32", rng=0)
    vae.theta[...] = 0
    x = (rng.integers(0, 1025, (2, 3000)) / 1024).astype(np.float32)
    loss, _ = vae.loss_and_gradients(x, rng.standard_normal((2, 1)).astype(np.float32))
    squares = (x.astype(np.float64) ** 2).sum(axis=1)
    assert loss == pytest.approx(((squares + 3000 * np.log(2 * np.pi)) / 2).mean(), rel=1e-12)


def test_gradients_in_single_precision_are_those_in_double(rng):
    for activation, likelihood in itertools.product(ACTIVATIONS, LIKELIHOODS):
        case = make_case(
            rng, depth=2, num_samples=2, activation=activation, likelihood=likelihood, smooth=True
        )
        loss, gradients = case.vae.loss_and_gradients(case.x, case.noise)
        twin = VAE(
            **{k: v for k, v in case.vae.config().items() if k != "model"} | {"dtype": "float32"}, rng=0
        )
        twin.load_parameters(case.vae.parameters)
        single_loss, single = twin.loss_and_gradients(case.x, case.noise)
        assert single_loss == pytest.approx(loss, rel=1e-5)
        for name, gradient in single.items():
            assert gradient.dtype == np.float32
            assert np.abs(gradient - gradients[name]).max() <= 1e-4 * np.abs(gradients[name]).max()


def test_terms_are_those_of_the_definition(rng):
    for kl, likelihood in itertools.product(("analytic", "sampled"), LIKELIHOODS):
        case = make_case(rng, num_samples=3, kl=kl, likelihood=likelihood, beta=2.5)
        elbo = case.vae.elbo(case.x, case.noise)
        settings = {name: value for name, value in case.oracle_settings().items() if name != "beta"}
        reconstruction, divergence = oracle.vae_terms(case.vae.parameters, case.x, case.noise, **settings)
        np.testing.assert_allclose(elbo.reconstruction, np.mean(reconstruction, axis=0), rtol=1e-12)
        np.testing.assert_allclose(elbo.kl, np.mean(divergence, axis=0), rtol=1e-12)


def test_a_loss_by_hand():
    # Everything the encoder and the decoder say is in their biases; S = 2, B = 1, D = 2, L = 1, β = 3.
    vae = VAE(2, (), 1, beta=3.0, dtype=np.float64, rng=0)
    vae.theta[...] = 0
    vae.parameters["encoder.mean.bias"][...] = 0.5
    vae.parameters["encoder.log_var.bias"][...] = -0.4
    vae.parameters["decoder.0.weight"][...] = [[1.0, -2.0]]
    vae.parameters["decoder.0.bias"][...] = [0.25, 0.0]
    elbo = vae.elbo([[1.0, 0.0]], [[[1.0]], [[-1.0]]])
    # z = ½ ± e^−0.2, logits z + ¼ and −2z: the mean of −log(1 + e^−(z + ¼)) − log(1 + e^−2z)
    np.testing.assert_allclose(elbo.reconstruction, [-1.024129810987135], rtol=1e-11)
    # ½ (0.25 + e^−0.4 − 1 + 0.4)
    np.testing.assert_allclose(elbo.kl, [0.160160023017820], rtol=1e-11)
    np.testing.assert_allclose(elbo.value, [-1.024129810987135 - 3 * 0.160160023017820], rtol=1e-11)


# --- what depends on what ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_a_batch_is_the_mean_of_its_examples_and_samples(rng, kl):
    case = make_case(rng, num_samples=3, kl=kl, depth=2)
    loss, gradients = case.vae.loss_and_gradients(case.x, case.noise)
    single = [
        case.vae.loss_and_gradients(case.x[b : b + 1], case.noise[s : s + 1, b : b + 1])
        for s, b in itertools.product(range(3), range(3))
    ]
    assert loss == pytest.approx(np.mean([each for each, _ in single]), rel=1e-13)
    for name, gradient in gradients.items():
        mean = np.mean([each[name] for _, each in single], axis=0)
        assert_close_to_largest(gradient, mean, 1e-12, name)


def test_an_example_s_terms_do_not_depend_on_its_neighbours(rng):
    case = make_case(rng, num_samples=2)
    whole = case.vae.elbo(case.x, case.noise)
    for b in range(3):
        alone = case.vae.elbo(case.x[b : b + 1], case.noise[:, b : b + 1])
        for part, single in zip(whole, alone, strict=True):
            np.testing.assert_allclose(part[b], single[0], rtol=1e-14)


def test_elbo_loss_and_loss_and_gradients_agree(rng):
    for beta, kl, num_samples in itertools.product((0.0, 1.0, 4.0), ("analytic", "sampled"), (1, 3)):
        case = make_case(rng, beta=beta, kl=kl, num_samples=num_samples)
        elbo = case.vae.elbo(case.x, case.noise)
        assert isinstance(elbo, ELBO)
        assert [part.shape for part in elbo] == [(3,)] * 3
        np.testing.assert_allclose(elbo.value, elbo.reconstruction - beta * elbo.kl, rtol=1e-14)
        loss = case.vae.loss(case.x, case.noise)
        assert type(loss) is float
        assert loss == pytest.approx(-elbo.value.mean(), rel=1e-14)
        for estimator in ESTIMATORS:
            if num_samples >= make_estimator(estimator).minimum_samples:
                again, _ = case.vae.loss_and_gradients(case.x, case.noise, estimator=estimator)
                assert again == pytest.approx(loss, rel=1e-14)


def test_loss_and_gradient_are_of_the_same_noise(rng):
    # Two samples of unequal noise, the first of them none at all: exchanged, they would give another loss.
    case = make_case(rng, num_samples=2)
    case.noise[0] = 0
    for samples in ([0], [1], [0, 1]):
        noise = case.noise[samples]
        loss, gradients = case.vae.loss_and_gradients(case.x, noise)
        assert loss == pytest.approx(case._replace(noise=noise).oracle_loss(case.vae.parameters), rel=1e-13)
        assert loss == pytest.approx(case.vae.loss(case.x, noise), rel=1e-13)
        exact = oracle.complex_step_gradients(case._replace(noise=noise).oracle_loss, case.vae.parameters)
        assert_gradients(gradients, exact)


def test_noise_of_one_sample_needs_no_axis_for_it(rng):
    case = make_case(rng)
    for method in (case.vae.loss, case.vae.elbo, case.vae.loss_and_gradients):
        two_axes, three_axes = method(case.x, case.noise[0]), method(case.x, case.noise)
        np.testing.assert_equal(two_axes, three_axes)


def test_noise_is_drawn_from_rng_in_the_shape_asked_for(rng):
    case = make_case(rng)
    drawn = standard_normal(7, (4, 3, LATENT_DIM))
    for method in (case.vae.loss, case.vae.elbo, case.vae.loss_and_gradients):
        np.testing.assert_equal(method(case.x, rng=7, num_samples=4), method(case.x, drawn))
    assert case.vae.loss(case.x, rng=7) != case.vae.loss(case.x, rng=8)
    assert case.vae.loss(case.x, rng=7) == case.vae.loss(case.x, rng=np.random.default_rng(7))
    assert case.vae.loss(case.x) != case.vae.loss(case.x), "without rng the noise must be fresh each time"


def test_calling_changes_neither_arguments_nor_parameters(rng):
    case = make_case(rng, num_samples=2)
    with unchanged(case.x, case.noise, case.vae.theta):
        case.vae.loss_and_gradients(case.x, case.noise)
        case.vae.loss_and_gradients(case.x, case.noise, estimator="score-function-leave-one-out")
        case.vae.elbo(case.x, case.noise)
        case.vae.sample(3, rng=0)
        case.vae.interpolate(case.x[0], case.x[1])


@pytest.mark.parametrize("method", ["loss", "elbo", "encode", "reconstruct"])
def test_only_a_gradient_computation_touches_the_gradient(rng, method):
    case = make_case(rng)
    case.vae.gradient[...] = 3.0
    arguments = (case.x, case.noise) if method in ("loss", "elbo") else (case.x,)
    getattr(case.vae, method)(*arguments)
    assert (case.vae.gradient == 3.0).all()


def test_gradients_returned_are_copies_of_those_left_in_the_model(rng):
    case = make_case(rng)
    case.vae.gradient[...] = np.nan  # every entry has to be written
    _, gradients = case.vae.loss_and_gradients(case.x, case.noise)
    assert list(gradients) == list(case.vae.parameters)
    joined = np.concatenate([gradient.ravel() for gradient in gradients.values()])
    np.testing.assert_array_equal(joined, case.vae.gradient)
    for gradient in gradients.values():
        assert not np.shares_memory(gradient, case.vae.gradient)
        gradient[...] = 0
    np.testing.assert_array_equal(joined, case.vae.gradient)


# --- estimators -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_decoder_s_gradient_is_the_same_bits_for_every_estimator(rng, dtype, kl):
    case = make_case(rng, depth=2, num_samples=3, kl=kl, dtype=dtype)
    _, expected = case.vae.loss_and_gradients(case.x, case.noise)
    for estimator in ESTIMATORS:
        _, gradients = case.vae.loss_and_gradients(case.x, case.noise, estimator=estimator)
        for name, gradient in gradients.items():
            assert gradient.dtype == dtype
            same = gradient.tobytes() == expected[name].tobytes()
            assert same == (name.startswith("decoder") or estimator == "pathwise"), (estimator, name)


def test_score_function_never_differentiates_the_decoder_with_respect_to_z(rng, monkeypatch):
    case = make_case(rng, num_samples=2)
    integrands = []
    make = VAE.integrand
    monkeypatch.setattr(
        VAE, "integrand", lambda *arguments: integrands.append(make(*arguments)) or integrands[-1]
    )
    for estimator in ESTIMATORS:
        case.vae.loss_and_gradients(case.x, case.noise, estimator=estimator)
    expected = [6 if estimator == "pathwise" else 0 for estimator in ESTIMATORS]
    assert [integrand.differentiations for integrand in integrands] == expected
    assert [integrand.evaluations for integrand in integrands] == [6] * len(ESTIMATORS)


@pytest.mark.parametrize(
    ("settings", "estimator", "at_once"),
    [
        ({}, "pathwise", True),
        ({}, "score-function", False),
        ({"num_samples": 2}, "pathwise", False),
        ({"kl": "sampled"}, "pathwise", False),
        ({}, "sticking-the-landing", False),
    ],
    ids=str,
)
def test_the_usual_gradient_is_one_kernel_and_no_other_is(rng, monkeypatch, settings, estimator, at_once):
    case, calls = make_case(rng, **settings), []
    right = kernels.vae_gradients
    monkeypatch.setattr(kernels, "vae_gradients", lambda *arguments: calls.append(1) or right(*arguments))
    case.vae.loss_and_gradients(case.x, case.noise, estimator=estimator)
    assert bool(calls) == at_once


def test_nothing_is_differentiated_that_nobody_asked_for(rng, monkeypatch):
    # Through a weight goes the gradient of the layer's input: never of data, and of z only where it is needed.
    products = []
    right = kernels.matmul_transposed_right
    monkeypatch.setattr(
        kernels,
        "matmul_transposed_right",
        lambda dy, weight: products.append(weight.shape) or right(dy, weight),
    )
    for depth, by_score in ((0, []), (1, ["decoder.1", "encoder.log_var", "encoder.mean"])):
        case = make_case(rng, depth=depth, num_samples=2)
        for estimator, layers in (("score-function", by_score), ("pathwise", [*by_score, "decoder.0"])):
            products.clear()
            case.vae.loss_and_gradients(case.x, case.noise, estimator=estimator)
            assert sorted(products) == sorted(case.vae.parameters[f"{name}.weight"].shape for name in layers)


def test_single_precision_is_kept_on_the_way_back(rng, monkeypatch):
    seen, right = [], VAE.encoder_backward
    monkeypatch.setattr(
        VAE, "encoder_backward", lambda self, *given: seen.extend(given[:2]) or right(self, *given)
    )
    case = make_case(rng, num_samples=2, dtype=np.float32)
    case.vae.loss_and_gradients(case.x, case.noise)
    assert [gradient.dtype for gradient in seen] == [np.float32, np.float32]


def test_an_estimator_object_keeps_what_it_has_learned(rng):
    case = make_case(rng, num_samples=2)
    estimator = make_estimator("score-function-running-mean", decay=0.5)
    first, second = (
        case.vae.loss_and_gradients(case.x, case.noise, estimator=estimator)[1]["encoder.mean.bias"]
        for _ in range(2)
    )
    assert estimator.center.count == 4
    assert (first != second).any(), "the second time there is a baseline"
    by_name = [
        case.vae.loss_and_gradients(case.x, case.noise, estimator=estimator.name)[1]["encoder.mean.bias"]
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*by_name)


# --- the training loop's own doors ------------------------------------------------------------------------


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_minibatch_methods_are_the_public_ones(rng, kl):
    case = make_case(rng, kl=kl, beta=4.0)
    noise = NoiseStream(5).standard_normal((2, 3, LATENT_DIM))
    public = case.vae.elbo(case.x, noise)
    np.testing.assert_equal(case.vae.minibatch_elbo(case.x, NoiseStream(5), 2), public)
    loss, gradients = case.vae.loss_and_gradients(case.x, noise)
    step = case.vae.minibatch_gradients(case.x, NoiseStream(5), make_estimator("pathwise"), 2, beta=4.0)
    np.testing.assert_equal(step, (loss, public))
    np.testing.assert_equal(dict(case.vae.gradients), gradients)
    # A warm-up's weight takes the place of the model's.
    other = VAE(**{k: v for k, v in case.vae.config().items() if k != "model"} | {"beta": 0.5}, rng=0)
    other.theta[...] = case.vae.theta
    loss, gradients = other.loss_and_gradients(case.x, noise)
    step = case.vae.minibatch_gradients(case.x, NoiseStream(5), make_estimator("pathwise"), 2, beta=0.5)
    assert step[0] == loss
    np.testing.assert_equal(dict(case.vae.gradients), gradients)


def test_forward_tensors_are_in_the_order_of_the_data_s_way(rng):
    case = make_case(rng, depth=2, num_samples=2)
    tensors = list(case.vae.forward_tensors(case.x, case.noise))
    names = [name for name, _ in tensors]
    assert names == [
        *case.vae.parameters,
        "the output of encoder.0",
        "the output of encoder.1",
        "mean",
        "log_var",
        "z",
        "the output of decoder.0",
        "the output of decoder.1",
        "the output of decoder.2",
        "kl",
    ]
    by_name = dict(tensors)
    mean, log_var = case.vae.encode(case.x)
    np.testing.assert_array_equal(by_name["mean"], mean)
    np.testing.assert_array_equal(by_name["log_var"], log_var)
    np.testing.assert_allclose(by_name["z"], mean + np.exp(log_var / 2) * case.noise, rtol=1e-13)
    np.testing.assert_array_equal(by_name["kl"], case.vae.elbo(case.x, case.noise).kl)
    output = by_name["the output of decoder.2"]
    np.testing.assert_array_equal(output, case.vae.decode(by_name["z"].reshape(-1, LATENT_DIM)))


# --- encode, sample ---------------------------------------------------------------------------------------


def test_encode_and_decode_are_those_of_the_definition(rng):
    case = make_case(rng, depth=3)
    mean, log_var = case.vae.encode(case.x)
    for b in range(3):
        expected = oracle.posterior(case.vae.parameters, case.x[b], "tanh")
        np.testing.assert_allclose(mean[b], expected[0], rtol=1e-12)
        np.testing.assert_allclose(np.exp(log_var[b]), expected[1], rtol=1e-12)
        output = oracle.decode(case.vae.parameters, mean[b], "tanh")
        np.testing.assert_allclose(case.vae.decode(mean)[b], output, rtol=1e-11, atol=1e-13)
    np.testing.assert_array_equal(case.vae.code(case.x), mean)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_samples_are_decoded_draws_of_the_prior(rng, likelihood):
    case = make_case(rng, likelihood=likelihood)
    output = case.vae.decode(standard_normal(3, (7, LATENT_DIM)))
    expected = output if likelihood == "gaussian" else 1 / (1 + np.exp(-output))
    np.testing.assert_allclose(case.vae.sample(7, rng=3), expected, rtol=1e-13)


# --- numerical extremes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("log_var", [-60.0, 60.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_posteriors_give_finite_gradients(rng, dtype, log_var, kl, estimator):
    # Floating-point overflow, division by zero and invalid operations raise in every test.
    case = make_case(rng, num_samples=2, kl=kl, dtype=dtype, depth=0)
    case.vae.parameters["encoder.log_var.weight"][...] = 0
    case.vae.parameters["encoder.log_var.bias"][...] = log_var
    loss, gradients = case.vae.loss_and_gradients(case.x, case.noise, estimator=estimator)
    assert np.isfinite(loss)
    for name, gradient in gradients.items():
        assert np.isfinite(gradient).all(), name


@pytest.mark.parametrize("num_samples", [1, 2])
@pytest.mark.parametrize("logit", [-1e4, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_confidently_wrong_decoder_still_has_a_gradient(dtype, logit, num_samples):
    # Clipped probabilities would leave it none; a logarithm of zero would leave it a NaN.
    vae = VAE(4, (), 2, dtype=dtype, rng=0)
    vae.parameters["decoder.0.bias"][...] = logit
    wrong, noise = np.full((3, 4), 0.0 if logit > 0 else 1.0), np.zeros((num_samples, 3, 2))
    loss, gradients = vae.loss_and_gradients(wrong, noise)
    assert loss > 3.9e4
    np.testing.assert_allclose(gradients["decoder.0.bias"], np.sign(logit), rtol=1e-6)
    loss, gradients = vae.loss_and_gradients(1 - wrong, noise)
    assert not gradients["decoder.0.bias"].any(), "nothing is left to learn"


# --- at the door ------------------------------------------------------------------------------------------

GOOD_X = np.zeros((3, INPUT_DIM))
BAD_X = {
    "another width": (np.zeros((3, 4)), ValueError, "x has shape (3, 4), expected (B, 5)"),
    "one example without its axis": (np.zeros(5), ValueError, "x has shape (5,), expected (B, 5)"),
    "images": (np.zeros((3, 1, 5)), ValueError, "x has shape (3, 1, 5), expected (B, 5)"),
    "nothing": (np.zeros((0, 5)), ValueError, "x has shape (0, 5), expected (B, 5)"),
    "NaN": (np.full((3, 5), np.nan), ValueError, "x has … nan at index (0, 0) … expected finite numbers"),
    "infinite": (
        np.full((1, 5), -np.inf),
        ValueError,
        "x has … -inf at index (0, 0) … expected finite numbers",
    ),
    "above 1": (np.full((3, 5), 1.5), ValueError, "x has … 1.5 … expected values in [0, 1]: a Bernoulli"),
    "below 0": (np.full((3, 5), -0.5), ValueError, "x has … -0.5 … expected values in [0, 1]: a Bernoulli"),
    "bytes": (np.zeros((3, 5), np.uint8), TypeError, "x holds bytes (uint8), expected … float32"),
    "words": (np.full((3, 5), "zero"), TypeError, "x has dtype <U4, expected real numbers"),
    "complex": (np.zeros((3, 5), complex), TypeError, "x has dtype complex128, expected real numbers"),
    "ragged": ([[0.0] * 5, [0.0] * 4], TypeError, "x is not a rectangular array"),
    "None": (None, TypeError, "x has dtype object, expected real numbers"),
}


@pytest.mark.parametrize("what", BAD_X)
@pytest.mark.parametrize("method", ["encode", "code", "reconstruct", "elbo", "loss", "loss_and_gradients"])
def test_bad_data_is_refused_in_one_sentence(method, what):
    x, error, words = BAD_X[what]
    assert_refused(error, words, lambda: getattr(VAE(INPUT_DIM, (4,), 2, rng=0), method)(x))


BAD_NOISE = {
    "another latent_dim": (
        {"noise": np.zeros((3, 3))},
        ValueError,
        "noise has shape (3, 3), expected (3, 2)",
    ),
    "another batch": ({"noise": np.zeros((2, 2))}, ValueError, "noise has shape (2, 2), expected (3, 2)"),
    "one for the whole batch": ({"noise": np.zeros(2)}, ValueError, "noise has shape (2,), expected (3, 2)"),
    "shared by the latents": (
        {"noise": np.zeros((3, 1))},
        ValueError,
        "noise has shape (3, 1), expected (3, 2)",
    ),
    "no sample": (
        {"noise": np.zeros((0, 3, 2))},
        ValueError,
        "noise has shape (0, 3, 2), expected (S, 3, 2)",
    ),
    "axes in another order": (
        {"noise": np.zeros((3, 2, 4))},
        ValueError,
        "noise has shape (3, 2, 4), expected (S, 3, 2)",
    ),
    "infinite": ({"noise": np.full((3, 2), np.inf)}, ValueError, "noise has … inf at index … finite numbers"),
    "a word": ({"noise": "loud"}, TypeError, "noise has dtype"),
    "ragged": ({"noise": [[0.0, 1.0], [0.0]]}, TypeError, "noise is not a rectangular array"),
    "two wishes": (
        {"noise": np.zeros((2, 3, 2)), "num_samples": 3},
        ValueError,
        "num_samples is 3 but noise holds 2 samples",
    ),
    "no samples": ({"num_samples": 0}, ValueError, "num_samples is 0, expected an integer of at least 1"),
    "a float": ({"num_samples": 1.0}, TypeError, "num_samples is 1.0, expected an integer of at least 1"),
    "no generator": ({"rng": "dice"}, TypeError, "rng is 'dice'"),
    "no seed": ({"rng": -1}, ValueError, "rng is the seed -1"),
}


@pytest.mark.parametrize("what", BAD_NOISE)
@pytest.mark.parametrize("method", ["elbo", "loss", "loss_and_gradients"])
def test_bad_noise_is_refused_in_one_sentence(method, what):
    arguments, error, words = BAD_NOISE[what]
    assert_refused(error, words, lambda: getattr(VAE(INPUT_DIM, (4,), 2, rng=0), method)(GOOD_X, **arguments))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (
            {"estimator": "reinforce"},
            ValueError,
            "estimator is 'reinforce', expected one of: pathwise, score-function",
        ),
        ({"estimator": None}, TypeError, "estimator is None, expected one of: pathwise, score-function"),
        (
            {"estimator": "score-function-leave-one-out"},
            ValueError,
            "num_samples is 1, expected at least 2: score-function-leave-one-out compares",
        ),
        (
            {"estimator": "score-function-leave-one-out", "noise": np.zeros((1, 3, 2))},
            ValueError,
            "num_samples is 1, expected at least 2",
        ),
    ],
    ids=["unknown", "None", "too few asked for", "too few given"],
)
def test_a_bad_estimator_is_refused_in_one_sentence(arguments, error, words):
    assert_refused(
        error, words, lambda: VAE(INPUT_DIM, (4,), 2, rng=0).loss_and_gradients(GOOD_X, **arguments)
    )


@pytest.mark.parametrize(
    ("num_samples", "rng", "error", "words"),
    [
        (0, 0, ValueError, "num_samples is 0, expected an integer of at least 1"),
        (True, 0, TypeError, "num_samples is True, expected an integer of at least 1"),
        (3, 1.5, TypeError, "rng is 1.5"),
    ],
)
def test_sampling_refuses_in_one_sentence(num_samples, rng, error, words):
    assert_refused(error, words, lambda: VAE(INPUT_DIM, (4,), 2, rng=0).sample(num_samples, rng))


def test_a_gaussian_likelihood_takes_any_finite_numbers(rng):
    vae = VAE(INPUT_DIM, (4,), 2, likelihood="gaussian", rng=0)
    assert np.isfinite(vae.loss(3 * draw_x(rng, "gaussian", 3), rng=0))
    assert_refused(ValueError, "x has … nan at index", lambda: vae.loss(np.full((1, INPUT_DIM), np.nan)))


def test_a_number_too_large_for_single_precision_is_refused_not_made_infinite():
    vae = VAE(INPUT_DIM, (4,), 2, likelihood="gaussian", rng=0)
    assert_refused(ValueError, "x has … inf at index", lambda: vae.loss(np.full((1, INPUT_DIM), 1e39)))


def test_gradients_match_whatever_the_layout_of_the_data(rng):
    case = make_case(rng, num_samples=2)
    _, expected = case.vae.loss_and_gradients(case.x, case.noise)
    for x, noise in (
        (np.asfortranarray(case.x), np.asfortranarray(case.noise)),
        (np.repeat(case.x, 2, axis=1)[:, ::2], case.noise[::-1][::-1]),
        (case.x.tolist(), case.noise.tolist()),
    ):
        assert_gradients(case.vae.loss_and_gradients(x, noise)[1], expected, 1e-13)
