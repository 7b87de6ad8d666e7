"""Each question's rows are the measurements that they claim to be."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from scratchvae.lab import variance_answers
from scratchvae.lab.variance_answers import Subject
from scratchvae.lab.variance_questions import QUESTIONS, ask
from scratchvae.models.vae import VAE
from tests.models.cases import assert_refused

NAMES = ("pathwise", "score-function-leave-one-out")


@pytest.fixture(scope="module")
def subject():
    vae = VAE(6, (5,), 2, rng=0)
    vae.theta += 0.3 * np.random.default_rng(1).standard_normal(vae.theta.size).astype("f")
    return Subject(vae, np.random.default_rng(2).random((20, 6)).astype("f"), 400, 4, epochs=1, seed=3)


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    for name, points in {"LATENT_DIMS": (1, 3), "BATCH_SIZES": (2, 4, 32), "SIGMAS": (0.5, 1)}.items():
        monkeypatch.setattr(variance_answers, name, points)
    monkeypatch.setattr(variance_answers, "NUMBERS_OF_SAMPLES", (1, 4))
    fewer = lambda *arguments, **options: total(*arguments, num_minibatches=3, num_gradients=5, **options)  # noqa: E731
    total = variance_answers.total_variance
    monkeypatch.setattr(variance_answers, "total_variance", fewer)


def rows_of(name, subject):
    answer = ask(name, subject, NAMES, progress=False)
    for row in answer["rows"]:
        assert row["estimator"] in NAMES
        assert all(math.isfinite(value) for value in row.values() if not isinstance(value, str))
    return {(row["point"], row["estimator"]): row for row in answer["rows"]}


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_row_tells_what_is_drawn(name, subject):
    question = QUESTIONS[name]
    rows = rows_of(name, subject)
    for row in rows.values():
        for quantity in list(question.quantities)[: question.drawn]:
            assert quantity in row
    told = {key for row in rows.values() for key in row}
    assert set(question.quantities) <= told


def test_points_that_are_the_subject_itself_are_its_own_measurement(subject):
    result = subject.measure(NAMES)
    sizes, sigmas, layers = (rows_of(name, subject) for name in ("batch-size", "sigma", "layer"))
    for name in NAMES:
        assert sizes[4, name]["variance"] == result.total(name, "encoder")
        assert sizes[4, name]["signal_to_noise"] == result.signal_to_noise(name, "encoder")
        assert sigmas[1, name]["variance"] == result.total(name, "encoder.mean")
        assert sigmas[1, name]["log_var_variance"] == result.total(name, "encoder.log_var")
        assert layers["decoder.0", name]["variance"] == result.total(name, "decoder.0.")
    assert (32, "pathwise") not in sizes, "there are only twenty images"


def test_sigma_is_scaled_by_the_factor_and_the_subject_left_alone(subject, monkeypatch):
    kept = subject.vae.theta.copy()
    seen = []
    measure = Subject.measure
    monkeypatch.setattr(
        Subject, "measure", lambda *a, **k: seen.append(copy.deepcopy(a[2])) or measure(*a, **k)
    )
    rows_of("sigma", subject)
    x = subject.batch()
    deviations = [np.exp(vae.encode(x)[1] / 2) for vae in (*seen, subject.vae)]
    np.testing.assert_allclose(deviations[0], 0.5 * deviations[-1], rtol=1e-5)
    np.testing.assert_array_equal(subject.vae.theta, kept)


def test_more_samples_make_one_estimate(subject):
    rows = rows_of("samples", subject)
    assert (1, "score-function-leave-one-out") not in rows
    result = subject.measure(NAMES, samples_per_estimate=4)
    for name in NAMES:
        assert rows[4, name]["variance"] == result.total(name, "encoder") / 4
        assert rows[4, name]["signal_to_noise"] == pytest.approx(2 * result.signal_to_noise(name, "encoder"))


def test_terms_and_what_they_share_are_the_whole(subject):
    rows = rows_of("term", subject)
    for name in NAMES:
        parts = sum(rows[point, name]["variance"] for point in ("reconstruction", "sampled KL"))
        whole = rows["both", name]
        assert parts + whole["crossed"] == pytest.approx(whole["variance"])


def test_work_is_variance_times_price(subject):
    for row in rows_of("work", subject).values():
        assert row["times_evaluations"] == row["variance"] * row["evaluations"]
        assert row["times_milliseconds"] == row["variance"] * row["milliseconds"]


def test_a_question_that_nobody_knows(subject):
    assert_refused(
        ValueError, "question is 'weather', expected one of: layer", lambda: ask("weather", subject)
    )
