"""How long a fresh process takes until its first training step has ended, imports included.

    python benchmarks/first_step.py

With an empty cache of compiled kernels, and then with a full one. Writes benchmarks/results/first_step.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scratchvae.training.run_directory import versions

RESULT = Path(__file__).parent / "results" / "first_step.json"
PROGRAM = """
import scratchvae as sv
digits = sv.load_dataset("digits")
vae = sv.VAE(64, hidden=(64,), latent_dim=8, rng=0)
sv.fit(vae, digits.train[:64], epochs=1, batch_size=64, rng=0)
"""


def seconds_of_a_process(cache: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", PROGRAM], env={**os.environ, "NUMBA_CACHE_DIR": cache}, check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cold, warm = [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(seconds_of_a_process(cache))
            warm.append(seconds_of_a_process(cache))
    record = {
        "command": "python benchmarks/first_step.py",
        "rounds": options.rounds,
        "seconds": {"empty cache": statistics.median(cold), "full cache": statistics.median(warm)},
        "versions": versions(),
    }
    record["seconds"] = {name: round(value, 2) for name, value in record["seconds"].items()}
    print(json.dumps(record["seconds"]))
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
