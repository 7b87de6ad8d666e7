"""Where, when and how safely a run is saved: one writer at a time, Ctrl-C after a whole step, the previous kept."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

import numpy as np

from scratchvae.training.checkpoint import Checkpoint, checkpoint_files, newest_checkpoint, write_checkpoint
from scratchvae.training.run_directory import versions
from scratchvae.validation import check_integer, check_number

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Checkpoints", "Saver", "TrainingInterrupted", "locked", "plan_of", "resuming", "saving", "tell"]

# Training that is killed loses at most this much, and writing costs nothing beside it.
_MINUTES = 5.0


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run with checkpoints: the step under way was finished and saved.

    Attributes
    ----------
    step : int
        The last one that was made.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


@dataclass(frozen=True)
class Checkpoints:
    """Where `fit` saves its state, and how often: always at the beginning, at the end and on Ctrl-C.

    A checkpoint takes four times the room of the parameters with Adam; there are two, and for a moment three.

    Parameters
    ----------
    folder : str or path
        Made if it is not there. It keeps the newest checkpoint and the one before.
    steps : int, optional
        Save after every so many steps.
    minutes : float, optional
        Save when so many minutes have passed; 5 if neither is given.
    overwrite : bool
        Whether checkpoints of another run that are there may be replaced.
    notes : dict
        What JSON can hold, to be found again on resumption: the name of the data, the seed, ….
    """

    folder: str | Path
    steps: int | None = None
    minutes: float | None = None
    overwrite: bool = False
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | Path):
            raise TypeError(f"folder is {self.folder!r}, expected the path of a folder")
        if self.steps is not None:
            check_integer("steps", self.steps)
        if self.minutes is not None:
            check_number("minutes", self.minutes, above=0)


class Saver:
    """Writes the checkpoints of one run; made by `saving` and `resuming`.

    Attributes
    ----------
    plan : Checkpoints
    found : Checkpoint or None
        What the run goes on from.
    interrupted : bool
        Ctrl-C was pressed: save at the next step and stop.
    """

    def __init__(self, plan: Checkpoints, run: str, found: Checkpoint | None) -> None:
        self.plan, self.run, self.found = plan, run, found
        self.folder = Path(plan.folder)
        self.good = None if found is None else found.path  # the last one known to be whole
        numbers = [int(path.stem.split("-")[2]) for path in checkpoint_files(self.folder)]
        self.number = max(numbers, default=0)
        self.versions = versions()
        self.interrupted = False
        self._plan_next(0 if found is None else int(found.values["step"]))

    def due(self, step: int) -> bool:
        """Whether to save after this step."""
        return self.interrupted or step >= self.next_step or time.monotonic() >= self.next_time

    def save(self, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Write a checkpoint; after it is on the disk, delete all but it and the one before.

        Parameters
        ----------
        values, arrays
            As from `TrainingState.snapshot`: arrays of shapes (P,), (3,) and the estimator's own.

        Raises
        ------
        OSError
            If it cannot be written; the one before is whole then.
        TrainingInterrupted
            After Ctrl-C.
        """
        step = values["step"]
        plan = {"steps": self.plan.steps, "minutes": self.plan.minutes, "notes": self.plan.notes}
        values = {**values, "plan": plan, "versions": self.versions}
        try:
            path = write_checkpoint(self.folder, self.run, self.number + 1, values, arrays)
            for other in checkpoint_files(self.folder):
                if other not in (path, self.good):
                    other.unlink()
        except OSError as error:
            what = "make room, or choose another place; files that were there before are whole"
            if self.good is not None:
                what = f"make room, then {self._how_to_go_on}; the checkpoint of step {self.step} is whole"
            raise OSError(f"{self.folder} cannot be written ({error.strerror or error}): {what}") from error
        self.number, self.good = self.number + 1, path
        self._plan_next(step)
        if self.interrupted:
            raise TrainingInterrupted(
                f"interrupted after step {step}, which is saved; {self._how_to_go_on}", step
            )

    def _plan_next(self, step: int) -> None:
        self.step = step  # the last one that is saved
        steps, minutes = self.plan.steps, self.plan.minutes
        if steps is None and minutes is None:
            minutes = _MINUTES
        self.next_step = math.inf if steps is None else (step // steps + 1) * steps
        self.next_time = math.inf if minutes is None else time.monotonic() + 60 * minutes

    @property
    def _how_to_go_on(self) -> str:
        """In the words of whoever began: the command line leaves notes on the data."""
        folder = str(self.folder)
        words = (
            f"`scratchvae resume {folder}`"
            if "data" in self.plan.notes
            else f"scratchvae.resume({folder!r}, …)"
        )
        return f"go on with {words}"


@contextmanager
def saving(plan: Checkpoints, run: str) -> Iterator[Saver]:
    """A new run's saver, with its folder locked and Ctrl-C deferred to the end of a step.

    Parameters
    ----------
    plan : Checkpoints
    run : str
        Its name, eight hexadecimal digits.

    Raises
    ------
    ValueError
        If the folder has checkpoints already, or another process writes into it.
    OSError
        If the folder cannot be made or written.
    """
    folder = Path(plan.folder)
    with locked(folder):
        if checkpoint_files(folder) and not plan.overwrite:
            raise ValueError(
                f"{folder} holds checkpoints of a run that was begun before: go on with it, choose another folder, or "
                "allow it to be overwritten"
            )
        saver = Saver(plan, run, None)
        with _deferred_interrupt(saver):
            yield saver


@contextmanager
def resuming(folder: Path) -> Iterator[Saver]:
    """The saver of a run that goes on from the newest whole checkpoint in `folder`; says which ones are not.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    ValueError
        If there is no whole checkpoint, or another process writes into the folder.
    """
    newest_checkpoint(folder)  # before a lock is left in a folder that is none of ours
    with locked(folder):
        found, refused = newest_checkpoint(folder)
        for sentence in refused:
            tell(f"{sentence}; going on from {found.path.name}, step {found.values.get('step')}")
        plan = plan_of(found)
        try:
            saver, before = Saver(plan, found.run, found), dict(found.values["versions"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{found.path} does not say how to go on: {error}") from None
        now = saver.versions
        changed = [
            f"{name} {old!r} (now {now.get(name)!r})" for name, old in before.items() if now.get(name) != old
        ]
        if changed:
            tell(f"{folder} was saved with {', '.join(changed)}: the last bits may come out otherwise")
        with _deferred_interrupt(saver):
            yield saver


def plan_of(found: Checkpoint) -> Checkpoints:
    """Where and how often the run that left this checkpoint is saved; a ValueError if it does not say."""
    try:
        return Checkpoints(found.path.parent, **found.values["plan"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{found.path} does not say how to go on: {error}") from None


def tell(sentence: str) -> None:
    """To who waits, on stderr: what happened meanwhile."""
    print(f"scratchvae: {sentence}", file=sys.stderr)  # noqa: T201


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it is the operating system's, so that it ends with the process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("ab")
    except OSError as error:
        raise OSError(
            f"{folder} cannot be made or written ({error.strerror}): choose another folder for the checkpoints"
        ) from None
    with file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            raise ValueError(
                f"{folder} is being written by another run that is still going: wait for it, or choose another folder"
            ) from None
        for leftover in folder.glob(".checkpoint-*.part"):  # of a process that was killed while it wrote
            leftover.unlink()
        yield


def _lock(file: IO[bytes]) -> None:
    """Take the lock or raise a BlockingIOError (a PermissionError on Windows)."""
    if sys.platform == "win32":
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _deferred_interrupt(saver: Saver) -> Iterator[None]:
    """The first Ctrl-C waits for the end of the step, the second one does not."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield  # who has other plans for Ctrl-C keeps them; and only the main thread may make any
        return

    def defer(_number: int, _frame: FrameType | None) -> None:
        saver.interrupted = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, defer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
