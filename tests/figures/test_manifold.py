from __future__ import annotations

from pathlib import Path

import numpy as np

from scratchvae.figures.manifold import manifold
from tests.figures.checks import check_finding, tiny


def test_the_manifold_has_most_digits(tmp_path: Path) -> None:
    """Catches a grid of one quantile, or one that is not decoded by the model of two dimensions."""
    setting = tiny(60, hidden=64, train=700, test=150)
    record = check_finding("manifold", setting, manifold(setting), tmp_path)
    assert list(record["models"]) == ["L = 2", "L = 4"]
    classes = np.array(record["grid_classes"])
    assert classes.shape == (16, 16)
    assert len(np.unique(classes)) >= 5
    # neighbours on the grid mostly show the same digit
    assert (classes[:, 1:] == classes[:, :-1]).mean() > 0.7
    two, four = record["models"]["L = 2"], record["models"]["L = 4"]
    assert four["negative_elbo"] < two["negative_elbo"]
    assert four["pixel_error"] < two["pixel_error"]
