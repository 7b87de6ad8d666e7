"""The training loop: it learns, repeats itself to the bit, keeps its streams of randomness apart, and stops in time."""

from __future__ import annotations

import hashlib
import math
import time
from itertools import pairwise

import numpy as np
import pytest

from scratchvae.estimators import make_estimator
from scratchvae.estimators.pathwise import Pathwise
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.training import divergence
from scratchvae.training import loop as module
from scratchvae.training.adam import Adam
from scratchvae.training.data import load_dataset
from scratchvae.training.loop import TrainingDiverged, average_terms, fit
from tests.models.cases import assert_refused

WIDTH = 6
MAKERS = {"VAE": VAE, "autoencoder": Autoencoder}


def make(model="VAE", **settings):
    return MAKERS[model](**{"input_dim": WIDTH, "hidden": (4,), "latent_dim": 2, "rng": 0} | settings)


def black_and_white(rng, count=10):
    return rng.integers(0, 2, (count, WIDTH)).astype(np.float32)


def grey(rng, count=10):
    return rng.random((count, WIDTH)).astype(np.float32)


def train(model, x, **options):
    return fit(model, x, **{"epochs": 3, "batch_size": 4, "rng": 0, "progress": False} | options)


def digest(model):
    return hashlib.sha256(model.theta.tobytes()).hexdigest()


class Spy:
    """Records what the loop hands to a model, step by step."""

    def __init__(self, model, monkeypatch):
        self.batches, self.noise, self.betas, self.losses, self.samples, self.validation = (
            [],
            [],
            [],
            [],
            [],
            [],
        )
        gradients, elbo = model.minibatch_gradients, model.minibatch_elbo

        def minibatch_gradients(x, **settings):
            self.batches.append(x.copy())
            self.noise.append(settings["noise"].state())
            self.betas.append(settings["beta"])
            self.samples.append(settings["num_samples"])
            result = gradients(x, **settings)
            self.losses.append(result[0])
            return result

        def minibatch_elbo(x, **settings):
            self.validation.append(x.copy())
            return elbo(x, **settings)

        monkeypatch.setattr(model, "minibatch_gradients", minibatch_gradients)
        monkeypatch.setattr(model, "minibatch_elbo", minibatch_elbo)


# --- it learns --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def without_a_code(digits, likelihood):
    """The loss on unseen digits of the best decoder that ignores its input: it says the mean of each pixel."""
    mean, x = digits.train.astype(np.float64).mean(axis=0).clip(1e-3, 1 - 1e-3), digits.test
    if likelihood == "gaussian":
        return float(((x - mean) ** 2 / VARIANCE + np.log(2 * np.pi * VARIANCE)).sum(axis=1).mean() / 2)
    return float(-(x * np.log(mean) + (1 - x) * np.log(1 - mean)).sum(axis=1).mean())


VARIANCE = 0.05


@pytest.mark.parametrize(
    ("model", "settings", "options", "gain"),
    [
        # by how many nats eight epochs have to beat it: at most half of what they do
        ("VAE", {}, {}, 1.0),
        ("VAE", {"likelihood": "gaussian", "likelihood_variance": VARIANCE}, {}, 6.0),
        ("VAE", {"kl": "sampled", "activation": "tanh"}, {"optimizer": "sgd", "learning_rate": 0.05}, 0.4),
        ("VAE", {}, {"estimator": "score-function-leave-one-out", "num_samples": 4}, 0.9),
        ("autoencoder", {"hidden": ()}, {}, 4.5),
    ],
    ids=["VAE", "Gaussian VAE", "sampled KL by SGD", "leave-one-out", "64-8-64 autoencoder"],
)
def test_learns_from_real_digits_to_use_its_code(digits, model, settings, options, gain):
    trained = make(model, **{"input_dim": 64, "hidden": (64,), "latent_dim": 8} | settings)
    start = average_terms(trained, digits.test, 0)[0]
    options = {"epochs": 8, "batch_size": 32, "learning_rate": 4e-3, "validation": digits.test} | options
    history = train(trained, digits.train, **options)
    end = history.column("validation_loss")[-1]
    assert end < without_a_code(digits, settings.get("likelihood")) - gain < start - 10
    assert history.column("loss")[-1] < history.column("loss")[0]


