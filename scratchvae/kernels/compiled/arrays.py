"""Arrays as the kernels want them, so that each kernel is compiled for one kind of array only."""

from __future__ import annotations

import threading

import numpy as np

__all__ = ["give_back", "plain", "workspace"]

_ALIGNMENT = 64  # bytes: a vector, and a line of the caches
# What a minibatch of a thousand needs several times over. One that needs more computes for milliseconds, and gets
# memory that is given back.
_KEPT_BYTES = 2**26


class _Memory(threading.local):
    def __init__(self) -> None:
        self.kept: dict[np.dtype, np.ndarray] = {}


_memory = _Memory()  # a thread that computes has its own


def workspace(size: int, dtype: np.dtype) -> np.ndarray:
    """Return memory for intermediate results, the same one at each call: a warm step allocates nothing.

    A thread keeps what it has had until it ends, up to 64 MB for each dtype.

    Parameters
    ----------
    size : int
    dtype : dtype

    Returns
    -------
    ndarray (size,)
        Uninitialised, and overwritten by whoever asks next in this thread for the same dtype.
    """
    kept = _memory.kept.get(dtype)
    if kept is None or kept.size < size:
        raw = np.empty(size * dtype.itemsize + _ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % _ALIGNMENT
        kept = raw[start : start + size * dtype.itemsize].view(dtype)
        if raw.size <= _KEPT_BYTES:
            _memory.kept[dtype] = kept
    return kept[:size]


def plain(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return an array that is contiguous, writeable and of `dtype`.

    Parameters
    ----------
    array : ndarray (...)
    dtype : dtype

    Returns
    -------
    ndarray (...)
        `array` itself if it is all that; else a copy.
    """
    if array.flags.carray and array.dtype == dtype:
        return array
    return np.array(array, dtype, order="C")


def give_back(result: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return `out`, holding what a kernel wrote into `result = plain(out, out.dtype)`.

    Parameters
    ----------
    result, out : ndarray (...)

    Returns
    -------
    ndarray (...)
    """
    if result is not out:
        out[...] = result
    return out
