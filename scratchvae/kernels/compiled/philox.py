"""Compiled twin of `scratchvae.kernels.reference.philox`: the same values, bit for bit, on any processor.

Two things make it fast. The ten rounds work on single words and a block's 256 counters fill four planes of 256
words, so the loop over counters is one loop without branches over contiguous memory, which the compiler runs
sixteen counters at a time. And logarithm, sine and cosine are short polynomials.

No kernel here gets a floating-point flag. Contraction into fused multiply-adds saves nothing that can be measured,
and would cost that a seed gives the same noise on every processor and in both twins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.kernels.compiled.arrays import plain
from scratchvae.kernels.compiled.compilation import compile_kernel
from scratchvae.kernels.compiled.mathematics import convert, inline, log, sine_and_cosine
from scratchvae.kernels.compiled.threads import ParallelKernel
from scratchvae.kernels.polynomials import constants_for

__all__ = ["bernoulli", "binarize", "philox4x32", "philox_uint32", "standard_normal", "uniform"]

MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
ROUNDS = 10
LANES = 256
BLOCK = 4 * LANES
BITS, NORMALS = 0, 1  # a counter's third word: see the reference
WORTHWHILE = 8 * BLOCK  # values


@inline
def _round(c0: Any, c1: Any, c2: Any, c3: Any, left: Any, right: Any) -> Any:
    # Four words in, four words out. (9.1)
    product0 = MULTIPLIER_0 * np.uint64(c0)
    product1 = MULTIPLIER_1 * np.uint64(c2)
    high0, low0 = np.uint32(product0 >> np.uint64(32)), np.uint32(product0)
    high1, low1 = np.uint32(product1 >> np.uint64(32)), np.uint32(product1)
    return np.uint32(high1 ^ c1 ^ left), low1, np.uint32(high0 ^ c3 ^ right), low0


@inline
def _philox(c0: Any, c1: Any, c2: Any, c3: Any, left: Any, right: Any) -> Any:
    # Ten rounds; the key moves on by a constant after each. (9.2)
    for _ in range(ROUNDS):
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, left, right)
        left, right = np.uint32(left + WEYL_0), np.uint32(right + WEYL_1)
    return c0, c1, c2, c3


def _philox4x32(counter: np.ndarray, key: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(counter)):
        c = counter[i]
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = _philox(c[0], c[1], c[2], c[3], key[0], key[1])


philox4x32_kernel = compile_kernel(_philox4x32)


def _words_of_block(key: Any, block: Any, kind: Any, words: np.ndarray) -> None:
    # Counter number block · 256 + lane, in two words; since a block has 256 lanes no addition carries. (9.3)
    left, right = np.uint32(key), np.uint32(key >> np.uint64(32))
    low, high = np.uint32(block << 8), np.uint32(block >> 24)
    for lane in range(LANES):
        w0, w1, w2, w3 = _philox(np.uint32(low + lane), high, np.uint32(kind), np.uint32(0), left, right)
        words[lane], words[LANES + lane] = w0, w1
        words[2 * LANES + lane], words[3 * LANES + lane] = w2, w3


words_of_block = compile_kernel(_words_of_block)


@inline
def _unit_interval(word: Any, like: Any) -> Any:
    # 23 bits and the half that centres them are what 24 bits of precision can hold. (9.4)
    c = constants_for(like)
    return (convert(word >> c.spare_bits, like) + c.half) * c.uniform_step


@inline
def _as_probability(pixel: Any, like: Any) -> Any:
    return convert(pixel, like) / constants_for(like).byte


@inline
def _chosen(word: Any, probability: Any) -> Any:
    c = constants_for(probability)
    return c.one if _unit_interval(word, probability) < probability else c.zero  # (9.5)


@inline
def _pair_of_normals(word0: Any, word1: Any, like: Any) -> Any:
    # Box and Muller: a radius from one word, a direction from the other. (9.6) (9.7) (9.9)
    c = constants_for(like)
    radius = np.sqrt(-c.two * log((convert(word0, like) + c.half) * c.unit))
    quadrant = np.int32(word1 >> np.uint32(30))
    sine, cosine = sine_and_cosine(convert(np.int32(np.uint32(word1 << np.uint32(2))), like) * c.unit)
    if quadrant & 1:  # a quarter turn takes (cosine, sine) to (−sine, cosine)
        sine, cosine = cosine, sine
    cosine *= convert(np.int32(1 - ((quadrant + 1) & 2)), like)
    sine *= convert(np.int32(1 - (quadrant & 2)), like)
    return radius * cosine, radius * sine


def _normals_of_block(words: np.ndarray, values: np.ndarray) -> None:
    like = values[0]
    for i in range(LANES):
        values[i], values[LANES + i] = _pair_of_normals(words[i], words[LANES + i], like)
    for i in range(2 * LANES, 3 * LANES):
        values[i], values[LANES + i] = _pair_of_normals(words[i], words[LANES + i], like)


normals_of_block = compile_kernel(_normals_of_block)


@inline
def _share(task: Any, tasks: Any, offset: Any, size: Any) -> Any:
    # The blocks that a task computes: first and last, the last not included.
    first, last = offset // BLOCK, -(-(offset + size) // BLOCK)
    return first + (last - first) * task // tasks, first + (last - first) * (task + 1) // tasks


@inline
def _overlap(block: Any, offset: Any, size: Any) -> Any:
    # What of a block is asked for: first and last place in the output, and from which place in the block on.
    begin = block * BLOCK - offset
    return max(begin, 0), min(begin + BLOCK, size), max(-begin, 0)


def _fill_words(task: int, tasks: int, key: Any, offset: int, out: np.ndarray) -> None:
    words = np.empty(BLOCK, np.uint32)
    first, last = _share(task, tasks, offset, out.size)
    for block in range(first, last):
        words_of_block(key, block, BITS, words)
        begin, end, skip = _overlap(block, offset, out.size)
        for i in range(end - begin):
            out[begin + i] = words[skip + i]


def _fill_uniforms(task: int, tasks: int, key: Any, offset: int, out: np.ndarray) -> None:
    words = np.empty(BLOCK, np.uint32)
    first, last = _share(task, tasks, offset, out.size)
    for block in range(first, last):
        words_of_block(key, block, BITS, words)
        begin, end, skip = _overlap(block, offset, out.size)
        for i in range(end - begin):
            out[begin + i] = _unit_interval(words[skip + i], out[0])


def _fill_bernoulli(
    task: int, tasks: int, key: Any, offset: int, probability: np.ndarray, out: np.ndarray
) -> None:
    words = np.empty(BLOCK, np.uint32)
    first, last = _share(task, tasks, offset, out.size)
    for block in range(first, last):
        words_of_block(key, block, BITS, words)
        begin, end, skip = _overlap(block, offset, out.size)
        for i in range(end - begin):
            out[begin + i] = _chosen(words[skip + i], probability[begin + i])


def _fill_binarized(
    task: int, tasks: int, key: Any, offset: int, pixels: np.ndarray, out: np.ndarray
) -> None:
    words = np.empty(BLOCK, np.uint32)
    first, last = _share(task, tasks, offset, out.size)
    for block in range(first, last):
        words_of_block(key, block, BITS, words)
        begin, end, skip = _overlap(block, offset, out.size)
        for i in range(end - begin):
            out[begin + i] = _chosen(words[skip + i], _as_probability(pixels[begin + i], out[0]))


def _fill_normals(task: int, tasks: int, key: Any, offset: int, out: np.ndarray) -> None:
    words, values = np.empty(BLOCK, np.uint32), np.empty(BLOCK, out.dtype)
    first, last = _share(task, tasks, offset, out.size)
    for block in range(first, last):
        words_of_block(key, block, NORMALS, words)
        normals_of_block(words, values)
        begin, end, skip = _overlap(block, offset, out.size)
        for i in range(end - begin):
            out[begin + i] = values[skip + i]


fill_words, fill_uniforms = ParallelKernel(_fill_words), ParallelKernel(_fill_uniforms)
fill_bernoulli, fill_binarized = ParallelKernel(_fill_bernoulli), ParallelKernel(_fill_binarized)
fill_normals = ParallelKernel(_fill_normals)


def _fill(kernel: Any, key: int, offset: int, *inputs: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Fill `out` in C order, whatever its strides."""
    if out.size:
        flat = plain(out, out.dtype).reshape(-1)
        kernel(out.size >= WORTHWHILE, np.uint64(key), offset, *(array.reshape(-1) for array in inputs), flat)
        if not out.flags.carray:
            out[...] = flat.reshape(out.shape)
    return out