# --- it repeats itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MAKERS)
def test_the_same_seed_gives_the_same_bits(rng, model):
    x, validation = grey(rng), grey(rng)
    runs = []
    for seed in (5, 5, np.random.default_rng(5), 6):
        trained = make(model)
        history = train(trained, x, validation=validation, rng=seed)
        records = [{**record, "seconds": None} for record in history.to_records()]
        runs.append((digest(trained), records))
    assert runs[0] == runs[1] == runs[2]
    assert runs[0][0] != runs[3][0]


def test_all_randomness_comes_from_rng(rng):
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - to show that nobody touches it
    train(make(), grey(rng), validation=grey(rng))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_nothing_about_validation_changes_the_training(rng):
    x = grey(rng)
    digests = set()
    for validation in (None, grey(rng, 3), grey(rng, 50)):
        model = make()
        train(model, x, validation=validation)
        digests.add(digest(model))
    assert len(digests) == 1


def test_binarization_changes_neither_the_order_of_the_data_nor_the_noise(rng, monkeypatch):
    # On black and white pixels every binarization is the identity, whatever it draws.
    x, digests = black_and_white(rng), set()
    for binarize in ("dynamic", "threshold", None):
        model = make(binarize=binarize)
        train(model, x)
        digests.add(digest(model))
    assert len(digests) == 1
    # On grey ones the rows that are chosen and the noise are still the same.
    x, seen = grey(rng), []
    for binarize in ("threshold", None):
        model = make(binarize=binarize)
        spy = Spy(model, monkeypatch)
        train(model, x)
        seen.append(spy)
    np.testing.assert_equal(seen[0].noise, seen[1].noise)
    for black, plain in zip(seen[0].batches, seen[1].batches, strict=True):
        np.testing.assert_array_equal(black, plain > 0.5)


def test_the_number_of_samples_changes_neither_order_nor_binarization(rng, monkeypatch):
    x, batches = grey(rng), []
    for num_samples in (1, 3):
        model = make()
        spy = Spy(model, monkeypatch)
        train(model, x, num_samples=num_samples)
        assert spy.samples == [num_samples] * 9
        batches.append(spy.batches)
    np.testing.assert_equal(*batches)


def test_noise_and_dynamic_binarization_are_fresh_at_every_step(rng, monkeypatch):
    x = np.full((4, WIDTH), 0.5, np.float32)
    model = make()
    spy = Spy(model, monkeypatch)
    train(model, x, epochs=20)
    offsets = [offset for _, offset in spy.noise]
    assert [after - before for before, after in pairwise(offsets)] == [8] * 19, "S · B · L values each"
    drawn = {batch.tobytes() for batch in spy.batches}
    assert len(drawn) == 20
    assert {0.0, 1.0} == set(np.unique(spy.batches))


def test_validation_is_the_same_question_each_time(rng, monkeypatch):
    # Same noise and same binarization after every epoch: what changes is the model.
    model = make()
    spy = Spy(model, monkeypatch)
    history = train(model, grey(rng), validation=grey(rng, 7), learning_rate=1e-30)
    np.testing.assert_array_equal(spy.validation[0], spy.validation[1])
    assert len(set(history.column("validation_loss"))) == 1


def test_validation_is_on_the_validation_set(rng, monkeypatch):
    model, validation = make(binarize=None), grey(rng, 7)
    spy = Spy(model, monkeypatch)
    train(model, grey(rng), validation=validation)
    for seen in spy.validation:
        np.testing.assert_array_equal(seen, validation)
    assert len(spy.validation) == 3


# --- minibatches ------------------------------------------------------------------------------------------


