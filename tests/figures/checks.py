"""What holds for every figure: whole files, finite numbers, labelled axes, a caption with its settings."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import scratchvae as sv
from scratchvae.figures.finding import Finding, write_finding
from scratchvae.figures.setting import Setting, make_setting


def tiny(epochs: int, train: int = 1415, test: int = 382, hidden: int = 32, latent_dim: int = 4) -> Setting:
    """Some of the digits, in a smaller model and for fewer epochs than the figures have."""
    digits = sv.load_dataset("digits")
    assert digits.train_labels is not None
    assert digits.test_labels is not None
    some = sv.Dataset(
        digits.name,
        digits.train[:train],
        digits.test[:test],
        digits.image_shape,
        digits.train_labels[:train],
        digits.test_labels[:test],
    )
    return make_setting(some, 0, epochs)._replace(hidden=(hidden,), latent_dim=latent_dim)


def check_finding(name: str, setting: Setting, found: Finding, folder: Path) -> dict[str, Any]:
    """Write a finding and return what the JSON file says."""
    write_finding(name, setting, found, folder)
    assert {path.suffix for path in folder.glob(f"{name}.*")} == {".png", ".json", ".md"}
    record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    numbers = list(_numbers(record))
    assert numbers
    assert all(math.isfinite(number) for number in numbers)
    assert all(len(row) == len(found.columns) for row in found.rows)
    note = (folder / f"{name}.md").read_text(encoding="utf-8")
    assert found.seen in note
    assert found.table() in note
    assert f"seed {setting.seed}" in found.caption
    for axes in found.picture.axes:
        is_picture = bool(axes.images) and not axes.get_xlabel()
        assert is_picture or (axes.get_xlabel() and axes.get_ylabel()) or axes.get_label() == "<colorbar>"
    return record


def _numbers(value: Any) -> Any:
    if isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _numbers(entry)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
