"""Where the time of a training step goes, beside what the machine can do at best.

    python benchmarks/step_profile.py

The parts of a step are timed one by one, and the whole. The rest is the median over rounds of the whole less its parts
in the same round: Python between the parts, what one part leaves in the caches for the next, and the noise of the
machine. The limits are the best of many runs: the rate of a large matrix product, and of copying memory. Writes
benchmarks/results/step_profile.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from training_step import LEARNING_RATE, SETTINGS, minibatch
from turns import Call, turn

import scratchvae as sv
from scratchvae import kernels
from scratchvae.estimators import make_estimator
from scratchvae.kernels.compiled.threads import num_threads
from scratchvae.kernels.layer_table import layer_table
from scratchvae.randomness import NoiseStream
from scratchvae.training.run_directory import versions

RESULT = Path(__file__).parent / "results" / "step_profile.json"
TURN_SECONDS = 0.3


def best(call: Call, times: int) -> float:
    """The shortest of many runs, in seconds."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def limits() -> dict[str, float]:
    """What the machine can do: multiply and add, and move memory."""
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=shape).astype(np.float32) for shape in ((512, 768), (768, 768)))
    out = np.empty((512, 768), np.float32)
    source, target = np.ones(2**25, np.float32), np.empty(2**25, np.float32)
    return {
        "matmul_gigaflops": 2 * a.size * 768 / best(lambda: kernels.matmul(a, b, out), 500) / 1e9,
        "copy_gigabytes_per_second": 2 * source.nbytes / best(lambda: np.copyto(target, source), 30) / 1e9,
    }


def operations(sizes: tuple[int, ...], batch_size: int) -> int:
    """Multiplications and additions of a step's matrix products, zeros included; no gradient of x is computed."""
    table = layer_table(sizes)
    weights = table[:, 2] * table[:, 3]
    reads_x = table[:, 2] * (np.arange(len(table)) < (1 if len(sizes) > 2 else 2))
    return int(2 * batch_size * (3 * weights.sum() - (reads_x * table[:, 3]).sum()))


def profile(sizes, activation, batch_size, pixels, rounds, limit) -> dict:
    vae = sv.VAE(sizes[0], sizes[1:-1], sizes[-1], activation=activation, rng=0)
    x = minibatch(sizes[0], batch_size, pixels)
    stream, estimator = NoiseStream(0), make_estimator("pathwise")
    noise, values = stream.standard_normal((batch_size, sizes[-1]), np.float32), np.empty((2, batch_size))
    adam = sv.Adam(vae.theta, LEARNING_RATE)
    moments = np.zeros_like(vae.theta), np.zeros_like(vae.theta)

    def step():
        vae.minibatch_gradients(x, noise=stream, estimator=estimator, num_samples=1, beta=1.0)
        adam.update(vae.gradient)

    def gradient():
        kernels.vae_gradients(vae.theta, vae.gradient, sizes, activation, None, 1.0, x, noise, values)

    parts: dict[str, Call] = {
        "whole step": step,
        "gradient": gradient,
        "Adam": lambda: kernels.adam_update(vae.theta, vae.gradient, *moments, 0.9, 0.999, 0.0, 1e-8),
        "is the gradient finite": lambda: kernels.all_finite(vae.gradient),
        "noise": lambda: kernels.standard_normal(0, 0, noise),
    }
    step()
    measured: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, call in parts.items():
            measured[name].append(turn(call, TURN_SECONDS))
    seconds = {name: statistics.median(values) for name, values in measured.items()}
    whole, *others = measured.values()
    seconds["the rest"] = statistics.median(
        step - sum(times) for step, *times in zip(whole, *others, strict=True)
    )
    arithmetic = operations(sizes, batch_size) / limit["matmul_gigaflops"] / 1e9
    return {
        "sizes": list(sizes),
        "activation": activation,
        "batch_size": batch_size,
        "pixels": pixels,
        "milliseconds": {name: round(1e3 * value, 4) for name, value in seconds.items()},
        "milliseconds_of_arithmetic": round(1e3 * arithmetic, 4),
        "step_over_arithmetic": round(seconds["whole step"] / arithmetic, 3),
        # Adam reads four vectors and writes three.
        "adam_gigabytes_per_second": round(7 * vae.theta.nbytes / seconds["Adam"] / 1e9, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    limit = limits()
    settings = [*SETTINGS, ((784, 512, 32), "relu", 1024, "no zeros")]
    profiles = []
    for setting in settings:
        profiles.append(profile(*setting, options.rounds, limit))
        print(json.dumps(profiles[-1]), flush=True)
    record = {
        "command": "python benchmarks/step_profile.py",
        "seed": 0,
        "threads": num_threads(),
        "limits": {name: round(value, 1) for name, value in limit.items()},
        "settings": profiles,
        "versions": versions(),
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
