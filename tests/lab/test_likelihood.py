"""`log_marginal_likelihood` and `evaluate`: the samples asked for, the data and binarization of the model, its own β.

That the estimate is log p(x) where that is known is in `tests/models/test_linear_vae.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.lab import likelihood as module
from scratchvae.lab.likelihood import estimate_log_likelihood, evaluate, log_marginal_likelihood
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.randomness import NoiseStream
from tests.models.cases import INPUT_DIM, LATENT_DIM, assert_refused, make_autoencoder, make_case
from tests.oracles import vae as oracle
from tests.oracles.complex_step import unchanged

# --- log p(x) ---------------------------------------------------------------------------------------------


def record_noise(patch):
    """A list that will hold every piece of noise that is drawn, in order."""
    drawn = []
    right = module.standard_normal

    def record(*arguments):
        drawn.append(right(*arguments))
        return drawn[-1]

    patch.setattr(module, "standard_normal", record)
    return drawn


@pytest.fixture
def recorded(monkeypatch):
    return record_noise(monkeypatch)


@pytest.mark.parametrize("rows", [2048, 10, 3])
@pytest.mark.parametrize(
    ("activation", "settings"),
    [
        ("tanh", {"kl": "analytic"}),
        ("tanh", {"kl": "sampled"}),
        ("tanh", {"likelihood": "gaussian"}),
        ("softplus", {"depth": 2}),
        ("relu", {"depth": 0}),
    ],
    ids=["analytic KL", "sampled KL", "Gaussian", "two hidden layers", "none"],
)
def test_estimate_is_the_log_of_the_mean_weight_of_all_samples_asked_for(
    rng, recorded, monkeypatch, rows, activation, settings
):
    # From the definition, whatever β and the kind of KL the model was trained with, and however samples are cut.
    monkeypatch.setattr(module, "_ROWS", rows)
    case = make_case(rng, beta=4.0, activation=activation, **settings)
    likelihood, variance = case.vae.likelihood.name, case.vae.likelihood_variance
    estimate = log_marginal_likelihood(case.vae, case.x, 20, rng)
    noise = np.concatenate(recorded).reshape(3, 20, LATENT_DIM)
    assert max(len(piece) for piece in recorded) == min(rows, 20)
    for b, (x_b, noise_b) in enumerate(zip(case.x, noise, strict=True)):
        mean, spread = oracle.posterior(case.vae.parameters, x_b, activation)
        weights = []
        for one in noise_b:
            z = mean + np.sqrt(spread) * one
            output = oracle.decode(case.vae.parameters, z, activation)
            log_weight = oracle.log_likelihood(x_b, output, likelihood, variance) - oracle.log_ratio(
                z, mean, spread
            )
            weights.append(np.exp(log_weight))
        assert estimate[b] == pytest.approx(np.log(np.mean(weights)), rel=1e-12)


@pytest.mark.parametrize("num_samples", [1, 7, 2048, 2049, 5000])
def test_exactly_as_many_samples_as_asked_for_are_used(rng, monkeypatch, num_samples):
    case = make_case(rng, batch=2)
    seen = []
    right = module.importance_weighted_forward
    monkeypatch.setattr(
        module, "importance_weighted_forward", lambda weights: seen.append(weights.shape) or right(weights)
    )
    log_marginal_likelihood(case.vae, case.x, num_samples, 0)
    assert [shape for shape in seen if shape == (num_samples, 1)] == [(num_samples, 1)] * 2
    assert {samples * groups for samples, groups in seen} == {num_samples}, "lower rungs use all of them too"


def test_estimate_does_not_underflow(rng):
    # p(x) is about e^-2000: its logarithm is the only way to write it.
    vae = VAE(1000, (), 2, dtype=np.float64, rng=0)
    vae.parameters["decoder.0.bias"][...] = 2.0
    estimate = log_marginal_likelihood(vae, np.zeros((1, 1000)), 5, 0)
    assert np.isfinite(estimate).all()
    assert -2600 < estimate[0] < -2000


def test_estimates_repeat_and_leave_the_model_alone(rng):
    case = make_case(rng)
    with unchanged(case.vae.theta, case.vae.gradient, case.x):
        first, again, other = (log_marginal_likelihood(case.vae, case.x, 50, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    assert first.shape == (3,)
    assert first.dtype == np.float64


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"x": np.zeros((3, 4))}, ValueError, "x has shape (3, 4), expected (B, 5)"),
        ({"x": np.full((1, 5), 0.5) * 3}, ValueError, "x has … 1.5 … expected values in [0, 1]"),
        ({"num_samples": 0}, ValueError, "num_samples is 0, expected an integer of at least 1"),
        ({"num_samples": 10.0}, TypeError, "num_samples is 10.0, expected an integer"),
        ({"rng": "dice"}, TypeError, "rng is 'dice'"),
    ],
    ids=["shape", "domain", "no samples", "a float", "rng"],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, error, words):
    vae = VAE(INPUT_DIM, (4,), 2, rng=0)
    assert_refused(error, words, lambda: log_marginal_likelihood(vae, **{"x": np.zeros((2, 5))} | arguments))


def test_error_effective_size_and_bounds_are_those_of_each_example_s_weights(rng, monkeypatch):
    case = make_case(rng)
    seen = []
    right = module.sampled_kl_forward

    def record(z, mean, log_var):
        seen.append(-right(z, mean, log_var)[0])
        return right(z, mean, log_var)

    monkeypatch.setattr(module, "sampled_kl_forward", record)
    # A decoder that says nothing about z: the weights are p(z) / q(z|x), up to a factor that all of them share.
    case.vae.parameters["decoder.0.weight"][...] = 0
    found = estimate_log_likelihood(case.vae, case.x, 10, rng)
    for b, log_weights in enumerate(seen):
        weights = np.exp(log_weights[:, 0])
        assert found.effective_sample_size[b] == pytest.approx(
            weights.sum() ** 2 / (weights**2).sum(), rel=1e-12
        )
        spread = weights.std(ddof=1) / np.sqrt(10) / weights.mean()
        assert found.monte_carlo_error[b] == pytest.approx(spread, rel=1e-10)
        groups = np.log(weights.reshape(2, 5).mean(axis=1)).mean() - np.log(weights.mean())
        assert found.bounds[5][b] - found.value[b] == pytest.approx(groups, abs=1e-12)
        ratio = log_weights.mean() - np.log(weights.mean())
        assert found.bounds[1][b] - found.value[b] == pytest.approx(ratio, abs=1e-12)
    np.testing.assert_array_equal(found.bounds[10], found.value)


def test_a_warning_where_few_samples_have_all_the_weight(rng):
    case = make_case(rng, batch=4)
    # The posterior is the prior and the decoder knows nothing: all samples have the same weight.
    case.vae.theta[...] = 0
    assert evaluate(case.vae, case.x, likelihood_samples=500)["warning"] is None
    # Posteriors ten standard deviations away from where they should be.
    case.vae.parameters["encoder.mean.bias"][...] = 10
    found = evaluate(case.vae, case.x, likelihood_samples=500)
    assert found["effective_sample_size_smallest"] < 10
    assert found["warning"].startswith(
        "in 4 of 4 examples fewer than 10 of 500 samples have nearly all the weight"
    )


# --- evaluate ---------------------------------------------------------------------------------------------


def watch(model, monkeypatch):
    """The minibatches that a model is asked to explain, and the shapes of the noise."""
    seen = []
    right = model.minibatch_elbo

    def minibatch_elbo(x, **settings):
        seen.append((x.copy(), settings["num_samples"]))
        return right(x, **settings)

    monkeypatch.setattr(model, "minibatch_elbo", minibatch_elbo)
    return seen


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_loss_has_the_model_s_beta_and_the_negative_elbo_has_none(rng, beta):
    case = make_case(rng, beta=beta, batch=20)
    result = evaluate(case.vae, case.x)
    assert result["loss"] == pytest.approx(-(result["reconstruction"] - beta * result["kl"]), rel=1e-12)
    assert result["negative_elbo"] == pytest.approx(-(result["reconstruction"] - result["kl"]), rel=1e-12)
    assert set(result) == {
        "loss", "reconstruction", "kl", "negative_elbo", "binarize", "examples", "num_samples",
    }  # fmt: skip
    assert (result["examples"], result["num_samples"], result["binarize"]) == (20, 1, "dynamic")


@pytest.mark.parametrize("num_samples", [1, 30, 100, 1000])
def test_many_samples_take_no_more_memory_than_one(rng, monkeypatch, num_samples):
    # What passes through the decoder at a time is a thousand samples, of many examples or of few.
    case = make_case(rng, batch=50)
    seen = watch(case.vae, monkeypatch)
    evaluate(case.vae, case.x, num_samples=num_samples)
    assert max(len(x) * samples for x, samples in seen) <= 1000
    assert sum(len(x) for x, _ in seen) == 50


@pytest.mark.parametrize("binarize", ["dynamic", "threshold", None])
def test_data_is_binarized_as_the_model_was_trained(rng, monkeypatch, binarize):
    grey = rng.random((30, INPUT_DIM)).astype(np.float32)
    for model in (
        VAE(INPUT_DIM, (4,), 2, binarize=binarize, rng=0),
        Autoencoder(INPUT_DIM, binarize=binarize, rng=0),
    ):
        seen = watch(model, monkeypatch)
        assert evaluate(model, grey)["binarize"] == binarize
        ((x, _),) = seen
        if binarize is None:
            np.testing.assert_array_equal(x, grey)
        elif binarize == "threshold":
            np.testing.assert_array_equal(x, grey > 0.5)
        else:
            assert set(np.unique(x)) == {0.0, 1.0}
            assert (x != (grey > 0.5)).any()


def test_bytes_are_evaluated_as_the_floats_that_they_stand_for(rng):
    as_bytes = rng.integers(0, 256, (30, INPUT_DIM), dtype=np.uint8)
    vae = VAE(INPUT_DIM, (4,), 2, rng=0)
    arguments = {"likelihood_samples": 10, "rng": 3}
    np.testing.assert_equal(
        evaluate(vae, as_bytes, **arguments), evaluate(vae, as_bytes.astype(np.float32) / 255, **arguments)
    )


def test_samples_for_the_bound_are_those_asked_for(rng, monkeypatch):
    case = make_case(rng)
    seen = watch(case.vae, monkeypatch)
    assert evaluate(case.vae, case.x, num_samples=7)["num_samples"] == 7
    assert [samples for _, samples in seen] == [7]


def test_log_likelihood_is_that_of_the_first_examples(rng, monkeypatch):
    case = make_case(rng, batch=12, binarize="threshold")
    asked = []
    right = module.estimate_log_likelihood

    def record(vae, x, num_samples, rng, progress):
        asked.append((x, num_samples, right(vae, x, num_samples, rng, progress)))
        return asked[-1][-1]

    monkeypatch.setattr(module, "estimate_log_likelihood", record)
    result = evaluate(case.vae, case.x, likelihood_samples=15, likelihood_examples=5)
    ((x, num_samples, estimate),) = asked
    values = estimate.value
    np.testing.assert_array_equal(x, case.x[:5] > 0.5)
    assert num_samples == result["log_likelihood_samples"] == 15
    assert result["log_likelihood_examples"] == 5
    assert result["log_likelihood"] == pytest.approx(values.mean(), rel=1e-14)
    assert result["log_likelihood_standard_error"] == pytest.approx(
        values.std(ddof=1) / np.sqrt(5), rel=1e-12
    )
    assert result["log_likelihood_monte_carlo_error"] == pytest.approx(
        np.sqrt((estimate.monte_carlo_error**2).sum()) / 5, rel=1e-12
    )
    sizes = estimate.effective_sample_size
    assert result["effective_sample_size_median"] == sorted(sizes)[2]
    assert result["effective_sample_size_smallest"] == min(sizes)
    assert [rung["samples"] for rung in result["bounds"]] == [1, 5, 15]
    assert [rung["bound"] for rung in result["bounds"]] == [v.mean() for v in estimate.bounds.values()]
    assert result["bounds"][-1]["standard_error"] == result["log_likelihood_standard_error"]
    assert result["examples"] == 12
    assert (
        evaluate(case.vae, case.x, likelihood_samples=2, likelihood_examples=100)["log_likelihood_examples"]
        == 12
    )
    pair = evaluate(case.vae, case.x[:2], likelihood_samples=2)
    assert pair["log_likelihood_standard_error"] > 0
    assert evaluate(case.vae, case.x, likelihood_samples=1)["log_likelihood_monte_carlo_error"] is None
    alone = evaluate(case.vae, case.x[:1], likelihood_samples=2)
    assert alone["log_likelihood_standard_error"] is None, "one example has no spread"


def test_log_likelihood_is_above_the_bound_and_leaves_it_as_it_was(rng):
    case = make_case(rng, batch=40)
    plain = evaluate(case.vae, case.x, num_samples=50, rng=3)
    with_likelihood = evaluate(case.vae, case.x, num_samples=50, likelihood_samples=500, rng=3)
    for name, value in plain.items():
        assert with_likelihood[name] == value
    assert with_likelihood["log_likelihood"] > -plain["negative_elbo"]


def test_an_autoencoder_has_a_reconstruction_and_no_likelihood(rng):
    model = make_autoencoder(rng, binarize=None)
    x = rng.random((6, INPUT_DIM))
    result = evaluate(model, x, likelihood_samples=10)
    assert result["loss"] == pytest.approx(model.loss(x), rel=1e-12)
    assert result["kl"] == 0
    assert result["negative_elbo"] == pytest.approx(result["loss"], rel=1e-14)
    assert "log_likelihood" not in result


def test_evaluation_repeats_and_leaves_model_and_data_alone(rng):
    case = make_case(rng)
    with unchanged(case.vae.theta, case.vae.gradient, case.x):
        first, again, other = (
            evaluate(case.vae, case.x, likelihood_samples=3, rng=seed) for seed in (3, 3, 4)
        )
    assert first == again
    assert first["loss"] != other["loss"]
    assert first == evaluate(case.vae, case.x, likelihood_samples=3, rng=np.random.default_rng(3))
    assert evaluate(case.vae, case.x) == evaluate(case.vae, case.x), "repeatable unless asked to be otherwise"


def test_the_bound_is_that_of_the_model_s_own_method(rng, monkeypatch):
    case = make_case(rng, batch=6, binarize=None)
    streams = []
    monkeypatch.setattr(
        "scratchvae.training.loop.NoiseStream", lambda rng: streams.append(NoiseStream(rng)) or streams[-1]
    )
    result = evaluate(case.vae, case.x, num_samples=4)
    key, used = streams[-1].state()
    assert used == 4 * 6 * LATENT_DIM
    noise = NoiseStream.from_state((key, 0)).standard_normal((4, 6, LATENT_DIM))
    elbo = case.vae.elbo(case.x, noise)
    assert result["loss"] == pytest.approx(case.vae.loss(case.x, noise), rel=1e-13)
    assert result["reconstruction"] == pytest.approx(elbo.reconstruction.mean(), rel=1e-13)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"x": np.zeros(3)}, ValueError, "x has shape (3,), expected (N, 5) … labels instead of images?"),
        ({"x": np.zeros((0, 5))}, ValueError, "x has shape (0, 5), expected (N, 5) with N at least 1"),
        ({"x": np.full((1, 5), np.nan)}, ValueError, "x has … nan at index (0, 0)"),
        ({"num_samples": 0}, ValueError, "num_samples is 0, expected an integer of at least 1"),
        (
            {"likelihood_samples": -1},
            ValueError,
            "likelihood_samples is -1, expected an integer of at least 0",
        ),
        ({"likelihood_samples": 1.5}, TypeError, "likelihood_samples is 1.5, expected an integer"),
        (
            {"likelihood_samples": 1, "likelihood_examples": 0},
            ValueError,
            "likelihood_examples is 0, expected an integer of at least 1",
        ),
        ({"rng": "dice"}, TypeError, "rng is 'dice'"),
    ],
    ids=["labels", "nothing", "NaN", "no samples", "fewer than none", "a float", "no examples", "rng"],
)
def test_bad_arguments_of_evaluate_are_refused_in_one_sentence(arguments, error, words):
    vae = VAE(INPUT_DIM, (4,), 2, rng=0)
    assert_refused(error, words, lambda: evaluate(vae, **{"x": np.zeros((2, 5))} | arguments))


def test_an_autoencoder_has_no_noise_to_speak_of():
    model = Autoencoder(INPUT_DIM, (4,), 2, rng=0)
    assert_refused(
        TypeError,
        "vae is of type Autoencoder, expected a VAE",
        lambda: log_marginal_likelihood(model, np.zeros((2, INPUT_DIM))),
    )
