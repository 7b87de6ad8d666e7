"""Variance at several moments of a training: of the right model, on one minibatch, and without disturbing it."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.lab import training_variance as module
from scratchvae.lab.training_variance import variance_during_training, variance_record
from scratchvae.lab.variance import gradient_variance
from scratchvae.models.vae import VAE
from scratchvae.randomness import as_generator, spawn
from scratchvae.training.loop import fit
from tests.models.cases import assert_refused, make_case

NAMES = ("pathwise", "score-function", "score-function-leave-one-out")
WIDTH = 6


def make(binarize="auto"):
    return VAE(WIDTH, (4,), 2, binarize=binarize, rng=0)


def data(rng, count):
    return rng.random((count, WIDTH)).astype(np.float32)


def measure(vae, train, test, **changes):
    arguments = {
        "moments": (0, 1, 3), "estimators": NAMES, "num_samples": 400, "batch_size": 8, "rng": 0, "progress": False,
    }  # fmt: skip
    return variance_during_training(vae, train, test, **arguments | changes)


def test_record_holds_every_layer_of_the_encoder_and_the_whole(rng):
    case = make_case(rng, depth=2)
    result = gradient_variance(case.vae, case.x, NAMES, 400, 0)
    record = variance_record(result)
    assert list(record) == list(NAMES)
    for name in NAMES:
        assert list(record[name]) == ["encoder", "encoder.0", "encoder.1", "encoder.mean", "encoder.log_var"]
        for part, numbers in record[name].items():
            prefix = f"{part}."
            expected = sum(v.sum() for key, v in result.variance[name].items() if key.startswith(prefix))
            assert numbers["variance"] == pytest.approx(expected, rel=1e-12)
            assert numbers["standard_error"] == result.total_standard_error(name, prefix)
        layers = sum(record[name][part]["variance"] for part in list(record[name])[1:])
        assert record[name]["encoder"]["variance"] == pytest.approx(layers, rel=1e-12)


def test_eleven_layers_are_told_apart_from_one(rng):
    # encoder.1 must not swallow encoder.10.
    vae = VAE(3, (2,) * 11, 2, activation="tanh", dtype=np.float64, rng=0)
    result = gradient_variance(vae, np.eye(3), ("pathwise",), 40, 0)
    record = variance_record(result)["pathwise"]
    expected = sum(result.variance["pathwise"][f"encoder.1.{kind}"].sum() for kind in ("weight", "bias"))
    assert record["encoder.1"]["variance"] == pytest.approx(expected, rel=1e-12)
    assert "encoder.10" in record


def test_one_record_for_each_moment_and_training_is_not_disturbed(rng):
    train, test = data(rng, 20), data(rng, 10)
    vae = make()
    records = measure(vae, train, test)
    assert [record["epoch"] for record in records] == [0, 1, 3]
    expected = {"epoch", "num_samples", "test_negative_elbo", "estimators"}
    assert all(set(record) == expected for record in records)
    assert {record["num_samples"] for record in records} == {400}
    # The same training without measurements ends with the same bits.
    other = make()
    (training_rng, *_) = spawn(as_generator(0), 4)
    fit(other, train, epochs=3, batch_size=8, rng=training_rng, progress=False)
    assert vae.theta.tobytes() == other.theta.tobytes()
    alone = make()
    assert measure(alone, train, test, moments=(3,))[0] == records[-1]
    assert alone.theta.tobytes() == vae.theta.tobytes()


def test_every_moment_asks_the_same_question_of_the_model_as_it_is_then(rng, monkeypatch):
    train, test = data(rng, 20), data(rng, 10)
    asked = []
    right = module.gradient_variance

    def record(vae, x, estimators, num_samples, rng):
        asked.append((vae.theta.copy(), x.copy(), num_samples, rng))
        return right(vae, x, estimators, num_samples, rng)

    monkeypatch.setattr(module, "gradient_variance", record)
    vae = make()
    start = vae.theta.copy()
    measure(vae, train, test)
    thetas, batches, counts, seeds = zip(*asked, strict=True)
    np.testing.assert_array_equal(thetas[0], start)
    np.testing.assert_array_equal(thetas[-1], vae.theta)
    assert (thetas[1] != thetas[0]).any()
    assert len({batch.tobytes() for batch in batches}) == 1, "one minibatch, binarized once"
    assert len(set(seeds)) == 1, "the same noise"
    assert isinstance(seeds[0], int)
    assert set(counts) == {400}
    assert batches[0].shape == (8, WIDTH)
    assert set(np.unique(batches[0])) <= {0.0, 1.0}


def test_the_minibatch_is_the_first_of_the_training_set(rng, monkeypatch):
    train, asked = data(rng, 20), []
    right = module.gradient_variance
    monkeypatch.setattr(
        module, "gradient_variance", lambda vae, x, *more: asked.append(x) or right(vae, x, *more)
    )
    measure(make(binarize=None), train, data(rng, 10), moments=(0,))
    np.testing.assert_array_equal(asked[0], train[:8])


def test_the_bound_is_that_of_the_test_set_without_beta(rng):
    train, test = data(rng, 20), data(rng, 10)
    bounds = []
    for beta in (1.0, 4.0):
        vae = VAE(WIDTH, (4,), 2, beta=beta, rng=0)
        bounds.append(measure(vae, train, test, moments=(0,))[0]["test_negative_elbo"])
    assert bounds[0] == bounds[1]
    # From its definition, with more noise of its own: the mean of −log p(x|z) + KL over the test set.
    elbo = vae.elbo((test > 0.5).astype(np.float32), rng=rng, num_samples=50)
    assert bounds[0] == pytest.approx((elbo.kl - elbo.reconstruction).mean(), rel=0.3)
    other = measure(make(), train, data(rng, 10), moments=(0,))[0]["test_negative_elbo"]
    assert other != bounds[0]


def test_the_same_seed_gives_the_same_records(rng):
    train, test = data(rng, 20), data(rng, 10)
    first, again, other = (measure(make(), train, test, rng=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_bytes_are_measured_as_the_floats_that_they_stand_for(rng):
    train = rng.integers(0, 256, (20, WIDTH), dtype=np.uint8)
    floats = train.astype(np.float32) / 255
    assert measure(make(), train, train, moments=(0, 1)) == measure(make(), floats, floats, moments=(0, 1))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"moments": ()}, ValueError, "moments is (), expected at least one number of epochs"),
        ({"moments": (0, -1)}, ValueError, "a moment is -1, expected an integer of at least 0"),
        ({"moments": (0.5,)}, TypeError, "a moment is 0.5, expected an integer"),
        ({"batch_size": 0}, ValueError, "batch_size is 0, expected an integer of at least 1"),
        ({"num_samples": 3}, ValueError, "num_samples is 3, expected an integer of at least"),
        ({"estimators": ("gumbel",)}, ValueError, "estimator is 'gumbel', expected one of"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_in_one_sentence(rng, changes, error, words):
    assert_refused(error, words, lambda: measure(make(), data(rng, 20), data(rng, 10), **changes))


@pytest.mark.parametrize("name", ["train", "test"])
def test_bad_data_is_named(rng, name):
    arguments = {"train": data(rng, 20), "test": data(rng, 10)} | {name: np.zeros(10)}
    with pytest.raises(ValueError, match=rf"^{name} has shape \(10,\), expected \(N, 6\)"):
        measure(make(), **arguments)
