from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import scratchvae as sv
from scratchvae.figures.squared_error import squared_error
from tests.figures.checks import check_finding, tiny


def test_a_smaller_variance_uses_more_of_z(tmp_path: Path) -> None:
    """Catches a variance that is not handed on, or is a standard deviation."""
    setting = tiny(50, train=500, test=120)
    record = check_finding("squared-error", setting, squared_error(setting), tmp_path)
    gaussian = record["gaussian"]
    assert [result["variance"] for result in gaussian] == [32, 1, 0.5, 0.1, 0.03, 0.01]
    # 16 grey levels of a sum of variances of about 9: at v = 1 and more there is nothing to gain
    assert max(gaussian[0]["kl"], gaussian[1]["kl"]) < 0.1
    assert gaussian[-1]["active_units"] == setting.latent_dim
    assert gaussian[-1]["pixel_error"] < 0.8 * gaussian[0]["pixel_error"]
    assert gaussian[-1]["kl"] > gaussian[-3]["kl"]


@pytest.mark.parametrize("variance", [0.03, 0.5, 32.0])
def test_the_variance_is_a_beta(variance: float, rng: np.random.Generator) -> None:
    """What the figure says: v times the loss at variance v has, but for a constant, β = v at variance 1."""
    settings = {"hidden": (5,), "latent_dim": 2, "likelihood": "gaussian", "dtype": "f8", "rng": 0}
    chosen = sv.VAE(6, likelihood_variance=variance, **settings)
    weighted = sv.VAE(6, beta=variance, **settings)
    x, noise = rng.random((3, 6)), rng.standard_normal((3, 2))
    expected = weighted.loss_and_gradients(x, noise)[1]
    for name, gradient in chosen.loss_and_gradients(x, noise)[1].items():
        assert variance * gradient == pytest.approx(expected[name], rel=1e-10, abs=1e-14)