def philox4x32(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Philox4x32-10: scramble counters under a key. (9.1) (9.2)"""
    out = np.empty(counter.shape, np.uint32)
    philox4x32_kernel(plain(counter, out.dtype), plain(key, out.dtype), out)
    return out


def philox_uint32(key: int, offset: int, n: int) -> np.ndarray:
    """Words of a stream, as they are. (9.3)"""
    return _fill(fill_words, key, offset, out=np.empty(n, np.uint32))


def uniform(key: int, offset: int, out: np.ndarray) -> np.ndarray:
    """Fill `out` with values uniform on (0, 1), never 0 and never 1. (9.4)"""
    return _fill(fill_uniforms, key, offset, out=out)


def bernoulli(key: int, offset: int, probability: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Fill `out` with ones, each with its own probability, and zeros: [uniform < probability]. (9.5)"""
    return _fill(fill_bernoulli, key, offset, plain(probability, out.dtype), out=out)


def binarize(key: int, offset: int, pixels: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Fill `out` with ones, each with the probability pixel / 255, and zeros. (9.5)"""
    return _fill(fill_binarized, key, offset, plain(pixels, np.dtype(np.uint8)), out=out)


def standard_normal(key: int, offset: int, out: np.ndarray) -> np.ndarray:
    """Fill `out` with standard normal values, by Box and Muller's transformation. (9.6) (9.7)"""
    return _fill(fill_normals, key, offset, out=out)
