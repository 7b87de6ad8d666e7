"""The usual small VAE on MNIST: test −ELBO after ten epochs, by targets and by gradient estimator.

    SCRATCHVAE_DATA_DIR=... python benchmarks/mnist_bound.py

784-400-20-400-784, relu, Adam 1e-3, batches of 128, 10 epochs. Writes benchmarks/results/mnist_bound.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path

import scratchvae as sv
from scratchvae.training.run_directory import versions

RESULT = Path(__file__).parent / "results" / "mnist_bound.json"

# (what the pixels become, estimator of the encoder's gradient, samples of z per example)
RUNS = [
    (None, "pathwise", 1),
    ("dynamic", "pathwise", 1),
    ("dynamic", "score-function-leave-one-out", 4),
    ("dynamic", "score-function-running-mean", 1),
    ("dynamic", "score-function", 1),
]


def run(dataset, binarize, estimator, num_samples, epochs, seed):
    vae = sv.VAE(784, (400,), 20, binarize=binarize, rng=seed)
    start = time.perf_counter()
    sv.fit(
        vae,
        dataset.train,
        epochs=epochs,
        batch_size=128,
        learning_rate=1e-3,
        rng=seed + 1,
        estimator=estimator,
        num_samples=num_samples,
    )
    seconds = time.perf_counter() - start
    result = sv.evaluate(vae, dataset.test, num_samples=10, rng=seed + 2)
    return {
        "targets": "grey" if binarize is None else f"{binarize} binarization",
        "estimator": estimator,
        "num_samples": num_samples,
        "epochs": epochs,
        "seed": seed,
        "seconds": round(seconds, 1),
        "test_negative_elbo": round(result["negative_elbo"], 2),
        "test_reconstruction": round(result["reconstruction"], 2),
        "test_kl": round(result["kl"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dataset = sv.load_dataset("mnist")
    runs = []
    for binarize, estimator, num_samples in RUNS:
        runs.append(run(dataset, binarize, estimator, num_samples, options.epochs, options.seed))
        print(json.dumps(runs[-1]), flush=True)
    record = {
        "command": "python benchmarks/mnist_bound.py",
        "threads": os.environ.get("SCRATCHVAE_NUM_THREADS", "all"),
        "runs": runs,
        # Linux counts in kilobytes; data, both parts, and everything imported included.
        "peak_memory_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
        "versions": versions(),
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
