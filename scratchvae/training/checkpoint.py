"""A checkpoint: one file from which a run that was killed goes on as if nothing had happened.

It is a line, a manifest and the bytes of arrays, one after the other:

    scratchvae checkpoint 1 000000002312 8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4
    {"run": "3f2a9c01", "number": 7, "values": {…}, "arrays": [{"name": "theta", "dtype": "<f4", "shape": [9936], …
    …

The line tells the manifest's size and SHA-256; the manifest tells those of each array. So every bit is covered
by a checksum, every size is known, and compared with that of the file, before anything is read, and nothing is
unpacked or executed: there is no pickle, and not even a zip file.

The file's name, `checkpoint-3f2a9c01-000007.bin`, repeats the run and the number, so that a file that was put in
place of another is noticed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from scratchvae.training.run_directory import write_atomically

__all__ = ["Checkpoint", "checkpoint_files", "newest_checkpoint", "read_checkpoint", "write_checkpoint"]

_NAME = re.compile(r"checkpoint-([0-9a-f]{8})-(\d{6,})\.bin")
_FIRST_LINE = re.compile(rb"scratchvae checkpoint 1 (\d{12}) ([0-9a-f]{64})\n")
_FIRST_LINE_SIZE = len(b"scratchvae checkpoint 1 \n") + 12 + 1 + 64
# Little-endian, whatever the machine: parameters, moments and sums; counts of an estimator that learns.
_DTYPES = ("<f4", "<f8", "<i8")


class Checkpoint(NamedTuple):
    """What a file holds."""

    path: Path
    number: int  # of the save, counted on through all resumptions
    run: str  # eight hexadecimal digits, the same for all checkpoints of one run
    values: dict[str, Any]  # what JSON holds
    arrays: dict[str, np.ndarray]  # read-only, by name


def write_checkpoint(
    folder: Path, run: str, number: int, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Path:
    """Write a checkpoint under a temporary name, flush it to the disk, and rename it.

    Parameters
    ----------
    folder : Path
    run : str
        Eight hexadecimal digits.
    number : int
    values : mapping
        Whatever JSON can hold, and arrays of integers, which come back as lists.
    arrays : mapping of str to ndarray (...)
        float32, float64 or int64.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    OSError
        If it cannot be written; nothing is left behind then.
    """
    path = folder / f"checkpoint-{run}-{number:06d}.bin"
    little = {
        name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in arrays.items()
    }
    entries = [
        {"name": name, "dtype": array.dtype.str, "shape": list(array.shape), "sha256": _sha256(array)}
        for name, array in little.items()
    ]
    manifest = {"run": run, "number": number, "values": values, "arrays": entries}
    # The states of some generators have arrays of integers, which their setters take as lists, too.
    text = json.dumps(manifest, ensure_ascii=False, default=np.ndarray.tolist).encode() + b"\n"

    def write(file: IO[bytes]) -> None:
        file.write(f"scratchvae checkpoint 1 {len(text):012d} {_sha256(text)}\n".encode())
        file.write(text)
        for array in little.values():
            file.write(array.data)

    write_atomically(path, write)
    return path


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one file with suspicion.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Checkpoint

    Raises
    ------
    ValueError
        One sentence that names the file, if it is damaged, cut short, too long, or that of another run.
    """
    try:
        with path.open("rb") as file:
            manifest, arrays = _read(file, os.fstat(file.fileno()).st_size)
        found = Checkpoint(path, int(manifest["number"]), manifest["run"], dict(manifest["values"]), arrays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
        raise ValueError(f"{path} is no whole checkpoint: {reason}") from None
    name = _NAME.fullmatch(path.name)
    if name is None or name[1] != found.run:
        raise ValueError(
            f"{path} is a checkpoint of another run, {found.run}, under a name that is not its own"
        )
    return found


def _read(file: IO[bytes], size: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    first_line = _FIRST_LINE.fullmatch(file.read(_FIRST_LINE_SIZE))
    if first_line is None:
        raise ValueError("its first line is not that of a checkpoint")
    length, sha256 = int(first_line[1]), first_line[2].decode()
    rest = size - _FIRST_LINE_SIZE - length
    if rest < 0:
        raise ValueError(f"it has {size} bytes, and its manifest alone should have {length}")
    text = file.read(length)
    if _sha256(text) != sha256:
        raise ValueError(f"the SHA-256 of its manifest is {_sha256(text)}, expected {sha256}")
    manifest = json.loads(text)
    sizes = [_size_of(entry) for entry in manifest["arrays"]]
    if sum(sizes) != rest:
        raise ValueError(f"it has {rest} bytes of arrays, and its manifest declares {sum(sizes)}")
    arrays = {}
    for entry, count in zip(manifest["arrays"], sizes, strict=True):
        content = file.read(count)
        if _sha256(content) != entry["sha256"]:
            raise ValueError(
                f"the SHA-256 of {entry['name']!r} is {_sha256(content)}, expected {entry['sha256']!r}"
            )
        arrays[str(entry["name"])] = np.frombuffer(content, entry["dtype"]).reshape(entry["shape"])
    return manifest, arrays


def _size_of(entry: dict[str, Any]) -> int:
    """Bytes of an array, from its manifest entry alone."""
    shape, dtype = entry["shape"], entry["dtype"]
    if dtype not in _DTYPES or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array of shape {shape!r} and type {dtype!r} is none of a checkpoint's")
    return math.prod(shape) * np.dtype(dtype).itemsize


def checkpoint_files(folder: Path) -> list[Path]:
    """The files in a folder that are called checkpoints, the highest number first."""
    named = [(name, path) for path in folder.iterdir() if (name := _NAME.fullmatch(path.name))]
    return [path for name, path in sorted(named, key=lambda pair: int(pair[0][2]), reverse=True)]


def newest_checkpoint(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint of the run in a folder that is whole, and a sentence on each that is not.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    Checkpoint, list of str

    Raises
    ------
    ValueError
        If there is none, or none is whole.
    """
    files = checkpoint_files(folder) if folder.is_dir() else []
    if not files:
        raise ValueError(
            f"{folder} holds no checkpoint to go on from; `scratchvae train --out` and fit(..., checkpoints=) "
            "write them"
        )
    whole, refused = [], []
    for path in files:
        # What another run left behind is no substitute, however whole.
        if path.name.split("-")[1] == files[0].name.split("-")[1]:
            try:
                whole.append(read_checkpoint(path))
            except ValueError as error:
                refused.append(str(error))
    if not whole:
        raise ValueError(
            f"{folder} holds no checkpoint to go on from: {'; '.join(refused)}; begin again in another folder, or "
            "with overwrite"
        )
    # By the number inside: two files that changed names are still both whole.
    return max(whole, key=lambda found: found.number), refused


def _sha256(content: bytes | np.ndarray) -> str:
    return hashlib.sha256(content if isinstance(content, bytes) else content.reshape(-1).data).hexdigest()