def test_every_example_is_seen_once_an_epoch_in_a_new_order_and_the_last_batch_is_smaller(rng, monkeypatch):
    x = np.tile(np.arange(10, dtype=np.float32)[:, None], (1, WIDTH))
    model = make(likelihood="gaussian", likelihood_variance=100.0)
    spy = Spy(model, monkeypatch)
    train(model, x)
    assert [len(batch) for batch in spy.batches] == [4, 4, 2] * 3
    epochs = np.concatenate(spy.batches)[:, 0].reshape(3, 10)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(10), (3, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert tuple(epochs[0]) != tuple(range(10)), "shuffled from the first epoch on"


def test_history_weighs_every_example_alike(rng, monkeypatch):
    model = make(beta=2.0)
    spy = Spy(model, monkeypatch)
    start = time.monotonic()
    history = train(model, grey(rng))
    for epoch, losses in zip(history.epochs, np.reshape(spy.losses, (3, 3)), strict=True):
        assert epoch.loss == pytest.approx((4 * losses[0] + 4 * losses[1] + 2 * losses[2]) / 10, rel=1e-12)
        assert epoch.loss == pytest.approx(-(epoch.reconstruction - 2.0 * epoch.kl), rel=1e-12)
    assert history.column("epoch") == [1, 2, 3]
    assert history.column("step") == [3, 6, 9]
    assert history.column("validation_loss") == [None] * 3
    seconds = [0, *history.column("seconds"), time.monotonic() - start]
    assert seconds == sorted(seconds)


def test_a_batch_size_beyond_the_data_is_the_whole_of_it(rng, monkeypatch):
    model = make()
    spy = Spy(model, monkeypatch)
    train(model, grey(rng), batch_size=1000)
    assert [len(batch) for batch in spy.batches] == [10] * 3


def test_no_epochs_leave_the_model_as_it_is(rng):
    model = make()
    before = digest(model)
    assert len(train(model, grey(rng), epochs=0, validation=grey(rng))) == 0
    assert digest(model) == before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bytes_train_as_the_floats_that_they_stand_for(rng, dtype):
    as_bytes = rng.integers(0, 256, (10, WIDTH), dtype=np.uint8)
    as_floats = as_bytes.astype(dtype) / 255
    digests, losses = set(), set()
    for x in (as_bytes, as_floats, as_bytes.reshape(10, 2, 3), as_floats.reshape(10, 2, 3, 1)):
        model = make(dtype=dtype)
        losses.add(tuple(train(model, x, validation=x).column("validation_loss")))
        digests.add(digest(model))
    assert len(digests) == len(losses) == 1


def test_bytes_that_are_nearly_black_are_bytes_all_the_same():
    history = train(make(binarize=None), np.full((4, WIDTH), 2, np.uint8))
    assert len(history) == 3, "only zeros and ones are suspicious"


def test_data_is_not_changed(rng):
    x = grey(rng)
    before = x.tobytes()
    train(make(), x, validation=x)
    assert x.tobytes() == before


# --- KL warm-up, β, estimators ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "epochs_of_warmup", "expected"),
    [
        (1.0, 0, [1.0] * 9),
        (4.0, 0, [4.0] * 9),
        (1.0, 2, [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1]),
        (4.0, 1.5, [4 / 4.5, 8 / 4.5, 12 / 4.5, 16 / 4.5, 4, 4, 4, 4, 4]),
        (2.0, 100, [2 * step / 300 for step in range(1, 10)]),
        (0.0, 2, [0.0] * 9),
    ],
)
def test_weight_of_the_divergence_grows_linearly_to_beta(rng, monkeypatch, beta, epochs_of_warmup, expected):
    model = make(beta=beta)
    spy = Spy(model, monkeypatch)
    history = train(model, grey(rng), kl_warmup_epochs=epochs_of_warmup)
    np.testing.assert_allclose(spy.betas, expected, rtol=1e-14)
    assert history.column("beta") == spy.betas[2::3]
    assert model.beta == beta


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_validation_carries_the_same_beta_as_training_warm_up_or_not(rng, beta):
    history = train(make(beta=beta), grey(rng), validation=grey(rng), kl_warmup_epochs=50)
    for epoch in history.epochs:
        expected = -(epoch.validation_reconstruction - beta * epoch.validation_kl)
        assert epoch.validation_loss == pytest.approx(expected, rel=1e-12)


def test_an_autoencoder_has_no_divergence(rng):
    history = train(make("autoencoder"), grey(rng), validation=grey(rng))
    assert set(history.column("kl") + history.column("validation_kl") + history.column("beta")) == {0.0}
    assert history.column("validation_loss") == [-r for r in history.column("validation_reconstruction")]


def test_an_estimator_object_keeps_what_it_learned_through_all_steps(rng):
    estimator = make_estimator("score-function-running-mean")
    train(make(), grey(rng), estimator=estimator, num_samples=2)
    assert estimator.center.count == 2 * 9
    assert estimator.center.baseline < 0
    # By name it is a fresh one in each run, and the same all through a run.
    runs = []
    for chosen in ("score-function-running-mean", make_estimator("score-function-running-mean")):
        model = make()
        train(model, black_and_white(np.random.default_rng(0)), estimator=chosen)
        runs.append(digest(model))
    assert runs[0] == runs[1]


