from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scratchvae.figures.anomaly import anomaly, area_under_roc
from tests.figures.checks import check_finding, tiny


def test_area_is_the_share_of_pairs(rng: np.random.Generator) -> None:
    """Catches the two sides exchanged, and ties that count whole or not at all."""
    outside, inside = rng.integers(0, 9, 40), rng.integers(0, 7, 30)
    pairs = outside[:, None] - inside
    assert area_under_roc(outside, inside) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert area_under_roc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert area_under_roc(np.ones(3), np.ones(5)) == 0.5


def test_each_class_is_left_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a model that was trained on its outsider, and scores of the wrong sign."""
    monkeypatch.setattr("scratchvae.figures.anomaly._SAMPLES", 8)
    setting = tiny(25, train=600, test=150)
    record = check_finding("anomaly", setting, anomaly(setting), tmp_path)
    results = record["results"]
    assert [result["outsider"] for result in results] == [f"{label} left out" for label in range(10)]
    assert all(result["outsiders"] + result["insiders"] == 150 for result in results)
    areas = [result["area_by_likelihood"] for result in results]
    assert np.mean(areas) > 0.6
    for result in results:
        assert abs(result["area_by_elbo"] - result["area_by_likelihood"]) < 0.15
        assert (result["area_by_likelihood"] > 0.8) <= (result["outside"] > result["inside"])
