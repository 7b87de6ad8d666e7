"""Sampling noise and minibatch noise add up to the whole, which is measured without knowing of them."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest

from scratchvae.lab.total_variance import Measured, total_variance
from tests.models.cases import INPUT_DIM, assert_refused, make_case

NAMES = ("pathwise", "antithetic-pathwise", "score-function-leave-one-out")
# Each comparison fails by chance once in 10⁶ runs, if the errors are near normal.
CRITICAL = 4.9


# The calls of `advance`, and what was found.
STEPS: list[int] = []


@functools.cache
def found():
    rng = np.random.default_rng(5)
    case = make_case(rng, depth=1, likelihood="gaussian")
    train = 1.5 * rng.standard_normal((50, INPUT_DIM))
    arguments = {"batch_size": 3, "num_minibatches": 80, "num_gradients": 1500, "samples_per_estimate": 4}
    return total_variance(case.vae, train, NAMES, **arguments, rng=1, advance=lambda: STEPS.append(1))


def disagreements(parts):
    """Estimators whose whole is further from the sum of the parts than chance allows."""
    return {
        name
        for name, one in parts.items()
        if abs(one.sum.value - one.whole.value)
        > CRITICAL * math.hypot(one.sum.standard_error, one.whole.standard_error)
    }


def test_the_parts_add_up_to_the_whole():
    assert disagreements(found()) == set()
    assert len(STEPS) == 80 + len(NAMES)
    for one in found().values():
        assert one.sum.value == one.sampling.value + one.minibatch.value
        # or the comparison would say nothing of the part that is the smaller one
        assert min(one.sampling.value, one.minibatch.value) > 2 * one.sum.standard_error


@pytest.mark.parametrize("part", ["sampling", "minibatch"])
def test_a_part_left_out_is_seen(part):
    poorer = {name: replace(one, **{part: Measured(0.0, 0.0)}) for name, one in found().items()}
    assert disagreements(poorer)


def test_an_estimator_with_a_memory_is_refused():
    case = make_case(np.random.default_rng(0), likelihood="gaussian")
    assert_refused(
        ValueError,
        "estimators has 'score-function-running-mean', which carries a baseline from minibatch to minibatch",
        lambda: total_variance(
            case.vae, np.zeros((9, INPUT_DIM)), ("score-function-running-mean",), batch_size=2
        ),
    )
