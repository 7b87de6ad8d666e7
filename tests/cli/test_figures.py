from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scratchvae.figures import FIGURES, figure_function

Command = Callable[..., Any]


def test_list_names_every_figure_and_draws_nothing(command: Command) -> None:
    done = command("figures", "--list")
    assert done.status == 0
    assert [line.split()[0] for line in done.out.splitlines()] == list(FIGURES)
    assert not list(Path().glob("**/*.png"))


def test_every_figure_has_its_function() -> None:
    assert all(callable(figure_function(name)) for name in FIGURES)


def test_a_figure_leaves_its_files_and_an_index(command: Command) -> None:
    done = command(
        "figures", "interpolation", "--epochs", 1, "--seed", 3, "--out", "here", "--json", "all.json"
    )
    assert done.status == 0
    assert done.err.splitlines() == [
        "wrote here/interpolation.png and here/interpolation.json and here/interpolation.md",
        "wrote here/README.md",
    ]
    record = json.loads(Path("here/interpolation.json").read_text())
    assert json.loads(Path("all.json").read_text()) == {"interpolation": record}
    assert (record["settings"]["seed"], record["settings"]["epochs"]) == (3, 1)
    assert "](interpolation.png)" in Path("here/README.md").read_text()
    assert "cross-fade" in done.out
    before = Path("here/interpolation.json").read_bytes()
    command("figures", "interpolation", "--epochs", 1, "--seed", 3, "--out", "here")
    assert Path("here/interpolation.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("no-such",), "figure is 'no-such', expected one of interpolation"),
        (("interpolation", "--data", "binarized"), "data is 'binarized', expected a known data set"),
        (("interpolation", "--epochs", "0"), "got '0', expected a whole number of at least 1"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], told: str, command: Command) -> None:
    done = command("figures", *arguments)
    assert done.status == 2
    assert told in done.err
    assert done.err.count("\n") == 1


def test_a_users_file_has_no_labels(command: Command, images: Path) -> None:
    done = command("figures", "--data", images)
    assert done.status == 2
    assert "has no labels" in done.err
