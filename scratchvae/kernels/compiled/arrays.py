"""Arrays as the kernels want them, so that each kernel is compiled for one kind of array only."""

from __future__ import annotations

import numpy as np

__all__ = ["give_back", "plain"]


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
