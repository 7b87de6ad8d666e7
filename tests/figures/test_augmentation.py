from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scratchvae.figures.augmentation import _moved, augmentation, linear_classes
from tests.figures.checks import check_finding, tiny


def test_accuracies_of_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches labels that do not go with their images, and a classifier that sees the test images."""
    monkeypatch.setattr("scratchvae.figures.augmentation._PER_CLASS", (5, 20))
    monkeypatch.setattr("scratchvae.figures.augmentation._REPEATS", 2)
    setting = tiny(40, test=200)
    record = check_finding("augmentation", setting, augmentation(setting), tmp_path)
    for classifier in ("nearest image", "linear"):
        for name, least in (("labelled", 0.65), ("moved", 0.65), ("drawn", 0.55)):
            few, more = record["accuracy"][name][classifier]
            assert least < few < more < 0.99


def test_linear_classes_are_those_of_least_squares(rng: np.random.Generator) -> None:
    """Points around ten corners; and without an offset a shifted cloud would be misread."""
    corners = 3 * np.eye(10) + 5
    labels = rng.integers(0, 10, 200)
    images, x = (corners[labels] + 0.3 * rng.standard_normal((200, 10)) for _ in range(2))
    assert (linear_classes(images, labels, x) == labels).mean() > 0.97


def test_moved_images_are_moved_by_one_pixel_at_most(rng: np.random.Generator) -> None:
    image = np.zeros((5, 6))
    image[2, 3] = 1
    moved = _moved(np.repeat(image.reshape(1, -1), 300, axis=0), (5, 6), rng).reshape(-1, 5, 6)
    places = {tuple(map(int, np.argwhere(m)[0])) for m in moved}
    assert places == {(row, column) for row in (1, 2, 3) for column in (2, 3, 4)}
    assert (moved.sum(axis=(1, 2)) == 1).all()
