"""The estimators by name."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.estimators import ESTIMATORS, FunctionIntegrand, make_estimator
from scratchvae.estimators.pathwise import Pathwise


@pytest.mark.parametrize("name", ESTIMATORS)
def test_names_are_the_estimators_own(name):
    estimator = make_estimator(name)
    assert estimator.name == name
    assert estimator.needs_gradient == (name == "pathwise")
    assert estimator.minimum_samples == (2 if name.endswith("leave-one-out") else 1)


def test_the_promised_names_are_there():
    assert {
        "pathwise",
        "score-function",
        "score-function-running-mean",
        "score-function-leave-one-out",
    } <= set(ESTIMATORS)


def test_a_name_makes_a_fresh_one_each_time():
    name = "score-function-running-mean"
    first, second = make_estimator(name), make_estimator(name)
    z = np.ones((3, 1))
    first.sample_gradients(FunctionIntegrand(lambda z: z[:, 0]), np.zeros(1), np.zeros(1), z)
    assert first.center.count == 3
    assert second.center.count == 0


def test_an_estimator_already_made_is_taken_as_it_is():
    estimator = Pathwise()
    assert make_estimator(estimator) is estimator


def test_options_reach_the_estimator():
    assert make_estimator("score-function-running-mean", decay=0.5).center.decay == 0.5


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (
            ("reinforce",),
            {},
            ValueError,
            "estimator is 'reinforce', expected one of: pathwise, score-function, ",
        ),
        (
            ("score-function",),
            {"decay": 0.9},
            TypeError,
            "does not take the options ['decay'], expected: none",
        ),
        (
            ("score-function-running-mean",),
            {"decoy": 0.9},
            TypeError,
            "the options ['decoy'], expected: decay",
        ),
        (("score-function-running-mean",), {"decay": "0.9"}, TypeError, "decay is '0.9', expected a number"),
        (
            ("score-function-running-mean",),
            {"decay": 1.0},
            ValueError,
            "decay is 1, expected a finite number",
        ),
        (
            ("score-function-running-mean",),
            {"decay": -0.1},
            ValueError,
            "decay is -0.1, expected a finite number",
        ),
        (
            (Pathwise(),),
            {"decay": 0.9},
            TypeError,
            "the options ['decay'] came with an estimator that is already",
        ),
        ((Pathwise,), {}, TypeError, "expected one of: pathwise"),
        ((None,), {}, TypeError, "estimator is None, expected one of: pathwise"),
        ((3,), {}, TypeError, "estimator is 3, expected one of: pathwise"),
    ],
)
def test_what_is_unknown_is_refused(arguments, options, error, words):
    with pytest.raises(error) as caught:
        make_estimator(*arguments, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
