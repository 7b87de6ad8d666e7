from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scratchvae.figures.interpolation import interpolation
from tests.figures.checks import check_finding, tiny


def test_half_way_a_vae_is_nearer_to_the_data(tmp_path: Path) -> None:
    """Catches models that are exchanged, and a classifier that knows the images that it judges."""
    setting = tiny(100, train=1000, latent_dim=8, hidden=128)
    record = check_finding("interpolation", setting, interpolation(setting), tmp_path)
    ways = record["ways"]
    middle = {name: way["distance"][4] for name, way in ways.items()}
    assert middle["VAE"] < middle["autoencoder"] < middle["cross-fade"]
    assert ways["VAE"]["confidence"][4] > ways["autoencoder"]["confidence"][4]
    # unseen digits are never at distance zero, and the ends of a cross-fade are such digits
    assert ways["cross-fade"]["distance"][0] > 0.5
    assert sum(ways["VAE"]["classes_in_the_middle"]) == record["pairs"]


def test_the_middle_of_a_cross_fade_is_judged_half_way(tmp_path: Path) -> None:
    """The index of the middle, and the order of steps within pairs."""
    record = interpolation(tiny(1)).numbers["ways"]["cross-fade"]
    difference = record["distance"][4] - np.mean([record["distance"][0], record["distance"][-1]])
    assert record["distance_middle_minus_ends"] == pytest.approx(difference)
