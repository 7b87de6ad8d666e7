from __future__ import annotations

from pathlib import Path

import pytest

from scratchvae.figures.code_space import code_space
from tests.figures.checks import check_finding, tiny


def test_the_prior_meets_the_codes_of_a_vae(tmp_path: Path) -> None:
    """Catches models that are exchanged, and codes that are compared with those of other images or dimensions."""
    setting = tiny(40, hidden=64, latent_dim=8)
    record = check_finding("code-space", setting, code_space(setting), tmp_path)
    measured = {(entry["model"], entry["latent_dim"]): entry for entry in record["models"]}
    assert set(measured) == {(model, size) for model in ("autoencoder", "VAE") for size in (2, 8)}
    for size in (2, 8):
        vae, plain = measured["VAE", size], measured["autoencoder", size]
        assert vae["code_standard_deviation"] == pytest.approx(1, abs=0.25)
        assert plain["code_standard_deviation"] > 2
        assert vae["effective_classes"] > plain["effective_classes"]
        assert 1 <= vae["effective_classes"] <= 10
    assert measured["autoencoder", 8]["prior_mass_in_code_holes"] > 0.5
    assert measured["VAE", 8]["prior_mass_in_code_holes"] < 0.2
