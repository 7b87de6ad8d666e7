from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from scratchvae.cli import main

# What a slow machine, or the first use of a kernel, puts on stderr beside the message.
_WAITING = ("training: ", "checking gradients: ", "scratchvae: compiling ")


class Outcome(NamedTuple):
    """What a command left behind: its exit status, stdout, and stderr without words to who waits."""

    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands write below the current folder by default: let that be the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRATCHVAE_DATA_DIR", str(tmp_path / "data folder"))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`command("train", "--epochs", 1)` runs the command line in this process."""

    def run(*arguments: Any) -> Outcome:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capsys.readouterr()
        told = [line for line in err.splitlines(keepends=True) if not line.startswith(_WAITING)]
        return Outcome(status, out, "".join(told))

    return run


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of forty grey 4×4 images: 32 to train and 8 to test."""
    path = tmp_path_factory.mktemp("images") / "grey.npy"
    np.save(path, np.random.default_rng(0).random((40, 4, 4), np.float32))
    return path


@pytest.fixture(scope="session")
def small(images: Path) -> tuple[Any, ...]:
    """Options of a model that trains in no time."""
    return ("--data", images, "--hidden", "5", "--latent-dim", "2", "--batch-size", "8")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, small: tuple[Any, ...]) -> Path:
    """The run directory of a VAE; not to be changed."""
    return _train(tmp_path_factory, small)


@pytest.fixture(scope="session")
def autoencoder(tmp_path_factory: pytest.TempPathFactory, small: tuple[Any, ...]) -> Path:
    """The run directory of a plain autoencoder; not to be changed."""
    return _train(tmp_path_factory, (*small, "--model", "autoencoder"))


def _train(factory: pytest.TempPathFactory, options: tuple[Any, ...]) -> Path:
    folder = factory.mktemp("runs") / "trained"
    assert main(["train", "--epochs", "2", "--out", str(folder), *map(str, options)]) == 0
    return folder
