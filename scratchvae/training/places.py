"""Where the trials of a sweep run: in processes of this machine, or of the machines of a Dask cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from scratchvae.training.run_directory import versions
from scratchvae.training.search import Setting
from scratchvae.training.trial import DIVERGED, INTERRUPTED, Plan

__all__ = ["Place", "Stop", "here", "mishaps", "on_cluster", "run_trial"]

_LOOK = 0.5  # seconds between two looks at whether to stop
_CONNECT = 5.0  # seconds in which a scheduler answers, if it is there
# What scratchvae and numerical libraries ask for the number of their threads.
_THREADS = ("SCRATCHVAE_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Of the software: with others of these the last bits of a result may be others.
_BITS = ("scratchvae", "kernels", "numpy", "numba")
_ATTEMPTS = "attempts.txt"
_BEGUN = "begun"
_ENDED = {0: "done", DIVERGED: "diverged", INTERRUPTED: "interrupted"}


class Stop(Protocol):
    """`threading.Event`, or Dask's."""

    def is_set(self) -> bool:
        """Whether all trials shall save and end."""

    def set(self) -> Any:
        """Let them."""


class Place(NamedTuple):
    """Where trials run, how they are told to stop, and what to tell the user of it."""

    executor: Executor
    stop: Stop
    words: str


def run_trial(folder: str, plan: tuple[Any, ...], setting: tuple[Any, ...], stop: Stop) -> str | None:
    """Run a trial in a process of its own, here or on a worker of a cluster.

    Parameters
    ----------
    folder : str
        Of the trial.
    plan, setting : tuple
        The fields of a `Plan` and of a `Setting`.
    stop : Stop
        Once it is set, the trial saves its state and ends.

    Returns
    -------
    str or None
        What went wrong; None if the trial ended or was stopped.
    """
    if stop.is_set():
        return None
    Path(folder).mkdir(parents=True, exist_ok=True)
    _note(folder, _BEGUN)
    parts = [json.dumps(part._asdict()) for part in (Plan(*plan), Setting(*setting))]
    # -P: a user's folder may hold a file called json.py.
    command = [sys.executable, "-P", "-m", "scratchvae.training.trial", folder, *parts]
    with (
        tempfile.TemporaryFile() as told,
        subprocess.Popen(  # noqa: S603 - our own module, without a shell
            command,
            stdin=subprocess.PIPE,  # the end of which is the signal to stop, also if this process is killed
            stdout=subprocess.DEVNULL,
            stderr=told,
            env=_environment(),
            start_new_session=True,  # Ctrl-C on the terminal is for us alone
        ) as process,
    ):
        assert process.stdin is not None
        while process.poll() is None and not stop.is_set():
            try:
                process.wait(_LOOK)
            except subprocess.TimeoutExpired:
                continue
        process.stdin.close()
        status = process.wait()
        told.seek(0)
        lines = told.read().decode(errors="replace").splitlines()
    if status in _ENDED:
        _note(folder, _ENDED[status])
        return None
    if status < 0:
        problem = f"was killed by {signal.Signals(-status).name}"
    else:
        problem = f"failed: {lines[-1]}" if lines else f"ended with status {status}"
    _note(folder, problem)
    return problem


def _environment() -> dict[str, str]:
    """One thread per trial, unless the user says otherwise, and this scratchvae and no other."""
    environment = dict(os.environ)
    threads = environment.get(_THREADS[0], "1")
    for name in _THREADS:
        environment.setdefault(name, threads)
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    return environment


def _note(folder: str, line: str) -> None:
    with (Path(folder) / _ATTEMPTS).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def mishaps(folder: Path) -> list[str]:
    """What went wrong with a trial so far.

    Whoever runs it notes in its folder that an attempt begins, and how it ends, unless that one is killed too.
    """
    path = folder / _ATTEMPTS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = []
    for line, following in pairwise([*lines, _BEGUN]):
        if line == following == _BEGUN:
            found.append("was lost with the process that ran it")
        elif line != _BEGUN and line not in _ENDED.values():
            found.append(line)
    return found


@contextmanager
def here(workers: int | None) -> Iterator[Place]:
    """On this machine: threads that each wait for the process of one trial, by default one per processor."""
    count = workers or _processors()
    stop = threading.Event()
    threads = os.environ.get(_THREADS[0], "1")
    words = f"{count} at a time, each with {_THREADS[0]}={threads}"
    with ThreadPoolExecutor(count) as executor:
        yield Place(executor, stop, words)


def _processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def on_cluster(address: str, folder: Path) -> Iterator[Place]:
    """A Dask cluster whose workers see the folder and have the same software."""
    try:
        from distributed import Client, Event
    except ImportError:
        raise ValueError(
            f"a sweep on the cluster at {address} needs Dask, which is not installed: "
            "python -m pip install 'dask[distributed]'"
        ) from None
    try:
        client = Client(address, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"scheduler is {address!r}, where no Dask scheduler answers ({' '.join(str(error).split())}): "
            "start one with `dask scheduler`, which tells its address"
        ) from None
    with client:
        _check_workers(client, address, folder)
        threads = client.nthreads().values()
        where = f"{sum(threads)} at a time on {len(threads)} workers of {address}"
        words = f"{where}, each with {_THREADS[0]}=1 unless it is set there"
        yield Place(client.get_executor(pure=False), Event(client=client), words)


def _check_workers(client: Any, address: str, folder: Path) -> None:
    """There are some, they have our software, and they see our folder; or an error in one sentence."""
    plan = folder / "plan.json"
    try:
        found = client.run(_look, str(plan))
    except ModuleNotFoundError as error:
        raise ValueError(
            f"a worker of the cluster at {address} has no {error.name}: install scratchvae there"
        ) from None
    if not found:
        raise ValueError(f"the cluster at {address} has no workers: start some with `dask worker {address}`")
    own = _look(str(plan))
    for worker, seen in found.items():
        for name, value in own.items():
            if name != "plan" and seen[name] != value:
                raise ValueError(
                    f"the worker {worker} has {name} {seen[name]}, and here it is {value}: the trials could not be "
                    "compared to the last bit, so install the same"
                )
        if seen["plan"] != own["plan"]:
            raise ValueError(
                f"the worker {worker} does not see {folder}: choose a folder on a disk that all machines share"
            )


def _look(path: str) -> dict[str, str | None]:
    """What a worker has: the software that decides the bits, and the file at the path, if it sees it."""
    plan = Path(path)
    have = versions()
    text = plan.read_text(encoding="utf-8") if plan.is_file() else None
    return {"plan": text, **{name: have[name] for name in _BITS}}
