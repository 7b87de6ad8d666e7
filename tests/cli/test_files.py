"""What is written is whole or absent, whatever happens: a full disk, a key pressed, a reader that goes away."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import scratchvae as sv
from scratchvae.cli import commands

Command = Callable[..., Any]

INTERRUPTED = "scratchvae {}: interrupted; what it was doing is not saved, files written before are whole"


def read(path: str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_are_written_before_tables(
    command: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that stops reading must not cost the results of minutes of work."""

    def gone(*_arguments: Any, **_settings: Any) -> None:
        raise RuntimeError("gone")

    for name in ("print_variance", "print_check", "print_evaluation", "print_data"):
        monkeypatch.setattr(f"scratchvae.cli.tables.{name}", gone)
    verbs: list[tuple[Any, ...]] = [
        ("variance", "--run", trained, "--samples", 400, "--out", "v", "--batch-size", 4),
        ("check", "--input-dim", 2, "--hidden", "none", "--latent-dim", 1),
        ("evaluate", trained),
        ("data",),
    ]
    for verb in verbs:
        with pytest.raises(RuntimeError, match="gone"):
            command(*verb, "--json", f"{verb[0]}.json")
        read(f"{verb[0]}.json")


def test_a_full_disk_leaves_whole_files(
    command: Command, small: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("train", "--epochs", 1, "--out", "run", *small).status == 0
    before = snapshot(Path("run"))

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    again = ("--epochs", 2, "--out", "run", "--overwrite")
    for arguments, name in [
        (("train", *again, *small), "run"),
        (("sample", "run", "--count", 1, "--out", "s"), "s"),
        (("evaluate", "run", "--json", "e.json"), "e.json"),
        (("variance", "--run", "run", "--samples", 400, "--out", "v", "--batch-size", 2), "v/variance.json"),
    ]:
        done = command(*arguments)
        assert done.status == 2
        assert done.err == (
            f"scratchvae {arguments[0]}: {name} cannot be written (No space left on device): make room, or "
            "choose another place; files that were there before are whole\n"
        )
    assert snapshot(Path("run")) == before
    assert [path for path in Path().rglob("*") if path.is_file() and path.parent != Path("run")] == []


def test_json_into_a_pipe(command: Command) -> None:
    """A pipe or device is written into, not replaced by a file."""
    os.mkfifo("pipe")
    received = io.StringIO()

    def listen() -> None:
        with Path("pipe").open(encoding="utf-8") as pipe:
            received.write(pipe.read())

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert command("data", "--json", "pipe").status == 0
    listener.join(timeout=10)
    assert Path("pipe").is_fifo()
    assert json.loads(received.getvalue())["datasets"][0]["name"] == "digits"


def test_json_through_a_link_replaces_the_file_and_not_the_link(command: Command) -> None:
    Path("real.json").write_text("old", encoding="utf-8")
    Path("link.json").symlink_to("real.json")
    assert command("data", "--json", "link.json").status == 0
    assert Path("link.json").is_symlink()
    assert read("real.json")["datasets"]


@pytest.mark.parametrize("verb", ["train", "variance", "check", "evaluate", "sample", "data"])
def test_interruption_is_one_line(
    verb: str, command: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: Any, **_settings: Any) -> Any:
        raise KeyboardInterrupt

    for name in ("fit", "variance_during_training", "check_gradients", "evaluate_model", "dataset_status"):
        monkeypatch.setattr(commands, name, interrupt)
    monkeypatch.setattr(sv.VAE, "sample", interrupt)
    done = command(verb, *([trained] if verb in ("evaluate", "sample") else []))
    assert done.status == 130
    assert done.err == INTERRUPTED.format(verb) + "\n"


def start(*arguments: Any, backend: str = "reference", **settings: Any) -> subprocess.Popen[str]:
    """A process of its own; the reference kernels start soonest."""
    program = [sys.executable, "-m", "scratchvae.cli", *map(str, arguments)]
    environment = os.environ | {"SCRATCHVAE_KERNELS": backend, "PYTHONWARNINGS": "default"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | settings
    return subprocess.Popen(program, env=environment, **pipes)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, f"it ended before {path} came: {process.communicate()}"
        assert time.monotonic() < end, f"{path} has not come"
        time.sleep(0.02)


def press(process: subprocess.Popen[str]) -> str:
    """Ctrl-C, and the last line that comes of it."""
    try:
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    return str(err.splitlines()[-1])


def test_a_key_pressed_during_the_work(small: tuple[Any, ...], tmp_path: Path) -> None:
    with start("variance", "--epochs", 1_000_000, "--out", "run", *small) as process:
        wait_for(tmp_path / "run", process)
        assert press(process) == INTERRUPTED.format("variance")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_key_pressed_during_training_loses_nothing(
    command: Command, small: tuple[Any, ...], tmp_path: Path
) -> None:
    options = ("--epochs", 1_000_000, "--seed", 3, *small)
    with start("train", "--out", "run", *options) as process:
        wait_for(tmp_path / "run" / ".lock", process)
        told = press(process)
    step = int(told.split("after step ")[1].split(",")[0])
    assert told == (
        f"scratchvae train: interrupted after step {step}, which is saved; go on with `scratchvae resume run`"
    )
    epochs = -(-step // 4) + 2  # 32 images in batches of 8, and two epochs more
    program = start("resume", "run", "--epochs", epochs)
    assert program.communicate(timeout=60)[1].splitlines()[-1] == "wrote run"
    whole = start("train", "--out", "whole", "--epochs", epochs, "--seed", 3, *small)
    whole.communicate(timeout=60)
    for name in ("parameters.npz", "config.json"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()
    assert command("evaluate", "run").status == 0


def test_a_reader_that_has_gone_is_no_error() -> None:
    process = start("check", "--input-dim", 2, "--hidden", "none", "--latent-dim", 1, "--json", "c.json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert not re.search("Traceback|Error|ignored", process.stderr.read())
    assert process.wait(timeout=30) == 0
    assert read("c.json")["passed"]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs Linux's device that is always full")
def test_output_that_cannot_be_written_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        process = start("data", stdout=full)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err == "scratchvae data: the standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("variable", ["interpreted", ""])
def test_an_unknown_backend_is_one_line(variable: str) -> None:
    process = start("data", backend=variable)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert f"SCRATCHVAE_KERNELS is {variable!r}; expected 'compiled' or 'reference'" in err
