"""What tests of run directories and checkpoints share: a disk that fails, a process that dies, files meddled with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def declare(run: Path) -> None:
    """Write the manifest of a run anew, so that files changed on purpose are read and judged by what they say."""
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    for name in manifest:
        content = (run / name).read_bytes()
        manifest[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


class Killed(BaseException):
    """The process ended here: nothing that came after has happened."""


@contextmanager
def failing(number: int, how: str) -> Iterator[list[str]]:
    """Let the number-th call that changes a file or a folder fail; gives the calls so far.

    "full disk": that one raises the error of a full disk, and the others work. "killed": that one and all later
    ones do nothing, and raise what no program catches. Nothing waits for the disk meanwhile; none fails if the
    number is 0.
    """
    calls: list[str] = []

    def watched(name: str, right: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            if name == "open" and not any(mode in (*arguments, *settings.values()) for mode in ("wb", "ab")):
                return right(*arguments, **settings)
            calls.append(name)
            if how == "killed" and 0 < number <= len(calls):
                raise Killed
            if len(calls) == number:
                if name == "open":
                    right(*arguments, **settings).close()  # an empty file is there, and then the room is out
                raise OSError(28, "No space left on device")
            return right(*arguments, **settings)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", watched("fsync", lambda _number: None))
        for name in ("open", "replace", "unlink"):
            patch.setattr(Path, name, watched(name, getattr(Path, name)))
        yield calls