def test_samples_are_by_default_the_fewest_that_the_estimator_needs(rng, monkeypatch):
    for estimator, fewest in (("pathwise", 1), ("score-function", 1), ("score-function-leave-one-out", 2)):
        model = make()
        spy = Spy(model, monkeypatch)
        train(model, grey(rng), estimator=estimator)
        assert set(spy.samples) == {fewest}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_learning_rate_and_optimizer_are_those_asked_for(rng, monkeypatch, optimizer):
    made = []
    right = module.OPTIMIZERS[optimizer]
    monkeypatch.setitem(
        module.OPTIMIZERS, optimizer, lambda theta, rate: made.append((theta, rate)) or right(theta, rate)
    )
    model = make()
    train(model, grey(rng), optimizer=optimizer, learning_rate=0.125)
    ((theta, rate),) = made
    assert theta is model.theta
    assert rate == 0.125


def test_on_epoch_is_called_before_the_first_and_after_every_epoch(rng):
    model = make()
    calls = []
    start = digest(model)
    history = train(model, grey(rng), on_epoch=lambda epoch: calls.append((epoch, digest(model))))
    assert [epoch for epoch, _ in calls] == [0, 1, 2, 3]
    assert calls[0][1] == start
    assert calls[-1][1] == digest(model)
    assert len({state for _, state in calls}) == 4
    assert len(history) == 3


def test_progress_goes_to_stderr_only(rng, capsys, monkeypatch):
    train(make(), grey(rng), progress=True)
    assert capsys.readouterr() == ("", ""), "nothing before two seconds"
    monkeypatch.setattr("scratchvae.training.progress._PATIENCE", -1.0)
    train(make(), grey(rng), progress=True, epochs=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" nats")[0].rsplit(" ", 1)[0] for line in err.splitlines()] == [
        f"training: {step}/3 epoch 1, loss" for step in (1, 2, 3)
    ]


# --- evaluation -------------------------------------------------------------------------------------------


def test_average_is_over_examples_however_they_are_cut(rng, monkeypatch):
    model, x = make(beta=2.0), grey(rng, 10)
    whole = average_terms(model, x, 3)
    monkeypatch.setattr(module, "_EVALUATION_BATCH", 4)
    np.testing.assert_allclose(average_terms(model, x, 3), whole, rtol=1e-6)
    loss, reconstruction, kl = whole
    assert loss == pytest.approx(-(reconstruction - 2.0 * kl), rel=1e-12)


def test_average_takes_as_many_samples_as_asked_for(rng, monkeypatch):
    model, asked = make(), []
    right = model.minibatch_elbo

    def record(x, noise, num_samples, objective):
        asked.append(num_samples)
        return right(x, noise=noise, num_samples=num_samples, objective=objective)

    monkeypatch.setattr(model, "minibatch_elbo", record)
    average_terms(model, grey(rng), 0)
    average_terms(model, grey(rng), 0, num_samples=7)
    assert asked == [1, 7]


# --- it stops in time -------------------------------------------------------------------------------------


class BadAt(Pathwise):
    """Pathwise, with an infinite gradient at one step."""

    def __init__(self, step):
        self.step = step
        self.calls = 0

    def sample_gradients(self, *arguments):
        self.calls += 1
        dmean, dlog_var = super().sample_gradients(*arguments)
        return (dmean * np.inf if self.calls == self.step else dmean), dlog_var


def diverge(model, x, **options):
    with pytest.raises(TrainingDiverged) as caught:
        train(model, x, **options)
    return caught.value


def test_a_bad_gradient_is_named_with_its_step(rng):
    model = make()
    error = diverge(model, black_and_white(rng), estimator=BadAt(5))
    assert error.step == 5
    assert error.tensor == "the gradient of encoder.0.weight"
    assert len(error.history) == 1, "one epoch was complete"
    assert str(error).startswith("training diverged at step 5 (epoch 2): the loss is ")
    assert "the gradient of encoder.0.weight is the first tensor that is not finite" in str(error)
    assert "\n" not in str(error)
    assert np.isfinite(model.theta).all()


