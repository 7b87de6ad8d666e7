from __future__ import annotations

from pathlib import Path

import numpy as np

from scratchvae.figures.repair import _nearest, _wrong, repair
from tests.figures.checks import check_finding, tiny


def test_what_is_repaired_is_less_wrong(tmp_path: Path) -> None:
    """Catches known pixels that are replaced, errors counted outside the hole, and a chain that goes nowhere."""
    setting = tiny(100, hidden=64, test=200)
    record = check_finding("repair", setting, repair(setting), tmp_path)
    denoising, inpainting = (record["wrong_pixels"][task] for task in ("denoising", "inpainting"))
    assert abs(denoising["left as it is"][0] - record["flipped"]) < 0.01
    assert denoising["VAE, undamaged image"][0] < denoising["VAE"][0] < denoising["mean image"][0]
    assert inpainting["VAE"][0] < inpainting["mean image"][0] - 0.01
    assert inpainting["VAE"][0] < inpainting["VAE, one pass"][0]


def test_wrong_pixels_by_hand() -> None:
    whole = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    answer = np.array([[0.9, 0.6, 0.4, 0.1], [0.0, 0.0, 1.0, 1.0]])
    assert _wrong(answer, whole, np.ones(4, bool)) == (0.25, 0.25 / np.sqrt(2))
    assert _wrong(answer, whole, np.array([True, False, False, True]))[0] == 0


def test_the_nearest_image_looks_only_at_what_is_known() -> None:
    known = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    x = np.array([[1.0, 1.0, 1.0]])
    assert _nearest(x, known, np.array([True, False, False])).tolist() == [[1, 0, 0]]
    assert _nearest(x, known, np.array([False, True, True])).tolist() == [[0, 1, 1]]
