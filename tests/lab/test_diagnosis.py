"""Each kind of mistake is named, and nothing else is."""

from __future__ import annotations

import re

import numpy as np
import pytest

from scratchvae.lab.diagnosis import describe_batches, describe_factor, diagnose

SIZES = (3, 5, 64)


@pytest.fixture
def oracle(rng):
    return rng.standard_normal((4, 5))


def changed(oracle, place, factor):
    wrong = oracle.copy()
    wrong[place] *= factor
    return wrong


MISTAKES = {
    "twice": (lambda o: 2 * o, "a constant factor 2"),
    "half": (lambda o: o / 2, "a constant factor 1/2"),
    "sign": (lambda o: -o, "the sign"),
    "minus a half": (lambda o: -o / 2, "the sign and a constant factor 1/2"),
    "B": (lambda o: 64 * o, "a constant factor 64: a sum instead of a mean over 64"),
    "1/B": (lambda o: o / 3, "a constant factor 1/3: a mean instead of a sum over 3"),
    "n/(n−1)": (lambda o: o * 5 / 4, "a constant factor 5/4: n − 1 for n = 5"),
    "(n−1)/n": (lambda o: o * 63 / 64, "a constant factor 63/64: n for n − 1, n = 64"),
    "1.00001": (lambda o: 1.00001 * o, "a constant factor 1.00001"),
    "missing": (lambda o: 0 * o, "a missing term: zero everywhere"),
    "reshaped from the transpose": (lambda o: o.T.reshape(o.shape), "transposed"),
    "flipped": (lambda o: o[:, ::-1], "reversed along axis 1"),
    "rolled": (lambda o: np.roll(o, 1, axis=0), "shifted by 1 along axis 0"),
    "averaged": (lambda o: np.broadcast_to(o.mean(axis=0), o.shape), "averaged along axis 0"),
    "one row": (lambda o: changed(o, 2, 2.0), "a constant factor 2 in the row 2 alone"),
    "one column": (lambda o: changed(o, (slice(None), 3), -1.0), "the sign in the column 3 alone"),
    "one entry": (lambda o: changed(o, (1, 2), 1.7), "a constant factor 1.7 in the entry (1, 2) alone"),
    "zero in a row": (lambda o: changed(o, 0, 0.0), "a missing term: zero in the row 0 alone"),
    "some signs": (np.abs, "the sign in"),
    "float32": (lambda o: o.astype(np.float32), "float32 inside"),
    "constant added": (lambda o: o + 0.25, "a constant 0.25 added"),
}  # fmt: skip


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_named(oracle, mistake, scale):
    plant, words = MISTAKES[mistake]
    wrong = np.asarray(plant(oracle)) * scale
    if "added" in words and scale != 1:
        words = f"a constant {0.25 * scale:g} added"
    said = diagnose(wrong.astype(np.float64), scale * oracle, SIZES)
    assert said.startswith(words), said


def test_a_square_transpose_is_named(rng):
    oracle = rng.standard_normal((3, 3))
    assert diagnose(oracle.T, oracle) == "transposed"
    oracle = rng.standard_normal((2, 3, 2))
    assert diagnose(oracle.transpose(2, 1, 0), oracle) == "axes in the order (2, 1, 0)"


def test_what_looks_like_nothing_is_given_no_name(rng, oracle):
    assert diagnose(rng.standard_normal((4, 5)), oracle) == ""
    assert diagnose(oracle, oracle) == ""


def test_sums_in_float32_are_named(rng):
    left, right = rng.standard_normal((4, 30)), rng.standard_normal((30, 5))
    single = (left.astype(np.float32) @ right.astype(np.float32)).astype(np.float64)
    assert "float32" in diagnose(single, left @ right)
    in_the_middle = left.astype(np.float32).astype(np.float64) @ right
    assert "float32" in diagnose(in_the_middle, left @ right)


def test_expected_zeros(oracle):
    assert diagnose(oracle, 0 * oracle) == "not zero where it should be exactly zero"
    holes = changed(oracle, (slice(None), 1), 0.0)
    said = diagnose(oracle, holes)
    assert said.startswith("not zero where it should be exactly zero, in the column 1")


def test_entries_that_were_not_computed_are_left_out(rng, oracle):
    some = np.where(rng.random(oracle.shape) < 0.5, oracle, np.nan)
    assert diagnose(3 * oracle, some, SIZES).startswith("a constant factor 3")
    # With some entries only, nobody can know what moved; corners that stay where they were are right.
    said = diagnose(oracle.T.reshape(oracle.shape), some)
    assert said == "" or re.fullmatch(r"wrong in \d+ of \d+ entries", said)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda n: n, "a factor B: a sum"),
        (lambda n: 1 / n, "a factor 1/B"),
        (lambda n: n / (n - 1) if n > 1 else 1.0, "a factor B/(B − 1)"),
        (lambda n: (n - 1) / n, "a factor (B − 1)/B"),
        (lambda n: 1.0 if n < 3 else 0.3, "right for batches of 1, 2"),
        (lambda n: 2.0, ""),
        (lambda n: 1.0, ""),
    ],
    ids=range(7),
)
def test_dependence_on_the_batch_is_named(form, words):
    ratios = {n: form(n) for n in (1, 2, 64)}
    said = describe_batches(ratios, {n: abs(r - 1) for n, r in ratios.items()}, 1e-11)
    assert said.startswith(words)
    assert bool(said) is bool(words)


def test_factors_near_a_name_are_not_given_it():
    assert describe_factor(2.00001) == "a constant factor 2.00001"
    assert describe_factor(-1.00001) == "the sign and a constant factor 1.00001"


@pytest.mark.parametrize(
    ("sizes", "words"),
    [((4, 5), "a constant factor 1/4: a mean instead of a sum over 4"), ((2, 5), "a constant factor 1/4")],
)
def test_a_quarter_is_a_forgotten_four_where_there_is_one(sizes, words):
    assert describe_factor(0.25, sizes) == words
