"""How a kernel runs on several threads, or on one when several would be unsafe or would not pay.

numba's threading layers are not all safe: one aborts the process when two Python threads use it at once,
another when a forked child uses it at all. Kernels give the same bits on any number of threads, so whoever
cannot have several simply gets one.

Nor are they all patient in the right way. GNU's OpenMP, once it has started, lets a thread that waits turn round and
round for milliseconds. If another program, or another of NumPy's threads, wants the processor meanwhile, the thread
that is waited for may not get it, and what takes fifty microseconds takes ten milliseconds. But one that sleeps is
woken late, by some fifty microseconds on a virtual machine, and then finds that the others have gone to sleep.
Twenty thousand turns, not half a millisecond, bridge the gap between two kernels. `OMP_WAIT_POLICY` and
`GOMP_SPINCOUNT` are heeded if the user has set them.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import config, prange, typeof, types
from numba.core import cgutils
from numba.extending import intrinsic

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


TURNS = "20000"

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


@intrinsic
def _call(typing_context: Any, address: Any, task: Any, tasks: Any, arguments: Any) -> Any:
    """Call the compiled function that stands at `address` with (task, tasks, *arguments); whether it went well."""
    kinds = (types.int64, types.int64, *arguments.types)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        convention = context.call_conv
        function = convention.get_function_type(types.none, kinds)
        pointer = builder.inttoptr(values[0], function.as_pointer())
        unpacked = [values[1], values[2], *cgutils.unpack_tuple(builder, values[3])]
        status, _ = convention.call_function(builder, pointer, types.none, kinds, unpacked)
        return status.is_ok

    return types.boolean(types.int64, types.int64, types.int64, arguments), generate


def _side_by_side(tasks: int, address: int, *arguments: Any) -> int:
    failures = 0
    for task in prange(tasks):
        failures += not _call(address, task, tasks, arguments)
    return failures


_run_side_by_side = compile_kernel(_side_by_side, parallel=True)


def _kind(argument: Any) -> Any:
    if type(argument) is not np.ndarray:
        return type(argument)
    flags = argument.flags
    return argument.dtype.num, argument.ndim, flags.carray or (flags.c_contiguous, flags.writeable)


class ParallelKernel:
    """One task's share of some work, as a function (task, tasks, *arguments), and the ways to run all tasks.

    The function is compiled once. With threads, a small loop calls it by its address: were the loop around the
    function itself, numba would compile the whole three times more.

    Parameters
    ----------
    function : callable
        Tasks must not need each other, and the result must not depend on their number.

    Attributes
    ----------
    serial : callable
        One task, for the shortest of calls: `serial(0, 1, *arguments)`.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.serial = compile_kernel(function)
        self._addresses: dict[tuple[Any, ...], int] = {}

    def __call__(self, worthwhile: bool, *arguments: Any) -> None:
        """Run as many tasks as there are threads if that is worthwhile and they are free, else one.

        Parameters
        ----------
        worthwhile : bool
            Whether the work takes longer than waking the other threads, a few microseconds.
        """
        if worthwhile and _threads > 1 and _busy.acquire(blocking=False):
            try:
                self._side_by_side(arguments)
            finally:
                _busy.release()
        else:
            self.serial(0, 1, *arguments)

    def _side_by_side(self, arguments: tuple[Any, ...]) -> None:
        global _started  # noqa: PLW0603 - a process starts its threads once
        call = _threads, self._address(arguments), *arguments
        if _started:
            failures = _run_side_by_side(*call)
        else:
            with _limited_patience():
                failures = _run_side_by_side(*call)
            _started = True
        if failures:  # nothing else can go wrong in a task
            raise MemoryError("a kernel could not get the memory that it needs")

    def _address(self, arguments: tuple[Any, ...]) -> int:
        # numba asks at each call what kinds of arguments there are; this is as far as those of a kernel differ, and
        # quicker to ask: a product of two dozen microseconds would feel the difference.
        kinds = tuple([_kind(argument) for argument in arguments])
        address = self._addresses.get(kinds)
        if address is None:
            signature = (types.int64, types.int64, *map(typeof, arguments))
            self.serial.compile(signature)
            compiled = self.serial.overloads[signature]
            address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
            self._addresses[kinds] = address
        return address
