"""A run directory: what a training run leaves behind, and reading it back with suspicion.

`config.json` says how the model was made and trained, `parameters.npz` holds its parameters (never pickle),
`history.json` what happened. Each file is written under a temporary name, flushed and renamed, so that it is
either whole or absent.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from scratchvae import __version__
from scratchvae.kernels import BACKEND
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.vae import VAE
from scratchvae.training.data import read_arrays
from scratchvae.training.history import History
from scratchvae.validation import check_choice

__all__ = ["Run", "load_run", "make_model", "save_run", "versions", "write_atomically"]

_MODELS: dict[str, type[VAE | Autoencoder]] = {"VAE": VAE, "Autoencoder": Autoencoder}


class Run(NamedTuple):
    """A trained model and how it came about."""

    model: VAE | Autoencoder
    history: History
    settings: dict[str, Any]  # of the training: data, seed, epochs, …


def versions() -> dict[str, str]:
    """Versions and machine that a result came from, for every file of results."""
    return {
        "scratchvae": __version__,
        "kernels": BACKEND,
        "numpy": np.__version__,
        "numba": version("numba"),
        "python": platform.python_version(),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
    }


def _processor() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name, flush it to the disk and rename it over `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_run(
    folder: str | Path, model: VAE | Autoencoder, history: History, settings: dict[str, Any]
) -> None:
    """Write a run directory.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    model : VAE or Autoencoder
    history : History
    settings : dict
        Of the training, whatever JSON can hold: data, seed, epochs, …

    Raises
    ------
    OSError
        If the folder cannot be written; files that were there before stay whole.
    ValueError, TypeError
        If JSON cannot hold the history or the settings; nothing is written then.
    """
    folder = Path(folder)
    parameters: dict[str, Any] = dict(model.parameters)
    # Before the first file is replaced: what JSON cannot hold must not leave new parameters beside an old history.
    records = _json(history.to_records())
    config = _json({"model": model.config(), "training": settings, "versions": versions()})
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "parameters.npz", lambda file: np.savez(file, **parameters))
    write_atomically(folder / "history.json", lambda file: file.write(records))
    # Last, so that a folder with a configuration is a complete run.
    write_atomically(folder / "config.json", lambda file: file.write(config))


def make_model(config: dict[str, Any]) -> VAE | Autoencoder:
    """A model from what `Model.config` returned, its parameters random; a ValueError if it does not fit."""
    arguments = dict(config)
    model = _MODELS[check_choice("model", arguments.pop("model", None), _MODELS)]
    try:
        return model(**arguments, rng=0)
    except (TypeError, MemoryError) as error:
        raise ValueError(f"configuration does not describe a {model.__name__}: {error}") from None


def load_run(folder: str | Path) -> Run:
    """Read a run directory.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If the folder is no run directory, or a file in it is damaged or of another shape than the
        configuration says.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} is no run directory: it has no config.json; make one with `scratchvae train`"
        )
    config = _read_json(folder / "config.json")
    history = _read_json(folder / "history.json")
    parts = (config.get("model"), config.get("training")) if isinstance(config, dict) else (None,)
    if not (isinstance(history, list) and all(isinstance(part, dict) for part in parts)):
        raise ValueError(f"{folder} is no run directory: its configuration or history has another form")
    model = make_model(config["model"])
    path = folder / "parameters.npz"
    parameters = read_arrays(path)
    try:
        model.load_parameters(parameters)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} does not fit the model in config.json: {error}") from None
    try:
        return Run(model, History.from_records(history), config["training"])
    except ValueError as error:
        raise ValueError(f"{folder / 'history.json'} is {error}") from None


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
