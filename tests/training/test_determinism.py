"""The same seed gives the same bits: on any number of threads, in any process. A reduction over threads breaks this."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import hashlib
import numpy as np
import scratchvae as sv

rng = np.random.default_rng(3)
# Mostly black, so that zeros are left out, but for a bright stripe where they are not worth leaving out.
x = rng.integers(0, 256, (40 * 101, 144), dtype=np.uint8) * (rng.random((40 * 101, 144)) < 0.2)
x[:, 72:76] = 255
vae = sv.VAE(144, (150, 33), 8, activation="tanh", rng=0)
sv.fit(vae, x.astype(np.uint8), epochs=5, batch_size=101, rng=1, progress=False)  # 200 steps
points = rng.normal(size=(2000, 2))  # and two pixels, fewer than there are threads
flat = sv.VAE(2, (512, 512), 2, likelihood="gaussian", rng=0)
sv.fit(flat, points, epochs=1, batch_size=100, rng=1, progress=False)
print(hashlib.sha256(vae.theta.tobytes() + flat.theta.tobytes()).hexdigest())
"""


def digest(threads: int) -> str:
    """SHA-256 of the parameters after 200 steps in a process of its own."""
    environment = os.environ | {"SCRATCHVAE_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": "4"}
    # 144 × 150 and 101 examples are enough for the kernels to use all threads, and divide evenly among none.
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def test_200_steps_give_the_same_bits_on_any_number_of_threads() -> None:
    digests = [digest(threads) for threads in (1, 2, 4, 2)]
    assert len(digests[0]) == 64
    assert digests == [digests[0]] * 4
