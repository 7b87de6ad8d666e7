"""Randomness as an argument: what `rng=` may be, independent streams, and noise from the kernels.

Nothing here or elsewhere in the package owns a global generator. A `numpy.random.Generator` decides *which*
random numbers are used (it is cheap, it spawns, everybody knows it); the bulk of them comes from a
counter-based stream, `NoiseStream`, whose values depend on a key and a position alone and so never on the
number of threads.
Derived in `derivations/09-philox.md`.
"""

from __future__ import annotations

import numbers
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from scratchvae import kernels

__all__ = ["NoiseStream", "RandomSource", "as_generator", "spawn", "standard_normal"]

RandomSource: TypeAlias = "np.random.Generator | np.random.SeedSequence | int | None"


def as_generator(rng: Any = None) -> np.random.Generator:
    """Return the generator that an `rng=` argument stands for.

    Parameters
    ----------
    rng : numpy.random.Generator, numpy.random.SeedSequence, int or None
        A generator is returned as it is, and advances as it is used. A non-negative seed or a seed sequence
        makes a new one, the same each time. None makes one from the operating system's entropy.

    Returns
    -------
    numpy.random.Generator

    Raises
    ------
    TypeError
        If `rng` is something else.
    ValueError
        If `rng` is a negative integer.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None or isinstance(rng, np.random.SeedSequence):
        return np.random.default_rng(rng)
    if isinstance(rng, bool) or not isinstance(rng, numbers.Integral):
        raise TypeError(
            f"rng is {rng!r} of type {type(rng).__name__}, expected a numpy.random.Generator, a seed (a "
            "non-negative integer), a numpy.random.SeedSequence or None"
        )
    if rng < 0:
        raise ValueError(f"rng is the seed {rng}, expected a non-negative integer")
    return np.random.default_rng(int(rng))


def spawn(rng: Any, n: int) -> list[np.random.Generator]:
    """Return `n` independent generators, so that using one leaves the others as they are.

    Parameters
    ----------
    rng : numpy.random.Generator, numpy.random.SeedSequence, int or None
        See `as_generator`. A generator remembers how many children it has had, and gives new ones each time.
    n : int

    Returns
    -------
    list of numpy.random.Generator

    Raises
    ------
    TypeError
        If `rng` is none of these.
    """
    return as_generator(rng).spawn(n)


class NoiseStream:
    """An endless stream of random values with a position in it.

    The values are a function of the key and the position, whatever the number of threads and however the
    stream is cut into arrays. Two integers are the whole state, so a checkpoint can hold it.

    Parameters
    ----------
    rng : numpy.random.Generator, numpy.random.SeedSequence, int or None
        Gives the key: 64 bits drawn from a generator, or derived from the seed.

    Examples
    --------
    >>> stream = NoiseStream(0)
    >>> resumed = NoiseStream.from_state(stream.state())
    >>> bool((stream.standard_normal((2, 3)) == resumed.standard_normal((2, 3))).all())
    True
    """

    def __init__(self, rng: Any = None) -> None:
        self._key = _draw_key(as_generator(rng))
        self._offset = 0

    def state(self) -> tuple[int, int]:
        """Return the key, below 2⁶⁴, and the number of values used so far."""
        return self._key, self._offset

    @classmethod
    def from_state(cls, state: tuple[int, int]) -> NoiseStream:
        """Return a stream that goes on where another was when its `state` was taken.

        Parameters
        ----------
        state : tuple of two int
            The key and the number of values used.

        Returns
        -------
        NoiseStream

        Raises
        ------
        ValueError
            If a number is negative, or the key needs more than 64 bits.
        """
        key, offset = (int(number) for number in state)
        if not (0 <= key < 2**64 and offset >= 0):
            raise ValueError(
                f"state is {(key, offset)}, expected a key below 2**64 and a position, both non-negative"
            )
        stream = cls.__new__(cls)
        stream._key, stream._offset = key, offset  # noqa: SLF001 - its own
        return stream

    def standard_normal(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> np.ndarray:
        """Return standard normal values of any shape (...).

        Parameters
        ----------
        shape : int or tuple of int
        dtype : float32 or float64
            Both give the same values, differently rounded.

        Returns
        -------
        ndarray of `shape`
        """
        out = np.empty(shape, dtype)
        return kernels.standard_normal(self._key, self._advance(out.size), out)

    def uniform(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> np.ndarray:
        """Return values uniform on (0, 1), never 0 and never 1.

        Parameters
        ----------
        shape : int or tuple of int
        dtype : float32 or float64

        Returns
        -------
        ndarray of `shape`
        """
        out = np.empty(shape, dtype)
        return kernels.uniform(self._key, self._advance(out.size), out)

    def bernoulli(self, probability: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
        """Return ones, each with its own probability, and zeros.

        Parameters
        ----------
        probability : ndarray
            In [0, 1]: 0 gives always 0, and 1 always 1.
        dtype : float32 or float64, optional
            That of `probability` by default.

        Returns
        -------
        ndarray of the shape of `probability`
        """
        probability = np.asarray(probability, dtype)
        out = np.empty(probability.shape, probability.dtype)
        return kernels.bernoulli(self._key, self._advance(out.size), probability, out)

    def binarize(self, pixels: np.ndarray, dtype: DTypeLike = np.float32) -> np.ndarray:
        """Return ones, each with the probability of its grey level, and zeros: `bernoulli` of bytes, in one pass.

        Parameters
        ----------
        pixels : ndarray (...) of uint8
            255 is white.
        dtype : float32 or float64

        Returns
        -------
        ndarray of the shape of `pixels`
        """
        out = np.empty(pixels.shape, dtype)
        return kernels.binarize(self._key, self._advance(out.size), pixels, out)

    def _advance(self, count: int) -> int:
        offset = self._offset
        self._offset += count
        return offset


def standard_normal(rng: Any, shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> np.ndarray:
    """Return standard normal values of any shape (...) from a new stream, whose key is drawn from `rng`.

    Parameters
    ----------
    rng : numpy.random.Generator, numpy.random.SeedSequence, int or None
        A generator advances by one 64-bit draw, whatever the shape.
    shape : int or tuple of int
    dtype : float32 or float64
        Both give the same values, differently rounded.

    Returns
    -------
    ndarray of `shape`
    """
    return kernels.standard_normal(_draw_key(as_generator(rng)), 0, np.empty(shape, dtype))


def _draw_key(generator: np.random.Generator) -> int:
    return int(generator.integers(2**64, dtype=np.uint64))
