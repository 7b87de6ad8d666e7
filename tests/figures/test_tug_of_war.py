from __future__ import annotations

from pathlib import Path

import pytest

from scratchvae.figures.tug_of_war import tug_of_war
from tests.figures.checks import check_finding, tiny


def test_the_noise_shrinks_as_the_decoder_learns(tmp_path: Path) -> None:
    """Catches σ read from log_var without the half or the exponential, and a model looked at before its update."""
    setting = tiny(60)
    record = check_finding("tug-of-war", setting, tug_of_war(setting), tmp_path)
    moments = record["moments"]
    assert [moment["epoch"] for moment in moments] == list(range(61))
    first, last = moments[0], moments[-1]
    assert last["negative_reconstruction"] < first["negative_reconstruction"] - 10
    assert last["kl"] > first["kl"]
    assert (
        last["smallest_sigma"] < last["mean_sigma"] < 0.9 < first["mean_sigma"] == pytest.approx(1, abs=0.2)
    )
    # a trained decoder reads z better without noise
    assert last["cost_of_noise"] > 1
