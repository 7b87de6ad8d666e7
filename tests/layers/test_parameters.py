"""One flat vector and its views: the same memory, in the order given, without gaps."""

from __future__ import annotations

import numpy as np
import pytest

from scratchvae.layers.parameters import flat_views

SHAPES = {"b.weight": (3, 2), "b.bias": (2,), "a.weight": (2, 5), "a.bias": (5,), "scalar": ()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vector_and_views(dtype):
    vector, views = flat_views(SHAPES, dtype)
    assert vector.shape == (6 + 2 + 10 + 5 + 1,)
    assert vector.dtype == dtype
    assert vector.flags["C_CONTIGUOUS"]
    assert not vector.any()
    assert list(views) == list(SHAPES)  # the order given, not sorted
    for name, view in views.items():
        assert view.shape == SHAPES[name]
        assert view.dtype == dtype
        assert view.flags["C_CONTIGUOUS"]
        assert np.shares_memory(view, vector)


def test_writing_through_the_vector_shows_in_the_views():
    vector, views = flat_views(SHAPES, np.float64)
    vector[:] = np.arange(vector.size)  # in place, as an optimizer does
    # row-major, one after the other, in order: no gap, no overlap
    assert [entry for view in views.values() for entry in view.ravel()] == list(range(24))
    np.testing.assert_array_equal(views["b.weight"], [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(views["a.bias"], [18, 19, 20, 21, 22])


def test_writing_through_a_view_shows_in_the_vector():
    vector, views = flat_views(SHAPES, np.float64)
    views["a.weight"][1, 2] = 7.0
    assert vector[8 + 1 * 5 + 2] == 7.0
    views["scalar"][...] = -1.0
    assert vector[-1] == -1.0
    assert np.count_nonzero(vector) == 2


def test_no_two_views_overlap():
    _, views = flat_views(SHAPES, np.float64)
    for one in views:
        for other in views:
            assert np.shares_memory(views[one], views[other]) == (one == other)
