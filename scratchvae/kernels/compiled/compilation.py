"""How a plain function becomes a kernel: numba's options in one place, the cache, and a word to the user."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import njit
from numba.core import event

__all__ = ["compile_kernel"]

SECONDS = 15  # of compilation until a first training step has ended, on two cores of 2023

_ours: set[Any] = set()


def _fingerprint_of_sources() -> str:
    # numba looks only at the file of the kernel itself, and would go on using a cached one after the file of a
    # function that was inlined into it has changed.
    here = Path(__file__).parent
    sources = sorted([*here.glob("*.py"), *here.parent.glob("*.py")])
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


_FINGERPRINT = _fingerprint_of_sources()


def compile_kernel(function: Callable[..., Any], flags: Iterable[str] = (), parallel: bool = False) -> Any:
    """Compile `function` when it is first called, or load it from the cache on disk.

    Parameters
    ----------
    function : callable
        The plain function; it stays callable under its own name.
    flags : iterable of str
        Which liberties the compiler may take with floating-point arithmetic. Never all of them: there are some
        that make a test for NaN lie.
    parallel : bool
        Whether its `prange` is to use threads.

    Returns
    -------
    callable
        Divisions by zero give infinities and NaN as in NumPy, and Python's global lock is not held.
    """
    # The cache tells kernels apart by their qualified names, and knows of no options.
    twin = FunctionType(function.__code__, function.__globals__, function.__name__)
    twin.__qualname__ = f"{function.__name__}_{'parallel' if parallel else 'serial'}_{_FINGERPRINT}"
    compiler = njit(parallel=parallel, fastmath=set(flags), error_model="numpy", nogil=True)
    kernel = compiler(twin)
    with contextlib.suppress(RuntimeError):  # no folder can be written to: each process compiles for itself
        kernel.enable_caching()
    _ours.add(kernel)
    return kernel


class _Announcer(event.Listener):
    """Says once, on stderr, that compilation is going on: numba tells only if the cache had nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said = False

    def on_start(self, event: event.Event) -> None:
        with self._lock:
            if self._said or event.data["dispatcher"] not in _ours:
                return
            self._said = True
        print(  # noqa: T201 - a user waits and no log is looked at
            f"scratchvae: compiling the kernels needed here, about {SECONDS} s at most; later runs find them cached",
            file=sys.stderr,
            flush=True,
        )

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Announcer())
