from __future__ import annotations

import numpy as np
import pytest

from scratchvae.figures.neighbours import Neighbours


def test_distance_and_votes_are_those_of_all_differences(rng: np.random.Generator) -> None:
    known, labels = rng.random((60, 7)), rng.integers(0, 10, 60)
    x = rng.random((9, 7))
    distances, shares = Neighbours(known, labels).look(x)
    differences = np.linalg.norm(x[:, None] - known, axis=2)
    assert distances == pytest.approx(differences.min(axis=1), rel=1e-12)
    for row, share in zip(differences, shares, strict=True):
        votes = np.bincount(labels[np.argsort(row)[:10]], minlength=10)
        assert share == pytest.approx(votes / 10)


def test_a_known_image_is_at_distance_zero_exactly(rng: np.random.Generator) -> None:
    """The expansion of the square alone leaves rounding there."""
    known = rng.random((20, 5)).astype(np.float32)
    assert (Neighbours(known, np.zeros(20, int)).look(known)[0] == 0).all()


def test_more_queries_than_fit_at_a_time(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    known, labels, x = rng.random((30, 3)), rng.integers(0, 10, 30), rng.random((8, 3))
    whole = Neighbours(known, labels).look(x)
    monkeypatch.setattr("scratchvae.figures.neighbours._QUERIES", 3)
    for one, other in zip(whole, Neighbours(known, labels).look(x), strict=True):
        assert (one == other).all()
