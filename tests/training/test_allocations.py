"""A warm training step allocates nothing that grows with the network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

from scratchvae import kernels

pytestmark = pytest.mark.skipif(kernels.BACKEND != "compiled", reason="about the compiled kernels")

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import tracemalloc
import numpy as np
import scratchvae as sv
from numba.core.runtime import rtsys
from scratchvae.estimators import make_estimator
from scratchvae.randomness import NoiseStream

for hidden in ((400,), (400, 300, 200)):
    vae = sv.VAE(784, hidden, 20, rng=0)
    x = (np.random.default_rng(0).random((128, 784)) < 0.2).astype(np.float32)
    noise, adam, estimator = NoiseStream(0), sv.Adam(vae.theta), make_estimator("pathwise")

    def step():
        vae.minibatch_gradients(x, noise=noise, estimator=estimator, num_samples=1, beta=1.0)
        adam.update(vae.gradient)

    step()
    before = rtsys.get_allocation_stats().alloc
    step()
    in_kernels = rtsys.get_allocation_stats().alloc - before
    tracemalloc.start()
    step()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    step()
    print(in_kernels, tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
"""


def test_a_warm_step_allocates_only_the_noise_and_the_terms_per_example() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "NUMBA_NRT_STATS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    (shallow, small), (deep, large) = (map(int, line.split()) for line in run.stdout.splitlines())
    # numba allocates a few bytes to refer to each array that it is handed; no more where there are more layers.
    assert shallow == deep
    # In Python, noise (10 kB), two terms and a value per example (5 kB). One layer's output would be 205 kB.
    assert max(small, large) < 25_000
