"""Compiled twin of `scratchvae.kernels.reference.elementwise`. Derived in notes 03 and 04.

Each row is one task's alone, and its terms are added up in float64 in an order that the row's length fixes. No
flags: a number must get the same bits wherever it stands in a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchvae.kernels.compiled.arrays import give_back, plain
from scratchvae.kernels.compiled.mathematics import exp, expm1, inline, log1p, reinterpret
from scratchvae.kernels.compiled.threads import ParallelKernel, num_threads
from scratchvae.kernels.polynomials import constants_for

__all__ = [
    "all_finite",
    "bernoulli_value_and_gradient",
    "gaussian_kl_value_and_gradient",
    "reparameterize",
    "reparameterize_gradient",
]

WORTHWHILE = 6_000  # numbers, at about a nanosecond each
WORTHWHILE_FINITE = 100_000  # where only memory is read


@inline
def _sum(terms: Any) -> Any:
    # In float64; four sums at a time, for an addition takes four cycles and one sum would wait for each.
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    fours = terms.size // 4 * 4
    for i in range(0, fours, 4):
        s0 += terms[i]
        s1 += terms[i + 1]
        s2 += terms[i + 2]
        s3 += terms[i + 3]
    for i in range(fours, terms.size):
        s0 += terms[i]
    return (s0 + s1) + (s2 + s3)


@inline
def _bernoulli_row(x: Any, logits: Any, dvalue: Any, dlogits: Any, terms: Any) -> None:
    c = constants_for(logits[0])
    for j in range(logits.size):
        a = logits[j]
        decay = exp(-abs(a))
        softplus = (c.zero if a < c.zero else a) + log1p(decay)  # (2.7)
        sigmoid = (c.one if a >= c.zero else decay) / (c.one + decay)  # (2.5)
        terms[j] = x[j] * a - softplus  # (3.2)
        dlogits[j] = dvalue * (x[j] - sigmoid)  # (3.3)


def _bernoulli(
    task: int,
    tasks: int,
    x: np.ndarray,
    logits: np.ndarray,
    dvalue: np.ndarray,
    dlogits: np.ndarray,
    value: np.ndarray,
) -> None:
    rows = len(logits)
    terms = np.empty(logits.shape[1], logits.dtype)
    for r in range(rows * task // tasks, rows * (task + 1) // tasks):
        _bernoulli_row(x[r % len(x)], logits[r], dvalue[r], dlogits[r], terms)
        value[r] = _sum(terms)


@inline
def _kl_row(mean: Any, log_var: Any, dvalue: Any, dmean: Any, dlog_var: Any, terms: Any) -> None:
    c = constants_for(mean[0])
    for j in range(mean.size):
        growth = expm1(log_var[j])
        terms[j] = mean[j] * mean[j] + growth - log_var[j]  # (4.7)
        dmean[j] += dvalue * mean[j]  # (4.8)
        dlog_var[j] += dvalue * (c.half * growth)  # (4.8)


def _kl(
    task: int,
    tasks: int,
    mean: np.ndarray,
    log_var: np.ndarray,
    dvalue: np.ndarray,
    dmean: np.ndarray,
    dlog_var: np.ndarray,
    value: np.ndarray,
) -> None:
    rows = len(mean)
    terms = np.empty(mean.shape[1], mean.dtype)
    for r in range(rows * task // tasks, rows * (task + 1) // tasks):
        _kl_row(mean[r], log_var[r], dvalue[r], dmean[r], dlog_var[r], terms)
        value[r] = 0.5 * _sum(terms)


@inline
def _sample_row(mean: Any, log_var: Any, noise: Any, z: Any) -> None:
    c = constants_for(mean[0])
    for j in range(mean.size):
        z[j] = mean[j] + exp(c.half * log_var[j]) * noise[j]  # (4.9)


def _reparameterize(
    task: int, tasks: int, mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray, z: np.ndarray
) -> None:
    rows, examples = len(z), len(mean)
    for r in range(rows * task // tasks, rows * (task + 1) // tasks):
        _sample_row(mean[r % examples], log_var[r % examples], noise[r], z[r])


@inline
def _sample_gradient(dz: Any, log_var: Any, noise: Any, b: Any, dmean: Any, dlog_var: Any) -> None:
    # Over the samples of example b, which stand len(log_var) rows apart. (4.10)
    c = constants_for(dmean[0])
    dmean[:], dlog_var[:] = c.zero, c.zero
    for r in range(b, len(dz), len(log_var)):
        dz_row, noise_row = dz[r], noise[r]
        for j in range(dmean.size):
            dmean[j] += dz_row[j]
            dlog_var[j] += dz_row[j] * noise_row[j]
    log_var_row = log_var[b]
    for j in range(dmean.size):
        dlog_var[j] = c.half * exp(c.half * log_var_row[j]) * dlog_var[j]


def _reparameterize_gradient(
    task: int,
    tasks: int,
    dz: np.ndarray,
    log_var: np.ndarray,
    noise: np.ndarray,
    dmean: np.ndarray,
    dlog_var: np.ndarray,
) -> None:
    rows = len(log_var)
    for b in range(rows * task // tasks, rows * (task + 1) // tasks):
        _sample_gradient(dz, log_var, noise, b, dmean[b], dlog_var[b])


@inline
def _largest_bits(array: Any) -> Any:
    # Without their sign, floating-point numbers are ordered as the integers with the same bits, and infinity and
    # NaN come last. Unlike floats, integers have a maximum that vectorises.
    sign = reinterpret(-constants_for(array[0]).zero)
    largest = sign ^ sign
    for i in range(array.size):
        largest = max(largest, reinterpret(array[i]) & ~sign)
    return largest


def _all_finite(task: int, tasks: int, array: np.ndarray, finite: np.ndarray) -> None:
    part = array[array.size * task // tasks : array.size * (task + 1) // tasks]
    finite[task] = part.size == 0 or _largest_bits(part) < reinterpret(part[:1].dtype.type(np.inf))


bernoulli_kernel, kl_kernel = ParallelKernel(_bernoulli), ParallelKernel(_kl)
sample_kernel, sample_gradient_kernel = (
    ParallelKernel(_reparameterize),
    ParallelKernel(_reparameterize_gradient),
)
finite_kernel = ParallelKernel(_all_finite)


def all_finite(array: np.ndarray) -> bool:
    """Whether no number of `array` (P,) is infinite or NaN."""
    finite = np.ones(num_threads(), np.bool_)
    finite_kernel(array.size >= WORTHWHILE_FINITE, plain(array, array.dtype), finite)
    return bool(finite.all())


def bernoulli_value_and_gradient(
    x: np.ndarray, logits: np.ndarray, dvalue: np.ndarray, dlogits: np.ndarray
) -> np.ndarray:
    """Row sums of x a − softplus(a), and dvalue (x − σ(a)). (3.2) (3.3)"""
    dtype, value, result = logits.dtype, np.zeros(len(logits)), plain(dlogits, logits.dtype)
    if logits.size:
        bernoulli_kernel(
            logits.size >= WORTHWHILE,
            plain(x, dtype),
            plain(logits, dtype),
            plain(dvalue, dtype),
            result,
            value,
        )
    give_back(result, dlogits)
    return value


def gaussian_kl_value_and_gradient(
    mean: np.ndarray, log_var: np.ndarray, dvalue: np.ndarray, dmean: np.ndarray, dlog_var: np.ndarray
) -> np.ndarray:
    """Row sums of ½ (mean² + expm1(log_var) − log_var), and its gradient times dvalue, added. (4.7) (4.8)"""
    dtype, value = mean.dtype, np.zeros(len(mean))
    results = plain(dmean, dtype), plain(dlog_var, dtype)
    if mean.size:
        inputs = plain(mean, dtype), plain(log_var, dtype), plain(dvalue, dtype)
        kl_kernel(mean.size >= WORTHWHILE, *inputs, *results, value)
    give_back(results[0], dmean)
    give_back(results[1], dlog_var)
    return value


def reparameterize(mean: np.ndarray, log_var: np.ndarray, noise: np.ndarray, z: np.ndarray) -> None:
    """z = mean + exp(log_var / 2) noise. (4.9)"""
    dtype, result = mean.dtype, plain(z, mean.dtype)
    if z.size:
        sample_kernel(
            z.size >= WORTHWHILE, plain(mean, dtype), plain(log_var, dtype), plain(noise, dtype), result
        )
    give_back(result, z)


def reparameterize_gradient(
    dz: np.ndarray, log_var: np.ndarray, noise: np.ndarray, dmean: np.ndarray, dlog_var: np.ndarray
) -> None:
    """dmean = dz and dlog_var = ½ dz exp(log_var / 2) noise, summed over the samples. (4.10)"""
    dtype = log_var.dtype
    results = plain(dmean, dtype), plain(dlog_var, dtype)
    if log_var.size:
        inputs = plain(dz, dtype), plain(log_var, dtype), plain(noise, dtype)
        sample_gradient_kernel(dz.size >= WORTHWHILE, *inputs, *results)
    give_back(results[0], dmean)
    give_back(results[1], dlog_var)
