"""Mean and variance of every weight's gradient over the noise: scratchvae against torch.func.vmap(grad).

    SCRATCHVAE_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/gradient_variance_speed.py

784-400-20, relu, one image; a sample is one draw of the noise for it, and what is measured is the same for both: mean
and variance of all 652,824 entries of the gradient. PyTorch (`pip install '.[peers]'`, optional) computes the gradients
of a chunk of draws at once and adds them and their squares up; chunks of several sizes, for the best depends on the
machine. The two take turns; a rate is samples per CPU second, which other work on the machine disturbs less than the
clock, and the ratio is the median over rounds of that within a round. Memory is that of a process of its own.
Writes benchmarks/results/gradient_variance_speed.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

import scratchvae as sv
from scratchvae.training.run_directory import versions

RESULT = Path(__file__).parent / "results" / "gradient_variance_speed.json"
SIZES = (784, (400,), 20)
ESTIMATORS = ("pathwise", "score-function")
CHUNKS = (4, 8, 32, 128)  # draws whose gradients torch holds at once: 2.6 MB each
BLOCKS = 20  # of torch's draws, for a standard error, as ours


def setting():
    vae = sv.VAE(*SIZES, rng=0)
    x = (np.random.default_rng(0).random((1, SIZES[0])) < 0.2).astype(np.float32)
    return vae, x


class TorchGradients:
    """The same by torch.func.vmap(grad): running sums of the gradients and of their squares."""

    def __init__(self, vae, x, estimator):
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
        self.torch = torch
        self.parameters = {name: torch.tensor(value) for name, value in vae.parameters.items()}
        data = torch.tensor(x)

        def dense(h, p, layer):
            return torch.addmm(p[f"{layer}.bias"], h, p[f"{layer}.weight"])

        def loss(p, noise):
            h = torch.relu(dense(data, p, "encoder.0"))
            mean, log_var = dense(h, p, "encoder.mean"), dense(h, p, "encoder.log_var")
            z = mean + torch.exp(0.5 * log_var) * noise
            if estimator == "score-function":
                z = z.detach()
            logits = dense(torch.relu(dense(z, p, "decoder.0")), p, "decoder.1")
            log_likelihood = (data * logits - torch.nn.functional.softplus(logits)).sum()
            kl = 0.5 * (mean**2 + torch.expm1(log_var) - log_var).sum()
            if estimator == "score-function":
                score = (-0.5 * (log_var + (z - mean) ** 2 / torch.exp(log_var))).sum()
                return kl - log_likelihood - log_likelihood.detach() * score
            return kl - log_likelihood

        self.gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))

    def sums(self, draws, chunk):
        """{name: (sum, sum of squares)} over draws of the noise."""
        total = {
            name: (self.torch.zeros_like(p), self.torch.zeros_like(p)) for name, p in self.parameters.items()
        }
        for _ in range(draws // chunk):
            found = self.gradients(self.parameters, self.torch.randn(chunk, 1, SIZES[-1]))
            for name, g in found.items():
                total[name][0].add_(g.sum(dim=0))
                total[name][1].add_(g.square_().sum(dim=0))
        return total


def ours(vae, x, estimator, draws):
    return sv.gradient_variance(vae, x, (estimator,), draws, rng=0)


def rate(function, draws):
    start = time.process_time()
    function()
    return draws / (time.process_time() - start)


def agreement(vae, x, estimator, draws):
    """Of each tensor the two traces of the variance, their standard errors, and the distance in standard errors."""
    peer = TorchGradients(vae, x, estimator)
    size, blocks = draws // BLOCKS, []
    for _ in range(BLOCKS):
        sums = peer.sums(size, 8)
        blocks.append(
            {
                name: (first.double().numpy(), second.double().numpy())
                for name, (first, second) in sums.items()
            }
        )
    mine, rows = ours(vae, x, estimator, draws), []
    for name in vae.parameters:
        traces = np.array([((q - s**2 / size) / (size - 1)).sum() for s, q in (b[name] for b in blocks)])
        trace, error = traces.mean(), traces.std(ddof=1) / np.sqrt(BLOCKS)
        own, own_error = mine.total(estimator, name), mine.total_standard_error(estimator, name)
        rows.append(
            {
                "tensor": name,
                "scratchvae": own,
                "standard_error": own_error,
                "torch": float(trace),
                "torch_standard_error": float(error),
                "standard_errors_apart": float(abs(own - trace) / np.hypot(own_error, error)),
            }
        )
    return rows


def memory(estimator, draws):
    """Peak memory and CPU seconds of a process that measures so many draws."""
    command = [sys.executable, __file__, "--alone", estimator, "--draws", str(draws)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def alone(estimator, draws):
    vae, x = setting()
    start = time.process_time()
    result = ours(vae, x, estimator, draws)
    # Of this process since it began, Python, NumPy and numba included: getrusage also remembers what the parent, with
    # torch, had when it started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1000
    seconds = time.process_time() - start
    print(
        json.dumps({"draws": result.num_samples, "peak_megabytes": round(peak), "seconds": round(seconds, 1)})
    )


def measure(estimator, options):
    vae, x = setting()
    ours(vae, x, estimator, 2_000)  # compiles
    mine, theirs = [], {chunk: [] for chunk in CHUNKS}
    peer = TorchGradients(vae, x, estimator) if importlib.util.find_spec("torch") else None
    if peer is not None:
        for chunk in CHUNKS:
            peer.sums(chunk, chunk)
    for _ in range(options.rounds):
        mine.append(rate(lambda: ours(vae, x, estimator, options.draws), options.draws))
        if peer is None:
            continue
        for chunk in CHUNKS:
            draws = max(CHUNKS)
            theirs[chunk].append(rate(lambda c=chunk, d=draws: peer.sums(d, c), draws))
    record = {
        "estimator": estimator,
        "draws": options.draws,
        "rounds": options.rounds,
        "samples_per_second": round(statistics.median(mine)),
        "memory": memory(estimator, 100_000),
    }
    if peer is not None:
        record["torch_samples_per_second"] = {
            str(c): round(statistics.median(rates)) for c, rates in theirs.items()
        }
        record["times_torch"] = {
            str(c): round(statistics.median(m / t for m, t in zip(mine, rates, strict=True)), 1)
            for c, rates in theirs.items()
        }
        record["agreement"] = agreement(vae, x, estimator, options.compared)
    return record


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--draws", type=int, default=100_000, help="of each turn of scratchvae (default: 100,000)"
    )
    parser.add_argument("--compared", type=int, default=8_000, help="draws of either for the agreement")
    parser.add_argument(
        "--alone", choices=ESTIMATORS, help="one measurement for its memory, and write nothing"
    )
    options = parser.parse_args()
    if options.alone:
        alone(options.alone, options.draws)
        return
    runs = []
    for estimator in ESTIMATORS:
        runs.append(measure(estimator, options))
        print(json.dumps({key: value for key, value in runs[-1].items() if key != "agreement"}), flush=True)
    torch = version("torch") if importlib.util.find_spec("torch") else "not installed"
    record = {
        "command": "python benchmarks/gradient_variance_speed.py",
        "seed": 0,
        "sizes": "784-400-20",
        "threads": os.environ.get("SCRATCHVAE_NUM_THREADS", "all"),
        "runs": runs,
        "versions": versions() | {"torch": torch},
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
