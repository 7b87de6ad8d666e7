"""A run directory: what a training run leaves behind, and reading it back with suspicion.

`config.json` says how the model was made and trained, `parameters.npz` holds its parameters (never pickle),
`history.json` what happened, and `manifest.json` the size and SHA-256 of each.

A run replaces another as a whole. Its files are written under names that carry their SHA-256, flushed to the
disk, and only then does the new manifest take the old one's place: that is the moment at which the new run is
there. Afterwards each file gets its own name; a reader who comes before it has, or after a power cut between,
finds it by its SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from scratchvae import __version__
from scratchvae.kernels import BACKEND
from scratchvae.models.autoencoder import Autoencoder
from scratchvae.models.free_bits_vae import FreeBitsVAE
from scratchvae.models.vae import VAE
from scratchvae.training.data import read_arrays
from scratchvae.training.history import History
from scratchvae.validation import check_choice

__all__ = ["MODELS", "Run", "load_run", "make_model", "save_run", "versions", "write_atomically"]

MODELS: dict[str, type[VAE | Autoencoder]] = {
    "VAE": VAE,
    "Autoencoder": Autoencoder,
    "FreeBitsVAE": FreeBitsVAE,
}


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
    _flush_names(path.parent)


def _flush_names(folder: Path) -> None:
    """A new name is on the disk only when its folder is; Windows has no such call."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def save_run(
    folder: str | Path, model: VAE | Autoencoder, history: History, settings: dict[str, Any]
) -> None:
    """Write a run directory, in place of one that may be there: as a whole or not at all.

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
        If the folder cannot be written; a run that was there before stays whole.
    ValueError, TypeError
        If JSON cannot hold the history or the settings; nothing is written then.
    """
    folder = Path(folder)
    parameters: dict[str, Any] = dict(model.parameters)
    buffer = io.BytesIO()
    np.savez(buffer, **parameters)
    files = {
        "parameters.npz": buffer.getvalue(),
        "history.json": _json(history.to_records()),
        "config.json": _json({"model": model.config(), "training": settings, "versions": versions()}),
    }
    manifest = {name: _entry(content) for name, content in files.items()}
    folder.mkdir(parents=True, exist_ok=True)
    _settle(folder)
    try:
        for name, content in files.items():
            _write(_waiting(folder, name, manifest[name]), content)
        _write(folder / "manifest.json", _json(manifest))
    finally:
        _settle(folder)


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))


def _entry(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _waiting(folder: Path, name: str, entry: dict[str, Any]) -> Path:
    """Where a file waits for the manifest that declares it."""
    return folder / f".{name}.{entry['sha256'][:16]}.waiting"


def _settle(folder: Path) -> None:
    """Give the files that the manifest declares their own names, and delete what waits for another one in vain."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        declared = {_waiting(folder, name, entry): folder / name for name, entry in manifest.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        declared = {}  # there is no manifest, or none that could be read
    for path in folder.glob(".*.waiting"):
        if path in declared:
            path.replace(declared[path])
        else:
            path.unlink()
    _flush_names(folder)


def make_model(config: dict[str, Any]) -> VAE | Autoencoder:
    """A model from what `Model.config` returned, its parameters random; a ValueError if it does not fit."""
    arguments = dict(config)
    model = MODELS[check_choice("model", arguments.pop("model", None), MODELS)]
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
        If the folder is no run directory, or a file in it is not the one that the manifest declares, is damaged or
        of another shape than the configuration says.
    """
    folder = Path(folder)
    if not (folder / "manifest.json").is_file() and not (folder / "config.json").is_file():
        unfinished = any(folder.glob("checkpoint-*.bin"))
        make = (
            f"end it with `scratchvae resume {folder}`" if unfinished else "make one with `scratchvae train`"
        )
        raise ValueError(f"{folder} is no run directory: it has no config.json; {make}")
    manifest = _parse(folder / "manifest.json", _read(folder / "manifest.json"))
    config, history = (
        _parse(folder / name, _declared(folder, name, manifest)) for name in ("config.json", "history.json")
    )
    parts = (config.get("model"), config.get("training")) if isinstance(config, dict) else (None,)
    if not (isinstance(history, list) and all(isinstance(part, dict) for part in parts)):
        raise ValueError(f"{folder} is no run directory: its configuration or history has another form")
    model = make_model(config["model"])
    path = folder / "parameters.npz"
    parameters = _unpacked(path, _declared(folder, path.name, manifest), model)
    try:
        model.load_parameters(parameters)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} does not fit the model in config.json: {error}") from None
    try:
        return Run(model, History.from_records(history), config["training"])
    except ValueError as error:
        raise ValueError(f"{folder / 'history.json'} is {error}") from None


def _declared(folder: Path, name: str, manifest: Any) -> bytes:
    """The file that the manifest declares: under its own name, or where it waits for that."""
    entry = manifest.get(name) if isinstance(manifest, dict) else None
    if not (isinstance(entry, dict) and isinstance(entry.get("sha256"), str)):
        message = f"{folder / 'manifest.json'} is damaged: it does not declare {name}"
        raise ValueError(message)  # noqa: TRY004 - a damaged file, not a wrong type
    waiting = _waiting(folder, name, entry)
    for path in (folder / name, waiting):
        # The size first: of a file that is too long not a byte is read.
        if path.is_file() and path.stat().st_size == entry.get("bytes"):
            content = _read(path)
            if _entry(content) == entry:
                return content
    problem = "is not the file" if (folder / name).is_file() else "is missing, expected the file"
    raise ValueError(f"{folder / name} {problem} of {entry.get('bytes')} bytes that manifest.json declares")


def _unpacked(path: Path, content: bytes, model: VAE | Autoencoder) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, if they declare no more bytes than the model's parameters can need."""
    # Twice for single precision in place of double, and NumPy's header before each array.
    most = 2 * max(model.theta.nbytes, 1) + 1000 * len(model.parameters)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            declared = sum(member.file_size for member in file.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if declared > most:
        raise ValueError(
            f"{path} unpacks to {declared} bytes, expected at most {most} for the model in config.json"
        )
    return read_arrays(path, content)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _parse(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
