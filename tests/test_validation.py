"""Checks at the door: what is let in is what the caller meant; what is not gets one sentence with the whole story."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scratchvae.validation import check_array, check_choice, check_integer, check_number
from tests.models.cases import assert_refused
from tests.oracles.complex_step import unchanged

# --- arrays that are let in -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.ones(3, np.float32), np.float32),
        (np.ones(3, np.float64), np.float64),
        (np.ones(3, np.float16), np.float64),
        (np.ones(3, np.longdouble), np.float64),
        (np.ones(3, np.int8), np.float64),
        (np.ones(3, np.uint16), np.float64),
        (np.ones(3, bool), np.float64),
        ([1, 1, 1], np.float64),
        ((True, 1, 1.0), np.float64),
        (np.ones(3, ">f8"), np.float64),
    ],
    ids=lambda part: str(getattr(part, "dtype", "")) or None,
)
def test_numbers_of_any_kind_become_floats(value, dtype):
    array = check_array("x", value)
    assert array.dtype == dtype
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, 1.0)
    for wanted in (np.float32, np.float64, "float32"):
        assert check_array("x", value, dtype=wanted).dtype == wanted


def test_what_is_right_already_is_not_copied():
    for value in (np.ones((2, 3)), np.ones((2, 3), np.float32), np.asfortranarray(np.ones((2, 3)))):
        assert check_array("x", value, shape=("B", 3), low=0, high=1) is value


def test_the_caller_s_array_is_never_changed():
    value = np.array([[0.25, 1e-300], [-3.0, 7.5]])
    with unchanged(value):
        result = check_array("x", value, dtype=np.float32)
        result += 1


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((), ()),
        ((3,), (3,)),
        ((3,), ("L",)),
        ((2, 3), ("B", 3)),
        ((1, 1, 1), ("S", "B", "L")),
        ((0,), (0,)),
        ((0, 3), None),
    ],
)
def test_shapes_that_fit(shape, wanted):
    assert check_array("x", np.ones(shape), shape=wanted).shape == shape


@given(hnp.arrays(np.float64, hnp.array_shapes(), elements=st.floats(-1, 1)))
def test_everything_within_the_bounds_comes_back_unchanged(value):
    np.testing.assert_array_equal(check_array("x", value, low=-1, high=1), value)


def test_bounds_themselves_are_inside():
    check_array("x", [0.0, 1.0], low=0, high=1)
    check_array("x", [-1e308, 1e308])


# --- arrays that are not ----------------------------------------------------------------------------------

BAD_ARRAYS = {
    "ragged": ([[1.0], [1.0, 2.0]], {}, TypeError, "x is not a rectangular array of numbers"),
    "bytes": (
        np.zeros((2, 2), np.uint8),
        {},
        TypeError,
        "x holds bytes (uint8), expected … scratchvae.pixels",
    ),
    "words": (["a"], {}, TypeError, "x has dtype <U1, expected real numbers"),
    "None": (None, {}, TypeError, "x has dtype object, expected real numbers"),
    "objects": ([Fraction(1, 2)], {}, TypeError, "x has dtype object, expected real numbers"),
    "complex": ([1j], {}, TypeError, "x has dtype complex128, expected real numbers"),
    "dates": (
        np.zeros(1, "datetime64[s]"),
        {},
        TypeError,
        "x has dtype datetime64[s], expected real numbers",
    ),
    "a dict": ({"x": 1}, {}, TypeError, "x has dtype object, expected real numbers"),
    "one axis too few": (np.zeros(3), {"shape": ("B", 3)}, ValueError, "x has shape (3,), expected (B, 3)"),
    "one axis too many": (np.zeros((3, 1)), {"shape": (3,)}, ValueError, "x has shape (3, 1), expected (3,)"),
    "another size": (
        np.zeros((2, 4)),
        {"shape": ("B", 3)},
        ValueError,
        "x has shape (2, 4), expected (B, 3)",
    ),
    "nothing": (np.zeros((0, 3)), {"shape": ("B", 3)}, ValueError, "x has shape (0, 3), expected (B, 3)"),
    "a number": (1.0, {"shape": ("L",)}, ValueError, "x has shape (), expected (L,)"),
    "NaN": ([[0.0, math.nan]], {}, ValueError, "x has … nan at index (0, 1) … finite numbers"),
    "infinite": ([0.0, 1.0, -math.inf], {}, ValueError, "x has … -inf at index (2,) … finite numbers"),
    "infinite number": (math.inf, {}, ValueError, "x has … inf at index () … finite numbers"),
    "NaN before inf": ([math.inf, math.nan], {}, ValueError, "x has … inf at index (0,)"),
    "beyond float32": ([1e39], {"dtype": np.float32}, ValueError, "x has … inf at index (0,)"),
    "above": (
        [0.5, 1.5],
        {"low": 0, "high": 1},
        ValueError,
        "x has the value 1.5, expected values in [0, 1]",
    ),
    "below": (
        [0.5, -0.25],
        {"low": 0, "high": 1},
        ValueError,
        "x has the value -0.25, expected values in [0, 1]",
    ),
    "above, with a value at the bottom": (
        [0.0, 1.5],
        {"low": 0, "high": 1},
        ValueError,
        "x has the value 1.5",
    ),
    "below, with a value at the top": (
        [-0.25, 1.0],
        {"low": 0, "high": 1},
        ValueError,
        "x has the value -0.25",
    ),
    "why": ([2.0], {"high": 1, "why": "so it is"}, ValueError, "expected values in [-inf, 1]: so it is"),
    "shape before value": ([math.nan], {"shape": (2,)}, ValueError, "x has shape (1,), expected (2,)"),
}


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_bad_arrays_are_refused_in_one_sentence(what):
    value, options, error, words = BAD_ARRAYS[what]
    assert_refused(error, words, lambda: check_array("x", value, **options))


def test_the_argument_s_own_name_is_used():
    assert_refused(ValueError, "noise has shape", lambda: check_array("noise", [1.0], shape=(2,)))


@given(
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=3), elements=st.floats(0, 1)),
    st.sampled_from([math.nan, math.inf, -math.inf, -1e-9, 1 + 1e-9]),
    st.data(),
)
def test_one_bad_value_anywhere_is_found(value, bad, data):
    value.flat[data.draw(st.integers(0, value.size - 1))] = bad
    with pytest.raises(ValueError, match=r"^x has "):
        check_array("x", value, low=0, high=1)


# --- integers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 7, np.int64(7), np.uint8(7), 10**30])
def test_integers_are_let_in_as_int(value):
    result = check_integer("n", value)
    assert type(result) is int
    assert result == value


@pytest.mark.parametrize(
    ("value", "low", "error", "words"),
    [
        (0, 1, ValueError, "n is 0, expected an integer of at least 1"),
        (-1, 0, ValueError, "n is -1, expected an integer of at least 0"),
        (np.int64(1), 2, ValueError, "n is 1, expected an integer of at least 2"),
        (1.0, 1, TypeError, "n is 1.0, expected an integer of at least 1"),
        (np.float64(1.0), 1, TypeError, "expected an integer of at least 1"),
        (True, 1, TypeError, "n is True, expected an integer"),
        (np.True_, 1, TypeError, "expected an integer"),
        ("1", 1, TypeError, "n is '1', expected an integer"),
        (None, 1, TypeError, "n is None, expected an integer"),
        ([1], 1, TypeError, "n is [1], expected an integer"),
        (math.nan, 1, TypeError, "n is nan, expected an integer"),
    ],
)
def test_what_is_no_such_integer_is_refused(value, low, error, words):
    assert_refused(error, words, lambda: check_integer("n", value, low=low))


def test_the_lowest_integer_is_allowed():
    assert check_integer("n", 0, low=0) == 0
    assert check_integer("n", -3, low=-3) == -3


# --- numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), np.int32(1), np.float64(1e-300)])
def test_numbers_are_let_in_as_float(value):
    result = check_number("rate", value, above=0, high=1)
    assert type(result) is float
    assert result == value


@pytest.mark.parametrize(
    ("value", "bounds", "error", "words"),
    [
        (math.nan, {}, ValueError, "rate is nan, expected a finite number"),
        (math.inf, {}, ValueError, "rate is inf, expected a finite number"),
        (-math.inf, {"high": 0}, ValueError, "rate is -inf, expected a finite number at most 0"),
        (0, {"above": 0}, ValueError, "rate is 0, expected a finite number greater than 0"),
        (-0.5, {"low": 0}, ValueError, "rate is -0.5, expected a finite number at least 0"),
        (
            1.5,
            {"low": 0, "high": 1},
            ValueError,
            "rate is 1.5, expected a finite number at least 0 and at most 1",
        ),
        (1.5, {"above": 0, "high": 1}, ValueError, "expected a finite number greater than 0 and at most 1"),
        ("0.5", {}, TypeError, "rate is '0.5', expected a number"),
        (True, {}, TypeError, "rate is True, expected a number"),
        (None, {}, TypeError, "rate is None, expected a number"),
        (1j, {}, TypeError, "rate is 1j, expected a number"),
        ([0.5], {}, TypeError, "rate is [0.5], expected a number"),
    ],
)
def test_what_is_no_such_number_is_refused(value, bounds, error, words):
    assert_refused(error, words, lambda: check_number("rate", value, **bounds))


def test_bounds_that_do_not_exist_are_not_mentioned():
    with pytest.raises(ValueError, match=r"^rate is nan, expected a finite number$"):
        check_number("rate", math.nan)


def test_the_bounds_of_a_number():
    assert check_number("rate", 0, low=0) == 0
    assert check_number("rate", 1, high=1) == 1
    assert check_number("rate", math.nextafter(0, 1), above=0) > 0


# --- choices ----------------------------------------------------------------------------------------------


def test_a_known_choice_is_let_in():
    assert check_choice("kl", "sampled", ("analytic", "sampled")) == "sampled"
    assert check_choice("binarize", None, ("dynamic", None)) is None
    assert check_choice("kl", "b", {"a": 1, "b": 2}) == "b"
    assert check_choice("kl", "b", iter("abc")) == "b"


@pytest.mark.parametrize(
    "value", ["exact", "Sampled", "", None, 0, ["sampled"], np.array(["sampled", "analytic"])]
)
def test_an_unknown_choice_lists_the_known_ones(value):
    assert_refused(
        ValueError,
        "kl is … expected one of: analytic, sampled",
        lambda: check_choice("kl", value, ("analytic", "sampled")),
    )


@pytest.mark.parametrize("value", [False, 0, "None"])
def test_nothing_but_none_is_none(value):
    assert_refused(
        ValueError, "expected one of: dynamic, None", lambda: check_choice("m", value, ("dynamic", None))
    )
