"""Random numbers that are a function of (key, position). Derived in `derivations/09-philox.md`.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011) scrambles a
counter under a key. Nothing is carried from one number to the next, so value n of a stream is the same
however the stream is cut into pieces, in whatever order, on however many threads.

Position n of a stream lies in a block of 1024 values that 256 counters give, four words each, stored plane by
plane: word 0 of every counter, then word 1 of every counter, and so on. (9.3)
"""

from __future__ import annotations

import numpy as np

from scratchvae.kernels.polynomials import Constants, constants_for

__all__ = ["bernoulli", "binarize", "philox4x32", "philox_uint32", "standard_normal", "uniform"]

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))  # the golden ratio's and √3 − 1's leading bits
ROUNDS = 10
LANES = 256  # counters in a block
BLOCK = 4 * LANES  # values in a block

# The third word of the counter keeps a stream's normals apart from its other values: one normal uses words
# at two positions, so without it the normal at one position would depend on the uniform at another.
BITS, NORMALS = 0, 1

LOW = np.uint64(0xFFFFFFFF)
HALF_WORD = np.uint64(32)


def philox4x32(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Philox4x32-10: scramble counters under a key. (9.1) (9.2)

    Parameters
    ----------
    counter : ndarray (n, 4) of uint32
    key : ndarray (2,) of uint32

    Returns
    -------
    ndarray (n, 4) of uint32
    """
    words = np.ascontiguousarray(counter.T)
    left, right = np.uint32(key[0]), np.uint32(key[1])
    return np.stack(_philox(words[0], words[1], words[2], words[3], left, right), axis=1)


def _philox(
    c0: np.ndarray, c1: np.ndarray, c2: np.ndarray, c3: np.ndarray, left: np.uint32, right: np.uint32
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    with np.errstate(over="ignore"):  # the key's additions wrap around on purpose
        for _ in range(ROUNDS):
            product0 = MULTIPLIERS[0] * c0.astype(np.uint64)
            product1 = MULTIPLIERS[1] * c2.astype(np.uint64)
            c0 = (product1 >> HALF_WORD).astype(np.uint32) ^ c1 ^ left
            c2 = (product0 >> HALF_WORD).astype(np.uint32) ^ c3 ^ right
            c1 = (product1 & LOW).astype(np.uint32)
            c3 = (product0 & LOW).astype(np.uint32)
            left, right = left + WEYL[0], right + WEYL[1]
    return c0, c1, c2, c3


def _blocks(key: int, offset: int, count: int, kind: int) -> np.ndarray:
    """Words of the blocks that hold positions `offset` to `offset + count`, as (blocks, 4, LANES)."""
    first, last = offset // BLOCK, -(-(offset + count) // BLOCK)
    index = np.arange(first * LANES, last * LANES, dtype=np.uint64)
    words = _philox(
        (index & LOW).astype(np.uint32),
        (index >> HALF_WORD).astype(np.uint32),
        np.full(index.size, kind, np.uint32),
        np.zeros(index.size, np.uint32),
        np.uint32(key & 0xFFFFFFFF),
        np.uint32(key >> 32),
    )
    return np.stack([word.reshape(-1, LANES) for word in words], axis=1)


def philox_uint32(key: int, offset: int, n: int) -> np.ndarray:
    """Words of a stream, as they are. (9.3)

    Parameters
    ----------
    key : int
        Which stream; 64 bits.
    offset : int
        Position of the first word.
    n : int
        Number of words.

    Returns
    -------
    ndarray (n,) of uint32
    """
    start = offset % BLOCK
    return _blocks(key, offset, n, BITS).reshape(-1)[start : start + n]


def uniform(key: int, offset: int, out: np.ndarray) -> np.ndarray:
    """Fill `out` with values uniform on (0, 1), never 0 and never 1. (9.4)

    Parameters
    ----------
    key : int
        Which stream; 64 bits.
    offset : int
        Position in the stream of the first value.
    out : ndarray (...) of float32 or float64
        Filled in C order: on a grid of 2⁻²³ in float32, of 2⁻³² in float64.

    Returns
    -------
    ndarray (...)
        `out`.
    """
    out[...] = _unit_interval(philox_uint32(key, offset, out.size), out.dtype).reshape(out.shape)
    return out


def _unit_interval(words: np.ndarray, dtype: np.dtype) -> np.ndarray:
    # In float32, 23 bits and the half that centres them are what 24 bits of precision can hold. (9.4)
    c = constants_for(np.empty(0, dtype))
    return ((words >> c.spare_bits).astype(dtype) + c.half) * c.uniform_step


def bernoulli(key: int, offset: int, probability: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Fill `out` with ones, each with its own probability, and zeros: [uniform < probability]. (9.5)

    Parameters
    ----------
    key : int
        Which stream; 64 bits.
    offset : int
        Position in the stream of the first value.
    probability : ndarray (...)
        Of the shape and dtype of `out`. 0 gives always 0, and 1 always 1.
    out : ndarray (...) of float32 or float64

    Returns
    -------
    ndarray (...)
        `out`.
    """
    out[...] = uniform(key, offset, np.empty(out.shape, out.dtype)) < probability
    return out


def binarize(key: int, offset: int, pixels: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Fill `out` with ones, each with the probability pixel / 255, and zeros. (9.5)

    Parameters
    ----------
    key : int
        Which stream; 64 bits.
    offset : int
        Position in the stream of the first value.
    pixels : ndarray (...) of uint8
    out : ndarray (...) of float32 or float64

    Returns
    -------
    ndarray (...)
        `out`.
    """
    return bernoulli(key, offset, pixels.astype(out.dtype) / out.dtype.type(255), out)


def standard_normal(key: int, offset: int, out: np.ndarray) -> np.ndarray:
    """Fill `out` with standard normal values, by Box and Muller's transformation. (9.6) (9.7)

    Parameters
    ----------
    key : int
        Which stream; 64 bits.
    offset : int
        Position in the stream of the first value.
    out : ndarray (...) of float32 or float64
        Filled in C order. Both precisions round the same numbers, none of which exceeds 6.77.

    Returns
    -------
    ndarray (...)
        `out`.
    """
    words = _blocks(key, offset, out.size, NORMALS)
    values = np.empty(words.shape, out.dtype)
    for pair in (0, 2):
        radius = _radius(words[:, pair], out.dtype)
        cosine, sine = _direction(words[:, pair + 1], out.dtype)
        values[:, pair], values[:, pair + 1] = radius * cosine, radius * sine
    start = offset % BLOCK
    out[...] = values.reshape(-1)[start : start + out.size].reshape(out.shape)
    return out


def _radius(word: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """√(−2 log u) of u = (word + ½) / 2³². (9.6)"""
    c = constants_for(values := word.astype(dtype))
    return np.sqrt(-c.two * _log((values + c.half) * c.unit, c))


def _log(u: np.ndarray, c: Constants) -> np.ndarray:
    """Natural logarithm of normal numbers: u = 2ᵉ m with m in [√½, √2). (9.8)"""
    bits = u.view(c.root_half_bits.dtype)
    exponent = (bits - c.root_half_bits) >> c.mantissa_bits
    m = (bits - (exponent << c.mantissa_bits)).view(u.dtype)
    s = (m - c.one) / (m + c.one)
    return exponent.astype(u.dtype) * c.log_two + (c.two * s + s * (s * s) * _polynomial(s * s, c.log))


def _direction(word: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of a quarter turn times (quadrant + x), |x| ≤ ½: the word's 2 and 30 bits. (9.9)"""
    quadrant = (word >> np.uint32(30)).astype(np.int32)
    x = (word << np.uint32(2)).view(np.int32).astype(dtype)
    c = constants_for(x)
    x = x * c.unit
    sine, cosine = x * _polynomial(x * x, c.sine), _polynomial(x * x, c.cosine)
    odd = (quadrant & 1) == 1  # a quarter turn takes (cosine, sine) to (−sine, cosine)
    cosine, sine = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    negative_cosine, negative_sine = (quadrant + 1) & 2, quadrant & 2
    return cosine * (1 - negative_cosine).astype(dtype), sine * (1 - negative_sine).astype(dtype)


def _polynomial(x: np.ndarray, coefficients: tuple[np.floating, ...]) -> np.ndarray:
    value = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value
