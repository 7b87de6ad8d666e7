"""How a plain function becomes a kernel: numba's options in one place, the cache, and a word to the user."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import njit
from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

__all__ = ["compile_kernel"]

SECONDS = 20  # of compilation until a first training step has ended, on two cores of 2023

_ours: set[Any] = set()


def _fingerprint_of_sources() -> str:
    # numba looks only at the file of the kernel itself, and would go on using a cached one after the file of a
    # function that was inlined into it has changed.
    here = Path(__file__).parent
    sources = sorted([*here.glob("*.py"), *here.parent.glob("*.py")])
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


_FINGERPRINT = _fingerprint_of_sources()


def compile_kernel(function: Callable[..., Any], parallel: bool = False) -> Any:
    """Compile `function` when it is first called, or load it from the cache on disk.

    Parameters
    ----------
    function : callable
        The plain function; it stays callable under its own name.
    parallel : bool
        Whether its `prange` is to use threads.

    Returns
    -------
    callable
        Divisions by zero give infinities and NaN as in NumPy, and Python's global lock is not held. The compiler
        gets no liberties with floating-point arithmetic: some would make a test for NaN lie, and the only one that
        any kernel needs, rounding a multiply-add once, the tile of a matrix product takes for itself.
    """
    # The cache tells kernels apart by their qualified names, and knows of no options.
    twin = FunctionType(function.__code__, function.__globals__, function.__name__)
    twin.__qualname__ = f"{function.__name__}_{'parallel' if parallel else 'serial'}_{_FINGERPRINT}"
    compiler = njit(parallel=parallel, error_model="numpy", nogil=True)
    kernel = compiler(twin)
    with contextlib.suppress(RuntimeError):  # no folder can be written to: each process compiles for itself
        kernel._cache = _Cache(twin)  # noqa: SLF001 - what enable_caching() does, with our class
    _ours.add(kernel)
    return kernel


class _FilePerSignature(IndexDataCacheFile):
    """Where a kernel's machine code is kept: a file for each signature, which says itself what it holds.

    numba's own numbers the files and keeps the numbers in an index. Of two processes that compile at once both may
    take the same number, and one may end between index and file: then who loads a kernel gets the code for arguments
    of other types.
    """

    def save(self, key: Any, data: Any) -> None:
        self._save_data(self._name(key), (self._content(key), data))

    def load(self, key: Any) -> Any:
        try:
            content, data = self._load_data(self._name(key))
        except OSError:  # there is none, or none that this user may read
            return None
        return data if content == self._content(key) else None

    def _name(self, key: Any) -> str:
        # With numba's version, for what another one has written may not even be readable.
        digest = hashlib.sha256(repr((self._version, key)).encode()).digest()
        return self._data_name(int.from_bytes(digest[:8]))

    def _content(self, key: Any) -> Any:
        return self._version, self._source_stamp, key


class _Cache(FunctionCache):
    """What has been compiled can be used, whether or not it can be kept."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _FilePerSignature(
            self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp()
        )

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except OSError as error:
            why = error.strerror or error
            _not_kept(
                f"compiled kernels could not be kept in {self.cache_path}: {why}; later runs compile again"
            )


class _Once:
    """Says one thing once in a process, on stderr, whichever thread comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said = False

    def __call__(self, sentence: str) -> None:
        with self._lock:
            if self._said:
                return
            self._said = True
        # A user waits, and no log is looked at.
        print(f"scratchvae: {sentence}", file=sys.stderr, flush=True)  # noqa: T201


_compiling, _not_kept = _Once(), _Once()


class _Announcer(event.Listener):
    """Says that compilation is going on: numba tells only if the cache had nothing."""

    def on_start(self, event: event.Event) -> None:
        if event.data["dispatcher"] in _ours:
            cached = not isinstance(event.data["dispatcher"]._cache, NullCache)  # noqa: SLF001
            later = "later runs find them cached" if cached else "no folder to keep them in can be written to"
            _compiling(f"compiling the kernels needed here, about {SECONDS} s at most; {later}")

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Announcer())
