from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from scratchvae.figures.rate_distortion import rate_distortion
from tests.figures.checks import check_finding, tiny


def test_a_larger_beta_buys_less_information(tmp_path: Path) -> None:
    """Catches a beta that is not applied, or applied in evaluation where the terms are told without it."""
    setting = tiny(60, train=700)
    record = check_finding("rate-distortion", setting, rate_distortion(setting), tmp_path)
    points = record["points"]
    rates = [point["rate"] for point in points]
    assert all(more > less for more, less in pairwise(rates))
    assert points[0]["distortion"] < points[-1]["distortion"] - 5
    assert rates[-1] < 0.1
    assert points[-1]["active_units"] == 0
    for point in points:
        assert point["negative_elbo"] == pytest.approx(point["rate"] + point["distortion"])
    best = min(points, key=lambda point: point["negative_elbo"])
    assert best["beta"] == 1
