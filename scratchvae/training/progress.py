"""Progress of anything over two seconds: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

__all__ = ["Progress"]

# Nothing is shown before this many seconds have passed, nor plain lines more often.
_PATIENCE = 2.0


class Progress:
    """A context manager that counts steps towards a total, on stderr.

    Parameters
    ----------
    label : str
        What is being done.
    total : int
        Steps in all.
    visible : bool
        False shows nothing.
    done : int
        Steps that were made before, and say nothing about the time that the others take.
    """

    def __init__(self, label: str, total: int, visible: bool = True, done: int = 0) -> None:
        self.label = label
        self.total = total
        self.visible = visible
        self.done = self.before = done
        self.start = self.first = self.last_line = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def advance(self, note: str = "") -> None:
        """One step is done; `note` says how things stand."""
        self.done += 1
        now = time.monotonic()
        steps = self.done - self.before
        if steps == 1:
            self.first = now  # the first step may have compiled something, and tells little about the others
        if not self.visible or now - self.start < _PATIENCE:
            return
        if sys.stderr.isatty():
            self._advance_bar(note)
        elif now - self.last_line >= _PATIENCE or self.done == self.total:
            of_each = (now - self.first) / (steps - 1) if steps > 1 else now - self.start
            left = of_each * (self.total - self.done)
            print(  # noqa: T201
                f"{self.label}: {self.done}/{self.total} {note} ({left:.0f} s left)",
                file=sys.stderr,
                flush=True,
            )
            self.last_line = now

    def _advance_bar(self, note: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            columns = (
                "{task.description}",
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = RichProgress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
            self._task = self._bar.add_task(self.label, total=self.total, completed=self.before, note=note)
            self._bar.start()
        self._bar.update(self._task, completed=self.done, note=note)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
