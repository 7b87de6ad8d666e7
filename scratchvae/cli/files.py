"""Where the commands write: found out before the work, told in one sentence when it fails."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scratchvae.training.run_directory import write_atomically

__all__ = ["check_json", "prepare_out", "say_written", "write_json", "writing"]


def check_json(path: Path | None) -> None:
    """Find out whether the file of `--json` can be written, before minutes are spent on what goes into it."""
    if path is None or _is_stream(path):
        return
    if path.is_dir():
        raise ValueError(f"--json is {str(path)!r}, a folder; expected the path of a file")
    try:
        _try_folder(path.resolve().parent)
    except OSError as error:
        raise ValueError(
            f"--json is {str(path)!r}, whose folder cannot be written ({error.strerror}): make it, or choose "
            "another"
        ) from None


def prepare_out(out: Path | None, default: str) -> Path:
    """The folder to write into, made and tried before any work is spent."""
    folder = Path("runs") / default if out is None else out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_folder(folder)
    except OSError as error:
        raise ValueError(
            f"{'the default of --out' if out is None else '--out'} is {str(folder)!r}, which cannot be made or "
            f"written ({error.strerror}): choose another folder"
        ) from None
    return folder


def _try_folder(folder: Path) -> None:
    """Raise the OSError that a file in this folder would meet."""
    tempfile.TemporaryFile(dir=folder).close()


def _is_stream(path: Path) -> bool:
    """A device or a pipe, which is written into and must never be replaced by a file."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_json(path: Path | None, value: Any) -> None:
    """Write plain values as JSON, if there is a path."""
    if path is None:
        return
    text = json.dumps(_strict(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with writing(path):
        if _is_stream(path):
            path.write_text(text, encoding="utf-8")
        else:  # of a symbolic link, the file that it leads to
            write_atomically(path.resolve(), lambda file: file.write(text.encode()))


def _strict(value: Any) -> Any:
    """Plain values as JSON knows them: it has no infinity and no NaN, so these become null."""
    if isinstance(value, dict):
        return {key: _strict(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say which result could not be written, and why."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror or error}): make room, or choose another place; files "
            "that were there before are whole"
        ) from None


def say_written(*paths: Path) -> None:
    """Tell on stderr what was written."""
    print("wrote " + " and ".join(map(str, paths)), file=sys.stderr)
