"""A run that was stopped anywhere and went on is, bit for bit, the run that was never stopped."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

from scratchvae.estimators import ESTIMATORS, FURTHER_ESTIMATORS, make_estimator
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.training.adam import Adam
from scratchvae.training.checkpoint import newest_checkpoint
from scratchvae.training.loop import OPTIMIZERS, TrainingDiverged, fit, resume
from scratchvae.training.saving import Checkpoints, Saver
from tests.models.cases import assert_refused
from tests.training.cases import Killed

WIDTH = 6
X = np.random.default_rng(0).random((10, WIDTH), np.float32)
HELD_OUT = np.random.default_rng(1).random((5, WIDTH), np.float32)
STEPS = 9  # three epochs of 4 + 4 + 2 examples


def make(model=VAE, **settings):
    return model(**{"input_dim": WIDTH, "hidden": (4,), "latent_dim": 2, "rng": 0} | settings)


def train(model, x=X, **options):
    return fit(model, x, **{"epochs": 3, "batch_size": 4, "rng": 0, "progress": False} | options)


def final(folder):
    """Everything in the newest checkpoint but wall-clock time and how often it was saved."""
    found, refused = newest_checkpoint(folder)
    assert not refused
    history = [{**record, "seconds": None} for record in found.values["history"]]
    values = {**found.values, "history": history, "seconds": None, "plan": None}
    return found.run, values, {name: (array.dtype, array.tobytes()) for name, array in found.arrays.items()}


@pytest.fixture
def stop_after(monkeypatch):
    """`stop_after(step)`: the process dies right after that step, and after its checkpoint if one was due."""
    right = Saver.due

    def stop(last):
        def due(self, step):
            if step > last:
                raise Killed
            return right(self, step)

        monkeypatch.setattr(Saver, "due", right if last is None else due)

    return stop


# Those of all that can train a VAE when chosen by their name alone: the others need a baseline or a Hessian.
NAMES = {name for name in ESTIMATORS | FURTHER_ESTIMATORS if not name.startswith("taylor")} - {
    "score-function-constant",
    "score-function-optimal",
    "sticking-the-landing",  # with the sampled KL, below
}
CASES = {
    **{name: (VAE, {}, {"estimator": name}) for name in sorted(NAMES)},
    "sticking-the-landing": (VAE, {"kl": "sampled"}, {"estimator": "sticking-the-landing"}),
    "sgd": (VAE, {}, {"optimizer": "sgd", "learning_rate": 0.1}),
    "double precision, deep, Gaussian": (
        VAE,
        {"hidden": (5, 4), "dtype": "float64", "likelihood": "gaussian", "activation": "tanh"},
        {},
    ),
    "KL warm-up": (VAE, {"beta": 2.0}, {"kl_warmup_epochs": 2.5}),
    "validation": (VAE, {}, {"validation": HELD_OUT}),
    "three samples": (VAE, {}, {"num_samples": 3}),
    "autoencoder": (Autoencoder, {}, {"validation": HELD_OUT}),
    "one batch": (VAE, {}, {"batch_size": 100, "epochs": 9}),
    "linear, black and white": (
        VAE,
        {"hidden": (), "binarize": "threshold"},
        {"batch_size": 10, "epochs": 9},
    ),
}


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """No test here pulls the plug, so none needs to wait until the disk has everything."""
    monkeypatch.setattr(os, "fsync", lambda _number: None)


@pytest.mark.parametrize("case", CASES)
def test_going_on_is_never_having_stopped(tmp_path, stop_after, case):
    kind, model_settings, options = CASES[case]

    def make_model():
        return make(kind, **model_settings)

    never = make_model()
    history = train(never, checkpoints=Checkpoints(tmp_path / "never", steps=4), **options)
    plain = make_model()
    train(plain, **options)
    assert plain.theta.tobytes() == never.theta.tobytes(), "saving changes nothing"
    steps = history.epochs[-1].step
    for last in (
        0,
        1,
        3,
        4,
        steps - 1,
    ):  # nothing done, in an epoch, at its end, in the next one, near the end
        folder = tmp_path / str(last)
        stop_after(last)
        with pytest.raises(Killed):
            train(make_model(), checkpoints=Checkpoints(folder, steps=1), **options)
        stop_after(None)
        run = resume(folder, X, validation=options.get("validation"), progress=False)
        assert run.model.theta.tobytes() == never.theta.tobytes()
        assert final(folder) == final(tmp_path / "never")
        assert type(run.model) is kind
        assert run.model.config() == never.config()
    assert [{**r, "seconds": 0} for r in run.history.to_records()] == [
        {**r, "seconds": 0} for r in history.to_records()
    ]


@pytest.mark.parametrize("every", [1, 2, 5])
def test_stopped_again_and_again(tmp_path, stop_after, every):
    train(make(), checkpoints=Checkpoints(tmp_path / "never"), estimator="score-function-running-mean")
    folder = tmp_path / "pieces"
    train_until_killed(folder, 1, stop_after, every)
    for last in range(2, STEPS):
        stop_after(last)
        with pytest.raises(Killed):
            resume(folder, X, progress=False)
    stop_after(None)
    resume(folder, X, progress=False)
    assert final(folder) == final(tmp_path / "never")


def train_until_killed(folder, last, stop_after, every=1, **options):
    stop_after(last)
    with pytest.raises(Killed):
        train(
            make(),
            checkpoints=Checkpoints(folder, steps=every),
            **{"estimator": "score-function-running-mean"} | options,
        )


def test_order_of_the_data_binarization_and_noise_are_those_of_the_whole_run(
    tmp_path, stop_after, monkeypatch
):
    seen = []
    right = VAE.minibatch_gradients

    def record(self, x, noise, **settings):
        seen.append((x.tobytes(), noise.state(), settings["beta"]))
        return right(self, x, noise=noise, **settings)

    monkeypatch.setattr(VAE, "minibatch_gradients", record)
    train(make(), kl_warmup_epochs=2)
    whole = seen.copy()
    seen.clear()
    train_until_killed(tmp_path, 4, stop_after, every=2, estimator="pathwise", kl_warmup_epochs=2)
    assert len(seen) == 5, "it died before the checkpoint of a fifth step"
    del seen[4:]
    stop_after(None)
    resume(tmp_path, X, progress=False)
    assert seen == whole


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_any_generator_of_numpy_s_goes_on(tmp_path, stop_after, kind):
    def generator():
        return np.random.Generator(getattr(np.random, kind)(7))

    never = make()
    train(never, rng=generator())
    train_until_killed(tmp_path, 4, stop_after, estimator="pathwise", rng=generator())
    stop_after(None)
    assert resume(tmp_path, X, progress=False).model.theta.tobytes() == never.theta.tobytes()


def test_a_generator_of_another_kind_is_refused_before_the_work(tmp_path):
    class Own(np.random.PCG64):
        pass

    for generator in (np.random.Generator(Own(0)),):
        assert_refused(
            ValueError,
            "rng has the bit generator 'Own', expected one that a resumed run can make again: PCG64",
            lambda generator=generator: train(make(), rng=generator, checkpoints=tmp_path),
        )


def test_more_epochs_are_as_if_they_had_been_asked_for_at_once(tmp_path):
    train(make(), epochs=5, checkpoints=tmp_path / "at once", kl_warmup_epochs=4)
    train(make(), epochs=2, checkpoints=tmp_path / "later", kl_warmup_epochs=4)
    run = resume(tmp_path / "later", X, epochs=5, progress=False)
    assert run.history.column("epoch") == [1, 2, 3, 4, 5]
    assert run.settings["epochs"] == 5
    assert final(tmp_path / "later") == final(tmp_path / "at once")
    words = "epochs is 4, expected more: the run in … has made 15 steps, 3 an epoch"
    assert_refused(ValueError, words, lambda: resume(tmp_path / "later", X, epochs=4, progress=False))


def test_another_learning_rate_holds_from_then_on_and_moments_are_carried_on(tmp_path, monkeypatch):
    class Scheduled(Adam):
        def update(self, gradient):
            self.learning_rate = 1e-2 if self.step < 6 else 1e-4  # two epochs of three steps
            super().update(gradient)

    train(make(), epochs=2, learning_rate=1e-2, checkpoints=tmp_path)
    run = resume(tmp_path, X, epochs=5, learning_rate=1e-4, progress=False)
    assert (run.settings["epochs"], run.settings["learning_rate"]) == (5, 1e-4)
    monkeypatch.setitem(OPTIMIZERS, "adam", Scheduled)
    at_once = make()
    train(at_once, epochs=5)
    np.testing.assert_array_equal(run.model.theta, at_once.theta)
    words = "learning_rate is -1, expected a finite number greater than 0"
    assert_refused(ValueError, words, lambda: resume(tmp_path, X, learning_rate=-1.0, progress=False))


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    model = make()
    history = train(model, checkpoints=tmp_path)
    calls = []
    run = resume(tmp_path, X, progress=False, on_epoch=calls.append)
    assert run.model.theta.tobytes() == model.theta.tobytes()
    assert run.history == history
    assert calls == []


def test_on_epoch_hears_of_the_epochs_that_are_still_to_come(tmp_path, stop_after):
    calls = []
    train_until_killed(tmp_path, 4, stop_after, on_epoch=calls.append)
    stop_after(None)
    resume(tmp_path, X, progress=False, on_epoch=calls.append)
    assert calls == [0, 1, 2, 3]


def test_seconds_leave_the_interruption_out(tmp_path, stop_after, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("scratchvae.training.state.time.monotonic", lambda: now[0])
    train_until_killed(tmp_path, 0, stop_after)
    right = VAE.minibatch_gradients

    def slow(self, *arguments, **settings):
        now[0] += 1.0
        return right(self, *arguments, **settings)

    monkeypatch.setattr(VAE, "minibatch_gradients", slow)
    for last in (2, 5):
        now[0] += 500.0
        stop_after(last)
        with pytest.raises(Killed):
            resume(tmp_path, X, progress=False)
        now[0] += 500.0
    stop_after(None)
    # each of the two killed after a step that was not saved
    assert resume(tmp_path, X, progress=False).history.column("seconds") == [3.0, 6.0, 9.0]


def test_the_rate_of_progress_is_that_of_this_process(tmp_path, stop_after, capsys, monkeypatch):
    train_until_killed(tmp_path, 6, stop_after)
    stop_after(None)
    monkeypatch.setattr("scratchvae.training.progress._PATIENCE", -1.0)
    resume(tmp_path, X)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" loss")[0] for line in lines] == [
        f"training: {step}/9 epoch 3," for step in (7, 8, 9)
    ]


# --- when it goes wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [0, 3, 4])
def test_divergence_after_going_on_is_that_of_the_whole_run(tmp_path, stop_after, monkeypatch, last):
    monkeypatch.setattr("scratchvae.training.divergence._STEPS_BETWEEN_COPIES", 3)
    train_until_killed(tmp_path, last, stop_after, estimator="pathwise")
    stop_after(None)
    right = VAE.minibatch_gradients

    def spoil(self, x, noise, **settings):
        loss, elbo = right(self, x, noise=noise, **settings)
        return (math.inf if noise.state()[1] > 30 else loss), elbo  # the fifth minibatch

    monkeypatch.setattr(VAE, "minibatch_gradients", spoil)
    with pytest.raises(TrainingDiverged) as whole:
        train(never := make())
    with pytest.raises(TrainingDiverged) as pieces:
        resume(tmp_path, X, progress=False)
    assert str(pieces.value) == str(whole.value)
    assert pieces.value.model.theta.tobytes() == never.theta.tobytes()
    assert whole.value.model is never
    assert len(pieces.value.history) == len(whole.value.history) == 1


# --- at the door ------------------------------------------------------------------------------------------


def test_other_data_are_refused(tmp_path):
    train(make(), validation=HELD_OUT, checkpoints=tmp_path)
    words = f"is not what the run in {tmp_path} was begun with: its SHA-256 is … expected"
    other = X.copy()
    other[3, 2] = np.nextafter(other[3, 2], 1)
    for x, held_out, name in (
        (other, HELD_OUT, "x"),
        (X[:9], HELD_OUT, "x"),
        (X[::-1], HELD_OUT, "x"),
        (X, X, "validation"),
        (X, None, "validation"),
    ):
        assert_refused(
            ValueError,
            f"{name} {words}",
            lambda x=x, held_out=held_out: resume(tmp_path, x, validation=held_out, progress=False),
        )
    resume(tmp_path, np.asfortranarray(X.astype(float)), validation=HELD_OUT, progress=False)


def test_what_cannot_be_made_again_is_refused_before_the_work(tmp_path):
    class Own(VAE):
        pass

    words = "the class of a model that is saved is 'Own', expected one of: VAE, Autoencoder, FreeBitsVAE"
    assert_refused(ValueError, words, lambda: train(make(Own), checkpoints=tmp_path / "x"))
    estimator = make_estimator("score-function-running-mean")
    words = "estimator is … expected its name where there are checkpoints"
    assert_refused(TypeError, words, lambda: train(make(), estimator=estimator, checkpoints=tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_runs_have_one_name_if_they_do_the_same_and_two_if_not(tmp_path):
    def name(tag, model=None, x=X, **options):
        train(model or make(), x, checkpoints=tmp_path / tag, **options)
        return newest_checkpoint(tmp_path / tag)[0].run

    first = name("first")
    assert name("again") == name("longer", epochs=4) == first
    others = [
        name("seed", rng=1),
        name("weights", make(rng=1)),
        name("beta", make(beta=2.0)),
        name("rate", learning_rate=1e-2),
        name("data", x=X[::-1]),
        name("validation", validation=X),
        name("estimator", estimator="score-function"),
    ]
    assert len({first, *others}) == 8