def states(model, x, steps):
    """The parameters before each step of a healthy run."""
    kept = [model.theta.copy()]
    right = Adam.update

    def update(self, gradient):
        right(self, gradient)
        kept.append(self.theta.copy())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Adam, "update", update)
        train(model, x, epochs=math.ceil(steps / 3), estimator=BadAt(None))
    return kept


@pytest.mark.parametrize(
    ("bad", "every", "restored"), [(5, 100, 0), (5, 1, 3), (5, 2, 2), (6, 2, 4), (1, 100, 0)]
)
def test_the_last_parameters_known_to_be_good_are_put_back(rng, monkeypatch, bad, every, restored):
    # Parameters are known to be good when a step from them went well, so never those of the failing step.
    x = black_and_white(rng)
    good = states(make(), x, 6)
    monkeypatch.setattr(divergence, "_STEPS_BETWEEN_COPIES", every)
    model = make()
    error = diverge(model, x, estimator=BadAt(bad))
    assert f"back at its parameters after step {restored};" in str(error)
    np.testing.assert_array_equal(model.theta, good[restored])


@pytest.mark.parametrize("spoiled", ["encoder.0.bias", "decoder.1.weight"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_spoiled_parameter_is_named(rng, monkeypatch, spoiled, value):
    model = make()
    right = Adam.update

    def update(self, gradient):
        right(self, gradient)
        if self.step == 3:
            model.parameters[spoiled].flat[1] = value

    monkeypatch.setattr(Adam, "update", update)
    error = diverge(model, black_and_white(rng))
    assert (error.step, error.tensor) == (4, spoiled)
    assert len(error.history) == 1
    assert np.isfinite(model.theta).all()


@pytest.mark.parametrize(
    ("parameter", "value", "named"),
    [
        ("encoder.0.weight", 3e38, "the output of encoder.0"),
        ("encoder.mean.weight", 3e38, "mean"),
        ("encoder.log_var.bias", 200.0, "z"),
        ("decoder.0.weight", 3e38, "the output of decoder.0"),
        ("decoder.1.weight", 3e38, "the output of decoder.1"),
    ],
)
def test_the_first_tensor_that_overflows_is_named(parameter, value, named):
    # Every number fits into single precision, and the next one on the data's way does not.
    model = make(activation="identity")
    x = np.ones((10, WIDTH), np.float32)
    model.parameters["encoder.0.weight"][...] = 1.0
    model.parameters["encoder.mean.weight"][...] = 1.0
    model.parameters["decoder.0.weight"][...] = 1.0
    model.parameters[parameter][...] = value
    if parameter == "encoder.log_var.bias":
        model.parameters["encoder.log_var.weight"][...] = 0.0
    error = diverge(model, x)
    assert (error.step, error.tensor) == (1, named)


@pytest.mark.parametrize("model", MAKERS)
def test_a_learning_rate_far_too_large_is_an_error_and_no_warning(rng, model):
    for options in (
        {"learning_rate": 1e30},
        {"learning_rate": 1e300},
        {"learning_rate": 1e38, "optimizer": "sgd"},
        # the damage is done by the last update of an epoch, and validation is the first to see it
        {"learning_rate": 1e30, "batch_size": 10, "epochs": 1, "validation": black_and_white(rng)},
    ):
        trained = make(model)
        before = digest(trained)
        with np.errstate(over="warn", divide="warn", invalid="warn"):
            error = diverge(trained, black_and_white(rng), **options)
        assert "try a smaller learning rate" in str(error)
        assert error.tensor in [
            name for name, _ in trained.forward_tensors(np.zeros((1, WIDTH)), np.zeros((1, 1, 2)))
        ]
        assert digest(trained) == before


def test_a_run_that_diverged_can_be_taken_up_again(rng):
    model, x = make(), black_and_white(rng)
    diverge(model, x, learning_rate=1e30)
    assert all(math.isfinite(loss) for loss in train(model, x).column("loss"))


# --- at the door ------------------------------------------------------------------------------------------

GOOD = np.zeros((10, WIDTH))
BAD = {
    "labels": (
        {"x": np.zeros(10)},
        ValueError,
        "x has shape (10,), expected (N, 6) … labels instead of images?",
    ),
    "nothing": (
        {"x": np.zeros((0, WIDTH))},
        ValueError,
        "x has shape (0, 6), expected (N, 6) with N at least 1",
    ),
    "a number": ({"x": 3.0}, ValueError, "x has shape (), expected (N, 6)"),
    "another width": ({"x": np.zeros((10, 5))}, ValueError, "x has shape (10, 5), expected (B, 6)"),
    "bytes of another width": (
        {"x": np.full((10, 5), 9, np.uint8)},
        ValueError,
        "x has shape (10, 5), expected (N, 6)",
    ),
    "zeros and ones as bytes": (
        {"x": np.ones((10, WIDTH), np.uint8)},
        ValueError,
        "x holds bytes no larger than 1",
    ),
    "NaN": ({"x": np.full((10, WIDTH), np.nan)}, ValueError, "x has … nan at index (0, 0)"),
    "outside": (
        {"x": np.full((10, WIDTH), 255.0)},
        ValueError,
        "x has … 255 … expected values in [0, 1]: a Bernoulli",
    ),
    "words": ({"x": np.full((10, WIDTH), "x")}, TypeError, "x has dtype <U1"),
    "validation labels": (
        {"validation": np.zeros(4)},
        ValueError,
        "validation has shape (4,), expected (N, 6)",
    ),
    "validation outside": ({"validation": GOOD - 0.5}, ValueError, "validation has … -0.5 … in [0, 1]"),
    "no validation": ({"validation": np.zeros((0, WIDTH))}, ValueError, "validation has shape (0, 6)"),
    "epochs": ({"epochs": -1}, ValueError, "epochs is -1, expected an integer of at least 0"),
    "half an epoch": ({"epochs": 0.5}, TypeError, "epochs is 0.5, expected an integer"),
    "batch_size": ({"batch_size": 0}, ValueError, "batch_size is 0, expected an integer of at least 1"),
    "learning_rate": (
        {"learning_rate": 0},
        ValueError,
        "learning_rate is 0, expected a finite number greater than 0",
    ),
    "no rate": ({"learning_rate": "fast"}, TypeError, "learning_rate is 'fast', expected a number"),
    "optimizer": ({"optimizer": "rmsprop"}, ValueError, "optimizer is 'rmsprop', expected one of: adam, sgd"),
    "estimator": (
        {"estimator": "reinforce"},
        ValueError,
        "estimator is 'reinforce', expected one of: pathwise",
    ),
    "num_samples": ({"num_samples": 0}, ValueError, "num_samples is 0, expected an integer of at least 1"),
    "too few to compare": (
        {"num_samples": 1, "estimator": "score-function-leave-one-out"},
        ValueError,
        "num_samples is 1, expected an integer of at least 2",
    ),
    "warm-up": (
        {"kl_warmup_epochs": -1},
        ValueError,
        "kl_warmup_epochs is -1, expected a finite number at least 0",
    ),
    "rng": ({"rng": "dice"}, TypeError, "rng is 'dice'"),
}


@pytest.mark.parametrize(
    "options",
    [{"estimator": "score-function"}, {"estimator": Pathwise()}, {"num_samples": 2}, {"kl_warmup_epochs": 1}],
    ids=["by name", "an object", "samples", "warm-up"],
)
def test_what_only_a_vae_has_is_refused_for_an_autoencoder(options):
    words = "estimator, num_samples and kl_warmup_epochs are for a VAE"
    assert_refused(ValueError, words, lambda: fit(make("autoencoder"), GOOD, **options))


def test_what_is_no_model_is_refused():
    assert_refused(
        TypeError, "model is of type dict, expected a VAE or an Autoencoder", lambda: fit({}, GOOD)
    )


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_are_refused_before_anything_is_trained(what):
    changes, error, words = BAD[what]
    model = make()
    before = digest(model)
    arguments = {"x": GOOD, "progress": False} | changes
    assert_refused(error, words, lambda: fit(model, **arguments))
    assert digest(model) == before


def test_a_last_update_that_overflows_is_noticed():
    # No step follows that would look, and without validation nobody else does.
    model = make(dtype=np.float32)
    x = np.ones((4, model.input_dim), np.float32)
    before = model.theta.copy()
    with pytest.raises(TrainingDiverged, match=r"decoder|encoder"):
        fit(
            model,
            x,
            epochs=1,
            batch_size=4,
            optimizer="sgd",
            learning_rate=1e38 * 1e30,
            rng=0,
            progress=False,
        )
    assert np.array_equal(model.theta, before)
