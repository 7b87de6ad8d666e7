"""Runs every kernel on fixed inputs, large enough for threads, and hashes what comes out.

In single precision all of them; in double, to save the compiler's time, a product and the normals.

As a program, in a process of its own: `python -m tests.kernels.exercise`, with `fork` to do it in a forked child too.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from collections.abc import Iterator

import numpy as np

from scratchvae import kernels

LAYERS = [(203, 150), (150, 7), (150, 7), (7, 150), (150, 203)]  # of a VAE with these sizes


def in_single_precision() -> Iterator[np.ndarray]:
    dtype = np.float32
    rng = np.random.default_rng(0)

    def array(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(dtype)

    x, weight, bias, dy = array(131, 203), array(203, 157), array(157), array(131, 157)
    yield kernels.matmul(x, weight)
    yield kernels.matmul_transposed_left(x, dy)
    yield kernels.matmul_transposed_right(dy, weight)
    yield kernels.matmul(array(601, 77), array(77, 21))
    yield kernels.dense_activation(x, weight, bias, "softplus")
    yield kernels.dense_input_gradient(dy, weight, np.tanh(x), "tanh")
    dweight, dbias = array(203, 157), array(157)
    kernels.dense_parameter_gradients(x, dy, dweight, dbias)
    yield from (dweight, dbias)
    sums = np.zeros((2, 203, 157), dtype)
    kernels.add_outer_products(np.maximum(x, 0), dy, *sums)
    of_rows = np.zeros((2, 157), dtype)
    kernels.add_shifted_rows(dy, bias, *of_rows)
    moments = np.ones((2, 203, 157))
    kernels.add_mean_and_squares(*sums, 131, *moments)
    yield from (sums, of_rows, moments)
    dlogits = np.empty_like(x)
    yield kernels.bernoulli_value_and_gradient((x[:1] > 0).astype(dtype), 3 * x, np.ones(131), dlogits)
    yield dlogits
    dmean, dlog_var = np.zeros_like(x), np.zeros_like(x)
    yield kernels.gaussian_kl_value_and_gradient(x, x[::-1], np.ones(131), dmean, dlog_var)
    yield from (dmean, dlog_var)
    noise, z = array(262, 203), np.empty((262, 203), dtype)
    kernels.reparameterize(x, x[::-1], noise, z)
    kernels.reparameterize_gradient(z, x[::-1], noise, dmean, dlog_var)
    yield from (z, dmean, dlog_var)
    state = [array(40_000) for _ in range(3)] + [np.abs(array(40_000))]
    kernels.adam_update(*state, 0.9, 0.999, 1e-3, 1e-8)
    kernels.sgd_update(*state[:3], 1e-3, 0.9)
    yield from state
    yield from gradients_of_a_vae(rng)
    yield np.array([kernels.all_finite(np.ones(150_001, dtype))])
    yield kernels.standard_normal(1, 2, np.empty(30_001, dtype))
    yield kernels.uniform(3, 4, np.empty(30_001, dtype))
    yield kernels.bernoulli(5, 6, np.full(30_001, 0.3, dtype), np.empty(30_001, dtype))
    yield kernels.binarize(7, 8, np.arange(30_001).astype(np.uint8), np.empty(30_001, dtype))


def gradients_of_a_vae(rng: np.random.Generator) -> Iterator[np.ndarray]:
    sizes = (203, 150, 7)
    theta = (rng.normal(size=sum((a + 1) * b for a, b in LAYERS)) / 12).astype(np.float32)
    x = (rng.random((131, 203)) < 0.1).astype(np.float32)
    x[:, 100:108] = 1  # among lists a place where none is worth while: where a task begins, if there are two
    gradient, values = np.full_like(theta, np.nan), np.empty((2, len(x)))
    noise = rng.normal(size=(131, 7)).astype(np.float32)
    kernels.vae_gradients(theta, gradient, sizes, "tanh", None, 0.7, x, noise, values)
    yield from (gradient, values)


def in_double_precision() -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    yield kernels.matmul(rng.normal(size=(131, 203)), rng.normal(size=(203, 157)))
    yield kernels.standard_normal(1, 2, np.empty(30_001))


def digest() -> str:
    found = hashlib.sha256()
    for result in itertools.chain(in_single_precision(), in_double_precision()):
        found.update(np.ascontiguousarray(result).tobytes())
    return found.hexdigest()


def digest_in_a_forked_child() -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, digest().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


if __name__ == "__main__":
    sys.stdout.write(digest() + "\n")
    if "fork" in sys.argv:
        sys.stdout.write(digest_in_a_forked_child() + "\n")
