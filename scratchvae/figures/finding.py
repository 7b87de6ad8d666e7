"""What a figure has found: a claim, numbers, a picture, and a note that says what is seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scratchvae.figures import FIGURES
from scratchvae.figures.setting import Setting
from scratchvae.plots import save_figure
from scratchvae.training.run_directory import versions, write_atomically

__all__ = ["Finding", "finding_files", "write_finding", "write_index"]


@dataclass(frozen=True)
class Finding:
    """The result of one figure.

    Attributes
    ----------
    columns, rows : sequences of str
        A table of the main numbers.
    seen : str
        What is seen, in Markdown; made from the measured numbers, and saying so where the claim does not show.
    numbers : dict
        Everything measured, as JSON holds it.
    caption : str
        Below the picture, with settings and n.
    picture : Figure
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    seen: str
    numbers: dict[str, Any]
    caption: str
    picture: Figure

    def table(self) -> str:
        """The table in Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def finding_files(name: str, out: Path) -> tuple[Path, Path, Path]:
    """The picture, the numbers and the note of a figure in a folder."""
    return out / f"{name}.png", out / f"{name}.json", out / f"{name}.md"


def write_finding(name: str, setting: Setting, found: Finding, out: Path) -> dict[str, Any]:
    """Write the picture, the numbers (JSON) and the note (Markdown) of a figure; the numbers are also returned."""
    picture, numbers, note = finding_files(name, out)
    record = {"figure": name, "settings": setting.record(), **found.numbers, "versions": versions()}
    text = (
        f"# {name}\n\nThe claim: {FIGURES[name]}.\n\n![{name}]({picture.name})\n\n{found.table()}\n\n{found.seen}\n\n"
        f"Settings: {found.caption}\n\n"
        f"Made by `scratchvae figures {name} --data {setting.dataset.name} --epochs {setting.epochs} --seed "
        f"{setting.seed}`; all numbers in [{numbers.name}]({numbers.name}).\n"
    )
    save_figure(found.picture, found.caption, picture)
    content = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(numbers, lambda file: file.write(content.encode()))
    write_atomically(note, lambda file: file.write(text.encode()))
    return record


def write_index(out: Path) -> Path:
    """Write a README.md of the folder that shows every figure that is there, in the order of `FIGURES`."""
    there = [name for name in FIGURES if all(path.exists() for path in finding_files(name, out))]
    parts = ["# Figures\n\nEach claim with its picture; the notes say what is seen and hold the numbers.\n"]
    parts += [f"## [{name}]({name}.md)\n\n{FIGURES[name]}\n\n![{name}]({name}.png)\n" for name in there]
    index = out / "README.md"
    write_atomically(index, lambda file: file.write("\n".join(parts).encode()))
    return index
