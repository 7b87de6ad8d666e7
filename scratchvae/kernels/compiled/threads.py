"""How a kernel runs on several threads, or on one when several would be unsafe or would not pay.

numba's threading layers are not all safe: one aborts the process when two Python threads use it at once,
another when a forked child uses it at all. Kernels give the same bits on any number of threads, so whoever
cannot have several simply gets one.

Nor are they all patient in the right way. GNU's OpenMP, once it has started, lets a thread that waits turn round and
round for milliseconds. If another program, or another of NumPy's threads, wants the processor meanwhile, the thread
that is waited for may not get it, and what takes fifty microseconds takes ten milliseconds. A thousand turns, some
fifty microseconds, bridge the gap between two kernels; after that a thread sleeps. `OMP_WAIT_POLICY` and
`GOMP_SPINCOUNT` are heeded if the user has set them: with `active` a machine that has nothing else to do is a little
faster.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from numba import config

from scratchvae.kernels.compiled.compilation import compile_kernel

__all__ = ["ParallelKernel", "num_threads"]


def _threads_from_environment() -> int:
    text = os.environ.get("SCRATCHVAE_NUM_THREADS")
    if text is None:
        return int(config.NUMBA_NUM_THREADS)
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"the environment variable SCRATCHVAE_NUM_THREADS is {text!r}; expected a positive integer"
        )
    return int(text)


TURNS = "1000"

_threads = _threads_from_environment()
_busy = threading.Lock()
_started = False  # whether numba's threads exist


def num_threads() -> int:
    """Return how many threads a kernel may use: SCRATCHVAE_NUM_THREADS, else as many as numba would.

    Returns
    -------
    int
        At least 1, and 1 in a forked child.
    """
    return _threads


def _after_fork_in_child() -> None:
    global _threads, _busy  # noqa: PLW0603 - a process has one number of threads
    _threads = 1  # the parent's worker threads do not exist here
    _busy = threading.Lock()  # nor does whoever held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@contextlib.contextmanager
def _limited_patience() -> Iterator[None]:
    """Tell GNU's OpenMP, should it be loaded now, how long to turn round; unless the user has told it."""
    told = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}.intersection(os.environ)
    if not told:
        os.environ["GOMP_SPINCOUNT"] = TURNS
    try:
        yield
    finally:
        if not told:  # for other libraries it is to be as it was
            os.environ.pop("GOMP_SPINCOUNT", None)


class ParallelKernel:
    """A function whose first argument is the number of its tasks, which it runs in one `prange`.

    It is compiled twice from one source: with threads, and without, where `prange` is `range`.

    Parameters
    ----------
    function : callable
        Its result must not depend on the number of tasks.
    flags : iterable of str
        See `compile_kernel`.

    Attributes
    ----------
    serial : callable
        The one without threads, for the shortest of calls.
    """

    def __init__(self, function: Callable[..., None], flags: Iterable[str] = ()) -> None:
        self.serial = compile_kernel(function, flags)
        self._parallel = compile_kernel(function, flags, parallel=True)

    def __call__(self, worthwhile: bool, *arguments: Any) -> None:
        """Run with as many tasks as there are threads if that is worthwhile and they are free, else with one.

        Parameters
        ----------
        worthwhile : bool
            Whether the work takes longer than waking the other threads, a few microseconds.
        """
        if worthwhile and _threads > 1 and _busy.acquire(blocking=False):
            try:
                if _started:
                    self._parallel(_threads, *arguments)
                else:
                    self._start(*arguments)
            finally:
                _busy.release()
        else:
            self.serial(1, *arguments)

    def _start(self, *arguments: Any) -> None:
        global _started  # noqa: PLW0603 - a process starts its threads once
        with _limited_patience():
            self._parallel(_threads, *arguments)
        _started = True
